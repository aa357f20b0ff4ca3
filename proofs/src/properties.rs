//! The properties, each stated once, as an observer of events.
//!
//! An observer is fed with what happens, in the order in which it happens, and knows nothing of the machine that it
//! observes. What it returns is the rule that an event breaks. The models keep observers in their states, `prove history`
//! feeds them with what clients saw, and the machines' random tests with what a machine emits.
//!
//! | module | properties | events |
//! | --- | --- | --- |
//! | `credential` | AUTH-1, AUTH-2, AUTH-3 | what is presented on one connection, and the verifier's answers |
//! | `connection` | CONN-1, CONN-2, CONN-3, LIM-1 | the inputs, outputs and frames of one connection |
//! | [`run`] | RUN-1 | the events of one run |
//! | [`stream`] | STR-1 | the positions that one reader is told |
//!
//! The modules here use `lockstep_model` and nothing else of this crate: the machines' tests compile the same files.

pub(crate) mod attribution;
pub(crate) mod connection;
pub(crate) mod credential;
pub mod run;
pub mod stream;
