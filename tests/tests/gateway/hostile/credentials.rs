//! Credentials that are missing, bad, another user's, or used up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use lockstep::BoxFuture;
use lockstep::payload::Token;
use lockstep::verify::jwt::{JwtConfig, JwtVerifier};
use lockstep::verify::keys::{Keys, Secret};
use lockstep::verify::revoked::Revocations;
use lockstep::verify::{Identity, NotRevoked, NotVerified, Revocation};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::client::*;
use super::*;

const SECRET: &[u8] = b"a secret of these tests, good for nothing else at all";

pub(super) fn token_of(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).expect("a token")
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

/// A valid token for `user`. Each has its own id.
pub(super) fn token(user: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    signed(&json!({ "sub": user, "aud": "us", "iat": now(), "exp": now() + 600, "jti": id }))
}

fn signed(claims: &Value) -> String {
    token_of(Algorithm::HS256, SECRET, claims)
}

/// A gateway for HS256 tokens only, for the audience `us`.
pub(super) async fn strict(change: impl FnOnce(&mut Config)) -> Gateway {
    let mut config = JwtConfig::new(Keys::Secret(Secret::new(SECRET)));
    config.algorithms = vec![Algorithm::HS256];
    config.audience = Some(vec!["us".to_owned()]);
    config.leeway = Duration::ZERO;
    let revocations = Arc::new(Revocations::in_memory(config.retention(), Clock::system()));
    let verifier = JwtVerifier::new(config, revocations, Clock::system()).expect("a verifier");
    Gateway::of(Parts { verifier: Arc::new(verifier), ..Parts::default() }, change).await
}

async fn arrive(gateway: &Gateway) -> Others {
    Others::with(gateway.address, &token("bob"), &token("mallory")).await
}

#[tokio::test]
async fn a_connection_without_a_credential_in_time_is_closed_with_4504() {
    let gateway = Gateway::open(|config| {
        config.bounds.handshake_ms = 1_000;
        config.bounds.verification_ms = 900;
    })
    .await;
    let mut others = Others::arrive(gateway.address).await;
    let mut anonymous = Client::upgraded(gateway.address, &[]).await;
    let mut chatty = Client::upgraded(gateway.address, &[]).await;
    chatty.say(&json!({ "type": "ping" })).await;
    chatty.say(&message("m", "let me in")).await;
    chatty.send(&frame(PING, b"")).await;
    assert_eq!(anonymous.end().await, 4504);
    assert_eq!(chatty.hear().await, Heard::Pong(Vec::new()), "which is the protocol's, and says nothing");
    assert_eq!(chatty.end().await, 4504);
    others.notice_nothing().await;
}

