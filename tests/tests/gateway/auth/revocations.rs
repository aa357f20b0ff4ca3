//! What is revoked stays revoked: after a restart, at the edge of a millisecond, with a torn file.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use lockstep::gateway::login::Issuer;
use lockstep::verify::jwt::{JwtConfig, JwtVerifier};
use lockstep::verify::keys::{Keys, Secret};
use lockstep::verify::revoked::{FILE, MAX_CREDENTIALS, Revocations};
use lockstep::verify::{Revocation, Verifier, credential_id};
use serde_json::json;

use super::support::*;

const EVERYTHING: &str = "everything of this subject was revoked";

/// A verifier of another issuer's tokens, with a leeway of one second, whose revocations are in that directory.
fn opened(directory: &Directory, hands: &Hands) -> JwtVerifier {
    let revocations = Revocations::open(directory.path(), DAY, hands.clock()).expect("revocations");
    let keys = Keys::Secret(Secret::new(SECRET));
    let config =
        JwtConfig { leeway: Duration::from_secs(1), max_lifetime: Duration::from_secs(3600), ..JwtConfig::new(keys) };
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

/// No token that was accepted before a revocation is accepted after it, wherever its issuer's clock is.
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

/// Tokens of our own compare no clock: in one millisecond, what came later wins.
#[tokio::test]
async fn of_a_token_and_a_revocation_in_one_millisecond_the_later_wins() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let life = |directory: &Directory| {
        let revocations = Arc::new(Revocations::open(directory.path(), DAY, hands.clock()).expect("revocations"));
        let issuer = Issuer::open(Some(directory.path()), Duration::from_secs(900), revocations, hands.clock());
        let issuer = issuer.expect("an issuer");
        (issuer.verifier().expect("a verifier"), issuer)
    };
    let (mut verifier, mut issuer) = life(&directory);
    let revoke = Revocation::Subject("ann".into());
    let mut dead: Vec<String> = Vec::new();
    for round in 0..50 {
        let token = issuer.issue("ann", &format!("login {round}")).expect("a token").expose().to_owned();
        verify(&verifier, &token).await.expect("issued after the revocation, in the same millisecond");
        verifier.revoke(&revoke).await.expect("written");
        dead.push(token);
        for token in &dead {
            assert_eq!(rejection(&verifier, token).await, EVERYTHING, "round {round}");
        }
        if round % 10 == 5 {
            (verifier, issuer) = life(&directory);
        }
        if round % 10 == 7 {
            hands.back(Duration::from_millis(3));
        }
    }
}

#[tokio::test]
async fn what_no_token_can_be_old_enough_for_is_forgotten_and_not_before() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let verifier = opened(&directory, &hands);
    verifier.revoke(&Revocation::Subject("ann".into())).await.expect("written");
    verifier.revoke(&Revocation::Credential("bob".into(), credential_id("1"))).await.expect("written");
    let lines = || fs::read_to_string(directory.path().join(FILE)).expect("a file").lines().count();
    hands.forward(DAY);
    opened(&directory, &hands);
    assert_eq!(lines(), 3, "two, and the latest instant");
    hands.forward(Duration::from_millis(2));
    opened(&directory, &hands);
    assert_eq!(lines(), 1, "the latest instant alone");
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

#[tokio::test]
async fn a_line_that_a_crash_cut_is_passed_over_and_the_next_one_is_whole() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let verifier = opened(&directory, &hands);
    let one = issued(TODAY as f64, "1");
    verifier.revoke(&Revocation::Credential("ann".into(), credential_id("1"))).await.expect("written");
    let path = directory.path().join(FILE);
    let whole = fs::read(&path).expect("a file");
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    for cut in last..whole.len() {
        fs::write(&path, &whole[..cut]).expect("a file");
        let verifier = opened(&directory, &hands);
        let complete = cut + 1 == whole.len();
        assert_eq!(verify(&verifier, &one).await.is_err(), complete, "cut at {cut}");
        verifier.revoke(&Revocation::Credential("ann".into(), credential_id("2"))).await.expect("written");
        assert_eq!(rejection(&opened(&directory, &hands), &issued(TODAY as f64, "2")).await, "revoked");
    }
}

#[test]
fn garbage_in_the_file_is_an_error_that_names_the_line() {
    let (directory, hands) = (Directory::new(), Hands::new());
    for garbage in ["garbage", "{\"at\":1,\"subject\":\"ann\"}", "", "{}"] {
        directory.file(FILE, format!("{{\"at\":1,\"sub\":\"ann\"}}\n{garbage}\n").as_bytes());
        let error = Revocations::open(directory.path(), DAY, hands.clock()).expect_err("an error");
        assert!(error.contains("revoked.jsonl:2: "), "{error}");
    }
}

#[tokio::test]
async fn a_revocation_that_cannot_be_written_is_in_effect_and_says_so_and_is_written_with_the_next() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let revocations = Revocations::open(directory.path(), DAY, hands.clock()).expect("revocations");
    // The file is written anew after so many lines, which is not possible with a directory in the way.
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
    assert!(failed.is_some_and(|error| error.contains(FILE)), "nothing was ever written anew");
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
