//! From a message to the end of its run.

use lockstep_model::connection;
use lockstep_model::frame::{Code, ReadFrom};
use lockstep_model::run::{self, Ending, Reason, ToolEnd};
use lockstep_model::session::{Begin, Known, MAX_PAST, Unsettled};
use lockstep_model::{Cancel, Run, ToolId, stream::Writer};

use super::*;
use crate::support::no_trace;

const IDLE: Output<Tag> = Output::Arm(owned(1), Timer::Idle, SMALL.idle);

/// The outputs of a connection at the first request of its allowance.
pub(super) fn heard() -> Vec<Output<Tag>> {
    vec![Output::Arm(owned(1), Timer::Allowance, SMALL.allowance), IDLE]
}

pub(super) const fn silence(run: u64) -> Output<Tag> {
    Output::Arm(Owner::Run(RunId(run)), Timer::Silence, SMALL.silence)
}

pub(super) const fn deadline(run: u64) -> Output<Tag> {
    Output::Arm(Owner::Run(RunId(run)), Timer::Deadline, SMALL.deadline)
}

/// Takes a message on connection 1 in a new allowance. Returns the frames that answer it at once.
fn sent(session: &mut Session<Tag>, bounds: &Bounds, request: Request<Tag>) -> Vec<Frame<Tag>> {
    let _ = step_within(bounds, session, on(1, connection::Input::Expired(Timer::Allowance)));
    let (handled, _) = step_within(bounds, session, on(1, connection::Input::Received(request)));
    assert_eq!(handled, Ok(Handled::Done));
    pulled(session, 1)
}

pub(super) const fn refused(number: u64, code: Code) -> Frame<Tag> {
    Frame::Control(Control::Refused { message: MessageId(number), code })
}

#[test]
fn a_message_is_written_remembered_and_launched_when_it_is_durable() {
    let mut session = occupied();
    let batch = session.stream().unwrap().batch();
    let out = [heard(), vec![write(batch, 0, received(5)), ASKED, silence(5), deadline(5)]].concat();
    assert_eq!(step(&mut session, message(1, 5)), done(out));
    assert_eq!(session.known().get(&MessageId(5)), Some(&Known { run: RunId(5), offset: None }));
    assert_eq!(session.runs().get(&RunId(5)).map(Run::message), Some(MessageId(5)));
    assert!(session.unsettled().is_empty());

    let input = persist(&session, 3);
    let launch = Output::Launch { run: RunId(5), payload: Some(5), begin: Begin::New };
    assert_eq!(step(&mut session, input), done(vec![launch, wake(1), ANSWERED]));
    assert_eq!(session.known().get(&MessageId(5)), Some(&Known { run: RunId(5), offset: Some(Offset(3)) }));
    let unsettled = Unsettled { message: MessageId(5), offset: Offset(3) };
    assert_eq!(session.unsettled().get(&RunId(5)), Some(&unsettled));
}

/// RUN-2: a repetition is answered with the first answer, or by the pending event.
#[test]
fn a_repeated_message_starts_nothing() {
    let mut session = then(occupied(), message(1, 5));
    let again = Request::Message {
        message: MessageId(5),
        thread: ThreadId(5),
        run: RunId(6),
        payload: 1,
        repeat: true,
        replaces: None,
    };
    assert_eq!(sent(&mut session, &SMALL, again.clone()), []);
    assert_eq!(session.runs().len(), 1);

    session = then(settled(session), pull(1, 9));
    let known = Control::Known { message: MessageId(5), run: RunId(5), offset: Offset(1) };
    assert_eq!(sent(&mut session, &SMALL, again.clone()), [Frame::Control(known.clone())]);

    session = settled(then(session, emit(5, run::Input::Fail)));
    let _ = pulled(&mut session, 1);
    assert_eq!(sent(&mut session, &SMALL, again), [Frame::Control(known)], "after its end too");
    assert!(session.runs().is_empty());
}

