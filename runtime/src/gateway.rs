//! The ready-made gateway.

pub mod accounts;
pub mod login;
