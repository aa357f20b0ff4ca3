//! The gateway from outside: its codecs, its credentials, its agents, and what clients see of it on real sockets.

mod acked;
mod agents;
mod auth;
mod config;
mod directory;
mod faked;
mod full;
mod golden;
mod growing;
mod hostile;
mod identity;
mod judged;
mod loaded;
mod metrics;
mod network;
mod notices;
mod page;
mod proxy;
mod queue;
mod restarts;
mod revoked;
mod storage;
mod timers;
mod tls;
mod trace;
mod wire;