/// Each refusal in the state in which it begins to apply; nothing is written or remembered.
#[test]
fn a_message_is_refused_for_the_first_cause_that_holds() {
    let busy = |number| request(number, false);
    let degraded = then(then(occupied(), Input::Mode(Mode::Degraded)), pull(1, 9));
    let draining = then(then(occupied(), Input::Mode(Mode::Draining)), pull(1, 9));
    let full = (2..=3).fold(occupied(), |session, number| settled(then(session, message(1, number))));
    let mut broken = occupied();
    for number in 2..=3 {
        let started = then(broken, on(1, connection::Input::Expired(Timer::Allowance)));
        broken = settled(then(settled(then(started, message(1, number))), emit(number, run::Input::Fail)));
    }
    let used = Request::Message {
        message: MessageId(9),
        thread: ThreadId(9),
        run: RunId(2),
        payload: 1,
        repeat: false,
        replaces: None,
    };
    let one = settled(then(occupied(), message(1, 2)));
    let cases = [
        (&degraded, busy(9), Code::Degraded),
        (&draining, busy(9), Code::Draining),
        (&broken, busy(9), Code::BreakerOpen),
        (&then(broken.clone(), Input::Mode(Mode::Degraded)), busy(9), Code::Degraded),
        (&full, busy(9), Code::TooManyRuns),
        (&one, used, Code::Busy),
    ];
    for (before, request, code) in cases {
        let mut session = then(before.clone(), pull(1, 9));
        assert_eq!(sent(&mut session, &SMALL, request), [refused(9, code)]);
        assert_eq!((session.stream(), session.known()), (before.stream(), before.known()));
        assert_eq!(session.runs(), before.runs());
    }
    assert_eq!(sent(&mut then(one, pull(1, 9)), &SMALL, busy(9)), [], "one run is not too many");
}

/// RUN-3: a message is accepted if there is room for its run's end and for those of all open runs.
#[test]
fn a_message_needs_room_for_its_end() {
    for (pending, accepted) in [(4, true), (3, false)] {
        let bounds = Bounds { pending, runs: 2, tools: 2, ..SMALL };
        let mut session = then(occupied(), message(1, 2));
        let frames = sent(&mut session, &bounds, request(3, false));
        let refusal = [refused(3, Code::Busy)];
        assert_eq!(frames, if accepted { &[][..] } else { &refusal }, "{pending}");
        assert_eq!(session.runs().len(), if accepted { 2 } else { 1 });
    }
}

/// RUN-2: a message that retention has forgotten does not run again if its client says that it may have arrived before.
#[test]
fn a_repetition_is_refused_unless_its_connection_resumed_within_what_is_retained() {
    let repeat = |connection| on(connection, connection::Input::Received(request(4, true)));
    let runs = |session: &Session<Tag>, connection| then(session.clone(), repeat(connection)).runs().len();
    let mut session = then(then(occupied(), join(2, after(0))), pull(2, 99));
    session = working(session, 9);
    for _ in 0..3 {
        session = settled(then(session, emit(9, run::Input::Think)));
    }
    let _ = pulled(&mut session, 1);
    assert_eq!(session.stream().unwrap().tail(), Offset(0));
    assert_eq!(runs(&session, 2), 2, "it has seen all that there was");
    assert_eq!(
        sent(&mut session.clone(), &SMALL, request(4, true)),
        [refused(4, Code::Forgotten)],
        "it began at the end"
    );

    session = settled(then(session, emit(9, run::Input::Think)));
    let _ = pulled(&mut session, 1);
    assert_eq!(session.stream().unwrap().tail(), Offset(1));
    assert_eq!((runs(&session, 1), runs(&session, 2)), (1, 1));
    assert_eq!(sent(&mut session.clone(), &SMALL, request(4, false)), [], "a first writing is none");
    for from in [ReadFrom::Latest, ReadFrom::Earliest, after(0)] {
        let elsewhere = then(then(session.clone(), join(3, from)), pull(3, 99));
        assert_eq!(runs(&elsewhere, 3), 1, "{from:?}");
    }
    let resumed = then(then(session, join(3, after(1))), pull(3, 99));
    assert_eq!(runs(&resumed, 3), 2, "a connection that resumed within what is retained may repeat");
}

