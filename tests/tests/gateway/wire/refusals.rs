//! A refusal names the refused message whenever the frame allows reading its id, so that the client can settle it.
#![expect(clippy::wildcard_enum_match_arm, reason = "one request is looked for among all")]

use lockstep::verify::credential_id;
use lockstep::wire::{Codec, MAX_ECHO, MAX_NAME};
use lockstep_model::{Code, MessageId};

use super::*;

/// The codec's answer to a frame: the error's code, and the message that it names.
fn refusal(codec: Codec, frame: &str) -> (Value, Option<Value>) {
    let mut peer = peer_at(codec, 8);
    let request = peer.decode(frame);
    let Request::Invalid { code, message } = request else { panic!("{codec:?}: {frame}\nbecame {request:?}") };
    let control = match message {
        Some(message) => Control::Refused { message, code },
        None => Control::Error(code),
    };
    let error = told(&mut peer, &control);
    let (code, details) = match codec {
        Codec::V1 => (&error["code"], &error),
        Codec::Legacy => (&error["error_code"], &error["details"]),
    };
    (code.clone(), details.get("message_id").cloned())
}

/// A frame with this `message_id` for each reason of refusal, and the reason.
fn refused(name: &str) -> Vec<(String, &'static str)> {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    let many: String = (0..80).map(|number| format!(r#","x{number}":0"#)).collect();
    let frame = |rest: &str| format!(r#"{{"type":"user_message","message_id":"{name}"{rest}}}"#);
    vec![
        (frame(""), "invalid_field"),
        (frame(r#","payload":1,"thread_id":5"#), "invalid_field"),
        (frame(r#","payload":1,"thread_id":"""#), "invalid_field"),
        (format!(r#"{{"type":"nonsense","message_id":"{name}"}}"#), "unknown_type"),
        (format!(r#"{{"message_id":"{name}","payload":1}}"#), "invalid_field"),
        (frame(&format!(r#","payload":{deep}"#)), "malformed"),
        (frame(&format!(r#","payload":1{many}"#)), "malformed"),
        (frame(r#","payload":1,"payload":2"#), "malformed"),
        (frame(r#","payload":"\ud800""#), "malformed"),
        (frame(r#","payload":1e999"#), "malformed"),
        (frame(r#","payload":{"$serde_json::private::RawValue":"1"}"#), "malformed"),
        // Cut off after the name.
        (format!(r#"{{"type":"user_message","message_id":"{name}","payload":{{"text":"a"#), "malformed"),
        (format!(r#"{{"type":"user_message","message_id":"{name}","payload":nonsense}}"#), "malformed"),
    ]
}

#[test]
fn whatever_is_wrong_the_refusal_names_the_message() {
    for codec in CODECS {
        for (frame, code) in refused("m-1") {
            // To an older client, an empty thread is none.
            if codec == Codec::Legacy && frame.contains(r#""thread_id":"""#) {
                continue;
            }
            assert_eq!(refusal(codec, &frame), (json!(code), Some(json!("m-1"))), "{codec:?}: {frame}");
        }
    }
}

#[test]
fn a_name_that_is_itself_what_is_wrong_is_repeated() {
    let (long, longest) = ("é".repeat(MAX_NAME + 1), "x".repeat(MAX_ECHO));
    for name in ["", long.as_str(), longest.as_str()] {
        let frame = json!({ "type": "user_message", "message_id": name, "payload": 1 }).to_string();
        for codec in CODECS {
            assert_eq!(refusal(codec, &frame), (json!("invalid_field"), Some(json!(name))), "{codec:?}");
        }
    }
}

/// LIM-1: a connection does not keep names of unbounded length.
#[test]
fn a_name_without_measure_is_not_repeated() {
    let frame = json!({ "type": "user_message", "message_id": "x".repeat(MAX_ECHO + 1), "payload": 1 }).to_string();
    for codec in CODECS {
        assert_eq!(refusal(codec, &frame), (json!("invalid_field"), None));
    }
}

#[test]
fn what_names_no_message_is_refused_without_a_name() {
    for (frame, code) in [
        ("not JSON", "malformed"),
        ("[]", "malformed"),
        (r#"{"type":"nonsense"}"#, "unknown_type"),
        (r#"{"type":"nonsense","message_id":7}"#, "unknown_type"),
        (r#"{"type":"nonsense","message_id":null}"#, "unknown_type"),
        (r#"{"type":"nonsense","payload":{"message_id":"inside"}}"#, "unknown_type"),
        (r#"{"type":"user_message","message_id":"a","message_id":"b","payload":1}"#, "malformed"),
        (r#"{"type":"user_message","message_id":"\ud800","payload":1}"#, "malformed"),
    ] {
        for codec in CODECS {
            assert_eq!(refusal(codec, frame), (json!(code), None), "{codec:?}: {frame}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    /// The refusal names the message whose answer the client awaits, under the digest of its name.
    #[test]
    fn a_refusal_is_about_the_message_of_that_name(name in any_name(), cut in 0..12usize) {
        let quoted = json!(name).to_string();
        let frame = &refused(&quoted[1..quoted.len() - 1])[cut].0;
        let request = fresh(Codec::V1).decode(frame);
        let named = match request {
            Request::Invalid { message, .. } => message,
            _ => None,
        };
        prop_assert_eq!(named, Some(MessageId(credential_id(&name).0)), "{}", frame);
    }

    /// Total: no text makes reading the name fail, and text that is not an object names no message.
    #[test]
    fn no_text_is_too_strange(text in any::<String>()) {
        if let Request::Invalid { message: Some(_), .. } = fresh(Codec::V1).decode(&text) {
            let is_object = text.trim_start().starts_with('{');
            prop_assert!(is_object);
        }
    }
}

#[test]
fn a_code_is_told_with_each_name() {
    for code in Code::ALL {
        let mut peer = peer_at(Codec::V1, 8);
        let request = peer.decode(r#"{"type":"nonsense","message_id":"m"}"#);
        let Request::Invalid { message: Some(message), .. } = request else { panic!("{request:?}") };
        assert_eq!(told(&mut peer, &Control::Refused { message, code })["message_id"], "m");
    }
}
