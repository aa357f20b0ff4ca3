//! Several processes that share a log: each user has one owner, and a connection that lands elsewhere is relayed there.

mod broadcasts;
mod logins;
mod operator;
mod processes;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lockstep::BoxFuture;
use lockstep::Manager;
use lockstep::agent::{Agent, Message, Run};
use lockstep::cluster::Cluster;
use lockstep::log::Log;
use lockstep::manager::Opening;
use lockstep::payload::Token;
use lockstep::testing::{AnyToken, SharedLog, TestClient};
use lockstep::wire::Codec;
use lockstep_model::member::LeaseTimes;
use lockstep_model::{Bounds, Incarnation};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::notices::Lines;

const KEY: &[u8] = b"a key that all members of this cluster share";

/// Says a word for each permit, and ends with the fourth.
#[derive(Clone)]
struct Paced(Arc<Semaphore>);

impl Agent for Paced {
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        let permits = Arc::clone(&self.0);
        Box::pin(async move {
            for word in ["one", "two", "three"] {
                permits.acquire().await.expect("open").forget();
                if run.thinking(word).await.is_err() {
                    return;
                }
            }
            permits.acquire().await.expect("open").forget();
            let _ = run.complete(json!({ "text": "one two three" })).await;
        })
    }
}

/// Answers with a text.
#[derive(Clone)]
struct Says(Arc<str>);

impl Agent for Says {
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        let text = Arc::clone(&self.0);
        Box::pin(async move {
            let _ = run.complete(json!({ "text": &*text })).await;
        })
    }
}

