//! Control frames: each has the machine's content, in the schema's form.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep::payload::now_ms;
use lockstep::verify::credential_id;
use lockstep_model::{Cause, MessageId, Successor, UserId};

use super::*;

const MODES: [(Mode, &str); 5] = [
    (Mode::Ready, "ready"),
    (Mode::Degraded, "degraded"),
    (Mode::Emergency, "emergency"),
    (Mode::HandingOver, "handing_over"),
    (Mode::Draining, "draining"),
];

/// A new code does not compile until it has a name here, and is not published until it is in `Code::ALL`.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Malformed => "malformed",
        Code::UnknownType => "unknown_type",
        Code::InvalidField => "invalid_field",
        Code::Degraded => "degraded",
        Code::Draining => "draining",
        Code::TooManyRuns => "too_many_runs",
        Code::QueueFull => "queue_full",
        Code::ThreadBusy => "thread_busy",
        Code::BreakerOpen => "breaker_open",
        Code::Busy => "busy",
        Code::Forgotten => "forgotten",
        Code::UnknownRun => "unknown_run",
        Code::NotPaused => "not_paused",
        Code::UnknownThread => "unknown_thread",
        Code::NotKept => "not_kept",
        Code::VerifierUnavailable => "verifier_unavailable",
    }
}

/// Asserts what both codecs send: the members in v1, `data` in legacy.
fn said(control: &Control<Payload>, expected: &Value) {
    for codec in CODECS {
        let frame = told(&mut peer_at(codec, 8), control);
        let content = match codec {
            Codec::V1 => frame,
            Codec::Legacy => json!({ "type": frame["type"] }).merged(&frame["data"]),
        };
        assert_eq!(&content, expected, "{codec:?}");
    }
}

trait Merged {
    fn merged(self, other: &Value) -> Value;
}

impl Merged for Value {
    fn merged(mut self, other: &Value) -> Value {
        for (name, value) in other.as_object().expect("an object") {
            self[name] = value.clone();
        }
        self
    }
}

/// Removes the timestamp from a frame, after asserting that it is when the frame was made.
fn without_time(mut frame: Value, before: u64) -> Value {
    let time = frame.as_object_mut().and_then(|members| members.remove("server_time")).and_then(|time| time.as_u64());
    assert!(time.is_some_and(|time| (before..=now_ms()).contains(&time)), "{frame}: {time:?}");
    frame
}

#[test]
fn ready_has_the_user_the_position_and_the_limits() {
    let bounds = Bounds { runs: 3, allowance: Duration::from_millis(2_500), ..Bounds::DEFAULT };
    let mut peer = CodecState::new(Codec::V1, ConnectionId(0xC0FFEE), &bounds);
    peer.identify(Arc::from("ada@example.org"));
    let before = now_ms();
    for (mode, word) in MODES {
        let control = Control::Ready {
            user: UserId(1),
            epoch: Epoch(7),
            offset: Offset(41),
            head: Offset(52),
            resumed: false,
            mode,
        };
        let expected = json!({
            "type": "connection_ready", "connection_id": "0000000000c0ffee", "user_id": "ada@example.org",
            "epoch": 7, "offset": 41, "head": 52, "resumed": false, "mode": word, "heartbeat_ms": 20_000,
            "limits": {
                "connections": 20, "runs": 3, "queued": 16, "concurrency": "queue", "early": 16, "requests": 120, "allowance_ms": 2_500, "retained": 1_024,
            },
        });
        assert_eq!(without_time(told(&mut peer, &control), before), expected);
    }
    peer.takes(Some(70_000));
    let limits = told(&mut peer, &ready(41))["limits"].clone();
    assert_eq!(limits["message_bytes"], 70_000);
}

#[test]
fn each_notice_says_what_the_machine_said() {
    said(&Control::AuthOk, &json!({ "type": "auth_ok" }));
    said(&Control::AuthExpiring, &json!({ "type": "auth_expiring" }));
    let reset = Control::StreamReset { from: Offset(3), to: Offset(40) };
    said(&reset, &json!({ "type": "stream_reset", "from": 3, "to": 40 }));
    for (mode, word) in MODES {
        said(&Control::Mode(mode), &json!({ "type": "mode", "mode": word }));
    }
}

