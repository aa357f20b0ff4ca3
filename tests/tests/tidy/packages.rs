//! `tests/packages` on a machine whose package system is locked by another process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A fake apt-get: fails that many times with these words, and records its arguments.
fn fake(directory: &Path, failures: u32, words: &str) {
    let script = format!(
        "#!/bin/sh\ncd {directory}\necho \"$*\" >> asked\n[ $(wc -l < asked) -gt {failures} ] || {{ echo '{words}' >&2; exit 100; }}\n",
        directory = directory.display()
    );
    for (name, text) in [("apt-get", script.as_str()), ("sudo", "#!/bin/sh\nexec \"$@\"\n")] {
        let path = directory.join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a file");
    }
}

/// Whether a package was installed, the output, and the calls of apt-get.
fn installed(failures: u32, words: &str, patience: &str) -> (bool, String, Vec<String>) {
    let directory: PathBuf =
        std::env::temp_dir().join(format!("lockstep-packages-{}-{failures}-{patience}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    fake(&directory, failures, words);
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packages"))
        .arg("some-package")
        .envs([("PATH", path.as_str()), ("PACKAGES_PATIENCE", patience), ("PACKAGES_PAUSE", "0")])
        .output()
        .expect("a shell");
    let asked = fs::read_to_string(directory.join("asked")).unwrap_or_default();
    fs::remove_dir_all(&directory).expect("a directory");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said, asked.lines().map(str::to_owned).collect())
}

const LOCKED: [&str; 3] = [
    "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1234 (apt-get)",
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1234 (unattended-upgr)",
    "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?",
];

#[test]
fn a_package_system_that_is_locked_is_waited_for() {
    for words in LOCKED {
        let (installed, said, asked) = installed(3, words, "60");
        assert!(installed, "{said}");
        assert_eq!(asked.len(), 5, "{asked:?}");
        assert!(asked[..4].iter().all(|asked| asked.ends_with(" update")), "{asked:?}");
        assert!(asked[4].ends_with("install -y --no-install-recommends some-package"), "{asked:?}");
        assert!(asked.iter().all(|asked| asked.contains("DPkg::Lock::Timeout=60")), "{asked:?}");
        assert_eq!(said.matches("waiting").count(), 3, "{said}");
    }
}

#[test]
fn what_no_waiting_helps_against_fails_and_is_said() {
    let (installed_at_last, said, asked) = installed(1_000, LOCKED[0], "0");
    assert!(!installed_at_last && said.contains("waited for") && said.contains("held by process 1234"), "{said}");
    assert_eq!(asked.len(), 2, "{asked:?}");
    let (installed_at_last, said, asked) = installed(1_000, "E: Unable to locate package some-package", "61");
    assert!(!installed_at_last && said.contains("Unable to locate"), "{said}");
    assert_eq!(asked.len(), 2, "{asked:?}");
}
