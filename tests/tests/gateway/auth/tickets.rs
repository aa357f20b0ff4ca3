//! Tickets: each is redeemed once, by one connection.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use lockstep_gateway::login::ticket::{LIFETIME, RATE};
use lockstep_gateway::login::{TicketService, ticket_routes};
use serde_json::{Value, json};

use super::http::{Answer, post, serve};
use super::support::*;

struct Fixture {
    service: Arc<TicketService>,
    address: std::net::SocketAddr,
    hands: Hands,
}

impl Fixture {
    async fn open() -> Self {
        let (verifier, hands) = strict();
        let service = Arc::new(TicketService::new(Arc::new(verifier), hands.clock()));
        let address = serve(ticket_routes(Arc::clone(&service)), None).await;
        Self { service, address, hands }
    }

    async fn ask(&self, authorization: &str) -> Answer {
        post(self.address, "/ws/ticket", &[("Authorization", authorization)], None).await
    }

    async fn ticket(&self, claims: &Value) -> String {
        let answer = self.ask(&format!("Bearer {}", signed(Algorithm::HS256, claims))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["ticket"].as_str().expect("a ticket").to_owned()
    }
}

#[tokio::test]
async fn a_ticket_stands_for_its_token_once_and_for_half_a_minute() {
    let fixture = Fixture::open().await;
    let token = signed(Algorithm::HS256, &claims());
    let answer = fixture.ask(&format!("bearer {token}")).await;
    assert_eq!(answer.body["expires_in"], json!(30));
    let ticket = answer.body["ticket"].as_str().expect("a ticket");
    assert_eq!(ticket.len(), 43, "256 bits");
    assert_eq!(fixture.service.redeem(ticket).expect("open").expose(), token);
    assert_eq!(fixture.service.redeem(ticket), None);
    let ticket = fixture.ticket(&claims()).await;
    fixture.hands.forward(LIFETIME);
    assert_eq!(fixture.service.redeem(&ticket), None, "expired");
    for garbage in ["", "AAAA", &"A".repeat(43), &"=".repeat(43), "🦀"] {
        assert_eq!(fixture.service.redeem(garbage), None);
    }
}

#[tokio::test]
async fn a_ticket_does_not_outlive_its_token() {
    let fixture = Fixture::open().await;
    let short = signed(Algorithm::HS256, &but(json!({"exp": TODAY - 25})));
    let answer = fixture.ask(&format!("Bearer {short}")).await;
    assert_eq!(answer.body["expires_in"], json!(5), "within the leeway");
    fixture.hands.forward(Duration::from_secs(5));
    assert_eq!(fixture.service.redeem(answer.body["ticket"].as_str().expect("a ticket")), None);
}

#[tokio::test]
async fn a_ticket_requires_a_good_token() {
    let fixture = Fixture::open().await;
    let expired = format!("Bearer {}", signed(Algorithm::HS256, &but(json!({"exp": TODAY - 60}))));
    let basic = format!("Basic {}", signed(Algorithm::HS256, &claims()));
    for (authorization, code) in [
        ("", "no_token"),
        ("Bearer", "no_token"),
        (&basic, "no_token"),
        ("Bearer x", "rejected"),
        (&expired, "rejected"),
    ] {
        assert_eq!(fixture.ask(authorization).await.error(), (401, code), "{authorization}");
    }
    assert_eq!(post(fixture.address, "/ws/ticket", &[], None).await.error(), (401, "no_token"));
}

#[tokio::test]
async fn a_user_with_too_many_tickets_gets_no_more_and_others_do() {
    let fixture = Fixture::open().await;
    for _ in 0..RATE.burst {
        fixture.ticket(&claims()).await;
    }
    let answer = fixture.ask(&format!("Bearer {}", signed(Algorithm::HS256, &claims()))).await;
    assert_eq!((answer.error(), answer.header("retry-after")), ((429, "too_many_attempts"), Some("1")));
    fixture.ticket(&but(json!({"sub": "bob"}))).await;
    fixture.hands.forward(RATE.refill);
    fixture.ticket(&claims()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_concurrent_redemptions_of_a_ticket_one_succeeds() {
    let fixture = Fixture::open().await;
    for round in 0..100 {
        let ticket: Arc<str> = fixture.ticket(&but(json!({"sub": format!("user {round}")}))).await.into();
        let start = Arc::new(tokio::sync::Barrier::new(8));
        let redeeming: Vec<_> = (0..8)
            .map(|_| {
                let (service, ticket, start) = (Arc::clone(&fixture.service), Arc::clone(&ticket), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    service.redeem(&ticket).is_some()
                })
            })
            .collect();
        let mut redeemed = 0;
        for one in redeeming {
            redeemed += usize::from(one.await.expect("no panic"));
        }
        assert_eq!(redeemed, 1);
    }
}
