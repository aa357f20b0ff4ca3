//! Accounts and passwords.

use std::fs;
use std::sync::Arc;

use lockstep_gateway::accounts::{AccountError, Accounts, Cost, FILE, MAX_HASHING, MAX_WAITING, Subjects};

use super::support::Directory;

/// The lowest cost that argon2 accepts.
pub(crate) const CHEAP: Cost = Cost { memory: 8, passes: 1 };

fn open(directory: &Directory) -> Accounts {
    Accounts::with_cost(directory.path(), CHEAP).expect("accounts")
}

#[tokio::test]
async fn an_account_is_found_with_its_password_and_no_other_until_it_is_removed() {
    let directory = Directory::new();
    let accounts = open(&directory);
    assert_eq!(accounts.verify("ann", "correct horse").await, Ok(None), "no account exists by itself");
    accounts.add("ann", "correct horse").await.expect("added");
    accounts.add("bob.b_2-x", "battery staple").await.expect("added");
    assert_eq!(accounts.list(), Ok(vec!["ann".to_owned(), "bob.b_2-x".to_owned()]));
    for accounts in [&accounts, &open(&directory)] {
        let found = accounts.verify("ann", "correct horse").await.expect("known").expect("right");
        assert_eq!(&*found.name, "ann");
        for (name, password) in [
            ("ann", "correct horse "),
            ("ann", "battery staple"),
            ("ann", ""),
            ("bob.b_2-x", "correct horse"),
            ("Ann", "correct horse"),
            ("", ""),
            ("carl", "correct horse"),
        ] {
            assert_eq!(accounts.verify(name, password).await, Ok(None), "{name} {password}");
        }
    }
    assert_eq!(accounts.add("ann", "another one").await, Err(AccountError::Exists));
    accounts.remove("ann").expect("removed");
    assert_eq!(accounts.remove("ann"), Err(AccountError::Unknown));
    assert_eq!(accounts.passwd("ann", "another one").await, Err(AccountError::Unknown));
    assert_eq!(accounts.verify("ann", "correct horse").await, Ok(None));
}

#[tokio::test]
async fn names_and_passwords_have_bounds() {
    let directory = Directory::new();
    let accounts = open(&directory);
    let long = "x".repeat(65);
    for name in ["", "Ann", "ann smith", "änn", "a/b", "a\n", "$", &long] {
        assert_eq!(accounts.add(name, "correct horse").await, Err(AccountError::BadName), "{name:?}");
    }
    for password in ["", "seven77", &"x".repeat(1025)] {
        assert_eq!(accounts.add("ann", password).await, Err(AccountError::BadPassword));
    }
    accounts.add(&long[..64], &"x".repeat(1024)).await.expect("the longest");
    accounts.add("x", "eight888").await.expect("the shortest");
    assert!(accounts.verify(&long[..64], &"x".repeat(1024)).await.expect("known").is_some());
    assert_eq!(accounts.verify("x", &"x".repeat(1025)).await, Ok(None));
}

#[tokio::test]
async fn what_another_process_changes_is_seen_at_once() {
    let directory = Directory::new();
    let (server, command) = (open(&directory), open(&directory));
    command.add("ann", "password 0").await.expect("added");
    let mut before = None;
    // Each change has the same length as the one before, and may happen in the same tick of the file system's clock.
    for number in 1..50 {
        let (old, new) = (format!("password {}", (number - 1) % 10), format!("password {}", number % 10));
        let account = server.verify("ann", &old).await.expect("known").expect("right");
        assert!(server.look().expect("known").has(&account));
        command.passwd("ann", &new).await.expect("changed");
        assert!(!server.look().expect("known").has(&account));
        assert_eq!(server.verify("ann", &old).await, Ok(None));
        let changed = server.verify("ann", &new).await.expect("known").expect("right");
        assert_ne!(Some(&changed), before.as_ref());
        before = Some(changed);
    }
    command.remove("ann").expect("removed");
    assert_eq!(server.list(), Ok(vec![]));
}

/// If the accounts file is missing, for a while or for good, the gateway does not act as if there were no accounts.
#[tokio::test]
async fn accounts_that_are_missing_cannot_be_read_unless_there_never_were_any() {
    let directory = Directory::new();
    let (server, path) = (open(&directory), directory.path().join(FILE));
    assert_eq!(server.list(), Ok(vec![]), "there never were any");
    server.add("ann", "correct horse").await.expect("added");
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).expect("away");
    for result in [server.list().map(drop), Accounts::open(directory.path()).map(drop)] {
        let Err(AccountError::File(reason)) = result else { panic!("{result:?}") };
        assert!(reason.to_string().contains("accounts.json: it is missing, but there were accounts"), "{reason}");
    }
    assert!(server.add("eve", "correct horse").await.is_err(), "nor is another one begun");
    fs::rename(&aside, &path).expect("back");
    assert_eq!(server.list(), Ok(vec!["ann".to_owned()]));
    assert_eq!(open(&directory).list(), Ok(vec!["ann".to_owned()]));

    let older = Directory::new();
    older.file(FILE, b"{\"version\":1,\"accounts\":{}}");
    drop(open(&older));
    fs::remove_file(older.path().join(FILE)).expect("removed");
    assert!(Accounts::open(older.path()).is_err(), "a file of an earlier version was an account's file too");
}