/// One member of a cluster.
pub(crate) struct Node {
    pub(crate) manager: Manager,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Starts a member that others reach on a port of its own.
pub(crate) async fn node(log: impl Log, agent: impl Agent, key: &[u8], limits: LeaseTimes) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let cluster = Cluster::new(&address, key).expect("a key").lease(limits);
    let bounds = Bounds { restore: Duration::from_millis(20), ..Bounds::DEFAULT };
    let manager = Manager::builder().verifier(AnyToken).agent(agent).log(log).bounds(bounds).cluster(cluster);
    let manager = manager.build().expect("a manager");
    let members = manager.clone();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let members = members.clone();
            let service = service_fn(move |request| {
                let members = members.clone();
                async move { Ok::<_, Infallible>(members.serve_member(request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
        }
    });
    Node { manager, serving }
}

struct Two {
    log: SharedLog,
    words: Arc<Semaphore>,
    a: Node,
    b: Node,
}

async fn two() -> Two {
    let (log, words) = (SharedLog::new(), Arc::new(Semaphore::new(0)));
    let agent = Paced(Arc::clone(&words));
    let a = node(log.clone(), agent.clone(), KEY, LeaseTimes::DEFAULT).await;
    let b = node(log.clone(), agent, KEY, LeaseTimes::DEFAULT).await;
    Two { log, words, a, b }
}

impl Two {
    async fn owner(&self) -> Option<Incarnation> {
        let user = self.log.user("ada").await.expect("a number");
        self.log.owner(user)
    }
}

async fn ada(node: &Node, resume: Value) -> (TestClient, Value) {
    let mut peer = TestClient::connect(&node.manager);
    peer.say(&json!({ "type": "auth", "token": "ada", "resume": resume }).to_string());
    let ready = peer.next().await;
    (peer, ready)
}

/// Ada's connection, which comes back as long as it is told to.
async fn served(node: &Node, resume: &Value) -> (TestClient, Value) {
    loop {
        let (peer, answer) = ada(node, resume.clone()).await;
        if answer["type"] == "connection_ready" {
            return (peer, answer);
        }
        assert!([4000, 4006].map(|code| json!(code)).contains(&answer["code"]), "{answer}");
    }
}

fn asks(peer: &TestClient, id: &str) {
    peer.say(&json!({ "type": "user_message", "message_id": id, "payload": { "text": "count" } }).to_string());
}

#[tokio::test]
async fn two_tabs_on_two_processes_see_one_answer() {
    let cluster = two().await;
    let (mut first, ready) = ada(&cluster.a, json!("latest")).await;
    assert_eq!(ready["type"], "connection_ready", "{ready}");
    asks(&first, "m1");
    assert_eq!(first.next().await["type"], "message_received");
    cluster.words.add_permits(1);
    let mut seen = first.until("agent_thinking").await;
    let owner = cluster.owner().await;

    // The second tab lands on the other process, in the middle of the answer.
    let (mut second, ready) = ada(&cluster.b, json!("earliest")).await;
    assert_eq!(ready["type"], "connection_ready", "{ready}");
    assert_eq!(cluster.owner().await, owner, "the user stays where its answer is made");
    assert_eq!(cluster.b.manager.health().connections, 1);
    cluster.words.add_permits(3);
    seen.extend(first.until("agent_completed").await);
    let mut other = second.until("agent_completed").await;
    assert_eq!(other.remove(0)["type"], "message_received");
    assert_eq!(other, seen, "both tabs see the same events with the same offsets");

    // What the second tab says is answered in both.
    asks(&second, "m2");
    cluster.words.add_permits(4);
    let said = second.until("agent_completed").await;
    assert_eq!(first.until("agent_completed").await, said);
    assert_eq!(said.iter().filter(|event| event["type"] == "agent_thinking").count(), 3);
}

#[tokio::test]
async fn a_client_that_comes_back_elsewhere_reads_on_where_it_was() {
    let cluster = two().await;
    let (mut first, ready) = ada(&cluster.a, json!("latest")).await;
    asks(&first, "m1");
    cluster.words.add_permits(1);
    let seen = first.until("agent_thinking").await;
    first.cut();
    let place = json!({ "epoch": ready["epoch"], "offset": seen.last().expect("an event")["offset"] });
    let (mut second, again) = ada(&cluster.b, place).await;
    assert_eq!((&again["type"], &again["resumed"]), (&json!("connection_ready"), &json!(true)), "{again}");
    cluster.words.add_permits(3);
    let rest = second.until("agent_completed").await;
    assert_eq!(rest[0]["previous"], seen.last().expect("an event")["offset"], "nothing is lost or repeated");
}

#[tokio::test]
async fn what_was_sent_before_the_owner_was_known_arrives_once_and_in_order() {
    let cluster = two().await;
    let (mut first, _) = ada(&cluster.a, json!("latest")).await;
    let mut second = TestClient::connect(&cluster.b.manager);
    second.say(&json!({ "type": "auth", "token": "ada", "resume": "latest" }).to_string());
    for id in ["m1", "m2", "m3"] {
        asks(&second, id);
    }
    cluster.words.add_permits(12);
    for _ in 0..3 {
        first.until("agent_completed").await;
    }
    let mut received = Vec::new();
    while received.len() < 3 {
        let event = second.next().await;
        if event["type"] == "message_received" {
            received.push(event["data"]["message_id"].clone());
        }
    }
    assert_eq!(received, [json!("m1"), json!("m2"), json!("m3")]);
}

#[tokio::test]
async fn an_owner_without_a_lease_ends_its_sessions_and_the_next_one_serves() {
    let cluster = two().await;
    let (mut first, _) = ada(&cluster.a, json!("latest")).await;
    asks(&first, "m1");
    cluster.words.add_permits(1);
    let seen = first.until("agent_thinking").await;
    let owner = cluster.owner().await.expect("an owner");
    cluster.log.expire(owner);
    // The other process takes over, and the answer in progress has ended.
    let (mut second, ready) = ada(&cluster.b, json!("earliest")).await;
    assert_eq!(ready["type"], "connection_ready", "{ready}");
    let all = second.until("agent_error").await;
    assert_eq!(all[..seen.len()], seen[..], "what was shown is in the successor's stream");
    assert_ne!(cluster.owner().await, Some(owner));
    // The earlier owner learns it with its next write, or from its lease.
    cluster.words.add_permits(8);
    let last = first.until("close").await;
    assert_eq!(last.last().expect("a close")["code"], 4006, "{last:?}");
    assert!(last.iter().all(|event| event["type"] != "agent_completed"), "a stale owner shows nothing new");
}

#[tokio::test]
async fn a_client_that_has_seen_more_than_a_stale_owner_is_not_told_that_it_is_gone() {
    let cluster = two().await;
    let (mut first, ready) = ada(&cluster.a, json!("latest")).await;
    let owner = cluster.owner().await.expect("an owner");
    cluster.log.expire(owner);
    let (mut second, _) = ada(&cluster.b, json!("latest")).await;
    asks(&second, "m1");
    cluster.words.add_permits(4);
    let seen = second.until("agent_completed").await;
    second.cut();
    // The stale owner is silent and has not noticed. A client names what it has seen elsewhere.
    let place = json!({ "epoch": ready["epoch"], "offset": seen.last().expect("an event")["offset"] });
    let (_, answer) = ada(&cluster.a, place.clone()).await;
    assert_eq!((&answer["type"], &answer["code"]), (&json!("close"), &json!(4006)), "OWN-3: {answer}");
    assert_eq!(first.until("close").await.last().expect("a close")["code"], 4006);
    // Its process joins again, and relays.
    let (_, answer) = served(&cluster.a, &place).await;
    assert_eq!((&answer["type"], &answer["resumed"]), (&json!("connection_ready"), &json!(true)), "{answer}");
}

#[tokio::test]
async fn a_user_is_served_elsewhere_as_soon_as_its_process_has_drained() {
    let cluster = two().await;
    let (mut first, _) = ada(&cluster.a, json!("latest")).await;
    let drained = tokio::spawn({
        let manager = cluster.a.manager.clone();
        async move { manager.drain().await }
    });
    let end = first.until("going_away").await;
    assert_eq!(end.last().expect("a frame")["type"], "going_away");
    drop(first);
    let began = std::time::Instant::now();
    served(&cluster.b, &json!("latest")).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drained.await.expect("drained");
    assert_eq!(cluster.log.members().expect("members").list().await.expect("a list").len(), 1, "it has departed");
}

#[tokio::test]
async fn an_owner_that_cannot_be_reached_is_told_as_come_back() {
    let log = SharedLog::new();
    let agent = Paced(Arc::new(Semaphore::new(0)));
    let a = node(log.clone(), agent.clone(), KEY, LeaseTimes::DEFAULT).await;
    // Its key is another one, so the owner refuses it.
    let b = node(log.clone(), agent, b"another key, which the owner does not know", LeaseTimes::DEFAULT).await;
    let (_first, ready) = ada(&a, json!("latest")).await;
    assert_eq!(ready["type"], "connection_ready");
    let (_, answer) = ada(&b, json!("latest")).await;
    assert_eq!((&answer["type"], &answer["code"]), (&json!("close"), &json!(4006)), "{answer}");
}

#[tokio::test]
async fn a_notice_or_a_deletion_reaches_the_owner_wherever_it_is_asked_for() {
    let cluster = two().await;
    let (mut first, _) = ada(&cluster.a, json!("latest")).await;
    let owner = cluster.owner().await;
    let ada_at_b = cluster.b.manager.user("ada");
    ada_at_b.send(&json!({ "text": "from the other process" })).await.expect("sent");
    let notice = first.until("notice").await;
    assert_eq!(notice.last().expect("a notice")["data"]["text"], "from the other process");
    ada_at_b.send_to_thread("t", &json!({ "n": 2 })).await.expect("sent");
    assert_eq!(first.until("notice").await.last().expect("a notice")["thread_id"], "t");
    ada_at_b.delete_thread(Some("t")).await.expect("deleted");
    assert_eq!(first.until("thread_deleted").await.last().expect("an event")["thread_id"], "t");
    assert_eq!((cluster.owner().await, cluster.b.manager.health().sessions), (owner, 0), "the user has not moved");
}

#[tokio::test]
async fn an_answer_that_is_longer_than_any_message_of_a_client_is_relayed() {
    let log = SharedLog::new();
    let long = "0123456789".repeat(20_000);
    let agent = Says(Arc::from(long.as_str()));
    let a = node(log.clone(), agent.clone(), KEY, LeaseTimes::DEFAULT).await;
    let b = node(log.clone(), agent, KEY, LeaseTimes::DEFAULT).await;
    let (_first, _) = ada(&a, json!("latest")).await;
    let (mut second, ready) = ada(&b, json!("latest")).await;
    assert_eq!(ready["type"], "connection_ready");
    asks(&second, "m1");
    let end = second.until("agent_completed").await;
    assert_eq!(end.last().expect("an end")["data"]["text"], *long);
}

#[tokio::test]
async fn what_comes_without_the_key_is_refused() {
    let cluster = two().await;
    let members = loop {
        let members = cluster.log.members().expect("members").list().await.expect("a list");
        if !members.is_empty() {
            break members;
        }
        tokio::task::yield_now().await;
    };
    for path in ["/lockstep/member", "/lockstep/member/command", "/lockstep/member/operator", "/"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}");
        let mut stream = tokio::net::TcpStream::connect(&*members[0].address).await.expect("a listener");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("written");
        let mut response = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut response).await.expect("a response");
        assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
    }
}

