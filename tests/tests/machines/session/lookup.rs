//! Lookups in the log: what a reader has missed (STR-3), and what a client asks of conversations.

use lockstep_model::Code;
use lockstep_model::run::Reason;
use lockstep_model::session::{Found, Lookup};
use lockstep_model::stream::Page;

use super::*;

const HEAD: u64 = 9;

/// The entries of the log: nine, of which the window has the newest five.
fn stored() -> Vec<Entry<Tag>> {
    let thinking = |offset: u64| entry(offset - 1, offset, event(7, Kind::Thinking, Some(offset as Tag)));
    let mut entries = vec![entry(0, 1, received(7)), entry(1, 2, event(7, Kind::Started, None))];
    entries.extend((3..HEAD).map(thinking));
    entries.push(entry(HEAD - 1, HEAD, event(7, Kind::Error(Reason::Failed), None)));
    entries
}

/// A session whose log keeps trimmed entries.
fn keeping() -> Session<Tag> {
    let Input::Restored { attempt, mut snapshot } = snapshot(0, &stored()) else { unreachable!() };
    snapshot.keeps = true;
    then(opened(), Input::Restored { attempt, snapshot })
}

fn lookup(number: u32, after: u64) -> Output<Tag> {
    let lookup = Lookup::Page { after: Offset(after), through: Offset(HEAD - SMALL.retained as u64) };
    Output::Lookup { connection: ConnectionId(1), attempt: attempt(number), lookup }
}

/// A page with these entries of the log.
fn page(number: u32, range: core::ops::Range<usize>, through: u64) -> Input<Tag> {
    let entries = stored()[range].iter().map(|entry| Entry { previous: Offset(0), ..entry.clone() }).collect();
    found(number, Found::Page(Page { trimmed: Offset(0), entries, through: Offset(through) }))
}

fn found(number: u32, found: Found<Tag>) -> Input<Tag> {
    Input::Found { connection: ConnectionId(1), attempt: attempt(number), found }
}

fn not_found(number: u32) -> Input<Tag> {
    Input::NotFound { connection: ConnectionId(1), attempt: attempt(number) }
}

const fn in_time() -> Output<Tag> {
    Output::Arm(owned(1), Timer::Lookup, SMALL.log_answer)
}

const fn in_peace() -> Output<Tag> {
    Output::Disarm(owned(1), Timer::Lookup)
}

/// A reader that has resumed from this offset and awaits its page.
fn behind(place: u64) -> Session<Tag> {
    let mut session = then(keeping(), join(1, after(place)));
    let sent = Output::Send { connection: ConnectionId(1), frame: ready(place, HEAD, true) };
    assert_eq!(step(&mut session, pull(1, 9)), done(vec![sent, in_time(), lookup(1, place)]));
    assert!(session.members().get(&ConnectionId(1)).unwrap().lookups.is_awaiting_page());
    session
}

fn events(range: core::ops::Range<usize>) -> Vec<Frame<Tag>> {
    stored()[range].iter().cloned().map(Frame::Event).collect()
}

#[test]
fn a_reader_from_before_the_window_reads_the_log_and_then_the_window() {
    for place in 0..4 {
        let mut session = behind(place);
        assert_eq!(step(&mut session, pull(1, 9)), done(vec![]), "it waits");
        let answer = page(1, place as usize..4, 4);
        assert_eq!(step(&mut session, answer.clone()), done(vec![in_peace(), wake(1)]));
        assert_eq!(step(&mut session, answer).0, Ok(Handled::Ignored), "once");
        assert_eq!(pulled(&mut session, 1), events(place as usize..9));
    }
}

#[test]
fn a_reader_that_resumes_inside_the_window_does_not_read_the_log() {
    for place in 4..=HEAD {
        let mut session = then(keeping(), join(1, after(place)));
        assert_eq!(pulled(&mut session, 1)[1..], events(place as usize..9));
    }
}

#[test]
fn pages_may_be_of_any_size_and_end_anywhere() {
    let session = then(behind(0), page(1, 0..1, 1));
    let mut session = session;
    let sent = Output::Send { connection: ConnectionId(1), frame: events(0..1).remove(0) };
    assert_eq!(step(&mut session, pull(1, 9)), done(vec![sent, in_time(), lookup(2, 1)]));
    let mut session = then(session, page(2, 1..4, 4));
    assert_eq!(pulled(&mut session, 1), events(1..9));
}

/// A page that is empty because its entries were deleted is not a gap.
#[test]
fn what_follows_an_empty_page_is_linked_to_the_readers_place() {
    let mut session = then(behind(1), page(1, 0..0, 4));
    let frames = pulled(&mut session, 1);
    let Frame::Event(first) = &frames[0] else { panic!("{frames:?}") };
    assert_eq!((first.previous, first.offset), (Offset(1), Offset(5)));
    assert_eq!(frames[1..], events(5..9));
}

#[test]
fn what_the_log_cannot_give_is_told_as_a_gap() {
    let entries = stored()[3..4].to_vec().into();
    let answer = found(1, Found::Page(Page { trimmed: Offset(3), entries, through: Offset(4) }));
    let mut session = then(behind(1), answer);
    let reset = Frame::Control(Control::StreamReset { from: Offset(1), to: Offset(3) });
    assert_eq!(pulled(&mut session, 1), [vec![reset], events(3..9)].concat());
}

