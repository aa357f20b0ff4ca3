//! Clients see what the log acknowledged to an agent (RUN-3), even if they are cut in the middle of a run.

use std::sync::Arc;
use std::time::Duration;

use lockstep::BoxFuture;
use lockstep::agent::{Agent, Message, Run};
use lockstep_model::Bounds;
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_proofs::history::check;
use lockstep_tests::history::History;
use lockstep_tests::simulated_client::{self, Command, Seen, Who};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::hostile::{Gateway, Parts};

/// The deadline of every wait in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a client sees, through the first observation for which `such` holds.
pub(crate) async fn until(seen: &mut UnboundedReceiver<Seen>, mut such: impl FnMut(&Seen) -> bool) -> Vec<Seen> {
    let mut sights = Vec::new();
    loop {
        let sight = tokio::time::timeout(PATIENCE, seen.recv()).await;
        sights.push(sight.unwrap_or_else(|_| panic!("nothing more after {sights:?}")).expect("a client"));
        if sights.last().is_some_and(&mut such) {
            return sights;
        }
    }
}

pub(crate) fn event(kind: Kind) -> impl FnMut(&Seen) -> bool {
    move |seen| matches!(seen, Seen::Event { entry, .. } if entry.event.kind == kind)
}

fn facts(history: &History) -> Vec<Value> {
    let kept = String::from_utf8(history.kept()).expect("text");
    kept.lines().map(|line| serde_json::from_str(line).expect("a fact")).collect()
}

fn contradictions(facts: &[Value]) -> Vec<(&'static str, [u64; 2])> {
    let text: String = facts.iter().map(|fact| format!("{fact}\n")).collect();
    let findings = check(text.as_bytes()).expect("a history");
    findings.contradictions.iter().map(|found| (found.property, found.lines)).collect()
}

/// Thinks three times, once per permit, calls two tools, and ends as the message says.
struct Stepwise {
    may: Arc<Semaphore>,
    ended: Arc<Semaphore>,
}

impl Agent for Stepwise {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        let (may, ended) = (Arc::clone(&self.may), Arc::clone(&self.ended));
        Box::pin(async move {
            for text in ["one", "two", "three"] {
                run.thinking(text).await.expect("thinking");
                may.acquire().await.expect("open").forget();
            }
            run.tool("good", &json!({}), async { Ok::<_, String>(7) }).await.expect("a tool");
            run.tool("bad", &json!({}), async { Err::<u8, _>("no") }).await.expect_err("no tool");
            if message.text().as_deref() == Some("fail") {
                run.fail("as asked").await.expect("an end");
            } else {
                run.complete(json!({})).await.expect("an end");
            }
            ended.add_permits(1);
        })
    }
}

#[tokio::test]
async fn what_was_acknowledged_to_the_agent_is_seen_however_often_its_client_is_cut() {
    let history = History::in_memory();
    let (may, ended) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let agent = Stepwise { may: Arc::clone(&may), ended: Arc::clone(&ended) };
    let parts = Parts { agent: Arc::new(agent), history: history.clone(), ..Parts::default() };
    let gateway = Gateway::of(parts, |_| {}).await;
    let ada = |name: &str, begin| {
        let url = format!("ws://{}/ws", gateway.address);
        let token = Arc::new(|| "ada".to_owned());
        let who = Who { name: name.to_owned(), user: "ada".to_owned(), url, begin, token };
        simulated_client::start(who, Bounds::DEFAULT, history.clone())
    };
    let (cut, mut seen, _task) = ada("cut", ReadFrom::Latest);
    let tell = |command| cut.send(command).expect("a client");
    tell(Command::Connect);
    until(&mut seen, |seen| matches!(seen, Seen::Ready { .. })).await;
    for text in ["work", "fail"] {
        tell(Command::Send(text.to_owned(), json!({ "text": text })));
        for _ in 0..3 {
            until(&mut seen, event(Kind::Thinking)).await;
            tell(Command::Cut);
            may.add_permits(1);
            until(&mut seen, |seen| matches!(seen, Seen::Ready { .. })).await;
        }
        let ends = |seen: &Seen| matches!(seen, Seen::Event { entry, .. } if entry.event.kind.is_terminal());
        until(&mut seen, ends).await;
    }
    // A tab that connects late reads everything.
    let (whole, mut seen, _task) = ada("whole", ReadFrom::Earliest);
    whole.send(Command::Connect).expect("a client");
    until(&mut seen, |seen| matches!(seen, Seen::Event { entry, .. } if matches!(entry.event.kind, Kind::Error(_))))
        .await;
    let _ = tokio::time::timeout(PATIENCE, ended.acquire_many(2)).await.expect("agents that end");

    let facts = facts(&history);
    assert_eq!(contradictions(&facts), []);
    let acked = facts.iter().filter(|fact| fact["fact"] == "acked");
    // Three thoughts, two tools and an end, twice.
    assert_eq!(acked.clone().count(), 16);

    // If any of the agent's events is removed from a complete reader's history, the check finds it.
    let is_event = |fact: &Value| fact["fact"] == "received" && fact["frame"]["previous"].is_u64();
    let one: Vec<Value> =
        facts.iter().filter(|fact| fact["fact"] == "acked" || fact["client"] == "whole").cloned().collect();
    assert_eq!(contradictions(&one), []);
    let mut missed = 0;
    for (index, lost) in one.iter().enumerate().filter(|(_, fact)| is_event(fact)) {
        let kind = lost["frame"]["type"].as_str().expect("a type");
        if !kind.starts_with("agent_thinking") {
            continue;
        }
        let mut planted = one.clone();
        planted.remove(index);
        // The chain is closed over the removed event, so no gap is reported.
        let next = planted[index..].iter_mut().find(|fact| is_event(fact)).expect("an end");
        next["frame"]["previous"] = lost["frame"]["previous"].clone();
        let run = &lost["frame"]["run_id"];
        let of_run = |fact: &Value| fact["frame"]["run_id"] == *run;
        let line = |found: Option<usize>| found.expect("a line") as u64 + 1;
        // The last acknowledged event of its kind is the one that is missed.
        let acked = line(
            planted.iter().rposition(|fact| fact["fact"] == "acked" && of_run(fact) && fact["frame"]["type"] == *kind),
        );
        let end = line(planted.iter().rposition(|fact| is_event(fact) && of_run(fact)));
        assert_eq!(contradictions(&planted), [("RUN-3", [acked.min(end), acked.max(end)])]);
        missed += 1;
    }
    assert_eq!(missed, 6);
}
