//! The names of a node's phases and inputs.

use lockstep_model::health::Health;
use lockstep_model::node::{Input, Mode, State as Stage, Successor};
use lockstep_model::{Handled, Timer};

use super::{Process, State, meant};
use crate::engine::proof::{Lifecycle, Outcome};

impl Lifecycle for Process {
    fn phases(&self) -> &'static [&'static str] {
        &["starting", "ready", "degraded", "emergency", "announcing", "finishing", "leaving", "stopping", "stopped"]
    }

    fn inputs(&self) -> &'static [&'static str] {
        &[
            "started",
            "good probe",
            "poor probe",
            "critical probe",
            "accept",
            "closed",
            "session opened",
            "session retired",
            "session busy",
            "session quiet",
            "announced",
            "pin ready",
            "pin degraded",
            "pin emergency",
            "pin handing over",
            "pin draining",
            "unpin",
            "drain",
            "hand over",
            "abort",
            "probe expired",
            "drain expired",
            "grace expired",
            "another timer",
        ]
    }

    fn phase(&self, state: &State) -> &'static str {
        match state.node.state() {
            Stage::Starting => "starting",
            Stage::Ready { .. } => "ready",
            Stage::Degraded { .. } => "degraded",
            Stage::Emergency { .. } => "emergency",
            Stage::Announcing { .. } => "announcing",
            Stage::Finishing { .. } => "finishing",
            Stage::Leaving => "leaving",
            Stage::Stopping => "stopping",
            Stage::Stopped => "stopped",
        }
    }

    fn input(&self, action: &Input) -> Option<&'static str> {
        Some(match action {
            Input::Started => "started",
            Input::Probed(measured) => match meant(&self.bounds, *measured) {
                Health::Good => "good probe",
                Health::Poor => "poor probe",
                Health::Critical => "critical probe",
            },
            Input::Accept => "accept",
            Input::Closed => "closed",
            Input::SessionOpened => "session opened",
            Input::SessionRetired => "session retired",
            Input::SessionBusy => "session busy",
            Input::SessionQuiet => "session quiet",
            Input::Announced => "announced",
            Input::Pin(Some(Mode::Ready)) => "pin ready",
            Input::Pin(Some(Mode::Degraded)) => "pin degraded",
            Input::Pin(Some(Mode::Emergency)) => "pin emergency",
            Input::Pin(Some(Mode::HandingOver)) => "pin handing over",
            Input::Pin(Some(Mode::Draining)) => "pin draining",
            Input::Pin(None) => "unpin",
            Input::Drain { successor: Successor::Absent } => "drain",
            Input::Drain { successor: Successor::Waiting } => "hand over",
            Input::HandoverAborted => "abort",
            Input::Expired(Timer::Probe) => "probe expired",
            Input::Expired(Timer::Drain) => "drain expired",
            Input::Expired(Timer::Grace) => "grace expired",
            Input::Expired(_) => "another timer",
        })
    }

    fn outcome(&self, before: &State, action: &Input) -> Outcome {
        let mut after = before.clone();
        match after.feed(&self.bounds, *action) {
            Handled::Ignored => Outcome::Ignored,
            Handled::Done if self.phase(before) == self.phase(&after) => Outcome::Stayed,
            Handled::Done => Outcome::Moved,
        }
    }
}
