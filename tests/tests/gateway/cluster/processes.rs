//! Gateways in processes of their own, on one PostgreSQL: one is killed, paused, or told to leave.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lockstep::log::postgres::{Settings, migrate};
use lockstep_tests::postgres::Server;
use serde_json::{Value, json};

use crate::hostile::client::{Client, Heard};
use crate::hostile::starts::{Folder, Process, gateway, settings, token};

/// The key of these gateways, as they present it to each other.
const KEY_IN_HEADER: &str = "dGhlIGtleSBvZiB0aGUgZ2F0ZXdheXMgdGhhdCB0aGVzZSB0ZXN0cyBzdGFydA";

/// The lease of a gateway in these tests.
const LEASE: Duration = Duration::from_secs(2);

/// A free port.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A gateway of the cluster whose log this database is.
pub(super) struct Gateway {
    process: Process,
    file: PathBuf,
    pub(super) address: SocketAddr,
    /// Removed after the process has ended.
    folder: Folder,
}

impl Gateway {
    async fn start(url: &str) -> Self {
        Self::with(url, "").await
    }

    /// A gateway with more settings.
    pub(super) async fn with(url: &str, more: &str) -> Self {
        let folder = Folder::new();
        let key = folder.file("cluster.key", b"the key of the gateways that these tests start");
        let last = format!(
            "[agent]\npace_ms = 100\n[log]\nkind = \"postgres\"\nurl = {url:?}\n[cluster]\nlisten = \"127.0.0.1:{}\"\n\
             key_file = {key:?}\nlease_seconds = {}\n{more}",
            port(),
            LEASE.as_secs()
        );
        let file = settings(&folder, "", &last);
        let mut process = Process::start(gateway(), &file);
        let address = process.address().await;
        Self { folder, process, file, address }
    }

    async fn again(self) -> Self {
        let Self { folder, process, file, .. } = self;
        let mut process = process.replaced(gateway(), &file).await;
        let address = process.address().await;
        Self { folder, process, file, address }
    }
}

/// Two gateways on an empty database.
async fn two() -> [Gateway; 2] {
    let server = Server::shared();
    let url = server.url(&server.database());
    migrate(Settings::new(url.as_str())).await.expect("tables");
    [Gateway::start(&url).await, Gateway::start(&url).await]
}

/// Ada's connection, once this gateway serves it, and its `connection_ready`.
async fn served(gateway: &Gateway, resume: &Value) -> (Client, Value) {
    let token = token("ada");
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    loop {
        pause.tick().await;
        let mut client = Client::upgraded(gateway.address, &[]).await;
        client.say(&json!({ "type": "auth", "token": token, "resume": resume })).await;
        match client.hear().await {
            Heard::Text(ready) if ready["type"] == "connection_ready" => return (client, ready),
            Heard::Close(4000 | 4001 | 4006) => {}
            other @ (Heard::Text(_) | Heard::Close(_) | Heard::Ping | Heard::Pong(_) | Heard::End | Heard::Reset) => {
                panic!("{other:?}")
            }
        }
    }
}

/// Begins an answer of several seconds. Returns its events so far, and the last position.
async fn asks(client: &mut Client, ready: &Value) -> (Vec<Value>, Value) {
    let text = "a long question, whose answer is a long one, because it repeats what was said, word for word, in order";
    client.say(&json!({ "type": "user_message", "message_id": "m1", "payload": { "text": text } })).await;
    let seen = client.until("agent_delta").await;
    let place = json!({ "epoch": ready["epoch"], "offset": seen.last().expect("an event")["offset"] });
    (seen, place)
}

/// What follows `place` at this gateway, until the answer has ended.
async fn rest(client: &mut Client, kind: &str, after: &Value) -> Vec<Value> {
    let mut rest = client.until(kind).await;
    rest.retain(|frame| !frame["offset"].is_null());
    assert_eq!(rest[0]["previous"], after["offset"], "nothing is lost or repeated");
    for pair in rest.windows(2) {
        assert_eq!(pair[1]["previous"], pair[0]["offset"], "{pair:?}");
    }
    rest
}

#[tokio::test]
async fn the_users_of_a_gateway_that_is_killed_are_served_after_its_lease() {
    let [mut a, b] = two().await;
    let (mut client, ready) = served(&a, &json!("latest")).await;
    let (_, place) = asks(&mut client, &ready).await;
    a.process.kill().await;
    let killed = Instant::now();
    let (mut client, ready) = served(&b, &place).await;
    assert!(killed.elapsed() < LEASE + Duration::from_secs(2), "{:?}", killed.elapsed());
    assert_eq!(ready["resumed"], true, "{ready}");
    let rest = rest(&mut client, "agent_error", &place).await;
    assert_eq!(rest.last().expect("an end")["data"]["reason"], "interrupted");
    // It comes back as another member, and relays.
    let a = a.again().await;
    let (mut other, ready) = served(&a, &place).await;
    assert_eq!(ready["resumed"], true);
    assert_eq!(other.until("agent_error").await.last(), rest.last());
}

