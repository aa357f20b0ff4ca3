//! What the log may forget, and what a restart makes of its contents.

use lockstep_model::ToolId;
use lockstep_model::connection;
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::{self, Ending, Reason, ToolEnd};
use lockstep_model::session::{Known, State, Unsettled};

use super::*;

fn trims(out: &[Output<Tag>]) -> Vec<u64> {
    out.iter()
        .filter_map(|output| if let Output::Trim { through, .. } = output { Some(through.0) } else { None })
        .collect()
}

/// `session` after one more durable entry, and the offsets through which the log may then forget.
fn durable(session: Session<Tag>, input: Option<Input<Tag>>) -> (Session<Tag>, Vec<u64>) {
    let mut session = input.into_iter().fold(session, then);
    let offset = session.stream().unwrap().head().0 + 1;
    let input = persist(&session, offset);
    let (handled, out) = step(&mut session, input);
    assert_eq!(handled, Ok(Handled::Done));
    (session, trims(&out))
}

fn think(run: u64) -> Option<Input<Tag>> {
    Some(emit(run, run::Input::Think))
}

#[test]
fn every_event_of_a_run_tells_its_agent_that_it_is_durable() {
    let mut session = then(working(occupied(), 5), emit(5, run::Input::Think));
    let input = persist(&session, 7);
    let out = vec![Output::Durable { run: RunId(5), offset: Offset(7), last: false }, wake(1), ANSWERED];
    session = then(session, pull(1, 99));
    assert_eq!(step(&mut session, input), done(out));
}

#[test]
fn a_run_that_has_ended_before_its_message_was_durable_is_not_launched() {
    let mut session = then(then(occupied(), message(1, 5)), emit(5, run::Input::Cancel));
    let input = persist(&session, 1);
    let (_, out) = step(&mut session, input);
    let end = event(5, Kind::Error(Reason::Cancelled), Some(99));
    assert_eq!(out, [wake(1), write(session.stream().unwrap().batch(), 1, end), ASKED]);
    assert!(session.unsettled().contains_key(&RunId(5)), "its end is not durable");
    let input = persist(&session, 2);
    assert_eq!(
        step(&mut session, input).1,
        [Output::Durable { run: RunId(5), offset: Offset(2), last: true }, ANSWERED]
    );
    assert!(session.unsettled().is_empty());
}

/// STR-2: the log keeps a run from its first event until its last is durable; then it may forget what is not readable.
#[test]
fn the_beginning_of_a_run_is_kept_until_its_end_is_durable() {
    let mut session = working(occupied(), 5);
    for _ in 0..5 {
        let (next, trimmed) = durable(session, think(5));
        assert_eq!(trimmed, [] as [u64; 0], "run 5 begins at 1");
        session = next;
    }
    assert_eq!(session.stream().unwrap().tail(), Offset(2));
    let known = Known { run: RunId(5), offset: Some(Offset(1)) };
    assert_eq!(session.known().get(&MessageId(5)), Some(&known), "RUN-2: open, so not forgotten");

    let mut ended = session;
    let (_, out) = step(&mut ended, emit(5, run::Input::Complete));
    assert_eq!(trims(&out), [] as [u64; 0], "the end is not durable");
    assert!(ended.unsettled().contains_key(&RunId(5)) && ended.known().contains_key(&MessageId(5)));
    let (ended, trimmed) = durable(ended, None);
    assert_eq!(trimmed.last(), Some(&3));
    assert!(ended.unsettled().is_empty() && ended.known().is_empty());
}

#[test]
fn an_older_run_holds_back_what_a_younger_one_gives_up() {
    let two = settled(then(working(occupied(), 5), message(1, 6)));
    let mut session = settled(then(two, emit(6, run::Input::Fail)));
    assert_eq!(session.unsettled().len(), 1);
    for _ in 0..4 {
        let (next, trimmed) = durable(session, think(5));
        assert_eq!(trimmed, [] as [u64; 0]);
        session = next;
    }
    assert!(!session.known().contains_key(&MessageId(6)), "trimmed, and its run has ended");
    assert!(session.known().contains_key(&MessageId(5)));
}

