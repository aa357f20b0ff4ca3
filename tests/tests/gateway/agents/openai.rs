//! The model adapter: its requests, its events, and its tool calls.

use lockstep::BoxFuture;
use lockstep::agent::openai::{ApiKey, Config, ConfigError, OpenAi};
use lockstep::agent::testing::{Event, Recorder};
use lockstep::agent::tools::{CallError, Invocation, Tool, Tools};
use lockstep::agent::{Agent, End, Step as HistoryStep, ToolCall, Turn};
use lockstep_model::RunId;
use lockstep_model::run::{Kind, Reason, ToolEnd};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Barrier;

use super::server::{Script, Server, Step, call, delta, event, finish};
use super::{answer, completed, failed, texts, tools};

/// A tool that returns only when the expected number of calls are running at once.
struct Meeting(Arc<Barrier>);

impl Tool for Meeting {
    fn name(&self) -> &'static str {
        "meeting"
    }

    fn description(&self) -> &'static str {
        "Waits for the others."
    }

    fn parameters(&self) -> Value {
        json!({ "type": "object", "properties": { "who": { "type": "string" } } })
    }

    fn call(&self, invocation: Invocation) -> BoxFuture<'_, Result<Value, CallError>> {
        Box::pin(async move {
            self.0.wait().await;
            Ok(json!({ "met": invocation.arguments["who"] }))
        })
    }
}

async fn ask(server: &Server, tools: Tools) -> Vec<Event> {
    let agent = OpenAi::new(server.config(), tools).expect("a configuration");
    answer(&agent, Recorder::message("Good evening"), &Recorder::new(Vec::new())).await
}

fn calculator() -> Tools {
    Tools::none().with(lockstep::agent::tools::calculator::Calculator)
}

#[tokio::test]
async fn an_answer_is_shown_as_it_comes_and_completed_whole() {
    let usage = json!({ "model": "tiny-2026", "choices": [], "usage": { "total_tokens": 7 } });
    let events = [
        delta(json!({ "role": "assistant", "content": "" })),
        delta(json!({ "content": "Good " })),
        delta(json!({ "content": "evening" })),
        finish("stop"),
        usage,
    ];
    let server = Server::start(vec![Script::events(&events)]).await;
    let events = ask(&server, Tools::none()).await;
    assert_eq!(texts(&events, "text").concat(), "Good evening");
    let data = &events.last().expect("an end").data;
    let expected = json!({ "text": "Good evening", "model": "tiny-2026", "usage": { "total_tokens": 7 } });
    assert_eq!((completed(&events).as_str(), data), ("Good evening", &expected));
}

fn turn(text: &str, steps: Vec<HistoryStep>, end: End) -> Turn {
    let mut turn = Turn::new(RunId(7), to_raw_value(text).expect("JSON"));
    (turn.steps, turn.end) = (steps, Some(end));
    turn
}

fn answered(text: &str) -> End {
    End::Completed(to_raw_value(&json!({ "text": text })).expect("JSON"))
}