#[tokio::test]
async fn a_name_that_is_added_again_is_another_account() {
    let directory = Directory::new();
    let accounts = open(&directory);
    let mut seen = Vec::new();
    for expected in ["ann", "ann#2", "ann#3"] {
        accounts.add("ann", "correct horse").await.expect("added");
        for accounts in [&accounts, &open(&directory)] {
            let account = accounts.verify("ann", "correct horse").await.expect("known").expect("right");
            assert_eq!(&*account.subject, expected);
            let now = accounts.look().expect("accounts");
            assert!(now.has(&account) && seen.iter().all(|before| before == &account || !now.has(before)));
            seen.push(account);
        }
        accounts.passwd("ann", "correct horse").await.expect("changed");
        accounts.remove("ann").expect("removed");
    }
    let erasures = |accounts: &Accounts| accounts.look().expect("accounts").erasures().collect::<Vec<_>>();
    assert_eq!(erasures(&open(&directory)), ["ann", "ann#2", "ann#3"].map(Arc::from));
    accounts.erased("ann#2").expect("noted");
    accounts.erased("nobody").expect("nothing to note");
    assert_eq!(erasures(&open(&directory)), ["ann", "ann#3"].map(Arc::from));
    accounts.add("ann", "correct horse").await.expect("added");
    let account = accounts.verify("ann", "correct horse").await.expect("known").expect("right");
    assert_eq!(&*account.subject, "ann#4", "also once all is erased");

    // The accounts that an operator's text means.
    let meant = |text: &str| accounts.look().expect("accounts").meant(text);
    let subjects = |now: Option<&str>, earlier: &[&str]| {
        Some(Subjects { now: now.map(Arc::from), earlier: earlier.iter().copied().map(Arc::from).collect() })
    };
    assert_eq!(meant("ann"), subjects(Some("ann#4"), &["ann#3", "ann"]));
    assert_eq!(meant("ann#4"), subjects(Some("ann#4"), &[]));
    assert_eq!(meant("ann#1"), subjects(None, &["ann"]));
    for unknown in ["ann#2", "ann#5", "ann#", "ann#x", "eve", "", "#"] {
        assert_eq!(meant(unknown), None, "{unknown}");
    }
    accounts.remove("ann").expect("removed");
    assert_eq!(meant("ann"), subjects(None, &["ann#4", "ann#3", "ann"]));
}

