//! Front ends that speak AG-UI: the events of a run, resumed at any of them, and asked for more than once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep::BoxFuture;
use lockstep::agent::{Agent, Message, Run};
use lockstep::agui::{Asked, Cut, Events, NotAsked, NotBegun, Place};
use lockstep::payload::Token;
use lockstep::testing::AnyToken;
use lockstep::verify::Revocation;
use lockstep::{Bounds, Cause, Manager};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::agents::pause;

mod answering;

/// Thinks, calls a tool, changes a state and answers. Each piece of its answer needs a permit.
#[derive(Clone)]
struct Steps {
    permits: Arc<Semaphore>,
    runs: Arc<AtomicUsize>,
}

const PIECES: [&str; 5] = ["Now ", "I ", "count: ", "ein ", "zweï."];

impl Steps {
    fn new(permits: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits)), runs: Arc::default() }
    }

    async fn work(self, run: Run) -> Option<()> {
        run.delta("reasoning", "Hm, ").await.ok()?;
        run.delta("reasoning", "yes.").await.ok()?;
        run.thinking("a remark").await.ok()?;
        let arguments = json!({ "zone": "utc" });
        run.tool("clock", &arguments, async { Ok::<_, String>(json!({ "hour": 12 })) }).await.ok()?;
        run.tool("broken", &arguments, async { Err::<Value, _>("no") }).await.err()?;
        for event in [
            json!({ "type": "STATE_SNAPSHOT", "snapshot": { "count": 0 } }),
            json!({ "type": "STEP_STARTED", "stepName": "counting" }),
            json!({ "type": "SUBAGENT_STARTED", "name": "x" }),
        ] {
            run.progress(json!({ "agui": event })).await.ok()?;
        }
        run.progress(json!({ "mine": 1 })).await.ok()?;
        for piece in PIECES {
            self.permits.acquire().await.ok()?.forget();
            run.text(piece).await.ok()?;
        }
        run.complete(json!({ "text": PIECES.concat() })).await.ok()
    }
}

impl Agent for Steps {
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let agent = self.clone();
        Box::pin(async move {
            // A run that has ended needs no answer.
            let _ = agent.work(run).await;
        })
    }
}

fn manager(agent: impl Agent) -> Manager {
    Manager::builder().verifier(AnyToken).agent(agent).build().expect("a manager")
}

fn token() -> Token {
    Token::new("ada")
}

fn input(message: &str, more: &[Value]) -> Value {
    let message = json!({ "id": message, "role": "user", "content": [{ "type": "text", "text": "go" }] });
    let messages = [&[message], more].concat();
    json!({ "threadId": "t", "runId": "r", "messages": messages, "tools": [], "context": [], "state": { "count": -1 } })
}

fn asked(input: &Value) -> Asked {
    Asked::read(input.to_string().as_bytes()).expect("a request")
}

/// The events until the end, each with its id.
async fn all(events: &mut Events) -> Vec<(Place, Value)> {
    let mut found = Vec::new();
    while let Some(text) = events.next().await.expect("no cut") {
        found.extend(parsed(&text));
    }
    found
}

fn parsed(text: &str) -> Vec<(Place, Value)> {
    let event = |part: &str| {
        let (id, data) = part.strip_prefix("id: ")?.split_once("\ndata: ")?;
        Some((id.parse().expect("a place"), serde_json::from_str(data).expect("JSON")))
    };
    text.split_terminator("\n\n").filter_map(event).collect()
}

fn kinds(events: &[(Place, Value)]) -> Vec<&str> {
    events.iter().map(|(_, event)| event["type"].as_str().expect("a type")).collect()
}

/// The contents of one message kind, joined, and the other events: pieces may be cut differently when they are read
/// again.
fn essence(events: &[(Place, Value)]) -> (String, Vec<Value>) {
    let is_piece = |event: &&Value| event["type"].as_str().is_some_and(|kind| kind.ends_with("MESSAGE_CONTENT"));
    let events = events.iter().map(|(_, event)| event);
    let (pieces, others): (Vec<&Value>, Vec<&Value>) = events.partition(is_piece);
    let text = pieces.iter().filter_map(|piece| piece["delta"].as_str()).collect();
    (text, others.into_iter().cloned().collect())
}

async fn begin(manager: &Manager, input: &Value, seen: Option<Place>) -> Events {
    manager.agui(&token(), &asked(input), seen).await.expect("a stream")
}

