//! The data directory. Only one gateway uses it at a time, whatever it stores there.
//!
//! A gateway takes the lock before it reads or writes anything else in the directory, so a second one changes nothing.
//! The operating system releases the lock when the process ends in any way. Commands that manage accounts run beside a
//! gateway: they do not take this lock, because the accounts have their own.
//!
//! Directories that the gateway creates are accessible only to their owner (0700). An existing directory keeps its
//! permissions, because other users may need access to it; if they can change its content, the log says so. Each file
//! is accessible only to its owner (0600).

use core::fmt;
use lockstep::internal::private;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The lock file. It is never removed: otherwise two processes could lock two different files of that name.
pub const LOCK_FILE: &str = "gateway.lock";

/// Why a data directory cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It cannot be created.
    Create {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It cannot be locked.
    Lock {
        /// The lock file.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Another gateway serves it.
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other gateway, as far as it is known.
        holder: String,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { path, source } => {
                write!(f, "cannot create the data directory {}: {source}", path.display())
            }
            Self::Lock { file, source } => {
                write!(f, "cannot lock the data directory with {}: {source}", file.display())
            }
            Self::InUse { path, holder } => write!(
                f,
                "the data directory {} is in use by {holder}; stop it, or choose another with --data-dir",
                path.display()
            ),
        }
    }
}

impl core::error::Error for DirectoryError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Create { source, .. } | Self::Lock { source, .. } => Some(source),
            Self::InUse { .. } => None,
        }
    }
}

/// A data directory that only this process serves, as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

impl DataDir {
    /// Creates the directory if it does not exist, and locks it.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`], if the directory cannot be created or locked, or is in use.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        prepare(path)?;
        let file = path.join(LOCK_FILE);
        let fail = |source| DirectoryError::Lock { file: file.clone(), source };
        let mut lock =
            private::options().read(true).write(true).create(true).truncate(false).open(&file).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DirectoryError::InUse { path: path.to_owned(), holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        // The content is only for another process's error message. The lock holds without it, even on a full disk.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        warn_of_others(path);
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Adopts the directory with a lock that another process held and has passed on as an open file.
    #[must_use]
    pub fn inherit(path: &Path, mut lock: File) -> Self {
        let _ = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Self { path: path.to_owned(), lock }
    }

    /// The lock, for a process that passes it on or opens the directory later.
    #[must_use]
    pub fn into_lock(self) -> File {
        self.lock
    }

    /// The directory's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file whose lock this process holds. A process that inherits the open file holds the lock too.
    #[must_use]
    pub const fn lock(&self) -> &File {
        &self.lock
    }
}

/// The process that holds the lock, according to the file.
fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.rewind().and_then(|()| lock.take(32).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(process)) => format!("the gateway with process id {process}"),
        (_, _) => "another gateway".to_owned(),
    }
}

/// Creates the directory, accessible only to its owner. An existing directory is left as it is.
///
/// # Errors
///
/// [`DirectoryError::Create`].
pub fn prepare(path: &Path) -> Result<(), DirectoryError> {
    let fail = |source| DirectoryError::Create { path: path.to_owned(), source };
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).map_err(fail)
}

/// Warns if other users can add, replace or remove files there.
fn warn_of_others(path: &Path) {
    #[cfg(unix)]
    if let Ok(about) = std::fs::metadata(path) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o7777;
        if mode & 0o022 != 0 {
            let path = path.display();
            tracing::warn!(
                "the data directory {path} has mode {mode:04o}: others than its owner can replace the files in it; \
                 run `chmod 700 {path}` unless they need to"
            );
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}
