//! The gateway's log contains no credential, whatever a peer does with one.

use std::io;
use std::sync::Mutex;

use lockstep_gateway::telemetry::log_filter;
use serde_json::json;
use tracing_subscriber::util::SubscriberInitExt;

use super::client::*;
use super::credentials::{now, strict, token, token_of};
use super::*;

/// Collects everything that is traced.
#[derive(Clone, Default)]
pub(crate) struct Pages(Arc<Mutex<Vec<u8>>>);

impl Pages {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl io::Write for Pages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_token_and_no_message_is_ever_traced() {
    let pages = Pages::default();
    let pen = pages.clone();
    let filter = log_filter("trace").expect("a filter");
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter);
    let subscriber = subscriber.with_writer(move || pen.clone());
    // This gateway does everything on this thread.
    let reading = subscriber.finish().set_default();
    let gateway = strict(|_| {}).await;
    let (header, protocol, first, refresh) = (token("ada"), token("ada"), token("ada"), token("ada"));
    let claims = json!({ "sub": "ada", "aud": "them", "iat": now(), "exp": now() + 600 });
    let bad = token_of(jsonwebtoken::Algorithm::HS256, b"guessed", &claims);
    let word = "a-token-that-is-but-a-word";
    let said = "what only the agent may know";

    let mut one = Client::upgraded(gateway.address, &[&format!("Authorization: Bearer {header}")]).await;
    one.until("connection_ready").await;
    let encoded = base64url(protocol.as_bytes());
    let offered = format!("Sec-WebSocket-Protocol: lockstep.v1, jwt.{encoded}");
    Client::upgraded(gateway.address, &[&offered]).await.until("connection_ready").await;
    let mut two = gateway.live(&first).await;
    two.say(&json!({ "type": "auth", "token": refresh })).await;
    assert_eq!(two.next().await["type"], "auth_ok");
    two.exchange(said).await;
    // Broken frames with a credential in them.
    two.send(&frame(TEXT, format!(r#"{{"type":"auth","token":"{refresh}""#).as_bytes())).await;
    two.until("error").await;
    two.say(&json!({ "type": refresh })).await;
    two.until("error").await;
    for token in [&bad, word] {
        let mut three = Client::upgraded(gateway.address, &[]).await;
        three.say(&json!({ "type": "auth", "token": token })).await;
        assert_eq!(three.end().await, 4500);
        let mut four = Client::upgraded(gateway.address, &[&format!("Authorization: Bearer {token}")]).await;
        assert_eq!(four.end().await, 4500);
    }
    let mut five = Client::connect(gateway.address).await;
    five.ask(&request(&[]).replacen("GET /ws", &format!("GET /ws?ticket={word}"), 1)).await;
    assert_eq!(five.end().await, 4500);
    drop(reading);

    let written = String::from_utf8(pages.0.lock().expect("no panic").clone()).expect("text");
    assert!(written.contains("a credential was rejected") && written.contains("connection{"), "{written}");
    for secret in [&header, &protocol, &encoded, &first, &refresh, &bad, word, said] {
        let last = secret.rsplit('.').next().unwrap_or(secret);
        assert!(!written.contains(last), "{secret} in\n{written}");
    }
}

/// What any peer can cause is logged once per reason, not each time.
#[tokio::test]
async fn bad_credentials_do_not_fill_the_log() {
    let pages = Pages::default();
    let pen = pages.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_env_filter(log_filter("info").expect("a filter"));
    let reading = subscriber.with_writer(move || pen.clone()).finish().set_default();
    let gateway = strict(|_| {}).await;
    let claims = json!({ "sub": "ada", "aud": "them", "iat": now(), "exp": now() + 600 });
    let forged = token_of(jsonwebtoken::Algorithm::HS256, b"guessed", &claims);
    for _ in 0..20 {
        for token in ["no token", &forged] {
            let mut stranger = Client::upgraded(gateway.address, &[&format!("Authorization: Bearer {token}")]).await;
            stranger.end().await;
        }
    }
    drop(reading);
    let written = String::from_utf8(pages.0.lock().expect("no panic").clone()).expect("text");
    let lines: Vec<&str> = written.lines().filter(|line| line.contains("credentials")).collect();
    assert_eq!(lines.len(), 2, "{written}");
    for reason in ["not a signed token", "the signature is wrong"] {
        assert_eq!(lines.iter().filter(|line| line.contains(reason)).count(), 1, "{written}");
    }
}

/// Base64url without padding (RFC 4648 §5).
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=chunk.len()].copy_from_slice(chunk);
        let number = u32::from_be_bytes(three);
        text.extend((0..=chunk.len()).map(|place| char::from(ALPHABET[(number >> (18 - 6 * place)) as usize & 63])));
    }
    text
}
