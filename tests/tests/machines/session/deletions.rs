//! RET-1: deleting a thread.

use lockstep_model::frame::ReadFrom;
use lockstep_model::run::{self, Reason};
use lockstep_model::session::Known;
use lockstep_model::{Code, Refusal};

use super::*;

const DELETED: u64 = 50;

const fn deletion(thread: u64) -> Input<Tag> {
    Input::Delete { thread: ThreadId(thread), deletion: RunId(DELETED), payload: 9, as_of: None }
}

const fn deleted(thread: u64) -> Event<Tag> {
    Event { run: RunId(DELETED), thread: Some(ThreadId(thread)), kind: Kind::Deleted, payload: Some(9) }
}

/// The pending events, in order.
fn pending(session: &Session<Tag>) -> Vec<Kind> {
    session.stream().unwrap().pending().iter().map(|event| event.kind).collect()
}

fn kinds(session: &Session<Tag>) -> Vec<Kind> {
    session.stream().unwrap().entries().iter().map(|entry| entry.event.kind).collect()
}

#[test]
fn a_deletion_ends_the_runs_of_its_thread_and_says_so_behind_them() {
    let session = settled(then(then(occupied(), message(1, 5)), message(1, 6)));
    let session = then(session, deletion(5));
    assert_eq!(pending(&session), [Kind::Error(Reason::Cancelled), Kind::Deleted]);
    assert!(session.runs().keys().eq([&RunId(6)]), "another thread's goes on");
    let session = settled(session);
    let left = [received(6).kind, Kind::Deleted];
    assert_eq!(kinds(&session), left);
    assert!(session.known().keys().eq([&MessageId(6)]) && session.past().iter().eq([&MessageId(5)]));
}

#[test]
fn a_run_that_was_not_launched_is_not_launched() {
    let session = then(then(occupied(), message(1, 5)), deletion(5));
    let mut session = session;
    let mut out = Vec::new();
    while !session.stream().unwrap().pending().is_empty() {
        let input = persist(&session, session.stream().unwrap().head().0 + 1);
        out.extend(step(&mut session, input).1);
    }
    assert!(!out.iter().any(|output| matches!(output, Output::Launch { .. })), "{out:?}");
    assert!(out.contains(&Output::Durable { run: RunId(DELETED), offset: Offset(3), last: true }));
    assert_eq!(kinds(&session), [Kind::Deleted]);
}

#[test]
fn a_reader_that_missed_a_deleted_message_is_told_that_it_was_received() {
    let mut session = settled(then(then(occupied(), message(1, 5)), deletion(5)));
    let known = Control::Known { message: MessageId(5), run: RunId(5), offset: Offset(1) };
    assert_eq!(pulled(&mut session, 1), [Frame::Control(known), Frame::Event(entry(0, 3, deleted(5)))]);
}

#[test]
fn a_reader_of_a_deleted_message_continues_from_there() {
    let mut session = settled(then(occupied(), message(1, 5)));
    assert_eq!(pulled(&mut session, 1), [Frame::Event(entry(0, 1, received(5)))]);
    session = settled(then(session, deletion(5)));
    assert_eq!(pulled(&mut session, 1), [Frame::Event(entry(1, 3, deleted(5)))]);
}

#[test]
fn its_messages_are_refused_and_its_name_is_free() {
    let mut session = settled(then(settled(then(occupied(), message(1, 5))), deletion(5)));
    let _ = pulled(&mut session, 1);
    session = then(session, message(1, 5));
    let refused = Control::Refused { message: MessageId(5), code: Code::Forgotten };
    assert_eq!(pulled(&mut session, 1), [Frame::Control(refused)]);
    let again = Request::Message {
        message: MessageId(8),
        thread: ThreadId(5),
        run: RunId(8),
        payload: 8,
        repeat: false,
        replaces: None,
    };
    session = settled(then(session, on(1, connection::Input::Received(again))));
    assert!(session.runs().keys().eq([&RunId(8)]), "a new conversation of the same name");
    assert_eq!(session.known().get(&MessageId(8)), Some(&Known { run: RunId(8), offset: Some(Offset(4)) }));
}

/// The restored log may still have deleted entries; the session drops them.
#[test]
fn a_restart_reads_nothing_of_it() {
    let error = event(5, Kind::Error(Reason::Cancelled), None);
    let given = [entry(0, 1, received(5)), entry(1, 2, received(6)), entry(2, 3, error), entry(3, 4, deleted(5))];
    let mut session = then(then(opened(), snapshot(0, &given)), join(1, ReadFrom::Earliest));
    assert!(session.runs().is_empty() && session.past().iter().eq([&MessageId(5)]));
    let read = [Frame::Event(entry(0, 2, received(6))), Frame::Event(entry(2, 4, deleted(5)))];
    assert_eq!(pulled(&mut session, 1)[1..3], read);
}

#[test]
fn a_deletion_is_refused_while_there_is_no_room() {
    let mut session = opened();
    assert_eq!(step(&mut session, deletion(5)).0, Err(Refusal::Backpressure));
    session = then(occupied(), message(1, 5));
    let reserve: usize = session.runs().values().map(lockstep_model::Run::reserve).sum();
    for number in 0..SMALL.pending - 1 - reserve {
        session = then(session, Input::Notice { notice: RunId(20 + number as u64), thread: None, payload: 7 });
    }
    let before = session.clone();
    assert_eq!(step(&mut session, deletion(5)).0, Err(Refusal::Backpressure));
    assert_eq!(session, before, "nothing is cancelled for it");
    let delete = Request::Delete { thread: ThreadId(5), deletion: RunId(DELETED), payload: 9 };
    session = then(session, on(1, connection::Input::Received(delete)));
    assert_eq!(pulled(&mut session, 1), [Frame::Control(Control::Error(Code::Busy))]);
    assert!(session.runs().contains_key(&RunId(5)));
    session = then(session, emit(5, run::Input::Fail));
    assert_eq!(step(&mut session, deletion(5)).0, Err(Refusal::Backpressure), "the end takes the room it had");
}

/// A notice belongs to the thread that it names, and otherwise to none.
#[test]
fn notices_of_the_thread_go_with_it() {
    let notice = |number, thread| Input::Notice { notice: RunId(number), thread, payload: 7 };
    let session = then(then(occupied(), notice(20, Some(ThreadId(5)))), notice(21, None));
    let session = settled(then(settled(session), deletion(5)));
    let left: Vec<_> = session.stream().unwrap().entries().iter().map(|entry| entry.event.run).collect();
    assert_eq!(left, [RunId(21), RunId(DELETED)]);
}
