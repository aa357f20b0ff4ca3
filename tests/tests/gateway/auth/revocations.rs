//! Revocations last: across a restart, at the edge of a millisecond, with a torn file.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use lockstep::verify::jwt::{JwtConfig, JwtVerifier};
use lockstep::verify::keys::{Keys, Secret};
use lockstep::verify::revoked::{FILE, MAX_CREDENTIALS, Revocations};
use lockstep::verify::{Revocation, Verifier, credential_id};
use serde_json::json;

use super::support::*;

/// The file that records how much of the log was answered.
const MARK: &str = "logins.mark";
const EVERYTHING: &str = "all tokens of this subject were revoked";

/// A verifier of another issuer's tokens, with one second of leeway, whose revocations are in `directory`.
fn opened(directory: &Directory, hands: &Hands) -> JwtVerifier {
    let revocations = Revocations::open(directory.path(), DAY, hands.clock()).expect("revocations");
    let keys = Keys::Secret(Secret::new(SECRET));
    let mut config = JwtConfig::new(keys);
    config.leeway = Duration::from_secs(1);
    config.max_lifetime = Duration::from_secs(3600);
    JwtVerifier::new(config, Arc::new(revocations), hands.clock()).expect("a verifier")
}

fn issued(at: f64, name: &str) -> String {
    signed(Algorithm::HS256, &but(json!({"iat": at, "jti": name, "exp": TODAY + 600})))
}

#[tokio::test]
async fn a_revoked_credential_is_rejected_and_another_is_not_also_after_a_restart() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let verifier = opened(&directory, &hands);
    let (one, two) = (issued(TODAY as f64, "1"), issued(TODAY as f64, "2"));
    verify(&verifier, &one).await.expect("good");
    verifier.revoke(&Revocation::Credential("ann".into(), credential_id("1"))).await.expect("written");
    verifier.revoke(&Revocation::Credential("bob".into(), credential_id("2"))).await.expect("written");
    for verifier in [verifier, opened(&directory, &hands), opened(&directory, &hands)] {
        assert_eq!(rejection(&verifier, &one).await, "revoked");
        verify(&verifier, &two).await.expect("good: it is ann's, and bob's was revoked");
    }
}

#[tokio::test]
async fn a_revoked_subject_keeps_nothing_that_could_be_from_before() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let verifier = opened(&directory, &hands);
    hands.set(TODAY as f64 + 0.5);
    verifier.revoke(&Revocation::Subject("ann".into())).await.expect("written");
    hands.set(TODAY as f64 + 3.0);
    for verifier in [verifier, opened(&directory, &hands)] {
        for before in [TODAY as f64, TODAY as f64 + 0.5, TODAY as f64 + 1.0, TODAY as f64 + 1.5] {
            assert_eq!(rejection(&verifier, &issued(before, "1")).await, EVERYTHING, "{before}, with the leeway");
        }
        for after in [TODAY as f64 + 1.501, TODAY as f64 + 2.0] {
            verify(&verifier, &issued(after, "1")).await.expect("issued later");
        }
        let undated = signed(Algorithm::HS256, &but(json!({"iat": null})));
        assert_eq!(rejection(&verifier, &undated).await, EVERYTHING);
        let other = signed(Algorithm::HS256, &but(json!({"iat": null, "sub": "bob"})));
        verify(&verifier, &other).await.expect("another subject");
    }
}

/// No token that was accepted before a revocation is accepted after it, whatever its issuer's clock.
#[tokio::test]
async fn no_token_outlives_the_revocation_that_follows_it() {
    for ahead in [-3600.0, -1.0, 0.0, 0.001, 1.0, 29.999, 30.0] {
        let (verifier, hands) = verifier_of(JwtConfig::new(Keys::Secret(Secret::new(SECRET))));
        let token = issued(TODAY as f64 + ahead, "1");
        verify(&verifier, &token).await.expect("the issuer's clock may be ahead by the leeway");
        verifier.revoke(&Revocation::Subject("ann".into())).await.expect("in effect");
        for _ in 0..20 {
            assert_eq!(rejection(&verifier, &token).await, EVERYTHING, "{ahead}");
            hands.forward(Duration::from_secs(31));
        }
    }
}