#[test]
fn what_is_not_readable_and_of_no_open_run_may_be_forgotten_once() {
    let mut session = settled(then(working(occupied(), 5), emit(5, run::Input::Complete)));
    assert_eq!(session.known().len(), 1, "readable, so remembered");
    session = then(session, message(1, 6));
    let mut through = Vec::new();
    for input in [None, Some(emit(6, run::Input::Start)), think(6), think(6), think(6)] {
        let (next, trimmed) = durable(session, input);
        session = next;
        through.extend(trimmed);
    }
    assert_eq!(through, [1, 2, 3], "entry 4 begins run 6");
    assert_eq!(session.stream().unwrap().tail(), Offset(3));
    assert_eq!(session.known().keys().copied().collect::<Vec<_>>(), [MessageId(6)]);
}

fn run_of(number: u64, kinds: &[Kind]) -> Vec<Event<Tag>> {
    let mut events = vec![received(number)];
    events.extend(kinds.iter().map(|kind| event(number, *kind, None)));
    events
}

fn entries(events: &[Event<Tag>]) -> Vec<Entry<Tag>> {
    (1..).zip(events).map(|(offset, event)| entry(offset - 1, offset, event.clone())).collect()
}

/// RUN-1 across a restart: open runs are ended, tools first; ended ones are unchanged.
#[test]
fn a_restart_interrupts_what_was_under_way() {
    let tool = ToolId(1);
    let log = entries(
        &[run_of(5, &[Kind::Error(Reason::Failed)]), run_of(6, &[Kind::Started, Kind::ToolExecuting(tool)])].concat(),
    );
    let mut session = then(opened(), join(1, ReadFrom::Earliest));
    let (handled, out) = step(&mut session, snapshot(0, &log));
    assert_eq!(handled, Ok(Handled::Done));
    assert!(out.contains(&Output::Halt { run: RunId(6) }) && !out.contains(&Output::Halt { run: RunId(5) }));
    let closing = [
        event(6, Kind::ToolCompleted(tool, ToolEnd::Abandoned(Ending::Error(Reason::Interrupted))), None),
        event(6, Kind::Error(Reason::Interrupted), None),
    ];
    assert_eq!(session.stream().unwrap().pending(), &closing);
    assert!(session.runs().is_empty());
    let unsettled = Unsettled { message: MessageId(6), offset: Offset(3) };
    assert_eq!(session.unsettled().iter().collect::<Vec<_>>(), [(&RunId(6), &unsettled)]);
    let known = [(5, 1), (6, 3)]
        .map(|(number, offset)| (MessageId(number), Known { run: RunId(number), offset: Some(Offset(offset)) }));
    assert_eq!(session.known().iter().map(|(message, known)| (*message, *known)).collect::<Vec<_>>(), known);
    let again = settled(session);
    assert!(again.unsettled().is_empty() && again.state() == State::Occupied);
}

/// A second crash, after part of the interruption is durable, adds only the rest.
#[test]
fn an_interruption_that_was_interrupted_is_completed() {
    let tools = [ToolId(1), ToolId(2)];
    let begun = [Kind::Started, Kind::ToolExecuting(tools[0]), Kind::ToolExecuting(tools[1])];
    let closed = Kind::ToolCompleted(tools[0], ToolEnd::Abandoned(Ending::Error(Reason::Interrupted)));
    let log = entries(&run_of(6, &[&begun[..], &[closed]].concat()));
    let session = then(opened(), snapshot(0, &log));
    let closing = [
        event(6, Kind::ToolCompleted(tools[1], ToolEnd::Abandoned(Ending::Error(Reason::Interrupted))), None),
        event(6, Kind::Error(Reason::Interrupted), None),
    ];
    assert_eq!(session.stream().unwrap().pending(), &closing);
    assert_eq!(session.state(), State::Vacant);
}

