//! The adapter to AG-UI agents: what it sends, what it makes of a run, and servers that are slow, cut, out of order,
//! endless or wrong.

use std::sync::Arc;
use std::time::Duration;

use lockstep::agent::agui::{AgUi, Config, ConfigError, Token};
use lockstep::agent::testing::{Event, Recorder};
use lockstep::agent::{Agent, End, Step as HistoryStep, ToolCall, Turn};
use lockstep_model::run::{Ending, Kind, Reason, ToolEnd};
use lockstep_model::{Bounds, RunId};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tracing_subscriber::util::SubscriberInitExt;

use super::server::{Script, Server, Step, event};
use super::{PATIENCE, answer, completed, failed, texts, tools};
use crate::hostile::Pages;

mod pausing;

const TOKEN: &str = "agent-token-very-secret";

fn config(server: &Server) -> Config {
    let mut config = Config::new(&server.url());
    config.token = Some(Token::new(TOKEN).expect("a token"));
    (config.backoff, config.retries, config.proxy) = (Duration::from_millis(1), 2, false);
    config
}

async fn ask_with(config: Config, recorder: &Arc<Recorder>) -> Vec<Event> {
    let agent = AgUi::new(config).expect("a configuration");
    let events = answer(&agent, Recorder::message("hello"), recorder).await;
    assert!(!format!("{events:?}").contains("secret"), "no event shows the token: {events:#?}");
    let ends = events.iter().filter(|event| matches!(event.kind, Kind::Completed | Kind::Error(_))).count();
    assert_eq!(ends, 1, "one end: {events:#?}");
    events
}

async fn ask(script: Script) -> Vec<Event> {
    let server = Server::start(vec![script]).await;
    ask_with(config(&server), &Recorder::new(Vec::new())).await
}

fn chunk(data: &str) -> Step {
    Step::Chunk(format!("data: {data}\n\n").into_bytes())
}

fn started() -> Value {
    json!({ "type": "RUN_STARTED", "threadId": "t", "runId": "r" })
}

fn finished() -> Value {
    json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r" })
}

fn begin(message: &str) -> Value {
    json!({ "type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant" })
}

fn content(message: &str, delta: &str) -> Value {
    json!({ "type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": delta })
}

fn end(message: &str) -> Value {
    json!({ "type": "TEXT_MESSAGE_END", "messageId": message })
}

fn call(id: &str, name: &str) -> Value {
    json!({ "type": "TOOL_CALL_START", "toolCallId": id, "toolCallName": name })
}

fn arguments(id: &str, delta: &str) -> Value {
    json!({ "type": "TOOL_CALL_ARGS", "toolCallId": id, "delta": delta })
}

fn made(id: &str) -> Value {
    json!({ "type": "TOOL_CALL_END", "toolCallId": id })
}

fn result(id: &str, content: &str) -> Value {
    json!({ "type": "TOOL_CALL_RESULT", "messageId": "x", "toolCallId": id, "content": content })
}

/// A run of these events, between its start and its end.
fn run(events: &[Value]) -> Script {
    let events = [&[started()], events, &[finished()]].concat();
    Script::stream(events.iter().map(event).chain([Step::End]))
}

/// Steps of a run that has started.
fn begun(steps: impl IntoIterator<Item = Step>) -> Script {
    Script::stream([event(&started())].into_iter().chain(steps))
}

