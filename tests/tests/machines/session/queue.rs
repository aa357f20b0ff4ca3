//! RUN-4: one run after another in a thread.

use lockstep_model::bounds::Concurrency;
use lockstep_model::connection;
use lockstep_model::frame::Code;
use lockstep_model::run::{self, Reason, Schedule};
use lockstep_model::session::{Begin, State, Waiting};
use lockstep_model::{Cancel, Run, Successor};

use super::messages::{deadline, heard, refused, silence};
use super::*;

/// Bounds under which three messages may be queued.
const WIDE: Bounds = Bounds { queued: 3, pending: 16, retained: 32, ..SMALL };

/// A message in the tests' one thread.
const fn said(number: u64) -> Request<Tag> {
    asked(number, None)
}

const fn asked(number: u64, replaces: Option<Offset>) -> Request<Tag> {
    let (message, thread, run, payload) = (MessageId(number), ThreadId(1), RunId(number), number as Tag);
    Request::Message { message, thread, run, payload, repeat: false, replaces }
}

const fn queued(number: u64) -> Event<Tag> {
    let (message, thread, schedule) = (MessageId(number), ThreadId(1), Schedule::Queued);
    event(number, Kind::Received(Received { message, thread, schedule, replaces: None }), Some(number as Tag))
}

const fn launch(number: u64, begin: Begin) -> Output<Tag> {
    Output::Launch { run: RunId(number), payload: Some(number as Tag), begin }
}

fn within(bounds: &Bounds, mut session: Session<Tag>, input: Input<Tag>) -> Session<Tag> {
    assert_eq!(step_within(bounds, &mut session, input.clone()).0, Ok(Handled::Done), "{input:?} in {session:?}");
    session
}

/// Takes a message on connection 1 in a new allowance. Returns the frames that answer it at once.
fn sent(session: &mut Session<Tag>, bounds: &Bounds, request: Request<Tag>) -> Vec<Frame<Tag>> {
    let _ = step_within(bounds, session, pull(1, 99));
    let _ = step_within(bounds, session, on(1, connection::Input::Expired(Timer::Allowance)));
    let (handled, _) = step_within(bounds, session, on(1, connection::Input::Received(request)));
    assert_eq!(handled, Ok(Handled::Done));
    let (_, out) = step_within(bounds, session, pull(1, 99));
    let frame = |output| if let Output::Send { frame, .. } = output { Some(frame) } else { None };
    out.into_iter().filter_map(frame).collect()
}

fn send(bounds: &Bounds, mut session: Session<Tag>, number: u64) -> Session<Tag> {
    assert_eq!(sent(&mut session, bounds, said(number)), []);
    session
}

/// `session` after all pending events are durable, and what was launched meanwhile.
fn durable(bounds: &Bounds, mut session: Session<Tag>) -> (Session<Tag>, Vec<Output<Tag>>) {
    let mut launched = Vec::new();
    while session.stream().is_some_and(|stream| !stream.pending().is_empty()) {
        let offset = session.stream().unwrap().head().0 + 1;
        let input = persist(&session, offset);
        let (handled, out) = step_within(bounds, &mut session, input);
        assert_eq!(handled, Ok(Handled::Done));
        launched.extend(out.into_iter().filter(|output| matches!(output, Output::Launch { .. })));
    }
    let _ = step_within(bounds, &mut session, pull(1, 99));
    (session, launched)
}

/// A session that runs message 2 of its thread, with that many queued after it.
fn busy(bounds: &Bounds, waiting: u64) -> Session<Tag> {
    let session =
        (2..=2 + waiting).fold(occupied(), |session, number| durable(bounds, send(bounds, session, number)).0);
    durable(bounds, within(bounds, session, emit(2, run::Input::Start))).0
}

fn states(session: &Session<Tag>) -> Vec<(u64, bool)> {
    session.runs().iter().map(|(id, run)| (id.0, run.is_queued())).collect()
}

const fn cancel(number: u64) -> Input<Tag> {
    on(1, connection::Input::Received(Request::Cancel { runs: Cancel::Run(RunId(number)) }))
}

/// The log's entries, for a session that has restored all of them.
fn log(session: &Session<Tag>) -> Vec<Entry<Tag>> {
    session.stream().unwrap().entries().iter().cloned().collect()
}

