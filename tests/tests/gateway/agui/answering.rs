//! Runs that wait for a front end: what it is shown, and how its answers go on with them, once.

use std::sync::Mutex;

use lockstep::agent::Paused;
use lockstep::testing::TestClient;

use super::*;

/// Says something and asks, as often as the message says, and then repeats the replies.
#[derive(Clone, Default)]
struct Asks {
    /// The replies until now.
    replies: Arc<Mutex<Vec<Value>>>,
}

fn request(text: &str) -> Value {
    match text {
        "plain" => json!({ "message": "Who?" }),
        _ => json!({ "message": "May I?", "asks": [
            { "id": "a", "kind": "approval", "tool": "pay", "arguments": { "euros": 5 } },
            { "id": "q", "kind": "question", "message": "Why?", "schema": { "type": "string" }, "reason": "curious" },
        ] }),
    }
}

impl Asks {
    fn replies(&self) -> Vec<Value> {
        self.replies.lock().expect("a lock").clone()
    }
}

impl Agent for Asks {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            run.text("I ask.").await.expect("a text");
            run.pause(request(&message.text().unwrap_or_default())).await.expect("a pause");
        })
    }

    fn resume(&self, paused: Paused, run: Run) -> BoxFuture<'static, ()> {
        let agent = self.clone();
        Box::pin(async move {
            let reply = serde_json::from_str(paused.reply.get()).expect("JSON");
            agent.replies.lock().expect("a lock").push(reply);
            let asked = paused.turn.steps.iter().filter(|step| matches!(step, lockstep::agent::Step::Asked(_))).count();
            run.text("I hear.").await.expect("a text");
            if paused.message.text().as_deref() == Some("twice") && asked < 2 {
                run.pause(paused_again(&paused)).await.expect("a pause");
            } else {
                run.complete(json!({ "text": "I hear." })).await.expect("an end");
            }
        })
    }
}

/// The same once more.
fn paused_again(paused: &Paused) -> Value {
    serde_json::from_str(paused.request.get()).expect("JSON")
}

fn input_with(text: &str) -> Value {
    let mut input = input("1", &[]);
    input["messages"][0]["content"] = text.into();
    input
}

/// The request with these answers.
fn answering(input: &Value, entries: Value) -> Value {
    let mut input = input.clone();
    input["resume"] = entries;
    input
}

fn resolved(id: &str, payload: &Value) -> Value {
    json!({ "interruptId": id, "status": "resolved", "payload": payload })
}

fn cancelled(id: &str) -> Value {
    json!({ "interruptId": id, "status": "cancelled" })
}

/// All events of a request.
async fn whole(manager: &Manager, input: &Value) -> Vec<(Place, Value)> {
    let mut events = begin(manager, input, None).await;
    let mut found = Vec::new();
    while let Some(text) = events.next().await.expect("no cut") {
        for part in text.split_terminator("\n\n").filter_map(|part| part.split_once("data: ")) {
            let place = part.0.strip_prefix("id: ").map(|id| id.trim().parse().expect("a place"));
            let nowhere = Place { epoch: 0, offset: 0, within: 0 };
            found.push((place.unwrap_or(nowhere), serde_json::from_str(part.1).expect("JSON")));
        }
    }
    found
}

/// The ids of the interrupts that end a stream.
fn interrupts(events: &[(Place, Value)]) -> Vec<String> {
    let last = &events.last().expect("an end").1;
    assert_eq!((&last["type"], &last["outcome"]["type"]), (&json!("RUN_FINISHED"), &json!("interrupt")), "{events:#?}");
    let listed = last["outcome"]["interrupts"].as_array().expect("interrupts");
    listed.iter().map(|interrupt| interrupt["id"].as_str().expect("an id").to_owned()).collect()
}

fn text(events: &[(Place, Value)]) -> String {
    events
        .iter()
        .filter(|(_, event)| event["type"] == "TEXT_MESSAGE_CONTENT")
        .filter_map(|(_, event)| event["delta"].as_str())
        .collect()
}

/// The code of the error that ends a stream.
fn code(events: &[(Place, Value)]) -> &str {
    let last = &events.last().expect("an end").1;
    assert_eq!(last["type"], "RUN_ERROR", "{events:#?}");
    last["code"].as_str().expect("a code")
}

