//! Signed JSON Web Tokens (RFC 7519, RFC 7515).
//!
//! The crate `jsonwebtoken` checks signatures. [`keys`](super::keys) decides which key may verify which algorithm. The
//! claims are checked here, against a clock that tests control.
//!
//! | claim | rule |
//! | --- | --- |
//! | `exp` | required, and later than now minus the leeway |
//! | `nbf` | at most now plus the leeway |
//! | `iat` | at most now plus the leeway; `exp` is at most the longest lifetime after it (or after now without it) |
//! | `aud`, `iss` | one of the configured ones, if any are configured |
//! | `sub` | 1 to [`MAX_SUBJECT`] bytes |
//!
//! Subjects of different issuers are not told apart: configure several only if they use the same names for the same
//! people.
//!
//! A credential is named by its `jti`. If it has none, it is named by its signed content and not by the whole token: an
//! ECDSA signature can be changed into another valid one, which must not make a revoked token valid again.

use core::fmt;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lockstep_model::login::Standing;
use lockstep_model::login::revoked::{Issued, NotGood};
use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};
use serde_json::Value;

use super::clock::{Clock, millis};
use super::jwks::RemoteKeys;
use super::keys::{KeySet, Keys, Secret};
use super::revoked::Revocations;
use super::{BoxFuture, Identity, NotRevoked, NotVerified, Revocation, Verifier, credential_id};
use crate::payload::Token;
use crate::sentence;

pub use jsonwebtoken::Algorithm;

/// The most bytes of a token. A longer one is rejected unread.
pub const MAX_TOKEN: usize = 16 * 1024;
/// The most bytes of a subject.
pub const MAX_SUBJECT: usize = 256;
/// The most keys that a token without a key id is tried against.
const MAX_TRIES: usize = 16;

sentence! {
    /// Why a configuration cannot be used: a sentence for the operator.
    NotUsable
}

/// Which tokens are accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JwtConfig {
    /// The allowed algorithms, each with keys of its own type only.
    pub algorithms: Vec<Algorithm>,
    /// Where the keys come from.
    pub keys: Keys,
    /// The audiences of which a token must name one. `None`: `aud` is not checked.
    pub audience: Option<Vec<String>>,
    /// The issuers of which a token must name one. `None`: `iss` is not checked.
    pub issuer: Option<Vec<String>>,
    /// How much the issuer's clock may differ from ours.
    pub leeway: Duration,
    /// The longest lifetime of a token. A longer one is rejected, because its revocation would be forgotten before it
    /// expires.
    pub max_lifetime: Duration,
}

impl JwtConfig {
    /// All algorithms that `keys` allow, a leeway of half a minute, a lifetime of a day, any audience and issuer.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self {
            algorithms: vec![
                Algorithm::HS256,
                Algorithm::HS384,
                Algorithm::HS512,
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
                Algorithm::ES256,
                Algorithm::ES384,
                Algorithm::EdDSA,
            ],
            keys,
            audience: None,
            issuer: None,
            leeway: Duration::from_secs(30),
            max_lifetime: Duration::from_hours(24),
        }
    }

    /// How long revocations must be remembered. A token that is valid now was issued at most the leeway after now, and
    /// stays valid until the leeway after its expiry.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.max_lifetime.saturating_add(self.leeway.saturating_mul(2))
    }
}

/// Verifies tokens of one issuer.
#[derive(Debug)]
pub struct JwtVerifier {
    source: Source,
    rules: Rules,
    revocations: Arc<Revocations>,
    clock: Clock,
}

#[derive(Debug)]
enum Source {
    Fixed(KeySet),
    Remote(RemoteKeys),
}

/// Who issues the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    /// Another issuer.
    Other,
    /// This gateway: a token has a `sid`, the credential is that login, and is valid as long as the login is.
    Own,
    /// The gateways of a cluster: a token has a `sid`, and is valid unless that login was revoked.
    Cluster,
}

struct Rules {
    audience: Option<Vec<String>>,
    issuer: Option<Vec<String>>,
    leeway: u64,
    max_lifetime: u64,
    signer: Signer,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default)]
    kid: Option<Cow<'a, str>>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
    jti: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
    // Only in the gateway's own tokens: other issuers give it another meaning, or none.
    sid: Option<Value>,
}

use NotVerified::{Rejected, Unavailable};

