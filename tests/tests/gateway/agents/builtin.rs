//! The built-in agent.

use std::sync::Arc;
use std::time::Duration;

use lockstep::agent::builtin::{Builtin, MAX_COUNT};
use lockstep::agent::testing::{Event, Recorder};
use lockstep::agent::{Agent, Turn};
use lockstep_model::run::{Input, Kind, Reason, ToolEnd};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::{Folder, answer, completed, texts, tools};

fn agent(folder: &Folder) -> Builtin {
    Builtin::new(folder.path()).pace(Duration::ZERO)
}

async fn ask(folder: &Folder, text: &str) -> Vec<Event> {
    answer(&agent(folder), Recorder::message(text), &Recorder::new(Vec::new())).await
}

/// The tools that the agent calls, with their arguments.
async fn calls(text: &str) -> Vec<(String, Value)> {
    let begun = |event: Event| {
        let name = event.data["name"].as_str()?.to_owned();
        matches!(event.kind, Kind::ToolExecuting(_)).then(|| (name, event.data["arguments"].clone()))
    };
    ask(&Folder::new(), text).await.into_iter().filter_map(begun).collect()
}

#[tokio::test]
async fn arithmetic_is_found_in_a_sentence() {
    for (text, expression) in [
        ("What is 2 + 2?", "2 + 2"),
        ("2+2", "2+2"),
        ("Please tell me max(1, 2) * 3.", "max(1, 2) * 3"),
        ("what is 6 times 7", "6 * 7"),
        ("sqrt(16)", "sqrt(16)"),
        ("is 1/0 allowed?", "1/0"),
        ("calculate 2 +* 3", "2 +* 3"),
    ] {
        assert_eq!(calls(text).await, [("calculator".to_owned(), json!({ "expression": expression }))], "{text}");
    }
}

#[tokio::test]
async fn text_that_only_resembles_arithmetic_is_left_alone() {
    for text in ["on 2026-01-31", "a 4-year plan", "and/or", "version 1.2.3", "-5", "hello", "", "e - mail", "(see 1)"]
    {
        assert_eq!(calls(text).await, [], "{text}");
    }
}

#[tokio::test]
async fn one_message_may_ask_for_several_things() {
    let found = calls("What is 2+2, what time is it and search the documents for salt and pepper").await;
    let expected = [
        ("calculator", json!({ "expression": "2+2" })),
        ("clock", json!({})),
        ("search", json!({ "query": "salt pepper" })),
    ];
    assert_eq!(found, expected.map(|(name, arguments)| (name.to_owned(), arguments)));
}

#[tokio::test]
async fn each_wish_gets_its_tool_and_an_answer() {
    let folder = Folder::new();
    folder.write("documents/handbook.md", "A draining node says goodbye.\n");
    for (text, tool, part) in [
        ("What is 2 * (3 + 4)?", "calculator", "2 * (3 + 4) = 14"),
        ("1/3", "calculator", "≈ 0.333333333333333"),
        ("what time is it?", "clock", "(UTC)"),
        ("search for goodbye", "search", "handbook.md:1: A draining node says goodbye."),
        ("What do the documents say about draining?", "search", "handbook.md:1:"),
        ("find zebras", "search", "nothing about \"zebras\""),
    ] {
        let events = ask(&folder, text).await;
        let answer = completed(&events);
        assert!(answer.contains(part), "{text}: {answer}");
        let tools: Vec<(String, ToolEnd)> = tools(&events).into_iter().map(|(name, end, _)| (name, end)).collect();
        assert_eq!(tools, [(tool.to_owned(), ToolEnd::Success)], "{text}");
        assert_eq!(texts(&events, "text").concat(), answer, "the pieces are the answer");
    }
}

#[tokio::test]
async fn a_tool_that_fails_is_shown_as_failed_and_explained() {
    let folder = Folder::new();
    let events = ask(&folder, "1/0").await;
    assert_eq!(completed(&events), "I cannot calculate 1/0: division by zero at position 2.");
    assert!(matches!(tools(&events)[..], [(_, ToolEnd::Failure, _)]), "{events:?}");
}

