//! The model adapter against real servers' dialects: each test sends what some server in the field sends.

use lockstep::agent::openai::{ApiKey, Config, OpenAi};
use lockstep::agent::testing::{Event, Recorder};
use lockstep::agent::tools::Tools;
use lockstep_model::run::{Kind, ToolEnd};
use serde_json::{Map, Value, json};

use super::server::{Script, Server, Step, call, delta, event, finish};
use super::{answer, completed, failed, texts, tools};

fn calculator() -> Tools {
    Tools::none().with(lockstep::agent::tools::calculator::Calculator).with(lockstep::agent::tools::clock::Clock)
}

async fn ask_with(config: Config) -> Vec<Event> {
    let agent = OpenAi::new(config, calculator()).expect("a configuration");
    answer(&agent, Recorder::message("Good evening"), &Recorder::new(Vec::new())).await
}

async fn ask(server: &Server) -> Vec<Event> {
    ask_with(server.config()).await
}

/// The expressions the calculator was called with, and how each call ended.
fn expressions(events: &[Event]) -> Vec<(Value, ToolEnd)> {
    let ends: Vec<ToolEnd> = tools(events).into_iter().map(|(_, end, _)| end).collect();
    let asked = events.iter().filter(|event| matches!(event.kind, Kind::ToolExecuting(_)));
    asked.map(|event| event.data["arguments"]["expression"].clone()).zip(ends).collect()
}

/// One piece of a call in some server's dialect.
#[expect(clippy::needless_pass_by_value, reason = "each is made where it is passed")]
fn piece(piece: Value) -> Value {
    delta(json!({ "tool_calls": [piece] }))
}

#[tokio::test]
async fn a_server_that_refuses_to_count_tokens_is_asked_without_from_then_on() {
    for body in [
        json!({ "error": { "message": "Unrecognized request argument supplied: stream_options" } }),
        json!({ "detail": [{ "type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs" }] }),
        json!({ "message": "include_usage is not supported" }),
    ] {
        let refusal = Script::status("400 Bad Request", "", &body.to_string());
        let server = Server::start(vec![refusal, Script::text("one"), Script::text("two")]).await;
        let agent = OpenAi::new(server.config(), calculator()).expect("a configuration");
        for text in ["one", "two"] {
            let events = answer(&agent, Recorder::message("hello"), &Recorder::new(Vec::new())).await;
            assert_eq!(completed(&events), text);
            assert_eq!(texts(&events, "remark"), [""; 0], "the user need not know: {events:#?}");
        }
        let asked: Vec<bool> =
            server.requests().iter().map(|request| request.body.get("stream_options").is_some()).collect();
        assert_eq!(asked, [true, false, false], "{body}");
    }
}

#[tokio::test]
async fn a_field_that_a_server_refuses_is_named_with_its_setting() {
    let unsupported =
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    for (status, body, field, setting) in [
        ("400 Bad Request", json!({ "error": { "message": "gemma:latest does not support tools" } }), "tools", "omit"),
        (
            "404 Not Found",
            json!({ "error": { "message": "No endpoints found that support tool use." } }),
            "tools",
            "omit",
        ),
        (
            "400 Bad Request",
            json!({ "object": "error", "message": "\"auto\" tool choice requires --enable-auto-tool-choice to be set" }),
            "tools",
            "omit",
        ),
        ("400 Bad Request", json!({ "error": { "message": unsupported } }), "max_tokens", "max_tokens_field"),
        ("422 Unprocessable Entity", json!({ "error": { "param": "temperature" } }), "temperature", "temperature"),
        ("400 Bad Request", json!({ "error": "unknown field `seed`" }), "seed", "extra_body"),
    ] {
        let server = Server::start(vec![Script::status(status, "", &body.to_string())]).await;
        let extra_body = Map::from_iter([("seed".to_owned(), json!(7))]);
        let mut config = server.config();
        config.max_tokens = Some(9);
        config.temperature = Some(0.5);
        config.extra_body = extra_body;
        let events = ask_with(config).await;
        let said = failed(&events);
        let status = &status[..3];
        let expected = format!(
            "the model's server refused the request (status {status}) because of `{field}`: see the setting agent.{setting}"
        );
        assert_eq!(said, expected);
        assert_eq!((&events.last().expect("an end").data["code"], server.requests().len()), (&json!("refused"), 1));
    }
    // The server's echo of the request must not be taken for the error's subject.
    let echo = json!({ "error": { "message": "too many messages" }, "input": { "tools": [], "temperature": 1 } });
    let server = Server::start(vec![Script::status("400 Bad Request", "", &echo.to_string())]).await;
    assert_eq!(failed(&ask(&server).await), "the model's server refused the request (status 400)");
}