#[tokio::test]
async fn a_revocation_older_than_any_token_is_forgotten_and_not_before() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let verifier = opened(&directory, &hands);
    verifier.revoke(&Revocation::Subject("ann".into())).await.expect("written");
    hands.forward(DAY - Duration::from_millis(2));
    verifier.revoke(&Revocation::Credential("bob".into(), credential_id("1"))).await.expect("written");
    let lines = || fs::read_to_string(directory.path().join(FILE)).expect("a file").lines().count();
    opened(&directory, &hands);
    assert_eq!(lines(), 4, "two, their clock, and the head");
    // A restarted gateway counts from the last written line.
    let verifier = opened(&directory, &hands);
    hands.forward(Duration::from_millis(3));
    verifier.revoke(&Revocation::Credential("bob".into(), credential_id("2"))).await.expect("written");
    opened(&directory, &hands);
    assert_eq!(lines(), 4, "ann's is a day old, and bob's are not");
}

/// A start with a clock that is wrong by days, in either direction, forgives no revocation and locks out no user.
#[tokio::test]
async fn a_clock_that_jumps_takes_no_revocation_back() {
    for days in [2, 400] {
        let jump = DAY * days;
        for is_ahead in [true, false] {
            let (directory, hands) = (Directory::new(), Hands::new());
            let verifier = opened(&directory, &hands);
            let (one, two) = (issued(TODAY as f64, "1"), issued(TODAY as f64, "2"));
            for token in [&one, &two] {
                verify(&verifier, token).await.expect("good");
            }
            verifier.revoke(&Revocation::Credential("ann".into(), credential_id("1"))).await.expect("written");
            verifier.revoke(&Revocation::Subject("bob".into())).await.expect("written");
            #[expect(clippy::type_complexity, reason = "two plain functions")]
            let (there, back): (fn(&Hands, Duration), fn(&Hands, Duration)) =
                if is_ahead { (Hands::ahead, Hands::back) } else { (Hands::back, Hands::ahead) };
            there(&hands, jump);
            drop(opened(&directory, &hands));
            let wrong = opened(&directory, &hands);
            wrong.revoke(&Revocation::Subject("carl".into())).await.expect("written");
            back(&hands, jump);
            for verifier in [wrong, opened(&directory, &hands)] {
                assert_eq!(rejection(&verifier, &one).await, "revoked");
                let bobs = signed(Algorithm::HS256, &but(json!({"sub": "bob"})));
                assert_eq!(rejection(&verifier, &bobs).await, EVERYTHING);
                verify(&verifier, &two).await.expect("it was never revoked");
            }
        }
    }
}

/// With a clock that was set back, tokens that were valid before are still revoked.
#[tokio::test]
async fn a_revocation_covers_what_was_seen_whatever_the_clock_says() {
    let (directory, hands) = (Directory::new(), Hands::new());
    hands.forward(Duration::from_secs(300));
    let token = |subject: &str| {
        let claims = but(json!({"iat": TODAY + 299, "sub": subject, "exp": TODAY + 600}));
        signed(Algorithm::HS256, &claims)
    };
    verify(&opened(&directory, &hands), &token("ann")).await.expect("good");
    for (subject, seen) in [("ann", false), ("bob", true)] {
        let verifier = opened(&directory, &hands);
        if !seen {
            verify(&verifier, &token(subject)).await.expect("good");
        }
        hands.back(Duration::from_secs(3600));
        verifier.revoke(&Revocation::Subject(subject.into())).await.expect("written");
        hands.ahead(Duration::from_secs(3600));
        assert_eq!(rejection(&verifier, &token(subject)).await, EVERYTHING, "{subject}");
        assert_eq!(rejection(&opened(&directory, &hands), &token(subject)).await, EVERYTHING, "{subject}");
    }
}

