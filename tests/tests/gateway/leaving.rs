//! A process that ends: what its sessions have left for the log is done before the log is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockstep::BoxFuture;
use lockstep::Manager;
use lockstep::agent::{Agent, Message, Run};
use lockstep::log::{Log, MemoryLog};
use lockstep::testing::{AnyToken, TestClient};
use lockstep_model::{Offset, Tenure, UserId};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::faked::{Fake, Faked, Reply};
use crate::hostile::client::message;

struct Answers;

impl Agent for Answers {
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move { run.complete(json!({ "text": "yes" })).await.expect("an end") })
    }
}

/// Stores where readers are only with a permit, and remembers whether a user was released.
struct Busy {
    log: MemoryLog,
    permits: Semaphore,
    released: AtomicBool,
}

impl Fake for Busy {
    fn log(&self) -> &MemoryLog {
        &self.log
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> Reply<'_, ()> {
        Box::pin(async move {
            let _permit = self.permits.acquire().await;
            self.log.read(user, tenure, through).await
        })
    }

    fn release(&self, user: UserId, tenure: Tenure) -> Reply<'_, ()> {
        self.released.store(true, Ordering::Relaxed);
        self.log.release(user, tenure)
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_is_released_before_the_log_is_closed() {
    let busy = Busy { log: MemoryLog::new(), permits: Semaphore::new(0), released: AtomicBool::new(false) };
    let log = Arc::new(Faked(busy));
    let builder = Manager::builder().verifier(AnyToken).agent(Answers).log(Arc::clone(&log) as Arc<dyn Log>);
    let manager = builder.build().expect("a manager");
    let mut client = TestClient::connect(&manager);
    client.say(&json!({ "type": "auth", "token": "ada" }).to_string());
    client.until("connection_ready").await;
    client.say(&message("m1", "well?").to_string());
    client.until("agent_completed").await;
    drop(client);
    manager.drain().await;
    let closing = tokio::spawn({
        let manager = manager.clone();
        async move { manager.close_log().await }
    });
    // The release waits behind a call that the log has not answered.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!closing.is_finished() && !log.released.load(Ordering::Relaxed));
    log.permits.add_permits(1);
    closing.await.expect("closed");
    assert!(log.released.load(Ordering::Relaxed), "its next owner would wait for its lease");
}
