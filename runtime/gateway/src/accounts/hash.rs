//! Password hashing with reused memory: one password needs a lot of it, and freed memory stays with the freeing
//! thread's allocator.

use std::sync::Mutex;

use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use lockstep::internal::lock;

/// The length of a hash in bytes (RFC 9106 §4).
const OUTPUT: usize = 32;

/// A pool of hashing memory, with one buffer for each concurrent hash.
#[derive(Default)]
pub(super) struct Hasher(Mutex<Vec<Vec<Block>>>);

impl Hasher {
    /// Hashes a password. The result is a string that includes the parameters.
    pub(super) fn hash(&self, argon2: &Argon2<'_>, password: &[u8], salt: &[u8]) -> Result<String, String> {
        let mut output = [0; OUTPUT];
        self.fill(argon2, password, salt, &mut output)?;
        let params = argon2.params();
        let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        let [salt, output] = [salt, &output].map(|bytes| STANDARD_NO_PAD.encode(bytes));
        Ok(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${output}"))
    }

    /// Whether `hash` is the hash of the password.
    pub(super) fn verify(&self, password: &[u8], hash: &PasswordHash) -> Result<bool, String> {
        let (Some(salt), Some(wanted)) = (&hash.salt, &hash.hash) else {
            return Err("the stored hash is incomplete".to_owned());
        };
        let text = |error: &dyn core::fmt::Display| error.to_string();
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(|error| text(&error))?;
        let version = hash.version.map_or(Ok(Version::default()), Version::try_from).map_err(|error| text(&error))?;
        let params = Params::try_from(hash).map_err(|error| text(&error))?;
        let mut output = vec![0; wanted.as_bytes().len()];
        self.fill(&Argon2::new(algorithm, version, params), password, salt.as_ref(), &mut output)?;
        // Compare all bytes, so that the time does not reveal where they differ.
        let differ = output.iter().zip(wanted.as_bytes()).fold(0, |differ, (one, other)| differ | (one ^ other));
        Ok(differ == 0)
    }

    fn fill(&self, argon2: &Argon2<'_>, password: &[u8], salt: &[u8], output: &mut [u8]) -> Result<(), String> {
        let mut blocks = lock(&self.0).pop().unwrap_or_default();
        let count = argon2.params().block_count();
        if blocks.len() < count {
            blocks = vec![Block::default(); count];
        }
        let filled = argon2.hash_password_into_with_memory(password, salt, output, &mut blocks[..count]);
        lock(&self.0).push(blocks);
        filled.map_err(|error| error.to_string())
    }
}
