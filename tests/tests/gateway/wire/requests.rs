//! `lockstep.v1` from the client: exactly what the schema allows is decoded, with its meaning.

use lockstep::wire::{Codec, Hex};
use lockstep_model::frame::ReadFrom;
use lockstep_model::{Cancel, Code, ConnectionId, Epoch, MessageId, Offset, PauseId, Position, Resume, RunId};

use super::*;

fn decode(frame: &Value) -> Request<Payload> {
    fresh(Codec::V1).decode(&frame.to_string())
}

/// The token and the position of an `auth` frame.
fn auth(frame: &Value) -> (String, Resume) {
    let request = decode(frame);
    let Request::Auth { token: Payload::Token(token), resume } = &request else {
        panic!("{frame} became {request:?}");
    };
    (token.expose().to_owned(), *resume)
}

#[test]
fn a_credential_comes_with_the_place_where_reading_begins() {
    let at = ReadFrom::After(Position { epoch: Epoch(7), offset: Offset((1 << 53) - 1) });
    let replaces = Some(ConnectionId(0x0123_4567_89AB_CDEF));
    for (frame, from, replaces) in [
        (json!({ "type": "auth", "token": "a.b.c" }), ReadFrom::Unread, None),
        (json!({ "type": "auth", "token": "a.b.c", "resume": "unread" }), ReadFrom::Unread, None),
        (json!({ "type": "auth", "token": "a.b.c", "resume": null, "replaces": null }), ReadFrom::Unread, None),
        (json!({ "type": "auth", "token": "a.b.c", "resume": "latest" }), ReadFrom::Latest, None),
        (json!({ "type": "auth", "token": "a.b.c", "resume": "earliest" }), ReadFrom::Earliest, None),
        (
            json!({ "type": "auth", "token": "a.b.c", "resume": { "epoch": 7, "offset": 9_007_199_254_740_991u64 } }),
            at,
            None,
        ),
        (json!({ "type": "auth", "token": "a.b.c", "replaces": "0123456789abcdef" }), ReadFrom::Unread, replaces),
    ] {
        assert_eq!(auth(&frame), ("a.b.c".to_owned(), Resume { from, replaces }), "{frame}");
    }
}

