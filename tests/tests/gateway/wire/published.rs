//! The published schemas are sound, complete, and strict enough to reject a wrong frame.

use std::collections::BTreeSet;

use lockstep_model::close::Advice;
use lockstep_model::run::Received;
use lockstep_model::{Cause, MessageId, PartId, PauseId, Successor, ThreadId};

use super::*;

/// Each schema, with the stem of its file name.
const SCHEMAS: [(&str, &str); 4] = [
    ("v1.client", schema::V1_CLIENT),
    ("v1.server", schema::V1_SERVER),
    ("legacy.client", schema::LEGACY_CLIENT),
    ("legacy.server", schema::LEGACY_SERVER),
];

/// The types of a schema: the definitions in its `oneOf`.
fn types(schema: &str) -> BTreeSet<String> {
    let schema = parse(schema);
    let references = schema["oneOf"].as_array().expect("`oneOf`").iter();
    let names = references.map(|reference| reference["$ref"].as_str()?.strip_prefix("#/$defs/").map(str::to_owned));
    let names: BTreeSet<String> = names.collect::<Option<_>>().expect("each is a definition");
    for name in &names {
        let kind = &schema["$defs"][name]["properties"]["type"];
        assert!(kind["const"] == json!(name) || kind["pattern"] == json!(format!("^{name}_")), "{name}: {kind}");
    }
    names
}

#[test]
fn the_schemas_are_schemas() {
    for (name, schema) in SCHEMAS {
        let schema = parse(schema);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert!(jsonschema::draft202012::meta::is_valid(&schema), "{name}");
        // So that AsyncAPI, which uses an older draft, understands the same.
        assert!(jsonschema::draft7::meta::is_valid(&schema), "{name}");
    }
}

/// A frame of every type that a codec sends.
fn server_frames(codec: Codec) -> Vec<Value> {
    let tool = lockstep_model::ToolId(1);
    let end = lockstep_model::run::ToolEnd::Abandoned(lockstep_model::run::Ending::Completed);
    let reason = lockstep_model::run::Reason::Silent;
    let mut controls = vec![
        ready(8),
        Control::AuthOk,
        Control::AuthExpiring,
        Control::StreamReset { from: Offset(1), to: Offset(2) },
        Control::Mode(Mode::Degraded),
        Control::GoingAway(Successor::Absent),
        Control::Known { message: MessageId(1), run: RunId(2), offset: Offset(3) },
        Control::Refused { message: MessageId(1), code: Code::Busy },
        Control::Pong,
        Control::Notice(Payload::Record(record(None, 0, &json!({ "text": "hello" })))),
    ];
    let kinds = [
        Kind::Received(Received::immediate(MessageId(1), ThreadId(1))),
        Kind::Started,
        Kind::Thinking,
        Kind::Delta(PartId(1)),
        Kind::ToolExecuting(tool),
        Kind::ToolCompleted(tool, end),
        Kind::Paused(PauseId(1)),
        Kind::Resumed(PauseId(1)),
        Kind::Completed,
        Kind::Error(reason),
        Kind::Notice,
        Kind::Deleted,
    ];
    if codec == Codec::V1 {
        controls.extend(conversations::answers("r"));
    }
    let mut peer = peer_at(codec, 8);
    let mut frames = Vec::new();
    for control in controls {
        frames.push(told(&mut peer, &control));
        frames.extend(peer.following().map(|frame| conforming(server(codec), frame.as_str())));
    }
    for kind in kinds {
        let frame = peer.encode(&Frame::Event(entry(kind, 9, None))).expect("a text frame");
        frames.push(parse(frame.as_str()));
    }
    if codec == Codec::Legacy {
        peer.decode(r#"{"type":"heartbeat"}"#);
        frames.push(told(&mut peer, &Control::Pong));
        let piece = record(None, 5, &json!({ "part": 1, "kind": "text", "text": "hm" }));
        let frame = peer.encode(&Frame::Event(entry(Kind::Delta(PartId(1)), 9, Some(piece)))).expect("a text frame");
        frames.push(conforming(server(codec), frame.as_str()));
    }
    frames
}

#[test]
fn the_server_sends_each_type_that_is_described_and_no_other() {
    for (codec, schema) in [(Codec::V1, schema::V1_SERVER), (Codec::Legacy, schema::LEGACY_SERVER)] {
        let name = |frame: &Value| frame["type"].as_str().expect("a type").to_owned();
        let sent: BTreeSet<String> = server_frames(codec).iter().map(name).collect();
        assert_eq!(sent, types(schema), "{codec:?}");
    }
}

/// The JSON pointers in a frame of the objects that the schema describes member by member.
fn objects(frame: &Value) -> Vec<&'static str> {
    let open =
        ["message_received", "agent_started", "agent_thinking", "agent_completed", "notice", "connection_notice"];
    let mut places = vec![""];
    if frame["data"].is_object() && !open.contains(&frame["type"].as_str().unwrap_or_default()) {
        places.push("/data");
    }
    let inner = ["/limits", "/data/limits", "/threads/0", "/events/0", "/events/0/data"];
    places.extend(inner.into_iter().filter(|place| frame.pointer(place).is_some()));
    places
}

