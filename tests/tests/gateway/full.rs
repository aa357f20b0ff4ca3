//! A connection whose mailbox is full: what its own task has for it still arrives, in order.

use lockstep::testing::Echo;
use lockstep_model::{Cause, ConnectionId};
use lockstep_tests::history::History;
use serde_json::{Value, json};

use crate::identity::{Slow, say_auth};
use crate::judged::Watched;

fn id(ready: &Value) -> ConnectionId {
    ConnectionId(u64::from_str_radix(ready["connection_id"].as_str().expect("an id"), 16).expect("hexadecimal"))
}

/// Posts until the mailbox is full. Nothing is taken meanwhile, because nothing here awaits.
fn fill(manager: &Watched, connection: ConnectionId) -> usize {
    (0..1_000).take_while(|number| manager.notify(connection, &json!({ "number": number })) == Ok(true)).count()
}

/// SH-6: a post to a full mailbox is refused, and a close needs no slot.
#[tokio::test(start_paused = true)]
async fn a_close_happens_however_full_the_mailbox_is_and_a_notice_is_refused() {
    let manager = Watched::of(Echo);
    let (mut ada, ready) = manager.live("ada", json!("latest")).await;
    let posted = fill(&manager, id(&ready));
    assert!(posted > 0 && posted < 1_000, "{posted}: the mailbox is bounded");
    assert_eq!(manager.notify(id(&ready), &json!({})), Ok(false), "it is full");
    assert!(manager.close(id(&ready), Cause::Superseded));
    assert!(manager.close(id(&ready), Cause::TooManyConnections), "it closes already");
    let seen = ada.until("close").await;
    assert_eq!(seen.last().expect("a close")["code"], Cause::Superseded.code());
    ada.receive().await;
    assert!(!manager.close(id(&ready), Cause::Superseded), "it is gone");
}

/// SH-6, LIVE-1: a verdict is neither dropped nor delayed.
#[tokio::test(start_paused = true)]
async fn a_verdict_reaches_a_connection_whose_mailbox_is_full_at_once() {
    let verifier = Slow::default();
    let manager = Watched::with(Echo, History::none(), |builder| builder.verifier(verifier.clone()));
    let mut ada = manager.connect();
    say_auth(&ada, "ada");
    verifier.answer("ada").await;
    let ready = ada.next().await;
    say_auth(&ada, "ada");
    verifier.asked("ada").await;
    let began = tokio::time::Instant::now();
    verifier.answer("ada").await;
    assert!(fill(&manager, id(&ready)) > 0);
    let seen = ada.until("auth_ok").await;
    assert_eq!(seen.last().expect("an answer")["type"], "auth_ok", "{seen:?}");
    assert_eq!(began.elapsed().as_millis(), 0, "it was tried again later");
}
