//! Names of any length as 64 bits.

use sha2::{Digest, Sha256};

/// The first 64 bits of a SHA-256 digest.
#[must_use]
pub(crate) fn digest64(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}
