//! Events: each frame has its entry's content, is encoded once, and is readable by every client.

use lockstep::payload::data_of;
use lockstep_model::run::{Ending, Reason, Received, ToolEnd};
use lockstep_model::{MessageId, PauseId, ThreadId, ToolId};

use super::*;

const ENDS: [(ToolEnd, &str); 4] = [
    (ToolEnd::Success, "success"),
    (ToolEnd::Failure, "failure"),
    (ToolEnd::Abandoned(Ending::Completed), "abandoned"),
    (ToolEnd::Abandoned(Ending::Error(Reason::Cancelled)), "abandoned"),
];

const REASONS: [(Reason, &str); 7] = [
    (Reason::Failed, "failed"),
    (Reason::Abandoned, "abandoned"),
    (Reason::Silent, "silent"),
    (Reason::TimedOut, "timed_out"),
    (Reason::Cancelled, "cancelled"),
    (Reason::Interrupted, "interrupted"),
    (Reason::NoReply, "no_reply"),
];

/// Every kind, with its frame's type and matching data.
pub(super) fn kinds() -> Vec<(Kind, &'static str, Value)> {
    let tool = ToolId(3);
    let call = json!({ "tool_id": "t3", "name": "clock", "arguments": { "zone": "UTC" } });
    let mut kinds = vec![
        (
            Kind::Received(Received::immediate(MessageId(5), ThreadId(5))),
            "message_received",
            json!({ "message_id": "m", "payload": ["x", null] }),
        ),
        (Kind::Started, "agent_started", json!({})),
        (Kind::Thinking, "agent_thinking", json!({ "text": "hm" })),
        (Kind::ToolExecuting(tool), "tool_executing", call),
        (Kind::Paused(PauseId(1)), "agent_paused", json!({ "pause": 1, "request": { "message": "Really?" } })),
        (Kind::Resumed(PauseId(1)), "agent_resumed", json!({ "pause": 1, "reply": { "text": "yes" } })),
        (Kind::Completed, "agent_completed", json!({ "text": "42", "sources": [1] })),
    ];
    for (end, status) in ENDS {
        let data = json!({ "tool_id": "t3", "name": "clock", "status": status, "result": [1, "noon"] });
        kinds.push((Kind::ToolCompleted(tool, end), "tool_completed", data));
    }
    for (reason, word) in REASONS {
        let data = json!({ "reason": word, "message": "No." });
        kinds.push((Kind::Error(reason), "agent_error", data));
    }
    kinds
}

fn encode(codec: Codec, entry: &Entry<Payload>) -> Value {
    let frame = peer_at(codec, 8).encode(&Frame::Event(entry.clone())).expect("a text frame");
    conforming(server(codec), frame.as_str())
}

#[test]
fn each_event_says_what_its_entry_says() {
    for (kind, name, data) in kinds() {
        for thread in [None, Some("t\"1")] {
            let mut entry = entry(kind, 12, Some(record(thread, 1_700_000_000_123, &data)));
            entry.previous = Offset(9);
            let v1 = json!({
                "type": name, "offset": 12, "previous": 9, "run_id": "00000000000000ab", "thread_id": thread,
                "timestamp": 1_700_000_000_123u64, "data": &data,
            });
            assert_eq!(encode(Codec::V1, &entry), v1);
        }
    }
}

/// Events that the machines emit themselves.
#[test]
fn an_event_without_a_record_has_the_data_of_its_kind() {
    for (kind, name, _) in kinds() {
        let frame = encode(Codec::V1, &entry(kind, 9, None));
        assert_eq!(frame["type"], name);
        assert_eq!(frame["data"], parse(data_of(kind).get()));
        assert_eq!(frame["timestamp"], 0);
        // The schema's test is enough: a legacy client reads other members.
        encode(Codec::Legacy, &entry(kind, 9, None));
    }
}

#[test]
fn the_data_of_a_tool_and_of_an_end_says_which_and_why() {
    for (end, status) in ENDS {
        let data = parse(data_of(Kind::ToolCompleted(ToolId(3), end)).get());
        assert_eq!((&data["tool_id"], &data["status"]), (&json!("t3"), &json!(status)));
    }
    let mut causes: Vec<String> = Vec::new();
    for ending in REASONS.map(|(reason, _)| Ending::Error(reason)).into_iter().chain([Ending::Completed]) {
        let data = parse(data_of(Kind::ToolCompleted(ToolId(3), ToolEnd::Abandoned(ending))).get());
        causes.push(data["error"].as_str().expect("a cause").to_owned());
    }
    causes.sort();
    causes.dedup();
    assert_eq!(causes.len(), REASONS.len() + 1, "two ends say the same: {causes:?}");
    let mut sentences: Vec<String> = Vec::new();
    for (reason, word) in REASONS {
        let data = parse(data_of(Kind::Error(reason)).get());
        assert_eq!(data["reason"], word);
        sentences.push(data["message"].as_str().expect("a sentence").to_owned());
    }
    assert!(sentences.iter().all(|sentence| sentence.ends_with('.')), "{sentences:?}");
    sentences.sort();
    sentences.dedup();
    assert_eq!(sentences.len(), REASONS.len(), "two reasons say the same");
    assert_eq!(data_of(Kind::Started).get(), "{}");
}

/// Two connections share the same bytes, not equal copies.
#[test]
fn an_event_is_encoded_once_for_all_connections() {
    let entry = entry(Kind::Thinking, 9, Some(record(None, 5, &json!({ "text": "hm" }))));
    let frame = Frame::Event(entry);
    let legacy = peer_at(Codec::Legacy, 8).encode(&frame).expect("a text frame");
    let [first, second] = [8, 0].map(|at| peer_at(Codec::V1, at).encode(&frame.clone()).expect("a text frame"));
    assert_eq!(first.as_str().as_ptr(), second.as_str().as_ptr());
    assert_ne!(first, legacy);
}

proptest! {
    #[test]
    fn what_a_client_sends_is_what_all_its_connections_read(
        name in any_name(),
        thread in prop::option::of(any_name()),
        payload in any_json(),
        offset in 1u64..1 << 53,
        previous in 0u64..1 << 53,
    ) {
        let frame = json!({ "type": "user_message", "message_id": &name, "thread_id": &thread, "payload": payload });
        let Request::Message { message, thread: thread_id, run, payload: Payload::Record(record), .. } =
            fresh(Codec::V1).decode(&frame.to_string())
        else {
            return Err(TestCaseError::fail("no message"));
        };
        let event = Event { run, thread: Some(thread_id), kind: Kind::Received(Received::immediate(message, thread_id)), payload: Some(Payload::Record(record)) };
        let entry = Entry { offset: Offset(offset), previous: Offset(previous), event };
        let read = encode(Codec::V1, &entry);
        prop_assert_eq!(&read["data"]["message_id"], &json!(name));
        // The payload that was sent, parsed by the same parser: only its text is promised to be the same.
        prop_assert_eq!(&read["data"]["payload"], &parse(&frame.to_string())["payload"]);
        prop_assert_eq!(&read["thread_id"], &json!(thread));
        prop_assert_eq!((&read["offset"], &read["previous"]), (&json!(offset), &json!(previous)));
        prop_assert_eq!(&read["run_id"], &json!(format!("{:016x}", run.0)));
        let legacy = encode(Codec::Legacy, &entry);
        prop_assert_eq!(&legacy["data"], &read["data"]);
        prop_assert_eq!(&legacy["message_id"], &json!(format!("7:{offset}")));
    }
}
