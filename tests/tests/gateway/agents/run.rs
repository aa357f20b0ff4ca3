//! The run handle.

use core::convert::Infallible;
use core::pin::pin;
use core::task::{Context, Waker};
use std::sync::{Arc, Mutex};

use lockstep::agent::testing::Recorder;
use lockstep_model::run::{Kind, Reason, ToolEnd};
use lockstep_model::{Refusal, ToolId};
use serde_json::json;

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
