//! The login machine.

mod attempts;
mod exact;
mod roster;

use lockstep_model::login::{Ask, Input, LoginLimits, Logins, Now, Output};
use lockstep_model::{CredentialId, Handled};

/// LoginLimits that a few inputs reach.
pub(crate) const LIMITS: LoginLimits = LoginLimits {
    idle: 10,
    longest: 25,
    per_subject: 2,
    logins: 4,
    waiting: 3,
    retention: 20,
    credentials: 2,
    revocations: 5,
    records: 6,
};

fn step(logins: &mut Logins<u8>, input: Input<u8>) -> Vec<Output<u8>> {
    let mut out = Vec::new();
    let _ = logins.step(&LIMITS, input, &mut out);
    assert_eq!(logins.check(&LIMITS), Ok(()), "{logins:?}");
    out
}

/// Asserts that the input changes nothing and emits nothing.
fn ignored(logins: &mut Logins<u8>, input: Input<u8>) {
    let (before, mut out) = (logins.clone(), Vec::new());
    assert_eq!(logins.step(&LIMITS, input, &mut out), Handled::Ignored);
    assert_eq!((&*logins, out), (&before, Vec::new()));
}

const fn id(number: u64) -> CredentialId {
    CredentialId(number)
}

const fn at(time: u64) -> Now {
    Now { wall: 1000 + time, up: time }
}

/// A login of subject 1, with its own number as its request.
fn log_in(number: u64, time: u64) -> Input<u8> {
    Input::LogIn { ask: Ask(number), login: id(number), subject: 1, version: 1, now: at(time) }
}

fn refresh(ask: u64, login: u64, turn: u64, time: u64) -> Input<u8> {
    Input::Refresh { ask: Ask(ask), login: id(login), turn, now: at(time) }
}

/// Logins 1 to `count` of subject 1, all on disk.
fn with(count: u64) -> Logins<u8> {
    let mut logins = Logins::new();
    step(&mut logins, Input::Looked([(1, 1), (2, 1)].into()));
    for number in 1..=count {
        step(&mut logins, log_in(number, 0));
        step(&mut logins, Input::Written);
    }
    logins
}