impl JwtVerifier {
    /// Creates a verifier. Keys in a file are read now, keys at a URL are fetched with the first token.
    ///
    /// # Errors
    ///
    /// [`NotUsable`]: a file that cannot be read, keys that cannot be used, or a token lifetime that is longer than
    /// revocations are remembered.
    pub fn new(config: JwtConfig, revocations: Arc<Revocations>, clock: Clock) -> Result<Self, NotUsable> {
        if config.algorithms.is_empty() {
            return Err("no algorithm is allowed".into());
        }
        if config.retention() > revocations.retention() {
            return Err("tokens may be valid for longer than revocations are remembered".into());
        }
        let source = match config.keys {
            Keys::File(path) => Source::Fixed(KeySet::read(&path, &config.algorithms)?),
            Keys::Secret(secret) => Source::Fixed(KeySet::from_secret(secret.expose(), &config.algorithms)?),
            Keys::Url(url) => Source::Remote(RemoteKeys::new(url, config.algorithms, clock.clone())?),
        };
        let rules = Rules {
            audience: config.audience,
            issuer: config.issuer,
            leeway: millis(config.leeway),
            max_lifetime: millis(config.max_lifetime),
            signer: Signer::Other,
        };
        Ok(Self { source, rules, revocations, clock })
    }

    /// A verifier of the tokens that this gateway issues. It has no leeway, because both sides share one clock.
    ///
    /// # Errors
    ///
    /// As [`JwtVerifier::new`].
    pub fn own(
        secret: Secret,
        name: &str,
        max_lifetime: Duration,
        revocations: Arc<Revocations>,
        clock: Clock,
    ) -> Result<Self, NotUsable> {
        let config = JwtConfig {
            algorithms: vec![Algorithm::HS256],
            keys: Keys::Secret(secret),
            audience: Some(vec![name.to_owned()]),
            issuer: Some(vec![name.to_owned()]),
            leeway: Duration::ZERO,
            max_lifetime,
        };
        let mut verifier = Self::new(config, revocations, clock)?;
        verifier.rules.signer = Signer::Own;
        Ok(verifier)
    }

    /// A verifier of the tokens that the gateways of a cluster issue, with one key. The logins are not known here: each
    /// that ends is revoked in every process.
    ///
    /// # Errors
    ///
    /// As [`JwtVerifier::new`].
    pub fn shared(
        secret: Secret,
        name: &str,
        max_lifetime: Duration,
        revocations: Arc<Revocations>,
        clock: Clock,
    ) -> Result<Self, NotUsable> {
        let mut verifier = Self::own(secret, name, max_lifetime, revocations, clock)?;
        verifier.rules.signer = Signer::Cluster;
        Ok(verifier)
    }

