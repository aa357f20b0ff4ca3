//! The accounts of a configuration, for the commands that add and remove them.

use std::sync::Arc;

use super::{AccountError, Accounts, SharedAccounts};

/// The accounts of a data directory, or of a cluster.
#[derive(Clone, Debug)]
pub enum AccountStore {
    /// Those of one data directory.
    Directory(Arc<Accounts>),
    /// Those of a cluster.
    Cluster(Arc<SharedAccounts>),
}

impl AccountStore {
    /// As [`Accounts::list`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn list(&self) -> Result<Vec<String>, AccountError> {
        match self {
            Self::Directory(accounts) => accounts.list(),
            Self::Cluster(accounts) => accounts.list().await,
        }
    }

    /// As [`Accounts::add`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn add(&self, name: &str, password: &str) -> Result<(), AccountError> {
        match self {
            Self::Directory(accounts) => accounts.add(name, password).await,
            Self::Cluster(accounts) => accounts.add(name, password).await,
        }
    }

    /// As [`Accounts::passwd`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn passwd(&self, name: &str, password: &str) -> Result<(), AccountError> {
        match self {
            Self::Directory(accounts) => accounts.passwd(name, password).await,
            Self::Cluster(accounts) => accounts.passwd(name, password).await,
        }
    }

    /// As [`Accounts::remove`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn remove(&self, name: &str) -> Result<(), AccountError> {
        match self {
            Self::Directory(accounts) => accounts.remove(name),
            Self::Cluster(accounts) => accounts.remove(name).await,
        }
    }
}