#[tokio::test]
async fn files_of_an_earlier_version_are_read_once_and_replaced() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let credential = credential_id("1").0;
    let lines = format!(
        "{{\"at\":5}}\n{{\"at\":{0},\"sub\":\"bob\"}}\n{{\"at\":{0},\"sub\":\"ann\",\"credential\":{credential}}}\n{{\"at\"",
        TODAY * 1000 + 1
    );
    for _ in 0..2 {
        // Once more after a gateway of the earlier version has run in between.
        directory.file("revoked.jsonl", lines.as_bytes());
        let verifier = opened(&directory, &hands);
        assert!(!directory.path().join("revoked.jsonl").exists());
        for verifier in [verifier, opened(&directory, &hands)] {
            assert_eq!(rejection(&verifier, &issued(TODAY as f64, "1")).await, "revoked");
            assert_eq!(rejection(&verifier, &signed(Algorithm::HS256, &but(json!({"sub": "bob"})))).await, EVERYTHING);
            verify(&verifier, &issued(TODAY as f64, "2")).await.expect("not revoked");
        }
    }
}

#[tokio::test]
async fn a_subject_with_too_many_revoked_credentials_is_revoked_as_a_whole() {
    let hands = Hands::new();
    let revocations = Revocations::in_memory(DAY, hands.clock());
    for number in 0..=MAX_CREDENTIALS {
        assert_eq!(revocations.subject("ann"), None);
        let one = Revocation::Credential("ann".into(), credential_id(&number.to_string()));
        revocations.revoke(&one).await.expect("in effect");
    }
    assert!(revocations.subject("ann").is_some());
    assert_eq!(revocations.subject("bob"), None);
}

/// The contents of the revocation files, by name.
fn files(directory: &Directory) -> [Vec<u8>; 2] {
    [FILE, MARK].map(|name| fs::read(directory.path().join(name)).expect("a file"))
}

/// A crash may cut a line before it is answered; the mark then does not count it.
#[tokio::test]
async fn a_line_that_a_crash_cut_is_passed_over_and_the_next_one_is_whole() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let verifier = opened(&directory, &hands);
    let one = issued(TODAY as f64, "1");
    let [before, mark] = files(&directory);
    verifier.revoke(&Revocation::Credential("ann".into(), credential_id("1"))).await.expect("written");
    let [whole, _] = files(&directory);
    for cut in before.len()..=whole.len() {
        directory.file(FILE, &whole[..cut]);
        directory.file(MARK, &mark);
        let verifier = opened(&directory, &hands);
        assert_eq!(verify(&verifier, &one).await.is_err(), cut == whole.len(), "cut at {cut}");
        verifier.revoke(&Revocation::Credential("ann".into(), credential_id("2"))).await.expect("written");
        assert_eq!(rejection(&opened(&directory, &hands), &issued(TODAY as f64, "2")).await, "revoked");
    }
}

/// AUTH-4: a file that has lost an answered line is refused, not read without it.
#[tokio::test]
async fn a_file_that_is_cut_flipped_or_gone_is_refused_and_no_revocation_is_lost_in_silence() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let verifier = opened(&directory, &hands);
    for name in ["0", "1", "2"] {
        verifier.revoke(&Revocation::Credential("ann".into(), credential_id(name))).await.expect("written");
    }
    let [whole, mark] = files(&directory);
    let refused = |what: &str| {
        let error = Revocations::open(directory.path(), DAY, hands.clock()).expect_err(what).to_string();
        assert!(error.contains(FILE) && error.contains(MARK) && error.contains("restore it"), "{what}: {error}");
    };
    for at in 0..whole.len() {
        directory.file(MARK, &mark);
        directory.file(FILE, &whole[..at]);
        refused(&format!("cut at {at}"));
        for bit in [0, 3, 5] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            directory.file(FILE, &flipped);
            refused(&format!("bit {bit} of byte {at}"));
        }
    }
    fs::remove_file(directory.path().join(FILE)).expect("removed");
    refused("gone");
    // Each line counts, in its place.
    let mut lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let last = lines.len() - 1;
    lines.swap(last - 1, last);
    directory.file(FILE, &lines.concat());
    refused("two lines have changed places");
    // A backup is older than the mark, and is complete.
    directory.file(FILE, &whole);
    drop(opened(&directory, &hands));
    directory.file(FILE, &whole);
    let restored = opened(&directory, &hands);
    assert_eq!(rejection(&restored, &issued(TODAY as f64, "2")).await, "revoked");
}

