//! The recording proxy: clients do not notice it, and its recording passes the check.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use lockstep::BoxFuture;
use lockstep::agent::{Agent, Message as Asked, Run};
use lockstep::payload::Token;
use lockstep::testing::AnyToken;
use lockstep::verify::{Identity, NotRevoked, NotVerified, Revocation, Verifier};
use lockstep_model::Bounds;
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_proofs::history::{Findings, check};
use lockstep_tests::history::History;
use lockstep_tests::proxy::Proxy;
use lockstep_tests::simulated_client::{self, Command, Seen, Who};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

mod older;

use crate::acked::{PATIENCE, event, until};
use crate::hostile::starts::Folder;
use crate::hostile::{Gateway, Parts};

/// The prefix of each token, so that a leak can be searched for.
const SECRET: &str = "a-secret-of-";

/// A token is the secret followed by its user's name.
struct Prefixed;

impl Verifier for Prefixed {
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>> {
        Box::pin(async move {
            match token.expose().strip_prefix(SECRET) {
                Some(name) => AnyToken.verify(&Token::new(name)).await,
                None => Err(NotVerified::Rejected("it has no secret")),
            }
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        AnyToken.revoke(revocation)
    }
}

/// Thinks, and answers once it has a permit.
struct Held(Arc<Semaphore>);

impl Agent for Held {
    fn answer(&self, _: Asked, run: Run) -> BoxFuture<'static, ()> {
        let permits = Arc::clone(&self.0);
        Box::pin(async move {
            run.thinking("hm").await.expect("thinking");
            permits.acquire().await.expect("open").forget();
            run.complete(json!({ "text": "at last" })).await.expect("an end");
        })
    }
}

/// A proxy in this process, and its file.
struct Recorded {
    address: SocketAddr,
    path: PathBuf,
    end: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
    _folder: Folder,
}

impl Recorded {
    async fn before(upstream: SocketAddr) -> Self {
        let folder = Folder::new();
        let path = folder.path("history.jsonl");
        let history = History::create(&path).expect("a file");
        let proxy = Proxy::bind(([127, 0, 0, 1], 0).into(), &upstream.to_string()).await.expect("a port");
        let (end, ends) = oneshot::channel();
        let address = proxy.address().expect("an address");
        let served = tokio::spawn(proxy.serve(history, async move {
            let _ = ends.await;
        }));
        Self { address, path, end, served, _folder: folder }
    }

