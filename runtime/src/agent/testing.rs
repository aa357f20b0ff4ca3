//! A session for one agent under test.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use lockstep_model::run::{self, Input, Kind, Received};
use lockstep_model::{Bounds, MessageId, Refusal, RunId, Timer};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::run::Reporter;
use super::{Message, Run, RunSink, SoFar, Turn};
use crate::BoxFuture;
use crate::payload::{Payload, thread_id};
use crate::sync::lock;

/// The deadlines that are armed.
type Armed = Mutex<BTreeMap<Timer, AbortHandle>>;

/// An event of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The event's kind.
    pub kind: Kind,
    /// The event's data. [`Value::Null`] for an event that the machine made, such as the end of an abandoned tool.
    pub data: Value,
}

/// Takes the place of a session around one run, for tests of agents. The production machine checks what the agent
/// emits, and every event is recorded and durable at once, unless [`Recorder::hold`] says otherwise.
///
/// ```
/// use lockstep::agent::testing::Recorder;
/// use lockstep_model::run::Kind;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let recorder = Recorder::new(Vec::new());
/// let run = recorder.run();
/// run.complete(serde_json::json!({ "text": "Good evening." })).await.unwrap();
/// assert_eq!(recorder.events().last().unwrap().kind, Kind::Completed);
/// # });
/// ```
pub struct Recorder {
    inside: Mutex<Inside>,
    /// The run's timers, if they are served.
    timers: Option<(Weak<Self>, Armed)>,
    progress: Reporter,
    /// Notified after each change.
    changed: Arc<Notify>,
    history: Vec<Turn>,
    bounds: Bounds,
}

struct Inside {
    machine: run::Run,
    events: Vec<Event>,
    held: bool,
    refusal: Option<Refusal>,
}

impl Recorder {
    /// A run whose thread has this history.
    #[must_use]
    pub fn new(history: Vec<Turn>) -> Arc<Self> {
        Self::bounded(Bounds::DEFAULT, history)
    }

    /// A run with these bounds.
    #[must_use]
    pub fn bounded(bounds: Bounds, history: Vec<Turn>) -> Arc<Self> {
        let mut out = Vec::new();
        Arc::new(Self::around(bounds, history, None, &mut out))
    }

    /// A run whose deadlines apply, as in a gateway: a run that is silent for too long, or takes too long, is ended.
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn watched(bounds: Bounds) -> Arc<Self> {
        let mut out = Vec::new();
        let recorder = Arc::new_cyclic(|own| {
            Self::around(bounds, Vec::new(), Some((Weak::clone(own), Mutex::default())), &mut out)
        });
        recorder.serve(&out);
        recorder
    }

    fn around(
        bounds: Bounds,
        history: Vec<Turn>,
        timers: Option<(Weak<Self>, Armed)>,
        out: &mut Vec<run::Output>,
    ) -> Self {
        let received = Received::immediate(MessageId(1), thread_id(None));
        let machine = run::Run::accept(&bounds, received, out);
        let inside = Inside { machine, events: Vec::new(), held: false, refusal: None };
        let (progress, changed) = (Reporter::default(), Arc::default());
        Self { inside: Mutex::new(inside), timers, progress, changed, history, bounds }
    }

