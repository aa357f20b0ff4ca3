//! Accounts of the built-in login: names and argon2id hashes (RFC 9106) in one file of the data directory. Those of a
//! cluster are in the engine of its log ([`SharedAccounts`]).
//!
//! The command line changes the file while the gateway runs. Each change is made under a lock on a second file, and
//! replaces the old file atomically. The gateway checks the file whenever it needs an account, and reads it if it has
//! changed since. [`lockstep_model::login::roster`] decides what a change means.
//!
//! The file has a checksum, and a file with a wrong one is refused whenever it is read: existing logins stay valid, and
//! no login is accepted until the file is repaired.
//!
//! The second file also records that there were accounts. While it says so and the first file is missing, the accounts
//! cannot be read: a gateway that is being restored from a backup must not look like one without accounts.
//!
//! A password is hashed even if there is no account of that name, so that the response time does not reveal which
//! accounts exist. At most [`MAX_HASHING`] passwords are hashed at a time, in reused memory, and at most
//! [`MAX_WAITING`] wait for that. Hashing is slow on purpose, and must not take processor time or memory from users who
//! are logged in.

use core::fmt;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use argon2::Params;
use lockstep::internal::lock;
use lockstep::internal::private::replace;
use lockstep::payload::now_ms;
use lockstep_model::login::{Holder, Holders, NotChanged};

use format::Names;
use passwords::Passwords;

mod error;
mod format;
mod hash;
mod passwords;
mod shared;
mod store;

pub use error::{AccountError, FileError};
pub use shared::SharedAccounts;
pub use store::AccountStore;

/// The file in the data directory.
pub const FILE: &str = "accounts.json";
/// The most bytes of a name.
pub const MAX_NAME: usize = 64;
/// The fewest bytes of a password.
pub const MIN_PASSWORD: usize = 8;
/// The most bytes of a password.
pub const MAX_PASSWORD: usize = 1024;
/// The most passwords that are hashed at a time.
pub const MAX_HASHING: usize = 2;
/// The most passwords that wait to be hashed.
pub const MAX_WAITING: usize = 64;
/// The length of the salt in bytes (RFC 9106 §4).
const SALT: usize = 16;

/// The cost of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory: u32,
    /// The number of passes over the memory.
    pub passes: u32,
}

impl Cost {
    /// 19 MiB and two passes, as OWASP recommends.
    pub const DEFAULT: Self = Self { memory: Params::DEFAULT_M_COST, passes: Params::DEFAULT_T_COST };
}

/// An account, as it was when its password was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account's name.
    pub name: Arc<str>,
    /// The account's subject: the name, or `name#2` and so on for later accounts of that name.
    pub subject: Arc<str>,
    /// The version of its password, unique among the passwords of this subject.
    pub changed: u64,
}

/// The subject under which an account's data is kept. It equals the name only for the first account of that name.
fn subject(name: &str, incarnation: u32) -> Arc<str> {
    if incarnation == 1 { Arc::from(name) } else { Arc::from(format!("{name}#{incarnation}")) }
}

/// The data of this subject is erased.
fn erase(roster: &mut Names, gone: &str) {
    let of = |holder: &&Holder<String>| *subject(&holder.name, holder.incarnation) == *gone;
    if let Some(holder) = roster.erasures().iter().find(of).cloned() {
        roster.erased(&holder);
    }
}

/// The subjects that an operator's input refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    /// The subject of the current account, if there is one.
    pub now: Option<Arc<str>>,
    /// Subjects of earlier accounts of that name whose data is not completely erased, newest first.
    pub earlier: Vec<Arc<str>>,
}

impl Subjects {
    /// This subject alone.
    #[must_use]
    pub fn one(subject: &str) -> Self {
        Self { now: Some(Arc::from(subject)), earlier: Vec::new() }
    }

    /// All subjects, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        self.now.iter().chain(&self.earlier)
    }
}

/// The accounts at one point in time.
#[derive(Clone)]
pub struct Snapshot(Arc<Names>);

impl Snapshot {
    /// Whether the account existed, with the password that it was verified with.
    #[must_use]
    pub fn has(&self, account: &Account) -> bool {
        self.0.accounts().get(&*account.name).is_some_and(|entry| {
            entry.version == account.changed && subject(&account.name, entry.incarnation) == account.subject
        })
    }