#[test]
fn a_reader_that_the_window_overtakes_reads_on_in_the_log() {
    let mut session = working(then(keeping(), join(1, ReadFrom::Latest)), 8);
    let first = pulled(&mut session, 1);
    assert_eq!(first.len(), 3);
    for _ in 0..3 {
        session = settled(then(session, emit(8, run::Input::Think)));
    }
    session = settled(then(session, emit(8, run::Input::Complete)));
    let through = session.stream().unwrap().tail();
    assert!(through > Offset(HEAD));
    let mut slow = then(session, join(2, after(HEAD)));
    let lookup = Lookup::Page { after: Offset(HEAD), through };
    let asked = Output::Lookup { connection: ConnectionId(2), attempt: attempt(1), lookup };
    assert!(step(&mut slow, pull(2, 9)).1.contains(&asked));
}

#[test]
fn a_reader_whose_page_does_not_come_is_sent_away_and_may_come_back() {
    for failure in [not_found(1), expired(owned(1), Timer::Lookup)] {
        let mut session = behind(2);
        let (handled, out) = step(&mut session, failure);
        assert_eq!(handled, Ok(Handled::Done));
        assert_eq!(released(&out), [(1, Cause::HistoryUnavailable)]);
        assert!(out.contains(&in_peace()));
        assert_eq!(step(&mut session, page(1, 2..4, 4)).0, Ok(Handled::Ignored), "too late");
    }
    assert_eq!(step(&mut keeping(), expired(owned(1), Timer::Lookup)).0, Ok(Handled::Ignored));
}

/// RET-1: a page that was looked up before the deletion is not delivered after it.
#[test]
fn a_deletion_asks_again_and_takes_its_thread_out_of_what_is_there() {
    let delete = Input::Delete { thread: ThreadId(7), deletion: RunId(50), payload: 9, as_of: None };
    let mut session = then(behind(0), delete.clone());
    let input = persist(&session, HEAD + 1);
    let (_, out) = step(&mut session, input);
    assert!(out.contains(&lookup(2, 0)), "{out:?}");
    assert_eq!(step(&mut session, page(1, 0..4, 4)).0, Ok(Handled::Ignored), "it was looked up before");
    let mut session = then(session, page(2, 0..0, 4));
    let frames = pulled(&mut session, 1);
    let Frame::Event(only) = &frames[frames.len() - 1] else { panic!("{frames:?}") };
    assert_eq!((only.event.kind, only.previous), (Kind::Deleted, Offset(0)));

    let mut session = settled(then(then(behind(0), page(1, 0..4, 4)), delete));
    let frames = pulled(&mut session, 1);
    assert!(frames.iter().all(|frame| !matches!(frame, Frame::Event(entry) if entry.event.kind != Kind::Deleted)));
}

const fn query(payload: Tag) -> Input<Tag> {
    on(1, connection::Input::Received(Request::Query { query: payload }))
}

#[test]
fn a_query_is_answered_once_and_no_more_of_them_wait_than_may() {
    let mut session = occupied();
    for (number, tag) in (1..).zip(0..SMALL.queries as Tag) {
        let lookup = Lookup::Query(tag);
        let ordered = Output::Lookup { connection: ConnectionId(1), attempt: attempt(number), lookup };
        assert!(step(&mut session, query(tag)).1.contains(&ordered));
    }
    session = then(session, query(77));
    let refused = Control::Unanswered { query: 77, code: Code::Busy };
    assert_eq!(pulled(&mut session, 1), [Frame::Control(refused)]);
    session = then(session, found(1, Found::Answer(42)));
    assert_eq!(pulled(&mut session, 1), [Frame::Control(Control::Answer(42))]);
    assert_eq!(step(&mut session, found(1, Found::Answer(42))).0, Ok(Handled::Ignored));
    session = then(session, not_found(2));
    let failed = Control::Unanswered { query: 1, code: Code::Busy };
    assert_eq!(pulled(&mut session, 1), [Frame::Control(failed)]);
    assert_eq!(session.members().len(), 1, "a query that fails closes nothing");
}

#[test]
fn a_connection_that_closes_awaits_nothing() {
    let mut session = then(occupied(), query(1));
    let (_, out) = step(&mut session, on(1, connection::Input::Gone(Cause::Lost)));
    assert!(out.contains(&in_peace()));
    assert_eq!(step(&mut session, found(1, Found::Answer(1))).0, Ok(Handled::Ignored));
}

/// A policy deletes a thread in which nothing has happened, and no other.
#[test]
fn a_deletion_with_a_condition_is_refused_when_something_happened() {
    let delete =
        |as_of: u64| Input::Delete { thread: ThreadId(7), deletion: RunId(50), payload: 9, as_of: Some(Offset(as_of)) };
    let mut session = keeping();
    for as_of in 0..HEAD {
        assert_eq!(step(&mut session, delete(as_of)), (Err(Refusal::Changed), vec![]), "{as_of}");
    }
    let asks = Request::Message {
        message: MessageId(8),
        thread: ThreadId(7),
        run: RunId(8),
        payload: 8,
        repeat: false,
        replaces: None,
    };
    let open = then(then(session.clone(), join(1, ReadFrom::Latest)), on(1, connection::Input::Received(asks)));
    assert_eq!(step(&mut settled(open.clone()), delete(HEAD)).0, Err(Refusal::Changed));
    assert_eq!(step(&mut open.clone(), delete(HEAD)).0, Err(Refusal::Changed));
    assert_eq!(step(&mut session, delete(HEAD)).0, Ok(Handled::Done));
    let other = then(then(keeping(), join(1, ReadFrom::Latest)), message(1, 8));
    assert_eq!(step(&mut settled(other), delete(HEAD)).0, Ok(Handled::Done), "another thread goes on");
}
