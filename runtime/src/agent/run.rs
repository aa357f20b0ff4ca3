//! The run handle: the only way to emit for a run.
//!
//! Each method puts one event into the user's stream and returns when the log has it, so an acknowledged event is not
//! lost (STR-2, RUN-3). An agent that is faster than the log should gather its output into the next event meanwhile. An
//! event that the machine refuses results in an [`EmitError`] and is stored nowhere (RUN-3).

use core::fmt;
use core::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use lockstep_model::run::{Input, Kind, Reason, ToolEnd};
use lockstep_model::{PartId, PauseId, Refusal, RunId, ToolId};
use serde::Serialize;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::Turn;
use crate::BoxFuture;
use crate::payload::{Payload, Record};
use crate::sync::lock;

#[cfg(feature = "agui")]
pub(crate) mod calls;
mod error;
mod progress;

pub use self::error::{EmitError, ToolError};
pub(crate) use self::progress::{Progress, Reporter, Reports, Until};

const PANICKED: &str = "the tool panicked";
const NOT_JSON: &str = "the tool's result cannot be written as JSON";

/// Delivers a run's events to its session.
pub trait RunSink: Send + Sync {
    /// Feeds the run's machine.
    ///
    /// # Errors
    ///
    /// The machine's refusal.
    fn emit(&self, run: RunId, input: Input, payload: Option<Payload>) -> Result<(), Refusal>;

    /// Waits until an event that was refused for [backpressure](Refusal::Backpressure) may be accepted. It also returns
    /// for a change after this call and before the first poll, so it must be called before the attempt.
    fn room(&self) -> BoxFuture<'static, ()>;

    /// The newest `limit` turns of the run's thread before this run, oldest first, as far as they are kept.
    fn history<'a>(&'a self, run: RunId, thread: Option<&'a str>, limit: usize) -> BoxFuture<'a, Vec<Turn>>;

    /// The run's output so far; `None` if its beginning can no longer be read.
    fn so_far<'a>(&'a self, run: RunId, thread: Option<&'a str>) -> BoxFuture<'a, Option<SoFar>>;

    /// How long an agent may be silent: [`Bounds::silence`](lockstep_model::Bounds::silence).
    fn silence(&self) -> Duration;
}

/// The state of a run, for the agent that resumes it.
#[derive(Clone, Debug)]
pub struct SoFar {
    pub(crate) message_id: Arc<str>,
    pub(crate) turn: Turn,
    pub(crate) newest: Newest,
}

/// The numbers of a run's newest part, tool and pause.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Newest {
    pub(crate) part: u32,
    pub(crate) tool: u32,
    pub(crate) pause: u32,
}

/// Called for each acknowledged event of a run: see [`Run::watched`].
type Watcher = Box<dyn Fn(Kind) + Send + Sync>;

/// A run in progress. If it is dropped without an end, it is ended as abandoned.
pub struct Run {
    id: RunId,
    thread: Option<Arc<str>>,
    sink: Arc<dyn RunSink>,
    progress: Reports,
    said: Mutex<Said>,
    ending: Arc<AtomicBool>,
    watchers: Vec<Watcher>,
}

#[derive(Default)]
struct Said {
    /// Events that the machine has accepted, not counting `message_received`.
    events: u64,
    newest: Newest,
    /// The kind of the newest part, while no other event has followed it.
    grows: Option<Box<str>>,
    ended: bool,
}

impl Said {
    /// The part that a piece of this kind belongs to.
    fn part(&mut self, kind: &str) -> PartId {
        if self.grows.as_deref() != Some(kind) {
            self.newest.part += 1;
            self.grows = Some(kind.into());
        }
        PartId(self.newest.part)
    }
}

impl Run {
    pub(crate) fn new(id: RunId, thread: Option<Arc<str>>, sink: Arc<dyn RunSink>, progress: Reports) -> Self {
        Self { id, thread, sink, progress, said: Mutex::default(), ending: Arc::default(), watchers: Vec::new() }
    }

    /// Calls `watcher`, in the agent's task, for each later event that is acknowledged to the agent: just before the
    /// emitting method returns, and before a tool's work begins. It is not called for events that failed, for events
    /// whose future was dropped, or for events that are not the agent's, such as the end of a cancelled run. With it,
    /// any agent can be wrapped for auditing or measuring. A wrapper passes on each method of the agent:
    ///
    /// ```
    /// use lockstep::agent::{Agent, Message, Paused, Run};
    /// use lockstep::BoxFuture;
    ///
    /// struct Audited<A>(A);
    ///
    /// impl<A: Agent> Agent for Audited<A> {
    ///     fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
    ///         let (subject, id) = (message.subject.clone(), run.id());
    ///         self.0.answer(message, run.watched(move |kind| println!("{subject}: run {id:?}: {kind:?} is durable")))
    ///     }
    ///
    ///     fn resume(&self, paused: Paused, run: Run) -> BoxFuture<'static, ()> {
    ///         self.0.resume(paused, run)
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn watched(mut self, watcher: impl Fn(Kind) + Send + Sync + 'static) -> Self {
        self.watchers.push(Box::new(watcher));
        self
    }

