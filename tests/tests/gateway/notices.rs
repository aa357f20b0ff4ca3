//! What the embedding service sends to users outside of runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use lockstep::log::MemoryLog;
use lockstep::manager::{NotSent, Opening};
use lockstep::payload::Token;
use lockstep::testing::{Echo, TestClient};
use lockstep::wire::Codec;
use lockstep_model::{Bounds, ConnectionId};
use lockstep_tests::history::History;
use serde_json::{Value, json};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::judged::Watched;
use crate::wire::{LEGACY_SERVER, V1_SERVER, conforming};

fn manager() -> Watched {
    Watched::of(Echo)
}

async fn live(manager: &Watched, token: &str, resume: Value) -> (TestClient, Value) {
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
async fn nothing_more(peer: &mut TestClient) {
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

/// A connection of the older protocol, which names no place.
async fn older(manager: &Watched) -> TestClient {
    let mut opening = Opening::new(Codec::Legacy);
    opening.credential = Some(Token::new("ada"));
    let mut peer = manager.open(opening);
    for name in ["connection_established", "handshake_response"] {
        let frame = peer.next().await;
        assert_eq!(conforming(&LEGACY_SERVER, &frame.to_string())["type"], name);
    }
    peer
}

/// The numbers of the next notices of an older client, up to the answer to a ping.
async fn numbers(peer: &mut TestClient) -> Vec<u64> {
    peer.say(r#"{"type":"session_restore","payload":{}}"#);
    let mut numbers = Vec::new();
    // Without a place, reading begins a second after the connection is established.
    tokio::time::sleep_until(tokio::time::Instant::now() + 2 * Bounds::DEFAULT.seek).await;
    peer.say(r#"{"type":"ping"}"#);
    loop {
        let frame = peer.next().await;
        conforming(&LEGACY_SERVER, &frame.to_string());
        match frame["type"].as_str() {
            Some("notice") => numbers.push(frame["payload"]["number"].as_u64().expect("a number")),
            Some("pong") => return numbers,
            _ => panic!("{frame}"),
        }
    }
}

/// An older client starts where its user's last reader has stopped, and the sender is told who reads what it sends.
#[tokio::test(start_paused = true)]
async fn an_older_client_gets_what_came_while_its_user_was_absent() {
    let manager = manager();
    let ada = manager.user("ada");
    let send = async |number: u64| ada.send(&json!({ "number": number })).await.expect("sent").connections;
    assert_eq!([send(1).await, send(2).await], [0, 0], "the user is absent");
    let mut first = older(&manager).await;
    assert_eq!(numbers(&mut first).await, [1, 2]);
    assert_eq!(send(3).await, 1);
    let mut second = older(&manager).await;
    assert_eq!(send(4).await, 2);
    assert_eq!(numbers(&mut first).await, [3, 4]);
    let of_second = numbers(&mut second).await;
    assert!(of_second == [4] || of_second == [3, 4], "what the other had not read is read by both: {of_second:?}");
    drop((first, second));
    while ada.connections().await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(5).await, 0);
    let mut third = older(&manager).await;
    assert_eq!(numbers(&mut third).await, [5], "once");
}

/// A place sets the cursor, before and after the connection is established, and one that is gone is said to be.
#[tokio::test(start_paused = true)]
async fn an_older_client_reads_on_after_the_place_that_it_names() {
    let manager = manager();
    let ada = manager.user("ada");
    let mut first = older(&manager).await;
    let mut last = Value::Null;
    for number in 1..=5 {
        ada.send(&json!({ "number": number })).await.expect("sent");
        let notice = first.until("notice").await.pop().expect("a frame");
        if number == 2 {
            last = notice["message_id"].clone();
        }
    }
    let restore = json!({ "type": "session_restore", "payload": { "lastMessageId": last } }).to_string();
    let mut after = older(&manager).await;
    after.say(&restore);
    assert_eq!(numbers(&mut after).await, [3, 4, 5]);
    let mut opening = Opening::new(Codec::Legacy);
    opening.credential = Some(Token::new("ada"));
    let mut before = manager.open(opening);
    before.say(&restore);
    before.until("handshake_response").await;
    assert_eq!(numbers(&mut before).await, [3, 4, 5]);
    before.say(r#"{"type":"session_restore","payload":{"lastMessageId":"1:2"}}"#);
    let reset = before.until("stream_reset").await.pop().expect("a frame");
    assert_eq!((&reset["payload"]["from"], &reset["data"]), (&json!(2), &reset["payload"]));
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
    let mut runs = BTreeSet::new();
    for peer in &mut peers {
        let notice = peer.next().await;
        assert_eq!(notice["data"]["text"], "back at noon");
        runs.insert(notice["run_id"].to_string());
        nothing_more(peer).await;
    }
    assert_eq!(runs.len(), 3, "each stream has an entry of its own, also where all are at the same place: {runs:?}");
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
    assert!(manager.user("ada").send(&json!({})).await.is_ok(), "what is still here may be told why");
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
    manager.emit_critical_event("ada", "agent_started", &text(5)).await.expect("sent");
    let data = ada.next().await["data"].clone();
    assert_eq!((&data["event_type"], &data["data"]), (&json!("agent_started"), &text(5)));
    assert_eq!(manager.send_to_connection(id(&ready), &text(4)), Ok(true));
    assert_eq!(ada.next().await["data"]["number"], 4);
    manager.shutdown().await;
    assert!(manager.health().stopped);
}

/// What a subscriber writes.
#[derive(Clone, Default)]
pub(crate) struct Lines(pub(crate) Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
#[expect(deprecated, reason = "these are the deprecated names")]
async fn each_place_that_calls_a_deprecated_name_is_warned_once() {
    let manager = manager();
    let lines = Lines::default();
    let pen = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(LevelFilter::WARN);
    let reading = subscriber.with_writer(move || pen.clone()).finish().set_default();
    for number in 0..3 {
        manager.emit_critical_event("ada", "agent_thinking", &json!({ "number": number })).await.expect("sent");
    }
    manager.send_to_user("ada", &json!({})).await.expect("sent");
    drop(reading);
    let text = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
    let warned: Vec<&str> = text.lines().filter(|line| line.contains("deprecated")).collect();
    assert_eq!(warned.len(), 2, "{text}");
    for (line, parts) in warned.iter().zip([["emit_critical_event", "agent::Run"], ["send_to_user", "send(data)"]]) {
        assert!(line.contains("WARN") && line.contains("notices.rs:"), "{line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}

fn say_old(peer: &TestClient, repeat: bool) {
    let message =
        json!({ "type": "user_message", "message_id": "old", "payload": { "text": "once" }, "repeat": repeat });
    peer.say(&message.to_string());
}

async fn is_forgotten(peer: &mut TestClient) {
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
