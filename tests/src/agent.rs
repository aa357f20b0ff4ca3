//! Agents whose events are judged: what the log acknowledged to one is written into the history as `acked`, so that the
//! judge knows what clients must have seen (RUN-3).
//!
//! An event is written down when its emit has returned, and only if it returned `Ok`: what became of any other is not
//! known. `message_received` and `agent_started` are the driver's, not the agent's.

use core::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use lockstep::agent::{self, EmitError, Message, ToolError};
use lockstep::verify::BoxFuture;
use serde::Serialize;
use serde_json::{Value, json};

use crate::history::History;

/// An agent that works through a [`Run`].
pub struct Noted<W> {
    history: History,
    work: W,
}

impl<W, F> Noted<W>
where
    W: Fn(Message, Run) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    /// Answers with this, and writes down what was acknowledged.
    pub const fn new(history: History, work: W) -> Self {
        Self { history, work }
    }
}

impl<W, F> agent::Agent for Noted<W>
where
    W: Fn(Message, Run) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    fn answer(&self, message: Message, run: agent::Run) -> BoxFuture<'static, ()> {
        let pen = Pen { history: self.history.clone(), user: Arc::clone(&message.subject), run: run.id().0 };
        Box::pin((self.work)(message, Run { run, pen, tools: AtomicU32::new(0) }))
    }
}

impl<W> fmt::Debug for Noted<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noted").field("history", &self.history).finish_non_exhaustive()
    }
}

/// [`lockstep::agent::Run`], with each acknowledged event written down. Its tools are to be called by one task.
#[derive(Debug)]
pub struct Run {
    run: agent::Run,
    pen: Pen,
    /// Tools that were called; the gateway numbers them in that order.
    tools: AtomicU32,
}

#[derive(Debug)]
struct Pen {
    history: History,
    user: Arc<str>,
    run: u64,
}

impl Run {
    /// As [`lockstep::agent::Run::thinking`].
    ///
    /// # Errors
    ///
    /// [`EmitError`].
    pub async fn thinking(&self, text: &str) -> Result<(), EmitError> {
        self.run.thinking(text).await?;
        self.pen.acked("agent_thinking", None);
        Ok(())
    }

    /// As [`lockstep::agent::Run::tool`].
    ///
    /// # Errors
    ///
    /// [`ToolError`].
    pub async fn tool<T, E, F>(&self, name: &str, arguments: &impl Serialize, work: F) -> Result<T, ToolError<E>>
    where
        T: Serialize,
        E: fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        let tool = format!("t{}", self.tools.fetch_add(1, Ordering::Relaxed) + 1);
        let noted = async {
            // A tool works once the log has its beginning.
            self.pen.acked("tool_executing", Some(&tool));
            work.await
        };
        let result = self.run.tool(name, arguments, noted).await;
        if !matches!(result, Err(ToolError::Run(_))) {
            self.pen.acked("tool_completed", Some(&tool));
        }
        result
    }

    /// As [`lockstep::agent::Run::complete`].
    ///
    /// # Errors
    ///
    /// [`EmitError`].
    pub async fn complete(self, data: Value) -> Result<(), EmitError> {
        self.run.complete(data).await?;
        self.pen.acked("agent_completed", None);
        Ok(())
    }

    /// As [`lockstep::agent::Run::fail`].
    ///
    /// # Errors
    ///
    /// [`EmitError`].
    pub async fn fail(self, message: &str) -> Result<(), EmitError> {
        self.run.fail(message).await?;
        self.pen.acked("agent_error", None);
        Ok(())
    }
}

impl Pen {
    fn acked(&self, kind: &str, tool: Option<&str>) {
        let mut frame = json!({ "type": kind, "run_id": format!("{:016x}", self.run) });
        if let Some(tool) = tool {
            frame["data"] = json!({ "tool_id": tool });
        }
        self.history.note("agent", Some(&self.user), 0, "acked", json!({ "frame": frame }));
    }
}
