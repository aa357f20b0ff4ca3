//! What an operator sees and closes, wherever the user's session is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep::log::{Log, Members};
use lockstep::manager::NotAnswered;
use lockstep::testing::SharedLog;
use lockstep_model::member::LeaseTimes;
use lockstep_model::{Cause, ConnectionId, Incarnation};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{KEY, Says, ada, node, two};

/// Longer than a test.
const LONG: Duration = Duration::from_secs(600);

fn ids(state: &Value) -> Vec<ConnectionId> {
    let id = |of: &Value| u64::from_str_radix(of["id"].as_str().expect("an id"), 16).expect("hex digits");
    state["connections"].as_array().expect("a list").iter().map(|of| ConnectionId(id(of))).collect()
}

#[tokio::test]
async fn a_user_s_session_is_seen_from_any_process() {
    let cluster = two().await;
    let (_first, _) = ada(&cluster.a, json!("latest")).await;
    let (_second, _) = ada(&cluster.b, json!("latest")).await;
    let here = cluster.a.manager.user("ada").describe().await.expect("an answer").expect("a session");
    let there = cluster.b.manager.user("ada").describe().await.expect("an answer").expect("a session");
    assert_eq!(here, there);
    assert_eq!(ids(&here).len(), 2, "the relayed connection is one of them: {here}");
    assert_eq!(cluster.b.manager.user("bob").describe().await, Ok(None));
    assert_eq!(cluster.b.manager.health().sessions, 0, "looking opens no session");
}

#[tokio::test]
async fn the_sessions_of_all_processes_are_listed_with_the_process_of_each() {
    let cluster = two().await;
    let (_first, _) = ada(&cluster.a, json!("latest")).await;
    cluster.b.manager.user("bob").send(&json!({})).await.expect("sent");
    let (mut lines, missing) = cluster.b.manager.describe_sessions().await.expect("an answer");
    assert_eq!(missing, []);
    lines.sort_by_key(|line| line["subject"].to_string());
    let subjects: Vec<&Value> = lines.iter().map(|line| &line["subject"]).collect();
    assert_eq!(subjects, [&json!("ada"), &json!("bob")]);
    assert_ne!(lines[0]["gateway"], lines[1]["gateway"]);
    assert_eq!(lines[0]["connections"], 1);
}

#[tokio::test]
async fn one_connection_is_closed_from_any_process_and_no_other() {
    let cluster = two().await;
    let (mut first, _) = ada(&cluster.a, json!("latest")).await;
    let known = ids(&cluster.a.manager.user("ada").describe().await.expect("an answer").expect("a session"));
    let (mut second, _) = ada(&cluster.b, json!("latest")).await;
    let at_b = cluster.b.manager.user("ada");
    let all = ids(&at_b.describe().await.expect("an answer").expect("a session"));
    let relayed = *all.iter().find(|id| !known.contains(id)).expect("the second");
    cluster.b.manager.user("bob").send(&json!({})).await.expect("sent");
    let of_bob = cluster.a.manager.user("bob").close(relayed, Cause::GoingAway).await;
    assert_eq!(of_bob, Ok(false), "it is not bob's");
    assert_eq!(at_b.close(ConnectionId(1), Cause::GoingAway).await, Ok(false));
    // The relayed one is closed at its client, with the code of the operator.
    assert_eq!(at_b.close(relayed, Cause::Superseded).await, Ok(true));
    assert_eq!(second.until("close").await.last().expect("a close")["code"], 4506);
    assert_eq!(at_b.close(known[0], Cause::GoingAway).await, Ok(true));
    assert_eq!(first.until("close").await.last().expect("a close")["code"], 4000);
}

/// Ada's owner is a member at this address.
async fn owned_by(log: &SharedLog, address: &str) {
    let (owner, user) = (Incarnation(7), log.user("ada").await.expect("a number"));
    log.renew(owner, address, LONG).await.expect("a lease");
    log.acquire(user, owner).await.expect("an owner");
}

#[tokio::test]
async fn an_owner_that_does_not_answer_is_named_within_a_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let log = SharedLog::new();
    let b = node(log.clone(), Says("".into()), KEY, LeaseTimes::DEFAULT).await;
    owned_by(&log, &address).await;
    let began = Instant::now();
    let named = NotAnswered::Member { address: Arc::from(address.as_str()), why: "timed out".to_owned() };
    assert_eq!(b.manager.user("ada").describe().await, Err(named.clone()));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let (lines, missing) = b.manager.describe_sessions().await.expect("an answer");
    assert_eq!((lines, missing), (vec![], vec![named]), "the rest is listed all the same");
    drop(silent);
    match b.manager.user("ada").close(ConnectionId(1), Cause::GoingAway).await {
        Err(error @ NotAnswered::Member { .. }) => assert!(error.to_string().contains(&address), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_member_with_another_key_answers_nothing() {
    let log = SharedLog::new();
    let a = node(log.clone(), Says("".into()), KEY, LeaseTimes::DEFAULT).await;
    let b = node(log, Says("".into()), b"another key, which the owner does not know", LeaseTimes::DEFAULT).await;
    let (_first, _) = ada(&a, json!("latest")).await;
    let Err(error) = b.manager.user("ada").describe().await else { panic!("it is answered") };
    assert!(error.to_string().contains("403"), "{error}");
}
