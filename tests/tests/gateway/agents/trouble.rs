//! The model adapter with a slow, busy, broken or absent server.

use std::time::Duration;

use lockstep::agent::Agent;
use lockstep::agent::openai::{ApiKey, Config, OpenAi};
use lockstep::agent::testing::{Event, Recorder};
use lockstep::agent::tools::Tools;
use lockstep::agent::tools::clock::Clock;
use lockstep_model::Refusal;
use lockstep_model::run::{Kind, Reason};
use serde_json::json;

use super::server::{Script, Server, Step, call, delta, event, finish};
use super::{answer, completed, failed, texts, tools};

const KEY: &str = "sk-very-secret";

async fn ask_with(config: Config) -> Vec<Event> {
    let mut config = config;
    config.api_key = Some(ApiKey::new(KEY).expect("a key"));
    let agent = OpenAi::new(config, Tools::none()).expect("a configuration");
    let events = answer(&agent, Recorder::message("hello"), &Recorder::new(Vec::new())).await;
    assert!(!format!("{events:?}").contains("secret"), "no event shows the key: {events:#?}");
    events
}

async fn ask(server: &Server) -> Vec<Event> {
    ask_with(server.config()).await
}

fn piece(text: &str) -> Step {
    event(&delta(json!({ "content": text })))
}

#[tokio::test]
async fn a_request_to_a_busy_server_is_retried() {
    for refusal in ["429 Too Many Requests", "500 Internal Server Error", "503 Service Unavailable"] {
        let busy = |pause| Script::status(refusal, &format!("retry-after: {pause}\r\n"), "{}");
        let pauses = ["0", "Sun, 06 Nov 1994 08:49:37 GMT"].map(busy);
        let server = Server::start(pauses.into_iter().chain([Script::text("at last")]).collect()).await;
        // The server's pause counts, not the adapter's own, which would outlast the test.
        let hour = Duration::from_secs(3_600);
        let mut config = server.config();
        (config.backoff, config.backoff_most) = (hour, hour);
        let events = ask_with(config).await;
        assert_eq!((completed(&events).as_str(), server.requests().len()), ("at last", 3), "{refusal}");
        assert_eq!(texts(&events, "remark").len(), 2, "the user is told: {events:#?}");
    }
    // The connection is lost before the answer.
    let server = Server::start(vec![Script::hang_up(), Script::text("at last")]).await;
    assert_eq!(completed(&ask(&server).await), "at last");
}

#[tokio::test]
async fn patience_ends() {
    let broken = || Script::status("500 Internal Server Error", "", "oops");
    let server = Server::start(vec![broken(), broken(), broken(), Script::text("too late")]).await;
    assert_eq!(failed(&ask(&server).await), "the model's server refused the request (status 500)");
    assert_eq!(server.requests().len(), 3);

    let server = Server::start(vec![Script::status("429 Too Many Requests", "retry-after: 3600\r\n", "{}")]).await;
    assert_eq!(failed(&ask(&server).await), "the model's server is busy for another 3600 seconds");
    let far = "retry-after: Fri, 31 Dec 2100 23:59:59 GMT\r\n";
    let server = Server::start(vec![Script::status("429 Too Many Requests", far, "{}")]).await;
    assert!(failed(&ask(&server).await).starts_with("the model's server is busy for another "));
}