fn kinds(events: &[Event]) -> Vec<Kind> {
    events.iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn a_run_is_shown_with_its_thoughts_tools_and_text() {
    let events = ask(run(&[
        json!({ "type": "REASONING_START", "messageId": "n" }),
        json!({ "type": "REASONING_MESSAGE_START", "messageId": "n", "role": "reasoning" }),
        json!({ "type": "REASONING_MESSAGE_CONTENT", "messageId": "n", "delta": "Hm." }),
        json!({ "type": "REASONING_MESSAGE_END", "messageId": "n" }),
        json!({ "type": "REASONING_END", "messageId": "n" }),
        begin("m"),
        content("m", "I look"),
        content("m", " it up."),
        end("m"),
        call("c", "search"),
        arguments("c", "{\"words\":"),
        arguments("c", "[\"tea\"]}"),
        made("c"),
        result("c", "{\"found\":1}"),
        begin("m2"),
        content("m2", "It is tea."),
        end("m2"),
    ]))
    .await;
    assert_eq!(completed(&events), "It is tea.");
    assert_eq!(texts(&events, "reasoning").concat(), "Hm.");
    assert_eq!(texts(&events, "text").concat(), "I look it up.It is tea.");
    let opening = events.iter().find(|event| matches!(event.kind, Kind::ToolExecuting(_))).expect("a call");
    assert_eq!(
        opening.data,
        json!({ "tool_id": "t1", "call_id": "c", "name": "search", "arguments": { "words": ["tea"] } })
    );
    let (name, ended, data) = tools(&events).remove(0);
    assert_eq!((name.as_str(), ended, &data["result"]), ("search", ToolEnd::Success, &json!({ "found": 1 })));
}

#[tokio::test]
async fn chunks_and_earlier_names_mean_the_same() {
    let events = ask(run(&[
        json!({ "type": "THINKING_START", "title": "x" }),
        json!({ "type": "THINKING_TEXT_MESSAGE_START" }),
        json!({ "type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "Hm." }),
        json!({ "type": "THINKING_TEXT_MESSAGE_END" }),
        json!({ "type": "THINKING_END" }),
        json!({ "type": "TOOL_CALL_CHUNK", "toolCallId": "c", "toolCallName": "clock", "delta": "{" }),
        json!({ "type": "TOOL_CALL_CHUNK", "delta": "}" }),
        result("c", "noon"),
        json!({ "type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "It is " }),
        json!({ "type": "TEXT_MESSAGE_CHUNK", "delta": "noon." }),
    ]))
    .await;
    assert_eq!((completed(&events).as_str(), texts(&events, "reasoning").concat().as_str()), ("It is noon.", "Hm."));
    assert_eq!(tools(&events)[0].2["result"], "noon");
}

/// What is neither text nor tool is passed on, in order; what is not known is ignored.
#[tokio::test]
async fn states_and_custom_events_are_passed_on() {
    let state = json!({ "type": "STATE_SNAPSHOT", "snapshot": { "a": 1 } });
    let delta = json!({ "type": "STATE_DELTA", "delta": [{ "op": "replace", "path": "/a", "value": 2 }] });
    let custom = json!({ "type": "CUSTOM", "name": "mine", "value": [1] });
    let mut heavy = json!({ "type": "STATE_SNAPSHOT", "snapshot": "x".repeat(70_000) });
    let sent = [
        state.clone(),
        delta.clone(),
        custom.clone(),
        json!({ "type": "STEP_STARTED", "stepName": "one" }),
        json!({ "type": "RAW", "event": {} }),
        json!({ "type": "FROM_THE_FUTURE", "anything": 1 }),
        heavy.clone(),
    ];
    let events = ask(run(&sent)).await;
    assert_eq!(completed(&events), "");
    let passed: Vec<Value> =
        events.iter().filter(|event| event.kind == Kind::Thinking).map(|event| event.data["agui"].clone()).collect();
    let length = heavy.to_string().len();
    heavy = json!({ "type": "STATE_SNAPSHOT", "bytes": length });
    assert_eq!(passed, [state, delta, custom, sent[3].clone(), heavy]);
}

/// Some servers do not stream, and some say how much they have used.
#[tokio::test]
async fn an_answer_may_come_in_a_snapshot() {
    let messages =
        json!([{ "id": "1", "role": "user", "content": "?" }, { "id": "2", "role": "assistant", "content": "Yes." }]);
    let snapshot = json!({ "type": "MESSAGES_SNAPSHOT", "messages": messages });
    let usage = json!([{ "model": "tiny", "outputTokens": 7 }]);
    let last =
        json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r", "usage": usage, "result": { "ok": true } });
    let script = begun([event(&snapshot), event(&last), Step::End]);
    let events = ask(script).await;
    assert_eq!(texts(&events, "text").concat(), "Yes.");
    let data = &events.last().expect("an end").data;
    assert_eq!(*data, json!({ "text": "Yes.", "usage": usage, "result": { "ok": true } }));
}

fn said(text: &str, run: u64, steps: Vec<HistoryStep>) -> Turn {
    let end = End::Completed(to_raw_value(&json!({ "text": "It is 2." })).expect("JSON"));
    let mut turn = Turn::new(RunId(run), to_raw_value(text).expect("JSON"));
    (turn.steps, turn.end) = (steps, Some(end));
    turn
}

#[tokio::test]
async fn the_request_is_what_the_protocol_wants_with_ids_that_stay() {
    let mut call = ToolCall::new("t1".into(), "calculator".into(), r#"{"expression":"1+1"}"#.into());
    (call.call_id, call.result) = (Some("call-7".into()), Some(Ok("2".into())));
    let history = vec![said("what is 1+1?", 0xab, vec![HistoryStep::Tool(call), HistoryStep::Text("It is 2.".into())])];
    let server = Server::start(vec![run(&[]), run(&[])]).await;
    let agent = AgUi::new(config(&server)).expect("a configuration");
    let payload = json!({ "text": "and 2+2?", "agui": { "state": { "a": 1 }, "context": [{ "description": "d", "value": "v" }],
        "forwardedProps": { "mine": 1, "lockstep": "forged" } } });
    let payload = RawValue::from_string(payload.to_string()).expect("JSON");
    let message = |subject: &str| {
        let mut message = Recorder::message("");
        (message.subject, message.payload) = (subject.into(), payload.clone());
        message
    };
    for subject in ["ada", "bea"] {
        completed(&answer(&agent, message(subject), &Recorder::new(history.clone())).await);
    }
    let [ada, bea] = <[_; 2]>::try_from(server.requests()).expect("two requests");
    assert!(ada.head.starts_with("post /agent http/1.1"), "{}", ada.head);
    assert!(ada.head.contains(&format!("authorization: bearer {TOKEN}")) && ada.head.contains("text/event-stream"));
    let run = "00000000000000ab";
    let function = json!({ "name": "calculator", "arguments": r#"{"expression":"1+1"}"# });
    let call = json!({ "id": format!("{run}-t1"), "type": "function", "function": function });
    assert_eq!(
        ada.body["messages"],
        json!([
            { "id": format!("{run}-user"), "role": "user", "content": "what is 1+1?" },
            { "id": format!("{run}-1"), "role": "assistant", "toolCalls": [call] },
            { "id": format!("{run}-2"), "role": "tool", "toolCallId": format!("{run}-t1"), "content": "2" },
            { "id": format!("{run}-3"), "role": "assistant", "content": "It is 2." },
            { "id": "0000000000000001-user", "role": "user", "content": "and 2+2?" },
        ])
    );
    assert_eq!((&ada.body["runId"], &ada.body["tools"]), (&json!("0000000000000001"), &json!([])));
    assert_eq!(ada.body["state"], json!({ "a": 1 }));
    assert_eq!(ada.body["context"], json!([{ "description": "d", "value": "v" }]));
    let told = json!({ "user": "ada", "thread": "thread", "message": "m1" });
    assert_eq!(ada.body["forwardedProps"], json!({ "mine": 1, "lockstep": told }), "the gateway's word counts");
    // ISO-1: two users' threads of one name are two threads.
    let threads = [&ada, &bea].map(|request| request.body["threadId"].as_str().expect("a thread").to_owned());
    assert!(threads[0] != threads[1] && threads[0].len() == 32, "{threads:?}");
}

/// Each order that AG-UI forbids ends the run once, and tells the operator what was wrong.
#[tokio::test]
async fn a_forbidden_order_ends_the_run_and_the_operator_learns_why() {
    let pages = Pages::default();
    let pen = pages.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
    let _reading = subscriber.with_writer(move || pen.clone()).finish().set_default();
    let late = |events: &[Value]| begun(events.iter().map(event).collect::<Vec<_>>());
    for (script, why) in [
        (late(&[content("m", "x")]), r#"message \"m\" has not started"#),
        (late(&[begin("m"), begin("m")]), r#"message \"m\" has already started"#),
        (late(&[end("m")]), r#"message \"m\" has not started"#),
        (late(&[arguments("c", "{}")]), r#"tool call \"c\" has not started"#),
        (late(&[made("c")]), r#"tool call \"c\" has not started"#),
        (late(&[call("c", "a"), call("c", "a")]), r#"tool call \"c\" has already started"#),
        (late(&[call("c", "a"), made("c"), arguments("c", "{}")]), r#"the arguments of \"c\" are complete"#),
        (late(&[started()]), "the run has already started"),
        (late(&[json!({ "type": "TEXT_MESSAGE_START" })]), "`messageId` is missing"),
        (late(&[json!({ "no": "type" })]), "an event has no `type`"),
        (Script::stream([event(&begin("m"))]), "the first event must be RUN_STARTED"),
        (begun([chunk("{\"type\":")]), "an event is not a JSON object"),
        (begun([chunk("[]")]), "an event is not a JSON object"),
        (late(&[content(TOKEN, "x")]), r#"message \"[key]\" has not started"#),
    ] {
        let events = ask(script).await;
        assert_eq!(failed(&events), "the agent's server sent an invalid response", "{why}");
        assert_eq!(events.last().expect("an end").data["code"], "protocol");
        assert!(pages.text().contains(why), "{why}: {}", pages.text());
    }
    assert!(!pages.text().contains(TOKEN), "{}", pages.text());
}

/// A result says that its call's arguments are complete; the call's own end may come later.
#[tokio::test]
async fn a_result_before_the_end_of_its_call_ends_both() {
    let events =
        ask(run(&[call("c", "clock"), arguments("c", "{}"), result("c", "noon"), made("c"), result("c", "again")]))
            .await;
    completed(&events);
    assert_eq!(tools(&events).len(), 1, "{events:#?}");
    // The same id may be used once more afterwards, and a result without a call is not shown.
    let twice = [call("c", "clock"), made("c"), result("c", "noon")];
    let events = ask(run(&[&twice[..], &twice, &[result("unknown", "x")]].concat())).await;
    assert_eq!(tools(&events).len(), 2, "{events:#?}");
}

#[tokio::test]
async fn a_tool_without_an_end_is_closed_with_the_run() {
    // Without a result; without even an end of its arguments.
    for steps in [vec![call("c", "clock"), made("c")], vec![call("c", "clock"), arguments("c", "{}")]] {
        let events = ask(run(&steps)).await;
        let abandoned = ToolEnd::Abandoned(Ending::Completed);
        assert!(
            matches!(kinds(&events)[..], [Kind::Started, Kind::ToolExecuting(_), Kind::ToolCompleted(_, end), Kind::Completed] if end == abandoned),
            "{events:#?}"
        );
    }
    // The server fails while the tool runs.
    let events = ask(begun([
        event(&call("c", "clock")),
        event(&made("c")),
        event(&json!({ "type": "RUN_ERROR", "message": TOKEN, "code": "rate_limit" })),
    ]))
    .await;
    assert_eq!(failed(&events), "the agent reported an error: rate_limit");
    assert!(kinds(&events).iter().any(|kind| matches!(kind, Kind::ToolCompleted(_, ToolEnd::Abandoned(_)))));
}

#[tokio::test]
async fn what_follows_the_end_is_not_read() {
    let late = json!({ "type": "RUN_ERROR", "message": "late" });
    let together = format!("data: {}\n\ndata: {{garbage\n\ndata: {late}\n\n", finished());
    let said = [event(&begin("m")), event(&content("m", "all")), event(&end("m"))];
    let script =
        begun(said.into_iter().chain([Step::Chunk(together.into()), event(&content("m", "more")), Step::Silence]));
    let server = Server::start(vec![script]).await;
    let events = ask_with(config(&server), &Recorder::new(Vec::new())).await;
    assert_eq!(completed(&events), "all");
    server.closed().await;
}

#[tokio::test]
async fn a_run_that_breaks_off_is_no_answer() {
    let half = || [event(&begin("m")), event(&content("m", "half an ans"))];
    for rest in [
        vec![],
        vec![Step::End],
        // In mid-event.
        vec![Step::Chunk(b"data: {\"type\":\"TEXT_MESSAGE_CONT".to_vec())],
        vec![Step::Chunk(format!("data: {}\n", finished()).into()), Step::End],
    ] {
        let events = ask(begun(half().into_iter().chain(rest))).await;
        assert_eq!(failed(&events), "the agent's answer ended unexpectedly");
        assert_eq!(texts(&events, "text").concat(), "half an ans", "what was said was said");
    }
    let outcome =
        |kind: &str| json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": { "type": kind } });
    assert_eq!(failed(&ask(begun([event(&outcome("cancelled"))])).await), "the agent stopped before it had answered");
}

#[tokio::test]
async fn refusals_are_told_without_what_the_server_wrote() {
    let body = json!({ "detail": format!("not with {TOKEN}") }).to_string();
    for (status, message, requests) in [
        ("401 Unauthorized", "the agent's server does not accept the gateway's token", 1),
        ("500 Internal Server Error", "the agent's server refused the request (status 500)", 1),
        ("422 Unprocessable Entity", "the agent's server refused the request (status 422)", 1),
        ("307 Temporary Redirect", "the agent's server refused the request (status 307)", 1),
        ("429 Too Many Requests", "the agent's server is busy (status 429)", 3),
        ("503 Service Unavailable", "the agent's server refused the request (status 503)", 3),
    ] {
        let scripts = (0..3).map(|_| Script::status(status, "location: /elsewhere\r\n", &body)).collect();
        let server = Server::start(scripts).await;
        let events = ask_with(config(&server), &Recorder::new(Vec::new())).await;
        assert_eq!((failed(&events).as_str(), server.requests().len()), (message, requests));
    }
    let busy = Script::status("429 Too Many Requests", "retry-after: 3600\r\n", "{}");
    assert_eq!(failed(&ask(busy).await), "the agent's server is busy for another 3600 seconds");
    let page = Script::status("200 OK", "", "{}");
    assert_eq!(failed(&ask(page).await), "the agent's server did not answer with an event stream");
    // A run may have begun, so it is not asked for again.
    assert_eq!(failed(&ask(Script::hang_up()).await), "the agent's server closed the connection without an answer");
    let mut nowhere = Config::new("http://127.0.0.1:1/");
    (nowhere.backoff, nowhere.proxy) = (Duration::from_millis(1), false);
    let events = ask_with(nowhere, &Recorder::new(Vec::new())).await;
    assert_eq!(failed(&events), "the agent's server cannot be reached");
    assert_eq!(texts(&events, "remark").len(), 3);
}

#[tokio::test]
async fn what_is_too_long_is_left() {
    let too_long = "the agent's answer is too long";
    let line = (0..40).map(|_| Step::Chunk(vec![b'x'; 32 << 10])).chain([Step::Silence]);
    assert_eq!(failed(&ask(begun(line)).await), too_long);
    let endless =
        (0..9).map(|_| Step::Chunk([b": ".as_slice(), &[b'x'; 8_000], b"\n\n"].concat())).chain([Step::Silence]);
    let server = Server::start(vec![begun(endless)]).await;
    let mut bounded = config(&server);
    bounded.max_answer_bytes = 64_000;
    assert_eq!(failed(&ask_with(bounded, &Recorder::new(Vec::new())).await), too_long);
    server.closed().await;
}

/// A server may be silent as long as the settings say, and longer while a tool runs. Time is virtual.
#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left_when_its_time_is_over() {
    let second = Duration::from_secs(1);
    let tool = || [event(&call("c", "slow")), event(&made("c"))];
    for (steps, silence, answered) in
        [(Vec::new(), 299, true), (Vec::new(), 301, false), (tool().into(), 599, true), (tool().into(), 601, false)]
    {
        let script = begun(steps.into_iter().chain([Step::Pause(second * silence), event(&finished()), Step::End]));
        let server = Server::start(vec![script]).await;
        let recorder = Recorder::watched(Bounds { silence: second * 60, deadline: second * 3_600, ..Bounds::DEFAULT });
        let agent = AgUi::new(config(&server)).expect("a configuration");
        let answering = agent.answer(Recorder::message("hello"), recorder.run());
        tokio::time::timeout(second * 7_200, answering).await.expect("an agent that ends its run");
        let events = recorder.events();
        if answered {
            completed(&events);
        } else {
            assert_eq!(failed(&events), "the agent's server took too long to answer", "{silence}");
        }
    }
}

/// A server that keeps the connection awake for ever is ended by the run's deadline, and its connection is closed.
#[tokio::test]
async fn a_run_without_end_is_ended_by_its_deadline() {
    let alive = (0..1_000).flat_map(|_| [Step::Chunk(b": alive\n\n".to_vec()), Step::Pause(Duration::from_millis(5))]);
    let server = Server::start(vec![begun([event(&begin("m"))].into_iter().chain(alive).chain([Step::Silence]))]).await;
    let bounds =
        Bounds { silence: Duration::from_millis(200), deadline: Duration::from_millis(400), ..Bounds::DEFAULT };
    let recorder = Recorder::watched(bounds);
    let agent = AgUi::new(config(&server)).expect("a configuration");
    let run = recorder.run();
    let working = tokio::spawn(agent.answer(Recorder::message("hello"), run));
    recorder.until(|events| events.iter().any(|event| event.kind == Kind::Error(Reason::TimedOut))).await;
    working.abort();
    assert!(working.await.is_err_and(|error| error.is_cancelled()));
}

/// Cancelling drops the agent's future, and that closes the connection, which is how an AG-UI server is told to stop.
#[tokio::test]
async fn cancelling_closes_the_connection_to_the_agent() {
    let server = Server::start(vec![begun([event(&begin("m")), event(&content("m", "one")), Step::Silence])]).await;
    let recorder = Recorder::new(Vec::new());
    let agent = AgUi::new(config(&server)).expect("a configuration");
    let working = tokio::spawn(agent.answer(Recorder::message("hello"), recorder.run()));
    recorder.until(|events| events.iter().any(|event| matches!(event.kind, Kind::Delta(_)))).await;
    working.abort();
    tokio::time::timeout(PATIENCE, server.closed()).await.expect("a connection that is closed");
    assert_eq!(recorder.events().last().map(|event| event.kind), Some(Kind::Error(Reason::Abandoned)));
}

#[test]
fn a_wrong_configuration_is_refused_without_its_token() {
    for url in ["127.0.0.1:8000", "ftp://host/", "http://me:secret@host/", "http://host/?key=secret", ""] {
        assert_eq!(AgUi::new(Config::new(url)).err(), Some(ConfigError::Url), "{url}");
    }
    assert_eq!(Token::new(" ").err(), Some(ConfigError::Token));
    let mut config = Config::new("http://host/");
    config.token = Some(Token::new(TOKEN).expect("a token"));
    assert!(!format!("{config:?} {:?}", AgUi::new(config.clone())).contains(TOKEN));
}
