//! Accounts of the built-in login: names and argon2id hashes (RFC 9106) in one file of the data directory.
//!
//! The command line changes the file while the gateway runs. Each change is made under a lock on a second file, and put
//! in the place of the old file in one step; the gateway looks at the file whenever it needs an account, and reads it if
//! it is not the one that it knows. What a change means is decided by [`lockstep_model::login::roster`].
//!
//! The file carries a checksum, and one that does not have the right one is refused, whenever it is read: who is logged in
//! stays so, and no login is accepted until it is mended.
//!
//! The second file also tells that there were accounts. While it says so and there is no first file, the accounts cannot
//! be read: one that is being restored from a backup must not look like a gateway without accounts.
//!
//! A password is compared with a hash also if there is no such account, so that the time an answer takes does not tell
//! who has one. At most [`MAX_HASHING`] passwords are hashed at a time, in memory that is used again, and [`MAX_WAITING`]
//! wait for that: hashing is meant to be slow, and must not take the processors or the memory from those who are logged in.

use core::fmt;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use argon2::{Argon2, Params, PasswordHash};
use lockstep_model::login::{Holders, NotChanged, Person};
use tokio::sync::Semaphore;

use crate::payload::now_ms;
use crate::private::replace;
use crate::sync::lock;

use book::Names;
use hash::Hasher;

mod book;
mod hash;

/// The file in the data directory.
pub const FILE: &str = "accounts.json";
/// Bytes of a name.
pub const MAX_NAME: usize = 64;
/// Bytes of a password.
pub const MIN_PASSWORD: usize = 8;
/// Bytes of a password.
pub const MAX_PASSWORD: usize = 1024;
/// Passwords that are hashed at a time.
pub const MAX_HASHING: usize = 2;
/// Passwords that wait to be hashed.
pub const MAX_WAITING: usize = 64;
/// Bytes of the salt (RFC 9106 §4).
const SALT: usize = 16;

/// What a hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Cost {
    /// 19 MiB and two passes, as OWASP recommends.
    pub const DEFAULT: Self = Self { memory: Params::DEFAULT_M_COST, passes: Params::DEFAULT_T_COST };
}

/// Why an account was not added, changed, found or looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountError {
    /// A name is 1 to 64 of `a-z`, `0-9`, `.`, `_` and `-`.
    BadName,
    /// A password has 8 to 1024 bytes.
    BadPassword,
    /// The account is there already.
    Exists,
    /// There is no such account.
    Unknown,
    /// Too many passwords wait to be hashed.
    Busy,
    /// The file cannot be read or written, or is not what it should be: a sentence that names it.
    File(String),
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => write!(f, "a name is 1 to {MAX_NAME} of a-z, 0-9, '.', '_' and '-'"),
            Self::BadPassword => write!(f, "a password has {MIN_PASSWORD} to {MAX_PASSWORD} bytes"),
            Self::Exists => f.write_str("the account is there already"),
            Self::Unknown => f.write_str("there is no such account"),
            Self::Busy => f.write_str("too many passwords wait to be hashed"),
            Self::File(reason) => f.write_str(reason),
        }
    }
}

impl core::error::Error for AccountError {}

/// An account, as it was when its password was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: Arc<str>,
    /// Whose it is: the name, or `name#2` and so on for those who had the name later.
    pub subject: Arc<str>,
    /// The version of its password. No other password of this subject has the same.
    pub changed: u64,
}

/// The name under which everything of a person is kept. No account is called so but the first of its name.
fn subject(name: &str, incarnation: u32) -> Arc<str> {
    if incarnation == 1 { Arc::from(name) } else { Arc::from(format!("{name}#{incarnation}")) }
}

/// Whom an operator means by a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    /// The subject of the person who has the account now, if there is one.
    pub now: Option<Arc<str>>,
    /// Subjects of persons who had the name before and of whom not everything is erased, newest first.
    pub earlier: Vec<Arc<str>>,
}

impl Subjects {
    /// One subject, taken as it is.
    #[must_use]
    pub fn one(subject: &str) -> Self {
        Self { now: Some(Arc::from(subject)), earlier: Vec::new() }
    }

    /// All of them, the present one first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        self.now.iter().chain(&self.earlier)
    }
}

/// The accounts as they were at one look.
#[derive(Clone)]
pub struct Snapshot(Arc<Names>);

impl Snapshot {
    /// Whether the account was there, with the password with which it was found.
    #[must_use]
    pub fn has(&self, account: &Account) -> bool {
        self.0.accounts().get(&*account.name).is_some_and(|entry| {
            entry.version == account.changed && subject(&account.name, entry.incarnation) == account.subject
        })
    }

