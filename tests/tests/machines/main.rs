//! Property tests of the machines, one module per machine, under the machine's name.
//!
//! A module has two kinds of tests. *Exact* ones take a state that inputs have reached, give it one input, and name
//! every output and the next state. *Random* ones give it long adversarial sequences and compare it with an independent
//! reference: a list, a counter, a log kept by the test. (Those of the other machines are random walks over their
//! models: `proofs/tests/walks.rs`.) A property id in a test's doc is one of those in the machine's header.
//!
//! `PROPTEST_CASES` scales every random test. A failed case is kept beside this directory and runs first.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::needless_pass_by_value, reason = "a test names an input where it gives it")]

/// The properties as the models observe them, compiled here so that a change of a machine builds nothing else.
#[path = "../../../proofs/src/properties"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "each caller uses a part of them, and they are public where they are at home"
)]
mod properties {
    pub(crate) mod run;
    pub(crate) mod stream;
}

mod auth;
mod bounds;
mod breaker;
mod client;
mod close;
mod connection;
mod fence;
mod frame;
mod gateway;
mod log;
mod login;
mod node;
mod piece;
mod run;
mod session;
mod stream;
mod support;
