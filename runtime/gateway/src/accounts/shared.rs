//! The accounts of a cluster, in the engine of its log: one row with the same content as the file of a data directory.
//!
//! A change applies only to the version that was read, so each of several simultaneous commands sees the others'
//! changes. Gateways read the row again whenever its version has changed.

use core::fmt;
use std::sync::Mutex;

use lockstep::internal::gateways::Shared;
use lockstep::internal::lock;
use lockstep::log::LogError;
use lockstep::payload::now_ms;
use lockstep_model::login::NotChanged;

use super::format::{self, Names};
use super::passwords::Passwords;
use super::{Account, AccountError, Cost, Snapshot, erase};

/// How often a change is repeated because of another one.
const MAX_TRIES: usize = 10;

/// The accounts that all gateways of a cluster share.
pub struct SharedAccounts {
    engine: Shared,
    passwords: Passwords,
    /// The accounts that were last read, and their version.
    known: Mutex<Option<(u64, Snapshot)>>,
}

impl SharedAccounts {
    /// The accounts in this engine.
    #[must_use]
    pub fn new(engine: Shared) -> Self {
        Self::with_cost(engine, Cost::DEFAULT)
    }

    /// Like [`SharedAccounts::new`], with this cost for new hashes.
    #[must_use]
    pub fn with_cost(engine: Shared, cost: Cost) -> Self {
        Self { engine, passwords: Passwords::new(cost), known: Mutex::default() }
    }

    /// The names, in order.
    ///
    /// # Errors
    ///
    /// [`AccountError::File`].
    pub async fn list(&self) -> Result<Vec<String>, AccountError> {
        Ok(self.look().await?.1.names())
    }

    /// Adds an account. It has no access to the data of earlier accounts of that name.
    ///
    /// # Errors
    ///
    /// All but [`AccountError::Unknown`].
    pub async fn add(&self, name: &str, password: &str) -> Result<(), AccountError> {
        if self.look().await?.1.knows(name) {
            return Err(AccountError::Exists);
        }
        let hash = self.passwords.hash(name, password).await?;
        self.change(|roster| roster.add(name.to_owned(), hash.clone(), now_ms())).await
    }

    /// Changes a password. All gateways notice, and logins made with the old password must log in again.
    ///
    /// # Errors
    ///
    /// All but [`AccountError::Exists`].
    pub async fn passwd(&self, name: &str, password: &str) -> Result<(), AccountError> {
        if !self.look().await?.1.knows(name) {
            return Err(AccountError::Unknown);
        }
        let hash = self.passwords.hash(name, password).await?;
        self.change(|roster| roster.change(&name.to_owned(), hash.clone(), now_ms())).await
    }

    /// Removes an account. All gateways notice and end its logins. One of them erases the user's data.
    ///
    /// # Errors
    ///
    /// [`AccountError::Unknown`] and [`AccountError::File`].
    pub async fn remove(&self, name: &str) -> Result<(), AccountError> {
        self.change(|roster| roster.remove(&name.to_owned())).await
    }

    /// Records that all data of a removed account's subject is erased.
    ///
    /// # Errors
    ///
    /// [`AccountError::File`].
    pub async fn erased(&self, gone: &str) -> Result<(), AccountError> {
        self.change(|roster| {
            erase(roster, gone);
            Ok(())
        })
        .await
    }

    /// Verifies a password. `None` if it is wrong or there is no such account; the caller cannot tell which.
    ///
    /// # Errors
    ///
    /// [`AccountError::Busy`] and [`AccountError::File`]: the password was not verified.
    pub async fn verify(&self, name: &str, password: &str) -> Result<Option<Account>, AccountError> {
        let (_, accounts) = self.look().await?;
        self.passwords.verify(&accounts, name, password).await
    }

    /// The current accounts, and their version.
    ///
    /// # Errors
    ///
    /// [`AccountError::File`].
    pub async fn look(&self) -> Result<(u64, Snapshot), AccountError> {
        let known = self.known();
        let read =
            self.engine.roster(known.as_ref().map(|(version, _)| *version)).await.map_err(|error| say(&error))?;
        let (version, content) = match (read, known) {
            (Some(read), _) => read,
            (None, Some(known)) => return Ok(known),
            (None, None) => return Err(say(&"the table lockstep.roster is empty")),
        };
        let roster =
            if content.is_empty() { Names::default() } else { format::read(&content).map_err(|why| say(&why))? };
        let read = (version, Snapshot(roster.into()));
        *lock(&self.known) = Some(read.clone());
        Ok(read)
    }

    /// The accounts as last read.
    pub(crate) fn known(&self) -> Option<(u64, Snapshot)> {
        lock(&self.known).clone()
    }

    async fn change(&self, change: impl Fn(&mut Names) -> Result<(), NotChanged>) -> Result<(), AccountError> {
        for _ in 0..MAX_TRIES {
            let (version, accounts) = self.look().await?;
            let mut roster = Names::clone(&accounts.0);
            change(&mut roster).map_err(AccountError::of)?;
            let changed = self.engine.change_roster(version, &format::write(&roster)).await;
            let unanswered = |error: LogError| {
                say(&format_args!(
                    "{error}; the change may have been made all the same: look with `lockstep user list`"
                ))
            };
            if changed.map_err(unanswered)?.is_some() {
                return Ok(());
            }
        }
        Err(say(&"others change them all the time: try again"))
    }
}

fn say(why: &dyn fmt::Display) -> AccountError {
    AccountError::File(format!("the accounts in PostgreSQL: {why}").into())
}

impl fmt::Debug for SharedAccounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedAccounts").finish_non_exhaustive()
    }
}
