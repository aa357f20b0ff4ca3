//! The names of a node's phases and inputs.

use lockstep_model::health::Health;
use lockstep_model::node::{Input, Mode, State as Stage};
use lockstep_model::{Handled, Timer};

use super::{Process, State, meant};
use crate::proof::{Lifecycle, Outcome};

impl Lifecycle for Process {
    fn phases(&self) -> &'static [&'static str] {
        &["starting", "ready", "degraded", "emergency", "draining", "stopped"]
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
            "pin ready",
            "pin degraded",
            "pin emergency",
            "pin draining",
            "unpin",
            "drain",
            "probe expired",
            "drain expired",
            "another timer",
        ]
    }

    fn phase(&self, state: &State) -> &'static str {
        match state.node.state() {
            Stage::Starting => "starting",
            Stage::Ready { .. } => "ready",
            Stage::Degraded { .. } => "degraded",
            Stage::Emergency { .. } => "emergency",
            Stage::Draining => "draining",
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
            Input::Pin(Some(Mode::Ready)) => "pin ready",
            Input::Pin(Some(Mode::Degraded)) => "pin degraded",
            Input::Pin(Some(Mode::Emergency)) => "pin emergency",
            Input::Pin(Some(Mode::Draining)) => "pin draining",
            Input::Pin(None) => "unpin",
            Input::Drain => "drain",
            Input::Expired(Timer::Probe) => "probe expired",
            Input::Expired(Timer::Drain) => "drain expired",
            Input::Expired(_) => "another timer",
        })
    }

    fn outcome(&self, before: &State, action: &Input) -> Outcome {
        let mut after = before.clone();
        match after.hear(&self.bounds, *action) {
            Handled::Ignored => Outcome::Ignored,
            Handled::Done if self.phase(before) == self.phase(&after) => Outcome::Stayed,
            Handled::Done => Outcome::Moved,
        }
    }
}