    /// Whether both snapshots are of the same file.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether there is an account of that name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.0.accounts().contains_key(name)
    }

    /// The subjects that an operator's input refers to. An account's name means the current account and earlier ones
    /// that are not erased; `name#2` means only the second account of that name, and `name#1` the first. `None` if
    /// there is no such account.
    #[must_use]
    pub fn meant(&self, text: &str) -> Option<Subjects> {
        let (name, incarnation) = match text.split_once('#') {
            Some((name, incarnation)) => (name, Some(incarnation.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let Holders { now, earlier } = self.0.holders(&name.to_owned());
        let is_meant = |holder: &Holder<String>| incarnation.is_none_or(|meant| meant == holder.incarnation);
        let subject = |holder: Holder<String>| subject(&holder.name, holder.incarnation);
        let meant = Subjects {
            now: now.filter(is_meant).map(subject),
            earlier: earlier.into_iter().filter(is_meant).map(subject).collect(),
        };
        Some(meant).filter(|meant| meant.all().next().is_some())
    }

    /// The subjects, each with the version of its password.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<Arc<str>, u64> {
        self.0.versions().map(|(holder, version)| (subject(&holder.name, holder.incarnation), version)).collect()
    }

    /// The version of this subject's password; `None` if it has no account.
    #[must_use]
    pub fn version(&self, of: &str) -> Option<u64> {
        let name = of.split_once('#').map_or(of, |(name, _)| name);
        let entry = self.0.accounts().get(name).filter(|entry| *subject(name, entry.incarnation) == *of);
        entry.map(|entry| entry.version)
    }

    /// The names, in order.
    fn names(&self) -> Vec<String> {
        self.0.accounts().keys().cloned().collect()
    }

    /// The subjects of removed accounts whose data is not completely erased.
    pub fn erasures(&self) -> impl Iterator<Item = Arc<str>> {
        self.0.erasures().iter().map(|holder| subject(&holder.name, holder.incarnation))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.accounts().keys()).finish()
    }
}

/// Distinguishes versions of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<SystemTime>, u64, u64);

/// The accounts of one data directory, shared by all logins.
pub struct Accounts {
    path: PathBuf,
    passwords: Passwords,
    known: Mutex<Option<(Stamp, Snapshot)>>,
}

impl Accounts {
    /// Opens the accounts of a data directory; there are none if the file does not exist yet.
    ///
    /// # Errors
    ///
    /// [`AccountError::File`], if the file exists and cannot be used.
    pub fn open(directory: &Path) -> Result<Self, AccountError> {
        Self::with_cost(directory, Cost::DEFAULT)
    }

    /// Like [`Accounts::open`], with this cost for new hashes. Existing accounts keep the cost that they were created
    /// with.
    ///
    /// # Errors
    ///
    /// As [`Accounts::open`].
    pub fn with_cost(directory: &Path, cost: Cost) -> Result<Self, AccountError> {
        let accounts = Self { path: directory.join(FILE), passwords: Passwords::new(cost), known: Mutex::new(None) };
        accounts.look()?;
        if lock(&accounts.known).is_some() && !accounts.is_marked().map_err(|error| accounts.say(error))? {
            let marked = accounts.lock().and_then(|alone| accounts.mark(&alone));
            marked.map_err(|error| accounts.say(error))?;
        }
        Ok(accounts)
    }

    /// The names, in order.
    ///
    /// # Errors
    ///
    /// [`AccountError::File`].
    pub fn list(&self) -> Result<Vec<String>, AccountError> {
        Ok(self.look()?.names())
    }

    /// Adds an account. It has no access to the data of earlier accounts of that name.
    ///
    /// # Errors
    ///
    /// All but [`AccountError::Unknown`].
    pub async fn add(&self, name: &str, password: &str) -> Result<(), AccountError> {
        if self.look()?.knows(name) {
            return Err(AccountError::Exists);
        }
        let hash = self.passwords.hash(name, password).await?;
        self.change(|roster| roster.add(name.to_owned(), hash, now_ms()))
    }

    /// Changes a password. A running gateway notices, and logins made with the old password must log in again.
    ///
    /// # Errors
    ///
    /// All but [`AccountError::Exists`].
    pub async fn passwd(&self, name: &str, password: &str) -> Result<(), AccountError> {
        if !self.look()?.knows(name) {
            return Err(AccountError::Unknown);
        }
        let hash = self.passwords.hash(name, password).await?;
        self.change(|roster| roster.change(&name.to_owned(), hash, now_ms()))
    }

