//! Refresh cookies: a login's id, a number, and a 256-bit MAC of both under a key that is derived from the signing key.
//! They are not stored. [`lockstep_model::login`] decides whether a number is valid.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lockstep::verify::keys::Secret;
use sha2::{Digest, Sha256};

/// The content of a cookie whose MAC was checked.
pub(super) struct Presented {
    /// The id of the login: the `sid` of its tokens.
    pub(super) id: String,
    pub(super) turn: u64,
}

/// The length of a login's id in bytes.
const ID: usize = 16;
/// The length of a cookie in bytes: id, turn, MAC.
const COOKIE: usize = ID + 8 + 32;

/// Creates and checks cookies.
pub(super) struct Seal([u8; 32]);

impl Seal {
    /// A new login id.
    pub(super) fn name() -> Result<String, String> {
        Ok(URL_SAFE_NO_PAD.encode(lockstep::internal::random_bytes::<ID>()?))
    }

    pub(super) fn new(secret: &Secret) -> Self {
        Self(Sha256::new().chain_update(b"lockstep refresh cookies\0").chain_update(secret.expose()).finalize().into())
    }

    pub(super) fn cookie(&self, id: &str, turn: u64) -> String {
        let id = URL_SAFE_NO_PAD.decode(id).unwrap_or_default();
        let mut bytes = Vec::with_capacity(COOKIE);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&turn.to_be_bytes());
        let mac = self.mac(&bytes);
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(super) fn open(&self, cookie: &str) -> Option<Presented> {
        let bytes: [u8; COOKIE] = URL_SAFE_NO_PAD.decode(cookie).ok()?.try_into().ok()?;
        let (signed, mac) = bytes.split_at(ID + 8);
        // Compare digests, so that the time reveals nothing about the MAC.
        if Sha256::digest(mac) != Sha256::digest(self.mac(signed)) {
            return None;
        }
        let turn = signed[ID..].try_into().map(u64::from_be_bytes).ok()?;
        Some(Presented { id: URL_SAFE_NO_PAD.encode(&signed[..ID]), turn })
    }

    /// The signed content has a fixed length, so a digest of key and content is a MAC.
    fn mac(&self, signed: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.0).chain_update(signed).finalize().into()
    }
}
