//! A position that a client names after it is connected.

use lockstep_model::Code;
use lockstep_model::run::Reason;
use lockstep_model::session::Reader;

use super::*;

const HEAD: u64 = 4;

/// A session with four notices in its stream, of which readers have pulled the first.
fn noticed() -> Session<Tag> {
    let notice = |offset: u64| entry(offset - 1, offset, event(100 + offset, Kind::Notice, Some(offset as Tag)));
    let Input::Restored { attempt, mut snapshot } = snapshot(0, &(1..=HEAD).map(notice).collect::<Vec<_>>()) else {
        unreachable!()
    };
    snapshot.read = Offset(1);
    then(opened(), Input::Restored { attempt, snapshot })
}

/// A connection that is ready and waits for its position.
fn deferred() -> Session<Tag> {
    let mut session = noticed();
    let (handled, out) = step(&mut session, join(1, ReadFrom::Deferred));
    assert_eq!(handled, Ok(Handled::Done));
    assert_eq!(out.last(), Some(&Output::Arm(owned(1), Timer::Seek, SMALL.seek)));
    assert_eq!(pulled(&mut session, 1), [ready(1, HEAD, true)], "nothing else is read");
    session
}

fn seek(offset: u64) -> Input<Tag> {
    let from = Position { epoch: EPOCH, offset: Offset(offset) };
    on(1, connection::Input::Received(Request::Seek { from }))
}

fn offsets(session: &mut Session<Tag>) -> Vec<u64> {
    let offset = |frame| {
        let Frame::Event(entry) = frame else { panic!("{frame:?}") };
        entry.offset.0
    };
    pulled(session, 1).into_iter().map(offset).collect()
}

fn reads(session: &Session<Tag>) -> bool {
    session.members().get(&ConnectionId(1)).unwrap().reader == Reader::Reading
}

#[test]
fn reading_begins_after_the_position_that_the_first_request_names() {
    for place in 0..HEAD {
        let mut session = deferred();
        let (handled, out) = step(&mut session, seek(place));
        assert_eq!(handled, Ok(Handled::Done));
        assert!(out.contains(&Output::Disarm(owned(1), Timer::Seek)) && out.contains(&wake(1)), "{out:?}");
        assert!(offsets(&mut session).into_iter().eq(place + 1..=HEAD), "{place}");
    }
    let mut session = deferred();
    let (_, out) = step(&mut session, seek(HEAD));
    assert!(!out.contains(&wake(1)), "there is nothing to read");
    assert!(reads(&session) && offsets(&mut session).is_empty());
}

#[test]
fn a_position_that_is_gone_is_answered_with_what_is_missing() {
    let mut session = deferred();
    let from = Position { epoch: Epoch(1), offset: Offset(9) };
    session = then(session, on(1, connection::Input::Received(Request::Seek { from })));
    session = then(session, Input::Confirmed { attempt: attempt(1) });
    let frames = pulled(&mut session, 1);
    assert_eq!(frames[0], Frame::Control(Control::StreamReset { from: Offset(9), to: Offset(0) }));
    assert_eq!(frames.len(), 5);
}

/// STR-1: a client that names nothing in time gets what no reader has read.
#[test]
fn without_a_position_reading_begins_when_the_time_is_over() {
    let mut session = deferred();
    let late = expired(owned(1), Timer::Seek);
    assert_eq!(step(&mut session, late.clone()), done(vec![Output::Disarm(owned(1), Timer::Seek), wake(1)]));
    assert_eq!(offsets(&mut session), [2, 3, 4]);
    assert_eq!(step(&mut session, late).0, Ok(Handled::Ignored));
    // Better twice than never.
    assert!(offsets(&mut then(session, seek(0))).into_iter().eq(1..=HEAD));
}

