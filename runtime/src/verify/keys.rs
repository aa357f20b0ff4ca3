//! The keys that verify tokens, and the algorithms that each may be used for.
//!
//! A key is used only for the algorithms of its own type, whatever a token's header says. Therefore a public key is
//! never used as a secret (RFC 8725 §2.1), and no key has the algorithm `none`.

use core::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;

use super::jwks::KeyUrl;
use super::jwt::NotUsable;

/// The most keys of a set. Further keys are ignored.
const MAX_KEYS: usize = 64;
/// Bits of an RSA modulus.
const RSA_BITS: core::ops::RangeInclusive<usize> = 2048..=4096;

/// Where the keys come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// A file: a PEM public key (`PUBLIC KEY` or `RSA PUBLIC KEY`), a JSON Web Key Set, or else the secret of HS256,
    /// HS384 and HS512, of which every byte counts, including a final newline. It is read once, at startup.
    File(PathBuf),
    /// A JSON Web Key Set at a URL.
    Url(KeyUrl),
    /// The secret of HS256, HS384 and HS512.
    Secret(Secret),
}

/// Secret bytes.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }

    /// The secret itself, for the code that signs or verifies with it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// Keys that are used and replaced together.
#[derive(Clone, Debug)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads the keys in a file.
    pub(super) fn read(path: &Path, allowed: &[Algorithm]) -> Result<Self, NotUsable> {
        let name = path.display();
        let bytes = fs::read(path).map_err(|error| NotUsable::because(format!("{name}: {error}"), error))?;
        let text = bytes.trim_ascii_start();
        let keys = if text.starts_with(b"-----BEGIN") {
            Self::from_pem(text, allowed)
        } else if text.starts_with(b"{") {
            Self::from_jwks(text, allowed, true)
        } else {
            Self::from_secret(&bytes, allowed)
        };
        keys.map_err(|error| format!("{name}: {error}").into())
    }

    /// A shared secret. It must be at least as long as the digest (RFC 7518 §3.2).
    pub(super) fn from_secret(bytes: &[u8], allowed: &[Algorithm]) -> Result<Self, String> {
        if looks_public(bytes) {
            return Err("a public key is not a secret".into());
        }
        let long_enough = |algorithm: &Algorithm| bytes.len() >= digest_length(*algorithm);
        let hmac = allowed.iter().copied().filter(|algorithm| algorithm.family() == AlgorithmFamily::Hmac);
        let hmac: Vec<_> = hmac.collect();
        if hmac.is_empty() {
            return Err("it is a secret, but none of HS256, HS384 and HS512 is allowed".into());
        }
        let algorithms: Vec<_> = hmac.into_iter().filter(long_enough).collect();
        if algorithms.is_empty() {
            return Err(format!("the secret of {} bytes is shorter than its digest (RFC 7518 §3.2)", bytes.len()));
        }
        Ok(Self(vec![Key { id: None, algorithms, key: DecodingKey::from_secret(bytes) }]))
    }

    /// One public key.
    fn from_pem(bytes: &[u8], allowed: &[Algorithm]) -> Result<Self, String> {
        let is_public = bytes.starts_with(b"-----BEGIN PUBLIC KEY") || bytes.starts_with(b"-----BEGIN RSA PUBLIC KEY");
        if !is_public {
            return Err("it is a PEM file, but not a public key".into());
        }
        let key = DecodingKey::from_rsa_pem(bytes)
            .ok()
            .filter(rsa_is_fit)
            .or_else(|| DecodingKey::from_ec_pem(bytes).ok())
            .or_else(|| DecodingKey::from_ed_pem(bytes).ok())
            .ok_or("it is not an RSA (2048 to 4096 bits), P-256, P-384 or Ed25519 key")?;
        Key::new(None, key, None, allowed).map(|key| Self(vec![key])).map_err(str::to_owned)
    }

    /// A key set (RFC 7517 §5). Keys of other uses and types are skipped, as §5 recommends.
    pub(super) fn from_jwks(bytes: &[u8], allowed: &[Algorithm], secrets: bool) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(bytes)
            .map_err(|error| format!("it is not a key set: line {}, column {}", error.line(), error.column()))?;
        let keys = set.keys.into_iter().take(MAX_KEYS).filter_map(|value| {
            let jwk: Jwk = serde_json::from_value(value).ok()?;
            Key::from_jwk(&jwk, allowed, secrets)
        });
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() {
            return Err("the key set has no usable key".into());
        }
        Ok(Self(keys))
    }

    /// Whether one of the keys has this id; any key will do for a token without one.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        id.is_none() || self.0.iter().any(|key| key.id.as_deref() == id)
    }

    /// The keys that may have signed a token with this key id: those with the id, or else those without one.
    pub(super) fn candidates<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a Key> + Clone {
        let named = id.is_some() && self.knows(id);
        self.0.iter().filter(move |key| id.is_none() || key.id.as_deref() == id.filter(|_| named))
    }
}

