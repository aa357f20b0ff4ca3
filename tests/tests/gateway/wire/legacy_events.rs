//! The legacy envelope: what older clients read.

use lockstep::wire::{MAX_OPEN, MAX_TEXT};
use lockstep_model::run::{Ending, Reason, Received, ToolEnd};
use lockstep_model::{MessageId, PartId, PauseId, ThreadId, ToolId};

use super::*;

const TOOL: ToolId = ToolId(3);

fn begin() -> Kind {
    Kind::Received(Received::immediate(MessageId(5), ThreadId(5)))
}

/// The frame that a peer reads for an event of the thread `t` at this time.
fn read(peer: &mut CodecState, kind: Kind, (offset, at): (u64, u64), data: &Value) -> Value {
    let entry = entry(kind, offset, Some(record(Some("t"), at, data)));
    let frame = peer.encode(&Frame::Event(entry)).expect("a text frame");
    assert_eq!(peer.following(), None);
    let frame = conforming(&LEGACY_SERVER, frame.as_str());
    assert_eq!(frame["payload"], frame["data"]);
    frame
}

fn piece(peer: &mut CodecState, offset: u64, part: u32, kind: &str, text: &str) -> Value {
    read(peer, Kind::Delta(PartId(part)), (offset, 5), &json!({ "part": part, "kind": kind, "text": text }))
}

#[test]
fn each_event_has_the_envelope_and_its_place() {
    let mut peer = peer_at(Codec::Legacy, 8);
    peer.names_agent(Arc::from("triage"));
    let mut entry = entry(Kind::Started, 12, Some(record(Some("t"), 77, &json!({}))));
    entry.previous = Offset(9);
    let text = peer.encode(&Frame::Event(entry.clone())).expect("a text frame");
    let frame = conforming(&LEGACY_SERVER, text.as_str());
    for (name, value) in [
        ("type", json!("agent_started")),
        ("run_id", json!("00000000000000ab")),
        ("user_id", json!("ada")),
        ("agent_name", json!("triage")),
        ("thread_id", json!("t")),
        ("timestamp", json!(77)),
        ("message_id", json!("7:12")),
        ("previous_id", json!("7:9")),
    ] {
        assert_eq!(frame[name], value, "{name}");
    }
    entry.event.payload = Some(Payload::Record(record(None, 77, &json!({ "agent_name": "its own" }))));
    let text = peer.encode(&Frame::Event(entry)).expect("a text frame");
    let frame = conforming(&LEGACY_SERVER, text.as_str());
    assert_eq!((&frame["agent_name"], &frame["thread_id"]), (&json!("its own"), &Value::Null));
}

/// Every event of a run, with what clients read of it.
#[test]
fn a_run_has_the_fields_that_clients_read() {
    let mut peer = peer_at(Codec::Legacy, 8);
    let call = json!({ "tool_id": "t3", "name": "clock", "arguments": { "zone": "UTC" } });
    let result = json!({ "tool_id": "t3", "name": "clock", "status": "success", "result": [1, "noon"] });
    let expected = [
        (begin(), json!({ "message_id": "m", "payload": "hi" }), "message_received", json!({ "message_id": "m" })),
        (Kind::Started, json!({}), "agent_started", json!({ "status": "started", "run_id": "00000000000000ab" })),
        (
            Kind::Thinking,
            json!({ "text": "hm", "progress_percentage": 30 }),
            "agent_thinking",
            json!({ "reasoning": "hm", "thought": "hm", "step_number": 1, "progress_percentage": 30, "status": "thinking" }),
        ),
        (
            Kind::ToolExecuting(TOOL),
            call,
            "tool_executing",
            json!({ "tool_name": "clock", "parameters": { "zone": "UTC" }, "status": "executing", "tool_id": "t3" }),
        ),
        (
            Kind::ToolCompleted(TOOL, ToolEnd::Success),
            result,
            "tool_completed",
            json!({ "tool_name": "clock", "result": [1, "noon"], "execution_time_ms": 10, "status": "completed" }),
        ),
        (
            Kind::Paused(PauseId(1)),
            json!({ "pause": 1, "request": { "message": "Well?", "asks": [] } }),
            "agent_thinking",
            json!({ "reasoning": "Well?", "status": "paused", "pause": 1, "request": { "message": "Well?", "asks": [] } }),
        ),
        (
            Kind::Resumed(PauseId(1)),
            json!({ "pause": 1, "reply": "yes" }),
            "agent_thinking",
            json!({ "reasoning": "", "status": "resumed", "pause": 1, "reply": "yes" }),
        ),
        (
            Kind::Completed,
            json!({ "text": "42", "model": "m" }),
            "agent_completed",
            json!({ "result": "42", "model": "m", "execution_time_ms": 60, "status": "completed" }),
        ),
    ];
    for (number, (kind, data, name, fields)) in (0..).zip(expected) {
        let frame = read(&mut peer, kind, (9 + number, 10 * number), &data);
        assert_eq!(frame["type"], name);
        for (field, value) in fields.as_object().expect("an object") {
            assert_eq!(&frame["payload"][field], value, "{field} of {frame}");
        }
        let message = frame["payload"].get("message").and_then(Value::as_str);
        assert!(["message_received", "agent_thinking"].contains(&name) || message.is_some_and(|text| !text.is_empty()));
    }
}

