//! The user a connection is told it has, and where it begins to read: both come from what the machine relies on, once.

use std::sync::{Arc, Mutex};

use lockstep::BoxFuture;
use lockstep::manager::Opening;
use lockstep::payload::Token;
use lockstep::testing::{AnyToken, Echo, TestClient};
use lockstep::verify::{Identity, NotRevoked, NotVerified, Revocation, Verifier};
use lockstep::wire::{Codec, resume_from_query};
use lockstep_tests::history::History;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::judged::Watched;

/// Answers on command, in any order. A token is its user's name.
#[derive(Clone, Default)]
#[expect(clippy::type_complexity, reason = "who waits, by token")]
pub(crate) struct Slow(Arc<Mutex<Vec<(String, oneshot::Sender<()>)>>>);

impl Slow {
    /// Answers the oldest verification of this token once it has begun.
    pub(crate) async fn answer(&self, token: &str) {
        self.asked(token).await;
        let mut asked = self.0.lock().expect("no panic");
        let place = asked.iter().position(|(of, _)| of == token).expect("it was asked");
        asked.remove(place).1.send(()).expect("it waits for the answer");
    }

    /// Waits until this token is being verified.
    pub(crate) async fn asked(&self, token: &str) {
        while self.0.lock().expect("no panic").iter().all(|(of, _)| of != token) {
            tokio::task::yield_now().await;
        }
    }
}

impl Verifier for Slow {
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>> {
        let (answer, answered) = oneshot::channel();
        self.0.lock().expect("no panic").push((token.expose().to_owned(), answer));
        Box::pin(async move {
            answered.await.expect("an answer");
            AnyToken.verify(token).await
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        AnyToken.revoke(revocation)
    }
}

pub(crate) fn say_auth(peer: &TestClient, token: &str) {
    peer.say(&json!({ "type": "auth", "token": token }).to_string());
}

/// The user in `connection_ready`, and the author of the message in the stream that the connection then reads.
async fn told_and_true(manager: &Watched, verifier: &Slow, mut peer: TestClient) -> (Value, Value) {
    let ready = peer.next().await;
    assert_eq!(ready["type"], "connection_ready", "{ready}");
    peer.say(r#"{"type":"user_message","message_id":"m","payload":{"text":"whose?"}}"#);
    peer.until("agent_completed").await;
    let mut owners = Vec::new();
    for name in ["alice", "bob"] {
        let mut tab = manager.connect();
        tab.say(&json!({ "type": "auth", "token": name, "resume": "earliest" }).to_string());
        verifier.answer(name).await;
        let ready = tab.next().await;
        owners.extend((ready["head"] != 0).then(|| json!(name)));
    }
    assert_eq!(owners.len(), 1, "one stream has it");
    (ready["user_id"].clone(), owners.remove(0))
}

fn slow() -> (Slow, Watched) {
    let verifier = Slow::default();
    let manager = Watched::with(Echo, History::none(), |builder| builder.verifier(verifier.clone()));
    (verifier, manager)
}

/// AUTH-2: the newest credential counts, whichever was verified first, and the client is told its user.
#[tokio::test(start_paused = true)]
async fn a_connection_is_told_the_user_whose_stream_it_reads_in_whatever_order_verdicts_come() {
    for order in [["alice", "bob"], ["bob", "alice"]] {
        let (verifier, manager) = slow();
        let peer = manager.connect();
        say_auth(&peer, "alice");
        say_auth(&peer, "bob");
        for token in order {
            verifier.answer(token).await;
        }
        assert_eq!(told_and_true(&manager, &verifier, peer).await, (json!("bob"), json!("bob")), "{order:?}");
    }
}

/// AUTH-2: an older attempt's result changes neither the live connection's user nor what it is told.
#[tokio::test(start_paused = true)]
async fn a_verdict_on_an_older_credential_that_comes_after_ready_changes_nothing() {
    let (verifier, manager) = slow();
    let mut peer = manager.connect();
    say_auth(&peer, "alice");
    say_auth(&peer, "bob");
    verifier.answer("bob").await;
    assert_eq!(peer.next().await["user_id"], "bob");
    verifier.answer("alice").await;
    say_auth(&peer, "bob");
    verifier.answer("bob").await;
    assert_eq!(peer.next().await["type"], "auth_ok");
    say_auth(&peer, "alice");
    verifier.answer("alice").await;
    assert_eq!(peer.next().await["code"], 4503);
}

fn opening(query: &str, credential: Option<&str>) -> Opening {
    let resume = resume_from_query(query).expect("a place");
    let mut opening = Opening::new(Codec::V1);
    (opening.credential, opening.resume) = (credential.map(Token::new), resume);
    opening
}

/// A manager whose user ada has one earlier notice.
async fn with_a_past() -> Watched {
    let manager = Watched::of(Echo);
    manager.user("ada").send(&json!({ "text": "past" })).await.expect("sent");
    manager
}

/// STR-1: the address may name where to begin, whichever way the credential arrives.
#[tokio::test(start_paused = true)]
async fn the_place_in_the_address_holds_for_a_credential_in_a_frame() {
    let manager = with_a_past().await;
    let mut header = manager.open(opening("from=earliest", Some("ada")));
    let first = header.next().await;
    assert_eq!((&first["user_id"], &first["offset"]), (&json!("ada"), &json!(0)));
    let epoch = &first["epoch"];
    for query in ["from=earliest".to_owned(), format!("epoch={epoch}&offset=0")] {
        let mut frame = manager.open(opening(&query, None));
        say_auth(&frame, "ada");
        let ready = frame.next().await;
        assert_eq!((&ready["offset"], &ready["resumed"]), (&json!(0), &json!(true)), "{query}");
        assert_eq!(frame.next().await["data"]["text"], "past");
    }
}

/// CONN-1: the connection named in the address is replaced.
#[tokio::test(start_paused = true)]
async fn the_connection_that_the_address_replaces_is_closed_for_a_credential_in_a_frame() {
    let manager = with_a_past().await;
    let (mut older, ready) = manager.live("ada", json!("latest")).await;
    let id = ready["connection_id"].as_str().expect("an id");
    let mut newer = manager.open(opening(&format!("replaces={id}"), None));
    say_auth(&newer, "ada");
    assert_eq!(newer.next().await["type"], "connection_ready");
    assert_eq!(older.next().await["code"], 4506);
}

/// STR-1: a position in a frame takes precedence over the address. A later frame's position is refused.
#[tokio::test(start_paused = true)]
async fn a_frame_may_name_another_place_than_the_address_once() {
    let manager = with_a_past().await;
    let mut peer = manager.open(opening("from=earliest", None));
    peer.say(r#"{"type":"auth","token":"ada","resume":"latest"}"#);
    let ready = peer.next().await;
    assert_eq!(ready["offset"], ready["head"]);
    peer.say(r#"{"type":"auth","token":"ada","resume":"earliest"}"#);
    let refused = peer.next().await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("invalid_field")));
    say_auth(&peer, "ada");
    assert_eq!(peer.next().await["type"], "auth_ok");

    let mut header = manager.open(opening("from=earliest", Some("ada")));
    header.say(r#"{"type":"auth","token":"ada","resume":"latest"}"#);
    let ready = header.next().await;
    assert_eq!(ready["offset"], 0);
    assert!(header.until("error").await.iter().any(|frame| frame["code"] == "invalid_field"));
}
