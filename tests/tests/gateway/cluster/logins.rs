//! The built-in login of gateways in processes of their own: users log in at one, and are known at all.

use std::time::{Duration, Instant};

use lockstep::internal::gateways::Shared;
use lockstep::log::postgres::{Settings, migrate};
use lockstep_gateway::accounts::SharedAccounts;
use lockstep_tests::postgres::Server;
use serde_json::{Value, json};

use super::processes::Gateway;
use crate::auth::accounts::CHEAP;
use crate::auth::http::{Answer, post};
use crate::hostile::client::{Client, Heard, request};

/// How soon every gateway closes what has ended.
const SOON: Duration = Duration::from_secs(2);

/// Two gateways with the built-in login, and Ann's account.
async fn two() -> ([Gateway; 2], SharedAccounts) {
    let server = Server::shared();
    let url = server.url(&server.database());
    migrate(Settings::new(url.as_str())).await.expect("tables");
    let engine = Shared::connect(Settings::new(url.as_str())).await.expect("an engine");
    let accounts = SharedAccounts::with_cost(engine, CHEAP);
    accounts.add("ann", "correct horse").await.expect("added");
    let login = "[auth]\nissuer = \"accounts\"\n";
    ([Gateway::with(&url, login).await, Gateway::with(&url, login).await], accounts)
}

async fn log_in(gateway: &Gateway, password: &str) -> Answer {
    let answer =
        post(gateway.address, "/auth/login", &[], Some(&json!({"username": "ann", "password": password}))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

async fn refresh(gateway: &Gateway, cookie: &str) -> Answer {
    post(gateway.address, "/auth/refresh", &[("Cookie", cookie)], None).await
}

/// A socket that this gateway serves.
async fn socket(gateway: &Gateway, token: &str) -> Client {
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    loop {
        pause.tick().await;
        let mut client = Client::upgraded(gateway.address, &[]).await;
        client.say(&json!({ "type": "auth", "token": token, "resume": "latest" })).await;
        match client.next().await {
            ready if ready["type"] == "connection_ready" => {
                assert_eq!(ready["user_id"], "ann");
                return client;
            }
            close if [4000, 4001, 4006].map(|code| json!(code)).contains(&close["code"]) => {}
            other => panic!("{other}"),
        }
    }
}

/// Asserts that these sockets are closed because their credential is revoked, soon after `since`.
async fn closed(sockets: &mut [Client], since: Instant, within: Duration) {
    for socket in sockets {
        assert_eq!(socket.until("close").await.last().expect("a close")["code"], 4502);
    }
    assert!(since.elapsed() < within, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_logout_at_one_gateway_closes_the_sockets_at_all_of_them() {
    let ([a, b], _) = two().await;
    let answer = log_in(&a, "correct horse").await;
    let next = refresh(&b, &answer.cookie()).await;
    let mut sockets = [socket(&a, &answer.token()).await, socket(&b, &next.token()).await];
    let other = log_in(&b, "correct horse").await;
    let mut kept = socket(&a, &other.token()).await;
    let began = Instant::now();
    assert_eq!(post(b.address, "/auth/logout", &[("Cookie", &next.cookie())], None).await.status, 204);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // The answer comes when no gateway accepts what has ended.
    for gateway in [&a, &b] {
        for token in [answer.token(), next.token()] {
            let mut refused = Client::upgraded(gateway.address, &[]).await;
            refused.say(&json!({ "type": "auth", "token": token })).await;
            let heard = refused.hear().await;
            assert!(matches!(heard, Heard::Close(4500..)), "AUTH-4, OWN-5: {heard:?}");
        }
        assert_eq!(refresh(gateway, &next.cookie()).await.error(), (401, "no_session"));
    }
    closed(&mut sockets, began, SOON).await;
    kept.is_live().await;
}

#[tokio::test]
async fn a_copied_cookie_that_another_gateway_sees_closes_the_sockets_of_both_holders() {
    let ([a, b], _) = two().await;
    let copied = log_in(&a, "correct horse").await;
    let next = refresh(&b, &copied.cookie()).await;
    let newest = refresh(&a, &next.cookie()).await;
    let mut sockets = [socket(&a, &newest.token()).await, socket(&b, &newest.token()).await];
    let began = Instant::now();
    assert_eq!(refresh(&b, &copied.cookie()).await.error(), (401, "no_session"));
    closed(&mut sockets, began, SOON).await;
    assert_eq!(refresh(&a, &newest.cookie()).await.error(), (401, "no_session"));
}

#[tokio::test]
async fn a_password_that_the_command_line_changes_closes_the_sockets_at_all_gateways() {
    let ([a, b], accounts) = two().await;
    let (one, other) = (log_in(&a, "correct horse").await, log_in(&b, "correct horse").await);
    let mut sockets =
        [socket(&a, &one.token()).await, socket(&b, &one.token()).await, socket(&a, &other.token()).await];
    let began = Instant::now();
    accounts.passwd("ann", "another horse").await.expect("changed");
    // It is noticed within a second.
    closed(&mut sockets, began, SOON + Duration::from_secs(1)).await;
    let again = log_in(&b, "another horse").await;
    let mut sockets = [socket(&a, &again.token()).await];
    let began = Instant::now();
    accounts.remove("ann").await.expect("removed");
    closed(&mut sockets, began, SOON + Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_ticket_of_one_gateway_lets_in_once_at_another() {
    let ([a, b], _) = two().await;
    let token = log_in(&a, "correct horse").await.token();
    let ticket = async |gateway: &Gateway| -> String {
        let bearer = format!("Bearer {token}");
        let answer = post(gateway.address, "/ws/ticket", &[("Authorization", &bearer)], None).await;
        answer.body["ticket"].as_str().expect("a ticket").to_owned()
    };
    let present = async |gateway: &Gateway, ticket: &str| -> (Client, Value) {
        let upgrade = request(&[]).replacen("GET /ws", &format!("GET /ws?ticket={ticket}"), 1);
        let mut client = Client::connect(gateway.address).await;
        assert!(client.ask(&upgrade).await.starts_with("HTTP/1.1 101 "));
        let first = client.next().await;
        (client, first)
    };
    // Ann's owner is the other gateway: who redeems relays, and the owner is given a token.
    let mut owned = socket(&a, &token).await;
    let of_a = ticket(&a).await;
    let (mut first, ready) = present(&b, &of_a).await;
    assert_eq!((&ready["type"], &ready["user_id"]), (&json!("connection_ready"), &json!("ann")));
    for gateway in [&a, &b] {
        assert_eq!(present(gateway, &of_a).await.1["code"], 4500, "it was redeemed");
    }
    for round in 0..5 {
        let of_b = ticket(&b).await;
        let ((_one, at_a), (_other, at_b)) = tokio::join!(present(&a, &of_b), present(&b, &of_b));
        let let_in = [&at_a, &at_b].into_iter().filter(|said| said["type"] == "connection_ready").count();
        let refused = [&at_a, &at_b].into_iter().filter(|said| said["code"] == 4500).count();
        assert_eq!((let_in, refused), (1, 1), "round {round}: {at_a} {at_b}");
    }
    first.is_live().await;
    owned.is_live().await;
}
