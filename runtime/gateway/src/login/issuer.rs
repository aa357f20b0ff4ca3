//! The issuer of the gateway's own access tokens: HS256 JWTs, under a key that is created at the first start.

use core::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use lockstep::internal::millis;
use lockstep::internal::private::replace;
use lockstep::internal::random_bytes;
use lockstep::payload::Token;
use lockstep::verify::clock::Clock;
use lockstep::verify::jwt::{JwtVerifier, NotUsable};
use lockstep::verify::keys::Secret;
use lockstep::verify::revoked::Revocations;
use serde::Serialize;

use super::LoginError;

/// The key's file in the data directory.
pub const KEY_FILE: &str = "signing.key";
/// The `iss` and `aud` of the tokens.
const NAME: &str = "lockstep";
/// The length of the key in bytes.
pub(super) const KEY: usize = 32;
/// The length of the checksum behind it in the file: CRC-32, little-endian. Files of earlier versions have none.
const SUM: usize = 4;

/// Issues access tokens and creates their verifier.
pub struct Issuer {
    secret: Secret,
    key: EncodingKey,
    lifetime: Duration,
    revocations: Arc<Revocations>,
    clock: Clock,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    sid: &'a str,
    jti: &'a str,
    iat: f64,
    exp: f64,
}

impl Issuer {
    /// Opens an issuer with the key in that data directory, which is created if it does not exist; without a directory,
    /// with a key of this process. Tokens live for `lifetime`.
    ///
    /// # Errors
    ///
    /// [`LoginError`], which names the file that cannot be read or written, or is not a key.
    pub fn open(
        directory: Option<&Path>,
        lifetime: Duration,
        revocations: Arc<Revocations>,
        clock: Clock,
    ) -> Result<Self, LoginError> {
        let key = match directory {
            Some(directory) => read_or_make(&directory.join(KEY_FILE))?,
            None => new_key()?,
        };
        Ok(Self::with_key(&key, lifetime, revocations, clock))
    }

    /// An issuer with this key.
    pub(super) fn with_key(key: &[u8; KEY], lifetime: Duration, revocations: Arc<Revocations>, clock: Clock) -> Self {
        let secret = Secret::new(key);
        Self { secret, key: EncodingKey::from_secret(key), lifetime, revocations, clock }
    }

    /// The lifetime of a token.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A verifier of the tokens. [`Identity::credential`](lockstep::verify::Identity::credential) is that of the login
    /// (`sid`): a token is valid as long as its login is.
    ///
    /// # Errors
    ///
    /// [`LoginError`], if tokens live longer than revocations are remembered.
    pub fn verifier(&self) -> Result<JwtVerifier, LoginError> {
        self.verifier_as(JwtVerifier::own)
    }

    /// The verifier of the tokens that all gateways of a cluster issue.
    pub(super) fn shared_verifier(&self) -> Result<JwtVerifier, LoginError> {
        self.verifier_as(JwtVerifier::shared)
    }

    fn verifier_as(
        &self,
        new: impl FnOnce(Secret, &str, Duration, Arc<Revocations>, Clock) -> Result<JwtVerifier, NotUsable>,
    ) -> Result<JwtVerifier, LoginError> {
        // One second more, because the dates of a token are rounded.
        let longest = self.lifetime.saturating_add(Duration::from_secs(1));
        new(self.secret.clone(), NAME, longest, Arc::clone(&self.revocations), self.clock.clone())
            .map_err(|error| LoginError::because(error.to_string(), error))
    }

    /// Issues a token for a user, from the login with that id.
    ///
    /// # Errors
    ///
    /// [`LoginError`], if the system has no randomness.
    pub fn issue(&self, user: &str, login: &str) -> Result<Token, LoginError> {
        let jti = URL_SAFE_NO_PAD.encode(random_bytes::<16>().map_err(no_randomness)?);
        let now = self.clock.now();
        let claims = Claims {
            iss: NAME,
            aud: NAME,
            sub: user,
            sid: login,
            jti: &jti,
            iat: seconds(now),
            exp: seconds(now.saturating_add(millis(self.lifetime))),
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key);
        token
            .map(|token| Token::new(&token))
            .map_err(|error| LoginError::because(format!("cannot sign a token: {error}"), error))
    }

    /// The key, to derive others from.
    pub(super) const fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

fn checksum(key: &[u8; KEY]) -> [u8; SUM] {
    crc32fast::hash(key).to_le_bytes()
}

/// A new key.
pub(super) fn new_key() -> Result<[u8; KEY], LoginError> {
    random_bytes().map_err(no_randomness)
}

fn no_randomness(error: impl core::error::Error + Send + Sync + 'static) -> LoginError {
    LoginError::because(error.to_string(), error)
}

fn read_or_make(path: &Path) -> Result<[u8; KEY], LoginError> {
    let say = |reason: &dyn fmt::Display| format!("{}: {reason}", path.display());
    match fs::read(path) {
        Ok(bytes) => {
            warn_if_shared(path);
            let wrong = |what: &str| {
                say(&format!(
                    "{what}; restore it from a backup, or remove it: a new one is then made, and all users log in again"
                ))
            };
            let (key, sum) = bytes.split_at_checked(KEY).unwrap_or_default();
            let is_known = sum.is_empty() || sum.len() == SUM;
            let key: [u8; KEY] = key.try_into().ok().filter(|_| is_known).ok_or_else(|| {
                wrong(&format!("it is not a signing key, which has {KEY} bytes and a checksum of {SUM} bytes"))
            })?;
            if !sum.is_empty() && *sum != checksum(&key) {
                return Err(wrong("its checksum does not match its key: it was damaged").into());
            }
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = new_key()?;
            let bytes = [&key[..], &checksum(&key)].concat();
            replace(path, &bytes).map_err(|error| LoginError::because(say(&error), error))?;
            Ok(key)
        }
        Err(error) => Err(LoginError::because(say(&error), error)),
    }
}

/// Warns if other users can read the key. Some file systems have no modes, so this is no error.
fn warn_if_shared(path: &Path) {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(path)
        && std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0
    {
        tracing::warn!(file = %path.display(), "other users can read the signing key: run `chmod 600` on it");
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 have 41 bits")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}
