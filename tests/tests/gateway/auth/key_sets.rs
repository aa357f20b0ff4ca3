//! Key sets at a URL, from a real server that can misbehave.

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
use tokio::sync::{Notify, watch};

use super::support::*;

/// How the server answers.
#[derive(Clone)]
enum Reply {
    Keys(Value),
    Status(u16),
    Redirect,
    Garbage,
    Cut,
    /// More bytes than allowed, without announcing a length.
    Flood,
    /// Nothing, and the connection stays open.
    Silence,
    /// The keys, but only after a test releases them.
    Held(Value),
}

#[derive(Clone)]
struct Server {
    url: String,
    reply: Arc<Mutex<Reply>>,
    requests: watch::Sender<usize>,
    /// The headers of an answer with keys, and the last request's `if-none-match`.
    headers: Arc<Mutex<String>>,
    tagged: Arc<Mutex<Option<String>>>,
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
            requests: watch::Sender::new(0),
            headers: Arc::default(),
            tagged: Arc::default(),
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
        let head = String::from_utf8_lossy(&request).to_lowercase();
        let tag = head.lines().find_map(|line| line.strip_prefix("if-none-match: ").map(str::to_owned));
        *self.tagged.lock().expect("a tag") = tag;
        self.requests.send_modify(|requests| *requests += 1);
        self.arrived.notify_one();
        let reply = self.reply.lock().expect("a reply").clone();
        let whole = |status: u16, more: &str, body: &str| {
            format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n{body}", body.len())
        };
        let text = match reply {
            Reply::Keys(keys) => whole(200, &self.headers.lock().expect("headers"), &keys.to_string()),
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
        *self.requests.borrow()
    }

