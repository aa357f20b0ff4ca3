//! An agent wrapper for recorded runs. Each event that the log acknowledged to the agent goes into the history as
//! `acked`, so that the history check knows which events clients must have seen (RUN-3). The outcome of any other event
//! is unknown.

use std::sync::Arc;

use lockstep::BoxFuture;
use lockstep::agent::{Agent, Message, Paused, Run};
use lockstep::payload::data_of;
use lockstep::wire::{event_type, hex};
use serde_json::json;

use crate::history::History;

struct Noted {
    history: History,
    agent: Arc<dyn Agent>,
}

/// Answers like `agent`, and records what was acknowledged to it.
pub fn noted(history: History, agent: Arc<dyn Agent>) -> impl Agent {
    Noted { history, agent }
}

impl Noted {
    fn watched(&self, user: &Arc<str>, run: Run) -> Run {
        let (history, user, id) = (self.history.clone(), Arc::clone(user), run.id());
        run.watched(move |kind| {
            let frame = json!({ "type": event_type(kind), "run_id": hex(id.0).to_string(), "data": data_of(kind) });
            history.note("agent", Some(&user), 0, "acked", json!({ "frame": frame }));
        })
    }
}

impl Agent for Noted {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        let run = self.watched(&message.subject, run);
        self.agent.answer(message, run)
    }

    fn resume(&self, paused: Paused, run: Run) -> BoxFuture<'static, ()> {
        let run = self.watched(&paused.message.subject, run);
        self.agent.resume(paused, run)
    }
}