#[test]
fn a_run_that_fails_says_why() {
    for (reason, status) in [(Reason::Failed, "failed"), (Reason::Silent, "failed"), (Reason::Cancelled, "cancelled")] {
        let mut peer = peer_at(Codec::Legacy, 8);
        let data = json!({ "reason": reason, "message": "No." });
        let frame = read(&mut peer, Kind::Error(reason), (9, 5), &data);
        assert_eq!(frame["type"], "agent_failed");
        let payload = &frame["payload"];
        assert_eq!((&payload["agent_name"], &payload["error"]), (&json!("assistant"), &json!("No.")));
        assert_eq!((&payload["status"], &payload["reason"]), (&json!(status), &json!(reason)));
        assert_eq!(payload["execution_time_ms"], Value::Null, "its beginning was not told");
    }
}

/// A tool that its run did not wait for has no name in the machine's own data.
#[test]
fn the_end_of_a_tool_has_the_name_of_its_beginning() {
    let mut peer = peer_at(Codec::Legacy, 8);
    let call = json!({ "tool_id": "t3", "name": "clock", "arguments": null });
    read(&mut peer, Kind::ToolExecuting(TOOL), (9, 5), &call);
    let end = ToolEnd::Abandoned(Ending::Error(Reason::Cancelled));
    let data = json!({ "tool_id": "t3", "status": "abandoned", "error": "cancelled" });
    let frame = read(&mut peer, Kind::ToolCompleted(TOOL, end), (10, 9), &data);
    let payload = &frame["payload"];
    assert_eq!((&payload["tool_name"], &payload["execution_time_ms"]), (&json!("clock"), &json!(4)));
    assert_eq!((&payload["status"], &payload["error"]), (&json!("abandoned"), &json!("cancelled")));
    let frame = read(&mut peer, Kind::ToolCompleted(TOOL, ToolEnd::Failure), (11, 9), &data);
    assert_eq!((&frame["payload"]["status"], &frame["payload"]["tool_name"]), (&json!("failed"), &json!("")));
}

/// A client joins the pieces. None of them is a complete one, because clients differ in what they do with that.
#[test]
fn pieces_of_text_are_partial_results_and_other_pieces_are_thoughts() {
    let mut peer = peer_at(Codec::Legacy, 8);
    let frame = piece(&mut peer, 9, 4, "text", "Grüße");
    assert_eq!(frame["type"], "partial_result");
    let payload = &frame["payload"];
    assert_eq!((&payload["content"], &payload["is_complete"]), (&json!("Grüße"), &json!(false)));
    assert_eq!(payload["agent_name"], "assistant");
    for (number, kind) in (1..).zip(["reasoning", "plan"]) {
        let frame = piece(&mut peer, 9 + number, 5, kind, "hm");
        assert_eq!(frame["type"], "agent_thinking");
        let payload = &frame["payload"];
        assert_eq!((&payload["reasoning"], &payload["step_number"]), (&json!("hm"), &json!(number)));
    }
}