    /// The run's id.
    #[must_use]
    pub const fn id(&self) -> RunId {
        self.id
    }

    /// The run's thread.
    #[must_use]
    pub fn thread(&self) -> Option<&str> {
        self.thread.as_deref()
    }

    /// The newest `limit` turns of the thread before this one, oldest first, as far as they are kept: by the log, if it
    /// keeps conversations, and otherwise in the session's memory. Cancel safe.
    pub async fn history(&self, limit: usize) -> Vec<Turn> {
        self.sink.history(self.id, self.thread(), limit).await
    }

    /// Returns when the run has ended for a reason other than this handle: the user cancelled, the agent was silent for
    /// too long, or the node stopped. The agent's future is dropped soon after. Cancel safe.
    pub async fn ended(&self) {
        // Without further reports, the driver is gone, and the run with it.
        let _ = self.progress.wait(Until::Over).await;
    }

    /// `agent_started`. The driver emits it before the agent gets a run that was not queued, and does not wait until it
    /// is durable.
    pub(crate) fn begin(&self) -> Result<(), Refusal> {
        let mut said = lock(&self.said);
        self.sink.emit(self.id, Input::Start, None)?;
        said.events += 1;
        Ok(())
    }

    /// Reports that the agent is at work and has nothing to emit yet, such as while a model or a tool works. This
    /// restarts the silence period, but does not extend the run's deadline. Nothing is put into the stream.
    ///
    /// # Errors
    ///
    /// [`EmitError::Refused`] if the run is over.
    pub fn alive(&self) -> Result<(), EmitError> {
        self.sink.emit(self.id, Input::Alive, None).map_err(EmitError::Refused)
    }

