//! The credential machine: one connection's credential.

mod exact;

use lockstep_model::auth::{Auth, Input, Output};
use lockstep_model::{Handled, Timer, Verdict};

use crate::support::{SMALL, attempt, grant, valid};

fn step(auth: &mut Auth, input: Input) -> (Handled, Vec<Output>) {
    let mut out = Vec::new();
    let handled = auth.step(&SMALL, input, &mut out);
    (handled, out)
}

/// The credential after these inputs, none of which may be stale.
fn after(inputs: &[Input]) -> Auth {
    let mut auth = Auth::new();
    for input in inputs {
        assert_eq!(step(&mut auth, *input).0, Handled::Done, "{input:?} in {auth:?}");
    }
    auth
}

fn verdict(number: u32, verdict: Verdict) -> Input {
    Input::Verdict { attempt: attempt(number), verdict }
}

fn absent() -> Auth {
    Auth::new()
}

fn verifying() -> Auth {
    after(&[Input::Presented])
}

fn held() -> Auth {
    after(&[Input::Presented, verdict(1, valid(grant(7, 1, 0), 100))])
}

fn refreshing() -> Auth {
    after(&[Input::Presented, verdict(1, valid(grant(7, 1, 0), 100)), Input::Presented])
}

/// Each kind of state that can still change.
fn living() -> [Auth; 4] {
    [absent(), verifying(), held(), refreshing()]
}

const DISARMED: [Output; 3] =
    [Output::Disarm(Timer::Verification), Output::Disarm(Timer::Warning), Output::Disarm(Timer::Credential)];