#[tokio::test]
async fn a_gateway_that_was_paused_shows_and_appends_nothing_more() {
    let [a, b] = two().await;
    let (mut first, ready) = served(&a, &json!("latest")).await;
    let (_, place) = asks(&mut first, &ready).await;
    a.process.signal("-STOP");
    let (mut second, ready) = served(&b, &place).await;
    assert_eq!(ready["resumed"], true, "{ready}");
    let taken_over = rest(&mut second, "agent_error", &place).await;
    let last = &taken_over.last().expect("an end")["offset"];
    a.process.signal("-CONT");
    loop {
        match first.hear().await {
            // It was on its way before the pause.
            Heard::Text(event) => assert!(taken_over.contains(&event), "OWN-1, OWN-5: {event}"),
            Heard::Ping | Heard::Pong(_) => {}
            Heard::Close(code) => break assert_eq!(code, 4006),
            other @ (Heard::End | Heard::Reset) => panic!("{other:?}"),
        }
    }
    second.say(&json!({ "type": "user_message", "message_id": "m2", "payload": { "text": "2+2" } })).await;
    let next = second.until("message_received").await;
    assert_eq!(&next[0]["previous"], last, "the paused gateway appended nothing");
}

/// The answer of the operator's routes to this request: its status, and its body.
async fn operator(gateway: &Gateway, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let token = std::fs::read_to_string(gateway.folder.path("data/operator.token")).expect("a token");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} /operator/{path} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token.trim(),
        body.len()
    );
    let mut client = Client::connect(gateway.address).await;
    client.send(request.as_bytes()).await;
    let response = String::from_utf8(client.rest().await).expect("text");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// Sends a notice to everyone at this gateway. Returns how many users have it and how many do not have it yet.
async fn tell_all(gateway: &Gateway, id: &str) -> Value {
    let body = json!({ "id": id, "data": { "text": "to everyone" } });
    let (status, told) = operator(gateway, "POST", "notice", &body).await;
    assert_eq!(status, 200, "{told}");
    told
}

/// The addresses of ada's clients, as this gateway sees them.
async fn clients(gateway: &Gateway) -> Vec<Value> {
    let (status, state) = operator(gateway, "GET", "sessions/ada", &Value::Null).await;
    assert_eq!(status, 200, "{state}");
    state["connections"].as_array().expect("a list").iter().map(|of| of["client"].clone()).collect()
}

#[tokio::test]
async fn an_operator_sees_and_closes_at_any_gateway_and_is_told_which_one_does_not_answer() {
    let [mut a, b] = two().await;
    let (mut client, _) = served(&a, &json!("latest")).await;
    let none = Value::Null;
    let (status, state) = operator(&b, "GET", "sessions/ada", &none).await;
    assert_eq!((status, &state), (200, &operator(&a, "GET", "sessions/ada", &none).await.1));
    let (status, list) = operator(&b, "GET", "sessions", &none).await;
    assert_eq!((status, &list["sessions"][0]["subject"], &list["not_answered"]), (200, &json!("ada"), &none), "{list}");
    let close = |connection: &Value| json!({ "subject": "ada", "connection": connection, "code": 4005 });
    let wrong = operator(&b, "POST", "close", &close(&json!("0000000000000001"))).await;
    assert_eq!((wrong.0, &wrong.1["error"]["code"]), (404, &json!("no_connection")));
    let mut code = close(&state["connections"][0]["id"]);
    code["code"] = json!(1000);
    assert_eq!(operator(&b, "POST", "close", &code).await.0, 400);
    assert_eq!(operator(&b, "POST", "close", &close(&state["connections"][0]["id"])).await.0, 204);
    loop {
        match client.hear().await {
            Heard::Close(code) => break assert_eq!(code, 4005),
            Heard::Text(_) | Heard::Ping | Heard::Pong(_) => {}
            other @ (Heard::End | Heard::Reset) => panic!("{other:?}"),
        }
    }
    let (_client, _) = served(&a, &json!("latest")).await;
    a.process.kill().await;
    let (status, problem) = operator(&b, "GET", "sessions/ada", &none).await;
    assert_eq!((status, &problem["error"]["code"]), (503, &json!("gateway_unreachable")), "{problem}");
    let gateway = state["gateway"].as_str().expect("an address");
    assert!(problem["error"]["message"].as_str().is_some_and(|said| said.contains(gateway)), "{problem}");
    let (status, list) = operator(&b, "GET", "sessions", &none).await;
    assert!(status == 200 && list["not_answered"][0].as_str().is_some_and(|said| said.contains(gateway)), "{list}");
}