    /// Runs `work`, which emits nothing for a while and has its own time-out, and reports meanwhile that the agent is
    /// [alive](Self::alive). Cancel safe if `work` is.
    pub async fn alive_during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = core::pin::pin!(work);
        let pause = (self.sink.silence() / 4).max(Duration::from_millis(1));
        loop {
            if let Ok(done) = tokio::time::timeout(pause, &mut work).await {
                return done;
            }
            // If the run is over, this future is dropped.
            let _ = self.alive();
        }
    }

    /// `agent_thinking`, with `{"text": text}`.
    ///
    /// # Errors
    ///
    /// [`EmitError`]. Cancel safe: if the future is dropped, the event may still be in the stream.
    pub async fn thinking(&self, text: &str) -> Result<(), EmitError> {
        #[derive(Serialize)]
        struct Thought<'a> {
            text: &'a str,
        }
        self.write(Input::Think, &Thought { text }).await
    }

    /// `agent_thinking`, with the agent's own data, a JSON object.
    ///
    /// # Errors
    ///
    /// [`EmitError`].
    pub async fn progress(&self, data: Value) -> Result<(), EmitError> {
        self.emit(Input::Think, data).await
    }

    /// `agent_delta`: the next piece of the answer's text. See [`Run::delta`].
    ///
    /// # Errors
    ///
    /// [`EmitError`].
    pub async fn text(&self, piece: &str) -> Result<(), EmitError> {
        self.delta("text", piece).await
    }

    /// `agent_delta`: the next piece of a part, such as the text or a block of reasoning. It continues the last part if
    /// that part has the same kind and no other event was emitted since; otherwise it begins a new part. A client
    /// appends it to its text of the part, and a client that was away gets all missed pieces in one frame, so small
    /// pieces cost little. An empty piece is not emitted.
    ///
    /// # Errors
    ///
    /// [`EmitError`].
    pub async fn delta(&self, kind: &str, piece: &str) -> Result<(), EmitError> {
        if piece.is_empty() {
            return Ok(());
        }
        let part = lock(&self.said).part(kind);
        let record = Record::piece(self.thread.clone(), part, kind, piece);
        self.put(Input::Say(part), record).await
    }

    /// Runs a tool between `tool_executing` and `tool_completed`. Both the stream and the return value tell how it
    /// ended: with a result, an error or a panic. If this future is dropped, the stream says that the tool failed.
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
        let tool = {
            let mut said = lock(&self.said);
            said.newest.tool += 1;
            ToolId(said.newest.tool)
        };
        let arguments = serde_json::to_value(arguments).map_err(|_| ToolError::Run(EmitError::NotJson))?;
        let opening = json!({ "tool_id": tool_name(tool), "name": name, "arguments": arguments });
        let mut open = OpenTool { run: self, tool, name, armed: false };
        open.open(opening).await.map_err(ToolError::Run)?;
        let failure = |error: &str| json!({ "status": "failure", "error": error });
        let work = async {
            match work.await {
                Ok(value) => match serde_json::to_value(&value) {
                    Ok(written) => (json!({ "status": "success", "result": written }), Ok(value)),
                    Err(_) => (failure(NOT_JSON), Err(ToolError::NotJson)),
                },
                Err(error) => (failure(&error.to_string()), Err(ToolError::Failed(error))),
            }
        };
        // State that a panicking tool leaves behind is not used again: it is dropped here.
        let (mut data, result) = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(tool = name, "a tool panicked");
            (failure(PANICKED), Err(ToolError::Panicked))
        });
        let end = if result.is_ok() { ToolEnd::Success } else { ToolEnd::Failure };
        data["tool_id"] = tool_name(tool).into();
        data["name"] = name.into();
        // Armed until the answer: a log that is behind may not have accepted the end when this future is dropped.
        let closed = self.emit(Input::CloseTool(tool, end), data).await;
        open.armed = false;
        closed.map_err(ToolError::Run)?;
        result
    }

    /// `agent_completed`, with `data`, a JSON object such as `{"text": …}`. Tools that are still open are closed first.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; the run is then over too, or will be ended as abandoned.
    pub async fn complete(self, data: Value) -> Result<(), EmitError> {
        self.end(Input::Complete, data).await
    }

    /// `agent_error`, with a message for the user.
    ///
    /// # Errors
    ///
    /// [`EmitError`].
    pub async fn fail(self, message: &str) -> Result<(), EmitError> {
        self.end(Input::Fail, json!({ "reason": "failed", "message": message })).await
    }

    /// `agent_error`, with a message for the user and a code for programs, such as `truncated`.
    ///
    /// # Errors
    ///
    /// [`EmitError`].
    pub async fn fail_as(self, code: &str, message: &str) -> Result<(), EmitError> {
        self.end(Input::Fail, json!({ "reason": "failed", "code": code, "message": message })).await
    }

    /// `agent_paused`: asks the user for something, with `request`, a JSON object, and ends this agent. The user's
    /// reply, which may come a day and a restart later, goes to [`Agent::resume`](super::Agent::resume). Clients know
    /// these members of a request, and show others as JSON:
    ///
    /// | member | content |
    /// | --- | --- |
    /// | `message` | the question |
    /// | `asks` | a list of `{id, kind, message, tool, arguments, schema}`; `kind` is `approval`, `question` or `tool` (a tool that the client runs), and only `id` and `kind` must be there |
    ///
    /// A reply to `asks` is `{"answers": {id: answer}}`, where the answer to an approval is `{"approved": bool}`. A
    /// reply to a plain question is `{"text": …}`. Clients may send any JSON, so the agent must check it.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; the run is then over, or will be ended as abandoned.
    pub async fn pause(self, request: Value) -> Result<(), EmitError> {
        self.end(Input::Pause, request).await
    }

    /// The output of an earlier agent of the run, and the message's id. This handle continues its numbers.
    pub(crate) async fn so_far(&self) -> Option<(Turn, Arc<str>)> {
        let SoFar { message_id, turn, newest } = self.sink.so_far(self.id, self.thread()).await?;
        lock(&self.said).newest = newest;
        Some((turn, message_id))
    }

    /// Whether this handle has emitted the end. The driver then lets the agent continue until it knows that the end is
    /// durable.
    pub(crate) fn ending(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ending)
    }

    async fn end(self, input: Input, data: Value) -> Result<(), EmitError> {
        self.ending.store(true, Ordering::Release);
        let ended = self.emit(input, data).await;
        if ended.is_ok() {
            lock(&self.said).ended = true;
        }
        ended
    }

    /// Emits an event, retrying while the log is behind, and waits until it is durable.
    async fn emit(&self, input: Input, data: Value) -> Result<(), EmitError> {
        if !data.is_object() {
            return Err(EmitError::NotJson);
        }
        self.write(input, &data).await
    }

    /// Emits an event whose data is written as a JSON object.
    async fn write(&self, input: Input, data: &impl Serialize) -> Result<(), EmitError> {
        let record = Record::new(self.thread.clone(), to_raw_value(data).map_err(|_| EmitError::NotJson)?);
        self.put(input, record).await
    }

    async fn put(&self, input: Input, record: Record) -> Result<(), EmitError> {
        let payload = Payload::Record(Arc::new(record));
        let number = match self.submit(input, &payload) {
            Err(Refusal::Backpressure) => self.submit_when_there_is_room(input, &payload).await,
            answer => answer,
        }
        .map_err(EmitError::Refused)?;
        // The end of a run may also emit the ends of its tools, so the event's number says nothing.
        let ending = matches!(input, Input::Complete | Input::Fail);
        let durable = |progress: &Progress| progress.last || (!ending && progress.durable >= number);
        let until = if ending { Until::Last } else { Until::Durable(number) };
        if !self.progress.wait(until).await.is_some_and(|progress| durable(&progress)) {
            return Err(EmitError::Lost);
        }
        let pause = PauseId(lock(&self.said).newest.pause + 1);
        if let Some(kind) = emitted(input, pause) {
            self.watchers.iter().for_each(|watcher| watcher(kind));
        }
        Ok(())
    }

    /// Repeats an emit that was refused for backpressure, until it is accepted or refused for another reason.
    async fn submit_when_there_is_room(&self, input: Input, payload: &Payload) -> Result<u64, Refusal> {
        loop {
            let room = self.sink.room();
            match self.submit(input, payload) {
                Err(Refusal::Backpressure) => {}
                answer => return answer,
            }
            tokio::select! {
                () = room => {}
                // The machine now has another reason.
                _ = self.progress.wait(Until::Over) => return self.submit(input, payload),
            }
        }
    }

    /// Emits an event, and returns its number in the run. The numbers follow the order of the steps, because they are
    /// assigned under one lock with them.
    fn submit(&self, input: Input, payload: &Payload) -> Result<u64, Refusal> {
        let mut said = lock(&self.said);
        self.sink.emit(self.id, input, Some(payload.clone()))?;
        said.events += 1;
        if !matches!(input, Input::Say(_) | Input::Alive) {
            said.grows = None;
        }
        Ok(said.events)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let ended = self.said.get_mut().unwrap_or_else(PoisonError::into_inner).ended;
        if !ended {
            // Ignored by the machine if the run is over.
            let _ = self.sink.emit(self.id, Input::Abandon, None);
        }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("id", &self.id).field("progress", &self.progress.newest()).finish_non_exhaustive()
    }
}