#[tokio::test]
async fn a_request_is_what_the_settings_say() {
    let server = Server::start(vec![Script::text("yes")]).await;
    let mut config = server.config();
    config.usage = false;
    config.max_tokens = Some(9);
    config.max_tokens_field = "max_completion_tokens".to_owned();
    config.omit = vec!["tools".to_owned(), "messages".to_owned(), "content".to_owned()];
    config.extra_body =
        Map::from_iter([("reasoning".to_owned(), json!({ "effort": "low" })), ("stream".to_owned(), json!(1))]);
    config.headers = vec![("X-Title".to_owned(), "Lockstep".to_owned())];
    config.api_key = Some(ApiKey::new("sk-secret").expect("a key"));
    config.api_key_header = Some("api-key".to_owned());
    completed(&ask_with(config).await);
    let request = &server.requests()[0];
    assert_eq!(
        request.body,
        json!({
            "model": "tiny", "messages": [{ "role": "user", "content": "Good evening" }], "stream": 1,
            "max_completion_tokens": 9, "reasoning": { "effort": "low" },
        })
    );
    assert!(request.head.contains("\r\napi-key: sk-secret\r\n"), "{}", request.head);
    assert!(request.head.contains("\r\nx-title: lockstep\r\n"), "{}", request.head);
    assert!(!request.head.contains("authorization"), "{}", request.head);
    for (headers, api_key_header) in [(vec![("a b".to_owned(), String::new())], None), (vec![], Some("ü".to_owned()))]
    {
        let api_key = Some(ApiKey::new("sk-secret").expect("a key"));
        let mut config = server.config();
        config.headers = headers;
        config.api_key = api_key;
        config.api_key_header = api_key_header;
        assert!(OpenAi::new(config, Tools::none()).is_err());
    }
}

