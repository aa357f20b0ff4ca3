//! The life of a login with a failing disk, wrong clocks and a careless administrator. The machine's guarantees are
//! proved; these tests show that the gateway drives it.

use std::sync::Arc;
use std::time::Duration;

use lockstep::verify::Verifier;
use lockstep::verify::revoked::{FILE, Revocations};
use lockstep_gateway::accounts::{Accounts, Cost, FILE as ACCOUNTS, MAX_HASHING, MAX_WAITING};
use lockstep_gateway::login::{Login, LoginConfig, Rate, routes};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::accounts::CHEAP;
use super::http::{Answer, Gateway, config, post, serve};
use super::support::*;

/// Fills the file until it must be replaced, which a directory in the way prevents.
async fn break_the_disk(gateway: &Gateway, directory: &Directory) -> std::path::PathBuf {
    let obstacle = directory.path().join(format!("{FILE}.new"));
    std::fs::create_dir(&obstacle).expect("a directory");
    gateway.accounts.add("filler", "battery staple").await.expect("added");
    for _ in 0..1000 {
        if gateway.log_in("filler", "battery staple").await.status == 503 {
            return obstacle;
        }
    }
    panic!("the file was never replaced");
}

async fn is_over(gateway: &Gateway, answer: &Answer) -> bool {
    let refreshed = gateway.refresh(&answer.cookie()).await.status;
    !gateway.is_good(&answer.token()).await && refreshed == 401
}

/// The first answer is a failure; no later one may be a success until the logout is on disk.
#[tokio::test]
async fn a_logout_that_cannot_be_written_is_refused_as_often_as_it_is_tried() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let ann = [gateway.log_in("ann", "correct horse").await, gateway.log_in("ann", "correct horse").await];
    let obstacle = break_the_disk(&gateway, &directory).await;
    for _ in 0..4 {
        assert_eq!(gateway.log_out(&ann[0].cookie(), false).await.error(), (503, "unavailable"));
        assert!(!gateway.is_good(&ann[0].token()).await, "in effect at once");
        assert_eq!(gateway.refresh(&ann[0].cookie()).await.error(), (503, "unavailable"), "nor is 401 an end");
    }
    assert!(gateway.is_good(&ann[1].token()).await);
    assert_eq!(gateway.log_out(&ann[0].cookie(), true).await.status, 503);
    assert!(!gateway.is_good(&ann[1].token()).await, "everywhere reaches the other login, though this one has ended");
    std::fs::remove_dir(&obstacle).expect("out of the way");
    assert_eq!(gateway.log_out(&ann[0].cookie(), true).await.status, 204);
    let restarted = Gateway::start(&directory, &gateway.hands, config()).await;
    for answer in &ann {
        assert!(is_over(&gateway, answer).await && is_over(&restarted, answer).await);
    }
}

#[tokio::test]
async fn a_logout_that_was_not_answered_before_a_crash_can_be_tried_again_after_it() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let ann = gateway.log_in("ann", "correct horse").await;
    let obstacle = break_the_disk(&gateway, &directory).await;
    assert_eq!(gateway.log_out(&ann.cookie(), false).await.status, 503);
    std::fs::remove_dir(&obstacle).expect("out of the way");
    // As a crash would leave it: unwritten data is gone.
    let restarted = Gateway::start(&directory, &gateway.hands, config()).await;
    assert_eq!(restarted.log_out(&ann.cookie(), false).await.status, 204);
    let again = Gateway::start(&directory, &gateway.hands, config()).await;
    assert!(is_over(&restarted, &ann).await && is_over(&again, &ann).await);
}

#[tokio::test]
async fn a_missing_accounts_file_logs_no_user_out() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let mut ann = gateway.log_in("ann", "correct horse").await;
    let watching = tokio::spawn(Arc::clone(&gateway.login).watch(Duration::from_millis(1)));
    let path = directory.path().join(ACCOUNTS);
    let content = std::fs::read(&path).expect("the accounts");
    let mut damaged = content.clone();
    let at = damaged.windows(8).position(|bytes| bytes == b"$argon2i").expect("a hash") + 40;
    damaged[at] ^= 1;
    let states: [&dyn Fn(); 4] = [
        &|| std::fs::remove_file(&path).expect("removed"),
        &|| std::fs::write(&path, b"").expect("empty"),
        &|| std::fs::write(&path, &content[..content.len() / 2]).expect("half of it"),
        &|| std::fs::write(&path, &damaged).expect("a byte of a hash has changed"),
    ];
    for state in states {
        state();
        for _ in 0..5 {
            ann = gateway.refresh(&ann.cookie()).await;
            assert!(gateway.is_good(&ann.token()).await);
            assert_eq!(gateway.log_in("ann", "correct horse").await.error(), (503, "unavailable"));
        }
    }
    std::fs::write(&path, &content).expect("restored");
    ann = gateway.refresh(&ann.cookie()).await;
    assert!(gateway.is_good(&ann.token()).await);
    assert_eq!(gateway.log_in("ann", "correct horse").await.status, 200);
    watching.abort();
}