#[tokio::test(start_paused = true)]
async fn a_run_that_asks_ends_the_stream_and_goes_on_with_the_answers() {
    let agent = Asks::default();
    let manager = manager(agent.clone());
    let input = input_with("asks");
    let first = whole(&manager, &input).await;
    let expected = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"];
    assert_eq!(kinds(&first), expected);
    let ids = interrupts(&first);
    let schema =
        json!({ "type": "object", "properties": { "approved": { "type": "boolean" } }, "required": ["approved"] });
    let shown = json!([
        { "id": ids[0], "reason": "tool_call", "message": "May I?", "responseSchema": schema },
        { "id": ids[1], "reason": "curious", "message": "Why?", "responseSchema": { "type": "string" } },
    ]);
    assert_eq!(first[4].1["outcome"]["interrupts"], shown);
    // Asked again without answers, it still waits.
    assert_eq!(interrupts(&whole(&manager, &input).await), ids);

    let mut answers = answering(&input, json!([resolved(&ids[0], &json!({ "approved": true })), cancelled(&ids[1])]));
    let said = json!({ "id": first[1].1["messageId"], "role": "assistant", "content": "I ask." });
    answers["messages"].as_array_mut().expect("messages").push(said);
    let second = whole(&manager, &answers).await;
    assert_eq!(text(&second), "I hear.", "less what the client has");
    assert_eq!(kinds(&second).iter().filter(|kind| **kind == "RUN_STARTED").count(), 1);
    assert_eq!(second.last().expect("an end").1["result"], json!({ "text": "I hear." }));
    assert_eq!(agent.replies(), [json!({ "answers": { "a": { "approved": true } } })]);
    // The same answers again, and others: the first count. A place is not needed.
    assert_eq!(kinds(&whole(&manager, &answers).await), kinds(&second));
    let seen = second[0].0;
    assert_eq!(all(&mut begin(&manager, &answers, Some(seen)).await).await, second);
    let others = answering(&input, json!([cancelled(&ids[0]), cancelled(&ids[1])]));
    assert_eq!(text(&whole(&manager, &others).await), "I ask.I hear.");
    assert_eq!(agent.replies().len(), 1);
    // Without answers, the whole run is one stream.
    let again = whole(&manager, &input).await;
    assert_eq!(
        (text(&again).as_str(), &again.last().expect("an end").1["type"]),
        ("I ask.I hear.", &json!("RUN_FINISHED"))
    );
    assert_eq!(again.last().expect("an end").1.get("outcome"), None);
}

#[tokio::test(start_paused = true)]
async fn a_plain_question_is_answered_with_a_text() {
    for (payload, reply) in
        [(json!("Ada"), json!({ "text": "Ada" })), (json!({ "text": "Bea" }), json!({ "text": "Bea" }))]
    {
        let agent = Asks::default();
        let manager = manager(agent.clone());
        let input = input_with("plain");
        let first = whole(&manager, &input).await;
        let ids = interrupts(&first);
        let shown = json!([{ "id": ids[0], "reason": "input_required", "message": "Who?" }]);
        assert_eq!(first.last().expect("an end").1["outcome"]["interrupts"], shown);
        whole(&manager, &answering(&input, json!([resolved(&ids[0], &payload)]))).await;
        assert_eq!(agent.replies(), [reply]);
    }
}

/// Two at once, or another client before: one reply counts, and every reader sees the same run go on.
#[tokio::test(start_paused = true)]
async fn the_first_reply_counts_from_any_client() {
    let agent = Asks::default();
    let ours = manager(agent.clone());
    let input = input_with("asks");
    let ids = interrupts(&whole(&ours, &input).await);
    let with = |answer: bool| answering(&input, json!([resolved(&ids[0], &json!(answer)), cancelled(&ids[1])]));
    let (yes, no) = (with(true), with(false));
    let (one, two) = tokio::join!(whole(&ours, &yes), whole(&ours, &no));
    assert_eq!((text(&one), text(&two)), ("I ask.I hear.".to_owned(), "I ask.I hear.".to_owned()));
    assert_eq!(agent.replies().len(), 1);

    let agent = Asks::default();
    let ours = manager(agent.clone());
    let ids = interrupts(&whole(&ours, &input).await);
    let mut socket = TestClient::connect(&ours);
    socket.say(&json!({ "type": "auth", "token": "ada", "resume": "earliest" }).to_string());
    let paused = socket.until("agent_paused").await.pop().expect("a pause");
    let reply = json!({ "type": "reply", "run_id": paused["run_id"], "pause": 1, "payload": "from the socket" });
    socket.say(&reply.to_string());
    socket.until("agent_completed").await;
    let late = answering(&input, json!([cancelled(&ids[0]), cancelled(&ids[1])]));
    assert_eq!(text(&whole(&ours, &late).await), "I ask.I hear.");
    assert_eq!(agent.replies(), [json!("from the socket")]);
}

