//! Property tests of the machines, one module per machine, under the machine's name.
//!
//! Most are *exact*: they take a state that inputs have reached, give it one input, and name every output and the next
//! state. Long adversarial sequences are random walks over the machines' models: `proofs/tests/walks.rs`. A property id
//! in a test's doc is one of those in the machine's header.
//!
//! `PROPTEST_CASES` scales every random test. A failed case is kept beside this directory and runs first.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::needless_pass_by_value, reason = "a test names an input where it gives it")]

mod auth;
mod bounds;
mod breaker;
mod client;
mod close;
mod connection;
mod fence;
mod frame;
mod gateway;
mod login;
mod member;
mod node;
mod piece;
mod run;
mod session;
mod stream;
mod support;
mod tenure;