    /// Removes an account. A running gateway notices and ends its logins. The gateway erases the user's data, now or
    /// when it next runs.
    ///
    /// # Errors
    ///
    /// [`AccountError::Unknown`] and [`AccountError::File`].
    pub fn remove(&self, name: &str) -> Result<(), AccountError> {
        self.change(|roster| roster.remove(&name.to_owned()))
    }

    /// Records that all data of a removed account's subject is erased.
    ///
    /// # Errors
    ///
    /// [`AccountError::File`].
    pub fn erased(&self, gone: &str) -> Result<(), AccountError> {
        self.change(|roster| {
            erase(roster, gone);
            Ok(())
        })
    }

    /// Verifies a password. `None` if it is wrong or there is no such account; the caller cannot tell which.
    ///
    /// # Errors
    ///
    /// [`AccountError::Busy`] and [`AccountError::File`]: the password was not verified.
    pub async fn verify(&self, name: &str, password: &str) -> Result<Option<Account>, AccountError> {
        let accounts = self.look()?;
        self.passwords.verify(&accounts, name, password).await
    }

    /// The current accounts. Reads the file if it has changed since the last read.
    ///
    /// # Errors
    ///
    /// [`AccountError::File`].
    pub fn look(&self) -> Result<Snapshot, AccountError> {
        let mut known = lock(&self.known);
        // Take the stamp before the content: if the content is newer than its stamp, it is read once more and never
        // missed.
        let stamp = match fs::metadata(&self.path) {
            Ok(metadata) => Some(stamp(&metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(self.fail(error)),
        };
        if let (Some((of, known)), Some(stamp)) = (&*known, stamp)
            && *of == stamp
        {
            return Ok(known.clone());
        }
        if stamp.is_none() && known.is_some() {
            return Err(self.missing());
        }
        let snapshot = Snapshot(Arc::new(self.read()?));
        // Without a file there is no stamp to recognize it by.
        *known = stamp.map(|stamp| (stamp, snapshot.clone()));
        Ok(snapshot)
    }

    fn read(&self) -> Result<Names, AccountError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return self.none_yet(),
            Err(error) => return Err(self.fail(error)),
        };
        format::read(&bytes).map_err(|reason| self.say(reason))
    }

    /// No accounts, if there never were any.
    fn none_yet(&self) -> Result<Names, AccountError> {
        if self.is_marked().map_err(|error| self.fail(error))? { Err(self.missing()) } else { Ok(Names::default()) }
    }

    fn missing(&self) -> AccountError {
        let marker = self.marker();
        self.say(format!(
            "it is missing, but there were accounts; restore it, or stop the gateway and remove {} to \
             start without any",
            marker.display()
        ))
    }

    /// The file that is locked for a change. It is not empty once there were accounts.
    fn marker(&self) -> PathBuf {
        self.path.with_extension("lock")
    }

    fn is_marked(&self) -> io::Result<bool> {
        match fs::metadata(self.marker()) {
            Ok(metadata) => Ok(metadata.len() > 0),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Locks the accounts against changes by other processes. The file is not truncated.
    fn lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let alone = options.open(self.marker())?;
        alone.lock()?;
        Ok(alone)
    }

    /// Changes the file under the lock.
    fn change(&self, change: impl FnOnce(&mut Names) -> Result<(), NotChanged>) -> Result<(), AccountError> {
        let alone = self.lock().map_err(|error| self.fail(error))?;
        let mut roster = self.read()?;
        change(&mut roster).map_err(AccountError::of)?;
        replace(&self.path, &format::write(&roster)).map_err(|error| self.fail(error))?;
        self.mark(&alone).map_err(|error| self.fail(error))
    }

    /// Records that there were accounts.
    fn mark(&self, mut alone: &File) -> io::Result<()> {
        if self.is_marked()? {
            return Ok(());
        }
        alone.write_all(b"there were accounts\n")?;
        alone.sync_all()
    }

    fn say(&self, reason: impl fmt::Display) -> AccountError {
        AccountError::File(format!("{}: {reason}", self.path.display()).into())
    }

    fn fail(&self, cause: io::Error) -> AccountError {
        AccountError::File(FileError::because(format!("{}: {cause}", self.path.display()), cause))
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Whether this is a valid account name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

fn stamp(metadata: &Metadata) -> Stamp {
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Stamp(metadata.modified().ok(), metadata.len(), inode)
}
