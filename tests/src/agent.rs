//! Agents whose events are judged: what the log acknowledged to one is written into the history as `acked`, so that the
//! judge knows what clients must have seen (RUN-3). What became of any other event is not known.

use std::sync::Arc;

use lockstep::agent::{Agent, Message, Run};
use lockstep::verify::BoxFuture;
use lockstep::wire::{data_of, event_type, hex};
use serde_json::json;

use crate::history::History;

struct Noted {
    history: History,
    agent: Arc<dyn Agent>,
}

/// Answers as this agent does, and writes down what was acknowledged to it.
pub fn noted(history: History, agent: Arc<dyn Agent>) -> impl Agent {
    Noted { history, agent }
}

impl Agent for Noted {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        let (history, user, id) = (self.history.clone(), Arc::clone(&message.subject), run.id());
        let run = run.watched(move |kind| {
            let frame = json!({ "type": event_type(kind), "run_id": hex(id.0).to_string(), "data": data_of(kind) });
            history.note("agent", Some(&user), 0, "acked", json!({ "frame": frame }));
        });
        self.agent.answer(message, run)
    }
}
