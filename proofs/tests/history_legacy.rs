//! Histories of clients of the older protocol, with one planted contradiction each, and without.

use lockstep_proofs::history::check;
use serde_json::{Value, json};

fn fact(client: &str, fact: &str, frame: &Value) -> Value {
    json!({ "at": 0, "client": client, "socket": 1, "fact": fact, "frame": frame })
}

fn received(client: &str, frame: &Value) -> Value {
    fact(client, "received", frame)
}

fn established(user: &str, offset: u64) -> Value {
    let payload = json!({ "connection_id": "00", "user_id": user, "epoch": 7, "offset": offset, "resumed": true, "limits": { "concurrency": "queue" } });
    json!({ "type": "connection_established", "user_id": user, "connection_ready": true, "payload": payload, "data": payload })
}

fn handshake(user: &str) -> Value {
    let payload = json!({ "thread_id": "t" });
    json!({ "type": "handshake_response", "user_id": user, "thread_id": "t", "payload": payload, "data": payload })
}

fn event(user: &str, kind: &str, offset: u64, run: &str, payload: &Value) -> Value {
    json!({
        "type": kind, "run_id": run, "user_id": user, "agent_name": "assistant", "thread_id": "t", "timestamp": 5,
        "message_id": format!("7:{offset}"), "previous_id": format!("7:{}", offset - 1), "payload": payload, "data": payload,
    })
}

/// The events of a run, as a connection reads them that was told what came before (`knows`) or was not.
fn run(user: &str, run: &str, knows: bool) -> Vec<Value> {
    let time = if knows { json!(5) } else { Value::Null };
    [
        ("message_received", json!({ "message_id": "m1", "payload": "hi" })),
        ("agent_started", json!({ "status": "started", "message": "x" })),
        ("agent_thinking", json!({ "reasoning": "hm", "step_number": if knows { 1 } else { 4 } })),
        ("tool_executing", json!({ "tool_id": "t1", "tool_name": "clock", "parameters": {} })),
        ("tool_completed", json!({ "tool_id": "t1", "tool_name": if knows { "clock" } else { "" }, "result": 1, "execution_time_ms": time })),
        ("partial_result", json!({ "content": "It is ", "part": 1, "is_complete": false })),
        ("partial_result", json!({ "content": "noon.", "part": 1, "is_complete": false })),
        ("agent_completed", json!({ "result": if knows { "It is noon." } else { "" }, "execution_time_ms": time })),
    ]
    .into_iter()
    .zip(1..)
    .map(|((kind, payload), offset)| event(user, kind, offset, run, &payload))
    .collect()
}

/// A client that is cut after five events and restores, another one that reads everything, and another user.
fn history() -> Vec<Value> {
    let all = run("ada", "r1", true);
    let mut lines = vec![
        fact("a1", "open", &Value::Null),
        received("a1", &established("ada", 0)),
        received("a1", &handshake("ada")),
    ];
    lines.push(fact(
        "a1",
        "sent",
        &json!({ "type": "start_agent", "payload": { "user_request": "hi", "thread_id": "t" } }),
    ));
    lines.extend(all[..5].iter().map(|event| received("a1", event)));
    lines.push(fact("a1", "closed", &Value::Null));
    lines.push(fact("a2", "open", &Value::Null));
    lines.push(fact(
        "a2",
        "sent",
        &json!({ "type": "session_restore", "payload": { "threadId": "t", "lastMessageId": "7:5" } }),
    ));
    lines.extend([received("a2", &established("ada", 8)), received("a2", &handshake("ada"))]);
    lines.extend(run("ada", "r1", false)[5..].iter().map(|event| received("a2", event)));
    lines.extend([fact("a3", "open", &Value::Null), received("a3", &established("ada", 0))]);
    lines.extend(all.iter().map(|event| received("a3", event)));
    lines.extend([
        fact("b", "open", &Value::Null),
        received("b", &handshake("bob")),
        received("b", &established("bob", 0)),
    ]);
    lines.extend(run("bob", "r2", true).iter().map(|event| received("b", event)));
    lines
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn properties(lines: &[Value]) -> Vec<&'static str> {
    let findings = check(text(lines).as_bytes()).expect("a history");
    findings.contradictions.iter().map(|found| found.property).collect()
}

/// The line of the `nth` event of this type on a socket.
fn line(lines: &[Value], client: &str, kind: &str, nth: usize) -> usize {
    let of = |line: &Value| line["client"] == client && line["frame"]["type"] == kind;
    (0..lines.len()).filter(|index| of(&lines[*index])).nth(nth).expect("an event")
}

#[test]
fn a_correct_history_has_no_contradictions() {
    let findings = check(text(&history()).as_bytes()).expect("a history");
    assert_eq!(findings.contradictions, []);
    assert_eq!((findings.sockets, findings.events), (4, 24));
}

