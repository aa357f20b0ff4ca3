//! Upgrade requests that are invalid, too slow, or too many.

use std::time::Duration;

use lockstep_gateway::config::DefaultCodec;
use serde_json::json;

use super::client::*;
use super::*;

/// The status and the head of the answer to a request. Asserts that the gateway is otherwise unaffected.
async fn refused(gateway: &Gateway, request: &str) -> (u16, String) {
    let mut client = Client::connect(gateway.address).await;
    let head = client.ask(request).await;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head)
}

/// An upgraded client, once there is a free place.
async fn once_admitted(gateway: &Gateway) -> Client {
    let admitted = async {
        loop {
            let mut client = Client::connect(gateway.address).await;
            client.send(request(&[]).as_bytes()).await;
            if client.begins_with(b"HTTP/1.1 101 ").await {
                client.answer().await;
                return client;
            }
        }
    };
    tokio::time::timeout(PATIENCE, admitted).await.expect("a place")
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_told_what_is_missing() {
    let gateway = Gateway::open(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let good = request(&[]);
    for (taken, put, status) in [
        ("Upgrade: websocket\r\n", "", 426),
        ("Upgrade: websocket", "Upgrade: h2c", 426),
        ("Connection: keep-alive, Upgrade\r\n", "", 426),
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13, 8", 426),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8", 400),
        ("Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n", "", 400),
        ("AAECAwQFBgcICQoLDA0ODw==", "AAEC", 400),
        ("AAECAwQFBgcICQoLDA0ODw==", "not base64 at all!!!!!!!", 400),
        ("AAECAwQFBgcICQoLDA0ODw==", "AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Key: BBECAwQFBgcICQoLDA0ODw==", 400),
        ("Host: gateway.test", "Host: gateway.test\r\nHost: other.test", 400),
        ("Host: gateway.test\r\n", "", 400),
        ("Host: gateway.test", "Host:", 400),
        ("Host: gateway.test", "Host: gateway.test\r\nContent-Length: 5", 400),
        ("Host: gateway.test", "Host: gateway.test\r\nTransfer-Encoding: chunked", 400),
        ("GET ", "POST ", 405),
        ("GET /ws", "GET /ws?epoch=1", 400),
        ("GET /ws", "GET /ws?epoch=1&offset=-1", 400),
        ("GET /ws", "GET /ws?from=yesterday", 400),
        ("GET /ws", "GET /ws?from=latest&from=earliest", 400),
        ("GET /ws", "GET /wss", 404),
        ("HTTP/1.1", "HTTP/1.0", 400),
    ] {
        assert!(good.contains(taken));
        let (answered, head) = refused(&gateway, &good.replacen(taken, put, 1)).await;
        assert_eq!(answered, status, "{taken:?} became {put:?}: {head}");
        let version = head.to_ascii_lowercase().contains("sec-websocket-version: 13");
        assert_eq!(version, status == 426, "{head}");
    }
    others.notice_nothing().await;
}

#[tokio::test]
async fn only_known_subprotocols_are_answered_and_not_with_the_token() {
    let gateway = Gateway::open(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    for offered in ["chat", "lockstep.v2", "LOCKSTEP.V1", "bearer.YWRh", "lockstep.v1.", "chat, soap"] {
        let (status, head) = refused(&gateway, &request(&[&format!("Sec-WebSocket-Protocol: {offered}")])).await;
        assert_eq!(status, 400, "{offered}: {head}");
    }
    let mut client = Client::connect(gateway.address).await;
    let head =
        client.ask(&request(&["Sec-WebSocket-Protocol: chat, jwt.YWRh, lockstep.v1"])).await.to_ascii_lowercase();
    assert!(head.contains("sec-websocket-protocol: lockstep.v1\r\n") && !head.contains("ywrh"), "{head}");
    assert_eq!(client.next().await["user_id"], "ada");
    others.notice_nothing().await;
}

/// A browser closes a connection whose server selects none of the subprotocols that it offered.
#[tokio::test]
async fn an_older_client_that_offers_only_its_token_gets_it_back_and_no_other_does() {
    let gateway = Gateway::open(|_| {}).await;
    for (offered, answered) in [
        ("jwt.YWRh", "jwt.YWRh"),
        ("jwt-auth.YWRh", "jwt-auth.YWRh"),
        ("chat, jwt.YWRh", "jwt.YWRh"),
        ("jwt-auth, jwt.YWRh", "jwt-auth"),
        ("jwt.YWRh, jwt-auth", "jwt-auth"),
        ("jwt-auth, bearer.YWRh", "jwt-auth"),
        ("jwt-auth, bearer.ada", "jwt-auth"),
    ] {
        let mut client = Client::connect(gateway.address).await;
        let head = client.ask(&request(&[&format!("Sec-WebSocket-Protocol: {offered}")])).await;
        assert!(head.contains(&format!("sec-websocket-protocol: {answered}\r\n")), "{offered}: {head}");
        let established = client.next().await;
        assert_eq!((&established["type"], &established["user_id"]), (&json!("connection_established"), &json!("ada")));
    }
}

/// The codec of a client without a subprotocol is the gateway's to name.
#[tokio::test]
async fn without_a_subprotocol_the_configured_codec_is_spoken() {
    for (codec, ready) in [(DefaultCodec::V1, "connection_ready"), (DefaultCodec::Legacy, "connection_established")] {
        let gateway = Gateway::open(|config| config.codec = codec).await;
        let mut client = Client::connect(gateway.address).await;
        let head = client.ask(&request(&["Authorization: Bearer ada"])).await.to_ascii_lowercase();
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
        assert_eq!(client.next().await["type"], ready);
        let mut client = Client::connect(gateway.address).await;
        client.ask(&request(&["Authorization: Bearer ada", "Sec-WebSocket-Protocol: lockstep.v1"])).await;
        assert_eq!(client.next().await["type"], "connection_ready");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_forbidden() {
    let gateway = Gateway::open(|config| config.origins = vec!["https://chat.test".to_owned()]).await;
    let mut others = Others::arrive(gateway.address).await;
    for origin in [
        "https://evil.test",
        "null",
        "",
        "https://chat.test.evil.test",
        "http://chat.test",
        "gateway.test",
        "ws://gateway.test",
    ] {
        let (status, head) = refused(&gateway, &request(&[&format!("Origin: {origin}")])).await;
        assert_eq!(status, 403, "{origin:?}: {head}");
    }
    let (status, head) = refused(&gateway, &request(&["Origin: https://chat.test", "Origin: https://evil.test"])).await;
    assert_eq!(status, 400, "{head}");
    for origin in ["https://chat.test", "http://gateway.test", "http://gateway.test:80"] {
        Client::upgraded(gateway.address, &[&format!("Origin: {origin}")]).await;
    }
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused() {
    let gateway = Gateway::open(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let (status, head) = refused(&gateway, &request(&[&format!("X-Long: {}", "x".repeat(17_000))])).await;
    assert_eq!(status, 431, "{head}");
    let many: Vec<String> = (0..200).map(|number| format!("X-{number}: x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(refused(&gateway, &request(&many)).await.0, 431);
    others.notice_nothing().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused_or_closed() {
    let gateway = Gateway::open(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"GET /ws HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n\0\0\0\0\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: gateway.test\r\nBad Name: x\r\n\r\n",
    ] {
        let mut client = Client::connect(gateway.address).await;
        client.send(bytes).await;
        let answer = String::from_utf8(client.rest().await).expect("text");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_handshake_that_trickles_in_is_cut_off() {
    let gateway = Gateway::open(|config| config.limits.header_ms = 300).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut slow = Client::connect(gateway.address).await;
    let mut silent = Client::connect(gateway.address).await;
    let mut bytes = request(&[]).into_bytes().into_iter();
    while !slow.ended_within(Duration::from_millis(20)).await {
        let byte = bytes.next().expect("the header's time is over before the header is");
        slow.send(&[byte]).await;
    }
    assert!(silent.ended_within(PATIENCE).await, "who says nothing at all is no better");
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let gateway = Gateway::open(|config| config.limits.request_ms = 300).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut slow = Client::connect(gateway.address).await;
    let head = slow.ask("POST /body HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 100\r\n\r\nhalf").await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(slow.ended_within(PATIENCE).await);
    others.notice_nothing().await;
}

#[tokio::test]
async fn an_unread_response_is_not_waited_for_but_events_are() {
    let change = |config: &mut Config| {
        (config.limits.request_ms, config.limits.per_address) = (1_000, 5);
        // The log is in memory, and has no more than the window.
        config.bounds.retained_bytes = 64 << 20;
    };
    let gateway = Gateway::open(change).await;
    let mut others = Others::arrive(gateway.address).await;
    // One tab does not read the answers that the other gets.
    let (mut asleep, mut awake) = (Client::narrow(gateway.address).await, gateway.live("ada").await);
    asleep.upgrade(&[]).await;
    asleep.authenticate("ada").await;
    let (text, messages) = ("x".repeat(50_000), 80);
    for number in 0..messages {
        awake.say(&message(&format!("m{number}"), &text)).await;
        awake.until("agent_completed").await;
    }
    let mut deaf = Client::narrow(gateway.address).await;
    let body = "x".repeat(60_000);
    let request = format!("POST /body HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 60000\r\n\r\n{body}");
    let most = 64 << 20;
    assert!(deaf.pour(request.as_bytes(), most, Duration::from_millis(300)).await < most, "the gateway takes it all");
    let mut next = once_admitted(&gateway).await;
    next.authenticate("bob").await;
    for _ in 0..messages {
        asleep.until("agent_completed").await;
    }
    asleep.is_live().await;
    others.notice_nothing().await;
    drop(deaf);
}

#[tokio::test]
async fn one_address_has_so_many_sockets_and_no_more() {
    let gateway = Gateway::open(|config| config.limits.per_address = 4).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut third = gateway.live("mallory").await;
    let fourth = Client::connect(gateway.address).await;
    let mut fifth = Client::connect(gateway.address).await;
    assert!(fifth.ended_within(PATIENCE).await);
    others.notice_nothing().await;
    drop(fourth);
    third.send(&frame(CLOSE, &1000_u16.to_be_bytes())).await;
    third.end().await;
    // A place is free once the gateway has noticed the close; an earlier attempt is refused like the fifth.
    once_admitted(&gateway).await;
    others.notice_nothing().await;
}