/// LIM-1, RUN-2: of the ids that are no longer readable the newest are remembered. An older one is treated as new,
/// unless its connection did not resume and marks it as a repetition.
#[test]
fn of_forgotten_ids_the_newest_are_remembered() {
    let mut session = then(then(occupied(), join(2, after(0))), pull(2, 99));
    let last = 2 + MAX_PAST as u64 + 4;
    for number in 2..=last {
        let _ = step(&mut session, on(1, connection::Input::Expired(Timer::Allowance)));
        session = working(session, number);
        session = settled(then(session, emit(number, run::Input::Complete)));
        session = then(then(session, pull(1, 99)), pull(2, 99));
    }
    // Messages in the window are known by the run that they started; the last one before it is remembered.
    let readable = session.known().len() as u64;
    assert!(readable > 0 && !session.known().contains_key(&MessageId(last - readable)));
    for number in [last - readable, last - readable + 1 - MAX_PAST as u64] {
        let answer = sent(&mut session.clone(), &SMALL, request(number, false));
        assert_eq!(answer, [refused(number, Code::Forgotten)], "{number}");
    }
    let oldest = last - readable - MAX_PAST as u64;
    let mut again = session.clone();
    assert_eq!(sent(&mut again, &SMALL, request(oldest, false)), []);
    assert_eq!((session.runs().len(), again.runs().len()), (0, 1), "it is not remembered");
    assert_eq!(sent(&mut session, &SMALL, request(oldest, true)), [refused(oldest, Code::Forgotten)]);
}

/// A session whose log has trimmed the beginnings of these messages, and nothing else.
fn after_trims(past: impl Iterator<Item = u64>) -> Session<Tag> {
    let past = past.map(MessageId).collect();
    let snapshot = Snapshot { trimmed: Offset(7), read: Offset(7), past, ..Snapshot::empty(TENURE) };
    then(opened(), Input::Restored { attempt: attempt(1), snapshot })
}

/// RUN-2 across a restart: a message that the log has trimmed does not run again, on any connection.
#[test]
fn a_message_that_the_log_has_trimmed_does_not_run_again_after_a_restart() {
    for from in [after(7), ReadFrom::Latest, ReadFrom::Earliest, ReadFrom::Unread] {
        let mut session = then(then(after_trims(5..=6), join(1, from)), pull(1, 9));
        for (number, repeat) in [(5, false), (5, true), (6, false), (6, true)] {
            let answer = sent(&mut session, &SMALL, request(number, repeat));
            assert_eq!(answer, [refused(number, Code::Forgotten)], "{from:?}, repeat: {repeat}");
        }
        assert!(session.runs().is_empty());
        assert_eq!(sent(&mut session, &SMALL, request(7, false)), [], "one that the log never had");
        assert_eq!(session.runs().len(), 1);
    }
}

/// LIM-1, RUN-2: of the ids that the log returns the newest are remembered, and make room for later ones.
#[test]
fn of_the_ids_that_the_log_gives_back_the_newest_are_remembered() {
    let oldest = 1_000;
    let newest = oldest + MAX_PAST as u64;
    let mut session = then(then(after_trims(oldest..=newest), join(1, ReadFrom::Latest)), pull(1, 9));
    assert!(session.past().iter().copied().eq((oldest + 1..=newest).map(MessageId)));
    session = settled(then(working(session, 5), emit(5, run::Input::Complete)));
    for number in 0..SMALL.retained as u64 {
        session = settled(then(session, Input::Notice { notice: RunId(100 + number), thread: None, payload: 1 }));
    }
    assert!(session.known().is_empty());
    assert!(session.past().iter().copied().eq((oldest + 2..=newest).chain([5]).map(MessageId)));
}

