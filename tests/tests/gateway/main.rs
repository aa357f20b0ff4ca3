//! The gateway from outside: its codecs, its credentials, its agents, and what clients see of it on real sockets.

mod agents;
mod auth;
mod golden;
mod trace;
mod wire;
