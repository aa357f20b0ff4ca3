//! The gateway from outside: its codecs, its credentials, its agents, and what clients see of it on real sockets.

mod acked;
mod agents;
mod auth;
mod config;
mod directory;
mod full;
mod golden;
mod hostile;
mod identity;
mod judged;
mod metrics;
mod network;
mod notices;
mod page;
mod proxy;
mod revoked;
mod storage;
mod tls;
mod trace;
mod wire;
