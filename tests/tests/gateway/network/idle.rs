//! How long a connection may idle, how long a header may take, and what a drain does to idle connections.

use std::time::{Duration, Instant};

use super::{Listener, ask};
use crate::hostile::client::{Client, PATIENCE};

/// An idle connection that has had an answer, and since when it has been idle.
async fn waiting(listener: &Listener) -> (Client, Instant) {
    let mut client = Client::connect(listener.address).await;
    for _ in 0..2 {
        assert_eq!(ask(&mut client, "", "/", "").await.status(), 200);
    }
    (client, Instant::now())
}

#[tokio::test]
async fn a_connection_may_wait_longer_than_a_header_may_take() {
    let listener = Listener::open("[limits]\nheader_ms = 100\nidle_ms = 1500\n").await;
    let (mut client, since) = waiting(&listener).await;
    assert_eq!(client.rest().await, b"");
    assert!(since.elapsed() >= Duration::from_millis(1_400), "closed after {:?}", since.elapsed());
}

#[tokio::test]
async fn a_header_may_not_take_as_long_as_a_connection_may_wait() {
    let listener = Listener::open("[limits]\nheader_ms = 300\nidle_ms = 600000\n").await;
    let (mut client, since) = waiting(&listener).await;
    client.send(b"GET / HTTP/1.1\r\nHost: ").await;
    assert_eq!(client.rest().await, b"");
    assert!(since.elapsed() >= Duration::from_millis(250), "closed after {:?}", since.elapsed());
    // The first header: nothing, a part of it, and all but its end.
    for beginning in ["", "G", "GET / HTTP/1.1\r\nHost: gateway.test\r\n"] {
        let mut client = Client::connect(listener.address).await;
        client.send(beginning.as_bytes()).await;
        assert!(client.ended_within(PATIENCE).await, "{beginning:?}");
    }
}

/// Everything that arrives with the first bytes of a connection is processed: several requests, empty lines before
/// them, and a head that is too long, which is answered.
#[tokio::test]
async fn what_comes_with_the_first_bytes_is_heard() {
    let listener = Listener::open("").await;
    let mut client = Client::connect(listener.address).await;
    let request = "GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: b\r\n\r\n";
    client.send(format!("\r\n\r\n{request}").as_bytes()).await;
    for path in ["/first", "/second"] {
        client.answer().await;
        let body = client.bytes(format!("{path} 127.0.0.1 x").len()).await;
        assert!(String::from_utf8_lossy(&body).starts_with(path), "{body:?}");
    }
    let answer = listener.known("/", &format!("X: {}\r\n", "x".repeat(17_000))).await;
    assert_eq!(answer.status(), 431);
    let mut client = Client::connect(listener.address).await;
    client.send(b"no request\r\n\r\n").await;
    assert!(client.answer().await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_drain_ends_connections_that_wait_and_answers_those_that_ask() {
    let listener = Listener::open("[limits]\nidle_ms = 600000\n").await;
    let (mut client, _) = waiting(&listener).await;
    let mut silent = Client::connect(listener.address).await;
    silent.send(b"GET / HT").await;
    listener.manager.drain().await;
    assert_eq!(client.rest().await, b"");
    silent.send(b"TP/1.1\r\nHost: a\r\n\r\n").await;
    let head = silent.answer().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ") && head.contains("connection: close"), "{head}");
    let answer = listener.known("/", "").await;
    assert!(answer.status() == 200 && answer.head.contains("connection: close\r\n"), "{}", answer.head);
}