#[test]
fn each_planted_violation_is_found_by_its_property() {
    let plant = |plant: &dyn Fn(&mut Vec<Value>)| {
        let mut lines = history();
        plant(&mut lines);
        properties(&lines)
    };
    let at = |client: &str, kind: &str, nth: usize| line(&history(), client, kind, nth);
    let started = at("a3", "agent_started", 0);
    assert_eq!(plant(&|lines| drop(lines.remove(started)))[0], "STR-1", "dropped");
    assert_eq!(plant(&|lines| lines.insert(started, lines[started].clone()))[0], "STR-1", "doubled");
    assert_eq!(plant(&|lines| lines.swap(started, started + 1))[0], "STR-1", "reordered");
    let restore = at("a2", "session_restore", 0);
    assert_eq!(plant(&|lines| drop(lines.remove(restore)))[0], "STR-1", "it was not asked to read from there");
    assert_eq!(
        plant(&|lines| lines[restore]["frame"]["payload"]["lastMessageId"] = json!("7:3"))[0],
        "STR-1",
        "it read on elsewhere"
    );
    let piece = at("a3", "partial_result", 1);
    assert_eq!(plant(&|lines| lines[piece]["frame"]["payload"]["content"] = json!("two."))[0], "STR-3");
    let tool = at("a3", "tool_completed", 0);
    assert_eq!(plant(&|lines| lines[tool]["frame"]["payload"]["tool_id"] = json!("t2"))[0], "STR-2");
    let end = at("a3", "agent_completed", 0);
    assert_eq!(plant(&|lines| lines[end]["frame"]["user_id"] = json!("bob")), ["ISO-1"]);
    assert!(plant(&|lines| lines[end]["frame"]["run_id"] = json!("r2")).contains(&"ISO-1"));
    let established = at("b", "connection_established", 0);
    assert_eq!(plant(&|lines| drop(lines.remove(established)))[0], "AUTH-1");
    let bob = at("b", "tool_completed", 0);
    let never = |lines: &mut Vec<Value>| {
        lines[bob]["frame"]["type"] = json!("agent_thinking");
    };
    assert_eq!(plant(&never), ["RUN-1"], "a run ends with a tool that executes");
}

/// Two connections may be told one answer with and without its text, but not with two texts.
#[test]
fn two_texts_of_one_answer_are_refused() {
    let mut lines = history();
    let end = line(&lines, "a2", "agent_completed", 0);
    lines[end]["frame"]["payload"]["result"] = json!("It is noon.");
    assert_eq!(properties(&lines), [""; 0]);
    lines[end]["frame"]["payload"]["result"] = json!("It is two.");
    assert_eq!(properties(&lines), ["STR-2"]);
}

/// A place that cannot be read from is answered with a gap.
#[test]
fn a_gap_answers_a_place_that_is_gone() {
    let mut lines = vec![fact("a", "open", &Value::Null), received("a", &established("ada", 3))];
    lines.push(fact("a", "sent", &json!({ "type": "session_restore", "payload": { "lastMessageId": "6:90" } })));
    lines.push(received(
        "a",
        &json!({ "type": "stream_reset", "payload": { "from": 90, "to": 4 }, "data": { "from": 90, "to": 4 } }),
    ));
    lines.push(received("a", &run("ada", "r1", true)[4]));
    assert_eq!(properties(&lines), [""; 0]);
    lines.remove(2);
    assert_eq!(properties(&lines), ["STR-1"]);
}

/// The events of the gateway that this one replaces have no place.
fn before() -> Vec<Value> {
    let welcome = json!({ "type": "connection_established", "data": { "user_id": "ada", "connection_ready": true } });
    let mut lines = vec![fact("a", "open", &Value::Null), received("a", &welcome)];
    for (kind, payload) in [
        ("agent_started", json!({ "status": "started" })),
        ("agent_thinking", json!({ "reasoning": "hm" })),
        ("tool_executing", json!({ "tool_name": "clock" })),
        ("tool_completed", json!({ "tool_name": "clock", "result": 1 })),
        ("agent_completed", json!({ "result": "noon" })),
    ] {
        lines.push(received(
            "a",
            &json!({ "type": kind, "run_id": "r1", "user_id": "ada", "message_id": kind, "payload": payload }),
        ));
    }
    lines
}

#[test]
fn events_without_a_place_follow_the_grammar_on_their_socket() {
    assert_eq!(properties(&before()), [""; 0]);
    let plant = |plant: &dyn Fn(&mut Vec<Value>)| {
        let mut lines = before();
        plant(&mut lines);
        properties(&lines)
    };
    assert_eq!(plant(&|lines| lines.insert(3, lines[2].clone())), ["STR-1"], "doubled");
    assert_eq!(plant(&|lines| drop(lines.remove(5))), ["RUN-1"], "a tool that does not end");
    assert_eq!(plant(&|lines| lines.swap(4, 5)), ["RUN-1", "RUN-1"], "a tool that ends before it begins");
    assert_eq!(plant(&|lines| lines.swap(5, 6)), ["RUN-1", "RUN-1"], "an event after the end");
    assert_eq!(plant(&|lines| lines[4]["frame"]["user_id"] = json!("bob")), ["ISO-1"]);
    assert_eq!(plant(&|lines| drop(lines.remove(1)))[0], "AUTH-1");
}

/// A user may have clients of both protocols. Their frames say the same in different members.
#[test]
fn an_event_may_be_read_in_both_protocols() {
    let newer = |client: &str, kind: &str, run: &str| {
        let ready = json!({ "type": "connection_ready", "user_id": "ada", "epoch": 7, "offset": 1, "resumed": true });
        let event = json!({
            "type": kind, "run_id": run, "thread_id": "t", "timestamp": 5, "offset": 2, "previous": 1, "data": {},
        });
        [fact(client, "open", &Value::Null), received(client, &ready), received(client, &event)]
    };
    let older = [
        fact("a", "open", &Value::Null),
        received("a", &established("ada", 1)),
        received("a", &event("ada", "agent_started", 2, "00000000000000aa", &json!({ "status": "started" }))),
    ];
    let judged = |kind: &str, run: &str| {
        let lines: Vec<Value> = older.iter().cloned().chain(newer("b", kind, run)).collect();
        check(text(&lines).as_bytes()).expect("a history").contradictions.len()
    };
    assert_eq!(judged("agent_started", "00000000000000aa"), 0);
    assert!(judged("agent_thinking", "00000000000000aa") > 0, "another kind");
    assert!(judged("agent_started", "00000000000000bb") > 0, "another run");
}