/// A tool that is closed as failed when dropped: its agent panicked, or no longer waits for it.
struct OpenTool<'a> {
    run: &'a Run,
    tool: ToolId,
    name: &'a str,
    armed: bool,
}

impl OpenTool<'_> {
    async fn open(&mut self, data: Value) -> Result<(), EmitError> {
        // From here on the tool may be open, even if this future is dropped first. Closing one that is not open is
        // refused.
        self.armed = true;
        let opened = self.run.emit(Input::OpenTool(self.tool), data).await;
        self.armed = opened.is_ok();
        opened
    }
}

impl Drop for OpenTool<'_> {
    fn drop(&mut self) {
        if self.armed {
            // A tool's panic is caught, so what unwinds here is its agent.
            let error = if std::thread::panicking() {
                "the agent panicked before the tool returned"
            } else {
                "the agent stopped waiting for the tool"
            };
            let data = json!({
                "tool_id": tool_name(self.tool), "name": self.name, "status": "failure", "error": error,
            });
            if let Ok(data) = to_raw_value(&data) {
                let payload = Payload::Record(Arc::new(Record::new(self.run.thread.clone(), data)));
                let _ = self.run.submit(Input::CloseTool(self.tool, ToolEnd::Failure), &payload);
            }
        }
    }
}

/// The event that an agent's input becomes. `pause` is the number of the run's next pause.
const fn emitted(input: Input, pause: PauseId) -> Option<Kind> {
    match input {
        Input::Start | Input::Dequeue => Some(Kind::Started),
        Input::Think => Some(Kind::Thinking),
        Input::Say(part) => Some(Kind::Delta(part)),
        Input::OpenTool(tool) => Some(Kind::ToolExecuting(tool)),
        Input::CloseTool(tool, end) => Some(Kind::ToolCompleted(tool, end)),
        Input::Pause => Some(Kind::Paused(pause)),
        Input::Complete => Some(Kind::Completed),
        Input::Fail => Some(Kind::Error(Reason::Failed)),
        Input::Alive | Input::Resume(_) | Input::Abandon | Input::Cancel | Input::Interrupt | Input::Expired(_) => None,
    }
}

/// A tool's id on the wire.
pub(crate) fn tool_name(tool: ToolId) -> String {
    format!("t{}", tool.0)
}
