//! Well-formed requests that must be refused.

use lockstep::BoxFuture;
use lockstep::agent::{Message, Run};
use serde_json::json;
use tokio::sync::Semaphore;

use super::client::*;
use super::*;

/// Answers once it has a permit.
struct Held(Arc<Semaphore>);

impl Agent for Held {
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        let permits = Arc::clone(&self.0);
        Box::pin(async move {
            permits.acquire().await.expect("open").forget();
            let _ = run.complete(json!({ "text": "at last" })).await;
        })
    }
}

#[tokio::test]
async fn a_user_cannot_cancel_another_users_run() {
    let permits = Arc::new(Semaphore::new(0));
    let parts = Parts { agent: Arc::new(Held(Arc::clone(&permits))), ..Parts::default() };
    let gateway = Gateway::of(parts, |_| {}).await;
    let (mut bob, mut mallory) = (gateway.live("bob").await, gateway.live("mallory").await);
    bob.say(&message("m", "work")).await;
    let begun = bob.until("agent_started").await;
    mallory.say(&json!({ "type": "cancel", "run_id": begun[0]["run_id"] })).await;
    assert_eq!(mallory.error().await, "unknown_run");
    permits.add_permits(1);
    let rest = bob.until("agent_completed").await;
    assert_eq!((rest.len(), &rest[0]["data"]["text"]), (1, &json!("at last")));
    bob.say(&json!({ "type": "cancel", "run_id": begun[0]["run_id"] })).await;
    assert_eq!(bob.error().await, "unknown_run", "a run that is over");
    mallory.is_live().await;
}

#[tokio::test]
async fn a_message_that_is_sent_twice_runs_once() {
    let gateway = Gateway::open(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let (mut one, mut two) = (gateway.live("ada").await, gateway.live("ada").await);
    for client in [&mut one, &mut two] {
        client.say(&message("m", "hello")).await;
        client.say(&message("m", "hello, but different")).await;
    }
    let answer = one.until("agent_completed").await;
    let run = &answer[0]["run_id"];
    for client in [&mut one, &mut two] {
        client.say(&message("m", "and again")).await;
        client.say(&json!({ "type": "ping" })).await;
        let told = client.until("pong").await;
        let known = told.iter().filter(|frame| frame["type"] == "message_known").collect::<Vec<_>>();
        assert!(!known.is_empty() && known.iter().all(|known| known["run_id"] == *run), "{told:?}");
        let received = told.iter().filter(|frame| frame["type"] == "message_received" && frame["run_id"] != *run);
        assert_eq!(received.count(), 0, "{told:?}");
    }
    // The id is Ada's own: for another user the same id is another message.
    let mut eve = gateway.live("eve").await;
    assert_ne!(eve.exchange("m").await.0[0]["run_id"], *run);
    others.notice_nothing().await;
}

#[tokio::test]
async fn more_runs_than_a_user_may_have_are_refused() {
    let permits = Arc::new(Semaphore::new(0));
    let parts = Parts { agent: Arc::new(Held(Arc::clone(&permits))), ..Parts::default() };
    let gateway = Gateway::of(parts, |config| config.bounds.runs = 2).await;
    let (mut bob, mut mallory) = (gateway.live("bob").await, gateway.live("mallory").await);
    for id in ["a", "b", "c"] {
        let mut message = message(id, "work");
        message["thread_id"] = id.into();
        mallory.say(&message).await;
    }
    let refused = mallory.until("error").await.pop().expect("an error");
    assert_eq!((&refused["code"], &refused["message_id"]), (&json!("too_many_runs"), &json!("c")));
    permits.add_permits(3);
    bob.exchange("m").await;
    mallory.until("agent_completed").await;
    mallory.until("agent_completed").await;
}