/// The result of a run whose agent says only this at its end.
fn result(peer: &mut CodecState, offset: u64, data: &Value) -> Value {
    read(peer, Kind::Completed, (offset, 5), data)["payload"]["result"].clone()
}

#[test]
fn the_result_is_the_whole_text_however_the_agent_told_it() {
    let streamed = |peer: &mut CodecState| {
        read(peer, begin(), (9, 5), &json!({ "message_id": "m", "payload": 1 }));
        piece(peer, 10, 1, "text", "It is ");
        piece(peer, 11, 2, "reasoning", "hm");
        piece(peer, 12, 3, "text", "noon.");
    };
    for (data, expected) in [
        (json!({}), json!("It is noon.")),
        (json!({ "text": "" }), json!("It is noon.")),
        (json!({ "text": "It is twelve." }), json!("It is twelve.")),
        (json!({ "result": "It is twelve." }), json!("It is twelve.")),
        (json!({ "result": { "hour": 12 } }), json!("It is noon.")),
    ] {
        let mut peer = peer_at(Codec::Legacy, 8);
        streamed(&mut peer);
        assert_eq!(result(&mut peer, 13, &data), expected, "{data}");
    }
    assert_eq!(result(&mut peer_at(Codec::Legacy, 8), 13, &json!({ "result": { "hour": 12 } })), json!({ "hour": 12 }));
}