fn restarted(bounds: &Bounds, entries: &[Entry<Tag>]) -> Session<Tag> {
    let mut session = opened();
    let _ = step_within(bounds, &mut session, snapshot(0, entries));
    session
}

#[test]
fn a_message_behind_an_open_run_is_written_and_waits() {
    let mut session = busy(&WIDE, 0);
    let batch = session.stream().unwrap().batch();
    let _ = step_within(&WIDE, &mut session, on(1, connection::Input::Expired(Timer::Allowance)));
    let out = [heard(), vec![write(batch, 2, queued(3)), ASKED]].concat();
    let input = on(1, connection::Input::Received(said(3)));
    assert_eq!(step_within(&WIDE, &mut session, input), done(out), "no timer is armed");
    assert_eq!(session.queue(), &[Waiting { run: RunId(3), payload: None }]);
    let (session, launched) = durable(&WIDE, session);
    assert_eq!(launched, [], "it has no agent");
    assert_eq!(session.queue(), &[Waiting { run: RunId(3), payload: Some(3) }]);
    assert_eq!(states(&session), [(2, false), (3, true)]);
}

/// A thread does not wait for another.
#[test]
fn another_thread_goes_on() {
    let (_, launched) = durable(&WIDE, within(&WIDE, busy(&WIDE, 1), message(1, 9)));
    assert_eq!(launched, [launch(9, Begin::New)]);
}

/// The end of a run and the beginning of the next are adjacent in the log; the agent is launched when both are durable.
#[test]
fn its_turn_comes_with_the_end_before_it() {
    let mut session = busy(&WIDE, 2);
    let (handled, out) = step_within(&WIDE, &mut session, emit(2, run::Input::Complete));
    assert_eq!(handled, Ok(Handled::Done));
    assert_eq!(out[out.len() - 2..], [deadline(3), silence(3)]);
    let pending: Vec<_> = session.stream().unwrap().pending().iter().map(|event| (event.run.0, event.kind)).collect();
    assert_eq!(pending, [(2, Kind::Completed), (3, Kind::Started)]);
    assert_eq!(states(&session), [(3, false), (4, true)]);

    let input = persist(&session, 5);
    let (_, out) = step_within(&WIDE, &mut session, input);
    assert!(!out.iter().any(|output| matches!(output, Output::Launch { .. })), "the end alone is durable: {out:?}");
    let input = persist(&session, 6);
    let (_, out) = step_within(&WIDE, &mut session, input);
    assert!(out.contains(&launch(3, Begin::Queued)));
    assert!(
        !out.iter().any(|output| matches!(output, Output::Durable { run: RunId(3), .. })),
        "it is told by the launch"
    );
    assert_eq!(session.queue(), &[Waiting { run: RunId(4), payload: Some(4) }]);

    session = within(&WIDE, session, emit(3, run::Input::Fail));
    let (session, launched) = durable(&WIDE, session);
    assert_eq!(launched, [launch(4, Begin::Queued)], "however the run before it ends");
    assert_eq!(states(&session), [(4, false)]);
}

/// A message that arrives before the log has the previous run's end begins by itself: the log has that end first.
#[test]
fn a_message_behind_an_end_that_is_not_durable_does_not_wait() {
    let session = within(&WIDE, busy(&WIDE, 0), emit(2, run::Input::Complete));
    let (_, launched) = durable(&WIDE, send(&WIDE, session, 3));
    assert_eq!(launched, [launch(3, Begin::New)]);
}

#[test]
fn a_queued_message_can_be_taken_back() {
    let mut session = busy(&WIDE, 2);
    let batch = session.stream().unwrap().batch();
    let (handled, out) = step_within(&WIDE, &mut session, cancel(3));
    assert_eq!(handled, Ok(Handled::Done));
    let cancelled = Event { thread: Some(ThreadId(1)), ..event(3, Kind::Error(Reason::Cancelled), None) };
    assert!(out.contains(&write(batch, 4, cancelled)));
    assert_eq!(states(&session), [(2, false), (4, true)]);
    session = within(&WIDE, durable(&WIDE, session).0, emit(2, run::Input::Complete));
    let (session, launched) = durable(&WIDE, session);
    assert_eq!(launched, [launch(4, Begin::Queued)], "it never runs");
    let own: Vec<_> = log(&session).into_iter().filter(|entry| entry.event.run == RunId(3)).collect();
    assert_eq!(own.len(), 2, "its end is its only event after its beginning");
}

