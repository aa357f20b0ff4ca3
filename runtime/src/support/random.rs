//! Randomness of the system: ids, tickets and keys are unguessable.

/// 64 bits of the system's randomness.
pub(crate) fn random() -> Result<u64, NoRandomness> {
    random_bytes().map(u64::from_ne_bytes)
}

/// `N` bytes of the system's randomness.
///
/// # Errors
///
/// [`NoRandomness`].
pub fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

/// The system has no randomness.
#[derive(Clone, Copy, Debug)]
pub struct NoRandomness(getrandom::Error);

impl std::fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the system provides no random bytes: {}", self.0)
    }
}

impl std::error::Error for NoRandomness {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl From<NoRandomness> for String {
    fn from(error: NoRandomness) -> Self {
        error.to_string()
    }
}
