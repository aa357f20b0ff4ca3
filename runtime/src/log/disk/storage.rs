//! The file operations of the log, as an interface, so that tests can cut, flip, fill and fail files.

use core::fmt::Debug;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::log::NotOpened;
use crate::support::private_file;

/// A directory of files. All methods block.
pub trait Storage: Debug + Send + Sync + 'static {
    /// Returns the names of the files.
    ///
    /// # Errors
    ///
    /// The disk's error.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file, replacing an existing one.
    ///
    /// # Errors
    ///
    /// The disk's error.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Block>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    ///
    /// The disk's error; [`io::ErrorKind::NotFound`] if there is no such file.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Block>>;

    /// Renames a file, replacing a file that has the new name.
    ///
    /// # Errors
    ///
    /// The disk's error.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. It stays readable where it is already open.
    ///
    /// # Errors
    ///
    /// The disk's error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names of the files durable.
    ///
    /// # Errors
    ///
    /// The disk's error.
    fn sync_names(&self) -> io::Result<()>;

    /// Identifies this boot of the machine: while it stays the same, data that was written to a file is still there,
    /// even if it was never synced. `None` if unknown.
    fn boot(&self) -> Option<String>;
}

/// A file.
pub trait Block: Debug + Send + Sync + 'static {
    /// Returns the length in bytes.
    ///
    /// # Errors
    ///
    /// The disk's error.
    fn length(&self) -> io::Result<u64>;

    /// Reads from `at` on, and returns the number of bytes. May read less than fits into `into`; reads nothing at the
    /// end.
    ///
    /// # Errors
    ///
    /// The disk's error.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes from `at` on, and returns the number of bytes. May write less than was given.
    ///
    /// # Errors
    ///
    /// The disk's error.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Makes all writes durable. After an error, the state of everything written since the last success is unknown.
    ///
    /// # Errors
    ///
    /// The disk's error.
    fn sync(&self) -> io::Result<()>;

    /// Whether the file's name still refers to it. A file that was removed or replaced can be read and written while it
    /// is open, but the next opening of the log will not find it.
    fn is_there(&self) -> bool;
}

/// Writes all bytes.
pub(super) fn write_all(file: &dyn Block, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(at, bytes) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "the file accepts no more bytes")),
            Ok(taken) => {
                at += taken as u64;
                bytes = bytes.get(taken..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads up to `most` bytes from `at` on: fewer at the end of the file.
pub(super) fn read(file: &dyn Block, at: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match file.read_at(at + filled as u64, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(taken) => filled += taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads the whole file.
pub(super) fn read_all(file: &dyn Block) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    read(file, 0, length)
}

/// Files of the operating system, in a directory that only this process writes.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    /// Held until the last user of the directory is gone.
    _lock: File,
}

impl Files {
    /// Creates the directory if it does not exist, and locks it.
    ///
    /// # Errors
    ///
    /// [`NotOpened`], if the directory cannot be created or another process writes it.
    pub fn open(path: &Path) -> Result<Self, NotOpened> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(path).map_err(|error| NotOpened::because(error.to_string(), error))?;
        let lock = private_file::options().write(true).create(true).truncate(false).open(path.join("lock"));
        let lock = lock.map_err(|error| NotOpened::because(format!("its lock cannot be opened: {error}"), error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err("another process is writing it".into()),
            Err(TryLockError::Error(error)) => Err(NotOpened::because(format!("it cannot be locked: {error}"), error)),
        }
    }
}

impl Storage for Files {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Block>> {
        let mut options = private_file::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(self.path.join(name))?;
        Ok(Arc::new(OsFile { file, path: self.path.join(name) }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Block>> {
        let path = self.path.join(name);
        Ok(Arc::new(OsFile { file: private_file::options().read(true).write(true).open(&path)?, path }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        #[cfg(unix)]
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }

    fn boot(&self) -> Option<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned())
    }
}

#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
}

impl Block for OsFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, into, at)
    }

    #[cfg(unix)]
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.file, bytes, at)
    }

    #[cfg(windows)]
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, into, at)
    }

    #[cfg(windows)]
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.file, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    #[cfg(unix)]
    fn is_there(&self) -> bool {
        let of = |about: std::fs::Metadata| {
            use std::os::unix::fs::MetadataExt;
            (about.dev(), about.ino())
        };
        // An unknown answer is no reason to rewrite everything.
        match (self.file.metadata().map(of), std::fs::metadata(&self.path).map(of)) {
            (Ok(open), Ok(named)) => open == named,
            (_, Err(error)) => error.kind() != io::ErrorKind::NotFound,
            (Err(_), Ok(_)) => true,
        }
    }

    #[cfg(windows)]
    fn is_there(&self) -> bool {
        // Windows does not remove open files.
        true
    }
}