#[test]
fn a_cancel_ends_the_run_or_says_that_there_is_none() {
    let cancel = |run| on(1, connection::Input::Received(Request::Cancel { runs: Cancel::Run(RunId(run)) }));
    let mut session = then(then(working(occupied(), 5), emit(5, run::Input::OpenTool(ToolId(1)))), pull(1, 99));
    session = settled(session);
    let _ = pulled(&mut session, 1);
    let batch = session.stream().unwrap().batch();
    let end = ToolEnd::Abandoned(Ending::Error(Reason::Cancelled));
    let closed = event(5, Kind::ToolCompleted(ToolId(1), end), None);
    let [silence, deadline] =
        [Timer::Silence, Timer::Deadline].map(|timer| Output::Disarm(Owner::Run(RunId(5)), timer));
    let out = vec![IDLE, write(batch, 3, closed), ASKED, silence, deadline, Output::Halt { run: RunId(5) }];
    assert_eq!(step(&mut session, cancel(5)), done(out));
    assert!(session.runs().is_empty());
    let pending: Vec<_> = session.stream().unwrap().pending().iter().map(|event| event.kind).collect();
    assert_eq!(pending[1..], [Kind::Error(Reason::Cancelled)]);
    assert_eq!(step(&mut session, cancel(5)), done(vec![IDLE, wake(1)]));
    assert_eq!(pulled(&mut session, 1), [Frame::Control(Control::Error(Code::UnknownRun))]);
}

/// The payload goes with the last event of a step; those before it close tools.
#[test]
fn an_emit_is_appended_with_its_payload() {
    let mut session = working(occupied(), 5);
    let batch = session.stream().unwrap().batch();
    let tool = event(5, Kind::ToolExecuting(ToolId(1)), Some(99));
    let execution = Output::Arm(Owner::Run(RunId(5)), Timer::Silence, SMALL.execution);
    let out = vec![write(batch, 2, tool), ASKED, execution];
    assert_eq!(step(&mut session, emit(5, run::Input::OpenTool(ToolId(1)))), done(out));
    let (handled, out) = step(&mut session, emit(5, run::Input::Complete));
    let [silence, deadline] =
        [Timer::Silence, Timer::Deadline].map(|timer| Output::Disarm(Owner::Run(RunId(5)), timer));
    let ended = [silence, deadline, Output::Halt { run: RunId(5) }];
    assert_eq!((handled, out), done(ended.to_vec()));
    let pending: Vec<_> = session.stream().unwrap().pending().iter().cloned().collect();
    let closed = event(5, Kind::ToolCompleted(ToolId(1), ToolEnd::Abandoned(Ending::Completed)), None);
    assert_eq!(pending[1..], [closed, event(5, Kind::Completed, Some(99))]);
}

/// RUN-3: a refused emit returns the reason, changes nothing, and leaves room for every end.
#[test]
fn an_emit_is_refused_or_appended() {
    let refuse = |session: &Session<Tag>, bounds: &Bounds, input: Input<Tag>, why| {
        let mut same = session.clone();
        let (handled, out) = step_within(bounds, &mut same, input.clone());
        assert_eq!(handled, Err(why), "{input:?}");
        no_trace(session, &same, &out);
    };
    let session = working(occupied(), 5);
    refuse(&session, &SMALL, emit(5, run::Input::Start), Refusal::OutOfOrder);
    refuse(&session, &SMALL, emit(6, run::Input::Start), Refusal::RunEnded);
    for late in [run::Input::Abandon, run::Input::Cancel, run::Input::Interrupt, run::Input::Expired(Timer::Silence)] {
        assert_eq!(step(&mut session.clone(), emit(6, late)), (Ok(Handled::Ignored), vec![]));
    }
    let agents =
        [run::Input::Think, run::Input::OpenTool(ToolId(1)), run::Input::CloseTool(ToolId(1), ToolEnd::Success)];
    for late in agents.into_iter().chain([run::Input::Complete, run::Input::Fail]) {
        refuse(&session, &SMALL, emit(6, late), Refusal::RunEnded);
    }
    // One in reserve for the end, one for the thought, two for the tool.
    let tight = |pending| Bounds { pending, runs: 1, tools: 1, ..SMALL };
    let (think, tool) = (emit(5, run::Input::Think), emit(5, run::Input::OpenTool(ToolId(1))));
    refuse(&session, &tight(1), think.clone(), Refusal::Backpressure);
    refuse(&session, &tight(2), tool.clone(), Refusal::Backpressure);
    assert_eq!(step_within(&tight(2), &mut session.clone(), think).0, Ok(Handled::Done));
    assert_eq!(step_within(&tight(3), &mut session.clone(), tool).0, Ok(Handled::Done));
    assert_eq!(step_within(&tight(1), &mut session.clone(), emit(5, run::Input::Complete)).0, Ok(Handled::Done));

    let waiting = then(session, emit(5, run::Input::Think));
    refuse(&waiting, &tight(2), emit(5, run::Input::Think), Refusal::Backpressure);
    assert_eq!(step_within(&tight(3), &mut waiting.clone(), emit(5, run::Input::Think)).0, Ok(Handled::Done));
}

