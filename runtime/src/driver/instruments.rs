//! The driver's metrics.
//!
//! Each handle is created once, when the manager is built, from the recorder that is installed then. Looking one up
//! takes locks and builds labels, and most of them are used for every event, some under the core's locks.

use lockstep_model::run::{Kind, Reason, Received, ToolEnd};
use lockstep_model::{Cause, MessageId, PartId, PauseId, ThreadId, ToolId, Verdict};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::wire::event_type;

/// The metric handles of a process.
pub(super) struct Instruments {
    pub(super) admitted: Counter,
    pub(super) refused: ByCause,
    pub(super) relayed: Counter,
    /// The connections that are relayed now.
    pub(super) relays: Gauge,
    pub(super) relay_open: Histogram,
    pub(super) closed: ByCause,
    pub(super) events: ByType,
    pub(super) runs: Counter,
    pub(super) run: Histogram,
    pub(super) first_token: Histogram,
    pub(super) verdicts: Verdicts,
    pub(super) faults: Counter,
    pub(super) log_failures: Counter,
    pub(super) log_append: Histogram,
    pub(super) event_age: Histogram,
}

impl Instruments {
    pub(super) fn new() -> Self {
        Self {
            admitted: counter!("lockstep_connections_admitted_total"),
            refused: ByCause::new("lockstep_connections_refused_total"),
            relayed: counter!("lockstep_connections_relayed_total"),
            relays: gauge!("lockstep_relays"),
            relay_open: histogram!("lockstep_relay_open_seconds"),
            closed: ByCause::new("lockstep_connections_closed_total"),
            events: ByType::new("lockstep_events_total"),
            runs: counter!("lockstep_runs_launched_total"),
            run: histogram!("lockstep_run_seconds"),
            first_token: histogram!("lockstep_first_token_seconds"),
            verdicts: Verdicts::new("lockstep_verdicts_total"),
            faults: counter!("lockstep_faults_total"),
            log_failures: counter!("lockstep_log_failures_total"),
            log_append: histogram!("lockstep_log_append_seconds"),
            event_age: histogram!("lockstep_event_age_seconds"),
        }
    }
}

/// One counter per close code.
pub(super) struct ByCause(Box<[Counter]>);

impl ByCause {
    fn new(name: &'static str) -> Self {
        Self(Cause::ALL.iter().map(|cause| counter!(name, "code" => cause.code().to_string())).collect())
    }

    pub(super) fn of(&self, cause: Cause) -> &Counter {
        // The table is in the order of the enum.
        &self.0[cause as usize]
    }
}

/// One counter per kind of verdict.
pub(super) struct Verdicts {
    valid: Counter,
    rejected: Counter,
    unavailable: Counter,
}

impl Verdicts {
    fn new(name: &'static str) -> Self {
        let of = |verdict: &'static str| counter!(name, "verdict" => verdict);
        Self { valid: of("valid"), rejected: of("rejected"), unavailable: of("unavailable") }
    }

    pub(super) const fn of(&self, verdict: &Verdict) -> &Counter {
        match verdict {
            Verdict::Valid { .. } => &self.valid,
            Verdict::Rejected => &self.rejected,
            Verdict::Unavailable => &self.unavailable,
        }
    }
}

/// One counter per type of event.
pub(super) struct ByType {
    received: Counter,
    started: Counter,
    thinking: Counter,
    delta: Counter,
    tool_executing: Counter,
    tool_completed: Counter,
    paused: Counter,
    resumed: Counter,
    completed: Counter,
    error: Counter,
    notice: Counter,
    deleted: Counter,
}

impl ByType {
    fn new(name: &'static str) -> Self {
        // The label contains the event's type only, so the other fields do not matter.
        let of = |kind| counter!(name, "type" => event_type(kind));
        let received = Received::immediate(MessageId(0), ThreadId(0));
        Self {
            received: of(Kind::Received(received)),
            started: of(Kind::Started),
            thinking: of(Kind::Thinking),
            delta: of(Kind::Delta(PartId(0))),
            tool_executing: of(Kind::ToolExecuting(ToolId(0))),
            tool_completed: of(Kind::ToolCompleted(ToolId(0), ToolEnd::Success)),
            paused: of(Kind::Paused(PauseId(0))),
            resumed: of(Kind::Resumed(PauseId(0))),
            completed: of(Kind::Completed),
            error: of(Kind::Error(Reason::Failed)),
            notice: of(Kind::Notice),
            deleted: of(Kind::Deleted),
        }
    }

    pub(super) const fn of(&self, kind: Kind) -> &Counter {
        match kind {
            Kind::Received(_) => &self.received,
            Kind::Started => &self.started,
            Kind::Thinking => &self.thinking,
            Kind::Delta(_) => &self.delta,
            Kind::ToolExecuting(_) => &self.tool_executing,
            Kind::ToolCompleted(..) => &self.tool_completed,
            Kind::Paused(_) => &self.paused,
            Kind::Resumed(_) => &self.resumed,
            Kind::Completed => &self.completed,
            Kind::Error(_) => &self.error,
            Kind::Notice => &self.notice,
            Kind::Deleted => &self.deleted,
        }
    }
}
