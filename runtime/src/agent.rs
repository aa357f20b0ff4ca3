//! Agents answer messages. An agent is given a [`Run`] and emits its answer through it.
//!
//! Data of clients, agents and tools is JSON of any shape. Its types are those of [`serde_json`], because agents build
//! it with [`json!`](serde_json::json) and read it with `serde`: `Value` if its content matters, and `RawValue`, the
//! text as it was written, if it is only passed on.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::BoxFuture;
use crate::payload::text_of;

pub(crate) mod history;
mod run;

pub use history::{End, Exchange, Step, ToolCall, Turn};
#[cfg(feature = "agui")]
pub(crate) use run::calls::{RemoteCall, tool_named};
pub use run::{EmitError, Run, RunSink, SoFar, ToolError};
pub(crate) use run::{Reporter, Reports, Until};

#[cfg(feature = "agui")]
pub mod agui;
pub mod builtin;
#[cfg(any(feature = "agui", feature = "openai"))]
mod http;
#[cfg(feature = "openai")]
pub mod openai;
#[cfg(any(feature = "agui", feature = "openai"))]
pub mod sse;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tools;
#[cfg(any(feature = "agui", feature = "openai"))]
mod transcript;

/// A message from a user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Message {
    /// The user's name at the issuer.
    pub subject: Arc<str>,
    /// The client's id for the message.
    pub id: Arc<str>,
    /// The thread, if the client named one.
    pub thread: Option<Arc<str>>,
    /// What the client sent as `payload`: any JSON.
    pub payload: Box<RawValue>,
}

impl Message {
    /// A message outside any thread, as a test of an agent makes it.
    #[must_use]
    pub const fn new(subject: Arc<str>, id: Arc<str>, payload: Box<RawValue>) -> Self {
        Self { subject, id, thread: None, payload }
    }

    /// The text of the message: the payload if it is a string, or its field `text` or `content`.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        text_of(&self.payload)
    }
}

/// Answers messages.
///
/// The future is the run: it emits through `run` and ends with [`Run::complete`] or [`Run::fail`]. A run whose future
/// returns, panics or is dropped without one of these is ended as abandoned, and its open tools are closed. When the
/// user cancels, or the run ends for another reason, the future is dropped at its next await; an agent that must clean
/// up first can wait for [`Run::ended`].
pub trait Agent: Send + Sync + 'static {
    /// Answers a message.
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()>;

    /// Continues a run that [paused](Run::pause), because the user has replied. The run may have paused in another
    /// process. An agent that never pauses need not implement this; one that wraps another must pass it on.
    fn resume(&self, paused: Paused, run: Run) -> BoxFuture<'static, ()> {
        drop(paused);
        Box::pin(async move {
            // If the run is over, the user has been told why.
            let _ = run.fail("This agent cannot go on with a paused answer.").await;
        })
    }
}

/// A run that paused, and the reply with which it resumes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Paused {
    /// The message that began the run.
    pub message: Message,
    /// The agent's question: the `request` of its [`Run::pause`].
    pub request: Box<RawValue>,
    /// The user's reply: any JSON.
    pub reply: Box<RawValue>,
    /// The run's output so far. Its last step is this question with its reply.
    pub turn: Turn,
}

impl<A: Agent + ?Sized> Agent for Arc<A> {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        (**self).answer(message, run)
    }

    fn resume(&self, paused: Paused, run: Run) -> BoxFuture<'static, ()> {
        (**self).resume(paused, run)
    }
}