/// LIM-1, RUN-2: a restored session reads and remembers no more than is retained, and the beginnings of open runs.
#[test]
fn a_restart_forgets_what_is_not_retained() {
    let thoughts = [Kind::Started, Kind::Thinking, Kind::Thinking, Kind::Thinking];
    let log = entries(&[run_of(5, &[Kind::Error(Reason::Failed)]), run_of(6, &thoughts)].concat());
    let mut outputs = Outputs::new();
    let mut session = Session::open(&SMALL, USER, Mode::Ready, &mut outputs);
    let (_, out) = step(&mut session, snapshot(0, &log));
    assert_eq!(session.stream().unwrap().tail(), Offset(2));
    assert_eq!(session.known().keys().copied().collect::<Vec<_>>(), [MessageId(6)]);
    assert_eq!(trims(&out).last(), Some(&2));

    let longer = entries(
        &[run_of(5, &[Kind::Error(Reason::Failed)]), run_of(6, &[&thoughts[..], &[Kind::Thinking]].concat())].concat(),
    );
    let session = then(opened(), snapshot(0, &longer));
    assert_eq!(session.stream().unwrap().tail(), Offset(3));
    assert!(session.known().contains_key(&MessageId(6)), "its end is not durable");
    let (session, trimmed) = durable(session, None);
    assert_eq!(trimmed.last(), Some(&4));
    assert!(session.known().is_empty());
}

/// RUN-2 across a restart: a message that ran once more after it was forgotten, while an older run kept the log from
/// trimming, is not forgotten with its first run.
#[test]
fn a_message_that_ran_twice_is_remembered_with_its_last_run() {
    let failed = Kind::Error(Reason::Failed);
    let again =
        [event(6, Kind::Received(Received::immediate(MessageId(5), ThreadId(5))), Some(5)), event(6, failed, None)];
    let other = run_of(7, &[Kind::Started, Kind::Thinking, failed]);
    let log = entries(&[&run_of(5, &[failed])[..], &other, &again].concat());
    let mut session = then(then(opened(), join(1, after(2))), snapshot(0, &log));
    assert_eq!(session.stream().unwrap().tail(), Offset(3));
    let known = Known { run: RunId(6), offset: Some(Offset(7)) };
    assert_eq!(session.known().get(&MessageId(5)), Some(&known));
    session = then(session, message(1, 5));
    assert!(session.runs().is_empty(), "it does not run a third time");
}

#[test]
fn a_trim_that_the_log_has_done_is_not_emitted_again() {
    let log = [entry(7, 8, received(5)), entry(8, 9, event(5, Kind::Error(Reason::Failed), None))];
    let (handled, out) = step(&mut opened(), snapshot(7, &log));
    assert_eq!((handled, trims(&out)), (Ok(Handled::Done), vec![]));
}

/// STR-1: a client finds its position again after a restart, and reads how its run ended.
#[test]
fn a_resumed_connection_reads_the_end_of_what_it_had_begun() {
    let log = entries(&run_of(5, &[Kind::Started]));
    let mut session = settled(then(then(opened(), join(1, after(2))), snapshot(0, &log)));
    let end = entry(2, 3, event(5, Kind::Error(Reason::Interrupted), None));
    assert_eq!(pulled(&mut session, 1), [ready(2, 2, true), Frame::Event(end)]);
    let again = on(1, connection::Input::Received(request(5, true)));
    assert_eq!(step(&mut session, again).0, Ok(Handled::Done));
    let known = Control::Known { message: MessageId(5), run: RunId(5), offset: Offset(1) };
    assert_eq!(pulled(&mut session, 1), [Frame::Control(known)], "RUN-2 over a restart");
}
