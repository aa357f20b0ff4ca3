//! The legacy envelope: older clients are decoded and get correct frames.

use lockstep_model::{Cancel, PartId, Position, Resume, frame};

use super::*;

fn decode(frame: &Value) -> Request<Payload> {
    assert!(LEGACY_CLIENT.is_valid(frame), "the schema refuses {frame}");
    fresh(Codec::Legacy).decode(&frame.to_string())
}

#[test]
fn three_types_are_messages() {
    for kind in ["user_message", "chat", "agent_request"] {
        let request = decode(&json!({
            "type": kind, "payload": { "content": "hello" }, "message_id": "m1", "thread_id": "t1",
            "timestamp": "2024-01-01T00:00:00Z",
        }));
        assert_eq!(message(&request), (r#"{"message_id":"m1","payload":{"content":"hello"}}"#, Some("t1")), "{kind}");
        assert!(matches!(request, Request::Message { repeat: false, .. }));
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

#[test]
fn two_types_are_a_cancel() {
    for kind in ["stop", "cancel"] {
        let request = decode(&json!({ "type": kind, "payload": { "run_id": "00000000000000ab" } }));
        assert!(matches!(request, Request::Cancel { runs: Cancel::Run(RunId(0xAB)) }), "{request:?}");
    }
}

#[test]
fn a_heartbeat_and_a_refresh_are_understood() {
    assert!(matches!(decode(&json!({ "type": "ping" })), Request::Ping));
    let request = decode(&json!({ "type": "auth", "payload": { "token": "a.b.c" } }));
    assert!(
        matches!(&request, Request::Auth { token: Payload::Token(token), resume }
            if token.expose() == "a.b.c" && *resume == Resume::default()),
        "{request:?}"
    );
}

#[test]
fn what_is_not_known_is_an_error_and_no_acknowledgement() {
    for unknown in ["connect", "pong", "ack", "typing", "agent_started", "list_threads", "", "session_restored"] {
        refuses(Codec::Legacy, &json!({ "type": unknown, "payload": {} }).to_string(), Code::UnknownType);
    }
}

#[test]
fn a_member_that_is_missing_or_of_the_wrong_kind_is_named_as_such() {
    for frame in [
        json!({ "payload": 1 }),
        json!({ "type": 5 }),
        json!({ "type": "chat" }),
        json!({ "type": "chat", "payload": 1, "message_id": 5 }),
        json!({ "type": "chat", "payload": 1, "message_id": "" }),
        json!({ "type": "chat", "payload": 1, "thread_id": [] }),
        json!({ "type": "stop" }),
        json!({ "type": "stop", "run_id": "00000000000000ab" }),
        json!({ "type": "stop", "payload": "00000000000000ab" }),
        json!({ "type": "cancel", "payload": { "run_id": "ab" } }),
        json!({ "type": "auth", "token": "a" }),
        json!({ "type": "auth", "payload": { "token": 1 } }),
        json!({ "type": "session_restore" }),
        json!({ "type": "session_restore", "payload": { "lastMessageId": 12 } }),
        json!({ "type": "session_restore", "payload": { "lastMessageId": "12" } }),
        json!({ "type": "session_restore", "payload": { "lastMessageId": "7:+8" } }),
    ] {
        assert!(!LEGACY_CLIENT.is_valid(&frame), "the schema allows {frame}");
        refuses(Codec::Legacy, &frame.to_string(), Code::InvalidField);
    }
}

#[test]
fn the_connection_is_established_at_a_place_that_can_be_restored() {
    let mut peer = fresh(Codec::Legacy);
    peer.identify(Arc::from("ada"));
    let frame = told(&mut peer, &ready(41));
    assert_eq!((&frame["type"], &frame["message_id"]), (&json!("connection_established"), &json!("7:41")));
    let data = &frame["data"];
    assert_eq!((&data["connection_id"], &data["user_id"]), (&json!("0000000000c0ffee"), &json!("ada")));
    assert_eq!((&data["epoch"], &data["offset"], &data["resumed"]), (&json!(7), &json!(41), &json!(true)));
}

/// Whether the codec confirms a restore.
fn restores(peer: &mut Peer, last: &str) -> bool {
    let frame = json!({ "type": "session_restore", "payload": { "lastMessageId": last } });
    let request = peer.decode(&frame.to_string());
    match fault(&request) {
        None => {
            assert!(matches!(request, Request::Pong), "a restore asks for nothing: {request:?}");
            true
        }
        Some(code) => {
            assert_eq!(code, Code::InvalidField);
            false
        }
    }
}

/// STR-1, for the codec's part: a client that is wrong about its position is told so.
#[test]
fn a_restore_is_true_if_the_connection_carries_all_that_is_behind_it() {
    let mut peer = peer_at(Codec::Legacy, 10);
    let event = |offset| Frame::Event(entry(Kind::Thinking, offset, None));
    for offset in [11, 12] {
        assert!(peer.encode(&event(offset)).is_some());
    }
    for (last, truth) in [
        ("7:9", false),
        ("7:10", true),
        ("7:11", true),
        ("7:12", true),
        ("7:13", false),
        ("8:11", false),
        ("0:0", false),
        ("7:99999999999999999999", false),
    ] {
        assert_eq!(restores(&mut peer, last), truth, "{last}");
    }
    told(&mut peer, &Control::StreamReset { from: Offset(12), to: Offset(30) });
    assert!(!restores(&mut peer, "7:12"), "what is behind it is gone");
    assert!(restores(&mut peer, "7:30"));
}

#[test]
fn a_restore_before_the_connection_is_ready_is_true_if_the_upgrade_asked_for_the_same() {
    let mut peer = fresh(Codec::Legacy);
    assert!(!restores(&mut peer, "7:10"), "nothing was asked for");
    let position = Position { epoch: Epoch(7), offset: Offset(10) };
    peer.resumes(&Resume { from: frame::ReadFrom::After(position), replaces: None });
    assert!(restores(&mut peer, "7:10"));
    assert!(!restores(&mut peer, "7:11"));
    peer.resumes(&Resume::default());
    assert!(!restores(&mut peer, "7:10"));
}

#[test]
fn a_client_that_names_no_place_restores_nothing() {
    for payload in [json!({}), json!({ "lastMessageId": null })] {
        let request = decode(&json!({ "type": "session_restore", "payload": payload }));
        assert!(matches!(request, Request::Pong), "{request:?}");
    }
}

/// Frames of which many are valid, and most others nearly so. Whether a restore's position is right is not a matter of
/// syntax.
fn nearly_good() -> impl Strategy<Value = Value> {
    let types = ["user_message", "chat", "agent_request", "stop", "cancel", "auth", "ping"];
    let value = || {
        prop_oneof![
            Just(json!({ "run_id": "0123456789abcdef" })),
            Just(json!({ "token": "a", "resume": { "epoch": 7, "offset": 8 } })),
            Just(json!({ "token": "a", "resume": "latest", "replaces": "0123456789abcdef" })),
            Just(json!({ "token": "a", "resume": 7 })),
            Just(json!({ "token": "", "run_id": "" })),
            Just(json!("a")),
            Just(json!("")),
            Just(Value::Null),
            any_json(),
        ]
    };
    let names = ["payload", "message_id", "thread_id", "timestamp", "token", "run_id"];
    let members = prop::collection::btree_map(prop::sample::select(names.to_vec()), value(), 0..6);
    (prop::sample::select(types.to_vec()), members).prop_map(|(kind, members)| {
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

/// Legacy clients do not know parts: growing text has the same form as before for them.
#[test]
fn a_piece_is_a_thought_to_legacy_clients() {
    for (kind, member) in [("text", "delta"), ("reasoning", "reasoning"), ("plan", "reasoning")] {
        let data = json!({ "part": 4, "kind": kind, "text": "Grüße" });
        let entry = entry(Kind::Delta(PartId(4)), 9, Some(record(None, 5, &data)));
        let frame = peer_at(Codec::Legacy, 8).encode(&Frame::Event(entry)).expect("a text frame");
        let frame = conforming(server(Codec::Legacy), frame.as_str());
        assert_eq!((&frame["type"], &frame["data"]), (&json!("agent_thinking"), &json!({ member: "Grüße" })));
    }
}