    /// Whether both looks saw the same file.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether there is an account of that name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.0.accounts().contains_key(name)
    }

    /// Whom an operator means: an account's name means the person who has it now and those before who are not erased;
    /// `name#2` means the second person of that name alone, and `name#1` the first. `None` if there is no such person.
    #[must_use]
    pub fn meant(&self, text: &str) -> Option<Subjects> {
        let (name, incarnation) = match text.split_once('#') {
            Some((name, incarnation)) => (name, Some(incarnation.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let Holders { now, earlier } = self.0.holders(&name.to_owned());
        let is_meant = |person: &Person<String>| incarnation.is_none_or(|meant| meant == person.incarnation);
        let subject = |person: Person<String>| subject(&person.name, person.incarnation);
        let meant = Subjects {
            now: now.filter(is_meant).map(subject),
            earlier: earlier.into_iter().filter(is_meant).map(subject).collect(),
        };
        Some(meant).filter(|meant| meant.all().next().is_some())
    }

    /// The subjects, each with the version of its password.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<Arc<str>, u64> {
        self.0.versions().map(|(person, version)| (subject(&person.name, person.incarnation), version)).collect()
    }

    /// The subjects that are gone, and of whom not everything is erased.
    pub fn erasures(&self) -> impl Iterator<Item = Arc<str>> {
        self.0.erasures().iter().map(|person| subject(&person.name, person.incarnation))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.accounts().keys()).finish()
    }
}

/// What tells one version of the file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<SystemTime>, u64, u64);

/// The accounts of one data directory. Shared by all who log in.
pub struct Accounts {
    path: PathBuf,
    cost: Cost,
    /// A hash that no password has, to be compared with where there is no account.
    nobody: String,
    known: Mutex<Option<(Stamp, Snapshot)>>,
    queue: Arc<Semaphore>,
    hashing: Arc<Semaphore>,
    hasher: Arc<Hasher>,
}

impl Accounts {
    /// The accounts in that data directory; none if there is no file yet.
    ///
    /// # Errors
    ///
    /// [`AccountError::File`], if there is one that cannot be used.
    pub fn open(directory: &Path) -> Result<Self, AccountError> {
        Self::with_cost(directory, Cost::DEFAULT)
    }

    /// The same, with hashes that cost more or less. Accounts keep the cost that they were made with.
    ///
    /// # Errors
    ///
    /// As [`Accounts::open`].
    pub fn with_cost(directory: &Path, cost: Cost) -> Result<Self, AccountError> {
        let nobody =
            format!("$argon2id$v=19$m={},t={},p=1${}${}", cost.memory, cost.passes, "A".repeat(22), "A".repeat(43));
        let accounts = Self {
            path: directory.join(FILE),
            cost,
            nobody,
            known: Mutex::new(None),
            queue: Arc::new(Semaphore::new(MAX_HASHING + MAX_WAITING)),
            hashing: Arc::new(Semaphore::new(MAX_HASHING)),
            hasher: Arc::default(),
        };
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
        Ok(self.look()?.0.accounts().keys().cloned().collect())
    }

    /// Opens an account. Another person's who had the name is not found in it.
    ///
    /// # Errors
    ///
    /// All but [`AccountError::Unknown`].
    pub async fn add(&self, name: &str, password: &str) -> Result<(), AccountError> {
        if self.look()?.knows(name) {
            return Err(AccountError::Exists);
        }
        let hash = self.hash(name, password).await?;
        self.change(|roster| roster.add(name.to_owned(), hash, now_ms()))
    }

    /// Sets another password. A gateway that runs notices, and who is logged in with the old one must log in again.
    ///
    /// # Errors
    ///
    /// All but [`AccountError::Exists`].
    pub async fn passwd(&self, name: &str, password: &str) -> Result<(), AccountError> {
        if !self.look()?.knows(name) {
            return Err(AccountError::Unknown);
        }
        let hash = self.hash(name, password).await?;
        self.change(|roster| roster.change(&name.to_owned(), hash, now_ms()))
    }

    /// Closes an account. A gateway that runs notices, and who is logged in with it is out; what is kept of its user is
    /// erased by the gateway, now or when it next runs.
    ///
    /// # Errors
    ///
    /// [`AccountError::Unknown`] and [`AccountError::File`].
    pub fn remove(&self, name: &str) -> Result<(), AccountError> {
        self.change(|roster| roster.remove(&name.to_owned()))
    }