/// The schemas are strict: a missing member, an extra one, or one of another type is found.
#[test]
fn a_frame_that_is_wrong_anywhere_is_found() {
    for codec in CODECS {
        for frame in server_frames(codec) {
            for place in objects(&frame) {
                let wrong = |spoil: &dyn Fn(&mut serde_json::Map<String, Value>)| {
                    let mut frame = frame.clone();
                    frame.pointer_mut(place).and_then(Value::as_object_mut).map(spoil).expect("an object");
                    assert!(!server(codec).is_valid(&frame), "{codec:?}: the schema allows {frame}");
                };
                wrong(&|members| _ = members.insert("surprise".into(), 1.into()));
                let members = frame.pointer(place).and_then(Value::as_object).expect("an object");
                for name in members.keys() {
                    let in_legacy = codec == Codec::Legacy && place == "/data";
                    if !["error", "payload", "arguments"].contains(&name.as_str())
                        || in_legacy && name == "error" && frame["type"] == "agent_failed"
                    {
                        wrong(&|members| _ = members.remove(name));
                    }
                    if !["payload", "arguments", "parameters", "result", "reply"].contains(&name.as_str()) {
                        wrong(&|members| _ = members.insert(name.clone(), json!([[]])));
                    }
                }
            }
        }
    }
}

/// The lines of the AsyncAPI document under a top-level key.
fn section(key: &str) -> impl Iterator<Item = &'static str> {
    let begin = format!("{key}:");
    schema::ASYNCAPI.lines().skip_while(move |line| *line != begin).skip(1).take_while(|line| line.starts_with(' '))
}

/// CONN-1, as published.
#[test]
fn the_close_codes_are_those_of_the_table() {
    let published: Vec<Value> =
        section("x-close-codes").filter_map(|line| line.trim().strip_prefix("- ")).map(parse).collect();
    let table = Cause::ALL.iter().map(|cause| {
        let advice = match cause.advice() {
            Advice::ComeBack => "come_back",
            Advice::StayAway => "stay_away",
            Advice::None => "none",
        };
        json!({
            "code": cause.code(), "legacy_code": cause.legacy_code(), "cause": format!("{cause:?}"), "advice": advice,
            "reason": cause.reason(),
        })
    });
    assert_eq!(published, table.collect::<Vec<_>>());
}

#[test]
fn the_asyncapi_document_names_every_type_and_its_schema() {
    let messages: BTreeSet<&str> =
        section("components").filter_map(|line| line.strip_prefix("    ")?.strip_suffix(':')).collect();
    let payloads: BTreeSet<&str> = section("components").filter_map(|line| line.split('\'').nth(1)).collect();
    for (file, schema) in SCHEMAS {
        for kind in types(schema) {
            assert!(messages.contains(format!("{file}.{kind}").as_str()), "{file}.{kind} is no message");
            let reference = format!("./schema/{file}.json#/$defs/{kind}");
            assert!(payloads.contains(reference.as_str()), "{reference} is no payload");
            let (codec, side) = file.split_once('.').expect("two parts");
            for used in [
                format!("{side}.{kind}: {{ $ref: '#/components/messages/{file}.{kind}' }}"),
                format!("- $ref: '#/channels/{codec}/messages/{side}.{kind}'"),
            ] {
                assert!(schema::ASYNCAPI.lines().any(|line| line.trim() == used), "no line `{used}`");
            }
        }
    }
    let known: BTreeSet<String> = SCHEMAS
        .iter()
        .flat_map(|(file, schema)| types(schema).into_iter().map(move |kind| format!("{file}.{kind}")))
        .collect();
    let named = messages.iter().filter(|name| name.contains(".client.") || name.contains(".server."));
    assert_eq!(named.map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), known);
}
