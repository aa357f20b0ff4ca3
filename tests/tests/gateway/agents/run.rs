//! The run handle.

use core::convert::Infallible;
use core::pin::pin;
use core::task::{Context, Waker};
use std::sync::{Arc, Mutex};

use lockstep::agent::testing::Recorder;
use lockstep::agent::{EmitError, ToolError};
use lockstep_model::run::{Kind, Reason, ToolEnd};
use lockstep_model::{Refusal, ToolId};
use serde_json::json;

use super::tools;

#[tokio::test]
async fn a_tool_that_is_dropped_while_the_log_is_behind_is_closed() {
    let recorder = Recorder::new(Vec::new());
    let (run, arguments) = (recorder.run(), json!({}));
    {
        let work = async {
            recorder.refuse(Some(Refusal::Backpressure));
            Ok::<_, Infallible>(1)
        };
        let mut tool = pin!(run.tool("count", &arguments, work));
        let pending = tool.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(pending, "the end of the tool waits for the log");
        recorder.refuse(None);
    }
    let kinds: Vec<Kind> = recorder.events().iter().map(|event| event.kind).collect();
    let closed = matches!(kinds[..], [Kind::Started, Kind::ToolExecuting(_), Kind::ToolCompleted(_, ToolEnd::Failure)]);
    assert!(closed, "{kinds:?}");
}

/// RUN-3: a refused emit waits until it is told of room, and for no time beyond that.
#[tokio::test(start_paused = true)]
async fn an_emit_that_was_refused_for_lack_of_room_is_repeated_when_there_is_room() {
    let recorder = Recorder::new(Vec::new());
    let run = recorder.run();
    let begun = tokio::time::Instant::now();
    recorder.refuse(Some(Refusal::Backpressure));
    {
        let mut emit = pin!(run.thinking("later"));
        assert!(emit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        recorder.refuse(Some(Refusal::Backpressure));
        assert!(emit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "there is still no room");
        recorder.refuse(None);
        emit.await.expect("taken");
    }
    assert_eq!(begun.elapsed(), std::time::Duration::ZERO);
    assert_eq!(recorder.events().len(), 2);
}

#[tokio::test]
async fn watchers_are_told_what_was_acknowledged_when_it_was_and_nothing_else() {
    let recorder = Recorder::new(Vec::new());
    let told: [Arc<Mutex<Vec<Kind>>>; 2] = Default::default();
    let [first, second] = told.clone();
    let run = recorder.run().watched(move |kind| first.lock().expect("no panic").push(kind));
    let run = run.watched(move |kind| second.lock().expect("no panic").push(kind));
    run.thinking("first").await.expect("taken");
    recorder.refuse(Some(Refusal::Misuse));
    run.thinking("refused").await.expect_err("refused");
    recorder.refuse(None);
    let work = async {
        assert_eq!(told[0].lock().expect("no panic").last(), Some(&Kind::ToolExecuting(ToolId(1))));
        Ok::<_, Infallible>(7)
    };
    run.tool("seven", &json!({}), work).await.expect("a result");
    recorder.hold();
    let pending = pin!(run.thinking("given up")).poll(&mut Context::from_waker(Waker::noop())).is_pending();
    assert!(pending, "it is not durable yet");
    recorder.release();
    run.fail("enough").await.expect("taken");
    let tool = ToolId(1);
    let expected = [
        Kind::Thinking,
        Kind::ToolExecuting(tool),
        Kind::ToolCompleted(tool, ToolEnd::Success),
        Kind::Error(Reason::Failed),
    ];
    for told in told {
        assert_eq!(*told.lock().expect("no panic"), expected);
    }
}

/// A map whose keys JSON cannot represent.
fn no_json() -> std::collections::BTreeMap<(u8, u8), u8> {
    [((1, 2), 3)].into()
}

/// A tool that panics has failed like any other; the other tools and the run go on.
#[tokio::test]
async fn a_tool_that_panics_is_a_failure_of_its_own() {
    let recorder = Recorder::new(Vec::new());
    let run = recorder.run();
    let arguments = json!({});
    let begun = tokio::sync::Notify::new();
    let panics = run.tool("bomb", &arguments, async {
        begun.notified().await;
        if arguments.is_object() {
            panic!("on purpose");
        }
        Ok::<u8, String>(0)
    });
    let other = run.tool("other", &arguments, async {
        begun.notify_one();
        tokio::task::yield_now().await;
        Ok::<u8, String>(7)
    });
    let (panicked, other) = tokio::join!(panics, other);
    assert!(matches!(panicked, Err(ToolError::Panicked)), "{panicked:?}");
    assert!(matches!(other, Ok(7)), "{other:?}");
    run.complete(json!({ "text": "done" })).await.expect("a run that goes on");
    let ends = tools(&recorder.events());
    let told: Vec<_> = ends.iter().map(|(name, end, data)| (name.as_str(), *end, data["error"].as_str())).collect();
    let expected = [("bomb", ToolEnd::Failure, Some("the tool panicked")), ("other", ToolEnd::Success, None)];
    assert!(told == expected || told == [expected[1], expected[0]], "{told:?}");
    assert_eq!(recorder.events().last().map(|event| event.kind), Some(Kind::Completed));
}

/// The agent gets the same tool result as the stream.
#[tokio::test]
async fn a_result_that_is_no_json_is_a_failure_for_all() {
    let recorder = Recorder::new(Vec::new());
    let run = recorder.run();
    let told = run.tool("map", &json!({}), async { Ok::<_, String>(no_json()) }).await;
    assert!(matches!(told, Err(ToolError::NotJson)), "{told:?}");
    let (_, end, data) = tools(&recorder.events()).remove(0);
    assert_eq!((end, data["error"].as_str()), (ToolEnd::Failure, Some("the tool's result cannot be written as JSON")));
}

/// The tools of an agent that panics have a different status from a tool that panics itself.
#[tokio::test]
async fn the_tools_of_an_agent_that_panics_say_so() {
    let recorder = Recorder::new(Vec::new());
    let run = recorder.run();
    let agent = tokio::spawn(async move {
        let arguments = json!({});
        let waits = run.tool("waits", &arguments, core::future::pending::<Result<u8, String>>());
        let mut waits = pin!(waits);
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        panic!("on purpose");
    });
    assert!(agent.await.is_err_and(|error| error.is_panic()));
    let (name, end, data) = tools(&recorder.events()).remove(0);
    let error = "the agent panicked before the tool returned";
    assert_eq!((name.as_str(), end, data["error"].as_str()), ("waits", ToolEnd::Failure, Some(error)));
    assert_eq!(recorder.events().last().map(|event| event.kind), Some(Kind::Error(Reason::Abandoned)));
}

/// RUN-3: a sign of life adds nothing to the stream, and is refused once the run is over.
#[tokio::test]
async fn an_agent_can_say_that_it_is_alive() {
    let recorder = Recorder::new(Vec::new());
    let run = recorder.run();
    run.alive().expect("taken");
    assert_eq!(recorder.events().len(), 1, "only its start");
    recorder.feed(lockstep_model::run::Input::Cancel).expect("taken");
    assert_eq!(run.alive(), Err(EmitError::Refused(Refusal::RunEnded)));
}
