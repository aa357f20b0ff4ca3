//! Credentials: tokens and their keys, revocations, accounts, the login, and tickets.

#[path = "auth/accounts.rs"]
pub(crate) mod accounts;
#[path = "auth/campaign.rs"]
mod campaign;
#[path = "auth/erasure.rs"]
mod erasure;
#[path = "auth/http.rs"]
pub(crate) mod http;
#[path = "auth/key_sets.rs"]
mod key_sets;
#[path = "auth/lifecycle.rs"]
mod lifecycle;
#[path = "auth/login.rs"]
mod login;
#[path = "auth/markdown.rs"]
mod markdown;
#[path = "auth/math.rs"]
mod math;
#[path = "auth/origins.rs"]
mod origins;
#[path = "auth/revocations.rs"]
mod revocations;
#[path = "auth/secrets.rs"]
mod secrets;
#[path = "auth/shared.rs"]
mod shared;
#[path = "auth/support.rs"]
mod support;
#[path = "auth/tickets.rs"]
mod tickets;
#[path = "auth/tokens.rs"]
mod tokens;
