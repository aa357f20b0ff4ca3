//! Runs that wait for their user: what a server's interrupts and calls of the front end's tools become, and what the
//! server is told when the reply is there.

use std::sync::Arc;

use lockstep::Manager;
use lockstep::agent::agui::AgUi;
use lockstep::log::MemoryLog;
use lockstep::testing::{AnyToken, TestClient};
use serde_json::{Value, json};

use super::*;

/// A gateway in front of a scripted server, and a client of it.
struct Asked {
    server: Server,
    manager: Manager,
    log: Arc<MemoryLog>,
    client: TestClient,
    /// The run that paused.
    run: Value,
}

impl Asked {
    /// A server with these scripts, and a gateway in front of it.
    async fn start(scripts: Vec<Script>) -> Self {
        let server = Server::start(scripts).await;
        let log = Arc::new(MemoryLog::new());
        let manager = gateway(&server, &log);
        let client = connected(&manager, json!("latest")).await;
        Self { server, manager, log, client, run: Value::Null }
    }

    /// Sends a message, and returns the events up to the pause.
    async fn ask(&mut self, payload: Value) -> Vec<Value> {
        let message = json!({ "type": "user_message", "message_id": "m1", "thread_id": "thread", "payload": payload });
        self.client.say(&message.to_string());
        let events = self.until("agent_paused").await;
        self.run = events[0]["run_id"].clone();
        events
    }

    fn reply(&self, pause: u32, payload: &Value) {
        let reply = json!({ "type": "reply", "run_id": self.run, "pause": pause, "payload": payload });
        self.client.say(&reply.to_string());
    }

    /// The events up to one of this type.
    async fn until(&mut self, kind: &str) -> Vec<Value> {
        let events = tokio::time::timeout(PATIENCE, self.client.until(kind)).await.expect("an event");
        assert_eq!(events.last().expect("an event")["type"], kind, "{events:#?}");
        events
    }

    fn bodies(&self) -> Vec<Value> {
        self.server.requests().into_iter().map(|request| request.body).collect()
    }

    fn run_name(&self) -> &str {
        self.run.as_str().expect("a run")
    }
}

fn gateway(server: &Server, log: &Arc<MemoryLog>) -> Manager {
    let agent = AgUi::new(config(server)).expect("a configuration");
    Manager::builder().verifier(AnyToken).agent(agent).log(Arc::clone(log)).build().expect("a manager")
}

async fn connected(manager: &Manager, resume: Value) -> TestClient {
    let mut client = TestClient::connect(manager);
    client.say(&json!({ "type": "auth", "token": "ada", "resume": resume }).to_string());
    let ready = client.until("connection_ready").await;
    assert_eq!(ready.last().expect("a frame")["type"], "connection_ready", "{ready:?}");
    client
}

fn interrupted(interrupts: &Value) -> Value {
    let outcome = json!({ "type": "interrupt", "interrupts": interrupts });
    json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": outcome })
}

/// An approval as Pydantic AI asks for it.
fn approval(call: &str) -> Value {
    json!({ "id": format!("int-{call}"), "reason": "tool_call", "toolCallId": call, "message": format!("Approve {call}?"),
        "responseSchema": { "type": "object" } })
}

/// A run of these events that ends with these interrupts.
fn waits(events: &[Value], interrupts: &Value) -> Script {
    let events = [&[started()], events, &[interrupted(interrupts)]].concat();
    Script::stream(events.iter().map(event).chain([Step::End]))
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).map(|event| &event["data"]).collect()
}

fn made_call(id: &str, name: &str, given: &str) -> [Value; 3] {
    [call(id, name), arguments(id, given), made(id)]
}

fn requested(id: &str, name: &str, arguments: &str) -> Value {
    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
}