/// An answer is for one pause, even if the next asks for the same.
#[tokio::test(start_paused = true)]
async fn answers_that_come_again_are_not_for_a_later_pause() {
    let agent = Asks::default();
    let manager = manager(agent.clone());
    let input = input_with("twice");
    let one = interrupts(&whole(&manager, &input).await);
    let cancel = |ids: &[String]| answering(&input, ids.iter().map(|id| cancelled(id)).collect());
    let two = interrupts(&whole(&manager, &cancel(&one)).await);
    assert_ne!(one, two);
    assert_eq!(interrupts(&whole(&manager, &cancel(&one)).await), two);
    assert_eq!(agent.replies().len(), 1);
    assert_eq!(text(&whole(&manager, &cancel(&two)).await), "I ask.I hear.I hear.");
    assert_eq!(agent.replies().len(), 2);
}

/// Never silence: what cannot be answered is refused, and the run waits on.
#[tokio::test(start_paused = true)]
async fn answers_that_the_run_does_not_wait_for_are_refused() {
    let agent = Asks::default();
    let manager = manager(agent.clone());
    let input = input_with("asks");
    let unknown = answering(&input, json!([cancelled("elsewhere")]));
    let refused = manager.agui(&token(), &asked(&unknown), None).await.err();
    assert!(matches!(refused, Some(NotBegun::Refused { ref code, .. }) if code == "unknown_run"), "{refused:?}");
    assert_eq!(manager.health().runs, 0, "nothing was begun");
    let ids = interrupts(&whole(&manager, &input).await);
    assert_eq!(code(&whole(&manager, &unknown).await), "not_paused");
    let result = json!({ "id": "mine", "role": "tool", "toolCallId": "c", "content": "1" });
    let mut unasked = input.clone();
    unasked["messages"].as_array_mut().expect("messages").push(result);
    assert_eq!(code(&whole(&manager, &unasked).await), "not_paused");
    assert_eq!(code(&whole(&manager, &answering(&input, json!([cancelled(&ids[0])]))).await), "incomplete");
    let heavy = answering(&input, json!([resolved(&ids[0], &json!("x".repeat(70_000))), cancelled(&ids[1])]));
    let refused = manager.agui(&token(), &asked(&heavy), None).await.err();
    assert!(matches!(refused, Some(NotBegun::TooLarge(_))), "{refused:?}");
    assert_eq!(agent.replies().len(), 0);
    // It waits on, and it can be cancelled.
    assert_eq!(interrupts(&whole(&manager, &input).await), ids);
    assert_eq!(manager.cancel_agui(&token(), &asked(&input)).await, Ok(true));
    let answers = answering(&input, json!([cancelled(&ids[0]), cancelled(&ids[1])]));
    assert_eq!(code(&whole(&manager, &answers).await), "cancelled");
    assert_eq!(code(&whole(&manager, &unknown).await), "not_paused");
    assert_eq!(agent.replies().len(), 0);
}

/// A pause that is not the newest event is found to be answered or not, and each place has its rest.
#[tokio::test(start_paused = true)]
async fn a_stream_through_a_pause_is_resumed_at_any_event() {
    let agent = Asks::default();
    let manager = manager(agent.clone());
    let input = input_with("asks");
    let first = whole(&manager, &input).await;
    let rest = async |whole_one: &[(Place, Value)]| {
        for (index, (place, _)) in whole_one.iter().enumerate() {
            let found = all(&mut begin(&manager, &input, Some(*place)).await).await;
            assert_eq!(essence(&found), essence(&whole_one[index + 1..]), "behind {place}");
        }
    };
    rest(&first).await;
    let mut other = input_with("plain");
    other["threadId"] = "elsewhere".into();
    whole(&manager, &other).await;
    assert_eq!(whole(&manager, &input).await.len(), first.len() + 1, "the state comes again");
    rest(&first).await;
    let ids = interrupts(&first);
    whole(&manager, &answering(&input, json!([cancelled(&ids[0]), cancelled(&ids[1])]))).await;
    let through = whole(&manager, &input).await;
    rest(&through).await;
}