/// A write to a file that has been unlinked is not confirmed.
#[cfg(unix)]
#[tokio::test]
async fn a_revocation_is_found_again_though_the_file_was_removed_under_the_process() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let verifier = opened(&directory, &hands);
    verifier.revoke(&Revocation::Credential("ann".into(), credential_id("1"))).await.expect("written");
    fs::remove_file(directory.path().join(FILE)).expect("removed");
    let revocation = Revocation::Credential("ann".into(), credential_id("2"));
    if verifier.revoke(&revocation).await.is_err() {
        verifier.revoke(&revocation).await.expect("written again");
    }
    let again = opened(&directory, &hands);
    for name in ["1", "2"] {
        assert_eq!(rejection(&again, &issued(TODAY as f64, name)).await, "revoked");
    }
}

#[test]
fn garbage_in_the_file_is_an_error_that_names_the_line() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let mark = "{\"mark\":{\"age\":0,\"seen\":0,\"floor\":0}}";
    for garbage in
        ["garbage", "{\"at\":1,\"subject\":\"ann\"}", "", "{}", "{\"ended\":{}}", "{\"ended\":{\"id\":1,\"x\":1}}"]
    {
        directory.file(FILE, format!("{mark}\n{garbage}\n").as_bytes());
        let error = Revocations::open(directory.path(), DAY, hands.clock()).expect_err("an error").to_string();
        assert!(error.contains("logins.jsonl:2: "), "{error}");
    }
    for old in ["revoked.jsonl", "sessions.jsonl"] {
        let directory = Directory::new();
        directory.file(old, b"{}\n");
        let error = Revocations::open(directory.path(), DAY, hands.clock()).expect_err("an error").to_string();
        assert!(error.contains(&format!("{old}:1: ")), "{error}");
        assert!(directory.path().join(old).exists(), "it is not removed");
    }
}

#[tokio::test]
async fn a_revocation_that_cannot_be_written_is_in_effect_and_says_so_and_is_written_with_the_next() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let revocations = Revocations::open(directory.path(), DAY, hands.clock()).expect("revocations");
    // The file is rewritten after that many lines, which a directory in the way prevents.
    let obstacle = directory.path().join(format!("{FILE}.new"));
    fs::create_dir(&obstacle).expect("a directory");
    let mut failed = None;
    for number in 0..10_000 {
        let subject = format!("user {}", number % 4);
        if let Err(error) = revocations.revoke(&Revocation::Subject(subject.into())).await {
            failed = Some(error);
            break;
        }
    }
    assert!(failed.is_some_and(|error| error.to_string().contains(FILE)), "the file was never rewritten");
    let refused = revocations.revoke(&Revocation::Subject("ann".into())).await;
    assert!(refused.is_err(), "it is said");
    assert!(revocations.subject("ann").is_some(), "in effect nevertheless");
    fs::remove_dir(&obstacle).expect("out of the way");
    revocations.revoke(&Revocation::Subject("bob".into())).await.expect("written");
    let again = Revocations::open(directory.path(), DAY, hands.clock()).expect("revocations");
    for subject in ["ann", "bob", "user 0", "user 3"] {
        assert_eq!(again.subject(subject), revocations.subject(subject), "{subject}");
    }
}
