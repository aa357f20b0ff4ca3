//! The legacy envelope: what older clients say is decoded.

use lockstep_model::{Cancel, Position, Resume, frame};

use super::*;

/// The types of messages.
pub(super) const MESSAGES: [&str; 7] =
    ["start_agent", "user_message", "chat", "chat_message", "agent_request", "execute_agent", "user_input"];

const STOPS: [&str; 3] = ["stop_agent", "stop", "cancel"];

fn decode(frame: &Value) -> Request<Payload> {
    decode_by(&mut fresh(Codec::Legacy), frame)
}

fn decode_by(peer: &mut CodecState, frame: &Value) -> Request<Payload> {
    assert!(LEGACY_CLIENT.is_valid(frame), "the schema refuses {frame}");
    peer.decode(&frame.to_string())
}

#[test]
fn each_type_of_message_is_one() {
    for kind in MESSAGES {
        let request = decode(&json!({
            "type": kind, "payload": { "content": "hello" }, "message_id": "m1", "thread_id": "t1",
            "timestamp": "2024-01-01T00:00:00Z",
        }));
        assert_eq!(message(&request), (r#"{"message_id":"m1","payload":{"content":"hello"}}"#, Some("t1")), "{kind}");
        assert!(matches!(request, Request::Message { repeat: false, .. }));
    }
}

/// What an agent reads of a message.
fn read(request: &Request<Payload>) -> Option<String> {
    let data = parse(message(request).0);
    let payload = raw(&data["payload"]);
    let (subject, id) = (Arc::from("ada"), Arc::from("m"));
    lockstep::agent::Message::new(subject, id, payload).text()
}

#[test]
fn an_agent_reads_the_text_wherever_the_client_put_it() {
    for payload in [
        json!("hi"),
        json!({ "content": "hi", "references": [1] }),
        json!({ "message": "hi", "text": null }),
        json!({ "user_request": "hi", "thread_id": null, "context": {}, "settings": { "content": "no" } }),
        json!({ "text": "hi" }),
    ] {
        let request = decode(&json!({ "type": "chat", "payload": payload }));
        assert_eq!(read(&request).as_deref(), Some("hi"), "{payload}");
    }
    for name in ["content", "message", "user_request", "text"] {
        let request = decode(&json!({ "type": "chat", name: "hi", "payload": null }));
        assert_eq!(read(&request).as_deref(), Some("hi"), "{name}");
    }
    // What the client sent beside the text is passed on.
    let request = decode(&json!({ "type": "chat", "payload": { "message": "hi", "references": [1] } }));
    assert_eq!(parse(message(&request).0)["payload"], json!({ "message": "hi", "references": [1], "text": "hi" }));
}

#[test]
fn the_thread_is_in_the_payload_or_beside_it() {
    for (frame, thread) in [
        (json!({ "type": "chat", "payload": { "content": "x", "thread_id": "t1" } }), Some("t1")),
        (json!({ "type": "chat", "payload": { "content": "x", "threadId": "t1" } }), Some("t1")),
        (json!({ "type": "chat", "payload": "x", "threadId": "t1" }), Some("t1")),
        (json!({ "type": "chat", "payload": { "content": "x", "thread_id": "t1" }, "thread_id": "t2" }), Some("t1")),
        (json!({ "type": "chat", "payload": { "content": "x", "thread_id": "" }, "thread_id": "t2" }), Some("t2")),
        (json!({ "type": "chat", "payload": { "content": "x", "thread_id": null }, "thread_id": "" }), None),
        (json!({ "type": "chat", "payload": ["x"] }), None),
    ] {
        assert_eq!(message(&decode(&frame)).1, thread, "{frame}");
    }
}

#[test]
fn a_message_without_a_name_gets_a_unique_one() {
    let frame = json!({ "type": "chat", "payload": "hello", "message_id": null });
    let name = || {
        let data = parse(message(&decode(&frame)).0);
        data["message_id"].as_str().expect("a name").to_owned()
    };
    let (one, other) = (name(), name());
    assert_ne!(one, other);
    assert!(one.len() == 32 && one.chars().all(|c| c.is_ascii_hexdigit()), "{one}");
}

fn thread(name: &str) -> Cancel {
    Cancel::Thread(lockstep::payload::thread_id(Some(name)))
}

fn stopped(request: &Request<Payload>) -> Cancel {
    let Request::Cancel { runs } = request else { panic!("no cancel: {request:?}") };
    *runs
}

#[test]
fn a_stop_means_the_run_or_the_thread_that_it_names_or_else_everything() {
    for kind in STOPS {
        for (frame, runs) in [
            (json!({ "type": kind, "payload": { "run_id": "00000000000000ab" } }), Cancel::Run(RunId(0xAB))),
            (json!({ "type": kind, "run_id": "00000000000000ab", "thread_id": "t1" }), Cancel::Run(RunId(0xAB))),
            (json!({ "type": kind, "payload": { "thread_id": "t1", "run_id": null } }), thread("t1")),
            (json!({ "type": kind, "payload": {}, "thread_id": "t1" }), thread("t1")),
            (json!({ "type": kind, "payload": { "agent_id": "triage" } }), Cancel::All),
            (json!({ "type": kind, "payload": {} }), Cancel::All),
            (json!({ "type": kind }), Cancel::All),
        ] {
            assert_eq!(stopped(&decode(&frame)), runs, "{frame}");
        }
    }
}

#[test]
fn a_stop_without_a_thread_means_the_one_that_the_client_spoke_of_last() {
    let mut peer = fresh(Codec::Legacy);
    let stop = json!({ "type": "stop_agent", "payload": {} });
    for (frame, runs) in [
        (json!({ "type": "start_agent", "payload": { "user_request": "x", "thread_id": "t1" } }), thread("t1")),
        (json!({ "type": "switch_thread", "payload": { "thread_id": "t2" } }), thread("t2")),
        (json!({ "type": "user_message", "payload": { "content": "x" }, "thread_id": "t3" }), thread("t3")),
        (json!({ "type": "switch_thread", "thread_id": "t4" }), thread("t4")),
        (json!({ "type": "user_message", "payload": { "content": "x" } }), Cancel::All),
    ] {
        decode_by(&mut peer, &frame);
        assert_eq!(stopped(&decode_by(&mut peer, &stop)), runs, "{frame}");
    }
}

#[test]
fn a_heartbeat_is_answered_in_its_own_words() {
    let mut peer = peer_at(Codec::Legacy, 8);
    for kind in ["ping", "heartbeat", "heartbeat", "ping"] {
        assert!(matches!(decode_by(&mut peer, &json!({ "type": kind })), Request::Ping));
    }
    for answer in ["pong", "heartbeat_ack", "heartbeat_ack", "pong", "pong"] {
        assert_eq!(told(&mut peer, &Control::Pong)["type"], answer);
    }
}

/// LIM-1, for the codec: what waits for an answer is bounded, and every answer is still sent.
#[test]
fn heartbeats_without_an_answer_are_bounded() {
    let mut peer = peer_at(Codec::Legacy, 8);
    for _ in 0..10 {
        decode_by(&mut peer, &json!({ "type": "ping" }));
    }
    for _ in 0..lockstep::wire::MAX_HEARTBEATS {
        decode_by(&mut peer, &json!({ "type": "heartbeat" }));
    }
    for _ in 0..lockstep::wire::MAX_HEARTBEATS {
        assert_eq!(told(&mut peer, &Control::Pong)["type"], "heartbeat_ack");
    }
    assert_eq!(told(&mut peer, &Control::Pong)["type"], "pong");
}

#[test]
fn what_expects_no_answer_gets_none() {
    for frame in [
        json!({ "type": "pong" }),
        json!({ "type": "heartbeat_ack", "timestamp": 1 }),
        json!({ "type": "event_confirmation", "payload": { "event_id": "e" } }),
        json!({ "type": "typing_start" }),
        json!({ "type": "typing_indicator", "payload": { "thread_id": 5 } }),
        json!({ "type": "disconnect", "payload": { "connectionId": "c", "reason": "unload" } }),
        json!({ "type": "disconnect", "connectionId": "c", "reason": "unload" }),
        json!({ "type": "page_unload" }),
        json!({ "type": "switch_thread", "payload": { "thread_id": "t1" } }),
    ] {
        let request = decode(&frame);
        assert!(matches!(request, Request::Pong), "{frame} became {request:?}");
    }
}

#[test]
fn a_refresh_is_understood() {
    for frame in [
        json!({ "type": "auth", "payload": { "token": "a.b.c" } }),
        json!({ "type": "auth", "token": "a.b.c" }),
        json!({ "type": "auth", "token": "a.b.c", "payload": {} }),
    ] {
        let request = decode(&frame);
        assert!(matches!(&request, Request::Auth { token: Payload::Token(token), .. } if token.expose() == "a.b.c"));
    }
}

#[test]
fn what_is_not_known_is_an_error_and_no_acknowledgement() {
    for unknown in ["connect", "ack", "typing", "agent_started", "list_threads", "", "session_restored"] {
        refuses(Codec::Legacy, &json!({ "type": unknown, "payload": {} }).to_string(), Code::UnknownType);
    }
}

#[test]
fn a_member_that_is_missing_or_of_the_wrong_kind_is_named_as_such() {
    for frame in [
        json!({ "payload": 1 }),
        json!({ "type": 5 }),
        json!({ "type": "chat" }),
        json!({ "type": "chat", "payload": null, "text": null }),
        json!({ "type": "chat", "payload": 1, "message_id": 5 }),
        json!({ "type": "chat", "payload": 1, "message_id": "" }),
        json!({ "type": "chat", "payload": 1, "thread_id": [] }),
        json!({ "type": "chat", "payload": { "content": "x", "thread_id": 5 } }),
        json!({ "type": "chat", "payload": { "content": "x", "thread_id": "t" }, "thread_id": 5 }),
        json!({ "type": "stop", "run_id": "ab" }),
        json!({ "type": "stop", "payload": "00000000000000ab" }),
        json!({ "type": "cancel", "payload": { "run_id": "ab" } }),
        json!({ "type": "stop_agent", "payload": { "run_id": "00000000000000ab", "thread_id": 1 } }),
        json!({ "type": "auth" }),
        json!({ "type": "auth", "token": 1 }),
        json!({ "type": "auth", "payload": { "token": 1 }, "token": "a" }),
        json!({ "type": "switch_thread", "payload": { "thread_id": 1 } }),
        json!({ "type": "session_restore", "payload": { "lastMessageId": 12 } }),
        json!({ "type": "session_restore", "payload": [], "lastMessageId": "7:8" }),
    ] {
        assert!(!LEGACY_CLIENT.is_valid(&frame), "the schema allows {frame}");
        refuses(Codec::Legacy, &frame.to_string(), Code::InvalidField);
    }
}

/// STR-1, for the codec's part: a restore sets the cursor, before and after the connection is ready.
#[test]
fn a_restore_reads_on_after_the_place_that_it_names() {
    for peer in [&mut fresh(Codec::Legacy), &mut peer_at(Codec::Legacy, 40)] {
        for frame in [
            json!({ "type": "session_restore", "payload": { "threadId": "t", "lastMessageId": "7:12", "connectionId": "c" } }),
            json!({ "type": "session_restore", "lastMessageId": "7:12" }),
        ] {
            let request = decode_by(peer, &frame);
            let position = Position { epoch: Epoch(7), offset: Offset(12) };
            assert!(matches!(request, Request::Seek { from } if from == position), "{request:?}");
        }
    }
}

#[test]
fn a_client_that_names_no_place_or_one_of_another_system_restores_nothing() {
    for frame in [
        json!({ "type": "session_restore" }),
        json!({ "type": "session_restore", "payload": {} }),
        json!({ "type": "session_restore", "payload": { "lastMessageId": null, "threadId": "t" } }),
        json!({ "type": "session_restore", "payload": { "lastMessageId": "" } }),
        json!({ "type": "session_restore", "payload": { "lastMessageId": "12" } }),
        json!({ "type": "session_restore", "payload": { "lastMessageId": "7:+8" } }),
        json!({ "type": "session_restore", "payload": { "lastMessageId": "msg-6a1c" } }),
    ] {
        let request = decode(&frame);
        assert!(matches!(request, Request::Pong), "{request:?}");
    }
}

/// A client that names its place in its first frame is read nothing before it.
#[test]
fn reading_waits_for_the_place_unless_the_address_has_one() {
    let resumed = |peer: &mut CodecState| {
        let request = peer.decode(r#"{"type":"auth","token":"a"}"#);
        let Request::Auth { resume, .. } = request else { panic!("{request:?}") };
        resume
    };
    let at = |from| Resume { from, replaces: Some(ConnectionId(5)) };
    let place = frame::ReadFrom::After(Position { epoch: Epoch(7), offset: Offset(8) });
    for (codec, from, expected) in [
        (Codec::V1, frame::ReadFrom::Unread, frame::ReadFrom::Unread),
        (Codec::Legacy, frame::ReadFrom::Unread, frame::ReadFrom::Deferred),
        (Codec::Legacy, frame::ReadFrom::Earliest, frame::ReadFrom::Earliest),
        (Codec::Legacy, place, place),
    ] {
        let mut peer = fresh(codec);
        peer.resumes(&at(from));
        assert_eq!(resumed(&mut peer), at(expected), "{codec:?}");
        let mut peer = fresh(codec);
        peer.resumes(&at(from));
        assert_eq!(peer.presents(), at(expected), "{codec:?}");
    }
}

/// Frames of which many are valid, and most others nearly so. Whether a restore's position is right is not a matter of
/// syntax.
fn nearly_good() -> impl Strategy<Value = Value> {
    let types =
        MESSAGES.into_iter().chain(STOPS).chain(["auth", "ping", "heartbeat", "reply", "switch_thread", "typing_stop"]);
    let value = || {
        prop_oneof![
            Just(json!({ "run_id": "0123456789abcdef" })),
            Just(json!({ "run_id": "0123456789abcdef", "thread_id": 7 })),
            Just(json!({ "content": "a", "thread_id": "t", "threadId": "" })),
            Just(json!({ "token": "a", "resume": { "epoch": 7, "offset": 8 } })),
            Just(json!({ "token": "a", "resume": "latest", "replaces": "0123456789abcdef" })),
            Just(json!({ "token": "a", "resume": 7 })),
            Just(json!({ "token": "", "run_id": "" })),
            Just(json!(1)),
            Just(json!("a")),
            Just(json!("0123456789abcdef")),
            Just(json!("")),
            Just(Value::Null),
            any_json(),
        ]
    };
    let names = [
        "payload",
        "message_id",
        "thread_id",
        "threadId",
        "timestamp",
        "token",
        "run_id",
        "content",
        "resume",
        "pause",
    ];
    let members = prop::collection::btree_map(prop::sample::select(names.to_vec()), value(), 0..6);
    (prop::sample::select(types.collect::<Vec<_>>()), members).prop_map(|(kind, members)| {
        let mut frame = json!(members);
        frame["type"] = kind.into();
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 8, ..ProptestConfig::default() })]

    #[test]
    fn the_decoder_understands_exactly_what_the_schema_allows(frame in nearly_good()) {
        let request = fresh(Codec::Legacy).decode(&frame.to_string());
        prop_assert_eq!(LEGACY_CLIENT.is_valid(&frame), fault(&request).is_none(), "{} became {:?}", frame, request);
    }
}