/// A cancel while the beginning is being written: the run has begun, and no agent gets it.
#[test]
fn a_message_taken_back_while_its_turn_comes_is_not_launched() {
    let session = within(&WIDE, busy(&WIDE, 2), emit(2, run::Input::Complete));
    let session = within(&WIDE, session, cancel(3));
    assert_eq!(states(&session), [(4, false)]);
    let (_, launched) = durable(&WIDE, session);
    assert_eq!(launched, [launch(4, Begin::Queued)]);
}

/// LIM-1: queued and running messages are counted apart.
#[test]
fn a_full_queue_is_refused_and_takes_no_place_of_a_run() {
    let mut session = busy(&WIDE, 3);
    assert_eq!(sent(&mut session, &WIDE, said(9)), [refused(9, Code::QueueFull)]);
    let mut other = within(&WIDE, session, message(1, 9));
    assert_eq!(sent(&mut other, &WIDE, request(10, false)), [refused(10, Code::TooManyRuns)]);
    assert_eq!(states(&other).iter().filter(|(_, queued)| !queued).count(), WIDE.runs);
}

/// RUN-3: there is room for its beginning and its end.
#[test]
fn a_queued_message_needs_room_to_begin_and_to_end() {
    let session = busy(&WIDE, 0);
    for (pending, accepted) in [(4, true), (3, false)] {
        let bounds = Bounds { pending, ..WIDE };
        let frames = sent(&mut session.clone(), &bounds, said(3));
        assert_eq!(frames, if accepted { vec![] } else { vec![refused(3, Code::Busy)] }, "{pending}");
    }
}

/// The log decides: without its beginning a run is queued again, with it an agent may have had it.
#[test]
fn a_restart_goes_on_with_what_had_not_begun() {
    let before = busy(&WIDE, 2);
    let session = restarted(&WIDE, &log(&before));
    let pending: Vec<_> = session.stream().unwrap().pending().iter().map(|event| (event.run.0, event.kind)).collect();
    assert_eq!(pending, [(2, Kind::Error(Reason::Interrupted)), (3, Kind::Started)]);
    assert_eq!((states(&session), session.state()), (vec![(3, false), (4, true)], State::Occupied));
    let (session, launched) = durable(&WIDE, session);
    assert_eq!(launched, [launch(3, Begin::Queued)]);

    let again = restarted(&WIDE, &log(&session));
    let (_, launched) = durable(&WIDE, again);
    assert_eq!(launched, [launch(4, Begin::Queued)], "what began is interrupted, and not begun again");
}

/// A run that another policy launched at once is not taken for queued, and a queued one stays queued.
#[test]
fn a_restart_under_another_policy_keeps_to_what_the_log_says() {
    let parallel = Bounds { concurrency: Concurrency::Parallel, ..WIDE };
    let both = send(&parallel, busy(&parallel, 0), 3);
    let session = restarted(&WIDE, &log(&durable(&parallel, both).0));
    assert_eq!(states(&session), []);
    let session = restarted(&parallel, &log(&busy(&WIDE, 1)));
    assert_eq!(states(&session), [(3, false)]);
}

/// LIM-1: if more are queued than allowed, the newest are interrupted.
#[test]
fn a_restart_with_a_smaller_bound_keeps_the_oldest() {
    let session = restarted(&SMALL, &log(&busy(&WIDE, 3)));
    assert_eq!(states(&session), [(3, false)]);
    let interrupted = session.stream().unwrap().pending().iter().filter(|event| event.kind.is_terminal());
    assert_eq!(interrupted.map(|event| event.run.0).collect::<Vec<_>>(), [2, 4, 5]);
}

#[test]
fn a_thread_that_rejects_takes_one_message_at_a_time() {
    let bounds = Bounds { concurrency: Concurrency::Reject, ..WIDE };
    let mut session = busy(&bounds, 0);
    assert_eq!(sent(&mut session, &bounds, said(3)), [refused(3, Code::ThreadBusy)]);
    let session = durable(&bounds, within(&bounds, session, emit(2, run::Input::Complete))).0;
    assert_eq!(states(&send(&bounds, session, 3)), [(3, false)]);
}

