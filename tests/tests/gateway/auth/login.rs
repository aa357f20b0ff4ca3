//! The built-in login, over HTTP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep::BoxFuture;
use lockstep::verify::{Revocation, Verifier};
use lockstep_gateway::accounts::Accounts;
use lockstep_gateway::login::{LoginConfig, RevokeError, Revoker, routes};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::accounts::CHEAP;
use super::http::{Answer, Gateway, config, post, send, serve};
use super::support::*;

#[tokio::test]
async fn a_login_yields_a_token_for_a_quarter_of_an_hour_and_a_cookie_hidden_from_scripts() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let answer = gateway.log_in("ann", "correct horse").await;
    assert_eq!((&answer.body["expires_in"], &answer.body["user"]), (&json!(900), &json!("ann")));
    let identity = verify(&*gateway.login.verifier(), &answer.token()).await.expect("good");
    assert_eq!((&*identity.subject, identity.lifetime), ("ann", Duration::from_secs(900)));
    let cookie = answer.set_cookie();
    for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/auth", "; Max-Age=86400"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "{cookie}");
    gateway.hands.forward(Duration::from_secs(900));
    assert!(!gateway.is_good(&answer.token()).await);

    let other = Directory::new();
    let gateway = Gateway::start(&other, &gateway.hands, LoginConfig { secure: true, ..config() }).await;
    gateway.accounts.add("ann", "correct horse").await.expect("added");
    let answer = gateway.log_in("ann", "correct horse").await;
    assert!(answer.set_cookie().starts_with("__Secure-") && answer.set_cookie().ends_with("; Secure"));
    assert_eq!(gateway.refresh(&answer.cookie()).await.status, 200);
    assert_eq!(gateway.refresh(answer.cookie().trim_start_matches("__Secure-")).await.status, 401);
}

#[tokio::test]
async fn wrong_credentials_are_refused_and_the_answer_does_not_tell_why() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let mut bodies = Vec::new();
    for (user, password) in [("ann", "correct hors"), ("bob", "correct horse"), ("Ann", "correct horse"), ("", "")] {
        let answer = gateway.log_in(user, password).await;
        assert_eq!(answer.error(), (401, "wrong_credentials"));
        assert!(answer.header("set-cookie").is_none());
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    let other = Directory::new();
    let other_gateway = Gateway::with_ann(&other).await;
    let token = other_gateway.log_in("ann", "correct horse").await.token();
    assert!(!gateway.is_good(&token).await, "another gateway's key");
}

