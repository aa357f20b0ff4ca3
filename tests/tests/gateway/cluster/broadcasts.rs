//! Notices to everyone: each user who has a session anywhere in the cluster gets one once.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep::log::{Acquired, Log, Written};
use lockstep::manager::NotSent;
use lockstep::payload::Record;
use lockstep::testing::log::written;
use lockstep::testing::{SharedLog, TestClient};
use lockstep_model::member::LeaseTimes;
use lockstep_model::run::Kind;
use lockstep_model::{Incarnation, Offset, RunId, UserId};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{KEY, Node, Says, node, two};

/// A lease that ends during a test.
const SHORT: LeaseTimes = LeaseTimes { lease: Duration::from_millis(600), margin: Duration::from_millis(60) };

/// Longer than a test.
const LONG: Duration = Duration::from_secs(600);

/// A user's connection, once this process serves it.
async fn served(node: &Node, user: &str, resume: &Value) -> (TestClient, Value) {
    loop {
        let mut peer = TestClient::connect(&node.manager);
        peer.say(&json!({ "type": "auth", "token": user, "resume": resume }).to_string());
        let answer = peer.next().await;
        if answer["type"] == "connection_ready" {
            return (peer, answer);
        }
        assert!([4000, 4006].map(|code| json!(code)).contains(&answer["code"]), "{answer}");
    }
}

async fn next_notice(peer: &mut TestClient) -> Value {
    peer.until("notice").await.pop().expect("a notice")
}

#[tokio::test]
async fn a_notice_to_everyone_reaches_each_user_of_each_process_once() {
    let cluster = two().await;
    let mut peers = Vec::new();
    for (user, first) in [("ada", &cluster.a), ("bob", &cluster.a), ("eve", &cluster.b)] {
        let other = if first.manager.health() == cluster.a.manager.health() { &cluster.b } else { &cluster.a };
        for node in [first, other] {
            peers.push((user, served(node, user, &json!("latest")).await.0));
        }
    }
    let absent = cluster.log.user("zoe").await.expect("a number");
    let id = RunId(0xF00D);
    let told = cluster.b.manager.broadcast_as(id, &json!({ "text": "back at noon" })).await.expect("sent");
    assert_eq!((told.sent, told.failed), (3, 0));
    // The same again sends nothing, at any process. Another one is another.
    let again = cluster.a.manager.broadcast_as(id, &json!({ "text": "back at one" })).await.expect("known");
    assert_eq!(again, told);
    let other = cluster.a.manager.broadcast(&json!({ "text": "back" })).await.expect("sent");
    assert_eq!((other.sent, other.failed), (3, 0));
    for (_, peer) in &mut peers {
        let first = next_notice(peer).await;
        assert_eq!((&first["data"]["text"], &first["offset"]), (&json!("back at noon"), &json!(1)), "{first}");
        let second = next_notice(peer).await;
        assert_eq!((&second["data"]["text"], &second["offset"]), (&json!("back"), &json!(2)), "{second}");
    }
    for user in ["ada", "bob", "eve"] {
        let sent = cluster.a.manager.user(user).send(&json!({ "text": "the last" })).await;
        sent.expect("sent");
    }
    for (_, peer) in &mut peers {
        let last = next_notice(peer).await;
        assert_eq!((&last["data"]["text"], &last["offset"]), (&json!("the last"), &json!(3)), "{last}");
    }
    assert_eq!(cluster.log.owner(absent), None, "who has no session gets none");
}

#[tokio::test]
async fn a_notice_to_everyone_has_an_id_only_in_a_cluster() {
    let manager = lockstep::Manager::builder().verifier(lockstep::testing::AnyToken).agent(Says("".into())).build();
    let sent = manager.expect("a manager").broadcast_as(RunId(1), &json!({})).await;
    assert_eq!(sent, Err(NotSent::NotShared));
}

#[tokio::test]
async fn the_users_of_a_process_that_has_died_get_it_although_they_do_not_come_back() {
    let log = SharedLog::new();
    let b = node(log.clone(), Says("".into()), KEY, SHORT).await;
    // The owner delivers nothing, and does not leave when it ends.
    let (dead, user) = (Incarnation(7), log.user("ada").await.expect("a number"));
    let members = log.members().expect("members");
    members.renew(dead, "dead:1", LONG).await.expect("a lease");
    log.acquire(user, dead).await.expect("an owner");
    let data = json!({ "text": "everyone" });
    let sent = b.manager.broadcast_as(RunId(0xBEEF), &data);
    let dies = async {
        while members.progress(RunId(0xBEEF)).await.is_err() {
            tokio::task::yield_now().await;
        }
        log.expire(dead);
    };
    let (told, ()) = tokio::join!(sent, dies);
    assert_eq!(told.map(|told| (told.sent, told.failed)), Ok((1, 0)));
    let (mut ada, ready) = served(&b, "ada", &json!("earliest")).await;
    assert_eq!(ready["head"], 1, "{ready}");
    assert_eq!(next_notice(&mut ada).await["data"], data);
}

