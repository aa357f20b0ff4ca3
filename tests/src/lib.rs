//! Clients of a gateway as programs: the model's own [`Client`](lockstep_model::Client) machine over real sockets, for
//! load and for long runs under faults; and a proxy that records what anybody's clients see.

#![forbid(unsafe_code)]

pub mod agent;
pub mod frames;
pub mod history;
pub mod process;
pub mod proxy;
pub mod restart;
pub mod simulated_client;
pub mod soak;