#[tokio::test]
async fn what_is_no_login_is_answered_with_its_error() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let json = ("Content-Type", "application/json");
    let good = br#"{"username":"ann","password":"correct horse"}"#;
    let huge = format!(r#"{{"username":"ann","password":"{}"}}"#, "x".repeat(4096));
    let host = gateway.address.to_string();
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [u8], (u16, &'a str));
    let cases: [Case<'_>; 10] = [
        (&[json], b"", (415, "unsupported_media_type")),
        (&[], good, (415, "unsupported_media_type")),
        (&[("Content-Type", "text/plain")], good, (415, "unsupported_media_type")),
        (&[json], b"{", (400, "bad_request")),
        (&[json], b"[]", (400, "bad_request")),
        (&[json], br#"{"username":"ann"}"#, (400, "bad_request")),
        (&[json], br#"{"username":"ann","password":7}"#, (400, "bad_request")),
        (&[json], huge.as_bytes(), (413, "too_large")),
        (&[json, ("Origin", "https://evil.example")], good, (403, "forbidden_origin")),
        (&[json, ("Origin", &format!("http://{host}")), ("Origin", "null")], good, (403, "forbidden_origin")),
    ];
    for (index, (headers, body, expected)) in cases.into_iter().enumerate() {
        // An empty body without a content type is not JSON either.
        let expected = if index == 0 { (400, "bad_request") } else { expected };
        assert_eq!(send(gateway.address, "/auth/login", headers, body).await.error(), expected, "case {index}");
    }
    let origin = format!("http://{host}");
    assert_eq!(send(gateway.address, "/auth/login", &[json, ("Origin", &origin)], good).await.status, 200);
    for path in ["/auth/refresh", "/auth/logout"] {
        let answer = send(gateway.address, path, &[("Origin", "https://evil.example")], b"").await;
        assert_eq!(answer.error(), (403, "forbidden_origin"));
    }
}

#[tokio::test]
async fn guesses_are_limited_by_account_and_address_and_slow_no_other_login() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    gateway.accounts.add("bob", "battery staple").await.expect("added");
    for _ in 0..20 {
        gateway.log_in("ann", "correct horse").await.token();
    }
    for _ in 0..4 {
        assert_eq!(gateway.log_in("ann", "guess").await.status, 401);
    }
    let answer = gateway.log_in("ann", "correct horse").await;
    assert_eq!(answer.error(), (429, "too_many_attempts"), "also with the right password");
    assert_eq!(answer.header("retry-after"), Some("10"));
    gateway.log_in("bob", "battery staple").await.token();
    let elsewhere = serve(routes(Arc::clone(&gateway.login)), Some("2001:db8::1")).await;
    let neighbour = serve(routes(Arc::clone(&gateway.login)), Some("2001:db8::ffff:2")).await;
    let far = serve(routes(Arc::clone(&gateway.login)), Some("2001:db8:0:1::1")).await;
    for number in 0..8 {
        let body = json!({"username": format!("user{number}"), "password": "guess"});
        assert_eq!(post(elsewhere, "/auth/login", &[], Some(&body)).await.status, 401);
    }
    let body = json!({"username": "bob", "password": "battery staple"});
    for (address, expected) in [(elsewhere, 429), (neighbour, 429), (far, 200), (gateway.address, 200)] {
        assert_eq!(post(address, "/auth/login", &[], Some(&body)).await.status, expected, "one network is one");
    }
    gateway.hands.forward(Duration::from_secs(10));
    gateway.log_in("ann", "correct horse").await.token();
    assert_eq!(post(elsewhere, "/auth/login", &[], Some(&body)).await.status, 200);
    gateway.hands.back(Duration::from_secs(3600));
    for _ in 0..20 {
        gateway.log_in("ann", "correct horse").await.token();
    }
    assert_eq!(gateway.log_in("ann", "guess").await.status, 401, "a clock that went back takes nothing away");
    let answer = gateway.log_in("ann", "correct horse").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("10")), "nor gives more");
}

#[tokio::test]
async fn a_refresh_gives_the_next_cookie_and_survives_a_restart() {
    let directory = Directory::new();
    let mut gateway = Gateway::with_ann(&directory).await;
    let mut cookie = gateway.log_in("ann", "correct horse").await.cookie();
    for _ in 0..5 {
        gateway.hands.forward(Duration::from_secs(800));
        let answer = gateway.refresh(&cookie).await;
        assert!(gateway.is_good(&answer.token()).await);
        assert_ne!(answer.cookie(), cookie);
        cookie = answer.cookie();
        gateway = Gateway::start(&directory, &gateway.hands, config()).await;
        assert!(gateway.is_good(&answer.token()).await, "the key is the same");
    }
    for cookie in ["", "lockstep_refresh=", "lockstep_refresh=AAAA", "other=1", &cookie.replace('=', "x=")] {
        assert_eq!(gateway.refresh(cookie).await.error(), (401, "no_session"));
    }
    let forged = format!("{}A", &cookie[..cookie.len() - 1]);
    let forged = if forged == cookie { format!("{}Q", &cookie[..cookie.len() - 1]) } else { forged };
    assert_eq!(gateway.refresh(&forged).await.status, 401);
    assert_eq!(gateway.refresh(&format!("a=b; {cookie}; c=d")).await.status, 200, "a forged one ends nothing");
    for beside in ["lockstep_refresh=AAAA", &forged] {
        for both in [format!("{beside}; {cookie}"), format!("{cookie}; {beside}")] {
            assert_eq!(gateway.refresh(&both).await.status, 200, "the one that is ours counts: {both}");
        }
    }
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_both_go_on_and_so_does_one_whose_answer_was_lost() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let first = gateway.log_in("ann", "correct horse").await.cookie();
    let (one, two) = tokio::join!(gateway.refresh(&first), gateway.refresh(&first));
    assert!(gateway.is_good(&one.token()).await && gateway.is_good(&two.token()).await);
    assert_eq!(one.cookie(), two.cookie(), "whichever answer comes last, the browser keeps the right one");
    // However much later: no client has used the lost answer's cookie.
    gateway.hands.forward(Duration::from_secs(3600));
    let restarted = Gateway::start(&directory, &gateway.hands, config()).await;
    for _ in 0..3 {
        let again = restarted.refresh(&first).await;
        assert_eq!(again.cookie(), one.cookie(), "also after a restart");
        assert!(restarted.is_good(&again.token()).await);
    }
    let next = restarted.refresh(&one.cookie()).await;
    assert_ne!(next.cookie(), one.cookie());
}

