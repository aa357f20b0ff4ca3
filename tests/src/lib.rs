//! Simulated gateway clients: the model's own [`Client`](lockstep_model::Client) machine over real sockets, for load
//! and for long runs under faults. Also a proxy that records what any clients see.

#![forbid(unsafe_code)]

pub mod agent;
pub mod frames;
pub mod history;
pub mod link;
pub mod nodes;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod restart;
pub mod simulated_client;
pub mod soak;
