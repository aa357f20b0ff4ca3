//! The run handle.

use core::convert::Infallible;
use core::pin::pin;
use core::task::{Context, Waker};

use lockstep::agent::testing::Recorder;
use lockstep_model::Refusal;
use lockstep_model::run::{Kind, ToolEnd};
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