#[tokio::test]
async fn several_tools_run_at_the_same_time() {
    let folder = Folder::new();
    let recorder = Recorder::new(Vec::new());
    recorder.hold();
    let question = Recorder::message("What is 6 * 7, what time is it and search for salt?");
    let working = tokio::spawn(agent(&folder).answer(question, recorder.run()));
    recorder.until(|events| events.last().is_some_and(|event| event.kind == Kind::Thinking)).await;
    // The agent's first event is durable, later ones are not, so every tool that it starts waits.
    recorder.release();
    recorder.hold();
    let begun = |event: &&Event| matches!(event.kind, Kind::ToolExecuting(_));
    recorder.until(|events| events.iter().filter(begun).count() == 3).await;
    recorder.release();
    working.await.expect("an agent that does not panic");
    let answer = completed(&recorder.events());
    assert!(answer.contains("42") && answer.contains("(UTC)") && answer.contains("no documents"), "{answer}");
    assert_eq!(tools(&recorder.events()).len(), 3);
}

#[tokio::test]
async fn it_says_what_it_is() {
    let folder = Folder::new();
    for text in ["hello", "", "   ", "💥"] {
        let events = ask(&folder, text).await;
        let (answer, pieces) = (completed(&events), texts(&events, "text"));
        assert_eq!(pieces.concat(), answer, "nothing is left out");
        let (last, whole) = pieces.split_last().expect("a piece");
        assert!(whole.len() > 2 && whole.iter().all(|piece| piece.split_whitespace().count() == 3), "{pieces:?}");
        assert!((1..=3).contains(&last.split_whitespace().count()), "{pieces:?}");
        assert!(answer.contains("built-in demonstration agent"), "{text}: {answer}");
    }
    let mut message = Recorder::message("");
    message.payload = to_raw_value(&json!({ "picture": [1, 2] })).expect("JSON");
    let answer = completed(&answer(&agent(&folder), message, &Recorder::new(Vec::new())).await);
    assert!(answer.starts_with("Your message contains no text"), "{answer}");
}

#[tokio::test]
async fn it_remembers_the_thread() {
    let folder = Folder::new();
    let turn = |text: &str| Turn::new(lockstep_model::RunId(7), to_raw_value(&json!({ "text": text })).expect("JSON"));
    let question = || Recorder::message("What did I say before?");
    let recorder = Recorder::new(vec![turn("my cat is called Ada"), turn("and my dog Bob")]);
    let said = completed(&answer(&agent(&folder), question(), &recorder).await);
    assert!(said.contains("- \"my cat is called Ada\"\n- \"and my dog Bob\""), "{said}");
    let said = completed(&answer(&agent(&folder), question(), &Recorder::new(Vec::new())).await);
    assert!(said.contains("cannot find an earlier message"), "{said}");
}

#[tokio::test]
async fn counting_emits_one_event_a_number_up_to_its_bound() {
    let folder = Folder::new();
    let events = ask(&folder, "count to 5").await;
    assert_eq!(texts(&events, "text"), ["1", " 2", " 3", " 4", " 5"]);
    assert_eq!(completed(&events), "1 2 3 4 5");
    assert_eq!(texts(&ask(&folder, "Please count to 25!").await, "text").len(), 25);
    assert!(texts(&ask(&folder, "count to nothing").await, "text").concat().contains("demonstration"));
    for text in ["count to 201", "count to 99999999999999999999999999"] {
        let events = ask(&folder, text).await;
        assert_eq!(texts(&events, "text").len(), MAX_COUNT as usize + 1, "{text}");
        assert!(completed(&events).ends_with("199 200. I can count to 200 at most."));
    }
    assert_eq!(completed(&ask(&folder, "count to 0").await), "I can count to 200 at most.");
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_kept() {
    let folder = Folder::new();
    let recorder = Recorder::new(Vec::new());
    let began = tokio::time::Instant::now();
    let agent = Builtin::new(folder.path()).pace(Duration::from_millis(40));
    answer(&agent, Recorder::message("count to 10"), &recorder).await;
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_run_that_is_cancelled_says_nothing_more() {
    let folder = Folder::new();
    let recorder = Recorder::new(Vec::new());
    recorder.hold();
    let working = tokio::spawn(agent(&folder).answer(Recorder::message("count to 200"), recorder.run()));
    recorder.until(|events| events.iter().any(|event| matches!(event.kind, Kind::Delta(_)))).await;
    recorder.feed(Input::Cancel).expect("a run to cancel");
    recorder.release();
    working.await.expect("an agent that does not panic");
    let events = recorder.events();
    assert_eq!(events.last().map(|event| event.kind), Some(Kind::Error(Reason::Cancelled)));
    assert_eq!(texts(&events, "text"), ["1"]);
    assert_eq!(Arc::strong_count(&recorder), 1, "the handle is gone");
}
