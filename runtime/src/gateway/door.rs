//! Who may come in, and who answers: what the configuration says, made.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use super::config::{AgentKind, Config, Issuer};
use crate::Manager;
use crate::agent::Agent;
use crate::agent::builtin::Builtin;
use crate::upgrade::Redeem;
use crate::verify::Verifier;
use crate::verify::clock::Clock;
use crate::verify::jwks::KeyUrl;
use crate::verify::jwt::{JwtConfig, JwtVerifier};
use crate::verify::keys::Keys;
use crate::verify::revoked::Revocations;

/// The way in.
pub(super) struct Door {
    pub(super) verifier: Arc<dyn Verifier>,
    pub(super) redeem: Option<Redeem>,
    /// The login's routes, once there is a manager that can revoke.
    pub(super) login: Option<Box<dyn FnOnce(&Manager) -> Router + Send>>,
    /// What the one who starts the gateway should know.
    pub(super) welcome: String,
}

pub(super) async fn open(config: &Config) -> Result<Door, String> {
    match config.auth.issuer {
        Issuer::Jwt => foreign(config),
        Issuer::Accounts => own(config).await,
    }
}

/// Tokens of somebody else.
fn foreign(config: &Config) -> Result<Door, String> {
    let auth = &config.auth;
    let keys = match (&auth.key_file, &auth.jwks_url) {
        (Some(path), _) => Keys::File(path.clone()),
        (None, Some(url)) => Keys::Url(KeyUrl::new(url)),
        (None, None) => return Err("`auth` needs either `key_file` or `jwks_url`".to_owned()),
    };
    let mut jwt = JwtConfig::new(keys);
    if !auth.algorithms.is_empty() {
        let parse = |name: &String| {
            name.parse().map_err(|_| format!("`auth.algorithms` holds {name:?}, which is no algorithm of RFC 7518"))
        };
        jwt.algorithms = auth.algorithms.iter().map(parse).collect::<Result<_, String>>()?;
    }
    jwt.audience = (!auth.audience.is_empty()).then(|| auth.audience.clone());
    jwt.issuer = (!auth.issued_by.is_empty()).then(|| auth.issued_by.clone());
    jwt.leeway = Duration::from_secs(auth.leeway_seconds);
    let revocations = revocations(&config.data_dir, jwt.max_lifetime + jwt.leeway)?;
    let verifier = Arc::new(JwtVerifier::new(jwt, revocations, Clock::system())?);
    Ok(Door { verifier, redeem: None, login: None, welcome: String::new() })
}

fn revocations(directory: &Path, retention: Duration) -> Result<Arc<Revocations>, String> {
    Ok(Arc::new(Revocations::open(directory, retention, Clock::system())?))
}

async fn own(_config: &Config) -> Result<Door, String> {
    Err("not yet".to_owned())
}

/// The agent that the configuration names.
pub(super) fn agent(config: &Config) -> Result<Arc<dyn Agent>, String> {
    Ok(match config.agent.kind {
        AgentKind::Builtin => {
            Arc::new(Builtin::new(&config.data_dir).pace(Duration::from_millis(config.agent.pace_ms)))
        }
        AgentKind::Openai => return Err("not yet".to_owned()),
    })
}