    /// Arms and disarms the run's timers.
    fn serve(&self, out: &[run::Output]) {
        let Some((own, timers)) = &self.timers else { return };
        let mut timers = lock(timers);
        for output in out {
            let (run::Output::Arm(timer, _) | run::Output::Disarm(timer)) = output else { continue };
            if let Some(armed) = timers.remove(timer) {
                armed.abort();
            }
            if let run::Output::Arm(timer, after) = *output {
                let own = Weak::clone(own);
                let fires = tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    if let Some(recorder) = own.upgrade() {
                        let _ = recorder.feed(Input::Expired(timer));
                    }
                });
                timers.insert(timer, fires.abort_handle());
            }
        }
    }

    /// The handle of the run, which has started: `agent_started` is its first event. Must be called only once.
    #[must_use]
    pub fn run(self: &Arc<Self>) -> Run {
        let sink: Arc<dyn RunSink> = Arc::clone(self) as _;
        let run = Run::new(RunId(1), Some(Arc::from("thread")), sink, self.progress.reports());
        // Only a second handle is refused, and the machine then refuses everything that it emits.
        let _ = run.begin();
        run
    }

    /// A message whose payload is this text.
    #[must_use]
    pub fn message(text: &str) -> Message {
        let payload = RawValue::from_string(Value::from(text).to_string()).unwrap_or_default();
        Message { subject: Arc::from("user"), id: Arc::from("m1"), thread: Some(Arc::from("thread")), payload }
    }

    /// The events until now, not counting `message_received`.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Waits until the events satisfy a condition. Cancel safe.
    pub async fn until(&self, mut condition: impl FnMut(&[Event]) -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition(&self.lock().events) {
                return;
            }
            changed.await;
        }
    }

    /// Holds back later events: they do not become durable, so every emit waits.
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// Makes all events durable, and later ones at once.
    pub fn release(&self) {
        let mut inside = self.lock();
        inside.held = false;
        self.publish(&inside);
    }

    /// Makes the machine answer every input with this refusal; `None` restores its own answers.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.lock().refusal = refusal;
        self.changed.notify_waiters();
    }

    /// Gives the machine an input that does not come from the agent, such as [`Input::Cancel`].
    ///
    /// # Errors
    ///
    /// The machine's refusal.
    pub fn feed(&self, input: Input) -> Result<(), Refusal> {
        self.step(&mut self.lock(), input, Value::Null)
    }

    fn step(&self, inside: &mut Inside, input: Input, data: Value) -> Result<(), Refusal> {
        let mut out = Vec::new();
        let _ = inside.machine.step(&self.bounds, input, &mut out)?;
        self.serve(&out);
        let mut data = Some(data);
        for output in &out {
            if let run::Output::Emit(kind) = output {
                // The tools that an end closes are emitted before the event that has the data.
                let made = matches!(kind, Kind::ToolCompleted(..)) && !matches!(input, Input::CloseTool(..));
                let data = if made { Value::Null } else { data.take().unwrap_or_default() };
                inside.events.push(Event { kind: *kind, data });
            }
        }
        self.publish(inside);
        Ok(())
    }

    fn publish(&self, inside: &Inside) {
        let ended = !inside.machine.is_open();
        self.progress.report(|progress| {
            progress.halted = ended;
            if !inside.held {
                progress.durable = inside.events.len() as u64;
                progress.last = ended;
            }
        });
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        lock(&self.inside)
    }
}

impl RunSink for Recorder {
    fn emit(&self, _: RunId, input: Input, payload: Option<Payload>) -> Result<(), Refusal> {
        let mut inside = self.lock();
        if let Some(refusal) = inside.refusal {
            return Err(refusal);
        }
        let data = payload.as_ref().and_then(Payload::record).map(|record| record.data.get());
        let data = data.map_or(Value::Null, |data| serde_json::from_str(data).unwrap_or_default());
        self.step(&mut inside, input, data)
    }

    fn room(&self) -> BoxFuture<'static, ()> {
        Box::pin(Arc::clone(&self.changed).notified_owned())
    }

    fn history<'a>(&'a self, _: RunId, _: Option<&'a str>, limit: usize) -> BoxFuture<'a, Vec<Turn>> {
        let newest = self.history[self.history.len().saturating_sub(limit)..].to_vec();
        Box::pin(core::future::ready(newest))
    }

    /// The recorder has no message.
    fn so_far<'a>(&'a self, _: RunId, _: Option<&'a str>) -> BoxFuture<'a, Option<SoFar>> {
        Box::pin(core::future::ready(None))
    }

    fn silence(&self) -> Duration {
        self.bounds.silence
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("events", &self.lock().events).finish_non_exhaustive()
    }
}