fn called(id: &str, result: Option<Result<&str, &str>>) -> HistoryStep {
    let result = result.map(|result| result.map(str::to_owned).map_err(str::to_owned));
    let (name, arguments) = ("calculator".into(), r#"{"expression":"1"}"#.into());
    let mut call = ToolCall::new(id.into(), name, arguments);
    call.result = result;
    HistoryStep::Tool(call)
}

const STOPPED: End = End::Failed(Reason::Cancelled);

/// What a model is told of earlier turns: calls and their results in its own format, and partial answers.
#[tokio::test]
async fn earlier_turns_are_told_with_their_tools_and_as_far_as_they_came() {
    let says = |text: &str| HistoryStep::Text(text.into());
    let history = || {
        let calls = vec![says("I look."), called("t1", Some(Ok("2"))), called("t2", Some(Err("no"))), says("It is 2.")];
        vec![
            turn("one", calls, answered("It is 2.")),
            turn("two", vec![called("t1", None)], STOPPED),
            turn("three", vec![says("Once upon")], STOPPED),
        ]
    };
    let call = |id: &str| {
        let function = json!({ "name": "calculator", "arguments": r#"{"expression":"1"}"# });
        json!({ "id": id, "type": "function", "function": function })
    };
    let result = |id: &str, content: &str| json!({ "role": "tool", "tool_call_id": id, "content": content });
    let user = |text: &str| json!({ "role": "user", "content": text });
    let assistant = |text: &str| json!({ "role": "assistant", "content": text });
    let newest = [user("three"), assistant("Once upon"), user("go on")];

    let all = [
        user("one"),
        json!({ "role": "assistant", "content": "I look.", "tool_calls": [call("000000001"), call("000000002")] }),
        result("000000001", "2"),
        result("000000002", r#"{"error":"no"}"#),
        assistant("It is 2."),
        user("two"),
        json!({ "role": "assistant", "content": null, "tool_calls": [call("000000003")] }),
        result("000000003", r#"{"error":"the tool returned no result"}"#),
    ];
    let without_tools = [user("one"), assistant("It is 2.")];
    let cases = [
        (calculator(), 64 << 10, [&all[..], &newest].concat()),
        (calculator(), 120, newest.to_vec()),
        (calculator(), 0, vec![user("go on")]),
        (Tools::none(), 64 << 10, [&without_tools[..], &newest].concat()),
    ];
    for (tools, max_history_bytes, expected) in cases {
        let server = Server::start(vec![Script::text("a time")]).await;
        let mut config = server.config();
        config.max_history_bytes = max_history_bytes;
        let agent = OpenAi::new(config, tools).expect("a configuration");
        completed(&answer(&agent, Recorder::message("go on"), &Recorder::new(history())).await);
        assert_eq!(server.requests()[0].body["messages"], Value::Array(expected), "{max_history_bytes}");
    }
}

#[tokio::test]
async fn the_request_is_what_the_protocol_wants() {
    let server = Server::start(vec![Script::text("yes")]).await;
    let mut config = server.config();
    config.api_key = Some(ApiKey::new(" sk-secret\n").expect("a key"));
    config.system = Some("Be brief.".into());
    config.temperature = Some(0.5);
    config.max_tokens = Some(99);
    config.max_turns = 2;
    let history = vec![
        turn("too long ago", Vec::new(), answered("forgotten")),
        turn("one", Vec::new(), answered("1")),
        turn("failed", Vec::new(), STOPPED),
    ];
    let agent = OpenAi::new(config, calculator()).expect("a configuration");
    completed(&answer(&agent, Recorder::message("two?"), &Recorder::new(history)).await);

    let request = &server.requests()[0];
    assert!(request.head.starts_with("post /v1/chat/completions http/1.1"), "{}", request.head);
    assert!(request.head.contains("authorization: bearer sk-secret"), "{}", request.head);
    assert_eq!(
        request.body["messages"],
        json!([
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "one" },
            { "role": "assistant", "content": "1" },
            { "role": "user", "content": "two?" },
        ])
    );
    let body = &request.body;
    assert_eq!((&body["model"], &body["stream"], &body["temperature"]), (&json!("tiny"), &json!(true), &json!(0.5)));
    assert_eq!((&body["max_tokens"], &body["stream_options"]["include_usage"]), (&json!(99), &json!(true)));
    assert_eq!(body["tools"][0]["function"]["name"], "calculator");
    assert_eq!(body["tools"][0]["function"]["parameters"]["required"], json!(["expression"]));
}

#[tokio::test]
async fn a_call_comes_together_from_its_pieces_and_its_result_goes_back() {
    let first = Script::events(&[
        delta(json!({ "content": "Let me see. " })),
        call(0, Some("call_a"), Some("calculator"), ""),
        call(0, None, None, "{\"expr"),
        call(0, None, None, "ession\": \"6"),
        call(0, None, None, " * 7\"}"),
        finish("tool_calls"),
    ]);
    let server = Server::start(vec![first, Script::text("42.")]).await;
    let events = ask(&server, calculator()).await;
    assert_eq!(completed(&events), "42.");
    assert_eq!(texts(&events, "text"), ["Let me see. ", "42."]);
    let ran = tools(&events);
    assert_eq!(ran.len(), 1);
    assert_eq!((ran[0].1, &ran[0].2["result"]["result"]), (ToolEnd::Success, &json!("42")));
    let [said, result] = <[Value; 2]>::try_from(server.requests()[1].last(2)).expect("two messages");
    assert_eq!(
        said,
        json!({ "role": "assistant", "content": "Let me see. ", "tool_calls": [{
            "id": "call_a", "type": "function",
            "function": { "name": "calculator", "arguments": "{\"expression\": \"6 * 7\"}" },
        }]})
    );
    assert_eq!((&result["role"], &result["tool_call_id"]), (&json!("tool"), &json!("call_a")));
    assert!(result["content"].as_str().is_some_and(|content| content.contains("\"42\"")), "{result}");
}

#[tokio::test]
async fn calls_of_one_reply_run_at_the_same_time() {
    // Their pieces are interleaved, and the third has the index of the second, as some servers send it.
    let first = Script::events(&[
        call(0, Some("a"), Some("meeting"), "{\"who\":"),
        call(1, Some("b"), Some("meeting"), "{\"who\":"),
        call(0, None, None, "\"A\"}"),
        call(1, None, None, "\"B\"}"),
        call(1, Some("c"), Some("meeting"), "{\"who\":\"C\"}"),
        finish("tool_calls"),
    ]);
    let server = Server::start(vec![first, Script::text("met")]).await;
    let events = ask(&server, Tools::none().with(Meeting(Arc::new(Barrier::new(3))))).await;
    assert_eq!(completed(&events), "met");
    let results = server.requests()[1].last(3);
    let results: Vec<&str> = results.iter().filter_map(|result| result["content"].as_str()).collect();
    assert_eq!(results, [r#"{"met":"A"}"#, r#"{"met":"B"}"#, r#"{"met":"C"}"#]);
}

#[tokio::test]
async fn a_call_that_cannot_be_made_is_a_failure_that_the_model_learns_of() {
    let first = Script::events(&[
        call(0, Some("a"), Some("calculator"), "{\"expression\": \"1 +"),
        call(1, Some("b"), Some("teleport"), "{}"),
        call(2, Some("c"), Some("calculator"), "[1]"),
        call(3, Some("d"), Some("calculator"), "{\"expression\": \"1/0\"}"),
        finish("tool_calls"),
    ]);
    let server = Server::start(vec![first, Script::text("sorry")]).await;
    let events = ask(&server, calculator()).await;
    assert_eq!(completed(&events), "sorry");
    assert!(tools(&events).iter().all(|(_, end, _)| *end == ToolEnd::Failure), "{events:#?}");
    let messages = server.requests()[1].last(5);
    // Arguments that are not JSON are not returned to the server, which might refuse them.
    assert_eq!(messages[0]["tool_calls"][0]["function"]["arguments"], "{}");
    let told: Vec<&str> = messages[1..].iter().filter_map(|message| message["content"].as_str()).collect();
    assert_eq!(
        told,
        [
            r#"{"error":"the arguments are not a JSON object"}"#,
            r#"{"error":"there is no tool with this name"}"#,
            r#"{"error":"the arguments are not a JSON object"}"#,
            r#"{"error":"division by zero at position 2"}"#,
        ]
    );
}

#[tokio::test]
async fn a_model_that_only_calls_tools_is_stopped() {
    let again =
        || Script::events(&[call(0, Some("a"), Some("calculator"), r#"{"expression":"1"}"#), finish("tool_calls")]);
    let server = Server::start(vec![again(), again(), again()]).await;
    let mut config = server.config();
    config.max_rounds = 2;
    let agent = OpenAi::new(config, calculator()).expect("a configuration");
    let events = answer(&agent, Recorder::message("hello"), &Recorder::new(Vec::new())).await;
    assert_eq!(failed(&events), "the model called tools 2 times without answering");
    assert_eq!((server.requests().len(), tools(&events).len()), (3, 2));
}

#[tokio::test]
async fn bytes_may_be_cut_anywhere() {
    let stream = ": hello\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"Grüße \"}}]}\r\n\r\n\
                  data: {\"choices\":[{\"delta\":\r\ndata: {\"content\":\"😀\"},\"finish_reason\":\"stop\"}]}\r\n\r\n\
                  data: [DONE]\r\n\r\n";
    let bytes = stream.bytes().map(|byte| Step::Chunk(vec![byte]));
    let server = Server::start(vec![Script::stream(bytes.chain([Step::End]))]).await;
    let events = ask(&server, Tools::none()).await;
    assert_eq!(completed(&events), "Grüße 😀");
    assert_eq!(texts(&events, "text").concat(), "Grüße 😀");
}

#[tokio::test]
async fn pieces_emitted_while_the_log_is_behind_join_into_one_event() {
    let pieces = ["one", " two", " three", " four"].map(|text| event(&delta(json!({ "content": text }))));
    let steps = pieces.into_iter().chain([event(&finish("stop")), Step::End, Step::Silence]);
    let server = Server::start(vec![Script::stream(steps)]).await;
    let recorder = Recorder::new(Vec::new());
    recorder.hold();
    let agent = OpenAi::new(server.config(), Tools::none()).expect("a configuration");
    let working = tokio::spawn(agent.answer(Recorder::message("count"), recorder.run()));
    recorder.until(|events| events.iter().any(|event| matches!(event.kind, Kind::Delta(_)))).await;
    // The whole stream has been read once its connection is closed.
    server.closed().await;
    recorder.release();
    working.await.expect("an agent that does not panic");
    let events = recorder.events();
    assert_eq!(completed(&events), "one two three four");
    let shown = texts(&events, "text");
    assert_eq!(shown.concat(), "one two three four");
    assert!(shown.len() <= 2, "{shown:?}");
}

#[tokio::test]
async fn thoughts_of_a_model_are_shown_apart() {
    let events = [
        delta(json!({ "reasoning_content": "Hm, " })),
        delta(json!({ "reasoning": "evening." })),
        delta(json!({ "content": "Hello" })),
        finish("length"),
    ];
    let server = Server::start(vec![Script::events(&events)]).await;
    let events = ask(&server, Tools::none()).await;
    assert_eq!((texts(&events, "reasoning").concat(), completed(&events)), ("Hm, evening.".into(), "Hello".into()));
    assert_eq!(events.last().expect("an end").data["truncated"], true);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_without_showing_secrets() {
    for url in
        ["", "example.org", "ftp://example.org", "http://user:pass@example.org/v1", "http://example.org/v1?key=1"]
    {
        let refused = OpenAi::new(Config::new(url, "tiny"), Tools::none()).err();
        assert_eq!(refused, Some(ConfigError::Url), "{url}");
    }
    let refused = OpenAi::new(Config::new("http://localhost", " "), Tools::none()).err();
    assert_eq!(refused, Some(ConfigError::Model));
    for key in ["", "  \n", "two words", "new\nline", "ключ"] {
        assert_eq!(ApiKey::new(key).err(), Some(ConfigError::Key), "{key:?}");
    }
    let key = Some(ApiKey::new("sk-secret").expect("a key"));
    let mut config = Config::new("https://example.org/v1", "tiny");
    config.api_key = key;
    let shown = format!("{config:?} {:?}", OpenAi::new(config.clone(), Tools::none()));
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn a_key_is_read_from_a_file() {
    let folder = super::Folder::new();
    folder.write("key", "sk-from-file\n");
    assert!(ApiKey::from_file(&folder.path().join("key")).is_ok());
    let missing = ApiKey::from_file(&folder.path().join("none")).err();
    assert_eq!(missing, Some(ConfigError::KeyFile(std::io::ErrorKind::NotFound)));
    assert!(matches!(ApiKey::from_env("LOCKSTEP_TEST_THERE_IS_NO_SUCH_VARIABLE"), Ok(None)));
}
