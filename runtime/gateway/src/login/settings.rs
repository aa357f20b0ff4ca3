//! The settings of the login.

use std::time::Duration;

use super::Rate;

/// The settings of the login.
#[derive(Clone, Debug)]
pub struct LoginConfig {
    /// The lifetime of an access token.
    pub access_lifetime: Duration,
    /// How long an unused login lasts.
    pub idle: Duration,
    /// How long a login lasts even if it is used.
    pub longest: Duration,
    /// Whether browsers use TLS, here or at a proxy: cookies are then sent over TLS only.
    pub secure: bool,
    /// The path of the cookie, which is the base path of the routes as browsers see it.
    pub path: String,
    /// Origins of other hosts that may log in, such as `https://chat.example.org`.
    pub allowed_origins: Vec<String>,
    /// The rate of wrong passwords for one account.
    pub per_account: Rate,
    /// The rate of wrong passwords from one address. 64 bits of an IPv6 address are one address.
    pub per_address: Rate,
    /// The rate of refreshes of one login.
    pub per_login: Rate,
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self {
            access_lifetime: Duration::from_mins(15),
            idle: Duration::from_hours(24),
            longest: Duration::from_hours(30 * 24),
            secure: false,
            path: "/auth".to_owned(),
            allowed_origins: Vec::new(),
            per_account: Rate { burst: 10, refill: Duration::from_secs(30) },
            per_address: Rate { burst: 20, refill: Duration::from_secs(5) },
            per_login: Rate { burst: 60, refill: Duration::from_secs(2) },
        }
    }
}