#[test]
fn a_thread_that_is_interrupted_ends_what_is_open() {
    let bounds = Bounds { concurrency: Concurrency::Interrupt, ..WIDE };
    let session = send(&bounds, busy(&WIDE, 1), 4);
    let pending: Vec<_> = session.stream().unwrap().pending().iter().map(|event| event.kind).collect();
    let cancelled = Kind::Error(Reason::Cancelled);
    let next = Kind::Received(Received::immediate(MessageId(4), ThreadId(1)));
    assert_eq!(pending, [cancelled, cancelled, next], "what waits, too");
    let (session, launched) = durable(&bounds, session);
    assert_eq!((launched, states(&session)), (vec![launch(4, Begin::New)], vec![(4, false)]));

    let full = Bounds { runs: 1, ..bounds };
    assert_eq!(states(&send(&full, busy(&full, 0), 3)), [(3, false)], "it takes the place of what it ends");
    let mut other = busy(&full, 0);
    assert_eq!(sent(&mut other, &full, request(9, false)), [refused(9, Code::TooManyRuns)], "and no other's");
}

#[test]
fn a_parallel_thread_runs_all_at_once() {
    let bounds = Bounds { concurrency: Concurrency::Parallel, ..WIDE };
    let (session, launched) = durable(&bounds, send(&bounds, busy(&bounds, 0), 3));
    assert_eq!((launched, states(&session)), (vec![launch(3, Begin::New)], vec![(2, false), (3, false)]));
}

/// An accepted message runs, whatever breaker and mode say now.
#[test]
fn neither_breaker_nor_mode_keeps_back_what_was_accepted() {
    let bounds = Bounds { failures: 1, ..WIDE };
    let session = within(&bounds, busy(&bounds, 1), Input::Mode(Mode::Emergency));
    let session = within(&bounds, session, emit(2, run::Input::Fail));
    assert!(session.breaker().is_open());
    assert_eq!(durable(&bounds, session).1, [launch(3, Begin::Queued)]);
}

/// NODE-2: a node that is about to leave begins no run, and does not wait for queued ones.
#[test]
fn a_node_that_is_about_to_leave_leaves_the_queue_to_the_next() {
    let session = within(&WIDE, busy(&WIDE, 1), Input::Mode(Mode::HandingOver));
    assert!(session.holds(), "a run is open");
    let session = within(&WIDE, session, emit(2, run::Input::Complete));
    assert_eq!(states(&session), [(3, true)]);
    let (session, launched) = durable(&WIDE, session);
    assert_eq!((launched, session.holds()), (vec![], false));

    let stays = within(&WIDE, session.clone(), Input::Mode(Mode::Ready));
    assert_eq!(states(&stays), [(3, false)], "a hand-over that is aborted");

    let going = within(&WIDE, session, Input::Leave(Successor::Waiting));
    assert_eq!(states(&going), [(3, true)], "it is not interrupted");
    let taken_back = within(&WIDE, going.clone(), cancel(3));
    assert_eq!(states(&taken_back), []);
    let entries = log(&going);
    let gone = within(&WIDE, going, on(1, connection::Input::Gone(Cause::PeerClosed)));
    let gone = if gone.state() == State::Retired {
        gone
    } else {
        within(&WIDE, gone, on(1, connection::Input::Expired(Timer::Close)))
    };
    assert_eq!(gone.state(), State::Retired, "SES-1");
    assert_eq!(states(&restarted(&WIDE, &entries)), [(3, false)], "the next process begins it");
}

/// NODE-2: a run that has begun is interrupted with the others.
#[test]
fn a_queued_run_that_has_begun_ends_with_the_node() {
    let session = within(&WIDE, busy(&WIDE, 2), emit(2, run::Input::Complete));
    let session = within(&WIDE, session, Input::Leave(Successor::Absent));
    assert_eq!(states(&session), [(4, true)]);
    assert_eq!(durable(&WIDE, session).1, []);
}

/// LIVE-2: a session without connections runs its queue before it rests.
#[test]
fn a_session_without_a_connection_goes_on_with_its_queue() {
    let session = within(&WIDE, busy(&WIDE, 1), on(1, connection::Input::Gone(Cause::Lost)));
    assert_eq!((session.members().len(), session.state()), (0, State::Occupied));
    let (session, launched) = durable(&WIDE, within(&WIDE, session, emit(2, run::Input::Complete)));
    assert_eq!((launched, session.state()), (vec![launch(3, Begin::Queued)], State::Occupied));
    let session = within(&WIDE, session, emit(3, run::Input::Complete));
    assert_eq!(session.state(), State::Vacant);
}

