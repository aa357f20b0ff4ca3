//! Hashing and verifying passwords, a few at a time, for accounts in a file or in an engine.

use std::sync::Arc;

use argon2::{Argon2, Params, PasswordHash};
use lockstep_model::login::roster::Account as RosterAccount;
use tokio::sync::Semaphore;

use super::hash::Hasher;
use super::{
    Account, AccountError, Cost, MAX_HASHING, MAX_PASSWORD, MAX_WAITING, MIN_PASSWORD, SALT, Snapshot, is_name, subject,
};

/// The cost, the memory and the queue of password hashing.
pub(super) struct Passwords {
    cost: Cost,
    /// A hash that no password has. It is compared with if there is no account.
    unknown: String,
    queue: Arc<Semaphore>,
    hashing: Arc<Semaphore>,
    hasher: Arc<Hasher>,
}

impl Passwords {
    /// New hashes have this cost.
    pub(super) fn new(cost: Cost) -> Self {
        Self {
            cost,
            unknown: format!(
                "$argon2id$v=19$m={},t={},p=1${}${}",
                cost.memory,
                cost.passes,
                "A".repeat(22),
                "A".repeat(43)
            ),
            queue: Arc::new(Semaphore::new(MAX_HASHING + MAX_WAITING)),
            hashing: Arc::new(Semaphore::new(MAX_HASHING)),
            hasher: Arc::default(),
        }
    }

    /// Verifies a password with these accounts. `None` if it is wrong or there is no such account.
    pub(super) async fn verify(
        &self,
        accounts: &Snapshot,
        name: &str,
        password: &str,
    ) -> Result<Option<Account>, AccountError> {
        if password.len() > MAX_PASSWORD {
            return Ok(None);
        }
        let entry: Option<RosterAccount<String>> = accounts.0.accounts().get(name).cloned();
        let hash = entry.as_ref().map_or_else(|| self.unknown.clone(), |entry| entry.hash.clone());
        let password = password.to_owned();
        let right = self.work(move |hasher| {
            let hash = PasswordHash::new(&hash).map_err(|error| error.to_string())?;
            hasher.verify(password.as_bytes(), &hash)
        });
        let right = right.await?;
        Ok(entry.filter(|_| right).map(|entry| Account {
            name: Arc::from(name),
            subject: subject(name, entry.incarnation),
            changed: entry.version,
        }))
    }

    /// Hashes the password of an account.
    pub(super) async fn hash(&self, name: &str, password: &str) -> Result<String, AccountError> {
        if !is_name(name) {
            return Err(AccountError::BadName);
        }
        if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&password.len()) {
            return Err(AccountError::BadPassword);
        }
        let (password, cost) = (password.to_owned(), self.cost);
        let hash = move |hasher: &Hasher| {
            let salt = lockstep::internal::random_bytes::<SALT>()?;
            let params = Params::new(cost.memory, cost.passes, 1, None).map_err(|error| error.to_string())?;
            hasher.hash(&Argon2::from(params), password.as_bytes(), &salt)
        };
        self.work(hash).await
    }

    /// Runs slow work outside the async tasks. It keeps its place until it is done, even if the caller is gone.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hasher) -> Result<T, String> + Send + 'static,
    ) -> Result<T, AccountError> {
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| AccountError::Busy)?;
        let turn = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| AccountError::Busy)?;
        let hasher = Arc::clone(&self.hasher);
        let task = tokio::task::spawn_blocking(move || {
            let done = work(&hasher);
            drop((turn, place));
            done
        });
        match task.await {
            Ok(done) => {
                done.map_err(|error| AccountError::File(format!("a password cannot be hashed: {error}").into()))
            }
            Err(_) => Err(AccountError::Busy),
        }
    }
}