    /// Everything of a subject that is gone is erased.
    ///
    /// # Errors
    ///
    /// [`AccountError::File`].
    pub fn erased(&self, gone: &str) -> Result<(), AccountError> {
        self.change(|roster| {
            let of = |person: &&Person<String>| *subject(&person.name, person.incarnation) == *gone;
            if let Some(person) = roster.erasures().iter().find(of).cloned() {
                roster.erased(&person);
            }
            Ok(())
        })
    }

    /// Whether this is the account's password: `None` if it is not, or there is no such account, and no telling which.
    ///
    /// # Errors
    ///
    /// [`AccountError::Busy`] and [`AccountError::File`]: it was not found out.
    pub async fn verify(&self, name: &str, password: &str) -> Result<Option<Account>, AccountError> {
        if password.len() > MAX_PASSWORD {
            return Ok(None);
        }
        let entry = self.look()?.0.accounts().get(name).cloned();
        let hash = entry.as_ref().map_or_else(|| self.nobody.clone(), |entry| entry.hash.clone());
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

    /// The accounts as they are now. Reads the file if it is not the one that was read last.
    ///
    /// # Errors
    ///
    /// [`AccountError::File`].
    pub fn look(&self) -> Result<Snapshot, AccountError> {
        let mut known = lock(&self.known);
        // The stamp before the content: content that is newer than its stamp is read once more, never missed.
        let stamp = match fs::metadata(&self.path) {
            Ok(metadata) => Some(stamp(&metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(self.say(error)),
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
        // Without a file there is nothing to recognize it by.
        *known = stamp.map(|stamp| (stamp, snapshot.clone()));
        Ok(snapshot)
    }

    async fn hash(&self, name: &str, password: &str) -> Result<String, AccountError> {
        if !is_name(name) {
            return Err(AccountError::BadName);
        }
        if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&password.len()) {
            return Err(AccountError::BadPassword);
        }
        let (password, cost) = (password.to_owned(), self.cost);
        let hash = move |hasher: &Hasher| {
            let salt = crate::random_bytes::<SALT>()?;
            let params = Params::new(cost.memory, cost.passes, 1, None).map_err(|error| error.to_string())?;
            hasher.hash(&Argon2::from(params), password.as_bytes(), &salt)
        };
        self.work(hash).await
    }

    /// Does what takes long away from the tasks. It holds its place until it is done, also if nobody waits any more.
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
            Ok(done) => done.map_err(|error| AccountError::File(format!("a hash of a password: {error}"))),
            Err(_) => Err(AccountError::Busy),
        }
    }

    fn read(&self) -> Result<Names, AccountError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return self.none_yet(),
            Err(error) => return Err(self.say(error)),
        };
        book::read(&bytes).map_err(|reason| self.say(reason))
    }

    /// No account, if there never was one.
    fn none_yet(&self) -> Result<Names, AccountError> {
        if self.is_marked().map_err(|error| self.say(error))? { Err(self.missing()) } else { Ok(Names::default()) }
    }

    fn missing(&self) -> AccountError {
        let marker = self.marker();
        self.say(format!(
            "it is missing, and there were accounts; restore it, or stop the gateway and remove {} to begin without any",
            marker.display()
        ))
    }

    /// The file that is locked for a change, and has bytes once there were accounts.
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

    /// The lock, which no other process holds. The file is not cut.
    fn lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let alone = options.open(self.marker())?;
        alone.lock()?;
        Ok(alone)
    }

    /// Changes the file, while no other process does.
    fn change(&self, change: impl FnOnce(&mut Names) -> Result<(), NotChanged>) -> Result<(), AccountError> {
        let alone = self.lock().map_err(|error| self.say(error))?;
        let mut roster = self.read()?;
        change(&mut roster).map_err(|not| match not {
            NotChanged::Exists => AccountError::Exists,
            NotChanged::Unknown => AccountError::Unknown,
        })?;
        replace(&self.path, &book::write(&roster)).map_err(|error| self.say(error))?;
        self.mark(&alone).map_err(|error| self.say(error))
    }

    /// From now on there were accounts.
    fn mark(&self, mut alone: &File) -> io::Result<()> {
        if self.is_marked()? {
            return Ok(());
        }
        alone.write_all(b"there were accounts\n")?;
        alone.sync_all()
    }

    fn say(&self, reason: impl fmt::Display) -> AccountError {
        AccountError::File(format!("{}: {reason}", self.path.display()))
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Whether an account may be called that.
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