/// The thread that reads the file hangs, as on a network file system that is gone.
#[cfg(unix)]
#[tokio::test]
async fn a_refresh_is_answered_though_the_accounts_are_on_a_disk_that_hangs() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let mut ann = gateway.log_in("ann", "correct horse").await;
    let path = directory.path().join(ACCOUNTS);
    std::fs::remove_file(&path).expect("removed");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("a command").success());
    for _ in 0..2 {
        let answer = tokio::time::timeout(Duration::from_secs(20), gateway.refresh(&ann.cookie())).await;
        ann = answer.expect("an answer in time");
        assert!(gateway.is_good(&ann.token()).await);
    }
    // Lets the reader reach the end of the file.
    drop(std::fs::OpenOptions::new().write(true).open(&path).expect("a reader"));
}

#[tokio::test]
async fn a_reused_name_inherits_nothing_from_its_earlier_owner() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let first = gateway.log_in("ann", "correct horse").await;
    let command = Accounts::with_cost(directory.path(), CHEAP).expect("accounts");
    command.remove("ann").expect("removed");
    command.add("ann", "correct horse").await.expect("another ann");
    let second = gateway.log_in("ann", "correct horse").await;
    assert!(is_over(&gateway, &first).await);
    assert_eq!(second.body["user"], "ann#2");
    let identity = verify(&*gateway.login.verifier(), &second.token()).await.expect("good");
    assert_eq!(&*identity.subject, "ann#2");
    let restarted = Gateway::start(&directory, &gateway.hands, config()).await;
    assert!(is_over(&restarted, &first).await);
    assert!(restarted.is_good(&second.token()).await);
}

/// One start with a clock two days ahead refuses logins because they seem to have expired, but does not end them.
#[tokio::test]
async fn a_clock_that_jumps_ends_no_login_for_good() {
    for jump in [DAY * 2, DAY * 365] {
        let directory = Directory::new();
        let gateway = Gateway::with_ann(&directory).await;
        let ann = gateway.log_in("ann", "correct horse").await;
        gateway.hands.ahead(jump);
        let wrong = Gateway::start(&directory, &gateway.hands, config()).await;
        assert_eq!(wrong.refresh(&ann.cookie()).await.error(), (401, "no_session"));
        wrong.log_in("ann", "correct horse").await.token();
        gateway.hands.back(jump);
        let right = Gateway::start(&directory, &gateway.hands, config()).await;
        let next = right.refresh(&ann.cookie()).await;
        assert!(right.is_good(&next.token()).await);
        // With the clock set back instead: what was ended stays ended.
        assert_eq!(right.log_out(&next.cookie(), false).await.status, 204);
        gateway.hands.back(jump);
        let early = Gateway::start(&directory, &gateway.hands, config()).await;
        assert!(is_over(&early, &next).await && is_over(&early, &ann).await);
    }
}

/// A login that is refused as busy does not count as a guess.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_as_busy_is_not_charged() {
    let directory = Directory::new();
    let accounts =
        Arc::new(Accounts::with_cost(directory.path(), Cost { memory: 64, passes: 2000 }).expect("accounts"));
    accounts.add("ann", "correct horse").await.expect("added");
    let hands = Hands::new();
    let revocations = Arc::new(Revocations::open(directory.path(), MONTH, hands.clock()).expect("revocations"));
    let budget = Rate { burst: 300, refill: Duration::from_secs(1000) };
    let config = LoginConfig { per_account: budget, per_address: budget, ..config() };
    let login = Login::open(Some(directory.path()), config, accounts, revocations, hands.clock()).expect("a login");
    let address = serve(routes(Arc::new(login)), None).await;
    let wrong = json!({"username": "ann", "password": "battery staple"});
    let tries: Vec<_> = (0..200)
        .map(|_| {
            let wrong = wrong.clone();
            tokio::spawn(async move { post(address, "/auth/login", &[], Some(&wrong)).await.status })
        })
        .collect();
    let (mut busy, mut compared) = (0, 0);
    for tried in tries {
        match tried.await.expect("no panic") {
            503 => busy += 1,
            401 => compared += 1,
            other => panic!("{other}"),
        }
    }
    assert!(busy > 0 && compared >= MAX_HASHING + MAX_WAITING, "{busy} {compared}");
    // Exactly the rest of the budget is left.
    for left in (0..300 - compared).rev() {
        assert_eq!(post(address, "/auth/login", &[], Some(&wrong)).await.status, 401, "{left}");
    }
    assert_eq!(post(address, "/auth/login", &[], Some(&wrong)).await.status, 429);
}

