//! The `prove` command. Everything is in [`lockstep_proofs::cli`].

use std::process::ExitCode;

// A step of a model is mostly allocation, on every thread at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lockstep_proofs::cli::main()
}
