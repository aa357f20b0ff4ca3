//! Who may connect.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::Broken;
use super::table::table;

table! {
    /// Who may connect.
    pub struct Auth {
        /// Whose tokens are good: `accounts` for the built-in login with the accounts of the data directory, `jwt` for
        /// another issuer's JSON Web Tokens.
        pub issuer: Issuer = Issuer::Accounts,
        /// For how long a token of the built-in login is good, in seconds.
        pub token_seconds: u64 = 15 * 60,
        /// Whether the login's cookie is for TLS alone, also when a proxy speaks TLS and the gateway does not.
        pub secure_cookies: bool = false,
        /// For `issuer = "jwt"`: the longest life of a token, in seconds. Revocations are remembered for as long, and a
        /// token that lives longer is rejected.
        pub longest_token_seconds: u64 = 24 * 60 * 60,
        /// For `issuer = "jwt"`: a PEM public key, a JSON Web Key Set, or a secret for HS256, HS384, HS512.
        pub key_file: Option<PathBuf> = None,
        /// For `issuer = "jwt"`: the URL of a JSON Web Key Set.
        pub jwks_url: Option<String> = None,
        /// With `jwks_url`: seconds for which the keys are used without being fetched again. The server may say less.
        pub jwks_max_age_seconds: u64 = 600,
        /// With `jwks_url`: for how many seconds more they are used while they cannot be fetched.
        pub jwks_grace_seconds: u64 = 3600,
        /// With `jwks_url`: the least number of seconds between two fetches.
        pub jwks_min_interval_seconds: u64 = 10,
        /// With `jwks_url`: milliseconds that a fetch may take.
        pub jwks_timeout_ms: u64 = 5_000,
        /// For `issuer = "jwt"`: a token must be for one of these.
        pub audience: Vec<String> = Vec::new(),
        /// For `issuer = "jwt"`: a token must be from one of these.
        pub issued_by: Vec<String> = Vec::new(),
        /// For `issuer = "jwt"`: the algorithms that are allowed, such as `["RS256"]`. Empty: all that the keys can do.
        pub algorithms: Vec<String> = Vec::new(),
        /// By how many seconds the issuer's clock may differ.
        pub leeway_seconds: u64 = 30,
    }
}

/// Whose tokens are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issuer {
    /// The built-in login with the accounts of the data directory.
    Accounts,
    /// Another issuer, who signs JSON Web Tokens.
    Jwt,
}

impl Auth {
    pub(super) fn validate(&self) -> Result<(), Broken> {
        match self.issuer {
            Issuer::Accounts if self.token_seconds < 10 => {
                Err(Broken::new("auth.token_seconds", "must be at least 10: a token must outlive a refresh"))
            }
            Issuer::Jwt if self.key_file.is_some() == self.jwks_url.is_some() => {
                Err(Broken::new("auth", "with `issuer = \"jwt\"` needs either `key_file` or `jwks_url`"))
            }
            Issuer::Jwt if self.jwks_min_interval_seconds == 0 || self.jwks_timeout_ms == 0 => {
                Err(Broken::new("auth", "needs a `jwks_min_interval_seconds` and a `jwks_timeout_ms` of at least 1"))
            }
            Issuer::Accounts | Issuer::Jwt => Ok(()),
        }
    }
}
