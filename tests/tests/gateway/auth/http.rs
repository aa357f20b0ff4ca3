//! The routes of a login on a real socket, and a scripted client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use lockstep::verify::revoked::Revocations;
use lockstep_gateway::accounts::Accounts;
use lockstep_gateway::login::{ClientAddress, Login, LoginConfig, Rate, routes};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::accounts::CHEAP;
use super::support::*;

/// A gateway's login, serving clients from one address.
pub(super) struct Gateway {
    pub(super) login: Arc<Login>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) hands: Hands,
    pub(super) address: SocketAddr,
}

const RATES: Rate = Rate { burst: 4, refill: Duration::from_secs(10) };

pub(super) fn config() -> LoginConfig {
    LoginConfig { per_account: RATES, per_address: Rate { burst: 8, ..RATES }, ..LoginConfig::default() }
}

impl Gateway {
    pub(super) async fn start(directory: &Directory, hands: &Hands, config: LoginConfig) -> Self {
        let accounts = Arc::new(Accounts::with_cost(directory.path(), CHEAP).expect("accounts"));
        let revocations = Arc::new(Revocations::open(directory.path(), MONTH, hands.clock()).expect("revocations"));
        let login =
            Login::open(Some(directory.path()), config, Arc::clone(&accounts), Arc::clone(&revocations), hands.clock());
        let login = Arc::new(login.expect("a login"));
        let address = serve(routes(Arc::clone(&login)), None).await;
        Self { login, accounts, revocations, hands: hands.clone(), address }
    }

    pub(super) async fn with_ann(directory: &Directory) -> Self {
        let gateway = Self::start(directory, &Hands::new(), config()).await;
        gateway.accounts.add("ann", "correct horse").await.expect("added");
        gateway
    }

    pub(super) async fn log_in(&self, user: &str, password: &str) -> Answer {
        let body = json!({"username": user, "password": password});
        post(self.address, "/auth/login", &[], Some(&body)).await
    }

    pub(super) async fn refresh(&self, cookie: &str) -> Answer {
        post(self.address, "/auth/refresh", &[("Cookie", cookie)], None).await
    }

    pub(super) async fn log_out(&self, cookie: &str, everywhere: bool) -> Answer {
        let body = everywhere.then(|| json!({"everywhere": true}));
        post(self.address, "/auth/logout", &[("Cookie", cookie)], body.as_ref()).await
    }

    pub(super) async fn is_good(&self, token: &str) -> bool {
        verify(&*self.login.verifier(), token).await.is_ok()
    }
}

/// Serves on a port of its own, to clients whose address appears as `peer`.
pub(super) async fn serve(router: axum::Router, peer: Option<&str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = match peer {
        Some(peer) => router.layer(Extension(ClientAddress(peer.parse::<IpAddr>().expect("an address")))),
        None => router,
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn set_cookie(&self) -> &str {
        self.header("set-cookie").expect("a cookie")
    }

    /// The cookie that a browser would send back.
    pub(crate) fn cookie(&self) -> String {
        self.set_cookie().split(';').next().expect("a pair").to_owned()
    }

    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) fn error(&self) -> (u16, &str) {
        assert!(self.body["error"]["message"].is_string(), "{}", self.body);
        (self.status, self.body["error"]["code"].as_str().expect("a code"))
    }
}

pub(crate) async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
    let body = body.map(Value::to_string);
    let mut all = headers.to_vec();
    if body.is_some() && !headers.iter().any(|(name, _)| *name == "Content-Type") {
        all.push(("Content-Type", "application/json; charset=utf-8"));
    }
    send(address, path, &all, body.unwrap_or_default().as_bytes()).await
}

pub(super) async fn send(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let socket = TcpStream::connect(address).await.expect("a server");
    send_on(socket, path, headers, body).await.expect("an answer")
}

/// Sends on a new socket. `None` if the server closes before it has answered.
pub(super) async fn send_on(
    mut socket: TcpStream,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let address = socket.peer_addr().ok()?;
    let mut head = format!("POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    socket.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    // The answer may arrive before the whole body was read.
    let _ = socket.write_all(body).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    assert_eq!(head.to_ascii_lowercase().contains("cache-control: no-store"), status != 405, "{head}");
    Some(Answer { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) })
}
