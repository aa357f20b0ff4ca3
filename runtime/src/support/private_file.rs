//! Files that only their owner can read. Everything here blocks on the disk.

use std::fs;
use std::fs::{File, OpenOptions};
use std::io;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Creates a file that must not exist yet.
///
/// # Errors
///
/// The disk's error.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    options().write(true).create_new(true).open(path)
}

/// Options that make a newly created file readable only by its owner.
#[must_use]
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Whether an open file still has a name: data written to a removed file is lost with the process.
#[cfg(feature = "jwt")]
pub(crate) fn is_linked(file: &File) -> bool {
    #[cfg(unix)]
    return file.metadata().is_ok_and(|about| std::os::unix::fs::MetadataExt::nlink(&about) > 0);
    #[cfg(not(unix))]
    {
        let _ = file;
        true
    }
}

/// Creates a file that must not exist yet, with these bytes. When this returns, it is on disk.
///
/// # Errors
///
/// The disk's error.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fill(path, bytes)?;
    sync_name(path)
}

/// Atomically replaces a file's content with `bytes`: after a crash it is the old one or the new one.
///
/// # Errors
///
/// The disk's error.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = path.with_file_name(name);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fill(&draft, bytes)?;
    fs::rename(&draft, path)?;
    sync_name(path)
}

fn fill(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A file's name is on disk once its directory is synced.
fn sync_name(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        File::open(if directory.as_os_str().is_empty() { Path::new(".") } else { directory })?.sync_all()?;
    }
    Ok(())
}
