//! Limits that one user reaches, and limits that all users reach together.

use serde_json::json;

use super::client::*;
use super::*;

#[tokio::test]
async fn too_many_frames_before_ready_are_closed_with_4507() {
    let gateway = Gateway::open(|config| config.bounds.early = 4).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut mallory = Client::upgraded(gateway.address, &[]).await;
    for _ in 0..5 {
        mallory.say(&json!({ "type": "ping" })).await;
    }
    assert_eq!(mallory.end().await, 4507);
    others.notice_nothing().await;
}

#[tokio::test]
async fn what_came_before_ready_is_handled_in_order() {
    let gateway = Gateway::open(|_| {}).await;
    let mut ada = Client::upgraded(gateway.address, &[]).await;
    ada.say(&json!({ "type": "ping" })).await;
    ada.say(&message("m", "early")).await;
    ada.say(&json!({ "type": "auth", "token": "ada" })).await;
    // Before the credential this would have closed the connection.
    ada.say(&json!({ "type": "nonsense" })).await;
    assert_eq!(ada.next().await["type"], "connection_ready");
    assert_eq!(ada.next().await["type"], "pong");
    let (mut refused, mut answered) = (false, false);
    while !(refused && answered) {
        let seen = ada.next().await;
        refused |= seen["type"] == "error" && seen["code"] == "unknown_type";
        answered |= seen["type"] == "agent_completed" && seen["data"]["text"] == "early";
    }
}

#[tokio::test]
async fn too_many_requests_are_closed_with_4508() {
    let gateway = Gateway::open(|config| config.bounds.requests = 10).await;
    let mut others = Others::arrive(gateway.address).await;
    for bad in [json!({ "type": "ping" }), json!({ "type": "nonsense" }), message("the same", "again")] {
        let mut mallory = gateway.live("mallory").await;
        for _ in 0..11 {
            mallory.say(&bad).await;
        }
        assert_eq!(mallory.end().await, 4508, "{bad}");
    }
    others.notice_nothing().await;
}

#[tokio::test]
async fn too_many_connections_of_a_user_are_closed_with_4505() {
    let gateway = Gateway::open(|config| config.bounds.connections = 3).await;
    let mut others = Others::arrive(gateway.address).await;
    let (mut second, mut third) = (gateway.live("mallory").await, gateway.live("mallory").await);
    let mut fourth = Client::upgraded(gateway.address, &["Authorization: Bearer mallory"]).await;
    assert_eq!(fourth.end().await, 4505);
    others.notice_nothing().await;
    second.is_live().await;
    third.send(&frame(CLOSE, &1000_u16.to_be_bytes())).await;
    assert_eq!(third.end().await, 1000);
    gateway.live("mallory").await;
}

#[tokio::test]
async fn a_full_node_closes_with_4004_until_there_is_room() {
    let gateway = Gateway::open(|config| (config.bounds.node_connections, config.bounds.requests) = (3, 0)).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut third = gateway.live("ada").await;
    for _ in 0..3 {
        let mut fourth = Client::upgraded(gateway.address, &["Authorization: Bearer eve"]).await;
        assert_eq!(fourth.end().await, 4004);
    }
    others.notice_nothing().await;
    third.send(&frame(CLOSE, &1000_u16.to_be_bytes())).await;
    assert_eq!(third.end().await, 1000);
    // The node counts it until its task has ended.
    while gateway.manager.health().connections > 2 {
        others.notice_nothing().await;
    }
    gateway.live("eve").await;
}

#[tokio::test]
async fn a_node_in_emergency_closes_with_4004_and_existing_connections_go_on() {
    let gateway = Gateway::open(|_| {}).await;
    let mut ada = gateway.live("ada").await;
    gateway.manager.pin(Some(lockstep_model::Mode::Emergency));
    assert_eq!(ada.until("mode").await.last().expect("a mode")["mode"], "emergency");
    let mut late = Client::upgraded(gateway.address, &["Authorization: Bearer ada"]).await;
    assert_eq!(late.end().await, 4004);
    ada.say(&message("m", "hello")).await;
    assert_eq!(ada.error().await, "degraded");
    gateway.manager.pin(None);
    // The node recovers step by step.
    while ada.until("mode").await.last().expect("a mode")["mode"] != "ready" {}
    ada.exchange("m").await;
}

#[tokio::test]
async fn a_client_that_half_closes_or_vanishes_is_closed_and_no_other_is() {
    let gateway = Gateway::open(|config| config.bounds.requests = 0).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut half = gateway.live("mallory").await;
    half.say(&message("m", "and gone")).await;
    half.half_close().await;
    assert!(half.ended_within(PATIENCE).await);
    drop(gateway.live("mallory").await);
    let mut middle = gateway.live("mallory").await;
    middle.send(&head(TEXT, 1_000)).await;
    drop(middle);
    while gateway.manager.health().connections > 2 {
        others.notice_nothing().await;
    }
    others.notice_nothing().await;
}