    /// Ends the proxy, and returns its recording.
    async fn end(self) -> String {
        self.end.send(()).expect("it serves");
        timeout(PATIENCE, self.served).await.expect("an end").expect("no panic").expect("a history");
        std::fs::read_to_string(&self.path).expect("a file")
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    timeout(PATIENCE, connect_async(request)).await.expect("an answer").map(|(socket, _)| socket)
}

async fn hear(socket: &mut Socket) -> Message {
    timeout(PATIENCE, socket.next()).await.expect("nothing comes").expect("no end").expect("a message")
}

/// The next text message.
async fn next(socket: &mut Socket) -> Value {
    loop {
        if let Message::Text(text) = hear(socket).await {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}

async fn code(socket: &mut Socket) -> u16 {
    loop {
        if let Message::Close(close) = hear(socket).await {
            return close.expect("a code").code.into();
        }
    }
}

fn judged(text: &str) -> Findings {
    check(text.as_bytes()).expect("a history")
}

fn facts(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a fact")).collect()
}

/// The first contradiction in a history after `plant` tampered with it.
fn planted(text: &str, plant: impl FnOnce(&mut Vec<Value>)) -> (&'static str, [u64; 2]) {
    let mut facts = facts(text);
    plant(&mut facts);
    let text: String = facts.iter().map(|fact| format!("{fact}\n")).collect();
    let findings = judged(&text);
    let first = findings.contradictions.first().unwrap_or_else(|| panic!("nothing is wrong with\n{text}"));
    (first.property, first.lines)
}

#[tokio::test]
async fn a_chat_through_a_proxy_passes_the_check_and_a_tampered_recording_fails() {
    let permits = Arc::new(Semaphore::new(0));
    let agent = Arc::new(Held(Arc::clone(&permits)));
    let gateway = Gateway::of(Parts { verifier: Arc::new(Prefixed), agent, ..Parts::default() }, |_| {}).await;
    let proxy = Recorded::before(gateway.address).await;
    let url = format!("ws://{}/ws", proxy.address);
    let token = Arc::new(|| format!("{SECRET}ada"));
    let who = Who { name: "ada".to_owned(), user: "ada".to_owned(), url, begin: ReadFrom::Latest, token };
    let (ada, mut seen, task) = simulated_client::start(who, Bounds::DEFAULT, History::none());
    let tell = |command| ada.send(command).expect("a client");
    tell(Command::Connect);
    until(&mut seen, |seen| matches!(seen, Seen::Ready { .. })).await;
    tell(Command::Send("m1".to_owned(), json!({ "text": "work" })));
    until(&mut seen, event(Kind::Thinking)).await;
    tell(Command::Cut);
    until(&mut seen, |seen| matches!(seen, Seen::Ready { .. })).await;
    permits.add_permits(1);
    let rest = until(&mut seen, event(Kind::Completed)).await;
    assert_eq!(rest.iter().filter(|seen| matches!(seen, Seen::Event { .. })).count(), 1, "it read on: {rest:?}");
    drop(ada);
    task.await.expect("a client that ends");

    let text = proxy.end().await;
    let findings = judged(&text);
    assert_eq!(findings.contradictions, []);
    assert_eq!((findings.sockets, findings.events), (2, 4), "{text}");
    assert!(!text.contains(SECRET) && text.contains(r#""token":"***""#), "{text}");
    let facts = facts(&text);
    assert!(facts.iter().all(|fact| fact["user"].is_null() && fact["at"].is_u64()));
    for socket in ["1", "2"] {
        let of_it = |fact: &&Value| fact["client"] == socket;
        let (first, last) = (facts.iter().find(of_it), facts.iter().rfind(of_it));
        assert_eq!(first.expect("a fact")["fact"], "open");
        assert_eq!(last.expect("a fact")["fact"], "closed");
    }
    let sent = facts.iter().filter(|fact| fact["fact"] == "sent").map(|fact| &fact["frame"]["type"]);
    assert_eq!(sent.collect::<Vec<_>>(), ["auth", "user_message", "auth"]);

    let at = |name: &str| facts.iter().position(|fact| fact["frame"]["type"] == name).expect("a line");
    let (received, started, thinking) = (at("message_received"), at("agent_started"), at("agent_thinking"));
    assert_eq!((started, thinking), (received + 1, received + 2));
    // Lines are numbered from 1.
    let line = |index: usize| index as u64 + 1;
    assert_eq!(planted(&text, |facts| drop(facts.remove(started))), ("STR-1", [line(received), line(started)]));
    let doubled = planted(&text, |facts| facts.insert(started, facts[started].clone()));
    assert_eq!(doubled, ("STR-1", [line(started), line(thinking)]));
    let swapped = planted(&text, |facts| facts.swap(started, thinking));
    assert_eq!(swapped, ("STR-1", [line(received), line(started)]));
    let again = facts.iter().rposition(|fact| fact["frame"]["type"] == "connection_ready").expect("a line");
    let stolen = planted(&text, |facts| facts[again]["frame"]["user_id"] = json!("bob"));
    assert_eq!(stolen, ("ISO-1", [line(received), line(at("agent_completed"))]));
}

#[tokio::test]
async fn pings_and_close_codes_go_through_and_binary_frames_are_not_recorded() {
    let gateway = Gateway::of(Parts { verifier: Arc::new(Prefixed), ..Parts::default() }, |_| {}).await;
    let proxy = Recorded::before(gateway.address).await;
    let bearer = format!("Bearer {SECRET}ada");
    let mut ada = connect(proxy.address, "/ws?from=earliest", &[("authorization", &bearer)]).await.expect("a socket");
    assert_eq!(next(&mut ada).await["user_id"], "ada");
    ada.send(Message::Ping("one".into())).await.expect("sent");
    ada.send(Message::text(r#"{"type":"ping"}"#)).await.expect("sent");
    assert_eq!(hear(&mut ada).await, Message::Pong("one".into()), "of the gateway's alone");
    assert_eq!(next(&mut ada).await["type"], "pong");
    for text in ["no json", "[7]", r#"{"type":"nonsense"}"#, r#"{"type":7}"#] {
        ada.send(Message::text(text)).await.expect("sent");
        assert_eq!(next(&mut ada).await["type"], "error");
    }
    ada.send(Message::binary(vec![0, 1, 2])).await.expect("sent");
    assert_eq!(code(&mut ada).await, 1003);
    let mut bob = connect(proxy.address, "/ws", &[("authorization", "Bearer of another")]).await.expect("a socket");
    assert_eq!(code(&mut bob).await, 4500);
    let text = proxy.end().await;
    assert!(!text.contains(SECRET) && !text.contains("no json") && !text.contains("nonsense"), "{text}");
    let findings = judged(&text);
    assert_eq!((findings.contradictions.as_slice(), findings.sockets), (&[][..], 2));
    let facts = facts(&text);
    let code = |client: &str| {
        facts.iter().find(|fact| fact["client"] == client && fact["fact"] == "closed").map(|fact| fact["code"].as_u64())
    };
    assert_eq!((code("1"), code("2")), (Some(Some(1003)), Some(Some(4500))));
    // A ping, and four frames of unknown types.
    assert_eq!(facts.iter().filter(|fact| fact["fact"] == "sent").count(), 5, "{text}");
}

/// Reads one request and gives this answer. The task returns the request.
async fn answers(answer: String) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut asked).await.expect("bytes") > 0, "no whole request");
        }
        stream.write_all(answer.as_bytes()).await.expect("it reads");
        // Writes nothing more until the other side closes.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        String::from_utf8(asked).expect("text")
    });
    (address, asked)
}

#[tokio::test]
async fn the_request_goes_through_with_what_it_carries_and_a_refusal_comes_back() {
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\nX-Why: origin\r\n\r\nnot here\n";
    let (gateway, asked) = answers(refusal.to_owned()).await;
    let proxy = Recorded::before(gateway).await;
    let mut client = TcpStream::connect(proxy.address).await.expect("a proxy");
    let lines = "Authorization: Bearer x.y.z\r\nCookie: a=b; c=d\r\nOrigin: https://chat.test\r\nConnection: keep-alive, \
                 Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                 AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Protocol: lockstep.v1, jwt.YWRh\r\n";
    let request = |host: &str, more: &str| {
        format!("GET /a/ws?ticket=t%20&from=earliest HTTP/1.1\r\nHost: {host}\r\n{lines}{more}\r\n")
    };
    let sent = request("proxy.test", "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    client.write_all(sent.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("an end").expect("text");
    assert_eq!(answer, refusal);
    drop(client);
    assert_eq!(asked.await.expect("a request"), request(&gateway.to_string(), ""));
    assert_eq!(proxy.end().await, "");
}

#[tokio::test]
async fn what_is_no_upgrade_is_passed_on_alone_on_its_connection_and_not_recorded() {
    let page = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nfine\n";
    let (gateway, asked) = answers(page.to_owned()).await;
    let proxy = Recorded::before(gateway).await;
    let mut client = TcpStream::connect(proxy.address).await.expect("a proxy");
    let request = |host: &str, before: &str, after: &str| {
        format!("POST /auth/login?a=b HTTP/1.1\r\nHost: {host}\r\n{before}Origin: http://proxy.test\r\n{after}\r\n")
    };
    let sent = request("proxy.test", "Connection: keep-alive\r\n", "");
    client.write_all(sent.as_bytes()).await.expect("sent");
    let mut answer = vec![0; page.len()];
    timeout(PATIENCE, client.read_exact(&mut answer)).await.expect("an answer").expect("all of it");
    assert_eq!(answer, page.as_bytes());
    drop(client);
    let passed = request(&gateway.to_string(), "", "Connection: close\r\n");
    assert_eq!(asked.await.expect("a request"), passed);
    assert_eq!(proxy.end().await, "");
}

#[tokio::test]
async fn bodies_go_through_whole_in_both_directions_and_end_with_their_connection() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let gateway = listener.local_addr().expect("an address");
    let size = 1 << 20;
    let echoed = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut asked = Vec::new();
        let begin = loop {
            assert!(stream.read_buf(&mut asked).await.expect("bytes") > 0, "no whole request");
            if let Some(end) = asked.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        while asked.len() < begin + size {
            assert!(stream.read_buf(&mut asked).await.expect("bytes") > 0, "no whole body");
        }
        // Without a length, so that the end of the connection ends the body.
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("it reads");
        stream.write_all(&asked[begin..]).await.expect("it reads");
    });
    let proxy = Recorded::before(gateway).await;
    let mut client = TcpStream::connect(proxy.address).await.expect("a proxy");
    let body: Vec<u8> = (0..size).map(|index| index.to_le_bytes()[0]).collect();
    let head = format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
    client.write_all(&[head.as_bytes(), &body].concat()).await.expect("sent");
    let mut answer = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("an end").expect("bytes");
    assert!(answer.ends_with(&body) && answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{} bytes", answer.len());
    echoed.await.expect("no panic");
    assert_eq!(proxy.end().await, "");
}

#[tokio::test]
async fn a_gateway_that_is_gone_is_a_cut_to_clients_and_the_next_one_is_found() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let gateway = listener.local_addr().expect("an address");
    let proxy = Recorded::before(gateway).await;
    let (client, first) = tokio::join!(connect(proxy.address, "/ws", &[]), async {
        let (stream, _) = listener.accept().await.expect("a client");
        tokio_tungstenite::accept_async(stream).await.expect("an upgrade")
    });
    drop((first, listener));
    let ended = timeout(PATIENCE, client.expect("a socket").next()).await.expect("an end");
    assert!(!matches!(ended, Some(Ok(_))), "nothing was said: {ended:?}");
    let Err(Error::Http(answer)) = connect(proxy.address, "/ws", &[]).await else { panic!("it is not there") };
    assert_eq!(answer.status(), 502);
    let listener = TcpListener::bind(gateway).await.expect("the same port");
    let (client, _second) = tokio::join!(connect(proxy.address, "/ws", &[]), async {
        let (stream, _) = listener.accept().await.expect("a client");
        tokio_tungstenite::accept_async(stream).await.expect("an upgrade")
    });
    drop(client.expect("a socket"));
    let facts = facts(&proxy.end().await);
    let told: Vec<_> = facts.iter().map(|fact| (fact["fact"].as_str(), fact["code"].as_u64())).collect();
    let (opened, closed) = ((Some("open"), None), (Some("closed"), Some(1006)));
    assert_eq!(told, [opened, closed, opened, closed]);
}

#[tokio::test]
async fn without_a_gateway_clients_are_answered_502_and_what_is_no_http_400() {
    let unused = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port").local_addr().expect("an address");
    let proxy = Recorded::before(unused).await;
    let answer = connect(proxy.address, "/ws", &[]).await;
    let Err(Error::Http(answer)) = answer else { panic!("{answer:?}") };
    assert_eq!(answer.status(), 502);
    let mut client = TcpStream::connect(proxy.address).await.expect("a proxy");
    client.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("an end").expect("text");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(proxy.end().await, "");
}

#[tokio::test]
async fn a_slow_reader_slows_the_gateway_down_instead_of_filling_the_proxy() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let gateway = listener.local_addr().expect("an address");
    let poured = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("an upgrade");
        let (frame, mut poured) = (vec![0; 1 << 20], 0);
        // More than the socket buffers on the path hold.
        while poured < 64 {
            match timeout(Duration::from_secs(2), socket.send(Message::binary(frame.clone()))).await {
                Ok(sent) => sent.expect("an open socket"),
                Err(_) => break,
            }
            poured += 1;
        }
        (poured, socket)
    });
    let proxy = Recorded::before(gateway).await;
    let client = connect(proxy.address, "/ws", &[]).await.expect("a socket");
    let (poured, _socket) = poured.await.expect("no panic");
    assert!(poured < 64, "{poured} MiB went to nobody");
    drop(client);
    assert_eq!(judged(&proxy.end().await).sockets, 1);
}