#[tokio::test]
async fn an_approval_pauses_the_run_and_the_reply_goes_on_with_it() {
    let first = [
        &[begin("m"), content("m", "I look."), end("m")][..],
        &made_call("c0", "clock", "{}"),
        &[result("c0", "noon")],
        &made_call("c1", "pay", "{\"euros\":5}"),
    ];
    let second = run(&[result("c1", "{\"paid\":5}"), begin("m2"), content("m2", "Paid."), end("m2")]);
    let mut asked = Asked::start(vec![waits(&first.concat(), &json!([approval("c1")])), second]).await;
    let events = asked.ask(json!({ "text": "pay", "agui": { "state": { "a": 1 } } })).await;
    let ask = json!({ "id": "int-c1", "kind": "approval", "message": "Approve c1?", "call_id": "c1", "tool": "pay",
        "arguments": { "euros": 5 }, "schema": { "type": "object" }, "reason": "tool_call" });
    let request = json!({ "message": "Approve c1?", "asks": [ask] });
    assert_eq!(of(&events, "agent_paused"), [&json!({ "pause": 1, "request": request })]);
    assert_eq!(of(&events, "tool_completed").len(), 1, "a call that waits is open: {events:#?}");

    asked.reply(1, &json!({ "answers": { "int-c1": { "approved": true, "reason": "ok" } } }));
    let rest = asked.until("agent_completed").await;
    assert_eq!(of(&rest, "agent_resumed").len(), 1);
    let done = json!({ "tool_id": "t2", "name": "pay", "status": "success", "result": { "paid": 5 } });
    assert_eq!(of(&rest, "tool_completed"), [&done]);
    assert_eq!(of(&rest, "agent_delta"), [&json!({ "part": 2, "kind": "text", "text": "Paid." })]);
    assert_eq!(of(&rest, "agent_completed")[0]["text"], "Paid.");

    let [one, two] = <[_; 2]>::try_from(asked.bodies()).expect("two requests");
    let name = asked.run_name();
    let mut expected = one.clone();
    assert_eq!(one.get("resume"), None);
    expected["runId"] = format!("{name}-2").into();
    expected["resume"] =
        json!([{ "interruptId": "int-c1", "status": "resolved", "payload": { "approved": true, "reason": "ok" } }]);
    let calls = json!([requested("c0", "clock", "{}"), requested("c1", "pay", "{\"euros\":5}")]);
    expected["messages"] = json!([
        { "id": format!("{name}-user"), "role": "user", "content": "pay" },
        { "id": format!("{name}-1"), "role": "assistant", "content": "I look.", "toolCalls": calls },
        { "id": format!("{name}-2"), "role": "tool", "toolCallId": "c0", "content": "noon" },
    ]);
    assert_eq!(two, expected, "the rest is as before");

    asked.reply(1, &json!({ "answers": {} }));
    assert_eq!(asked.until("error").await.pop().expect("a refusal")["code"], "unknown_run");
}

#[tokio::test]
async fn a_tool_of_the_front_end_is_run_by_the_user() {
    let tools =
        json!([{ "name": "colour", "description": "d", "parameters": {} }, { "name": "ask", "description": "d" }]);
    let first = [
        made_call("c1", "colour", "{\"of\":\"sky\"}"),
        made_call("c2", "ask", "{}"),
        made_call("c3", "ask", "{}"),
        made_call("c4", "own", "{}"),
    ];
    let first = [&first.concat()[..], &[result("c4", "mine")]].concat();
    let mut asked = Asked::start(vec![run(&first), run(&[begin("m"), content("m", "Blue."), end("m")])]).await;
    let events = asked.ask(json!({ "text": "sky?", "agui": { "tools": tools } })).await;
    let ask = |id: &str, tool: &str, arguments: Value| json!({ "id": id, "kind": "tool", "tool": tool, "arguments": arguments });
    let asks =
        json!([ask("c1", "colour", json!({ "of": "sky" })), ask("c2", "ask", json!({})), ask("c3", "ask", json!({}))]);
    assert_eq!(of(&events, "agent_paused"), [&json!({ "pause": 1, "request": { "asks": asks } })]);

    asked.reply(1, &json!({ "answers": { "c1": "blue", "c2": { "said": ["yes"] }, "int-c3": true } }));
    let rest = asked.until("agent_completed").await;
    let ends = json!([
        { "tool_id": "t1", "name": "colour", "status": "success", "result": "blue" },
        { "tool_id": "t2", "name": "ask", "status": "success", "result": { "said": ["yes"] } },
        { "tool_id": "t3", "name": "ask", "status": "failure", "error": "no answer" },
    ]);
    assert_eq!(json!(of(&rest, "tool_completed")), ends);

    let [one, two] = <[_; 2]>::try_from(asked.bodies()).expect("two requests");
    assert_eq!((&one["tools"], &two["tools"], two.get("resume")), (&tools, &tools, None));
    let messages = two["messages"].as_array().expect("messages");
    let told: Vec<Value> =
        messages[2..].iter().map(|message| json!([message["toolCallId"], message["content"]])).collect();
    let no_answer = json!({ "error": "no answer" }).to_string();
    assert_eq!(json!(told), json!([["c1", "blue"], ["c2", "{\"said\":[\"yes\"]}"], ["c3", no_answer], ["c4", "mine"]]));
    assert_eq!(messages[1]["toolCalls"].as_array().expect("calls").len(), 4);
    assert_eq!(messages[1].get("content"), None);
}

