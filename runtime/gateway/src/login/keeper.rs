//! Where accounts and logins are kept: in a data directory, or in the engine of a cluster's log.

use std::sync::{Arc, Mutex};

use lockstep::internal::lock;
use lockstep::verify::revoked::Revocations;
use lockstep_model::login::{Answer, Ask, Input, Now};

use super::shared::SharedLogins;
use crate::accounts::{Account, AccountError, Accounts, Snapshot};

/// The accounts and the logins.
pub(super) enum Keeper {
    Directory(Directory),
    Cluster(Arc<SharedLogins>),
}

/// Those of one gateway.
pub(super) struct Directory {
    pub(super) accounts: Arc<Accounts>,
    /// The accounts that the machine was last told of.
    pub(super) known: Arc<tokio::sync::Mutex<Option<Snapshot>>>,
    /// The accounts as last read; also valid while the disk does not answer.
    pub(super) last: Arc<Mutex<Snapshot>>,
    pub(super) revocations: Arc<Revocations>,
}

impl Keeper {
    /// The accounts as last read.
    pub(super) fn last(&self) -> Option<Snapshot> {
        match self {
            Self::Directory(directory) => Some(lock(&directory.last).clone()),
            Self::Cluster(shared) => shared.accounts.known().map(|(_, accounts)| accounts),
        }
    }

    /// Whether there is an account of that name, as far as it is known without waiting.
    pub(super) fn knows(&self, name: &str) -> bool {
        match self {
            Self::Directory(directory) => directory.accounts.look().is_ok_and(|accounts| accounts.knows(name)),
            Self::Cluster(_) => self.last().is_some_and(|accounts| accounts.knows(name)),
        }
    }

    pub(super) async fn verify(&self, name: &str, password: &str) -> Result<Option<Account>, AccountError> {
        match self {
            Self::Directory(directory) => directory.accounts.verify(name, password).await,
            Self::Cluster(shared) => shared.accounts.verify(name, password).await,
        }
    }

    /// Sends a request to the machine of logins, and waits for its answer.
    pub(super) async fn ask(&self, input: impl Fn(Ask, Now) -> Input<Arc<str>> + Send + Sync) -> Answer<Arc<str>> {
        match self {
            Self::Directory(directory) => directory.revocations.ask(input).await,
            Self::Cluster(shared) => shared.ask(input).await,
        }
    }

    /// Why a request was unavailable, for the operator.
    pub(super) fn failure(&self) -> String {
        match self {
            Self::Directory(directory) => directory.revocations.failure(),
            Self::Cluster(shared) => shared.failure(),
        }
    }
}
