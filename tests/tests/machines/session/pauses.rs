//! RUN-5: runs that wait for a reply.

use lockstep_model::frame::Code;
use lockstep_model::session::{Begin, State};
use lockstep_model::{Cancel, PauseId, Run, Successor};

use super::*;

const FIRST: PauseId = PauseId(1);
const PAUSE: Output<Tag> = Output::Arm(Owner::Run(RunId(5)), Timer::Pause, SMALL.pause);
const NO_PAUSE: Output<Tag> = Output::Disarm(Owner::Run(RunId(5)), Timer::Pause);

/// Confirms all pending events, one after another.
fn durable(mut session: Session<Tag>) -> (Session<Tag>, Vec<Output<Tag>>) {
    let mut all = Vec::new();
    while let Some((batch, head)) =
        session.stream().filter(|stream| !stream.pending().is_empty()).map(|stream| (stream.batch(), stream.head()))
    {
        let input = Input::Persisted { batch, offset: Offset(head.0 + 1), record: None };
        let (handled, out) = step(&mut session, input);
        assert_eq!(handled, Ok(Handled::Done));
        all.extend(out);
    }
    (session, all)
}

/// A session whose run 5 is paused, with everything durable and connection 1 at the head.
fn paused() -> Session<Tag> {
    let mut session = durable(then(occupied(), message(1, 5))).0;
    for input in [run::Input::Start, run::Input::Think, run::Input::Pause] {
        session = durable(then(session, emit(5, input))).0;
    }
    then(session, pull(1, 99))
}

fn reply(session: &mut Session<Tag>, run: u64, pause: u32) -> Vec<Output<Tag>> {
    let _ = step(session, on(1, connection::Input::Expired(Timer::Allowance)));
    let request = Request::Reply { run: RunId(run), pause: PauseId(pause), payload: 44 };
    let (handled, out) = step(session, on(1, connection::Input::Received(request)));
    assert_eq!(handled, Ok(Handled::Done));
    out
}

fn told(session: &mut Session<Tag>) -> Vec<Frame<Tag>> {
    let (_, out) = step(session, pull(1, 99));
    out.into_iter()
        .filter_map(|output| if let Output::Send { frame, .. } = output { Some(frame) } else { None })
        .collect()
}

fn kinds(session: &Session<Tag>) -> Vec<Kind> {
    session.stream().into_iter().flat_map(lockstep_model::Stream::pending).map(|event| event.kind).collect()
}

fn run_of(session: &Session<Tag>) -> Option<&Run> {
    session.runs().get(&RunId(5))
}

#[test]
fn a_pause_halts_the_agent_and_changes_the_timers() {
    let mut session = durable(then(occupied(), message(1, 5))).0;
    session = then(session, emit(5, run::Input::Start));
    let (_, out) = step(&mut session, emit(5, run::Input::Pause));
    for expected in [PAUSE, Output::Halt { run: RunId(5) }] {
        assert!(out.contains(&expected), "{expected:?} in {out:?}");
    }
    for timer in [Timer::Silence, Timer::Deadline] {
        assert!(out.contains(&Output::Disarm(Owner::Run(RunId(5)), timer)), "{out:?}");
    }
    assert_eq!(step(&mut session, emit(5, run::Input::Think)).0, Err(Refusal::OutOfOrder));
}

#[test]
fn the_agent_is_launched_once_the_reply_is_durable() {
    let mut session = paused();
    let out = reply(&mut session, 5, 1);
    assert!(out.contains(&NO_PAUSE), "{out:?}");
    assert!(!out.iter().any(|output| matches!(output, Output::Launch { .. })), "it is not durable: {out:?}");
    assert_eq!(kinds(&session), [Kind::Resumed(FIRST)]);
    // A second one comes too late, durable or not.
    reply(&mut session, 5, 1);
    assert_eq!(told(&mut session), [Frame::Control(Control::Error(Code::NotPaused))]);
    let (mut session, out) = durable(session);
    let launch = Output::Launch { run: RunId(5), payload: Some(44), begin: Begin::Resumed };
    assert_eq!(out.iter().filter(|output| matches!(output, Output::Launch { .. })).collect::<Vec<_>>(), [&launch]);
    assert!(!out.iter().any(|output| matches!(output, Output::Durable { .. })), "{out:?}");
    let _ = told(&mut session);
    reply(&mut session, 5, 1);
    assert_eq!(told(&mut session), [Frame::Control(Control::Error(Code::NotPaused))]);
}

