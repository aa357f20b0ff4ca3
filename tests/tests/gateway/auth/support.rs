//! Tokens of every kind, clocks that a test controls, and temporary directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header, encode};
use lockstep::payload::Token;
use lockstep::verify::clock::Clock;
use lockstep::verify::jwt::{JwtConfig, JwtVerifier};
use lockstep::verify::keys::{Keys, Secret};
use lockstep::verify::revoked::Revocations;
use lockstep::verify::{Identity, NotVerified, Verifier};
use serde_json::{Value, json};

pub(super) const SECRET: &[u8] = b"sixty-four bytes of a secret that all three HMAC algorithms like";
/// Test keys.
pub(super) const RSA: &[u8] = include_bytes!("keys/a.pem");
pub(super) const RSA_PUBLIC: &[u8] = include_bytes!("keys/a.pub.pem");
pub(super) const OTHER_RSA: &[u8] = include_bytes!("keys/b.pem");
pub(super) const P256: &[u8] = include_bytes!("keys/p256.pem");
pub(super) const P384: &[u8] = include_bytes!("keys/p384.pem");
pub(super) const ED: &[u8] = include_bytes!("keys/ed.pem");

/// The date of the tests, in seconds since the Unix epoch.
pub(super) const TODAY: u64 = 1_800_000_000;

/// Two clocks that stand still until a test moves them: the wall clock and a monotonic one.
#[derive(Clone)]
pub(super) struct Hands {
    wall: Arc<AtomicU64>,
    elapsed: Arc<AtomicU64>,
}

impl Hands {
    pub(super) fn new() -> Self {
        Self { wall: Arc::new(AtomicU64::new(TODAY * 1000)), elapsed: Arc::default() }
    }

    pub(super) fn clock(&self) -> Clock {
        let Self { wall, elapsed } = self.clone();
        Clock::new(move || wall.load(Ordering::SeqCst)).with_elapsed(move || elapsed.load(Ordering::SeqCst))
    }

    /// Sets the wall clock.
    pub(super) fn set(&self, seconds: f64) {
        self.wall.store((seconds * 1000.0).round() as u64, Ordering::SeqCst);
    }

    /// Lets time pass on both clocks.
    pub(super) fn forward(&self, duration: Duration) {
        self.wall.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
        self.elapsed.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
    }

    /// Sets the wall clock back.
    pub(super) fn back(&self, duration: Duration) {
        self.wall.fetch_sub(duration.as_millis() as u64, Ordering::SeqCst);
    }

    /// Sets the wall clock ahead.
    pub(super) fn ahead(&self, duration: Duration) {
        self.wall.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
    }
}

/// A temporary directory, removed when dropped.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("lockstep-auth-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(super) const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);

/// A verifier with clocks of its own.
pub(super) fn verifier_of(config: JwtConfig) -> (JwtVerifier, Hands) {
    let hands = Hands::new();
    let revocations = Arc::new(Revocations::in_memory(MONTH, hands.clock()));
    (JwtVerifier::new(config, revocations, hands.clock()).expect("a verifier"), hands)
}

/// A verifier of tokens signed with the secret, for the audience `us` of the issuer `them`.
pub(super) fn strict() -> (JwtVerifier, Hands) {
    let mut config = JwtConfig::new(Keys::Secret(Secret::new(SECRET)));
    config.audience = Some(vec!["us".into(), "also us".into()]);
    config.issuer = Some(vec!["them".into()]);
    verifier_of(config)
}

/// Claims that every verifier accepts.
pub(super) fn claims() -> Value {
    json!({"sub": "ann", "exp": TODAY + 600, "iat": TODAY, "aud": "us", "iss": "them", "jti": "1"})
}

/// [`claims`] with these changes.
pub(super) fn but(changes: Value) -> Value {
    let mut claims = claims();
    let (all, changes) = (claims.as_object_mut().expect("claims"), changes);
    for (name, value) in changes.as_object().expect("changes") {
        if value.is_null() {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    claims
}

pub(super) fn signed(algorithm: Algorithm, claims: &Value) -> String {
    signed_as(&Header::new(algorithm), claims)
}

pub(super) fn signed_as(header: &Header, claims: &Value) -> String {
    encode(header, claims, &signing_key(header.alg)).expect("a token")
}

pub(super) fn signing_key(algorithm: Algorithm) -> EncodingKey {
    let key = match algorithm.family() {
        AlgorithmFamily::Ec if algorithm == Algorithm::ES256 => EncodingKey::from_ec_pem(P256),
        AlgorithmFamily::Ec => EncodingKey::from_ec_pem(P384),
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(ED),
        AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(SECRET)),
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(RSA),
    };
    key.expect("a key")
}

/// A key's public half as a member of a key set.
pub(super) fn jwk(key: &EncodingKey, algorithm: Algorithm, id: &str) -> Value {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).expect("a key");
    jwk.common.key_id = Some(id.to_owned());
    serde_json::to_value(jwk).expect("JSON")
}

pub(super) async fn verify(verifier: &impl Verifier, token: &str) -> Result<Identity, NotVerified> {
    verifier.verify(&Token::new(token)).await
}

/// The reason why the token is rejected.
pub(super) async fn rejection(verifier: &impl Verifier, token: &str) -> &'static str {
    match verify(verifier, token).await {
        Err(NotVerified::Rejected(reason)) => reason,
        other => panic!("not rejected: {other:?}"),
    }
}

/// Base64url without padding (RFC 4648 §5).
pub(super) fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=chunk.len()].copy_from_slice(chunk);
        let number = u32::from_be_bytes(three);
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(number >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}