/// What the process sees of the addresses of ada's clients.
async fn clients(node: &Node) -> Vec<Option<IpAddr>> {
    let connections = node.manager.user("ada").connection_ids().await;
    connections.into_iter().map(|id| node.manager.client(id)).collect()
}

#[tokio::test]
async fn the_address_of_a_relayed_client_is_known_to_the_owner() {
    let cluster = two().await;
    let lines = Lines::default();
    let pen = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(LevelFilter::DEBUG);
    let reading = subscriber.with_writer(move || pen.clone()).finish().set_default();
    let addresses = ["2001:db8::7", "203.0.113.9"].map(|text| text.parse::<IpAddr>().expect("an address"));
    let mut peers = Vec::new();
    for (node, client) in [&cluster.a, &cluster.b].into_iter().zip(addresses) {
        let mut opening = Opening::new(Codec::V1);
        (opening.client, opening.credential) = (Some(client), Some(Token::new("ada")));
        let mut peer = TestClient::open(&node.manager, opening);
        assert_eq!(peer.next().await["type"], "connection_ready");
        peers.push(peer);
    }
    drop(reading);
    let text = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
    let live = |address| text.lines().any(|line| line.contains("live") && line.contains(&format!("client={address}")));
    assert!(addresses.iter().all(live), "the owner's lines name the clients: {text}");
    let mut known = clients(&cluster.a).await;
    known.sort_unstable();
    assert_eq!(known, [Some(addresses[1]), Some(addresses[0])]);
    let state = cluster.a.manager.user("ada").describe().await.expect("an answer").expect("a session");
    let shown: Vec<&Value> = state["connections"].as_array().expect("a list").iter().map(|of| &of["client"]).collect();
    assert!(shown.contains(&&json!("203.0.113.9")) && shown.contains(&&json!("2001:db8::7")), "{state}");
    // One whose address nothing has told is not the other process.
    let (_peer, _) = ada(&cluster.b, json!("latest")).await;
    assert!(clients(&cluster.a).await.contains(&None));
}