#[tokio::test]
async fn a_cookie_whose_successor_was_used_ends_the_login_for_both_holders() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let stolen = gateway.log_in("ann", "correct horse").await.cookie();
    let other = gateway.log_in("ann", "correct horse").await;
    let next = gateway.refresh(&stolen).await;
    let current = gateway.refresh(&next.cookie()).await;
    assert_eq!(gateway.refresh(&stolen).await.error(), (401, "no_session"));
    assert!(!gateway.is_good(&current.token()).await, "its tokens are revoked");
    assert_eq!(gateway.refresh(&current.cookie()).await.status, 401);
    assert!(gateway.is_good(&other.token()).await, "the user's other login is not touched");
    let restarted = Gateway::start(&directory, &gateway.hands, config()).await;
    assert_eq!(restarted.refresh(&current.cookie()).await.status, 401);
    assert!(!restarted.is_good(&current.token()).await);
    assert_eq!(restarted.refresh(&other.cookie()).await.status, 200);
}

#[derive(Default)]
struct RevocationRecorder(Mutex<Vec<Revocation>>);

impl Revoker for RevocationRecorder {
    fn revoke(&self, revocation: Revocation) -> BoxFuture<'_, Result<(), RevokeError>> {
        self.0.lock().expect("a list").push(revocation);
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn logging_out_ends_this_login_and_everywhere_ends_all_of_them() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    gateway.accounts.add("bob", "battery staple").await.expect("added");
    let bob = gateway.log_in("bob", "battery staple").await;
    let [one, two, three] = [
        gateway.log_in("ann", "correct horse").await,
        gateway.log_in("ann", "correct horse").await,
        gateway.log_in("ann", "correct horse").await,
    ];
    let later = gateway.refresh(&one.cookie()).await;
    let out = gateway.log_out(&later.cookie(), false).await;
    assert_eq!(out.status, 204);
    assert!(out.set_cookie().starts_with("lockstep_refresh=;") && out.set_cookie().contains("Max-Age=0"));
    for answer in [&one, &later] {
        assert!(!gateway.is_good(&answer.token()).await, "every token of the login");
    }
    assert_eq!(gateway.refresh(&later.cookie()).await.status, 401);
    assert!(gateway.is_good(&two.token()).await);
    assert_eq!(gateway.log_out(&two.cookie(), true).await.status, 204);
    for answer in [&two, &three] {
        assert!(!gateway.is_good(&answer.token()).await);
        assert_eq!(gateway.refresh(&answer.cookie()).await.status, 401);
    }
    assert!(gateway.is_good(&bob.token()).await);
    let second = gateway.log_in("ann", "correct horse").await;
    assert!(gateway.is_good(&second.token()).await, "in the same millisecond");
    assert_eq!(gateway.refresh(&second.cookie()).await.status, 200);
    assert_eq!(gateway.log_out("", false).await.status, 204, "who is not logged in is logged out");

    let recorder = Arc::new(RevocationRecorder::default());
    gateway.login.revoke_through(Arc::<RevocationRecorder>::clone(&recorder));
    let identity = verify(&*gateway.login.verifier(), &bob.token()).await.expect("good");
    assert_eq!(gateway.log_out(&bob.cookie(), false).await.status, 204);
    let recorded = recorder.0.lock().expect("a list").clone();
    assert_eq!(recorded, [Revocation::Credential("bob".into(), identity.credential)]);
}

/// Requests a permit before each revocation, and reports when it is done.
struct GatedRevoker(mpsc::UnboundedSender<oneshot::Sender<oneshot::Sender<()>>>);

