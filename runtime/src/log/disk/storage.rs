//! Files as the log needs them: a seam, so that tests can cut, flip, fill and fail them.

use core::fmt::Debug;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::private;

/// A directory of files. Everything here blocks.
pub trait Storage: Debug + Send + Sync + 'static {
    /// The names of the files.
    ///
    /// # Errors
    ///
    /// What the disk said.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file, in place of one that may be there.
    ///
    /// # Errors
    ///
    /// What the disk said.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Block>>;

    /// Opens a file that is there, to read and to write.
    ///
    /// # Errors
    ///
    /// What the disk said; [`io::ErrorKind::NotFound`] if there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Block>>;

    /// Gives a file another name, in place of the file that may have that name.
    ///
    /// # Errors
    ///
    /// What the disk said.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Who has it open can still read it.
    ///
    /// # Errors
    ///
    /// What the disk said.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which files there are.
    ///
    /// # Errors
    ///
    /// What the disk said.
    fn sync_names(&self) -> io::Result<()>;

    /// What identifies this start of the machine: what a file was given is still there while this is the same, though it
    /// was never synced. `None` if that is not known.
    fn boot(&self) -> Option<String>;
}

/// A file.
pub trait Block: Debug + Send + Sync + 'static {
    /// How many bytes it has.
    ///
    /// # Errors
    ///
    /// What the disk said.
    fn length(&self) -> io::Result<u64>;

    /// Reads from there on; less than there is room for, perhaps, and nothing at the end.
    ///
    /// # Errors
    ///
    /// What the disk said.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes from there on; less than was given, perhaps.
    ///
    /// # Errors
    ///
    /// What the disk said.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Makes durable what was written. After an error nothing is known of what was written since the last success.
    ///
    /// # Errors
    ///
    /// What the disk said.
    fn sync(&self) -> io::Result<()>;

    /// Whether it is the file that its name stands for. One that was removed or replaced can be read and written as long as it
    /// is open, and no opening of the log will find it.
    fn is_there(&self) -> bool;
}

/// Writes all of it.
pub(super) fn write_all(file: &dyn Block, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(at, bytes) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "the file takes no more")),
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

/// Reads up to `most` bytes from there on: fewer at the end of the file.
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

/// Reads all of it.
pub(super) fn read_all(file: &dyn Block) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    read(file, 0, length)
}

/// Files of the operating system, in a directory that this process alone writes.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    /// Held until the last user of the directory is gone.
    _lock: File,
}

impl Files {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    ///
    /// A sentence, if it cannot be made or another process writes it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(path).map_err(|error| error.to_string())?;
        let lock = private::options().write(true).create(true).truncate(false).open(path.join("lock"));
        let lock = lock.map_err(|error| format!("its lock cannot be opened: {error}"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err("another process writes it".to_owned()),
            Err(TryLockError::Error(error)) => Err(format!("it cannot be locked: {error}")),
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
        let mut options = private::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(self.path.join(name))?;
        Ok(Arc::new(OsFile { file, path: self.path.join(name) }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Block>> {
        let path = self.path.join(name);
        Ok(Arc::new(OsFile { file: private::options().read(true).write(true).open(&path)?, path }))
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
        // What cannot be found out is no reason to write everything again.
        match (self.file.metadata().map(of), std::fs::metadata(&self.path).map(of)) {
            (Ok(open), Ok(named)) => open == named,
            (_, Err(error)) => error.kind() != io::ErrorKind::NotFound,
            (Err(_), Ok(_)) => true,
        }
    }

    #[cfg(windows)]
    fn is_there(&self) -> bool {
        // Windows removes no file that is open.
        true
    }
}
