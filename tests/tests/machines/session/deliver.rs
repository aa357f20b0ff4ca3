//! What leaves on a connection, and when its writer is woken.

use lockstep_model::connection;
use lockstep_model::frame::ReadFrom;
use lockstep_model::run;

use super::*;

fn parked(session: &Session<Tag>, id: u64) -> bool {
    session.members().get(&ConnectionId(id)).unwrap().parked
}

fn send(id: u64, frame: Frame<Tag>) -> Output<Tag> {
    Output::Send { connection: ConnectionId(id), frame }
}

/// A session with two entries in its stream and no connection.
fn written() -> Session<Tag> {
    let entries = [entry(0, 3, received(1)), entry(3, 5, event(1, Kind::Error(run::Reason::Failed), None))];
    then(opened(), snapshot(0, &entries))
}

/// STR-1: control frames first, then entries after the cursor, at most the pull's budget; a reader that finds less is
/// parked.
#[test]
fn a_pull_sends_up_to_its_budget_and_parks_a_reader_that_finds_less() {
    let first = entry(0, 3, received(1));
    let second = entry(3, 5, event(1, Kind::Error(run::Reason::Failed), None));
    let frames = [ready(0, 5, true), Frame::Event(first), Frame::Event(second)];
    for budget in 0..=3 {
        let mut session = then(written(), join(1, ReadFrom::Earliest));
        let sent: Vec<_> = frames[..budget].iter().cloned().map(|frame| send(1, frame)).collect();
        assert_eq!(step(&mut session, pull(1, budget)), done(sent));
        assert!(!parked(&session, 1), "{budget}: there may be more");
        let rest: Vec<_> = frames[budget..].iter().cloned().map(|frame| send(1, frame)).collect();
        assert_eq!(step(&mut session, pull(1, 9)), done(rest));
        assert!(parked(&session, 1));
        assert_eq!(step(&mut session, pull(1, 9)), done(vec![]));
        assert!(parked(&session, 1));
    }
}

#[test]
fn a_connection_that_waits_for_the_stream_has_nothing_to_pull() {
    let mut session = then(opened(), join(1, ReadFrom::Earliest));
    assert!(parked(&session, 1));
    assert_eq!(step(&mut session, pull(1, 3)), done(vec![]));
    assert!(parked(&session, 1));
    session = then(session, snapshot(0, &[]));
    assert!(!parked(&session, 1), "ready wakes it");
}

#[test]
fn a_parked_writer_is_woken_once_by_a_frame_of_its_own() {
    let mut session = then(then(occupied(), join(2, ReadFrom::Latest)), pull(2, 9));
    assert!(parked(&session, 1) && parked(&session, 2));
    let told = on(1, connection::Input::Tell(Control::Pong));
    assert_eq!(step(&mut session, told.clone()), done(vec![wake(1)]));
    assert!(!parked(&session, 1) && parked(&session, 2));
    assert_eq!(step(&mut session, told), done(vec![]), "once");
    assert_eq!(pulled(&mut session, 1).len(), 2);
    assert!(parked(&session, 1));
}

/// LIVE-3: a parked reader is woken when an entry becomes readable, and any other finds it without a wake-up.
#[test]
fn every_parked_reader_is_woken_once_by_an_entry() {
    let session = (2..=3).fold(occupied(), |session, id| then(session, join(id, ReadFrom::Latest)));
    let session = then(session, pull(2, 9));
    let mut session = then(session, message(1, 4));
    assert!(parked(&session, 2) && !parked(&session, 3));
    let input = persist(&session, 1);
    let (_, out) = step(&mut session, input);
    let woken: Vec<_> = out.iter().filter(|output| matches!(output, Output::Wake { .. })).collect();
    assert_eq!(woken, [&wake(1), &wake(2)]);
    for id in 1..=3 {
        assert!(!parked(&session, id));
        let frames = pulled(&mut session, id);
        assert_eq!(frames.last(), Some(&Frame::Event(entry(0, 1, received(4)))), "A14: every tab reads it");
    }
}

/// STR-1: a reader that retention has overtaken is told the gap and goes on after it.
#[test]
fn a_slow_reader_is_told_what_it_missed() {
    let mut session = working(then(occupied(), join(2, ReadFrom::Latest)), 9);
    for _ in 0..4 {
        session = settled(then(session, emit(9, run::Input::Think)));
    }
    assert_eq!(session.stream().unwrap().tail(), Offset(1));
    let frames = pulled(&mut session, 2);
    let reset = Control::StreamReset { from: Offset(0), to: Offset(1) };
    assert_eq!(frames[..2], [ready(0, 0, true), Frame::Control(reset)]);
    assert_eq!(frames.len(), 2 + SMALL.retained);
}

/// ISO-1 and LIM-1: a connection that does not read its answers is closed, and its user's others are not.
#[test]
fn a_peer_that_asks_more_than_it_reads_is_closed_alone() {
    let mut session = then(occupied(), join(2, ReadFrom::Latest));
    let unknown = |session: &mut Session<Tag>| {
        let cancel = on(1, connection::Input::Received(Request::Cancel { runs: Cancel::Run(RunId(5)) }));
        let allowance = on(1, connection::Input::Expired(Timer::Allowance));
        let _ = step(session, allowance);
        step(session, cancel).1
    };
    for _ in 0..SMALL.outbox {
        assert_eq!(released(&unknown(&mut session)), []);
    }
    assert_eq!(released(&unknown(&mut session)), [(1, Cause::Slow)]);
    assert_eq!(session.members().len(), 1);
    assert_eq!(pulled(&mut session, 2), [ready(0, 0, true)]);
}
