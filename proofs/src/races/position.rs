//! Positions that a client names after it is connected.

use lockstep_model::connection::Input as C;
use lockstep_model::session::Input as S;
use lockstep_model::{Request, Timer};

use super::{Row, alone};
use crate::engine::profile::Profile;
use crate::models::position::{Mistake, Reading, State, model};

pub(super) fn rows() -> Vec<Row> {
    vec![
        alone!(
            "X120",
            "position ignored",
            "the position that a client names in its first frame is accepted, and reading begins elsewhere",
            ["STR-1"],
            with(Some(ignore)),
            with(None)
        ),
        alone!(
            "X121",
            "live before the position",
            "new entries are sent to a client that has yet to name its position, and then those before them",
            ["STR-1", "CONN-3"],
            with(Some(read_at_once)),
            with(None)
        ),
        alone!(
            "X122",
            "waits forever for a position",
            "a client that names no position is never sent anything",
            ["LIVE-3"],
            with(Some(wait_on)),
            with(None)
        ),
    ]
}

fn with(mistake: Option<Mistake>) -> Reading {
    let mut reading = model(Profile::Quick);
    reading.mistake = mistake;
    reading
}

fn ignore(_: &State, input: S<u8>) -> Vec<S<u8>> {
    match input {
        S::Connection { connection, input: C::Received(Request::Seek { .. }) } => {
            vec![S::Connection { connection, input: C::Expired(Timer::Seek) }]
        }
        other => vec![other],
    }
}

fn read_at_once(_: &State, input: S<u8>) -> Vec<S<u8>> {
    match input {
        S::Pull { connection, budget } => {
            let early = S::Connection { connection, input: C::Expired(Timer::Seek) };
            vec![early, S::Pull { connection, budget }]
        }
        other => vec![other],
    }
}

fn wait_on(_: &State, input: S<u8>) -> Vec<S<u8>> {
    match input {
        S::Connection { input: C::Expired(Timer::Seek), .. } => Vec::new(),
        other => vec![other],
    }
}
