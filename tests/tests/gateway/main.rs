//! The gateway from outside: its codecs, its credentials, its agents, and what clients see of it on real sockets.

mod agents;
mod auth;
mod config;
mod golden;
mod hostile;
mod metrics;
mod trace;
mod wire;