#[tokio::test]
async fn a_client_cannot_choose_the_address_that_gateways_tell_each_other() {
    let server = Server::shared();
    let url = server.url(&server.database());
    migrate(Settings::new(url.as_str())).await.expect("tables");
    let proxies = "[proxies]\ntrusted = [\"127.0.0.1\"]\nheader = \"x-forwarded-for\"\n";
    let [a, b] = [Gateway::start(&url).await, Gateway::with(&url, proxies).await];
    let (_owned, _) = served(&a, &json!("latest")).await;
    // It knows the cluster's key, and is no member all the same: this is the clients' port.
    let key = format!("lockstep-cluster-key: {KEY_IN_HEADER}");
    let mut forged = Client::upgraded(a.address, &["lockstep-client-address: 198.51.100.6", &key]).await;
    forged.authenticate(&token("ada")).await;
    assert_eq!(clients(&a).await, [json!("127.0.0.1"), json!("127.0.0.1")]);
    let lines = ["lockstep-client-address: 198.51.100.6", "X-Forwarded-For: 203.0.113.9"];
    let mut relayed = Client::upgraded(b.address, &lines).await;
    relayed.authenticate(&token("ada")).await;
    let mut known: Vec<String> = clients(&a).await.iter().map(ToString::to_string).collect();
    known.sort_unstable();
    assert_eq!(known, ["\"127.0.0.1\"", "\"127.0.0.1\"", "\"203.0.113.9\""]);
}

#[tokio::test]
async fn a_notice_to_everyone_reaches_each_user_once_while_a_gateway_is_paused() {
    let [a, b] = two().await;
    let (mut first, ready) = served(&a, &json!("latest")).await;
    assert_eq!(tell_all(&b, "00000000000000a1").await, json!({ "sent": 1, "failed": 0 }));
    let told = first.until("notice").await.pop().expect("a notice");
    assert_eq!((&told["data"]["text"], &told["offset"]), (&json!("to everyone"), &json!(1)));
    // Its owner does not deliver the next one. Another gateway does, after the lease.
    a.process.signal("-STOP");
    assert_eq!(tell_all(&b, "00000000000000a2").await, json!({ "sent": 1, "failed": 0 }));
    let place = json!({ "epoch": ready["epoch"], "offset": 1 });
    let (mut second, ready) = served(&b, &place).await;
    assert_eq!((&ready["resumed"], &ready["head"]), (&json!(true), &json!(2)), "{ready}");
    assert_eq!(second.until("notice").await.last().expect("a notice")["previous"], 1);
    a.process.signal("-CONT");
    for gateway in [&a, &b] {
        assert_eq!(tell_all(gateway, "00000000000000a2").await, json!({ "sent": 1, "failed": 0 }), "it is known");
    }
    assert_eq!(tell_all(&a, "00000000000000a3").await, json!({ "sent": 1, "failed": 0 }));
    let third = second.until("notice").await.pop().expect("a notice");
    assert_eq!((&third["previous"], &third["offset"]), (&json!(2), &json!(3)), "each is there once");
}

#[tokio::test]
async fn a_gateway_that_leaves_ends_its_answers_and_then_its_users_move() {
    let [a, b] = two().await;
    let mut http = Client::connect(a.address).await;
    http.send(b"GET /readyz HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n").await;
    let response = String::from_utf8(http.rest().await).expect("text");
    assert!(response.starts_with("HTTP/1.1 200 ") && response.contains("begins a new epoch"), "{response}");
    let (mut first, ready) = served(&a, &json!("latest")).await;
    let (mut seen, place) = asks(&mut first, &ready).await;
    a.process.signal("-TERM");
    // Another tab arrives elsewhere while the answer goes on.
    let (mut second, ready) = served(&b, &place).await;
    assert_eq!(ready["resumed"], true, "{ready}");
    let answer = rest(&mut second, "agent_completed", &place).await;
    seen.extend(first.until("agent_completed").await);
    assert_eq!(seen.last(), answer.last(), "both tabs see the whole answer");
    for tab in [&mut first, &mut second] {
        assert_eq!(tab.until("going_away").await.last().expect("a frame")["type"], "going_away");
    }
    drop((first, second));
    let left = Instant::now();
    let last = json!({ "epoch": place["epoch"], "offset": answer.last().expect("an end")["offset"] });
    let (_, ready) = served(&b, &last).await;
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    assert_eq!((&ready["resumed"], &ready["head"]), (&json!(true), &last["offset"]));
    a.process.ended().await;
}