#[test]
fn a_reply_that_does_not_fit_says_why() {
    let mut session = paused();
    for (run, pause, code) in [(5, 0, Code::NotPaused), (5, 2, Code::NotPaused), (6, 1, Code::UnknownRun)] {
        reply(&mut session, run, pause);
        assert_eq!(told(&mut session), [Frame::Control(Control::Error(code))], "{run} {pause}");
    }
    let _ = step(&mut session, on(1, connection::Input::Expired(Timer::Allowance)));
    let cancel = Request::Cancel { runs: Cancel::Run(RunId(5)) };
    session = then(session, on(1, connection::Input::Received(cancel)));
    assert_eq!(kinds(&session), [Kind::Error(run::Reason::Cancelled)]);
    reply(&mut session, 5, 1);
    assert_eq!(told(&mut session), [Frame::Control(Control::Error(Code::UnknownRun))]);
}

#[test]
fn a_run_that_is_cancelled_before_its_reply_is_durable_is_not_launched() {
    let mut session = paused();
    reply(&mut session, 5, 1);
    let cancel = Request::Cancel { runs: Cancel::All };
    let (_, out) = durable(then(session, on(1, connection::Input::Received(cancel))));
    assert!(!out.iter().any(|output| matches!(output, Output::Launch { .. })), "{out:?}");
}

#[test]
fn the_time_for_a_reply_ends_the_run_and_opens_no_breaker() {
    let mut session = paused();
    let late = Input::Expired(Owner::Run(RunId(5)), Timer::Pause);
    assert_eq!(step(&mut session, late.clone()).0, Ok(Handled::Done));
    assert_eq!(kinds(&session), [Kind::Error(run::Reason::NoReply)]);
    assert_eq!(session.breaker(), paused().breaker(), "it is no failure");
    assert_eq!(step(&mut session, late).0, Ok(Handled::Ignored));
    // A timer that fires after the reply means nothing.
    let mut session = paused();
    reply(&mut session, 5, 1);
    assert_eq!(step(&mut session, Input::Expired(Owner::Run(RunId(5)), Timer::Pause)).0, Ok(Handled::Ignored));
    assert!(run_of(&session).is_some_and(Run::has_agent));
}

/// The entries of a run that is paused, as a log returns them.
fn entries() -> Vec<Entry<Tag>> {
    let kinds = [Kind::Received(Received::immediate(MessageId(5), ThreadId(5))), Kind::Started, Kind::Paused(FIRST)];
    let entries = (1..).zip(kinds).map(|(offset, kind)| Entry {
        offset: Offset(offset),
        previous: Offset(offset - 1),
        event: Event { run: RunId(5), thread: Some(ThreadId(5)), kind, payload: Some(5) },
    });
    entries.collect()
}

#[test]
fn a_restart_finds_what_waits_and_resumes_it_with_the_reply() {
    let mut session = opened();
    let (_, out) = step(&mut session, snapshot(0, &entries()));
    assert!(out.contains(&PAUSE), "{out:?}");
    assert!(kinds(&session).is_empty() && session.state() == State::Occupied);
    session = then(then(session, join(1, ReadFrom::Latest)), pull(1, 99));
    reply(&mut session, 5, 1);
    let (_, out) = durable(session);
    assert!(out.contains(&Output::Launch { run: RunId(5), payload: Some(44), begin: Begin::Resumed }), "{out:?}");
}

#[test]
fn a_restart_interrupts_a_run_whose_reply_an_agent_may_have_had() {
    let mut resumed = entries();
    let event = Event { run: RunId(5), thread: Some(ThreadId(5)), kind: Kind::Resumed(FIRST), payload: Some(44) };
    resumed.push(Entry { offset: Offset(4), previous: Offset(3), event });
    let session = then(opened(), snapshot(0, &resumed));
    assert_eq!(kinds(&session), [Kind::Error(run::Reason::Interrupted)]);
}

#[test]
fn a_restart_with_smaller_bounds_ends_what_no_longer_fits() {
    let bounds = Bounds { runs: 0, ..SMALL };
    let mut session = opened();
    let _ = step_within(&bounds, &mut session, snapshot(0, &entries()));
    assert_eq!(kinds(&session), [Kind::Error(run::Reason::Interrupted)]);
}

#[test]
fn a_node_that_leaves_neither_waits_for_a_reply_nor_takes_one() {
    let mut session = then(paused(), Input::Mode(Mode::HandingOver));
    assert!(!session.holds(), "the successor has it");
    let _ = told(&mut session);
    reply(&mut session, 5, 1);
    assert_eq!(told(&mut session), [Frame::Control(Control::Error(Code::Draining))]);
    session = then(session, Input::Leave(Successor::Waiting));
    assert!(kinds(&session).is_empty(), "the run is open: {:?}", kinds(&session));
    let (_, out) = step(&mut session, on(1, connection::Input::Gone(Cause::Lost)));
    assert!(out.contains(&NO_PAUSE) && out.last() == Some(&Output::Retire), "{out:?}");
}