#[test]
fn a_message_is_known_by_the_first_64_bits_of_its_names_digest() {
    let frame = json!({ "type": "user_message", "message_id": "abc", "payload": { "text": "hello" } });
    let request = decode(&frame);
    // FIPS 180-4: SHA-256 of "abc" begins ba7816bf 8f01cfea.
    assert!(
        matches!(request, Request::Message { message: MessageId(0xBA78_16BF_8F01_CFEA), repeat: false, .. }),
        "{request:?}"
    );
    assert_eq!(message(&request), (r#"{"message_id":"abc","payload":{"text":"hello"}}"#, None));
}

#[test]
fn each_message_gets_a_run_of_its_own_also_if_it_is_repeated() {
    let frame = json!({ "type": "user_message", "message_id": "abc", "payload": null, "repeat": true });
    let run = || {
        let request = decode(&frame);
        let Request::Message { run, repeat: true, .. } = request else { panic!("{request:?}") };
        run
    };
    assert_ne!(run(), run());
}

#[test]
fn cancel_and_ping_are_understood() {
    let cancel = decode(&json!({ "type": "cancel", "run_id": "00000000000000ab" }));
    assert!(matches!(cancel, Request::Cancel { runs: Cancel::Run(RunId(0xAB)) }), "{cancel:?}");
    assert!(matches!(decode(&json!({ "type": "ping" })), Request::Ping));
}

#[test]
fn a_reply_names_its_pause_and_is_passed_on_as_it_was_written() {
    let frame = r#"{"type":"reply","run_id":"00000000000000ab","pause":2.0,"payload":{"b": 1.50, "a":null}}"#;
    let request = fresh(Codec::V1).decode(frame);
    let Request::Reply { run: RunId(0xAB), pause: PauseId(2), payload: Payload::Record(record) } = &request else {
        panic!("{request:?}");
    };
    assert_eq!(record.data.get(), r#"{"pause":2,"reply":{"b": 1.50, "a":null}}"#);
    let legacy = fresh(Codec::Legacy).decode(frame);
    assert!(matches!(legacy, Request::Reply { run: RunId(0xAB), pause: PauseId(2), .. }), "{legacy:?}");
}

#[test]
fn what_a_newer_client_adds_is_ignored() {
    let ping = decode(&json!({ "type": "ping", "mood": { "good": [true] } }));
    assert!(matches!(ping, Request::Ping), "{ping:?}");
}

#[test]
fn a_type_that_is_not_known_is_an_error() {
    for unknown in ["", "pong", "Ping", "ping ", "chat", "connection_ready", "agent_started"] {
        refuses(Codec::V1, &json!({ "type": unknown }).to_string(), Code::UnknownType);
    }
}

#[test]
fn a_member_that_is_missing_or_of_the_wrong_kind_is_named_as_such() {
    let id = "0123456789abcdef";
    for frame in [
        json!({}),
        json!({ "type": 1 }),
        json!({ "type": null }),
        json!({ "type": ["ping"] }),
        json!({ "type": "auth" }),
        json!({ "type": "auth", "token": "" }),
        json!({ "type": "auth", "token": null }),
        json!({ "type": "auth", "token": { "jwt": "a" } }),
        json!({ "type": "auth", "token": "a", "resume": "newest" }),
        json!({ "type": "auth", "token": "a", "resume": true }),
        json!({ "type": "auth", "token": "a", "resume": [7, 8] }),
        json!({ "type": "auth", "token": "a", "resume": {} }),
        json!({ "type": "auth", "token": "a", "resume": { "epoch": 7 } }),
        json!({ "type": "auth", "token": "a", "resume": { "epoch": 7, "offset": "8" } }),
        json!({ "type": "auth", "token": "a", "resume": { "epoch": 7, "offset": null } }),
        json!({ "type": "auth", "token": "a", "resume": { "epoch": 7, "offset": -1 } }),
        json!({ "type": "auth", "token": "a", "resume": { "epoch": 7, "offset": 1.5 } }),
        json!({ "type": "auth", "token": "a", "resume": { "epoch": 7, "offset": 1u64 << 53 } }),
        json!({ "type": "auth", "token": "a", "resume": { "epoch": u64::MAX, "offset": 0 } }),
        json!({ "type": "auth", "token": "a", "replaces": 7 }),
        json!({ "type": "auth", "token": "a", "replaces": "0123456789ABCDEF" }),
        json!({ "type": "user_message", "payload": 1 }),
        json!({ "type": "user_message", "message_id": "a" }),
        json!({ "type": "user_message", "message_id": "", "payload": 1 }),
        json!({ "type": "user_message", "message_id": 5, "payload": 1 }),
        json!({ "type": "user_message", "message_id": null, "payload": 1 }),
        json!({ "type": "user_message", "message_id": "é".repeat(129), "payload": 1 }),
        json!({ "type": "user_message", "message_id": "a", "thread_id": "", "payload": 1 }),
        json!({ "type": "user_message", "message_id": "a", "thread_id": 5, "payload": 1 }),
        json!({ "type": "user_message", "message_id": "a", "thread_id": "t".repeat(129), "payload": 1 }),
        json!({ "type": "user_message", "message_id": "a", "payload": 1, "repeat": "yes" }),
        json!({ "type": "user_message", "message_id": "a", "payload": 1, "repeat": 1 }),
        json!({ "type": "cancel" }),
        json!({ "type": "cancel", "run_id": null }),
        json!({ "type": "cancel", "run_id": 171 }),
        json!({ "type": "cancel", "run_id": format!("+{}", &id[1..]) }),
        json!({ "type": "cancel", "run_id": &id[1..] }),
        json!({ "type": "cancel", "run_id": format!("{id}0") }),
        json!({ "type": "reply", "run_id": id, "pause": 1 }),
        json!({ "type": "reply", "run_id": id, "payload": 1 }),
        json!({ "type": "reply", "pause": 1, "payload": 1 }),
        json!({ "type": "reply", "run_id": id, "pause": null, "payload": 1 }),
        json!({ "type": "reply", "run_id": id, "pause": "1", "payload": 1 }),
        json!({ "type": "reply", "run_id": id, "pause": 1u64 << 32, "payload": 1 }),
    ] {
        assert!(!V1_CLIENT.is_valid(&frame), "the schema allows {frame}");
        refuses(Codec::V1, &frame.to_string(), Code::InvalidField);
    }
}

/// A value that some member might have, often a valid one.
fn any_value() -> impl Strategy<Value = Value> {
    let place = prop_oneof![
        Just(json!(0)),
        Just(json!(9)),
        Just(json!(1.0)),
        Just(json!(1e3)),
        Just(json!(-0.0)),
        Just(json!((1u64 << 53) - 1)),
        Just(json!(1u64 << 53)),
        Just(json!(-1)),
        Just(json!(0.5)),
        Just(json!("7")),
    ];
    let place = prop::collection::btree_map(prop::sample::select(vec!["epoch", "offset", "x"]), place, 0..4);
    prop_oneof![
        4 => prop::sample::select(vec!["latest", "earliest", "a", "", "0123456789abcdef", "0123456789abcdeF"])
            .prop_map(Value::from),
        2 => prop::sample::select(vec!["12", "+12", "12.t", "12.", ".t", "+12.t", " ", " a "]).prop_map(Value::from),
        2 => prop::sample::select(vec![json!(0), json!(1), json!(2.0), json!(200), json!(201), json!(-1), json!(0.5)]),
        2 => prop::sample::select(vec![126, 127, 128, 129, 200, 201]).prop_map(|length| json!("ß".repeat(length))),
        3 => place.prop_map(|place| json!(place)),
        2 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any_json(),
    ]
}

/// A valid frame of every type, with all optional members.
fn good() -> Vec<Value> {
    let id = "0123456789abcdef";
    vec![
        json!({ "type": "auth", "token": "a.b.c", "resume": { "epoch": 7, "offset": 8 }, "replaces": id }),
        json!({ "type": "auth", "token": "a.b.c", "resume": "earliest", "replaces": id }),
        json!({ "type": "user_message", "message_id": "m", "thread_id": "t", "payload": 1, "repeat": true }),
        json!({ "type": "cancel", "run_id": id }),
        json!({ "type": "reply", "run_id": id, "pause": 1, "payload": null }),
        json!({ "type": "delete_thread", "thread_id": "t" }),
        json!({ "type": "list_threads", "request_id": "r", "limit": 7, "before": "12.t" }),
        json!({ "type": "read_turns", "request_id": "r", "thread_id": "t", "limit": 7, "before": "12" }),
        json!({ "type": "rename_thread", "request_id": "r", "thread_id": "t", "title": "Sums" }),
        json!({ "type": "ping" }),
    ]
}

/// Frames of which half are valid, and most others nearly so: one or two members are changed or missing.
fn nearly_good() -> impl Strategy<Value = Value> {
    let names = [
        "token",
        "resume",
        "replaces",
        "message_id",
        "thread_id",
        "payload",
        "repeat",
        "run_id",
        "pause",
        "request_id",
        "limit",
        "before",
        "title",
        "other",
    ];
    let change = (prop::sample::select(names.to_vec()), prop::option::of(any_value()));
    let changes = prop::collection::vec(change, 0..4);
    let changed = (prop::sample::select(good()), changes).prop_map(|(mut frame, changes)| {
        let members = frame.as_object_mut().expect("an object");
        for (name, value) in changes {
            match value {
                Some(value) => members.insert(name.to_owned(), value),
                None => members.remove(name),
            };
        }
        frame
    });
    prop_oneof![19 => changed, 1 => any_json()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 8, ..ProptestConfig::default() })]

    /// The schema and the decoder describe the same language.
    #[test]
    fn the_decoder_understands_exactly_what_the_schema_allows(frame in nearly_good()) {
        let request = decode(&frame);
        prop_assert_eq!(V1_CLIENT.is_valid(&frame), fault(&request).is_none(), "{} became {:?}", frame, request);
    }

    #[test]
    fn a_message_says_what_its_client_said(
        name in any_name(),
        thread in prop::option::of(any_name()),
        payload in any_json(),
        repeat in any::<bool>(),
        other in any_json(),
    ) {
        let frame = json!({
            "type": "user_message", "message_id": &name, "thread_id": &thread, "payload": &payload, "repeat": repeat,
            "other": other,
        });
        prop_assert!(V1_CLIENT.is_valid(&frame), "the schema refuses {}", frame);
        let request = decode(&frame);
        let data = format!(r#"{{"message_id":{},"payload":{payload}}}"#, Value::from(name));
        prop_assert_eq!(message(&request), (data.as_str(), thread.as_deref()));
        let again = matches!(request, Request::Message { repeat: true, .. });
        prop_assert_eq!(again, repeat);
    }

    #[test]
    fn ids_are_written_and_read_back(id in any::<u64>()) {
        let text = Hex(id).to_string();
        prop_assert_eq!(text.len(), 16);
        prop_assert_eq!(&text, &format!("{id:016x}"));
        prop_assert_eq!(text.parse(), Ok(Hex(id)));
        let cancel = decode(&json!({ "type": "cancel", "run_id": text }));
        let read = matches!(cancel, Request::Cancel { runs: Cancel::Run(run) } if run == RunId(id));
        prop_assert!(read);
    }

    #[test]
    fn what_is_no_id_is_not_read_as_one(text in "[0-9a-fA-F+ _x-]{14,18}") {
        let id = text.len() == 16 && text.chars().all(|c| "0123456789abcdef".contains(c));
        prop_assert_eq!(text.parse::<Hex>().is_ok(), id);
    }
}