/// The proxy's binary.
fn program(arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_proxy"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The binary's exit code and its error output.
async fn failure(arguments: &[&str]) -> (Option<i32>, String) {
    let output = timeout(PATIENCE, program(arguments).output()).await.expect("an end").expect("a program");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[tokio::test]
async fn the_program_records_until_it_is_interrupted() {
    let gateway = Gateway::open(|_| {}).await;
    let folder = Folder::new();
    let file = folder.path("chat.jsonl");
    let upstream = format!("ws://{}/", gateway.address);
    let mut child = program(&["--listen", "127.0.0.1:0", "--upstream", &upstream, "--out", text(&file)])
        .spawn()
        .expect("a program");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let said = timeout(PATIENCE, lines.next_line()).await.expect("a line").expect("text").expect("a line");
    let address = said.split_once("ws://").expect("an address").1.split(' ').next().expect("an address");
    let mut ada = connect(address.parse().expect("an address"), "/ws", &[("authorization", "Bearer ada")])
        .await
        .expect("a socket");
    assert_eq!(next(&mut ada).await["type"], "connection_ready");
    ada.send(Message::text(r#"{"type":"user_message","message_id":"m","payload":"hello"}"#)).await.expect("sent");
    while next(&mut ada).await["type"] != "agent_completed" {}
    let id = child.id().expect("it runs").to_string();
    std::process::Command::new("kill").args(["-INT", &id]).status().expect("a signal");
    assert!(timeout(PATIENCE, child.wait()).await.expect("an end").expect("a status").success());
    let findings = judged(&std::fs::read_to_string(&file).expect("a file"));
    // Open, ready, sent, three events, closed.
    assert_eq!((findings.contradictions.len(), findings.lines, findings.events), (0, 7, 3));
}

#[tokio::test]
async fn the_program_says_what_it_cannot_do() {
    let folder = Folder::new();
    let (file, there) = (folder.path("new.jsonl"), folder.file("there.jsonl", b"x"));
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let held = holder.local_addr().expect("an address").to_string();
    let run = async |listen: &str, upstream: &str, out: &Path| {
        failure(&["--listen", listen, "--upstream", upstream, "--out", text(out)]).await
    };
    let (code, said) = run(&held, "ws://127.0.0.1:1", &file).await;
    assert!(code == Some(1) && said.contains(&format!("cannot listen on {held}")), "{said}");
    assert!(!file.exists(), "nothing was recorded");
    for out in [&there, &folder.path("none/new.jsonl")] {
        let (code, said) = run("127.0.0.1:0", "ws://127.0.0.1:1", out).await;
        assert!(code == Some(1) && said.contains(&format!("cannot create {}", out.display())), "{said}");
    }
    assert_eq!(std::fs::read(&there).expect("a file"), b"x");
    for upstream in ["wss://a.test:1", "a.test:1", "ws://a.test", "ws://:1", "ws://a.test:1/ws", "ws://a.test:x"] {
        let (code, said) = run("127.0.0.1:0", upstream, &file).await;
        assert!(code == Some(2) && said.contains("--upstream"), "{upstream}: {said}");
    }
}