/// Fields that a server sends beside text and calls are returned unchanged with the tool results.
#[tokio::test]
async fn what_a_server_said_with_its_calls_goes_back_to_it() {
    let long = format!("call_1__thought__{}", "A".repeat(3_000));
    let first = Script::events(&[
        delta(json!({ "role": "assistant", "content": null, "reasoning_content": "First " })),
        delta(json!({ "reasoning_content": "I add.", "reasoning_signature": "c2ln" })),
        delta(json!({ "reasoning_details": [{ "type": "reasoning.text", "index": 0, "text": "First " }] })),
        delta(json!({ "reasoning_details": [
            { "type": "reasoning.text", "index": 0, "text": "I add.", "signature": "abc" },
            { "type": "reasoning.encrypted", "index": 1, "data": "xyz" },
        ] })),
        delta(json!({ "thinking_blocks": [{ "type": "thinking", "thinking": "First " }] })),
        delta(json!({ "thinking_blocks": [{ "type": "thinking", "thinking": "I add.", "signature": "def" }] })),
        delta(json!({ "thinking_blocks": [{ "type": "thinking", "thinking": "Then" }] })),
        delta(json!({ "extra_content": { "google": { "thought_signature": "top" } } })),
        piece(json!({
            "index": 0, "id": long, "type": "function", "extra_content": { "google": { "thought_signature": "s1" } },
            "function": { "name": "calculator", "arguments": "{\"expression\":", "provider_specific_fields": { "a": 1 } },
        })),
        piece(json!({ "index": 0, "function": { "arguments": "\"1+1\"}" } })),
        finish("tool_calls"),
    ]);
    let server = Server::start(vec![first, Script::text("2")]).await;
    assert_eq!(completed(&ask(&server).await), "2");
    let [said, result] = <[Value; 2]>::try_from(server.requests()[1].last(2)).expect("two messages");
    let expected = json!({
        "role": "assistant",
        "content": null,
        "reasoning_content": "First I add.",
        "reasoning_signature": "c2ln",
        "reasoning_details": [
            { "type": "reasoning.text", "index": 0, "text": "First I add.", "signature": "abc" },
            { "type": "reasoning.encrypted", "index": 1, "data": "xyz" },
        ],
        "thinking_blocks": [
            { "type": "thinking", "thinking": "First I add.", "signature": "def" },
            { "type": "thinking", "thinking": "Then" },
        ],
        "extra_content": { "google": { "thought_signature": "top" } },
        "tool_calls": [{
            "id": long, "type": "function", "extra_content": { "google": { "thought_signature": "s1" } },
            "function": {
                "name": "calculator", "arguments": "{\"expression\":\"1+1\"}", "provider_specific_fields": { "a": 1 },
            },
        }],
    });
    assert_eq!(said, expected);
    assert_eq!(result["tool_call_id"], json!(long));

    // If a server refuses its own field, the field is left out.
    let thought = delta(json!({ "reasoning_content": "Hm." }));
    let asks = call(0, Some("a"), Some("calculator"), r#"{"expression":"1"}"#);
    let first = Script::events(&[thought, asks, finish("tool_calls")]);
    let server = Server::start(vec![first, Script::text("1")]).await;
    let mut config = server.config();
    config.omit = vec!["reasoning_content".to_owned()];
    assert_eq!(completed(&ask_with(config).await), "1");
    assert_eq!(server.requests()[1].last(2)[0].get("reasoning_content"), None);
}

/// Content in parts, some of which are reasoning.
#[tokio::test]
async fn content_may_come_in_parts() {
    let thinking = |text: &str| json!([{ "type": "thinking", "thinking": [{ "type": "text", "text": text }] }]);
    let first = Script::events(&[
        delta(json!({ "content": thinking("Hm, ") })),
        delta(json!({ "content": thinking("add.") })),
        delta(json!({ "content": [{ "type": "text", "text": "Let me " }] })),
        delta(json!({ "content": "see." })),
        call(0, Some("a"), Some("calculator"), r#"{"expression":"1"}"#),
        finish("tool_calls"),
    ]);
    let server = Server::start(vec![first, Script::text("1")]).await;
    let events = ask(&server).await;
    assert_eq!((texts(&events, "reasoning").concat(), completed(&events)), ("Hm, add.".to_owned(), "1".to_owned()));
    assert_eq!(texts(&events, "text").concat(), "Let me see.1");
    let content = &server.requests()[1].last(2)[0]["content"];
    let expected = json!([
        { "type": "thinking", "thinking": [{ "type": "text", "text": "Hm, add." }] },
        { "type": "text", "text": "Let me see." },
    ]);
    assert_eq!(*content, expected);
}

#[tokio::test]
async fn calls_are_told_apart_however_a_server_numbers_them() {
    let whole = |index: Option<u64>, id: Option<&str>, expression: &str| {
        let arguments = json!({ "expression": expression }).to_string();
        let mut call = json!({ "function": { "name": "calculator", "arguments": arguments } });
        if let Some(index) = index {
            call["index"] = index.into();
        }
        if let Some(id) = id {
            call["id"] = id.into();
        }
        piece(call)
    };
    let cases: Vec<(&str, Vec<Value>)> = vec![
        ("one index, no ids", vec![whole(Some(0), None, "1"), whole(Some(0), None, "2")]),
        ("one index, one id", vec![whole(Some(0), Some("x"), "1"), whole(Some(0), Some("x"), "2")]),
        ("one index, two ids", vec![whole(Some(0), Some("x"), "1"), whole(Some(0), Some("y"), "2")]),
        ("no index, no ids", vec![whole(None, None, "1"), whole(None, None, "2")]),
        ("no index, empty ids", vec![whole(None, Some(""), "1"), whole(None, Some(""), "2")]),
        (
            "in one chunk",
            vec![delta(json!({ "tool_calls": [
                { "index": 0, "function": { "name": "calculator", "arguments": "{\"expression\":\"1\"}" } },
                { "index": 0, "function": { "name": "calculator", "arguments": "{\"expression\":\"2\"}" } },
            ] }))],
        ),
        (
            "an id that comes later, and pieces that are mixed",
            vec![
                call(0, None, Some("calculator"), "{\"expression\""),
                call(1, None, Some("calculator"), "{\"expression\""),
                call(0, Some("a"), None, ":\"1\"}"),
                call(1, Some("b"), None, ":\"2\"}"),
            ],
        ),
        (
            "the name with every piece",
            vec![
                call(0, None, Some("calculator"), "{\"expression\""),
                call(0, None, Some("calculator"), ":\"1\"}"),
                call(0, None, Some("calculator"), ""),
                call(1, None, Some("calculator"), "{\"expression\":\"2\"}"),
            ],
        ),
    ];
    for (name, pieces) in cases {
        let first = Script::events(&[pieces, vec![finish("tool_calls")]].concat());
        let server = Server::start(vec![first, Script::text("done")]).await;
        let events = ask(&server).await;
        assert_eq!(completed(&events), "done", "{name}");
        let success = ToolEnd::Success;
        assert_eq!(expressions(&events), [(json!("1"), success), (json!("2"), success)], "{name}");
        let messages = server.requests()[1].last(3);
        let calls = messages[0]["tool_calls"].as_array().expect("calls");
        assert_eq!((calls.len(), calls[0]["id"] == calls[1]["id"]), (2, false), "{name}: {calls:?}");
        assert_eq!([&messages[1]["tool_call_id"], &messages[2]["tool_call_id"]], [&calls[0]["id"], &calls[1]["id"]]);
    }
    // Two tools without arguments, one after the other under one index.
    let clock = piece(json!({ "index": 0, "function": { "name": "clock" } }));
    let first = Script::events(&[clock, whole(Some(0), None, "1"), finish("tool_calls")]);
    let server = Server::start(vec![first, Script::text("done")]).await;
    let names: Vec<String> = tools(&ask(&server).await).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["clock", "calculator"]);
}

#[tokio::test]
async fn arguments_are_taken_in_every_form() {
    for (arguments, expression) in [
        (json!({ "expression": "1" }), json!("1")),
        (json!("{\"expression\":\"1\"}"), json!("1")),
        (json!(json!("{\"expression\":\"1\"}").to_string()), json!("1")),
        (json!(" {\"expression\":\"1\"}\n"), json!("1")),
    ] {
        let asks =
            piece(json!({ "index": 0, "id": "a", "function": { "name": "calculator", "arguments": arguments } }));
        let server = Server::start(vec![Script::events(&[asks, finish("tool_calls")]), Script::text("1")]).await;
        assert_eq!(expressions(&ask(&server).await), [(expression, ToolEnd::Success)], "{arguments}");
    }
    for arguments in [json!(""), json!("null"), json!(null), json!({}), json!("{}")] {
        let asks = piece(json!({ "index": 0, "id": "a", "function": { "name": "clock", "arguments": arguments } }));
        let server = Server::start(vec![Script::events(&[asks, finish("tool_calls")]), Script::text("noon")]).await;
        let events = ask(&server).await;
        assert_eq!((tools(&events)[0].1, completed(&events).as_str()), (ToolEnd::Success, "noon"), "{arguments}");
        let said = &server.requests()[1].last(2)[0]["tool_calls"][0]["function"]["arguments"];
        assert_eq!(*said, json!("{}"), "{arguments}");
    }
}

#[tokio::test]
async fn thoughts_that_a_server_says_twice_are_shown_once() {
    let mirrored = |text: &str| delta(json!({ "reasoning": text, "reasoning_content": text, "content": "" }));
    let details = |text: &str| json!([{ "type": "reasoning.text", "text": text, "index": 0 }]);
    for pieces in [
        vec![mirrored("Hm, "), mirrored("evening")],
        // One field lags behind the other, and is cut elsewhere.
        vec![
            delta(json!({ "reasoning": "Hm, eve" })),
            delta(json!({ "reasoning_content": "Hm, " })),
            delta(json!({ "reasoning": "ning" })),
            delta(json!({ "reasoning_content": "evening" })),
        ],
        vec![
            delta(json!({ "reasoning": "Hm, ", "reasoning_details": details("Hm, ") })),
            delta(json!({ "reasoning": "evening", "reasoning_details": details("evening") })),
        ],
        vec![delta(json!({ "thinking": "Hm, " })), delta(json!({ "thinking": "evening" }))],
    ] {
        let end = [delta(json!({ "content": "Hello" })), finish("stop")];
        let server = Server::start(vec![Script::events(&[pieces.clone(), end.to_vec()].concat())]).await;
        let events = ask(&server).await;
        assert_eq!(texts(&events, "reasoning").concat(), "Hm, evening", "{pieces:?}");
        assert_eq!(completed(&events), "Hello");
    }
}

/// A call that a limit cut off is not made, and the run says so.
#[tokio::test]
async fn what_a_limit_cut_off_is_not_done() {
    let asks = |arguments: &str| call(0, Some("a"), Some("clock"), arguments);
    for (name, pieces) in [
        ("inside of arguments", vec![asks("{\"zone\":")]),
        ("before the arguments", vec![asks("")]),
        ("after text", vec![delta(json!({ "content": "Let me see." })), asks("{\"zo")]),
        ("perhaps before another call", vec![asks("{}")]),
        ("in thoughts", vec![delta(json!({ "reasoning_content": "Hm" }))]),
    ] {
        for reason in ["length", "max_tokens", "MAX_TOKENS"] {
            let script = Script::events(&[pieces.clone(), vec![finish(reason)]].concat());
            let server = Server::start(vec![script]).await;
            let events = ask(&server).await;
            let said = "the model's answer was cut off by its token limit";
            assert_eq!(failed(&events), said, "{name}, {reason}");
            assert_eq!(events.last().expect("an end").data["code"], "truncated");
            assert_eq!(tools(&events), [], "{name}, {reason}");
        }
    }
}

#[tokio::test]
async fn an_answer_may_come_as_a_document() {
    let message = json!({ "role": "assistant", "content": "Good evening" });
    let whole = json!({ "object": "chat.completion", "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] });
    let server = Server::start(vec![Script::status("200 OK", "", &whole.to_string())]).await;
    let events = ask(&server).await;
    assert_eq!((completed(&events), texts(&events, "text").concat()), ("Good evening".into(), "Good evening".into()));
    let error = json!({ "error": { "message": "no", "code": "model_not_found" } });
    let server = Server::start(vec![Script::status("200 OK", "", &error.to_string())]).await;
    assert_eq!(failed(&ask(&server).await), "the model's server reported an error: model_not_found");
}

#[tokio::test]
async fn errors_within_a_stream_are_errors_in_every_form() {
    let error = json!({ "message": "no", "type": "server_error" });
    let of_vllm = json!({ "object": "error", "message": "no", "type": "server_error", "param": null, "code": 400 });
    for step in [
        event(&json!({ "error": error })),
        event(&of_vllm),
        Step::Chunk(format!("event: error\ndata: {error}\n\n").into()),
        Step::Chunk(format!("event: error\ndata: {}\n\n", json!({ "error": error })).into()),
    ] {
        let server = Server::start(vec![Script::stream([step, Step::Silence])]).await;
        assert_eq!(failed(&ask(&server).await), "the model's server reported an error: server_error");
    }
    let bad =
        Script::raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    let server = Server::start(vec![bad]).await;
    assert_eq!(failed(&ask(&server).await), "the model's answer ended unexpectedly");
}
