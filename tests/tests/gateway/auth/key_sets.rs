//! Key sets at a URL, of a server that is real and can misbehave.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header, encode};
use lockstep::verify::jwks::KeyUrl;
use lockstep::verify::jwt::{JwtConfig, JwtVerifier};
use lockstep::verify::keys::Keys;
use lockstep::verify::{NotVerified, Verifier};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::support::*;

/// How the server answers.
#[derive(Clone)]
enum Reply {
    Keys(Value),
    Status(u16),
    Redirect,
    Garbage,
    Cut,
    /// More than it says that it may be, without saying how much it will be.
    Flood,
    /// Nothing, and the connection stays open.
    Silence,
    /// The keys, but only once somebody says so.
    Held(Value),
}

#[derive(Clone)]
struct Server {
    url: String,
    reply: Arc<Mutex<Reply>>,
    requests: Arc<AtomicUsize>,
    arrived: Arc<Notify>,
    release: Arc<Notify>,
}

impl Server {
    async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let server = Self {
            url,
            reply: Arc::new(Mutex::new(reply)),
            requests: Arc::default(),
            arrived: Arc::default(),
            release: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().answer(socket));
            }
        });
        server
    }

    async fn answer(self, mut socket: TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return,
            }
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_one();
        let reply = self.reply.lock().expect("a reply").clone();
        let whole = |status: u16, more: &str, body: &str| {
            format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n{body}", body.len())
        };
        let text = match reply {
            Reply::Keys(keys) => whole(200, "", &keys.to_string()),
            Reply::Status(status) => whole(status, "", "{}"),
            Reply::Redirect => whole(302, "location: /elsewhere\r\n", ""),
            Reply::Garbage => whole(200, "", "<html>a login page</html>"),
            Reply::Cut => whole(200, "", &"{".repeat(100))[..120].to_owned(),
            Reply::Flood => {
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let _ = socket.write_all(head.as_bytes()).await;
                let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
                while socket.write_all(chunk.as_bytes()).await.is_ok() {}
                return;
            }
            Reply::Silence => {
                let _ = socket.read_u8().await;
                return;
            }
            Reply::Held(keys) => {
                self.release.notified().await;
                whole(200, "", &keys.to_string())
            }
        };
        let _ = socket.write_all(text.as_bytes()).await;
    }

    fn set(&self, reply: Reply) {
        *self.reply.lock().expect("a reply") = reply;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn verifier(&self) -> (JwtVerifier, Hands) {
        verifier_of(JwtConfig::new(Keys::Url(KeyUrl::new(&self.url))))
    }
}

fn first() -> EncodingKey {
    signing_key(Algorithm::EdDSA)
}

fn second() -> EncodingKey {
    signing_key(Algorithm::ES256)
}

fn only_first() -> Value {
    json!({"keys": [jwk(&first(), Algorithm::EdDSA, "first")]})
}

fn only_second() -> Value {
    json!({"keys": [jwk(&second(), Algorithm::ES256, "second")]})
}

/// Good for three hours, so that keys grow old before it does.
fn token(key: &EncodingKey, id: &str) -> String {
    let algorithm = if key.family() == AlgorithmFamily::Ed { Algorithm::EdDSA } else { Algorithm::ES256 };
    let header = Header { kid: Some(id.to_owned()), ..Header::new(algorithm) };
    encode(&header, &but(json!({"exp": TODAY + 3 * 3600})), key).expect("a token")
}

async fn unavailable(verifier: &JwtVerifier, token: &str) -> String {
    match verify(verifier, token).await {
        Err(NotVerified::Unavailable(reason)) => reason,
        other => panic!("not unavailable: {other:?}"),
    }
}

const UNKNOWN: &str = "signed with a key that is not in the key set";