/// The payload is kept with the run: the stream may have dropped it.
#[test]
fn a_queued_message_is_kept_when_its_entry_is_not() {
    let bounds = Bounds { retained: 1, ..WIDE };
    let mut session = busy(&bounds, 1);
    for _ in 0..3 {
        session = durable(&bounds, within(&bounds, session, emit(2, run::Input::Think))).0;
    }
    assert!(session.stream().unwrap().tail() > Offset(2));
    let (_, launched) = durable(&bounds, within(&bounds, session, emit(2, run::Input::Complete)));
    assert_eq!(launched, [launch(3, Begin::Queued)]);
}

/// Queues of several threads advance as places for runs become free, the oldest first.
#[test]
fn queues_share_the_places_for_runs() {
    let in_thread = |number, thread| Request::Message {
        message: MessageId(number),
        thread: ThreadId(thread),
        run: RunId(number),
        payload: 0,
        repeat: false,
        replaces: None,
    };
    let mut session = occupied();
    for (number, thread) in [(2, 1), (3, 2), (4, 1), (5, 2)] {
        assert_eq!(sent(&mut session, &WIDE, in_thread(number, thread)), []);
        session = durable(&WIDE, session).0;
    }
    assert_eq!(states(&session), [(2, false), (3, false), (4, true), (5, true)]);
    let one = Bounds { runs: 1, ..WIDE };
    let session = restarted(&one, &log(&session));
    assert_eq!(states(&session), [(4, false), (5, true)], "one place is there");
    let session = within(&one, session, emit(4, run::Input::Fail));
    assert_eq!(states(&session), [(5, false)]);
    assert!(session.runs().values().all(Run::is_open));
}

const fn replacing(number: u64, from: u64) -> Request<Tag> {
    asked(number, Some(Offset(from)))
}

/// Runs that are open from that turn on end before the message is written. Earlier ones go on and are waited for.
#[test]
fn a_message_replaces_a_turn_and_what_followed() {
    let mut session = busy(&WIDE, 2);
    let of = |session: &Session<Tag>, run: u64| {
        let begun = session.known().get(&MessageId(run)).and_then(|known| known.offset);
        begun.unwrap().0
    };
    let from = of(&session, 3);
    assert_eq!(sent(&mut session, &WIDE, replacing(9, from)), []);
    let pending: Vec<_> = session.stream().unwrap().pending().iter().map(|event| (event.run.0, event.kind)).collect();
    let cancelled = Kind::Error(Reason::Cancelled);
    assert_eq!(pending[..2], [(3, cancelled), (4, cancelled)]);
    assert!(matches!(pending[2], (9, Kind::Received(Received { schedule: Schedule::Queued, replaces: Some(_), .. }))));
    assert_eq!(states(&session), [(2, false), (9, true)]);
    let (mut session, launched) = durable(&WIDE, session);
    assert_eq!(launched, []);
    let from = of(&session, 2);
    assert_eq!(sent(&mut session, &WIDE, replacing(10, from)), []);
    let (session, launched) = durable(&WIDE, session);
    assert_eq!(launched, [launch(10, Begin::New)], "all that was before it is replaced");
    assert_eq!(states(&session), [(10, false)]);
}

/// A turn that does not exist yet cannot be replaced, and other threads are unaffected.
#[test]
fn a_message_replaces_what_its_own_thread_has() {
    let mut session = within(&WIDE, busy(&WIDE, 0), message(1, 9));
    session = durable(&WIDE, session).0;
    let head = session.stream().unwrap().head().0;
    let refused = Control::Refused { message: MessageId(11), code: Code::InvalidField };
    assert_eq!(sent(&mut session, &WIDE, replacing(11, head + 1)), [Frame::Control(refused)]);
    assert_eq!(states(&session), [(2, false), (9, false)]);
    assert_eq!(sent(&mut session, &WIDE, replacing(11, 0)), []);
    assert_eq!(states(&session), [(9, false), (11, false)]);
}