#[tokio::test(start_paused = true)]
async fn a_run_becomes_events_that_a_client_accepts() {
    let manager = manager(Steps::new(100));
    let found = all(&mut begin(&manager, &input("1", &[]), None).await).await;
    let mut kinds = kinds(&found);
    kinds.dedup_by(|one, other| one == other && one.ends_with("CONTENT"));
    let reasoning = |pieces: usize| {
        let content = vec!["REASONING_MESSAGE_CONTENT"; pieces.min(1)];
        [&["REASONING_START", "REASONING_MESSAGE_START"][..], &content, &["REASONING_MESSAGE_END", "REASONING_END"]]
            .concat()
    };
    let call = ["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT"];
    let expected = [
        &["RUN_STARTED"][..],
        &reasoning(2),
        &reasoning(1),
        &call,
        &call,
        &["STATE_SNAPSHOT", "STEP_STARTED", "CUSTOM", "CUSTOM"],
        &["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "STEP_FINISHED", "RUN_FINISHED"],
    ];
    assert_eq!(kinds, expected.concat());
    let of = |kind: &str| found.iter().find(|(_, event)| event["type"] == kind).map(|(_, event)| event.clone());
    assert_eq!(of("RUN_STARTED"), Some(json!({ "type": "RUN_STARTED", "threadId": "t", "runId": "r" })));
    assert_eq!(of("TOOL_CALL_ARGS").expect("arguments")["delta"], json!({ "zone": "utc" }).to_string());
    assert_eq!(of("TOOL_CALL_RESULT").expect("a result")["content"], json!({ "hour": 12 }).to_string());
    assert_eq!(of("RUN_FINISHED").expect("an end")["result"], json!({ "text": PIECES.concat() }));
    let places: BTreeSet<String> = found.iter().map(|(place, _)| place.to_string()).collect();
    assert_eq!(places.len(), found.len(), "each event has an id of its own");
}

/// What follows an event is the same whenever it is asked for, and whichever event that is.
#[tokio::test(start_paused = true)]
async fn a_stream_is_resumed_at_any_event() {
    let agent = Steps::new(2);
    let manager = manager(agent.clone());
    let input = input("1", &[]);
    // Read as the answer grows, so that its pieces are apart.
    let mut growing = begin(&manager, &input, None).await;
    let mut whole = Vec::new();
    while let Some(text) = growing.next().await.expect("no cut") {
        whole.extend(parsed(&text));
        if whole.last().is_some_and(|(_, event)| event["type"] == "TEXT_MESSAGE_CONTENT") {
            agent.permits.add_permits(1);
        }
    }
    let pieces = kinds(&whole).iter().filter(|kind| **kind == "TEXT_MESSAGE_CONTENT").count();
    assert!(pieces >= 4, "{whole:#?}");
    for (index, (place, _)) in whole.iter().enumerate() {
        let rest = all(&mut begin(&manager, &input, Some(*place)).await).await;
        let (mut expected, mut found) = (essence(&whole[index + 1..]), essence(&rest));
        // A state that is read again begins with the message's own: that is an event of the second reading only.
        let own = json!({ "type": "STATE_SNAPSHOT", "snapshot": { "count": -1 } });
        found.1.retain(|event| *event != own);
        expected.1.retain(|event| *event != own);
        assert_eq!(found, expected, "behind {place}");
    }
    assert_eq!(agent.runs.load(Ordering::Relaxed), 1);
    let elsewhere = Place { epoch: 1, offset: 1, within: 0 };
    let refused = manager.agui(&token(), &asked(&input), Some(elsewhere)).await.err();
    assert_eq!(refused, Some(NotBegun::NoSuchPlace));
}

/// RUN-2: a message that is asked about again has its first answer, less what the request shows that the client has.
#[tokio::test(start_paused = true)]
async fn the_same_request_is_answered_with_the_same_run() {
    let agent = Steps::new(2);
    let manager = manager(agent.clone());
    let mut cut = begin(&manager, &input("1", &[]), None).await;
    let mut had = String::new();
    let mut id = String::new();
    while had.len() < PIECES[..2].concat().len() {
        for (_, event) in parsed(&cut.next().await.expect("no cut").expect("more")) {
            if event["type"] == "TEXT_MESSAGE_CONTENT" {
                had.push_str(event["delta"].as_str().expect("text"));
                event["messageId"].as_str().expect("an id").clone_into(&mut id);
            }
        }
    }
    drop(cut);
    // The run goes on without a reader.
    agent.permits.add_permits(100);
    let held = json!({ "id": id, "role": "assistant", "content": had });
    let rest = all(&mut begin(&manager, &input("1", &[held]), None).await).await;
    let text = |events: &[(Place, Value)]| {
        let is_text = |event: &&Value| event["type"] == "TEXT_MESSAGE_CONTENT";
        let texts = events.iter().map(|(_, event)| event).filter(is_text);
        texts.filter_map(|event| event["delta"].as_str()).collect::<String>()
    };
    assert_eq!(format!("{had}{}", text(&rest)), PIECES.concat());
    let again = all(&mut begin(&manager, &input("1", &[]), None).await).await;
    assert_eq!(text(&again), PIECES.concat());
    assert_eq!((kinds(&again)[0], &again[1].1["snapshot"]), ("RUN_STARTED", &json!({ "count": -1 })));
    // What the client has of everything: nothing more is said of it.
    let mut messages = vec![json!({ "id": id, "role": "assistant", "content": PIECES.concat() })];
    for (_, event) in &again {
        match event["type"].as_str().expect("a type") {
            "TOOL_CALL_ARGS" => messages.push(json!({ "id": event["toolCallId"], "role": "assistant",
                "toolCalls": [{ "id": event["toolCallId"], "type": "function",
                    "function": { "name": "x", "arguments": event["delta"] } }] })),
            "TOOL_CALL_RESULT" => messages.push(json!({ "id": event["messageId"], "role": "tool",
                "toolCallId": event["toolCallId"], "content": event["content"] })),
            _ => {}
        }
    }
    let nothing = all(&mut begin(&manager, &input("1", &messages), None).await).await;
    assert_eq!(text(&nothing), "");
    assert!(!kinds(&nothing).iter().any(|kind| kind.starts_with("TOOL_CALL")), "{nothing:#?}");
    assert_eq!(agent.runs.load(Ordering::Relaxed), 1);
    // Another message is another run.
    all(&mut begin(&manager, &input("2", &[]), None).await).await;
    assert_eq!(agent.runs.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_cancelled_by_its_message() {
    let manager = manager(Steps::new(1));
    let input = input("1", &[]);
    assert_eq!(manager.cancel_agui(&token(), &asked(&input)).await, Ok(false), "there is none yet");
    let mut events = begin(&manager, &input, None).await;
    assert_eq!(manager.cancel_agui(&token(), &asked(&input)).await, Ok(true));
    let last = all(&mut events).await.pop().expect("an end").1;
    assert_eq!((&last["type"], &last["code"]), (&json!("RUN_ERROR"), &json!("cancelled")));
    let mut newer = input.clone();
    newer["protocolVersion"] = "1.0".into();
    let last = all(&mut begin(&manager, &newer, None).await).await.pop().expect("an end").1;
    assert_eq!((&last["type"], &last["outcome"]["type"]), (&json!("RUN_FINISHED"), &json!("cancelled")));
    assert_eq!(manager.cancel_agui(&token(), &asked(&input)).await, Ok(false), "it has ended");
}

#[tokio::test(start_paused = true)]
async fn the_machines_refuse_what_they_refuse_on_a_socket() {
    let manager = manager(Steps::new(0));
    let request = asked(&input("1", &[]));
    let rejected = manager.agui(&Token::new("rejected"), &request, None).await.err();
    assert_eq!(rejected, Some(NotBegun::Closed(Cause::CredentialRejected)));
    let mut large = input("1", &[]);
    large["messages"][0]["content"] = "x".repeat(70_000).into();
    assert!(matches!(manager.agui(&token(), &asked(&large), None).await, Err(NotBegun::TooLarge(_))));
    // A revocation ends the connections, and not the run: other readers see it go on.
    let mut events = manager.agui(&token(), &request, None).await.expect("a stream");
    let mut streams = Vec::new();
    let full = loop {
        match manager.agui(&token(), &request, None).await {
            Ok(stream) => streams.push(stream),
            Err(refused) => break refused,
        }
    };
    assert_eq!(full, NotBegun::Closed(Cause::TooManyConnections));
    drop(streams);
    manager.revoke(&Revocation::Subject("ada".into())).await.expect("a revocation");
    let cut = loop {
        match events.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the run has ended"),
            Err(cut) => break cut,
        }
    };
    assert_eq!(cut, Cut(Cause::CredentialRevoked));
    assert_eq!(manager.health().runs, 1);
}

/// A client that takes nothing more is noticed like any peer that is silent.
#[tokio::test(start_paused = true)]
async fn a_front_end_that_does_not_read_loses_its_connection() {
    let manager = manager(Steps::new(0));
    let events = begin(&manager, &input("1", &[]), None).await;
    assert_eq!(manager.health().connections, 1);
    let bounds = Bounds::DEFAULT;
    while manager.health().connections > 0 {
        pause(bounds.heartbeat).await;
    }
    drop(events);
}

#[test]
fn what_is_no_request_is_refused() {
    let refused = |input: &Value| Asked::read(input.to_string().as_bytes()).err();
    let with = |field: &str, value: Value| {
        let mut input = input("1", &[]);
        input[field] = value;
        input
    };
    let invalid = |input: &Value| matches!(refused(input), Some(NotAsked::Invalid(_)));
    assert!(invalid(&json!([])) && invalid(&with("messages", json!([]))) && invalid(&with("threadId", json!(""))));
    assert!(invalid(&with("messages", json!([{ "id": "1", "role": "user" }]))));
    assert!(invalid(&with("resume", json!([{ "interruptId": "i", "status": "perhaps" }]))));
    assert!(invalid(&with("resume", json!([{ "status": "resolved" }]))));
    assert!(Asked::read(input("1", &[]).to_string().as_bytes()).is_ok());
}