#[tokio::test]
async fn keys_are_fetched_once_and_used_until_they_are_old() {
    let server = Server::start(Reply::Keys(only_first())).await;
    let (verifier, hands) = server.verifier();
    assert_eq!(server.requests(), 0, "nothing is fetched before it is needed");
    for _ in 0..10 {
        verify(&verifier, &token(&first(), "first")).await.expect("good");
    }
    assert_eq!(server.requests(), 1);
    hands.forward(Duration::from_secs(600));
    verify(&verifier, &token(&first(), "first")).await.expect("good");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_new_key_is_found_when_its_first_token_comes_and_an_old_one_is_gone_with_it() {
    let server = Server::start(Reply::Keys(only_first())).await;
    let (verifier, hands) = server.verifier();
    verify(&verifier, &token(&first(), "first")).await.expect("good");
    server.set(Reply::Keys(only_second()));
    hands.forward(Duration::from_secs(10));
    verify(&verifier, &token(&second(), "second")).await.expect("the rotated key");
    assert_eq!(server.requests(), 2);
    hands.forward(Duration::from_secs(10));
    assert_eq!(rejection(&verifier, &token(&first(), "first")).await, UNKNOWN);
}

#[tokio::test]
async fn unknown_keys_make_no_more_than_one_fetch_an_interval_and_meanwhile_nobody_is_rejected() {
    let server = Server::start(Reply::Keys(only_first())).await;
    let (verifier, hands) = server.verifier();
    assert_eq!(rejection(&verifier, &token(&second(), "0")).await, UNKNOWN, "fetched after it was asked for");
    for id in 1..20 {
        let reason = unavailable(&verifier, &token(&second(), &id.to_string())).await;
        assert!(reason.contains("cannot be fetched again yet"), "{reason}");
    }
    verify(&verifier, &token(&first(), "first")).await.expect("a known key is not held up");
    assert_eq!(server.requests(), 1);
    hands.forward(Duration::from_secs(10));
    assert_eq!(rejection(&verifier, &token(&second(), "20")).await, UNKNOWN);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn while_the_issuer_is_out_of_reach_known_keys_live_on_for_the_grace_and_nobody_is_rejected() {
    let server = Server::start(Reply::Keys(only_first())).await;
    let (verifier, hands) = server.verifier();
    verify(&verifier, &token(&first(), "first")).await.expect("good");
    server.set(Reply::Status(503));
    hands.forward(Duration::from_secs(600));
    verify(&verifier, &token(&first(), "first")).await.expect("within the grace");
    assert_eq!(server.requests(), 2, "it was tried");
    verify(&verifier, &token(&first(), "first")).await.expect("within the grace");
    assert_eq!(server.requests(), 2, "but not twice in an interval");
    hands.forward(Duration::from_secs(10));
    unavailable(&verifier, &token(&second(), "second")).await;
    hands.forward(Duration::from_secs(3600));
    let reason = unavailable(&verifier, &token(&first(), "first")).await;
    assert!(reason.contains("503"), "{reason}");
    server.set(Reply::Keys(only_first()));
    unavailable(&verifier, &token(&first(), "first")).await;
    hands.forward(Duration::from_secs(10));
    verify(&verifier, &token(&first(), "first")).await.expect("it is back");
}

#[tokio::test]
async fn no_answer_that_is_not_a_key_set_rejects_anybody_or_replaces_the_keys() {
    let empty = json!({"keys": []});
    let useless = json!({"keys": [{"kty": "oct", "k": base64url(SECRET), "kid": "first"}]});
    let cases = [
        (Reply::Status(404), "404"),
        (Reply::Status(204), "204"),
        (Reply::Redirect, "302"),
        (Reply::Garbage, "not a key set"),
        (Reply::Cut, "the key set: "),
        (Reply::Flood, "longer than 4096 bytes"),
        (Reply::Silence, "no answer in time"),
        (Reply::Keys(empty), "without a key"),
        (Reply::Keys(useless), "without a key"),
    ];
    for (reply, expected) in cases {
        let server = Server::start(Reply::Keys(only_first())).await;
        // A wait that is real, for the socket is.
        let timeout = Duration::from_millis(if expected == "no answer in time" { 50 } else { 20_000 });
        let url = KeyUrl { timeout, max_bytes: 4096, ..KeyUrl::new(&server.url) };
        let (verifier, hands) = verifier_of(JwtConfig::new(Keys::Url(url.clone())));
        verify(&verifier, &token(&first(), "first")).await.expect("good");
        server.set(reply.clone());
        hands.forward(url.max_age);
        verify(&verifier, &token(&first(), "first")).await.expect("the keys from before");
        hands.forward(url.grace);
        let reason = unavailable(&verifier, &token(&first(), "first")).await;
        assert!(reason.contains(expected), "{expected}: {reason}");
        let (fresh, _) = verifier_of(JwtConfig::new(Keys::Url(url)));
        let reason = unavailable(&fresh, &token(&first(), "first")).await;
        assert!(reason.contains(expected), "{expected}: {reason}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_its_url_stays_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = KeyUrl::new(&format!("http://user:hunter2@{address}/keys?key=hunter3"));
    assert!(!format!("{url:?}").contains("hunter"));
    let (verifier, _) = verifier_of(JwtConfig::new(Keys::Url(url)));
    let reason = unavailable(&verifier, &token(&first(), "first")).await;
    assert!(!reason.contains("hunter"), "{reason}");
    assert!(!format!("{verifier:?}").contains("hunter"));
}

#[tokio::test]
async fn many_who_need_the_keys_share_one_fetch() {
    let server = Server::start(Reply::Held(only_first())).await;
    let (verifier, _) = server.verifier();
    let verifier = Arc::new(verifier);
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let verifier = Arc::clone(&verifier);
            tokio::spawn(async move { verify(&*verifier, &token(&first(), "first")).await })
        })
        .collect();
    server.arrived.notified().await;
    server.release.notify_one();
    for asked in asking {
        asked.await.expect("no panic").expect("good");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_fetch_goes_on_when_the_one_who_began_it_has_gone() {
    let server = Server::start(Reply::Held(only_first())).await;
    let (verifier, _) = server.verifier();
    {
        let wanted = lockstep::payload::Token::new(&token(&first(), "first"));
        let asking = verifier.verify(&wanted);
        tokio::select! {
            verdict = asking => panic!("no answer yet: {verdict:?}"),
            () = server.arrived.notified() => {}
        }
    }
    server.release.notify_one();
    verify(&verifier, &token(&first(), "first")).await.expect("good, though nobody else may fetch for an interval");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_clock_that_went_back_does_not_make_keys_young() {
    let server = Server::start(Reply::Keys(only_first())).await;
    let (verifier, hands) = server.verifier();
    verify(&verifier, &token(&first(), "first")).await.expect("good");
    hands.back(Duration::from_secs(20));
    verify(&verifier, &token(&first(), "first")).await.expect("fetched again");
    assert_eq!(server.requests(), 2);
}
