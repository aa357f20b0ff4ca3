//! Hostile frames. None causes a panic, and each is answered with its error.

use super::*;
use lockstep_model::run::Received;

/// Valid frames to be corrupted.
const GOOD: [&str; 7] = [
    r#"{"type":"auth","token":"a.b.c","resume":{"epoch":7,"offset":12},"replaces":"0123456789abcdef"}"#,
    r#"{"type":"user_message","message_id":"m-1","thread_id":"t","payload":{"text":"h\u00e9 \ud83d\ude00","n":[1,-2.5e3]}}"#,
    r#"{"type":"cancel","run_id":"0123456789abcdef"}"#,
    r#"{"type":"auth","payload":{"token":"a.b.c"}}"#,
    r#"{"type":"read_turns","request_id":"r","thread_id":"t","limit":20,"before":"12"}"#,
    r#"{"type":"rename_thread","request_id":"r","title":"\ud83d\ude00 sums"}"#,
    r#"{"type":"ping"}"#,
];

fn with_payload(payload: &str) -> String {
    format!(r#"{{"type":"user_message","message_id":"a","payload":{payload}}}"#)
}

/// Asserts that both codecs refuse the frame as malformed.
fn is_malformed(frame: &str) {
    for codec in CODECS {
        refuses(codec, frame, Code::Malformed);
    }
}

/// Asserts that both codecs decode the payload as it was written.
fn passes(payload: &str) {
    for codec in CODECS {
        let request = fresh(codec).decode(&with_payload(payload));
        assert_eq!(message(&request).0, format!(r#"{{"message_id":"a","payload":{payload}}}"#), "{codec:?}");
    }
}

#[test]
fn what_is_no_json_object_is_malformed() {
    for frame in [
        "",
        " ",
        "null",
        "true",
        "7",
        "\"ping\"",
        "[]",
        r#"[{"type":"ping"}]"#,
        "{",
        "}",
        "{}{}",
        r#"{"type":"ping"} x"#,
        r#"{"type":"ping"}{"type":"ping"}"#,
        r#"{"type":"ping",}"#,
        r#"{"type" "ping"}"#,
        r#"{type:"ping"}"#,
        "{'type':'ping'}",
        r#"{"type":"ping"/* hello */}"#,
        r#"{1:"ping"}"#,
        "\u{FEFF}{\"type\":\"ping\"}",
        "\0",
        "{\"type\":\"ping\0\"}",
        "{\"type\":\"pi\nng\"}",
        r#"{"type":"pi\x6eg"}"#,
    ] {
        is_malformed(frame);
    }
}

#[test]
fn every_beginning_of_a_frame_is_malformed() {
    for frame in GOOD {
        for end in (0..frame.len()).filter(|end| frame.is_char_boundary(*end)) {
            is_malformed(&frame[..end]);
        }
    }
}

#[test]
fn numbers_out_of_range_are_malformed() {
    let digits = "9".repeat(400);
    for number in ["1e999", "-1e999", "1E+400", "NaN", "Infinity", "-", "+1", "01", "1.", ".5", "0x10", "1e", &digits] {
        is_malformed(&with_payload(number));
        is_malformed(&with_payload(&format!(r#"{{"a":[{number}]}}"#)));
    }
    for number in ["1e308", "-0", "1e-999", "18446744073709551616", "123456789012345678901234567890", "0.1e1"] {
        passes(number);
    }
}

#[test]
fn escapes_that_stand_for_no_character_are_malformed() {
    for escape in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\ud800", r"\ude00\ud83d", r"\uD83D\u0041", r"\u12", r"\q"]
    {
        is_malformed(&with_payload(&format!("\"{escape}\"")));
        is_malformed(&with_payload(&format!(r#"{{"{escape}":1}}"#)));
        is_malformed(&format!(r#"{{"type":"user_message","message_id":"{escape}","payload":1}}"#));
        is_malformed(&format!(r#"{{"type":"ping","{escape}":1}}"#));
    }
    for escape in [r"\ud83d\ude00", r"\u0000", r"\/", r"\uffff"] {
        passes(&format!("\"{escape}\""));
    }
}

#[test]
fn a_member_that_is_there_twice_is_malformed() {
    for frame in [
        r#"{"type":"ping","type":"ping"}"#,
        r#"{"type":"ping","typ\u0065":"cancel"}"#,
        r#"{"type":"ping","other":1,"other":1}"#,
        r#"{"type":"user_message","message_id":"a","message_id":"b","payload":1}"#,
        r#"{"type":"user_message","message_id":"a","payload":1,"payload":2}"#,
    ] {
        is_malformed(frame);
    }
    refuses(Codec::V1, r#"{"type":"auth","token":"a","resume":{"epoch":1,"epoch":2,"offset":3}}"#, Code::Malformed);
    refuses(Codec::Legacy, r#"{"type":"auth","payload":{"token":"a","token":"b"}}"#, Code::Malformed);
}

#[test]
fn a_payload_is_passed_on_as_it_was_written() {
    passes(r#"{ "a" : 1, "a" : 2,  "b":[ ] }"#);
    passes("1.000000000000000000000001");
}

#[test]
fn a_frame_nests_32_deep_and_no_deeper() {
    let arrays = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let objects = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    passes(&arrays(31));
    passes(&objects(31));
    for levels in [32, 33, 127, 128, 100_000] {
        is_malformed(&with_payload(&arrays(levels)));
        is_malformed(&with_payload(&objects(levels)));
        is_malformed(&with_payload(&"[".repeat(levels)));
        is_malformed(&"[".repeat(levels));
        is_malformed(&objects(levels + 1));
    }
}

#[test]
fn a_frame_has_64_members_and_no_more() {
    let members = |count: usize| (1..count).map(|n| format!(r#","m{n}":0"#)).collect::<String>();
    let frame = |count| format!(r#"{{"type":"ping"{}}}"#, members(count));
    assert!(matches!(fresh(Codec::V1).decode(&frame(64)), Request::Ping));
    is_malformed(&frame(65));
    is_malformed(&frame(100_000));
}

/// serde_json's `Value` parses such an object as the content of its string; other parsers see an object.
#[test]
fn a_value_in_disguise_is_malformed() {
    for name in ["RawValue", "Number", r"\u0052awValue"] {
        let disguise = format!(r#"{{"$serde_json::private::{name}":"\"ping\""}}"#);
        is_malformed(&disguise);
        is_malformed(&format!(r#"{{"type":{disguise}}}"#));
        is_malformed(&with_payload(&disguise));
        is_malformed(&with_payload(&format!("[{disguise}]")));
    }
    passes(r#"{"$serde":"private","RawValue":1}"#);
}

/// Text with JSON's punctuation, and little of its grammar.
fn rubble() -> impl Strategy<Value = String> {
    let parts = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "\\",
        "\\u",
        "\\ud800",
        "null",
        "true",
        "1",
        "-",
        "e9",
        ".",
        "\"type\":",
        "\"ping\"",
        "\"auth\"",
        "\"token\"",
        "\"resume\"",
        "\"payload\":",
        "\"user_message\"",
        "\"message_id\"",
        " ",
        "\0",
        "é",
        "\u{10FFFF}",
    ];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 0..40).prop_map(|parts| parts.concat())
}

/// A valid frame with some bytes replaced.
fn spoilt() -> impl Strategy<Value = String> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    (prop::sample::select(GOOD.to_vec()), changes).prop_map(|(frame, changes)| {
        let mut bytes = frame.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn judged(frame: &str) {
    let object = serde_json::from_str::<Value>(frame).is_ok_and(|value| value.is_object());
    for codec in CODECS {
        let request = fresh(codec).decode(frame);
        if !object {
            assert_eq!(fault(&request), Some(Code::Malformed), "{codec:?}: {frame}\nbecame {request:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 8, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_is_decoded_or_refused(frame in prop_oneof![any::<String>(), rubble(), spoilt()]) {
        judged(&frame);
    }

    /// For readers: what one client may write, every reader of the stream must be able to parse.
    #[test]
    fn every_reader_parses_an_accepted_payload(payload in prop_oneof![rubble(), any_json().prop_map(|v| v.to_string())]) {
        for codec in CODECS {
            let Request::Message { message, thread, payload: Payload::Record(record), .. } =
                fresh(codec).decode(&with_payload(&payload))
            else {
                continue;
            };
            let frame = Frame::Event(entry(Kind::Received(Received::immediate(message, thread)), 9, Some(record)));
            let text = peer_at(codec, 8).encode(&frame).expect("a text frame");
            conforming(server(codec), text.as_str());
        }
    }
}