#[tokio::test]
async fn a_call_does_not_wait_for_ever_for_an_owner_that_does_not_deliver() {
    let log = SharedLog::new();
    let b = node(log.clone(), Says("".into()), KEY, SHORT).await;
    let (silent, user) = (Incarnation(7), log.user("ada").await.expect("a number"));
    let members = log.members().expect("members");
    members.renew(silent, "silent:1", LONG).await.expect("a lease");
    log.acquire(user, silent).await.expect("an owner");
    let told = b.manager.broadcast_as(RunId(0xBEEF), &json!({})).await;
    assert_eq!(told.map(|told| (told.sent, told.failed)), Ok((0, 1)), "it is due, and the caller is told");
}

/// An owner that is cut off delivers, and its user moves, between the time at which another process is told what is due
/// and the arrival of that answer.
#[tokio::test]
async fn what_was_due_before_a_user_was_acquired_is_not_delivered() {
    let log = SharedLog::new();
    let b = node(log.clone(), Says("".into()), KEY, LeaseTimes::DEFAULT).await;
    let (stale, user) = (Incarnation(7), log.user("ada").await.expect("a number"));
    let members = log.members().expect("members");
    members.renew(stale, "stale:1", LONG).await.expect("a lease");
    let Ok(Acquired::Owner(tenure)) = log.acquire(user, stale).await else { panic!("not the owner") };
    let data = to_raw_value(&json!({ "text": "everyone" })).expect("an object is JSON");
    members.broadcast(RunId(0xBEE0), &data).await.expect("stored");
    let run = members.due(stale, 1).await.expect("what is due")[0].run;
    log.delay(Duration::from_secs(1));
    log.expire(stale);
    // Within half a second the process asks what is due, and the answer is a second late.
    let mut later = tokio::time::interval_at(Instant::now() + Duration::from_millis(600), LONG);
    later.tick().await;
    drop(log.append(
        user,
        tenure,
        Offset(0),
        vec![Written { record: Arc::new(Record::new(None, data)), ..written(run.0, Kind::Notice, "") }],
    ));
    let (_ada, ready) = served(&b, "ada", &json!("latest")).await;
    assert_eq!(ready["head"], 1, "the owner delivered it: {ready}");
    log.delay(Duration::ZERO);
    b.manager.broadcast(&json!({})).await.expect("sent");
    assert_eq!(notices(&log, user).await.get("{\"text\":\"everyone\"}"), Some(&1));
}

/// How often a stream has each notice.
async fn notices(log: &SharedLog, user: UserId) -> BTreeMap<String, usize> {
    let conversations = log.conversations().expect("conversations");
    let page = conversations.page(user, Offset(0), Offset(100_000), usize::MAX).await.expect("a page");
    let mut notices = BTreeMap::new();
    for (_, entry) in page.entries.iter().filter(|(_, entry)| entry.kind == Kind::Notice) {
        *notices.entry(entry.record.data.get().to_owned()).or_insert(0) += 1;
    }
    notices
}

/// Ends the lease of one process after the other, so that users move all the time.
async fn unrest(log: &SharedLog, goes_on: &AtomicBool) {
    let mut pause = tokio::time::interval(Duration::from_millis(40));
    let mut last = Incarnation(0);
    while goes_on.load(Ordering::Relaxed) {
        pause.tick().await;
        let members = log.members().expect("members").list().await.expect("a list");
        let next = members.iter().find(|member| member.incarnation > last).or(members.first());
        if let Some(next) = next {
            last = next.incarnation;
            log.expire(last);
        }
    }
}

#[tokio::test]
async fn each_stream_has_each_notice_once_while_processes_lose_their_users() {
    let log = SharedLog::new();
    log.delay(Duration::from_millis(25));
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(log.clone(), Says("".into()), KEY, SHORT).await);
    }
    let mut users = Vec::new();
    for number in 0..24 {
        let name = format!("user {number}");
        nodes[number % 3].manager.user(&name).send(&json!({ "text": "welcome" })).await.expect("sent");
        users.push(log.user(&name).await.expect("a number"));
    }
    let goes_on = Arc::new(AtomicBool::new(true));
    let moving = tokio::spawn({
        let (log, goes_on) = (log.clone(), Arc::clone(&goes_on));
        async move { unrest(&log, &goes_on).await }
    });
    let ids: Vec<RunId> = (1..=12).map(|number| RunId(0xA000 + number)).collect();
    for (turn, id) in ids.iter().enumerate() {
        // Repeated at another process.
        let data = json!({ "number": turn });
        let sent = [turn, turn + 1].map(|at| nodes[at % 3].manager.broadcast_as(*id, &data));
        for told in futures_util::future::join_all(sent).await {
            told.expect("stored");
        }
    }
    goes_on.store(false, Ordering::Relaxed);
    moving.await.expect("an end");
    let members = log.members().expect("members");
    let mut wanted = 0;
    for id in &ids {
        let progress = timeout(Duration::from_secs(30), async {
            loop {
                let progress = members.progress(*id).await.expect("how far it is");
                if progress.due == 0 {
                    return progress;
                }
                tokio::task::yield_now().await;
            }
        });
        wanted += progress.await.expect("all get it").users;
    }
    assert!(wanted > 0, "users had sessions");
    let mut found = 0;
    for user in users {
        for (notice, times) in notices(&log, user).await {
            assert_eq!(times, 1, "{user:?} has {notice} {times} times");
            found += u64::from(notice.contains("number"));
        }
    }
    assert_eq!(found, wanted, "each user who had a session has the notice");
}
