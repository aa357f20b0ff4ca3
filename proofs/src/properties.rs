//! The properties, each stated once, as an observer of events.
//!
//! An observer is fed with what happens, in the order in which it happens, and knows nothing of the machine that it
//! observes. What it returns is the rule that an event breaks. The models keep observers in their states, for searches and
//! for random walks, and `prove history` feeds them with what clients saw.
//!
//! | module | properties | events |
//! | --- | --- | --- |
//! | `credential` | AUTH-1, AUTH-2, AUTH-3 | what is presented on one connection, and the verifier's answers |
//! | `client` | CLIENT-1, CLIENT-2, RUN-2, STR-1, LIVE-4 | the inputs and outputs of one client |
//! | `connection` | CONN-1, CONN-2, CONN-3, LIM-1 | the inputs, outputs and frames of one connection |
//! | `login` | AUTH-4, AUTH-5 | requests of browsers and the gateway's answers |
//! | `revocation` | AUTH-4 | tokens of another issuer, and answered revocations |
//! | `attempts` | ISO-1, LIM-1 | attempts to log in, with their times |
//! | [`run`] | RUN-1 | the events of one run |
//! | [`stream`] | STR-1 | the positions that one reader is told |
//!
//! The modules here use `lockstep_model` and nothing else of this crate.

pub(crate) mod attempts;
pub(crate) mod attribution;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod credential;
pub(crate) mod login;
pub(crate) mod revocation;
pub mod run;
pub mod stream;