impl Revoker for GatedRevoker {
    fn revoke(&self, _: Revocation) -> BoxFuture<'_, Result<(), RevokeError>> {
        Box::pin(async {
            let (permit, granted) = oneshot::channel();
            self.0.send(permit).expect("the test asks");
            granted.await.expect("a permit").send(()).expect("the test waits");
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_logout_completes_although_its_browser_disconnects() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let (sender, mut requests) = mpsc::unbounded_channel();
    gateway.login.revoke_through(Arc::new(GatedRevoker(sender)));
    let ann = gateway.log_in("ann", "correct horse").await;
    let cookie = ann.cookie();
    let mut browser = Box::pin(gateway.log_out(&cookie, false));
    let mut permit = tokio::select! {
        permit = requests.recv() => permit.expect("a revocation"),
        _ = &mut browser => panic!("nobody was asked"),
    };
    drop(browser);
    let given_up = tokio::time::timeout(Duration::from_millis(200), permit.closed()).await;
    assert!(given_up.is_err(), "nobody waits for it, and it is given up");
    let (done, end) = oneshot::channel();
    permit.send(done).expect("it goes on");
    end.await.expect("it is done");
}

#[tokio::test]
async fn a_login_ends_with_its_revocation_its_account_and_its_password() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let log_in = || async { gateway.log_in("ann", "correct horse").await };
    let by_subject = log_in().await;
    gateway.revocations.revoke(&Revocation::Subject("ann".into())).await.expect("written");
    let by_credential = log_in().await;
    let identity = verify(&*gateway.login.verifier(), &by_credential.token()).await.expect("good");
    let revocation = Revocation::Credential("ann".into(), identity.credential);
    gateway.login.verifier().revoke(&revocation).await.expect("written");
    // Long after any token has expired, the cookie would still be valid.
    gateway.hands.forward(Duration::from_secs(20 * 3600));
    let gateway = Gateway::start(&directory, &gateway.hands, config()).await;
    for answer in [by_subject, by_credential] {
        assert_eq!(gateway.refresh(&answer.cookie()).await.error(), (401, "no_session"));
    }
    let before = gateway.log_in("ann", "correct horse").await;
    let command = Accounts::with_cost(directory.path(), CHEAP).expect("accounts");
    command.passwd("ann", "battery staple").await.expect("changed");
    assert_eq!(gateway.refresh(&before.cookie()).await.status, 401);
    let before = gateway.log_in("ann", "battery staple").await;
    command.remove("ann").expect("removed");
    command.add("ann", "battery staple").await.expect("another ann");
    assert_eq!(gateway.refresh(&before.cookie()).await.status, 401);
}

/// Forwards the revocations.
struct Heard(mpsc::UnboundedSender<Revocation>);

impl Revoker for Heard {
    fn revoke(&self, revocation: Revocation) -> BoxFuture<'_, Result<(), RevokeError>> {
        let heard = self.0.send(revocation).map_err(|error| RevokeError::because(error.to_string(), error));
        Box::pin(async { heard })
    }
}

#[tokio::test]
async fn what_the_command_does_to_an_account_ends_its_logins_and_no_other() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let command = Accounts::with_cost(directory.path(), CHEAP).expect("accounts");
    command.add("bob", "battery staple").await.expect("added");
    let (heard, mut revoked) = mpsc::unbounded_channel();
    gateway.login.revoke_through(Arc::new(Heard(heard)));
    let name =
        async |answer: &Answer| verify(&*gateway.login.verifier(), &answer.token()).await.expect("good").credential;
    let ann = [gateway.log_in("ann", "correct horse").await, gateway.log_in("ann", "correct horse").await];
    let mut names = [name(&ann[0]).await, name(&ann[1]).await];
    let bob = gateway.log_in("bob", "battery staple").await;
    // One of the changes is made while no request looks.
    command.remove("ann").expect("removed");
    let watching = tokio::spawn(Arc::clone(&gateway.login).watch(Duration::from_millis(5)));
    let bob_is = name(&bob).await;
    let mut next = async || {
        let told = tokio::time::timeout(Duration::from_secs(20), revoked.recv()).await;
        told.expect("nobody looked").expect("a revocation")
    };
    let mut gone = [next().await, next().await].map(|revocation| {
        let Revocation::Credential(user, credential) = revocation else { panic!("{revocation:?}") };
        assert_eq!(&*user, "ann");
        credential
    });
    names.sort_unstable();
    gone.sort_unstable();
    assert_eq!(gone, names);
    for answer in &ann {
        assert_eq!(gateway.refresh(&answer.cookie()).await.error(), (401, "no_session"));
    }
    assert_eq!(gateway.refresh(&bob.cookie()).await.status, 200);
    command.passwd("bob", "another one").await.expect("changed");
    let second = gateway.log_in("bob", "another one").await;
    assert_eq!(next().await, Revocation::Credential("bob".into(), bob_is));
    assert_eq!(gateway.refresh(&second.cookie()).await.status, 200, "the new login stays");
    watching.abort();
}