#[tokio::test]
async fn a_refusal_that_will_not_change_is_final_and_shows_nothing_of_the_server() {
    let body = format!("{{\"error\":{{\"message\":\"Incorrect API key provided: {KEY}\"}}}}");
    for (status, message) in [
        ("401 Unauthorized", "the model's server does not accept the gateway's API key"),
        ("400 Bad Request", "the model's server refused the request (status 400)"),
        ("307 Temporary Redirect", "the model's server refused the request (status 307)"),
    ] {
        let server = Server::start(vec![Script::status(status, "location: /elsewhere\r\n", &body)]).await;
        assert_eq!(failed(&ask(&server).await), message);
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let server = Server::start(Vec::new()).await;
    let mut config = server.config();
    drop(server);
    // No process listens on port 1.
    config.base_url = "http://127.0.0.1:1/v1".into();
    let events = ask_with(config).await;
    assert_eq!(failed(&events), "the model's server cannot be reached");
    assert_eq!(texts(&events, "remark").len(), 2);
}

#[tokio::test]
async fn a_slow_server_is_left() {
    let server = Server::start(vec![Script::silence()]).await;
    let mut config = server.config();
    config.first_byte_timeout = Duration::from_millis(30);
    assert_eq!(failed(&ask_with(config).await), "the model's server took too long to answer");
    server.closed().await;

    let server = Server::start(vec![Script::stream([piece("half an ans"), Step::Silence])]).await;
    let mut config = server.config();
    config.idle_timeout = Duration::from_millis(50);
    let events = ask_with(config).await;
    assert_eq!(failed(&events), "the model's server took too long to answer");
    assert_eq!(texts(&events, "text"), ["half an ans"]);
    server.closed().await;
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_no_answer() {
    let done = || Step::Chunk(b"data: [DONE]\n\n".to_vec());
    for script in [
        // The connection is cut; the body ends before the answer does; the body ends inside a call.
        Script::stream([piece("half an ans")]),
        Script::stream([piece("half an ans"), Step::End]),
        Script::stream([piece("half an ans"), event(&call(0, Some("a"), Some("clock"), "{\"zo")), done(), Step::End]),
        // The answer's end is there, but its event is incomplete.
        Script::stream([piece("half an ans"), Step::Chunk(format!("data: {}\n", finish("stop")).into()), Step::End]),
    ] {
        let server = Server::start(vec![script]).await;
        let events = ask(&server).await;
        assert_eq!(failed(&events), "the model's answer ended unexpectedly");
        assert_eq!(texts(&events, "text").concat(), "half an ans", "what was said was said");
        assert_eq!(server.requests().len(), 1, "it is not asked again");
    }
}

/// Many servers never say why the model stopped, and send `[DONE]` at the end.
#[tokio::test]
async fn a_reply_that_is_done_is_whole_though_nothing_says_why_it_ended() {
    let done = || Step::Chunk(b"data: [DONE]\n\n".to_vec());
    // With and without an orderly close after it.
    for rest in [vec![Step::End], vec![]] {
        let script = Script::stream([piece("all of "), piece("it"), done()].into_iter().chain(rest));
        let events = ask(&Server::start(vec![script]).await).await;
        assert_eq!(completed(&events), "all of it");
        assert_eq!(events.last().expect("an end").data.get("truncated"), None);
    }
    let calls = Script::stream([event(&call(0, Some("a"), Some("clock"), "{}")), done(), Step::End]);
    let server = Server::start(vec![calls, Script::text("noon")]).await;
    let agent = OpenAi::new(server.config(), Tools::none().with(Clock)).expect("a configuration");
    let events = answer(&agent, Recorder::message("Good evening"), &Recorder::new(Vec::new())).await;
    assert_eq!((completed(&events), tools(&events).len(), server.requests().len()), ("noon".to_owned(), 1, 2));
    // An empty stream is not an answer.
    let thought = Script::stream([event(&delta(json!({ "reasoning_content": "hm" }))), done(), Step::End]);
    for script in [Script::stream([done(), Step::End]), thought] {
        assert_eq!(failed(&ask(&Server::start(vec![script]).await).await), "the model's answer ended unexpectedly");
    }
}

#[tokio::test]
async fn an_answer_that_has_ended_needs_no_proper_goodbye() {
    let garbage = || Step::Chunk(b"data: {garbage\n\n".to_vec());
    let whole = || [piece("whole"), event(&finish("stop"))];
    for rest in [vec![], vec![Step::End], vec![garbage(), Step::End]] {
        let server = Server::start(vec![Script::stream(whole().into_iter().chain(rest))]).await;
        assert_eq!(completed(&ask(&server).await), "whole");
    }
    let server = Server::start(vec![Script::stream(whole().into_iter().chain([Step::Silence]))]).await;
    let mut config = server.config();
    config.idle_timeout = Duration::from_millis(50);
    assert_eq!(completed(&ask_with(config).await), "whole");
}

#[tokio::test]
async fn what_is_not_the_protocol_is_refused() {
    let garbled = "the model's server sent an invalid response";
    let too_long = "the model's answer is too long";
    let chunk = |data: &str| Script::stream([Step::Chunk(format!("data: {data}\n\n").into()), Step::Silence]);
    let endless = (0..40).map(|_| Step::Chunk(vec![b'x'; 32 << 10])).chain([Step::Silence]);
    let calls = delta(json!({ "tool_calls": (0..17).map(|index| json!({ "index": index })).collect::<Vec<_>>() }));
    for (script, message) in [
        (chunk("{\"choices\": [{\"delta\""), garbled),
        (chunk("<html>"), garbled),
        (chunk("{\"choices\": 5}"), garbled),
        (chunk("[]"), garbled),
        (Script::stream(endless), too_long),
        (chunk(&calls.to_string()), too_long),
        (Script::events(&[finish("stop")]), "the model's answer was empty"),
        (Script::events(&[finish("content_filter")]), "the model's server withheld the answer (content filter)"),
        (Script::status("200 OK", "", "{\"choices\":[]}"), "the model's server did not answer with an event stream"),
    ] {
        let server = Server::start(vec![script]).await;
        assert_eq!(failed(&ask(&server).await), message);
    }
}

#[tokio::test]
async fn an_error_in_the_stream_is_told_by_its_code_only() {
    for (error, message) in [
        (json!({ "message": KEY, "code": "rate_limit_exceeded" }), "an error: rate_limit_exceeded"),
        (json!({ "message": KEY, "type": "server_error", "code": null }), "an error: server_error"),
        (json!({ "message": KEY, "code": KEY }), "reported an error"),
        (json!(KEY), "reported an error"),
    ] {
        let script = Script::stream([piece("half"), event(&json!({ "error": error })), Step::End]);
        let server = Server::start(vec![script]).await;
        let found = failed(&ask(&server).await);
        assert!(found.ends_with(message), "{found}");
    }
}

#[tokio::test]
async fn cancelling_closes_the_connection_to_the_model() {
    let server = Server::start(vec![Script::stream([piece("one"), Step::Silence])]).await;
    let recorder = Recorder::new(Vec::new());
    let agent = OpenAi::new(server.config(), Tools::none()).expect("a configuration");
    let working = tokio::spawn(agent.answer(Recorder::message("hello"), recorder.run()));
    recorder.until(|events| events.iter().any(|event| matches!(event.kind, Kind::Delta(_)))).await;
    working.abort();
    server.closed().await;
    assert!(working.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(recorder.events().last().map(|event| event.kind), Some(Kind::Error(Reason::Abandoned)));
}

#[tokio::test]
async fn a_run_that_may_emit_no_more_still_ends_with_its_answer() {
    let recorder =
        Recorder::bounded(lockstep_model::Bounds { events: 2, ..lockstep_model::Bounds::DEFAULT }, Vec::new());
    let words = ["one", " two", " three", " four"].map(piece);
    let script = Script::stream(words.into_iter().chain([event(&finish("stop")), Step::End]));
    let server = Server::start(vec![script]).await;
    let agent = OpenAi::new(server.config(), Tools::none()).expect("a configuration");
    let events = answer(&agent, Recorder::message("hello"), &recorder).await;
    assert_eq!(completed(&events), "one two three four");
    assert!(texts(&events, "text").len() <= 1, "{events:#?}");
}

#[tokio::test]
async fn a_run_that_is_refused_is_left_without_a_word() {
    let server = Server::start(vec![Script::stream([piece("one"), Step::Silence])]).await;
    let recorder = Recorder::new(Vec::new());
    let run = recorder.run();
    recorder.refuse(Some(Refusal::Retired));
    let agent = OpenAi::new(server.config(), Tools::none()).expect("a configuration");
    agent.answer(Recorder::message("hello"), run).await;
    server.closed().await;
    assert_eq!(recorder.events().len(), 1, "only its start");
}

#[tokio::test]
async fn a_large_piece_is_shown_in_events_of_bounded_size() {
    let text = "é".repeat(100_000);
    let server = Server::start(vec![Script::text(&text)]).await;
    let events = ask(&server).await;
    assert_eq!(completed(&events), text);
    let shown = texts(&events, "text");
    assert_eq!(shown.concat(), text);
    assert!(shown.iter().all(|piece| piece.len() <= 64 << 10), "{} events", shown.len());
}

#[tokio::test]
async fn a_broken_stream_shows_thoughts_and_text_that_came_before() {
    let events = [delta(json!({ "reasoning": "Hm." })), delta(json!({ "content": "So" }))];
    let chunk: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let server = Server::start(vec![Script::stream([Step::Chunk(format!("{chunk}data: <\n\n").into())])]).await;
    let events = ask(&server).await;
    failed(&events);
    assert_eq!((texts(&events, "reasoning").concat(), texts(&events, "text").concat()), ("Hm.".into(), "So".into()));
}