#[test]
fn a_request_that_names_no_position_begins_the_reading_and_a_sign_of_life_does_not() {
    let asks = [
        request(9, false),
        Request::Cancel { runs: Cancel::All },
        Request::Cancel { runs: Cancel::Run(RunId(5)) },
        Request::Query { query: 3 },
    ];
    for ask in asks {
        assert!(reads(&then(deferred(), on(1, connection::Input::Received(ask)))));
    }
    for sign in [Request::Ping, Request::Pong] {
        assert!(!reads(&then(deferred(), on(1, connection::Input::Received(sign)))));
    }
}

#[test]
fn a_position_that_waited_for_ready_counts() {
    let mut connection = attaching(1, ReadFrom::Deferred, None, grant(7, 1, 0));
    let from = Position { epoch: EPOCH, offset: Offset(3) };
    let early = connection::Input::Received(Request::Seek { from });
    assert_eq!(connection.step(&SMALL, early, &mut Vec::new()), Handled::Done);
    let mut session = noticed();
    let (_, out) = step(&mut session, Input::Join { connection, mode: Mode::Ready });
    assert!(!out.contains(&Output::Arm(owned(1), Timer::Seek, SMALL.seek)), "it does not wait");
    assert_eq!(pulled(&mut session, 1).len(), 2);
}

/// NODE-2: a client that is told to go has everything before.
#[test]
fn a_client_that_must_leave_is_sent_what_it_has_not_read() {
    let mut session = deferred();
    let (_, out) = step(&mut session, Input::Leave(lockstep_model::Successor::Absent));
    assert!(out.contains(&Output::Disarm(owned(1), Timer::Seek)));
    let frames = pulled(&mut session, 1);
    assert!(matches!(frames[..3], [Frame::Event(_), Frame::Event(_), Frame::Event(_)]), "{frames:?}");
    assert!(matches!(frames[3], Frame::Control(Control::GoingAway(_))));
}

#[test]
fn no_timer_outlives_its_connection() {
    let mut session = deferred();
    let (_, out) = step(&mut session, on(1, connection::Input::Gone(Cause::Lost)));
    assert!(out.contains(&Output::Disarm(owned(1), Timer::Seek)));
}

#[test]
fn a_cancel_ends_one_run_those_of_a_thread_or_all() {
    let bounds = Bounds { runs: 3, pending: 20, requests: 0, ..SMALL };
    let start = |session: Session<Tag>, message: u64, thread: u64| {
        let Request::Message { payload, repeat, replaces, .. } = request(message, false) else { unreachable!() };
        let request = Request::Message {
            message: MessageId(message),
            thread: ThreadId(thread),
            run: RunId(message),
            payload,
            repeat,
            replaces,
        };
        let mut session = session;
        let _ = step_within(&bounds, &mut session, on(1, connection::Input::Received(request)));
        session
    };
    // Of the first thread, one run is queued.
    let session = [(11, 1), (12, 2), (13, 1)].into_iter().fold(occupied(), |session, (m, t)| start(session, m, t));
    let cases = [
        (Cancel::Run(RunId(12)), vec![11, 13]),
        (Cancel::Thread(ThreadId(1)), vec![12]),
        (Cancel::Thread(ThreadId(7)), vec![11, 12, 13]),
        (Cancel::All, vec![]),
    ];
    for (runs, left) in cases {
        let mut session = session.clone();
        let cancel = on(1, connection::Input::Received(Request::Cancel { runs }));
        assert_eq!(step_within(&bounds, &mut session, cancel).0, Ok(Handled::Done));
        assert!(session.runs().keys().map(|run| run.0).eq(left), "{runs:?}");
        let ends = |event: &Event<Tag>| event.kind == Kind::Error(Reason::Cancelled);
        assert_eq!(
            session.stream().unwrap().pending().iter().filter(|event| ends(event)).count(),
            3 - session.runs().len()
        );
        let told = pulled(&mut session, 1);
        assert!(!told.contains(&Frame::Control(Control::Error(Code::UnknownRun))), "{runs:?}");
    }
}