/// What is no reply approves nothing.
#[tokio::test]
async fn a_reply_that_cannot_be_read_cancels_what_was_asked() {
    for reply in [
        json!("yes"),
        json!(null),
        json!({ "answers": [true] }),
        json!({ "answers": { "int-c": null } }),
        json!({ "int-c": true }),
    ] {
        let question = json!({ "id": "q", "reason": "confirm" });
        let scripts = vec![waits(&made_call("c", "pay", "{}"), &json!([approval("c"), question])), run(&[])];
        let mut asked = Asked::start(scripts).await;
        let events = asked.ask(json!("pay")).await;
        let asks = of(&events, "agent_paused")[0]["request"]["asks"].as_array().expect("asks").clone();
        let kinds: Vec<&Value> = asks.iter().map(|ask| &ask["kind"]).collect();
        assert_eq!(kinds, ["approval", "question"]);
        asked.reply(1, &reply);
        asked.until("agent_completed").await;
        let cancelled = |id: &str| json!({ "interruptId": id, "status": "cancelled" });
        assert_eq!(asked.bodies()[1]["resume"], json!([cancelled("int-c"), cancelled("q")]), "{reply}");
    }
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_it_waits_posts_nothing_more() {
    let mut asked = Asked::start(vec![waits(&made_call("c", "pay", "{}"), &json!([approval("c")])), run(&[])]).await;
    asked.ask(json!("pay")).await;
    asked.client.say(&json!({ "type": "cancel", "run_id": asked.run }).to_string());
    let rest = asked.until("agent_error").await;
    assert_eq!(of(&rest, "agent_error")[0]["reason"], "cancelled");
    assert_eq!(of(&rest, "tool_completed").len(), 1, "the open call is closed: {rest:#?}");
    asked.reply(1, &json!({ "answers": { "int-c": { "approved": true } } }));
    assert_eq!(asked.until("error").await.pop().expect("a refusal")["code"], "unknown_run");
    assert_eq!(asked.bodies().len(), 1);
}

#[tokio::test]
async fn a_reply_after_a_restart_goes_on_with_the_run() {
    let scripts = vec![
        waits(&made_call("c", "pay", "{}"), &json!([approval("c")])),
        run(&[result("c", "paid"), begin("m"), content("m", "Paid."), end("m")]),
    ];
    let mut asked = Asked::start(scripts).await;
    asked.ask(json!("pay")).await;
    asked.manager.drain().await;
    asked.manager = gateway(&asked.server, &asked.log);
    asked.client = connected(&asked.manager, json!("earliest")).await;
    asked.until("agent_paused").await;
    asked.reply(1, &json!({ "answers": { "int-c": { "approved": true } } }));
    let rest = asked.until("agent_completed").await;
    assert_eq!(of(&rest, "tool_completed")[0]["tool_id"], "t1");
    let two = &asked.bodies()[1];
    assert_eq!(two["messages"][1]["toolCalls"], json!([requested("c", "pay", "{}")]));
    assert_eq!(two["resume"][0]["status"], "resolved");
}

/// A server may wait again, with the same ids, announce its call again, and repeat in a snapshot what it has said.
#[tokio::test]
async fn a_run_may_wait_more_than_once() {
    let pay = made_call("c", "pay", "{}");
    let text = [begin("m"), content("m", "May I?"), end("m")];
    let snapshot =
        json!({ "type": "MESSAGES_SNAPSHOT", "messages": [{ "id": "m", "role": "assistant", "content": "May I?" }] });
    let scripts = vec![
        waits(&[&text[..], &pay].concat(), &json!([approval("c")])),
        waits(&pay, &json!([approval("c")])),
        run(&[result("c", "paid"), snapshot]),
    ];
    let mut asked = Asked::start(scripts).await;
    asked.ask(json!("pay")).await;
    asked.reply(1, &json!({ "answers": { "int-c": { "approved": true } } }));
    let again = asked.until("agent_paused").await;
    assert_eq!(of(&again, "tool_executing"), [] as [&Value; 0], "the call is known");
    let paused = of(&again, "agent_paused")[0];
    assert_eq!((&paused["pause"], &paused["request"]["asks"][0]["tool"]), (&json!(2), &json!("pay")));
    asked.reply(1, &json!({ "answers": {} }));
    assert_eq!(asked.until("error").await.pop().expect("a refusal")["code"], "not_paused");
    asked.reply(2, &json!({ "answers": {} }));
    let rest = asked.until("agent_completed").await;
    assert_eq!((of(&rest, "tool_completed").len(), of(&rest, "agent_delta").len()), (1, 0), "{rest:#?}");
    let bodies = asked.bodies();
    let ids: Vec<&Value> = bodies.iter().map(|body| &body["runId"]).collect();
    let name = asked.run_name();
    assert_eq!(ids, [&json!(name), &json!(format!("{name}-2")), &json!(format!("{name}-3"))]);
    assert_eq!(bodies[1]["messages"], bodies[2]["messages"]);
    assert_eq!(bodies[2]["resume"][0]["status"], "cancelled");
}

/// An earlier turn's approvals are told by its calls, and its questions as what was said.
#[tokio::test]
async fn a_later_turn_is_told_what_was_asked() {
    let question = json!([{ "id": "q", "reason": "input_required", "message": "Who?" }]);
    let scripts = vec![
        waits(&made_call("c", "pay", "{}"), &json!([approval("c")])),
        waits(&[result("c", "paid")], &question),
        run(&[begin("m"), content("m", "Done."), end("m")]),
        run(&[]),
    ];
    let mut asked = Asked::start(scripts).await;
    asked.ask(json!("pay")).await;
    asked.reply(1, &json!({ "answers": { "int-c": { "approved": true } } }));
    asked.until("agent_paused").await;
    asked.reply(2, &json!({ "answers": { "q": "Bob" } }));
    asked.until("agent_completed").await;
    let message = json!({ "type": "user_message", "message_id": "m2", "thread_id": "thread", "payload": "and?" });
    asked.client.say(&message.to_string());
    asked.until("agent_completed").await;
    let messages = asked.bodies()[3]["messages"].as_array().expect("messages").clone();
    let said: Vec<Value> = messages.iter().map(|message| json!([message["role"], message["content"]])).collect();
    let expected = json!([
        ["user", "pay"],
        ["assistant", null],
        ["tool", "\"paid\""],
        ["assistant", "Who?"],
        ["user", "{\"answers\":{\"q\":\"Bob\"}}"],
        ["assistant", "Done."],
        ["user", "and?"],
    ]);
    assert_eq!(json!(said), expected);
}

#[tokio::test]
async fn an_interrupt_that_cannot_be_answered_ends_the_run() {
    let ends = |interrupts: Value| begun([event(&interrupted(&interrupts))]);
    let growing = [call("c", "pay"), arguments("c", "{\"euros\":")];
    for script in [
        ends(json!([])),
        ends(Value::Null),
        ends(json!([{ "reason": "no id" }])),
        ends(json!(["text"])),
        ends(json!([{ "id": "i", "reason": "a" }, { "id": "i", "reason": "b" }])),
        begun(growing.iter().chain([&interrupted(&json!([approval("c")]))]).map(event).collect::<Vec<_>>()),
    ] {
        let events = ask(script).await;
        assert_eq!(events.last().expect("an end").data["code"], "protocol", "{events:#?}");
    }
    let heavy = json!([{ "id": "i", "reason": "x", "message": "x".repeat(300_000) }]);
    assert_eq!(failed(&ask(ends(heavy)).await), "the agent's answer is too long");
}
