//! Notices from the embedding service, outside of runs.

use lockstep_model::frame::ReadFrom;
use lockstep_model::session::State;
use lockstep_model::{Refusal, run};

use super::*;
use crate::support::no_trace;

const fn notice(id: u64) -> Input<Tag> {
    Input::Notice { notice: RunId(id), thread: None, payload: 7 }
}

fn refuses(session: &Session<Tag>, input: Input<Tag>, refusal: Refusal) {
    let mut after = session.clone();
    let (handled, out) = step(&mut after, input);
    assert_eq!(handled, Err(refusal));
    no_trace(session, &after, &out);
}

#[test]
fn a_notice_is_written_and_durable_and_read_like_any_event() {
    let mut session = occupied();
    let batch = session.stream().unwrap().batch();
    let said = event(9, Kind::Notice, Some(7));
    assert_eq!(step(&mut session, notice(9)), done(vec![write(batch, 0, said.clone()), ASKED]));
    let input = persist(&session, 3);
    let durable = Output::Durable { run: RunId(9), offset: Offset(3), last: true };
    assert_eq!(step(&mut session, input), done(vec![durable, wake(1), ANSWERED]));
    assert_eq!(pulled(&mut session, 1), [Frame::Event(entry(0, 3, said))]);
    assert!(session.runs().is_empty() && session.known().is_empty() && session.unsettled().is_empty());
}

/// SES-1: an absent user gets the notice, and the session does not retire before it is durable.
#[test]
fn a_vacant_session_stays_for_a_notice() {
    let session = then(vacant(), notice(9));
    assert_eq!(session.state(), State::Vacant);
    let waits = then(session, expired(Owner::Session, Timer::Linger));
    assert_eq!(waits.state(), State::Vacant);
    let over = then(settled(waits), expired(Owner::Session, Timer::Linger));
    assert_eq!(over.state(), State::Retired);
    refuses(&over, notice(10), Refusal::Retired);
}

/// RUN-3: a notice does not use room that the ends of open runs will need.
#[test]
fn a_notice_is_refused_while_there_is_no_room() {
    refuses(&opened(), notice(9), Refusal::Backpressure);
    let mut session = then(occupied(), message(1, 5));
    refuses(&session, notice(5), Refusal::Misuse);
    let reserve: usize = session.runs().values().map(lockstep_model::Run::reserve).sum();
    for number in 0..SMALL.pending - 1 - reserve {
        session = then(session, notice(20 + number as u64));
    }
    refuses(&session, notice(9), Refusal::Backpressure);
    let ended = then(session, emit(5, run::Input::Fail));
    assert!(ended.runs().is_empty(), "the room was there");
}

/// RUN-3: the step in which a command that was refused for lack of room may be accepted says so, once for each event.
#[test]
fn a_command_that_was_refused_for_lack_of_room_is_told_of_room() {
    let room = |session: &mut Session<Tag>, bounds: &Bounds, input| {
        let (_, out) = step_within(bounds, session, input);
        out.iter().filter(|output| **output == Output::Room).count()
    };
    let tight = Bounds { pending: 3, ..SMALL };
    let mut session = occupied();
    for number in 0..3 {
        assert_eq!(room(&mut session, &tight, notice(20 + number)), 0, "room that shrinks is no news");
    }
    for (offset, expected) in [(1, 1), (2, 1), (3, 0)] {
        let input = persist(&session, offset);
        assert_eq!(room(&mut session, &tight, input), expected, "beyond two, no command was refused");
    }
    assert_eq!(room(&mut session, &tight, expired(Owner::Session, Timer::Linger)), 0);

    assert_eq!(room(&mut opened(), &SMALL, snapshot(0, &[])), 1, "the stream is there");
    let mut over = opened();
    assert_eq!(room(&mut over, &SMALL, Input::NotRestored { attempt: attempt(1) }), 1, "another session may take it");
    assert_eq!(room(&mut over, &SMALL, notice(9)), 0);
}

/// STR-2: a notice survives a restart.
#[test]
fn a_notice_is_recalled() {
    let said = entry(0, 3, event(9, Kind::Notice, Some(7)));
    let mut session = then(then(opened(), snapshot(0, core::slice::from_ref(&said))), join(1, ReadFrom::Earliest));
    assert_eq!(pulled(&mut session, 1), [ready(0, 3, true), Frame::Event(said)]);
    assert!(session.runs().is_empty());
}

#[test]
fn one_connection_alone_is_told_what_is_for_it() {
    let mut session = then(occupied(), join(2, ReadFrom::Latest));
    let _ = (pulled(&mut session, 1), pulled(&mut session, 2));
    assert_eq!(step(&mut session, on(1, connection::Input::Notify(8))), done(vec![wake(1)]));
    assert_eq!(pulled(&mut session, 1), [Frame::Control(Control::Notice(8))]);
    assert_eq!(pulled(&mut session, 2), []);
}
