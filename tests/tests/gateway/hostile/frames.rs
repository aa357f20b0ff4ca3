//! Frames that violate the protocol, or stretch it.

use super::client::*;
use super::*;
use serde_json::json;

#[tokio::test]
async fn a_text_that_is_no_request_gets_an_error_and_the_connection_goes_on() {
    let gateway = Gateway::open(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut mallory = gateway.live("mallory").await;
    let deep = format!("{}{}", r#"{"type":"ping","x":"#.repeat(2_000), "}".repeat(2_000));
    let deep_payload =
        format!(r#"{{"type":"user_message","message_id":"d","payload":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    for (text, code) in [
        ("hello", "malformed"),
        ("", "malformed"),
        ("{", "malformed"),
        ("[]", "malformed"),
        (r#"{"type":"ping"}{"type":"ping"}"#, "malformed"),
        (&deep, "malformed"),
        (&deep_payload, "malformed"),
        (r#"{"type":"shutdown"}"#, "unknown_type"),
        (r#"{"type":"connection_ready"}"#, "unknown_type"),
        (r#"{"type":7}"#, "invalid_field"),
        (r#"{}"#, "invalid_field"),
        (r#"{"type":"user_message","message_id":7,"payload":{}}"#, "invalid_field"),
        (r#"{"type":"user_message","message_id":"","payload":{}}"#, "invalid_field"),
        (r#"{"type":"user_message","payload":{}}"#, "invalid_field"),
        (r#"{"type":"user_message","message_id":"x","thread_id":[],"payload":{}}"#, "invalid_field"),
        (r#"{"type":"cancel","run_id":"no"}"#, "invalid_field"),
        (r#"{"type":"auth","token":{"a":1}}"#, "invalid_field"),
        (r#"{"type":"cancel","run_id":"0123456789abcdef"}"#, "unknown_run"),
    ] {
        mallory.send(&frame(TEXT, text.as_bytes())).await;
        assert_eq!(mallory.error().await, code, "{}", text.chars().take(80).collect::<String>());
    }
    mallory.is_live().await;
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_binary_message_is_closed_with_1003() {
    is_closed(1003, async |mallory| mallory.send(&frame(BINARY, b"{}")).await).await;
}

#[tokio::test]
async fn text_that_is_no_utf_8_is_closed_with_1007() {
    for text in [&b"\xFF"[..], b"ok \xC3", b"\xED\xA0\x80", b"\xF4\x90\x80\x80"] {
        is_closed(1007, async |mallory| mallory.send(&frame(TEXT, text)).await).await;
    }
    is_closed(1007, async |mallory| {
        mallory.send(&frame(BEGIN, b"\"\xC3")).await;
        mallory.send(&frame(LAST, b"\"")).await;
    })
    .await;
}

#[tokio::test]
async fn a_character_that_two_fragments_share_is_understood() {
    let gateway = Gateway::open(|_| {}).await;
    let mut ada = gateway.live("ada").await;
    let text = message("m", "é").to_string().into_bytes();
    let middle = text.iter().position(|byte| *byte == 0xC3).expect("é") + 1;
    ada.send(&frame(BEGIN, &text[..middle])).await;
    ada.send(&frame(PING, b"between")).await;
    ada.send(&frame(LAST, &text[middle..])).await;
    assert_eq!(ada.hear().await, Heard::Pong(b"between".to_vec()));
    assert_eq!(ada.until("agent_completed").await.last().expect("an answer")["data"]["text"], "é");
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_1002() {
    let mut unmasked = vec![TEXT, 15];
    unmasked.extend(br#"{"type":"ping"}"#);
    for (what, bytes) in [
        ("a frame without a mask", unmasked),
        ("the first reserved bit", frame(TEXT | 0x40, b"{}")),
        ("the second reserved bit", frame(TEXT | 0x20, b"{}")),
        ("the third reserved bit", frame(TEXT | 0x10, b"{}")),
        ("a data frame of a kind that there is not", frame(0x83, b"{}")),
        ("a control frame of a kind that there is not", frame(0x8B, b"")),
        ("a ping in fragments", frame(0x09, b"")),
        ("a ping that is too long", frame(PING, &[0; 126])),
        ("the middle of a message that did not begin", frame(MORE, b"x")),
        ("the end of a message that did not begin", frame(LAST, b"x")),
        ("a message within a message", [frame(BEGIN, b"{"), frame(TEXT, b"{}")].concat()),
        ("a close frame of one byte", frame(CLOSE, &[3])),
    ] {
        let gateway = Gateway::open(|_| {}).await;
        let mut others = Others::arrive(gateway.address).await;
        let mut mallory = gateway.live("mallory").await;
        mallory.send(&bytes).await;
        assert_eq!(mallory.end().await, 1002, "{what}");
        others.notice_nothing().await;
    }
}

#[tokio::test]
async fn close_frames_with_codes_that_may_not_be_sent_are_closed_all_the_same() {
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535] {
        let gateway = Gateway::open(|_| {}).await;
        let mut mallory = gateway.live("mallory").await;
        mallory.send(&frame(CLOSE, &code.to_be_bytes())).await;
        assert_eq!(mallory.end().await, 1002, "{code}");
    }
}

#[tokio::test]
async fn a_close_frame_is_answered_and_the_gateway_closes_the_socket() {
    let gateway = Gateway::open(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut ada = gateway.live("ada").await;
    ada.send(&frame(CLOSE, &[&1000_u16.to_be_bytes()[..], b"bye"].concat())).await;
    assert_eq!(ada.hear().await, Heard::Close(1000));
    assert_eq!(ada.hear().await, Heard::End);
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_closed_with_1009_however_it_comes() {
    let text = vec![b' '; 10 * 1024 * 1024];
    is_closed(1009, async |mallory| mallory.send(&frame(TEXT, &text)).await).await;
    is_closed(1009, async |mallory| mallory.send(&head(TEXT, 1 << 62)).await).await;
    is_closed(1009, async |mallory| mallory.send(&head(TEXT, 64 * 1024 + 1)).await).await;
    is_closed(1009, async |mallory| {
        mallory.send(&frame(BEGIN, &text[..40_000])).await;
        mallory.send(&frame(MORE, &text[..25_000])).await;
        mallory.send(&frame(MORE, &text[..25_000])).await;
        mallory.send(&frame(LAST, &text[..25_000])).await;
    })
    .await;
}

#[tokio::test]
async fn a_message_at_the_limit_is_answered() {
    let gateway = Gateway::open(|_| {}).await;
    let mut ada = gateway.live("ada").await;
    let least = message("m", "").to_string().len();
    let full = message("m", &"x".repeat(64 * 1024 - least)).to_string();
    assert_eq!(full.len(), 64 * 1024);
    ada.send(&frame(TEXT, full.as_bytes())).await;
    ada.until("agent_completed").await;
}

#[tokio::test]
async fn a_message_in_ten_thousand_fragments_is_answered() {
    let gateway = Gateway::open(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut ada = gateway.live("ada").await;
    let least = message("m", "").to_string().len();
    let text = message("m", &"x".repeat(10_000 - least)).to_string().into_bytes();
    let mut bytes = Vec::new();
    for (index, byte) in text.iter().enumerate() {
        let first = if index == 0 { BEGIN } else { MORE };
        bytes.extend(frame(first, &[*byte]));
        // As many empty frames, which a limit on bytes does not count.
        bytes.extend(frame(MORE, b""));
    }
    bytes.extend(frame(LAST, b""));
    ada.send(&bytes).await;
    let answer = ada.until("agent_completed").await;
    assert_eq!(answer.last().expect("an answer")["data"]["text"].as_str().map(str::len), Some(10_000 - least));
    others.notice_nothing().await;
}

#[tokio::test]
async fn after_a_violation_the_gateway_listens_no_more_and_closes_the_socket_itself() {
    let gateway = Gateway::open(|config| config.bounds.close_ms = 300).await;
    let mut mallory = gateway.live("mallory").await;
    let mut bob = gateway.live("bob").await;
    mallory.send(&frame(BINARY, b"x")).await;
    mallory.say(&message("late", "x")).await;
    mallory.say(&json!({ "type": "ping" })).await;
    assert_eq!(mallory.hear().await, Heard::Close(1003));
    assert_eq!(mallory.hear().await, Heard::End, "though it said no goodbye");
    bob.exchange("m").await;
}

#[tokio::test]
async fn after_its_close_frame_the_gateway_closes_first() {
    // If the gateway waited for the closing deadline, the test would time out.
    let gateway = Gateway::open(|config| config.bounds.close_ms = 600_000).await;
    let unread = vec![b' '; 1024 * 1024];
    for (code, broken) in [
        (1002, frame(TEXT | 0x40, b"{}")),
        (1003, frame(BINARY, b"x")),
        (1007, frame(TEXT, b"\xFF")),
        (1009, frame(TEXT, &unread)),
    ] {
        let mut mallory = gateway.live("mallory").await;
        mallory.send(&broken).await;
        assert_eq!(mallory.hear().await, Heard::Close(code));
        mallory.send(&frame(CLOSE, &code.to_be_bytes())).await;
        // A client waits for the server to close first (RFC 6455 §7.1.1).
        assert_eq!(mallory.hear().await, Heard::End, "{code}");
    }
}
