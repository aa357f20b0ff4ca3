//! Real networks: proxies in front of the gateway, load balancers, many sockets, slow peers, and other servers that
//! embed the session layer.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::any;
use lockstep::Manager;
use lockstep::testing::{AnyToken, Echo};
use lockstep_gateway::config::Config;
use lockstep_gateway::login::ClientAddress;
use lockstep_gateway::serve::{Serving, accept, bind};
use tokio::task::JoinHandle;

use crate::hostile::client::Client;

mod accept;
mod embedded;
mod idle;
mod path;
mod proxies;
mod sockets;

/// A listener whose routes answer with what they know of a request.
struct Listener {
    address: SocketAddr,
    manager: Manager,
    task: JoinHandle<()>,
}

impl Listener {
    async fn open(toml: &str) -> Self {
        let mut config: Config = Config::parse(toml).expect("a configuration");
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = bind(config.listen).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let manager = Manager::builder().verifier(AnyToken).agent(Echo).build().expect("a manager");
        let router = Router::new().fallback(any(known));
        let task = tokio::spawn(accept(listener, router, Serving::new(&config, manager.draining())));
        Self { address, manager, task }
    }

    /// What the routes know of a request with these header lines, from a new client.
    async fn known(&self, path: &str, lines: &str) -> Answer {
        let mut client = Client::connect(self.address).await;
        ask(&mut client, "", path, lines).await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Path, peer and host, one per line; with a cookie.
async fn known(request: Request) -> impl IntoResponse {
    let peer = request.extensions().get::<ClientAddress>().map(|peer| peer.0.to_string()).unwrap_or_default();
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let text = format!("{} {peer} {host}", request.uri());
    ([(header::SET_COOKIE, "a=b; Path=/")], text)
}

/// An answer: its head, and the three lines of its body.
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn words(&self) -> Vec<&str> {
        self.body.split(' ').collect()
    }

    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }
}

/// Sends `before` and then a request, and reads the whole answer.
async fn ask(client: &mut Client, before: &str, path: &str, lines: &str) -> Answer {
    client.send(format!("{before}GET {path} HTTP/1.1\r\nHost: gateway.test\r\n{lines}\r\n").as_bytes()).await;
    let head = client.answer().await.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    let body = client.bytes(length).await;
    Answer { head, body: String::from_utf8(body).expect("text") }
}