impl Key {
    /// Creates a key. Its algorithms are those allowed by its type, by its own restriction and by the configuration.
    fn new(
        id: Option<String>,
        key: DecodingKey,
        only: Option<Algorithm>,
        allowed: &[Algorithm],
    ) -> Result<Self, &'static str> {
        let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
        let of_type: &[Algorithm] = match (key.family(), length) {
            (AlgorithmFamily::Ec, 65) => &[Algorithm::ES256],
            (AlgorithmFamily::Ec, 97) => &[Algorithm::ES384],
            (AlgorithmFamily::Ed, 32) => &[Algorithm::EdDSA],
            (AlgorithmFamily::Ec | AlgorithmFamily::Ed, _) => &[],
            (family @ (AlgorithmFamily::Rsa | AlgorithmFamily::Hmac), _) => family_of(family),
        };
        let fits = |algorithm: &Algorithm| {
            only.is_none_or(|only| only == *algorithm)
                && allowed.contains(algorithm)
                && (key.family() != AlgorithmFamily::Hmac || length >= digest_length(*algorithm))
        };
        let algorithms: Vec<_> = of_type.iter().copied().filter(fits).collect();
        let Some(first) = algorithms.first() else { return Err("the key's algorithm is not allowed") };
        // Finds a point that is not on its curve now, and not with the first token.
        if jsonwebtoken::crypto::verify("", b"", &key, *first).is_err() {
            return Err("not a valid key");
        }
        Ok(Self { id, algorithms, key })
    }

    fn from_jwk(jwk: &Jwk, allowed: &[Algorithm], secrets: bool) -> Option<Self> {
        let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let operations = jwk.common.key_operations.as_ref();
        let verifies = operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let complete = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => true,
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => is_long(&key.x, 32) && is_long(&key.y, 32),
                EllipticCurve::P384 => is_long(&key.x, 48) && is_long(&key.y, 48),
                EllipticCurve::P521 | EllipticCurve::Ed25519 | _ => false,
            },
            AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519 && is_long(&key.x, 32),
            AlgorithmParameters::OctetKey(_) => secrets,
            AlgorithmParameters::Other(_) | _ => false,
        };
        if !for_signatures || !verifies || !complete {
            return None;
        }
        let only = jwk.common.key_algorithm.map(Algorithm::try_from).transpose().ok()?;
        let key = DecodingKey::from_jwk(jwk).ok()?;
        if key.family() == AlgorithmFamily::Rsa && !rsa_is_fit(&key) {
            return None;
        }
        Self::new(jwk.common.key_id.clone(), key, only, allowed).ok()
    }

    /// Whether this key may verify that algorithm.
    pub(super) fn permits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }
}

/// The algorithms of a family.
const fn family_of(family: AlgorithmFamily) -> &'static [Algorithm] {
    match family {
        AlgorithmFamily::Hmac => &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
        AlgorithmFamily::Rsa => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmFamily::Ec => &[Algorithm::ES256, Algorithm::ES384],
        AlgorithmFamily::Ed => &[Algorithm::EdDSA],
    }
}

/// The digest length of an HMAC algorithm, in bytes.
fn digest_length(algorithm: Algorithm) -> usize {
    let longer = [(Algorithm::HS384, 48), (Algorithm::HS512, 64)];
    longer.into_iter().find(|(longer, _)| *longer == algorithm).map_or(32, |(_, length)| length)
}

fn is_long(base64url: &str, length: usize) -> bool {
    URL_SAFE_NO_PAD.decode(base64url).is_ok_and(|bytes| bytes.len() == length)
}

fn rsa_is_fit(key: &DecodingKey) -> bool {
    let Ok(jwk) = Jwk::from_decoding_key(key, None) else { return false };
    let AlgorithmParameters::RSA(parameters) = jwk.algorithm else { return false };
    let Ok(modulus) = URL_SAFE_NO_PAD.decode(parameters.n) else { return false };
    let significant = modulus.iter().skip_while(|byte| **byte == 0).count();
    RSA_BITS.contains(&(significant * 8))
}

/// Whether a file that should be a secret has a published format: PEM, OpenSSH or DER.
fn looks_public(bytes: &[u8]) -> bool {
    let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let der = match bytes {
        [0x30, length, rest @ ..] if *length < 0x80 => usize::from(*length) == rest.len(),
        [0x30, 0x81, length, rest @ ..] => usize::from(*length) == rest.len(),
        [0x30, 0x82, high, low, rest @ ..] => usize::from(u16::from_be_bytes([*high, *low])) == rest.len(),
        _ => false,
    };
    der || contains(b"-----BEGIN") || bytes.starts_with(b"ssh-") || bytes.starts_with(b"ecdsa-sha2-")
}
