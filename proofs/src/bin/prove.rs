//! The `prove` command. Its implementation is [`lockstep_proofs::cli`].

use std::process::ExitCode;

// A step of a model mostly allocates, on all threads at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lockstep_proofs::cli::main()
}
