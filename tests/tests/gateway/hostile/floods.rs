//! Peers that send endlessly, or never read.

use std::time::Duration;

use lockstep::BoxFuture;
use lockstep::agent::{Message, Run};
use serde_json::json;

use super::client::*;
use super::*;

/// Events of one run of [`Torrent`], and the bytes of each: in all more than two socket buffers hold.
const EVENTS: usize = 300;
const EVENT: usize = 64 * 1024;

/// Emits large thoughts on demand, and echoes other messages.
struct Torrent;

impl Agent for Torrent {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let text = message.text().unwrap_or_default();
            let thought = "x".repeat(EVENT);
            for _ in 0..if text == "pour" { EVENTS } else { 0 } {
                run.thinking(&thought).await.expect("room");
            }
            let _ = run.complete(json!({ "text": text })).await;
        })
    }
}

async fn gateway(change: impl FnOnce(&mut Config)) -> Gateway {
    Gateway::of(Parts { agent: Arc::new(Torrent), ..Parts::default() }, change).await
}

/// A live client with a small receive buffer.
async fn narrow(gateway: &Gateway) -> Client {
    let mut client = Client::narrow(gateway.address).await;
    client.upgrade(&[]).await;
    client.authenticate("mallory").await;
    client
}

#[tokio::test]
async fn a_slow_reader_lags_is_told_its_gap_and_delays_no_other_client() {
    let gateway = gateway(|config| config.bounds.retained = 16).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut slow = narrow(&gateway).await;
    let mut fast = gateway.live("mallory").await;
    fast.say(&message("m", "pour")).await;
    let all = fast.until("agent_completed").await;
    assert_eq!(all.len(), EVENTS + 3, "who reads misses nothing");
    others.notice_nothing().await;
    // The gateway holds a batch for it, and the end of the stream; the rest is in the sockets or was dropped.
    let before = slow.until("stream_reset").await;
    let (reset, before) = before.split_last().expect("a reset");
    let mut after = 0;
    for event in before {
        assert_eq!(event["previous"], after);
        after = event["offset"].as_u64().expect("an offset");
    }
    assert_eq!(reset["from"], after);
    let rest = slow.until("agent_completed").await;
    assert_eq!(rest[0]["previous"], reset["to"]);
    assert!(rest.len() <= 32 + 16, "{} events behind the gap", rest.len());
    slow.exchange("m2").await;
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_by_the_heartbeat_and_frees_its_place() {
    let gateway = gateway(|config| {
        (config.bounds.retained, config.bounds.requests) = (16, 0);
        (config.bounds.heartbeat_ms, config.bounds.idle_ms) = (1_500, 3_000);
    })
    .await;
    // They must not be sent the torrent, or they would be as slow as the slow one.
    let mut others = Others::with(gateway.address, "bob", "carol").await;
    let mut slow = narrow(&gateway).await;
    slow.say(&message("m", "pour")).await;
    while gateway.manager.health().connections > 2 {
        others.notice_nothing().await;
    }
    assert!(slow.ended_within(PATIENCE).await);
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_client_that_pings_without_reading_is_closed_with_4005_and_buffers_within_bounds() {
    let gateway = gateway(|config| config.bounds.close_ms = 30_000).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut mallory = narrow(&gateway).await;
    let pings = frame(PING, &[b'x'; 125]).repeat(1_000);
    mallory.pour(&pings, 24 * 1024 * 1024, PATIENCE).await;
    others.notice_nothing().await;
    assert_eq!(mallory.end().await, 4005);
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_client_that_sends_requests_without_reading_is_closed_with_4005() {
    let gateway = gateway(|config| {
        config.bounds.requests = 0;
        config.bounds.close_ms = 30_000;
    })
    .await;
    let mut others = Others::arrive(gateway.address).await;
    let mut mallory = narrow(&gateway).await;
    let pings = frame(TEXT, br#"{"type":"ping"}"#).repeat(1_000);
    mallory.pour(&pings, 8 * 1024 * 1024, PATIENCE).await;
    others.notice_nothing().await;
    assert_eq!(mallory.end().await, 4005);
    others.notice_nothing().await;
}

#[tokio::test]
async fn a_flood_of_pings_whose_answers_are_read_delays_no_other_client() {
    let gateway = gateway(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut mallory = gateway.live("mallory").await;
    let pings = [frame(PING, b"a").repeat(400), frame(PONG, b"unasked").repeat(400)].concat();
    for _ in 0..25 {
        mallory.send(&pings).await;
        mallory.is_live().await;
    }
    others.notice_nothing().await;
    mallory.send(&frame(PING, b"last")).await;
    while mallory.hear().await != Heard::Pong(b"last".to_vec()) {}
}

#[tokio::test]
async fn an_endless_message_buffers_no_more_than_the_limit() {
    let gateway = gateway(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut mallory = gateway.live("mallory").await;
    mallory.send(&frame(BEGIN, b"{")).await;
    let more = frame(MORE, b"").repeat(10_000);
    mallory.pour(&more, 4 * 1024 * 1024, Duration::from_secs(60)).await;
    others.notice_nothing().await;
    mallory.send(&frame(LAST, b"{")).await;
    let told = mallory.until("error").await;
    assert_eq!(told.last().expect("an error")["code"], "malformed", "it was one message");
}