#[tokio::test]
async fn a_login_ends_when_it_is_not_used_for_a_day_and_after_a_month_at_the_latest() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let unused = gateway.log_in("ann", "correct horse").await.cookie();
    let mut used = gateway.log_in("ann", "correct horse").await.cookie();
    gateway.hands.forward(DAY);
    assert_eq!(gateway.refresh(&unused).await.status, 401);
    assert_eq!(gateway.refresh(&used).await.status, 401);
    used = gateway.log_in("ann", "correct horse").await.cookie();
    for _ in 0..31 {
        gateway.hands.forward(DAY - Duration::from_secs(3600));
        used = gateway.refresh(&used).await.cookie();
    }
    gateway.hands.forward(DAY - Duration::from_secs(3600));
    assert_eq!(gateway.refresh(&used).await.status, 401);
}

#[tokio::test]
async fn a_user_has_only_so_many_logins_and_the_oldest_makes_room() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let mut cookies = Vec::new();
    for _ in 0..33 {
        cookies.push(gateway.log_in("ann", "correct horse").await.cookie());
        gateway.hands.forward(Duration::from_millis(1));
    }
    assert_eq!(gateway.refresh(&cookies[0]).await.status, 401);
    assert_eq!(gateway.refresh(&cookies[1]).await.status, 200);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_refuses_logins_and_ends_none() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    gateway.accounts.add("bob", "battery staple").await.expect("added");
    let bob = gateway.log_in("bob", "battery staple").await.cookie();
    // The file is rewritten after that many lines, which a directory in the way prevents.
    let obstacle = directory.path().join("logins.jsonl.new");
    std::fs::create_dir(&obstacle).expect("a directory");
    let mut refused = None;
    for _ in 0..1000 {
        let answer = gateway.log_in("ann", "correct horse").await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the file was never written again");
    assert_eq!((refused.error(), refused.header("retry-after")), ((503, "unavailable"), Some("1")));
    assert!(refused.header("set-cookie").is_none());
    assert_eq!(gateway.refresh(&bob).await.error(), (503, "unavailable"), "bob has to wait, but is not logged out");
    std::fs::remove_dir(&obstacle).expect("out of the way");
    let next = gateway.refresh(&bob).await;
    assert_eq!(next.status, 200, "the turn that was not written was not taken");
    let restarted = Gateway::start(&directory, &gateway.hands, config()).await;
    assert_eq!(restarted.refresh(&next.cookie()).await.status, 200);
    assert_eq!(restarted.log_in("ann", "correct horse").await.status, 200);
}

#[tokio::test]
async fn neither_a_cookie_nor_a_token_is_in_the_files() {
    let directory = Directory::new();
    let gateway = Gateway::with_ann(&directory).await;
    let answer = gateway.log_in("ann", "correct horse").await;
    let answer = gateway.refresh(&answer.cookie()).await;
    let cookie = answer.cookie().split_once('=').expect("a pair").1.to_owned();
    let signature = answer.token().rsplit_once('.').expect("a signature").1.to_owned();
    for file in std::fs::read_dir(directory.path()).expect("a directory") {
        let path = file.expect("a file").path();
        let content = std::fs::read(&path).expect("a file");
        let text = String::from_utf8_lossy(&content);
        for secret in [&cookie[cookie.len() - 40..], &signature] {
            assert!(!text.contains(secret), "{}", path.display());
        }
        #[cfg(unix)]
        if !text.is_empty() {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }
}

/// When a refresh races with a logout everywhere, no valid token is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_refresh_slips_through_a_logout_everywhere() {
    let directory = Directory::new();
    let gateway = Arc::new(Gateway::with_ann(&directory).await);
    for _ in 0..40 {
        let (here, there) =
            (gateway.log_in("ann", "correct horse").await, gateway.log_in("ann", "correct horse").await);
        let (cookie, out) = (there.cookie(), here.cookie());
        let refreshing = {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { gateway.refresh(&cookie).await })
        };
        let leaving = {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { gateway.log_out(&out, true).await })
        };
        let (refreshed, left) = (refreshing.await.expect("no panic"), leaving.await.expect("no panic"));
        assert_eq!(left.status, 204);
        if refreshed.status == 200 {
            assert!(!gateway.is_good(&refreshed.token()).await);
            assert_eq!(gateway.refresh(&refreshed.cookie()).await.status, 401);
        }
    }
}
