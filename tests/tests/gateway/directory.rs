//! A gateway's data directory: one process at a time, and unchanged permissions.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use lockstep_gateway::accounts::Accounts;
use lockstep_gateway::directory::{DataDir, DirectoryError, LOCK_FILE};

use crate::hostile::starts::{Folder, Process, gateway, settings};

/// A directory's content: each file's inode, mode and bytes.
fn content(directory: &Path) -> BTreeMap<String, (u64, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let (name, about) = (entry.file_name().into_string().expect("text"), entry.metadata().expect("metadata"));
        if about.is_dir() {
            found.extend(content(&entry.path()).into_iter().map(|(below, file)| (format!("{name}/{below}"), file)));
        } else {
            // The socket for hand-over requests has no bytes.
            let bytes = if about.is_file() { std::fs::read(entry.path()).expect("a file") } else { Vec::new() };
            found.insert(name, (about.ino(), about.mode() & 0o7777, bytes));
        }
    }
    found
}

#[tokio::test]
async fn a_second_gateway_on_a_directory_refuses_and_changes_nothing_whatever_the_log() {
    for kind in ["disk", "memory"] {
        let folder = Folder::new();
        let auth = format!("[auth]\nissuer = \"accounts\"\n[log]\nkind = \"{kind}\"");
        let file = settings(&folder, "", &auth);
        let mut first = Process::start(gateway(), &file);
        first.address().await;
        let before = content(&folder.path("data"));
        let said = Process::start(gateway(), &file).says("FAILED ").await;
        assert!(said.contains("is in use by the gateway with process id"), "{kind}: {said}");
        assert!(said.contains(&folder.path("data").display().to_string()), "{kind}: {said}");
        assert_eq!(content(&folder.path("data")), before, "{kind}: the second one changed something");
        // Accounts have their own lock.
        let accounts = Accounts::open(&folder.path("data")).expect("accounts");
        accounts.add("ada", "a long enough password").await.expect("an account beside a running gateway");
        first.terminate().await;
        let mut next = Process::start(gateway(), &file);
        next.address().await;
        next.terminate().await;
    }
}

#[test]
fn a_directory_is_free_again_when_its_holder_is_gone() {
    let folder = Folder::new();
    let held = DataDir::open(&folder.path("data")).expect("a free directory");
    assert_eq!(held.path(), folder.path("data"));
    let refused = DataDir::open(&folder.path("data")).expect_err("it is held");
    let DirectoryError::InUse { path, holder } = &refused else { panic!("{refused}") };
    assert_eq!(*path, folder.path("data"));
    assert!(refused.to_string().contains(&format!("is in use by {holder}; stop it")), "{refused}");
    drop(held);
    DataDir::open(&folder.path("data")).expect("a directory whose holder is gone");
}

#[tokio::test]
async fn a_new_directory_and_every_file_in_it_are_the_owners_alone() {
    let folder = Folder::new();
    let mut process = Process::start(gateway(), &settings(&folder, "", "[auth]\nissuer = \"accounts\""));
    process.address().await;
    process.terminate().await;
    let directory = std::fs::metadata(folder.path("data")).expect("a directory");
    assert_eq!(directory.mode() & 0o7777, 0o700);
    let files = content(&folder.path("data"));
    assert!(files.contains_key(LOCK_FILE) && files.len() > 3, "{:?}", files.keys());
    // A lock file may be empty; it then contains nothing to find.
    for (name, (_, mode, _)) in files.into_iter().filter(|(_, (.., bytes))| !bytes.is_empty()) {
        assert_eq!(mode, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_directory_that_exists_keeps_its_permissions() {
    for mode in [0o755, 0o1777, 0o2775] {
        let folder = Folder::new();
        let data = folder.path("data");
        std::fs::DirBuilder::new().mode(0o700).create(&data).expect("a directory");
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).expect("a mode");
        std::fs::write(data.join("of others"), b"x").expect("a file");
        let mut process = Process::start(gateway(), &settings(&folder, "", ""));
        process.address().await;
        process.terminate().await;
        assert_eq!(std::fs::metadata(&data).expect("a directory").mode() & 0o7777, mode);
        assert_eq!(std::fs::read(data.join("of others")).expect("a file"), b"x");
    }
}
