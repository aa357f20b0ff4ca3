//! The steps of a run that wait to be emitted, in order.

use std::collections::{BTreeMap, VecDeque};

use lockstep_model::{Refusal, ToolId};
use serde_json::Value;

use crate::agent::http::{self, Emitting, MAX_WAITING, begin};
use crate::agent::{EmitError, RemoteCall, Run};

/// A tool call of the run, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallNumber(u32);

/// One step.
#[derive(Debug)]
pub(super) enum Step {
    /// A piece of text or reasoning.
    Say(&'static str, String),
    /// An event that is passed on.
    Pass(Value),
    /// A tool call begins.
    Open { number: CallNumber, call: RemoteCall },
    /// A tool call has its result.
    Close { number: CallNumber, name: String, result: Value },
}

/// How a step was emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emitted {
    /// It is in the stream, or left out because the run is at its event limit.
    Done,
    /// The call is not in the stream: too many are open, or the run is at its event limit.
    Unopened(CallNumber),
}

/// Steps in order. Pieces of one kind that follow each other are one step.
#[derive(Debug, Default)]
pub(super) struct Steps {
    waiting: VecDeque<Step>,
    /// Bytes of what waits.
    bytes: usize,
    calls: u32,
    open: BTreeMap<CallNumber, ToolId>,
    ends_with_text: bool,
}

impl Steps {
    /// Whether more may be read before what waits is emitted.
    pub(super) const fn has_room(&self) -> bool {
        self.bytes < MAX_WAITING
    }

    /// Whether the last step is text.
    pub(super) const fn ends_with_text(&self) -> bool {
        self.ends_with_text
    }

    /// Adds a piece of text or reasoning.
    pub(super) fn say(&mut self, kind: &'static str, piece: &str) {
        if piece.is_empty() {
            return;
        }
        self.ends_with_text = kind == "text";
        self.bytes += piece.len();
        match self.waiting.back_mut() {
            Some(Step::Say(last, text)) if *last == kind => text.push_str(piece),
            Some(Step::Say(..) | Step::Pass(_) | Step::Open { .. } | Step::Close { .. }) | None => {
                self.waiting.push_back(Step::Say(kind, piece.to_owned()));
            }
        }
    }

    /// Adds an event that is passed on.
    pub(super) fn pass(&mut self, event: Value) {
        self.push(Step::Pass(event));
    }

    /// Adds the begin of a tool call, and returns its number.
    pub(super) fn open(&mut self, call: RemoteCall) -> CallNumber {
        let number = self.next_number();
        self.push(Step::Open { number, call });
        number
    }

    /// Returns the number of a call that is already in the stream.
    pub(super) fn opened(&mut self, tool: ToolId) -> CallNumber {
        let number = self.next_number();
        self.open.insert(number, tool);
        number
    }

    /// Adds the end of a tool call.
    pub(super) fn close(&mut self, number: CallNumber, name: String, result: Value) {
        self.push(Step::Close { number, name, result });
    }

    fn next_number(&mut self) -> CallNumber {
        self.calls += 1;
        CallNumber(self.calls)
    }

    fn push(&mut self, step: Step) {
        self.ends_with_text = false;
        self.bytes += size(&step);
        self.waiting.push_back(step);
    }

    /// Emits the next step, or as much of a text as one event shows.
    pub(super) fn next<'a>(&mut self, run: &'a Run) -> Option<Emitting<'a, Emitted>> {
        let mut step = self.waiting.pop_front()?;
        if let Step::Say(kind, text) = &mut step {
            let (kind, piece) = (*kind, begin(text));
            self.bytes -= piece.len();
            if !text.is_empty() {
                self.waiting.push_front(step);
            }
            return Some(Box::pin(async move { left_out(run.delta(kind, &piece).await) }));
        }
        self.bytes -= size(&step);
        Some(match step {
            Step::Say(..) => return None,
            Step::Pass(data) => Box::pin(async move { left_out(run.progress(data).await) }),
            Step::Open { number, call } => {
                let tool = run.next_tool();
                self.open.insert(number, tool);
                Box::pin(async move {
                    match run.open_tool(tool, &call).await {
                        Err(EmitError::Refused(Refusal::TooManyTools | Refusal::TooManyEvents)) => {
                            Ok(Emitted::Unopened(number))
                        }
                        other => other.map(|()| Emitted::Done),
                    }
                })
            }
            Step::Close { number, name, result } => {
                let tool = self.open.remove(&number);
                Box::pin(async move {
                    match tool {
                        Some(tool) => left_out(run.close_tool(tool, &name, Ok(&result)).await),
                        None => Ok(Emitted::Done),
                    }
                })
            }
        })
    }

    /// Records how a step was emitted.
    pub(super) fn emitted(&mut self, emitted: Emitted) {
        match emitted {
            Emitted::Done => {}
            Emitted::Unopened(number) => drop(self.open.remove(&number)),
        }
    }
}

/// A run at its event limit can still end, so the events before its end are left out.
fn left_out(emitted: Result<(), EmitError>) -> Result<Emitted, EmitError> {
    match emitted {
        Err(error) if !http::is_beyond(&error) => Err(error),
        Ok(()) | Err(_) => Ok(Emitted::Done),
    }
}

/// Bytes of a step's content.
fn size(step: &Step) -> usize {
    match step {
        Step::Say(_, text) => text.len(),
        Step::Pass(data)
        | Step::Open { call: RemoteCall { arguments: data, .. }, .. }
        | Step::Close { result: data, .. } => data.to_string().len(),
    }
}
