//! The proof models, one module per model.
//!
//! * [`auth`], [`client`], [`connection`], [`login`], [`node`], [`run`], [`session_memory`] and [`stream`] explore one
//!   production machine alone, using [`harness`]. [`session_chart`] is one session, for its diagram and matrix;
//!   [`position`] is one session with one reader.
//! * [`tenure`] is one user on two nodes, with a log that they share; [`cluster`] is two whole gateways around such a log.
//! * The others are [`world`]s: the gateway, its clients and an adversary, with bounds and budgets for one subject.
//!
//! A model declares properties and has an oracle that checks them. It uses the engine's traits and no other folder of
//! this crate. [`registry`](crate::registry) lists the models.

pub mod auth;
pub mod backlog;
pub mod client;
pub mod cluster;
pub mod connection;
pub mod deletion;
pub mod editing;
pub mod golden;
pub mod handover;
pub mod harness;
pub mod isolation;

pub mod login;
pub mod modes;
pub mod node;
pub mod notice;
pub mod operator;
pub mod parts;
pub mod pause;
pub mod position;
pub mod queue;
pub mod run;
pub mod session;
pub mod session_chart;
pub mod session_memory;
pub mod storage;
pub mod stream;
pub mod tenure;
pub mod whole;
pub mod world;