/// An unintelligible peer is closed at once, not at the credential deadline. No frame may say why (AUTH-1).
#[tokio::test]
async fn an_unintelligible_frame_before_a_credential_closes_at_once() {
    let gateway = Gateway::open(|config| {
        config.bounds.handshake_ms = 3_600_000;
        config.bounds.verification_ms = 3_000_000;
    })
    .await;
    for text in ["{not JSON", "[1]", r#"{"type":"nonsense"}"#, r#"{"type":"auth"}"#, r#"{"type":"auth","token":7}"#, ""]
    {
        for (lines, code) in [(&[][..], 4504), (&["Sec-WebSocket-Protocol: jwt-auth"], 1008)] {
            let mut stranger = Client::upgraded(gateway.address, lines).await;
            stranger.send(&frame(TEXT, text.as_bytes())).await;
            assert_eq!(stranger.hear().await, Heard::Close(code), "{text}");
        }
    }
    // After a credential it waits its turn, and is answered with an error.
    let mut ada = Client::upgraded(gateway.address, &[]).await;
    ada.say(&json!({ "type": "auth", "token": token("ada") })).await;
    ada.send(&frame(TEXT, b"{not JSON")).await;
    assert_eq!(ada.next().await["type"], "connection_ready");
    assert_eq!(ada.error().await, "malformed");
}

#[tokio::test]
async fn a_credential_that_is_not_good_is_closed_with_4500_however_it_comes() {
    let gateway = strict(|_| {}).await;
    let mut others = arrive(&gateway).await;
    let good = json!({ "sub": "mallory", "aud": "us", "iat": now(), "exp": now() + 600 });
    let but = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let none = format!("eyJhbGciOiJub25lIn0.{}.", signed(&good).split('.').nth(1).expect("claims"));
    let whole = signed(&good);
    for (what, token) in [
        ("expired", signed(&but("exp", json!(now() - 1)))),
        ("not yet good", signed(&but("nbf", json!(now() + 300)))),
        ("another audience", signed(&but("aud", json!("them")))),
        ("no audience", signed(&but("aud", Value::Null))),
        ("no expiry", signed(&but("exp", Value::Null))),
        ("no subject", signed(&but("sub", Value::Null))),
        ("another algorithm", token_of(Algorithm::HS512, SECRET, &good)),
        ("another secret", token_of(Algorithm::HS256, b"guessed", &good)),
        ("no algorithm", none),
        ("cut short", whole[..whole.len() - 2].to_owned()),
        ("no token", "mallory".to_owned()),
        ("far too long", "x".repeat(60_000)),
    ] {
        let mut mallory = Client::upgraded(gateway.address, &[]).await;
        mallory.say(&json!({ "type": "auth", "token": token })).await;
        assert_eq!(mallory.end().await, 4500, "{what}");
        if token.len() < 10_000 {
            let header = format!("Authorization: Bearer {token}");
            let mut mallory = Client::upgraded(gateway.address, &[&header]).await;
            assert_eq!(mallory.end().await, 4500, "{what}, in the header");
        }
    }
    let mut mallory = Client::upgraded(gateway.address, &["Sec-WebSocket-Protocol: lockstep.v1, jwt.!!!!"]).await;
    assert_eq!(mallory.end().await, 4500);
    others.notice_nothing().await;
}

#[tokio::test]
async fn without_a_verdict_the_code_says_come_back() {
    let gateway = Gateway::open(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut ada = Client::upgraded(gateway.address, &["Authorization: Bearer unavailable"]).await;
    assert_eq!(ada.end().await, 4003);
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_refresh_with_the_token_of_another_user_is_closed_with_4503() {
    let gateway = strict(|_| {}).await;
    let mut others = arrive(&gateway).await;
    let mut mallory = gateway.live(&token("mallory")).await;
    mallory.say(&json!({ "type": "auth", "token": token("mallory") })).await;
    assert_eq!(mallory.next().await["type"], "auth_ok");
    mallory.say(&json!({ "type": "auth", "token": token("bob") })).await;
    assert_eq!(mallory.end().await, 4503);
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_refresh_with_a_bad_token_is_closed_with_4500() {
    let gateway = strict(|_| {}).await;
    let mut others = arrive(&gateway).await;
    let mut mallory = gateway.live(&token("mallory")).await;
    mallory.say(&json!({ "type": "auth", "token": "no token" })).await;
    assert_eq!(mallory.end().await, 4500);
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_credential_that_expires_on_an_open_socket_is_closed_with_4501() {
    let gateway = strict(|_| {}).await;
    let mut others = arrive(&gateway).await;
    let short = signed(&json!({ "sub": "mallory", "aud": "us", "iat": now(), "exp": now() + 3 }));
    let mut mallory = gateway.live(&short).await;
    let told = mallory.until("close").await;
    assert_eq!(told.last().expect("a close")["code"], 4501);
    assert!(told.iter().any(|told| told["type"] == "auth_expiring"), "{told:?}");
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_ticket_lets_in_once() {
    let gateway = strict(|_| {}).await;
    let mut others = arrive(&gateway).await;
    let mut desk = Client::connect(gateway.address).await;
    let ask = |token: &str| {
        format!(
            "POST /ws/ticket HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    desk.send(ask(&token("mallory")).as_bytes()).await;
    let answer = String::from_utf8(desk.rest().await).expect("text");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let ticket: Value = serde_json::from_str(body).expect("JSON");
    let ticket = ticket["ticket"].as_str().expect("a ticket");
    let upgrade = request(&[]).replacen("GET /ws", &format!("GET /ws?ticket={ticket}"), 1);
    let mut first = Client::connect(gateway.address).await;
    assert!(first.ask(&upgrade).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(first.next().await["user_id"], "mallory");
    let mut second = Client::connect(gateway.address).await;
    assert!(second.ask(&upgrade).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(second.end().await, 4500);
    first.is_live().await;
    others.notice_nothing().await;
    let mut anonymous = Client::connect(gateway.address).await;
    assert!(anonymous.ask(&ask("no token")).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn more_pending_credentials_than_allowed_are_closed_with_4508() {
    struct Never;
    impl Verifier for Never {
        fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>> {
            if token.expose() == "never" { Box::pin(core::future::pending()) } else { AnyToken.verify(token) }
        }

        fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
            AnyToken.revoke(revocation)
        }
    }
    let gateway = Gateway::of(Parts { verifier: Arc::new(Never), ..Parts::default() }, |_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut mallory = Client::upgraded(gateway.address, &[]).await;
    for _ in 0..5 {
        mallory.say(&json!({ "type": "auth", "token": "never" })).await;
    }
    assert_eq!(mallory.end().await, 4508);
    others.notice_nothing().await;
}

/// Panics on demand, and revokes once it has a permit.
struct Wild {
    throws: AtomicBool,
    dies: AtomicBool,
    permits: Semaphore,
}

impl Wild {
    fn before(&self, asked: &str) -> BoxFuture<'_, ()> {
        assert!(!self.throws.swap(false, Ordering::SeqCst), "what the test wants of {asked}");
        Box::pin(async {
            assert!(!self.dies.swap(false, Ordering::SeqCst), "what the test wants");
        })
    }
}

impl Verifier for Wild {
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>> {
        let before = self.before("a verdict");
        Box::pin(async move {
            before.await;
            AnyToken.verify(token).await
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        let before = self.before("a revocation");
        Box::pin(async move {
            before.await;
            self.permits.acquire().await.expect("open").forget();
            AnyToken.revoke(revocation).await
        })
    }
}

async fn wild() -> (Arc<Wild>, Gateway) {
    let (throws, dies) = (AtomicBool::new(false), AtomicBool::new(false));
    let verifier = Arc::new(Wild { throws, dies, permits: Semaphore::new(0) });
    let parts = Parts { verifier: Arc::clone(&verifier) as Arc<dyn Verifier>, ..Parts::default() };
    let gateway = Gateway::of(parts, |Config { bounds, .. }| {
        // Longer than a client of these tests waits.
        (bounds.verification_ms, bounds.handshake_ms) = (110_000, 120_000);
    })
    .await;
    (verifier, gateway)
}

/// AUTH-1, LIVE-1: a panicking verifier admits no connection, and its panic is a verdict at once, not at a deadline.
#[tokio::test]
async fn a_verifier_that_panics_is_out_of_reach() {
    let (verifier, gateway) = wild().await;
    let mut others = Others::arrive(gateway.address).await;
    let mut ada = gateway.live("ada").await;
    for trick in [&verifier.throws, &verifier.dies] {
        trick.store(true, Ordering::SeqCst);
        let mut anonymous = Client::upgraded(gateway.address, &[]).await;
        anonymous.say(&json!({ "type": "auth", "token": "ada" })).await;
        assert_eq!(anonymous.end().await, 4003);
        // Her current credential is still valid.
        trick.store(true, Ordering::SeqCst);
        ada.say(&json!({ "type": "auth", "token": "ada" })).await;
        assert_eq!(ada.error().await, "verifier_unavailable");
        ada.is_live().await;
    }
    ada.exchange("m").await;
    verifier.dies.store(true, Ordering::SeqCst);
    let told = gateway.manager.user("ada").revoke().await.expect_err("it panicked");
    assert_eq!((told.why.to_string().as_str(), told.repeated), ("the verifier panicked", true));
    assert_eq!(ada.end().await, 4502);
    others.notice_nothing().await;
}

/// AUTH-3: the caller of a revocation need not wait for it.
#[tokio::test]
async fn a_revocation_completes_although_its_caller_has_gone() {
    let (verifier, gateway) = wild().await;
    let mut ada = gateway.live("ada").await;
    let revoked = gateway.manager.user("ada");
    assert!(timeout(Duration::from_millis(50), revoked.revoke()).await.is_err(), "it was not let");
    assert_eq!(timeout(PATIENCE, ada.end()).await, Ok(4502), "no connection waits until it is written down");
    // The verifier does not know of the revocation yet, and admits her again.
    let mut ada = gateway.live("ada").await;
    verifier.permits.add_permits(1);
    assert_eq!(timeout(PATIENCE, ada.end()).await, Ok(4502));
}