/// LIVE-2: a silent agent is ended by its timer, and its user's breaker counts the failure.
#[test]
fn failures_open_the_breaker_and_its_time_closes_it() {
    let arm = Output::Arm(Owner::Session, Timer::Breaker, SMALL.breaker);
    let failed = |session: Session<Tag>, number, input| {
        let started = then(session, on(1, connection::Input::Expired(Timer::Allowance)));
        let mut session = settled(then(started, message(1, number)));
        let (handled, out) = step(&mut session, input);
        assert_eq!(handled, Ok(Handled::Done));
        (settled(session), out.contains(&arm))
    };
    let silent = |run| expired(Owner::Run(RunId(run)), Timer::Silence);
    let (one, armed) = failed(occupied(), 2, silent(2));
    assert!(!armed && !one.breaker().is_open());
    let (mut open, armed) = failed(one.clone(), 3, emit(3, run::Input::Abandon));
    assert!(armed && open.breaker().is_open());
    assert_eq!(step(&mut open, expired(Owner::Session, Timer::Breaker)), done(vec![]));
    assert!(!open.breaker().is_open());

    for harmless in [run::Input::Cancel, run::Input::Interrupt] {
        let (session, armed) = failed(one.clone(), 3, emit(3, harmless));
        assert!(!armed, "{harmless:?}");
        assert!(failed(session, 4, silent(4)).1, "and the row goes on");
    }
    let answered = settled(then(working(one, 3), emit(3, run::Input::Complete)));
    let (again, armed) = failed(answered, 4, silent(4));
    assert!(!armed && !again.breaker().is_open(), "an answer breaks the row");
}

#[test]
fn what_the_log_says_reaches_the_stream() {
    let mut session = then(occupied(), message(1, 5));
    let batch = session.stream().unwrap().batch();
    let retry = Output::Arm(Owner::Session, Timer::Retry, SMALL.retry);
    assert_eq!(step(&mut session, Input::Failed { batch }), done(vec![ANSWERED, retry]));
    assert_eq!(session.stream().unwrap().writer(), Writer::Waiting);
    let (handled, out) = step(&mut session, expired(Owner::Session, Timer::Retry));
    let batch = session.stream().unwrap().batch();
    assert_eq!((handled, out), done(vec![write(batch, 0, received(5)), ASKED]));
    let (handled, out) = step(&mut opened(), Input::Persisted { batch, offset: Offset(1), record: None });
    assert_eq!((handled, out), (Ok(Handled::Ignored), vec![]), "there is no stream yet");
}

/// CONN-2: early requests are handled in order once the stream is restored.
#[test]
fn early_messages_start_their_runs_in_order() {
    let mut session = then(then(opened(), join(1, ReadFrom::Latest)), message(1, 5));
    session = then(session, message(1, 4));
    assert!(session.runs().is_empty());
    let (handled, out) = step(&mut session, snapshot(0, &[]));
    assert_eq!(handled, Ok(Handled::Done));
    let started: Vec<_> = out.iter().filter(|output| matches!(output, Output::Arm(Owner::Run(_), ..))).collect();
    assert_eq!(started, [&silence(5), &deadline(5), &silence(4), &deadline(4)]);
    let pending: Vec<_> = session.stream().unwrap().pending().iter().cloned().collect();
    assert_eq!(pending, [received(5), received(4)]);
}