    /// Waits until that many requests have arrived.
    async fn until(&self, requests: usize) {
        self.requests.subscribe().wait_for(|seen| *seen >= requests).await.expect("a server");
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

/// A token valid for three hours, so that keys age out before it does.
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
    server.until(2).await;
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
async fn unknown_keys_cause_one_fetch_an_interval_and_no_rejection_meanwhile() {
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
async fn known_keys_stay_valid_for_the_grace_while_the_issuer_is_unreachable_and_no_token_is_rejected() {
    let server = Server::start(Reply::Keys(only_first())).await;
    let (verifier, hands) = server.verifier();
    verify(&verifier, &token(&first(), "first")).await.expect("good");
    server.set(Reply::Status(503));
    hands.forward(Duration::from_secs(600));
    verify(&verifier, &token(&first(), "first")).await.expect("within the grace");
    server.until(2).await;
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
async fn an_answer_that_is_not_a_key_set_rejects_no_token_and_replaces_no_keys() {
    let empty = json!({"keys": []});
    let useless = json!({"keys": [{"kty": "oct", "k": base64url(SECRET), "kid": "first"}]});
    let cases = [
        (Reply::Status(404), "404"),
        (Reply::Status(204), "204"),
        (Reply::Redirect, "302"),
        (Reply::Garbage, "not a key set"),
        (Reply::Cut, "the key set cannot be fetched: "),
        (Reply::Flood, "longer than 4096 bytes"),
        (Reply::Silence, "no answer in time"),
        (Reply::Keys(empty), "has no usable key"),
        (Reply::Keys(useless), "has no usable key"),
    ];
    for (reply, expected) in cases {
        let server = Server::start(Reply::Keys(only_first())).await;
        // In real time, because the socket is real.
        let timeout = Duration::from_millis(if expected == "no answer in time" { 50 } else { 20_000 });
        let mut url = KeyUrl::new(&server.url);
        url.timeout = timeout;
        url.max_bytes = 4096;
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
async fn concurrent_verifications_share_one_fetch() {
    let server = Server::start(Reply::Held(only_first())).await;
    let (verifier, _) = server.verifier();
    let verifier = Arc::new(verifier);
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let verifier = Arc::clone(&verifier);
            tokio::spawn(async move { verify(&*verifier, &token(&first(), "first")).await })
        })
        .collect();
    server.arrived.notified().await;
    server.release.notify_one();
    for request in requests {
        request.await.expect("no panic").expect("good");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_fetch_goes_on_when_its_first_caller_has_gone() {
    let server = Server::start(Reply::Held(only_first())).await;
    let (verifier, _) = server.verifier();
    {
        let wanted = lockstep::payload::Token::new(&token(&first(), "first"));
        let request = verifier.verify(&wanted);
        tokio::select! {
            verdict = request => panic!("no answer yet: {verdict:?}"),
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

/// A token that names no key.
fn unnamed(key: &EncodingKey) -> String {
    let algorithm = if key.family() == AlgorithmFamily::Ed { Algorithm::EdDSA } else { Algorithm::ES256 };
    encode(&Header::new(algorithm), &but(json!({"exp": TODAY + 3 * 3600})), key).expect("a token")
}

/// The key set with its keys' names removed.
fn nameless(mut set: Value) -> Value {
    for key in set["keys"].as_array_mut().expect("keys") {
        key.as_object_mut().expect("a key").remove("kid");
    }
    set
}

/// An issuer may rotate keys that have no names, or give a new key the name of the old. A token that no key verifies is
/// checked again with a fresh set.
#[tokio::test]
async fn a_rotation_without_names_is_found() {
    let renamed = json!({"keys": [jwk(&second(), Algorithm::ES256, "first")]});
    for (old, new, of_old, of_new) in [
        (nameless(only_first()), nameless(only_second()), unnamed(&first()), unnamed(&second())),
        (only_first(), only_second(), unnamed(&first()), unnamed(&second())),
        (only_first(), renamed, token(&first(), "first"), token(&second(), "first")),
    ] {
        let server = Server::start(Reply::Keys(old)).await;
        let (verifier, hands) = server.verifier();
        verify(&verifier, &of_old).await.expect("good");
        server.set(Reply::Keys(new));
        // Not yet known, but not rejected either: the key may be brand new.
        let reason = unavailable(&verifier, &of_new).await;
        assert!(reason.contains("cannot be fetched again yet"), "{reason}");
        verify(&verifier, &of_old).await.expect("a known key is not held up");
        assert_eq!(server.requests(), 1);
        hands.forward(Duration::from_secs(10));
        verify(&verifier, &of_new).await.expect("the rotated key");
        assert_eq!(server.requests(), 2);
        hands.forward(Duration::from_secs(10));
        let reason = rejection(&verifier, &of_old).await;
        assert!(
            ["the signature is wrong", "the key does not permit the algorithm", UNKNOWN].contains(&reason),
            "{reason}"
        );
        assert_eq!(server.requests(), 3, "it was looked for once more");
    }
}

/// A token is verified at once if the known keys allow it, also by keys without a name, and while the server is slow or
/// gone.
#[tokio::test]
async fn a_usable_key_is_used_at_once_however_slow_the_server_is() {
    let server = Server::start(Reply::Keys(nameless(only_first()))).await;
    let (verifier, hands) = server.verifier();
    verify(&verifier, &token(&first(), "any")).await.expect("good");
    assert_eq!(server.requests(), 1);
    for (reply, age) in
        [(Reply::Silence, 0), (Reply::Silence, 10), (Reply::Held(only_second()), 590), (Reply::Silence, 1_000)]
    {
        server.set(reply);
        hands.forward(Duration::from_secs(age));
        for token in [token(&first(), "any"), unnamed(&first()), token(&first(), "other")] {
            let verdict = verify(&verifier, &token);
            // Without any wait for a socket.
            let verdict = futures_util::FutureExt::now_or_never(verdict).expect("an answer at once");
            verdict.expect("good");
        }
    }
}

/// An answer says how long it is fresh, within our bounds, and is not sent again if nothing has changed.
#[tokio::test]
async fn an_answer_says_for_how_long_it_is_fresh() {
    for (header, seconds) in [
        ("cache-control: public, max-age=60\r\n", 60),
        ("cache-control: max-age=0\r\n", 10),
        ("cache-control: no-cache\r\n", 600),
        ("cache-control: max-age=86400\r\n", 600),
        ("Cache-Control: Max-Age=\"30\"\r\n", 30),
        ("cache-control: max-age=soon\r\n", 600),
    ] {
        let server = Server::start(Reply::Keys(only_first())).await;
        *server.headers.lock().expect("headers") = header.to_owned();
        let (verifier, hands) = server.verifier();
        verify(&verifier, &token(&first(), "first")).await.expect("good");
        hands.forward(Duration::from_millis(seconds * 1000 - 1));
        verify(&verifier, &token(&first(), "first")).await.expect("good");
        assert_eq!(server.requests(), 1, "{header}: fresh");
        hands.forward(Duration::from_millis(1));
        verify(&verifier, &token(&first(), "first")).await.expect("good");
        server.until(2).await;
    }
}

#[tokio::test]
async fn a_set_that_has_not_changed_is_kept() {
    let server = Server::start(Reply::Keys(only_first())).await;
    *server.headers.lock().expect("headers") = "etag: \"v1\"\r\n".to_owned();
    let (verifier, hands) = server.verifier();
    verify(&verifier, &token(&first(), "first")).await.expect("good");
    server.set(Reply::Status(304));
    hands.forward(Duration::from_secs(10));
    assert_eq!(
        rejection(&verifier, &token(&second(), "second")).await,
        UNKNOWN,
        "nothing has changed, so it is certain"
    );
    assert_eq!(server.tagged.lock().expect("a tag").as_deref(), Some("\"v1\""));
    verify(&verifier, &token(&first(), "first")).await.expect("kept");
}

/// Sets may have members that do not apply to us, and names that are not unique.
#[tokio::test]
async fn a_set_may_have_unknown_members() {
    let other = EncodingKey::from_rsa_pem(OTHER_RSA).expect("a key");
    let with = |mut jwk: Value, field: &str, value: Value| {
        jwk[field] = value;
        jwk
    };
    let ed = || jwk(&first(), Algorithm::EdDSA, "first");
    let without_algorithm = {
        let mut key = ed();
        key.as_object_mut().expect("a key").remove("alg");
        key
    };
    let set = json!({"keys": [
        {"kty": "AKP", "kid": "first", "alg": "ML-DSA-44", "pub": "x"},
        {"kty": "EC", "crv": "secp256k1", "kid": "first", "x": "AA", "y": "AA"},
        {"kid": "first"},
        null,
        7,
        with(jwk(&other, Algorithm::RS256, "first"), "use", json!("enc")),
        with(jwk(&other, Algorithm::RS256, "first"), "alg", json!("RSA-OAEP")),
        with(ed(), "x", json!("AAAA")),
        jwk(&second(), Algorithm::ES256, "first"),
        with(without_algorithm, "x5c", json!(["MIIB"])),
    ], "more": true});
    let server = Server::start(Reply::Keys(set)).await;
    let (verifier, _) = server.verifier();
    for token in [token(&first(), "first"), unnamed(&first()), token(&second(), "first"), unnamed(&second())] {
        verify(&verifier, &token).await.expect("good");
    }
    assert_eq!(server.requests(), 1);
}
