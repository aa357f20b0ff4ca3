//! Who may connect.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::Broken;
use super::table::table;
use super::units;

table! {
    /// Who may connect.
    pub struct Auth {
        /// Whose tokens are accepted: `accounts` for the built-in login, with the accounts of the data directory or, with
        /// `log.kind = "postgres"`, of PostgreSQL; `jwt` for another issuer's JSON Web Tokens.
        pub issuer: Issuer = Issuer::Accounts,
        /// Seconds for which a token of the built-in login is valid.
        pub token_seconds: u64 ["units::seconds"] = 15 * 60,
        /// Whether the login's cookie is for TLS only, even if a proxy terminates TLS and the gateway does not.
        pub secure_cookies: bool = false,
        /// For `issuer = "jwt"`: the longest lifetime of a token, in seconds. Tokens with a longer one are rejected,
        /// and revocations are remembered for this long.
        pub longest_token_seconds: u64 ["units::seconds"] = 24 * 60 * 60,
        /// For `issuer = "jwt"`: a PEM public key, a JSON Web Key Set, or a secret for HS256, HS384, HS512.
        pub key_file: Option<PathBuf> = None,
        /// For `issuer = "jwt"`: the URL of a JSON Web Key Set.
        pub jwks_url: Option<String> = None,
        /// With `jwks_url`: seconds for which the keys are used before they are fetched again. The server may shorten
        /// this.
        pub jwks_max_age_seconds: u64 ["units::seconds"] = 600,
        /// With `jwks_url`: additional seconds for which the keys are used while they cannot be fetched.
        pub jwks_grace_seconds: u64 ["units::seconds"] = 3600,
        /// With `jwks_url`: the fewest seconds between two fetches.
        pub jwks_min_interval_seconds: u64 ["units::seconds"] = 10,
        /// With `jwks_url`: the most milliseconds for a fetch.
        pub jwks_timeout_ms: u64 ["units::milliseconds"] = 5_000,
        /// For `issuer = "jwt"`: the accepted audiences (`aud`). Empty: not checked.
        pub audience: Vec<String> = Vec::new(),
        /// For `issuer = "jwt"`: the accepted issuers (`iss`). Empty: not checked.
        pub issued_by: Vec<String> = Vec::new(),
        /// For `issuer = "jwt"`: the allowed algorithms, such as `["RS256"]`. Empty: all that the keys support.
        pub algorithms: Vec<String> = Vec::new(),
        /// Seconds by which the issuer's clock may differ.
        pub leeway_seconds: u64 ["units::seconds"] = 30,
    }
}

/// Whose tokens are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issuer {
    /// The built-in login.
    Accounts,
    /// Another issuer, which signs JSON Web Tokens.
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