/// A file of the previous version, and the parameters of its hashes.
#[tokio::test]
async fn accounts_of_an_earlier_version_are_read() {
    let directory = Directory::new();
    let hash = "$argon2id$v=19$m=8,t=1,p=1$c29tZSBzYWx0$MkrWPYYrK5BgrO3VPfmgSmr1+sdgWW7ejbBoJ2AJfkE";
    let other = open(&directory);
    other.add("bob", "battery staple").await.expect("added");
    let text = fs::read_to_string(directory.path().join(FILE)).expect("a file");
    let made = text.split('"').find(|word| word.starts_with("$argon2id")).expect("a hash");
    let accounts = format!(r#"{{"ann":{{"hash":"{made}","changed":7}},"eve":{{"hash":"{hash}","changed":8}}}}"#);
    directory.file(FILE, format!(r#"{{"version":1,"accounts":{accounts}}}"#).as_bytes());
    let accounts = open(&directory);
    let ann = accounts.verify("ann", "battery staple").await.expect("known").expect("right");
    assert_eq!((&*ann.subject, ann.changed), ("ann", 7));
    assert_eq!(accounts.verify("eve", "battery staple").await, Ok(None));
    accounts.remove("ann").expect("removed");
    assert_eq!(accounts.list(), Ok(vec!["eve".to_owned()]));
}

#[tokio::test]
async fn two_concurrent_changes_of_the_file_both_succeed() {
    let directory = Directory::new();
    let adding: Vec<_> = (0..24)
        .map(|number| {
            let accounts = open(&directory);
            tokio::spawn(async move { accounts.add(&format!("user{number}"), "correct horse").await })
        })
        .collect();
    for added in adding {
        added.await.expect("no panic").expect("added");
    }
    assert_eq!(open(&directory).list().expect("a list").len(), 24);
}

#[tokio::test]
async fn the_file_is_private_and_holds_argon2id_hashes_with_salts_of_their_own() {
    let directory = Directory::new();
    let accounts = open(&directory);
    accounts.add("ann", "correct horse").await.expect("added");
    accounts.add("bob", "correct horse").await.expect("added");
    let text = fs::read_to_string(directory.path().join(FILE)).expect("a file");
    let hashes: Vec<&str> = text.split('"').filter(|word| word.starts_with("$argon2id$v=19$m=8,t=1,p=1$")).collect();
    assert_eq!(hashes.len(), 2, "{text}");
    assert_ne!(hashes[0], hashes[1]);
    assert!(!text.contains("correct horse"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(directory.path().join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_file_that_is_damaged_is_an_error_and_not_an_empty_list() {
    let directory = Directory::new();
    let accounts = open(&directory);
    for content in [
        "",
        "{",
        "[]",
        "{\"version\":4,\"accounts\":{}}",
        "{\"version\":3,\"accounts\":{}}",
        "{\"version\":1,\"accounts\":{\"ann\":{\"hash\":7}}}",
    ] {
        directory.file(FILE, content.as_bytes());
        for result in [accounts.list().map(drop), Accounts::open(directory.path()).map(drop)] {
            let Err(AccountError::File(reason)) = result else { panic!("{content}: {result:?}") };
            assert!(reason.to_string().contains("accounts.json: "), "{reason}");
        }
        assert!(accounts.verify("ann", "correct horse").await.is_err());
        assert!(accounts.add("ann", "correct horse").await.is_err(), "nor is it overwritten");
    }
}

/// A flipped bit in the file is detected, or the file still has the same meaning. It never yields another account,
/// password or subject.
#[tokio::test]
async fn a_bit_that_has_changed_on_the_disk_is_found_or_changes_nothing() {
    let directory = Directory::new();
    let accounts = open(&directory);
    for name in ["ann", "bob"] {
        accounts.add(name, "battery staple").await.expect("added");
        accounts.remove(name).expect("removed");
    }
    accounts.add("ann", "correct horse").await.expect("added");
    let says = async |accounts: &Accounts| {
        let look = accounts.look().expect("accounts");
        let erasures: Vec<_> = look.erasures().collect();
        (accounts.verify("ann", "correct horse").await, accounts.list(), look.versions(), erasures, look.meant("bob"))
    };
    let expected = says(&accounts).await;
    assert!(matches!(expected.0, Ok(Some(_))));
    let whole = fs::read(directory.path().join(FILE)).expect("a file");
    let mut found = 0;
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut content = whole.clone();
            content[at] ^= 1 << bit;
            directory.file(FILE, &content);
            match Accounts::with_cost(directory.path(), CHEAP) {
                Ok(accounts) => assert_eq!(says(&accounts).await, expected, "byte {at}, bit {bit}"),
                Err(AccountError::File(reason)) => {
                    assert!(reason.to_string().contains("accounts.json: "), "{reason}");
                    found += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    // The undetected bits are in white space.
    assert!(found * 10 > whole.len() * 8 * 9, "{found} of {}", whole.len() * 8);

    // An administrator who edited the file is told what to do.
    let text = String::from_utf8(whole).expect("text");
    let changed = text.replace("ann", "eve");
    directory.file(FILE, changed.as_bytes());
    let refused = Accounts::open(directory.path()).expect_err("changed").to_string();
    assert!(refused.contains("remove its line `checksum` and set its `version` to 2"), "{refused}");
    let lines = changed.lines().filter(|line| !line.contains("checksum"));
    let mended = lines.map(|line| line.replace("\"version\": 3", "\"version\": 2")).collect::<String>();
    directory.file(FILE, mended.as_bytes());
    assert!(matches!(open(&directory).verify("eve", "correct horse").await, Ok(Some(_))));
}

/// Checked by what is computed, not by timing: a password is hashed whether or not the account exists.
#[tokio::test]
async fn an_unknown_user_takes_the_same_work_as_a_known_one() {
    let directory = Directory::new();
    let costly = Cost { memory: 64, passes: 60 };
    let accounts = Accounts::with_cost(directory.path(), costly).expect("accounts");
    accounts.add("ann", "correct horse").await.expect("added");
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (index, name) in ["ann", "nobody"].into_iter().enumerate() {
            let start = std::time::Instant::now();
            assert_eq!(accounts.verify(name, "battery staple").await, Ok(None));
            times[index].push(start.elapsed());
        }
    }
    let [known, unknown] = times.map(|times| times.into_iter().min().expect("three"));
    assert!(unknown * 4 > known && known * 4 > unknown, "{known:?} {unknown:?}");
}

#[tokio::test]
async fn only_so_many_wait_to_be_hashed() {
    let directory = Directory::new();
    let costly = Cost { memory: 64, passes: 10 };
    let accounts = Arc::new(Accounts::with_cost(directory.path(), costly).expect("accounts"));
    let ask = || {
        let accounts = Arc::clone(&accounts);
        tokio::spawn(async move { accounts.verify("ann", "correct horse").await })
    };
    // On one thread, so that each has taken its place before the first is served.
    let requests: Vec<_> = (0..200).map(|_| ask()).collect();
    let mut busy = 0;
    for request in requests {
        match request.await.expect("no panic") {
            Err(AccountError::Busy) => busy += 1,
            other => assert_eq!(other, Ok(None)),
        }
    }
    // The first may be done before the last is submitted.
    assert!((200 - 2 * (MAX_HASHING + MAX_WAITING)..=200 - MAX_HASHING - MAX_WAITING).contains(&busy), "{busy}");
    assert_eq!(accounts.verify("ann", "correct horse").await, Ok(None), "and then there is room again");
}