#[test]
fn going_away_tells_when_to_come_back() {
    let mut peer = peer_at(Codec::V1, 8);
    let away = |ms: u64| json!({ "type": "going_away", "reconnect": true, "reconnect_after_ms": ms });
    assert_eq!(
        told(&mut peer, &Control::GoingAway(Successor::Absent)),
        away(200),
        "the bounds' backoff, until it is told otherwise"
    );
    peer.reconnect_within(7_321);
    assert_eq!(told(&mut peer, &Control::GoingAway(Successor::Absent)), away(7_321), "nothing listens yet");
    assert_eq!(told(&mut peer, &Control::GoingAway(Successor::Waiting)), away(0), "the socket is there");
}

#[test]
fn pong_tells_the_time() {
    let before = now_ms();
    assert_eq!(without_time(told(&mut peer_at(Codec::V1, 8), &Control::Pong), before), json!({ "type": "pong" }));
}

#[test]
fn an_error_has_its_code_and_a_sentence_of_its_own() {
    let mut sentences = BTreeSet::new();
    for code in Code::ALL {
        let error = told(&mut peer_at(Codec::V1, 8), &Control::Error(code));
        assert_eq!(error["code"], name(code));
        assert_eq!(error.get("message_id"), None);
        let sentence = error["message"].as_str().expect("a sentence").to_owned();
        assert!(sentence.ends_with('.'), "{sentence}");
        assert!(sentences.insert(sentence), "two codes say the same: {error}");
    }
    let published = parse(schema::V1_SERVER)["$defs"]["code"]["enum"].clone();
    assert_eq!(published, json!(Code::ALL.map(name)));
}

fn send(peer: &mut CodecState, message: &str) {
    let frame = json!({ "type": "user_message", "message_id": message, "payload": 1 });
    assert_eq!(fault(&peer.decode(&frame.to_string())), None);
}

/// A message's id in the machines. [`requests`] shows that it is the codec's digest.
fn id(message: &str) -> MessageId {
    MessageId(credential_id(message).0)
}

#[test]
fn an_answer_names_the_message_as_its_client_did() {
    for codec in CODECS {
        let mut peer = peer_at(codec, 8);
        send(&mut peer, "first");
        send(&mut peer, "zweite Nachricht ☂");
        let refused = told(&mut peer, &Control::Refused { message: id("zweite Nachricht ☂"), code: Code::Busy });
        let known = told(&mut peer, &Control::Known { message: id("first"), run: RunId(0xAB), offset: Offset(5) });
        let content = |frame: Value| if codec == Codec::V1 { frame } else { frame["data"].clone() };
        assert_eq!(refused["type"], "error");
        let (name, code) = match codec {
            Codec::V1 => (&refused["message_id"], &refused["code"]),
            Codec::Legacy => (&refused["details"]["message_id"], &refused["error_code"]),
        };
        assert_eq!((name, code), (&json!("zweite Nachricht ☂"), &json!("busy")));
        assert_eq!(known["type"], "message_known");
        let known = content(known);
        assert_eq!(known["message_id"], "first");
        assert_eq!((&known["run_id"], &known["offset"]), (&json!("00000000000000ab"), &json!(5)));
    }
}

#[test]
fn a_message_that_was_sent_twice_is_answered_twice() {
    let mut peer = peer_at(Codec::V1, 8);
    let refused = Control::Refused { message: id("again"), code: Code::Busy };
    send(&mut peer, "again");
    send(&mut peer, "again");
    assert_eq!(told(&mut peer, &refused)["message_id"], "again");
    assert_eq!(told(&mut peer, &refused)["message_id"], "again");
    assert_eq!(told(&mut peer, &refused).get("message_id"), None, "a name is kept until it is used");
}

/// LIM-1, for the codec: the oldest names are dropped, and an answer without a name is still sent.
#[test]
fn the_last_256_names_are_kept() {
    let mut peer = peer_at(Codec::V1, 8);
    let names: Vec<String> = (0..300).map(|number| format!("m{number}")).collect();
    for name in &names {
        send(&mut peer, name);
    }
    for (number, name) in names.iter().enumerate() {
        let expected = (number >= 300 - 256).then(|| json!(name));
        let known = Control::Known { message: id(name), run: RunId(1), offset: Offset(9) };
        assert_eq!(told(&mut peer, &known).get("message_id"), expected.as_ref(), "{name}");
    }
}

#[test]
fn frames_of_the_protocol_itself_have_no_text() {
    for codec in CODECS {
        let mut peer = peer_at(codec, 8);
        assert_eq!(peer.encode(&Frame::Control(Control::Probe)), None);
        for cause in Cause::ALL {
            assert_eq!(peer.encode(&Frame::Close(*cause)), None);
        }
    }
}
