//! The grammar of RUN-1, as a reader of events that is independent of the machine:
//!
//! ```text
//! run  := received [ started ( thinking | tool )* ] end
//! tool := executing(t) … completed(t)      one t at a time, none open at the end
//! end  := completed | error
//! ```
//!
//! `completed` needs `started` before it; an error may come at once.

use std::collections::BTreeSet;

use lockstep_model::ToolId;
use lockstep_model::run::Kind;

/// How far one run's events have been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grammar {
    received: bool,
    started: bool,
    tools: BTreeSet<ToolId>,
    ended: bool,
}

impl Grammar {
    /// Reads one event. Returns an error if it is invalid here.
    pub(crate) fn read(&mut self, kind: Kind) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{kind:?} {what}"));
        if self.ended {
            return wrong("after the end");
        }
        if !self.received {
            self.received = true;
            self.ended = matches!(kind, Kind::Notice | Kind::Deleted);
            let begins = self.ended || matches!(kind, Kind::Received(_));
            return if begins { Ok(()) } else { wrong("before the message") };
        }
        match kind {
            Kind::Received(_) => return wrong("a second time"),
            Kind::Notice | Kind::Deleted => return wrong("in a run"),
            Kind::Started if self.started => return wrong("a second time"),
            Kind::Started => self.started = true,
            Kind::Thinking | Kind::Delta(_) | Kind::ToolExecuting(_) | Kind::ToolCompleted(..) | Kind::Completed
                if !self.started =>
            {
                return wrong("before the start");
            }
            Kind::Thinking | Kind::Delta(_) => {}
            Kind::ToolExecuting(tool) if !self.tools.insert(tool) => return wrong("twice at once"),
            Kind::ToolExecuting(_) => {}
            Kind::ToolCompleted(tool, _) if !self.tools.remove(&tool) => return wrong("of a tool that is not open"),
            Kind::ToolCompleted(..) => {}
            Kind::Completed | Kind::Error(_) if !self.tools.is_empty() => return wrong("over an open tool"),
            Kind::Completed | Kind::Error(_) => self.ended = true,
        }
        Ok(())
    }

    pub(crate) const fn ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn open_tools(&self) -> usize {
        self.tools.len()
    }
}