/// A part of the text would replace the whole one that the client has joined.
#[test]
fn a_text_of_which_some_was_not_told_is_no_result() {
    let mut peer = peer_at(Codec::Legacy, 8);
    piece(&mut peer, 9, 1, "text", "noon.");
    assert_eq!(result(&mut peer, 10, &json!({})), "", "the beginning was not told");
    for restores in [false, true] {
        let mut peer = peer_at(Codec::Legacy, 8);
        read(&mut peer, begin(), (9, 5), &json!({ "message_id": "m", "payload": 1 }));
        piece(&mut peer, 10, 1, "text", "It is ");
        if restores {
            peer.decode(r#"{"type":"session_restore","payload":{"lastMessageId":"7:9"}}"#);
        } else {
            told(&mut peer, &Control::StreamReset { from: Offset(9), to: Offset(12) });
        }
        piece(&mut peer, 13, 1, "text", "noon.");
        assert_eq!(result(&mut peer, 14, &json!({})), "");
    }
}

/// LIM-1, for the codec.
#[test]
fn what_the_codec_remembers_is_bounded() {
    let start = |peer: &mut CodecState, run: u64| {
        let mut entry = entry(begin(), 9, Some(record(None, 5, &json!({ "message_id": "m", "payload": 1 }))));
        entry.event.run = RunId(run);
        peer.encode(&Frame::Event(entry)).expect("a text frame");
    };
    let say = |peer: &mut CodecState, run: u64, text: &str| {
        let mut entry = entry(
            Kind::Delta(PartId(1)),
            9,
            Some(record(None, 5, &json!({ "part": 1, "kind": "text", "text": text }))),
        );
        entry.event.run = RunId(run);
        peer.encode(&Frame::Event(entry)).expect("a text frame");
    };
    let end = |peer: &mut CodecState, run: u64| {
        let mut entry = entry(Kind::Completed, 9, Some(record(None, 5, &json!({}))));
        entry.event.run = RunId(run);
        let frame = peer.encode(&Frame::Event(entry)).expect("a text frame");
        parse(frame.as_str())["payload"]["result"].as_str().expect("text").len()
    };
    let half = "x".repeat(MAX_TEXT / 2);
    let mut peer = peer_at(Codec::Legacy, 8);
    (0..3).for_each(|run| start(&mut peer, run));
    (0..3).for_each(|run| say(&mut peer, run, &half));
    say(&mut peer, 2, "y");
    assert_eq!([0, 1, 2].map(|run| end(&mut peer, run)), [half.len(), half.len(), 0], "the third exceeds the bound");
    start(&mut peer, 3);
    say(&mut peer, 3, &half);
    assert_eq!(end(&mut peer, 3), half.len(), "there is room again");

    let most = u64::try_from(MAX_OPEN).expect("a small number");
    (0..=most).for_each(|run| start(&mut peer, run));
    say(&mut peer, most, "z");
    assert_eq!(end(&mut peer, most), 1);
    say(&mut peer, 0, "z");
    assert_eq!(end(&mut peer, 0), 0, "its beginning is forgotten");
}

#[test]
fn the_connection_is_established_and_its_thread_suggested() {
    let mut peer = fresh(Codec::Legacy);
    peer.identify(Arc::from("ada"));
    peer.takes(Some(70_000));
    let frame = told(&mut peer, &ready(41));
    assert_eq!((&frame["type"], &frame["connection_ready"]), (&json!("connection_established"), &json!(true)));
    let config = json!({ "heartbeat_interval": 20, "max_message_size": 70_000 });
    for content in [&frame, &frame["payload"], &frame["data"]] {
        assert_eq!((&content["connection_id"], &content["user_id"]), (&json!("0000000000c0ffee"), &json!("ada")));
        assert_eq!((&content["config"], content["server_time"].is_u64()), (&config, true));
    }
    let data = &frame["data"];
    assert_eq!((&data["epoch"], &data["offset"], &data["resumed"]), (&json!(7), &json!(41), &json!(true)));
    assert_eq!(frame.get("message_id"), None, "a client would take it for its place");
    let handshake = conforming(&LEGACY_SERVER, peer.following().expect("a second frame").as_str());
    assert_eq!(
        (&handshake["type"], &handshake["thread_id"]),
        (&json!("handshake_response"), &json!("thread_0000000000c0ffee"))
    );
    assert_eq!(peer.following(), None);
    told(&mut peer, &Control::AuthOk);
    assert_eq!(peer.following(), None);
}

#[test]
fn an_error_says_in_both_places_what_is_wrong_and_what_to_do() {
    let mut peer = peer_at(Codec::Legacy, 8);
    let request = peer.decode(r#"{"type":"chat","message_id":"m1"}"#);
    let Request::Invalid { code, message: Some(message) } = request else { panic!("{request:?}") };
    let frame = told(&mut peer, &Control::Refused { message, code });
    for content in [&frame, &frame["payload"], &frame["data"]] {
        assert_eq!(
            (&content["error_code"], &content["details"]),
            (&json!("invalid_field"), &json!({ "message_id": "m1" }))
        );
        assert!(content["error_message"].as_str().is_some_and(|text| text.ends_with('.')), "{frame}");
        assert!(content["recovery_suggestions"][0].as_str().is_some_and(|text| text.ends_with('.')), "{frame}");
    }
    for code in Code::ALL {
        let frame = told(&mut peer, &Control::Error(code));
        assert_eq!((&frame["error_code"], &frame["details"]), (&json!(code), &json!({})));
    }
}

/// The client's own handling of these texts does not come back.
#[test]
fn no_close_reason_sounds_like_an_expired_token() {
    for cause in lockstep_model::Cause::ALL {
        let (code, reason) = Codec::Legacy.close(*cause);
        assert!([1000, 1001, 1006, 1008, 1011, 1013].contains(&code), "{cause:?}: {code}");
        for text in ["Token expired", "token has expired", "JWT expired"] {
            assert!(!reason.contains(text), "{cause:?}: {reason}");
        }
        assert_eq!(code == 1011, *cause == lockstep_model::Cause::Fault, "{cause:?}: 1011 is a fault of ours");
        assert_eq!(Codec::V1.close(*cause), (cause.code(), cause.reason()));
    }
}