    async fn identify(&self, token: &str) -> Result<Identity, NotVerified> {
        if token.len() > MAX_TOKEN {
            return Err(Rejected("the token is too long"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Rejected("not a signed token"))?;
        let (header, claims) = signed.split_once('.').ok_or(Rejected("not a signed token"))?;
        let header = decode(header).ok_or(Rejected("the header is not base64url"))?;
        let header: Header<'_> = parse(&header).ok_or(Rejected("the header is not a token's header"))?;
        if header.crit.is_some() {
            return Err(Rejected("the header requires an unknown extension"));
        }
        let algorithm = header.alg.parse().map_err(|_| Rejected("the algorithm is unknown"))?;
        self.check_signature(header.kid.as_deref(), algorithm, signed, signature).await?;
        let claims = decode(claims).ok_or(Rejected("the claims are not base64url"))?;
        let claims = parse_owned(&claims).ok_or(Rejected("the claims are not valid"))?;
        self.check_claims(claims, signed)
    }

    async fn check_signature(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        signed: &str,
        signature: &str,
    ) -> Result<(), NotVerified> {
        let remote = match &self.source {
            Source::Fixed(keys) => return verified(keys, id, algorithm, signed, signature).map_err(Rejected),
            Source::Remote(remote) => remote,
        };
        let found = remote.get().await.map_err(Unavailable)?;
        let Err(reason) = verified(&found.keys, id, algorithm, signed, signature) else { return Ok(()) };
        if found.certain {
            return Err(Rejected(reason));
        }
        // The issuer may have other keys by now.
        match remote.newer(&found).await {
            Some(newer) => verified(&newer.keys, id, algorithm, signed, signature).map_err(Rejected),
            None => Err(Unavailable(format!("{reason}, and the key set cannot be fetched again yet"))),
        }
    }

    fn check_claims(&self, claims: Claims, signed: &str) -> Result<Identity, NotVerified> {
        let (now, rules) = (self.clock.now(), &self.rules);
        let latest = now.saturating_add(rules.leeway);
        let time = |claim: &Option<Value>| claim.as_ref().map(instant).transpose();
        let expires = time(&claims.exp)?.ok_or(Rejected("no `exp`"))?;
        let issued = time(&claims.iat)?;
        let lifetime = expires.saturating_add(rules.leeway).saturating_sub(now);
        if lifetime == 0 {
            return Err(Rejected("expired"));
        }
        if time(&claims.nbf)?.is_some_and(|not_before| not_before > latest) {
            return Err(Rejected("not valid yet"));
        }
        let is_other = rules.signer == Signer::Other;
        // If our own clock went back, that does not invalidate our own token.
        if is_other && issued.is_some_and(|issued| issued > latest) {
            return Err(Rejected("issued in the future"));
        }
        if expires.saturating_sub(issued.unwrap_or(now)) > rules.max_lifetime {
            return Err(Rejected("the lifetime is too long"));
        }
        let is_one_of = |wanted: &[String], found: &Value| {
            found.as_str().is_some_and(|found| wanted.iter().any(|one| one == found))
        };
        if let Some(wanted) = &rules.issuer
            && !claims.iss.is_some_and(|issuer| is_one_of(wanted, &issuer))
        {
            return Err(Rejected("the issuer is not accepted"));
        }
        if let Some(wanted) = &rules.audience {
            let meant = match &claims.aud {
                Some(Value::Array(audiences)) => audiences.iter().any(|audience| is_one_of(wanted, audience)),
                Some(audience) => is_one_of(wanted, audience),
                None => false,
            };
            if !meant {
                return Err(Rejected("the audience is not accepted"));
            }
        }
        let subject = match claims.sub {
            Some(Value::String(subject)) => subject,
            Some(_) => return Err(Rejected("`sub` is not a string")),
            None => return Err(Rejected("no `sub`")),
        };
        if subject.is_empty() {
            return Err(Rejected("no `sub`"));
        }
        if subject.len() > MAX_SUBJECT {
            return Err(Rejected("`sub` is too long"));
        }
        let name = if is_other {
            match claims.jti {
                Some(Value::String(name)) if !name.is_empty() => name,
                Some(Value::Number(name)) => name.to_string(),
                Some(_) | None => signed.to_owned(),
            }
        } else {
            claims.sid.as_ref().and_then(Value::as_str).ok_or(Rejected("no `sid`"))?.to_owned()
        };
        let credential = credential_id(&name);
        match rules.signer {
            Signer::Own => match self.revocations.standing(&subject, credential) {
                Standing::Good => {}
                Standing::Ended => return Err(Rejected("its login has ended")),
                Standing::Unknown => return Err(Unavailable("the accounts have not been read yet".into())),
            },
            Signer::Other | Signer::Cluster => {
                let earliest = expires.saturating_sub(rules.max_lifetime);
                let dates = Issued { at: issued, earliest, leeway: rules.leeway };
                self.revocations.check_token(&subject, credential, dates).map_err(|not| match not {
                    NotGood::Credential => Rejected("revoked"),
                    NotGood::Subject => Rejected("all tokens of this subject were revoked"),
                    NotGood::Floor => Rejected("issued before the oldest remembered revocation"),
                })?;
            }
        }
        Ok(Identity { subject: Arc::from(subject), credential, lifetime: Duration::from_millis(lifetime) })
    }
}

/// Verifies the signature with the keys that fit.
fn verified(
    keys: &KeySet,
    id: Option<&str>,
    algorithm: Algorithm,
    signed: &str,
    signature: &str,
) -> Result<(), &'static str> {
    let candidates = keys.candidates(id);
    if candidates.clone().next().is_none() {
        return Err("signed with a key that is not in the key set");
    }
    let mut fitting = candidates.filter(|key| key.permits(algorithm)).take(MAX_TRIES).peekable();
    if fitting.peek().is_none() {
        return Err("the key does not permit the algorithm");
    }
    let verifies = |key: &super::keys::Key| {
        jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, algorithm).unwrap_or(false)
    };
    if fitting.any(verifies) { Ok(()) } else { Err("the signature is wrong") }
}

impl Verifier for JwtVerifier {
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>> {
        Box::pin(self.identify(token.expose()))
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        Box::pin(self.revocations.revoke(revocation))
    }

    fn record<'a>(&'a self, _: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        Box::pin(core::future::ready(self.revocations.record()))
    }

    fn revoke_as_of<'a>(&'a self, revocation: &'a Revocation, at: u64) -> BoxFuture<'a, Result<(), NotRevoked>> {
        Box::pin(self.revocations.revoke_as_of(revocation, at))
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("audience", &self.audience).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    serde_json::from_slice(json).ok()
}

fn parse_owned<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    serde_json::from_slice(json).ok()
}

/// A `NumericDate` (RFC 7519 §2), which may have a fraction, in milliseconds.
fn instant(date: &Value) -> Result<u64, NotVerified> {
    let milliseconds = date.as_f64().ok_or(Rejected("a date is not a number"))? * 1000.0;
    // A date beyond the upper bound is not meant seriously, and its float has lost the milliseconds.
    if !(0.0..9.0e15).contains(&milliseconds) {
        return Err(Rejected("a date is out of range"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between zero and 2^53")]
    // Round down, except for float error: a token must not seem younger than a revocation later in the same
    // millisecond.
    Ok((milliseconds + 0.001).floor() as u64)
}
