//! More sockets than allowed: health checks and logins still work, and no client waits for an answer in vain.

use lockstep_gateway::config::Limits;
use lockstep_gateway::serve::files::fit;

use super::{Listener, ask};
use crate::hostile::client::{Client, request};

/// Idle connections that have had an answer.
async fn crowd(listener: &Listener, number: usize, before: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..number {
        let mut client = Client::connect(listener.address).await;
        assert_eq!(ask(&mut client, before, "/", "").await.status(), 200);
        clients.push(client);
    }
    clients
}

/// Beyond the limit, requests are answered, one per connection, and upgrades are refused with a status while there is a
/// reserve; beyond that, connections are refused.
#[tokio::test]
async fn beyond_a_limit_requests_are_answered_and_upgrades_are_not() {
    for limits in ["sockets = 4", "per_address = 4"] {
        let listener = Listener::open(&format!("[limits]\nheader_ms = 60000\n{limits}\n")).await;
        let crowd = crowd(&listener, 4, "").await;
        for _ in 0..10 {
            let mut client = Client::connect(listener.address).await;
            let answer = ask(&mut client, "", "/healthz", "").await;
            assert!(
                answer.status() == 200 && answer.head.contains("connection: close\r\n"),
                "{limits} {}",
                answer.head
            );
            assert_eq!(client.rest().await, b"");
        }
        let mut upgrade = Client::connect(listener.address).await;
        let head = upgrade.ask(&request(&[])).await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 503 ") && head.contains("retry-after: 5\r\n"), "{limits} {head}");
        drop(upgrade);
        // More than one address's share of the reserve.
        let mut reserve = Vec::new();
        for _ in 0..12 {
            let mut client = Client::connect(listener.address).await;
            client.send(b"GET / HTTP/1.1\r\n").await;
            reserve.push(client);
        }
        let mut refused = Client::connect(listener.address).await;
        assert!(refused.begins_with(b"HTTP/1.1 503 ").await, "{limits}");
        drop((refused, reserve, crowd));
        // They are gone, and the state is as before.
        while !Client::connect(listener.address).await.ask(&request(&[])).await.starts_with("HTTP/1.1 200 ") {}
    }
}

/// Behind a proxy the limit applies to the client's address, and not to the proxy's.
#[tokio::test]
async fn behind_a_proxy_each_client_has_a_limit_of_its_own() {
    let proxied = "[limits]\nper_address = 2\n[proxies]\ntrusted = [\"127.0.0.1\"]\nproxy_protocol = true\n";
    let listener = Listener::open(proxied).await;
    let from = |address: &str| format!("PROXY TCP4 {address} 198.51.100.1 4711 443\r\n");
    let first = crowd(&listener, 2, &from("192.0.2.1")).await;
    let mut third = Client::connect(listener.address).await;
    third.send(from("192.0.2.1").as_bytes()).await;
    assert_eq!(third.rest().await, b"");
    let others = crowd(&listener, 2, &from("192.0.2.2")).await;
    drop((first, others));
}

#[test]
fn sockets_are_as_many_as_the_open_files_leave() {
    let limits = |sockets| Limits { sockets, other_files: 256, ..Limits::default() };
    let mut plenty = limits(18_000);
    assert!(fit(&mut plenty, None).is_ok() && fit(&mut plenty, Some(18_320)).is_ok());
    assert_eq!(plenty.sockets, 18_000);
    for (files, sockets) in [(18_319, 17_999), (1_024, 704), (256, 128), (3, 2), (1, 1)] {
        let mut few = limits(18_000);
        let said = fit(&mut few, Some(files)).expect_err("too few").to_string();
        assert_eq!(few.sockets, sockets);
        assert!(said.contains(&format!("{sockets} sockets fit")) && said.contains("18320"), "{said}");
    }
}