/// A cookie from the previous version, and its file.
#[tokio::test]
async fn logins_of_an_earlier_version_go_on_unless_they_were_revoked() {
    let directory = Directory::new();
    let key = [7; 32];
    directory.file("signing.key", &key);
    let seal: [u8; 32] = Sha256::new().chain_update(b"lockstep refresh cookies\0").chain_update(key).finalize().into();
    let cookie = |id: u8, turn: u64| {
        let mut bytes = [vec![id; 16], turn.to_be_bytes().to_vec()].concat();
        let mac: [u8; 32] = Sha256::new().chain_update(seal).chain_update(&bytes).finalize().into();
        bytes.extend(mac);
        format!("lockstep_refresh={}", base64url(&bytes))
    };
    let name = |id: u8| base64url(&[id; 16]);
    let now = TODAY * 1000;
    let session = |id: u8, user: &str, generation: u64| {
        json!({"sid": name(id), "session": {
            "user": user, "changed": 9, "gen": generation, "started": now, "turn": 4, "turned_at": now,
        }})
    };
    let lines = [
        session(1, "ann", 0),
        session(2, "ann", 0),
        json!({"sid": name(2)}),
        session(3, "ann", 0),
        session(4, "bob", 0),
        session(5, "bob", now + 1),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    directory.file("sessions.jsonl", text.as_bytes());
    let third = lockstep::verify::credential_id(&name(3)).0;
    let revoked =
        format!("{{\"at\":{now},\"sub\":\"ann\",\"credential\":{third}}}\n{{\"at\":{},\"sub\":\"bob\"}}\n", now + 1);
    directory.file("revoked.jsonl", revoked.as_bytes());
    let accounts = Accounts::with_cost(directory.path(), CHEAP).expect("accounts");
    accounts.add("ann", "correct horse").await.expect("added");
    let text = std::fs::read_to_string(directory.path().join(ACCOUNTS)).expect("a file");
    let hash = text.split('"').find(|word| word.starts_with("$argon2id")).expect("a hash");
    let account = format!(r#"{{"hash":"{hash}","changed":9}}"#);
    let accounts_file = format!(r#"{{"version":1,"accounts":{{"ann":{account},"bob":{account}}}}}"#);
    directory.file(ACCOUNTS, accounts_file.as_bytes());
    let gateway = Gateway::start(&directory, &Hands::new(), config()).await;
    for (id, expected) in [(1, 200), (2, 401), (3, 401), (4, 401), (5, 200)] {
        assert_eq!(gateway.refresh(&cookie(id, 4)).await.status, expected, "{id}");
    }
    for name in ["sessions.jsonl", "revoked.jsonl"] {
        assert!(!directory.path().join(name).exists(), "{name}");
    }
}

/// The operator's revocation ends logins, and is on disk before it is answered.
#[tokio::test]
async fn what_the_operator_ends_stays_ended() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let one = gateway.log_in("ann", "correct horse").await;
    let obstacle = break_the_disk(&gateway, &directory).await;
    let verifier = gateway.login.verifier();
    let revocation = lockstep::verify::Revocation::Subject("ann".into());
    for _ in 0..3 {
        let refused = verifier.revoke(&revocation).await.expect_err("not on the disk");
        assert!(refused.to_string().contains(FILE), "{refused}");
        assert!(!gateway.is_good(&one.token()).await);
    }
    std::fs::remove_dir(&obstacle).expect("out of the way");
    verifier.revoke(&revocation).await.expect("written");
    let restarted = Gateway::start(&directory, &gateway.hands, config()).await;
    assert!(is_over(&restarted, &one).await);
}