#[tokio::test]
async fn a_revocation_at_one_process_is_in_effect_at_all() {
    let cluster = two().await;
    let (mut first, _) = ada(&cluster.a, json!("latest")).await;
    let revocation = lockstep::verify::Revocation::Subject(Arc::from("ada"));
    cluster.b.manager.revoke(&revocation).await.expect("revoked");
    // It has returned, so nothing more is shown.
    let end = first.next().await;
    assert_eq!(end["code"], 4502, "OWN-5: {end}");
}

#[tokio::test]
async fn a_running_answer_is_not_cut_by_a_process_that_is_about_to_leave() {
    let cluster = two().await;
    let (mut first, _) = ada(&cluster.a, json!("latest")).await;
    asks(&first, "m1");
    cluster.words.add_permits(1);
    let seen = first.until("agent_thinking").await;
    let drained = tokio::spawn({
        let manager = cluster.a.manager.clone();
        async move { manager.drain().await }
    });
    while cluster.a.manager.health().mode == lockstep::Mode::Ready {
        tokio::task::yield_now().await;
    }
    first.cut();
    // The client comes back elsewhere, and is relayed to the process that still answers.
    let (mut second, ready) = ada(&cluster.b, json!("earliest")).await;
    assert_eq!(ready["type"], "connection_ready", "{ready}");
    cluster.words.add_permits(3);
    let all = second.until("agent_completed").await;
    assert_eq!(all[..seen.len()], seen[..]);
    assert_eq!(second.until("going_away").await.last().expect("a frame")["type"], "going_away");
    drop(second);
    let began = std::time::Instant::now();
    served(&cluster.b, &json!("latest")).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drained.await.expect("drained");
}

#[tokio::test]
async fn the_close_of_the_owner_reaches_the_client() {
    let cluster = two().await;
    let (_first, _) = ada(&cluster.a, json!("latest")).await;
    let (mut second, ready) = ada(&cluster.b, json!("latest")).await;
    assert_eq!(ready["type"], "connection_ready");
    let revocation = lockstep::verify::Revocation::Subject(Arc::from("ada"));
    cluster.a.manager.revoke(&revocation).await.expect("revoked");
    let end = second.until("close").await;
    assert_eq!(end.last().expect("a close")["code"], 4502, "{end:?}");
}
