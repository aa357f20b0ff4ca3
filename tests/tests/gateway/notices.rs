//! What the embedding service sends to users outside of runs.

use std::sync::Arc;

use lockstep::log::MemoryLog;
use lockstep::manager::NotSent;
use lockstep::testing::{Echo, Peer};
use lockstep_model::{Bounds, ConnectionId};
use lockstep_tests::history::History;
use serde_json::{Value, json};

use crate::judged::Watched;
use crate::wire::{V1_SERVER, conforming};

fn manager() -> Watched {
    Watched::of(Echo)
}

async fn live(manager: &Watched, token: &str, resume: Value) -> (Peer, Value) {
    let (peer, ready) = manager.live(token, resume).await;
    valid(&ready);
    (peer, ready)
}

fn valid(frame: &Value) {
    let _ = conforming(&V1_SERVER, &frame.to_string());
}

fn id(ready: &Value) -> ConnectionId {
    ConnectionId(u64::from_str_radix(ready["connection_id"].as_str().expect("an id"), 16).expect("hexadecimal"))
}

/// Asserts that the next frame answers a ping: nothing preceded it.
async fn nothing_more(peer: &mut Peer) {
    peer.say(r#"{"type":"ping"}"#);
    assert_eq!(peer.next().await["type"], "pong");
}

#[tokio::test(start_paused = true)]
async fn a_notice_is_seen_by_every_tab_of_its_user_in_order_and_by_no_other() {
    let manager = manager();
    let (mut one, _) = live(&manager, "ada", json!("latest")).await;
    let (mut two, _) = live(&manager, "ada", json!("latest")).await;
    let (mut bob, _) = live(&manager, "bob", json!("latest")).await;
    let ada = manager.user("ada");
    ada.send(&json!({ "text": "first" })).await.expect("sent");
    ada.send_to_thread("t", &json!({ "text": "second" })).await.expect("sent");
    for tab in [&mut one, &mut two] {
        let (first, second) = (tab.next().await, tab.next().await);
        valid(&first);
        valid(&second);
        assert_eq!((&first["type"], &first["data"]["text"]), (&json!("notice"), &json!("first")));
        assert_eq!((&first["thread_id"], &second["thread_id"]), (&Value::Null, &json!("t")));
        assert_eq!(second["previous"], first["offset"]);
        assert_ne!(second["run_id"], first["run_id"]);
    }
    nothing_more(&mut bob).await;
}

#[tokio::test(start_paused = true)]
async fn an_absent_user_finds_the_notice_and_the_head_marks_the_end_of_the_past() {
    let manager = manager();
    manager.user("ada").send(&json!({ "text": "while you were away" })).await.expect("sent");
    assert_eq!(manager.user("ada").connections().await, 0);
    let (mut ada, ready) = live(&manager, "ada", json!("earliest")).await;
    let notice = ada.next().await;
    assert_eq!((&notice["type"], &notice["offset"]), (&json!("notice"), &ready["head"]));
    assert_eq!((&ready["offset"], &notice["previous"]), (&json!(0), &json!(0)));
    nothing_more(&mut ada).await;
    let (_, latest) = live(&manager, "ada", json!("latest")).await;
    assert_eq!(latest["head"], latest["offset"]);
}

/// STR-1: a connection that names no position begins with the unread events, whichever way it connects.
#[tokio::test(start_paused = true)]
async fn a_reader_without_a_position_gets_the_unread_events_once() {
    let manager = manager();
    let ada = manager.user("ada");
    let text = |number: u64| json!({ "text": number });
    for number in 0..7 {
        ada.send(&text(number)).await.expect("sent");
    }
    for resume in [Value::Null, json!("unread")] {
        let (mut first, ready) = live(&manager, "ada", resume).await;
        assert_eq!(ready["resumed"], true);
        for number in 0..7 {
            assert_eq!(first.next().await["data"]["text"], number);
        }
        // Another tab finds no unread events.
        let (mut second, _) = live(&manager, "ada", Value::Null).await;
        nothing_more(&mut second).await;
        ada.send(&text(7)).await.expect("sent");
        assert_eq!(first.next().await["data"]["text"], 7);
        assert_eq!(second.next().await["data"]["text"], 7);
        drop((first, second));
        while ada.connections().await > 0 {
            tokio::task::yield_now().await;
        }
        for number in 0..7 {
            ada.send(&text(number)).await.expect("sent");
        }
    }
    let (mut third, ready) = live(&manager, "ada", json!("latest")).await;
    assert_eq!(ready["offset"], ready["head"], "who says so passes them over");
    nothing_more(&mut third).await;
}

/// STR-1: the read mark survives the session and the process, as do the events after it.
#[tokio::test(start_paused = true)]
async fn how_far_a_user_has_read_survives_the_process() {
    let (log, history) = (Arc::new(MemoryLog::new()), History::in_memory());
    let manager = || Watched::with(Echo, history.clone(), |builder| builder.log(Arc::clone(&log)));
    let before = manager();
    before.user("ada").send(&json!({ "text": "read" })).await.expect("sent");
    let (mut ada, _) = live(&before, "ada", Value::Null).await;
    assert_eq!(ada.next().await["data"]["text"], "read");
    drop(ada);
    before.drain().await;
    let after = manager();
    after.user("ada").send(&json!({ "text": "unread" })).await.expect("sent");
    let (mut ada, _) = live(&after, "ada", Value::Null).await;
    assert_eq!(ada.next().await["data"]["text"], "unread");
    nothing_more(&mut ada).await;
}

/// STR-1: unread events that are no longer retained are reported as a gap.
#[tokio::test(start_paused = true)]
async fn what_was_unread_and_is_gone_is_told() {
    let manager = manager();
    let ada = manager.user("ada");
    let most = Bounds::DEFAULT.retained;
    for number in 0..=most {
        ada.send(&json!({ "text": number })).await.expect("sent");
    }
    let (mut peer, ready) = live(&manager, "ada", Value::Null).await;
    assert_eq!(ready["resumed"], false);
    let reset = peer.next().await;
    assert_eq!((&reset["type"], &reset["from"], &reset["to"]), (&json!("stream_reset"), &json!(0), &ready["offset"]));
    assert_eq!(peer.next().await["data"]["text"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_notice_survives_the_process() {
    let (log, history) = (Arc::new(MemoryLog::new()), History::in_memory());
    let manager = || Watched::with(Echo, history.clone(), |builder| builder.log(Arc::clone(&log)));
    manager().user("ada").send(&json!({ "text": "kept" })).await.expect("sent");
    let manager = manager();
    let (mut ada, _) = live(&manager, "ada", json!("earliest")).await;
    assert_eq!(ada.next().await["data"]["text"], "kept");
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_reaches_every_session_once() {
    let manager = manager();
    let mut peers = Vec::new();
    for user in ["ada", "bob", "eve"] {
        peers.push(live(&manager, user, json!("latest")).await.0);
    }
    let told = manager.broadcast(&json!({ "text": "back at noon" })).await.expect("JSON");
    assert_eq!((told.sent, told.failed), (3, 0));
    for peer in &mut peers {
        assert_eq!(peer.next().await["data"]["text"], "back at noon");
        nothing_more(peer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_is_told_what_no_other_is_and_what_no_stream_has() {
    let manager = manager();
    let (mut one, ready) = live(&manager, "ada", json!("latest")).await;
    let (mut two, _) = live(&manager, "ada", json!("latest")).await;
    assert_eq!(manager.user("ada").connection_ids().await.len(), 2);
    assert_eq!(manager.notify(id(&ready), &json!({ "text": "only you" })), Ok(true));
    let told = one.next().await;
    valid(&told);
    assert_eq!((&told["type"], &told["data"]["text"]), (&json!("connection_notice"), &json!("only you")));
    nothing_more(&mut two).await;
    let (_, again) = live(&manager, "ada", json!("earliest")).await;
    assert_eq!(again["head"], 0);
    assert_eq!(manager.notify(ConnectionId(7), &json!({})), Ok(false));
}

#[tokio::test(start_paused = true)]
async fn unread_notices_close_no_connection() {
    let manager = manager();
    let (mut ada, ready) = live(&manager, "ada", json!("latest")).await;
    for number in 0..10 * Bounds::DEFAULT.outbox {
        let _ = manager.notify(id(&ready), &json!({ "number": number }));
        tokio::task::yield_now().await;
    }
    ada.say(r#"{"type":"ping"}"#);
    let seen = ada.until("pong").await;
    assert_eq!(seen.last().expect("a pong")["type"], "pong");
    let numbers: Vec<_> = seen.iter().filter_map(|frame| frame["data"]["number"].as_u64()).collect();
    assert!(!numbers.is_empty() && numbers.is_sorted(), "{numbers:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_object_is_not_sent() {
    let manager = manager();
    let ada = manager.user("ada");
    assert_eq!(ada.send(&"a string").await, Err(NotSent::NotJson));
    assert_eq!(manager.broadcast(&[1, 2]).await, Err(NotSent::NotJson));
    assert_eq!(manager.notify(ConnectionId(1), &json!(null)), Err(NotSent::NotJson));
}

#[tokio::test(start_paused = true)]
async fn a_draining_gateway_takes_no_notice_for_an_absent_user() {
    let manager = manager();
    let (_ada, _) = live(&manager, "ada", json!("latest")).await;
    let draining = tokio::spawn({
        let manager = manager.clone();
        async move { manager.drain().await }
    });
    tokio::task::yield_now().await;
    assert_eq!(manager.user("bob").send(&json!({})).await, Err(NotSent::Draining));
    assert_eq!(manager.user("ada").send(&json!({})).await, Ok(()), "what is still here may be told why");
    draining.await.expect("drained");
}

/// The calls of services that were written for the replaced system.
#[tokio::test(start_paused = true)]
#[expect(deprecated, reason = "these are the deprecated names")]
async fn the_names_of_before_lead_to_the_same() {
    let manager = manager();
    let (mut ada, ready) = live(&manager, "ada", json!("latest")).await;
    assert!(manager.is_user_connected("ada").await && !manager.is_user_connected("bob").await);
    assert_eq!(manager.get_user_connection_count("ada").await, 1);
    assert!(manager.wait_for_connection("ada", core::time::Duration::from_secs(1)).await);
    assert_eq!(manager.get_stats(), manager.health());
    let text = |number: u64| json!({ "number": number });
    manager.send_to_user("ada", &text(1)).await.expect("sent");
    manager.send_to_thread("ada", "t", &text(2)).await.expect("sent");
    let told = manager.broadcast_to_all(&text(3)).await.expect("JSON");
    assert_eq!((told.sent, told.failed), (1, 0));
    for number in 1..=3 {
        assert_eq!(ada.next().await["data"]["number"], number);
    }
    assert_eq!(manager.send_to_connection(id(&ready), &text(4)), Ok(true));
    assert_eq!(ada.next().await["data"]["number"], 4);
    manager.shutdown().await;
    assert!(manager.health().stopped);
}

fn say_old(peer: &Peer, repeat: bool) {
    let message =
        json!({ "type": "user_message", "message_id": "old", "payload": { "text": "once" }, "repeat": repeat });
    peer.say(&message.to_string());
}

async fn is_forgotten(peer: &mut Peer) {
    let answer = peer.next().await;
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("forgotten")), "{answer}");
    assert_eq!(answer["message_id"], "old");
}

/// A message of Ada's that ran and whose beginning has left the window.
async fn run_old(manager: &Watched) {
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    say_old(&ada, false);
    ada.until("agent_completed").await;
    let user = manager.user("ada");
    for number in 0..Bounds::DEFAULT.retained {
        user.send(&json!({ "number": number })).await.expect("sent");
    }
}

/// RUN-2: a message does not run again, even after its beginning has left the window and its connection has resumed.
#[tokio::test(start_paused = true)]
async fn a_message_older_than_the_window_is_forgotten_and_not_run_again() {
    let manager = Watched::of(Echo);
    run_old(&manager).await;
    let (mut ada, ready) = manager.live("ada", json!("latest")).await;
    let place = json!({ "epoch": ready["epoch"], "offset": ready["head"] });
    let (mut again, resumed) = manager.live("ada", place).await;
    assert_eq!(resumed["resumed"], true);
    for (resumed, repeat) in [(true, true), (true, false), (false, true)] {
        let peer = if resumed { &mut again } else { &mut ada };
        say_old(peer, repeat);
        is_forgotten(peer).await;
    }
}

/// RUN-2: nor after its session has retired or its process has ended: the next one reads its id from the log.
#[tokio::test(start_paused = true)]
async fn a_message_older_than_the_window_is_not_run_again_by_the_next_session() {
    let (log, history) = (Arc::new(MemoryLog::new()), History::in_memory());
    let manager = || Watched::with(Echo, history.clone(), |builder| builder.log(Arc::clone(&log)));
    let before = manager();
    run_old(&before).await;
    while before.health().sessions > 0 {
        tokio::time::advance(Bounds::DEFAULT.linger).await;
    }
    let next = async |manager: &Watched| {
        for repeat in [false, true] {
            let (mut ada, _) = manager.live("ada", json!("latest")).await;
            say_old(&ada, repeat);
            is_forgotten(&mut ada).await;
        }
    };
    next(&before).await;
    before.drain().await;
    next(&manager()).await;
}
