use std::collections::BTreeSet;

use lockstep_model::run::{Ending, Input, Kind, Output, Reason, State, ToolEnd};
use lockstep_model::{Bounds, Handled, PauseId, Refusal, Run, Timer, ToolId};

use super::{DEADLINE, EXECUTION, MESSAGE, QUEUED, RECEIVED, SILENCE, THREAD, after, close, emitted, open, step};
use crate::support::{SMALL, no_trace, survives_json, tampered, violates};

const TOOLS: [ToolId; 3] = [ToolId(1), ToolId(2), ToolId(3)];

fn working(tools: &[ToolId]) -> State {
    State::Working { tools: tools.iter().copied().collect() }
}

fn waiting(pause: u32, tools: &[ToolId]) -> State {
    State::Paused { pause: PauseId(pause), tools: tools.iter().copied().collect() }
}

/// A run in each open state, the last with two tools.
fn living() -> [Run; 4] {
    [after(&[]), after(&[Input::Start]), after(&[Input::Start, Input::Think]), after(&[Input::Start, open(1), open(2)])]
}

fn finished() -> [Run; 4] {
    [Input::Complete, Input::Fail, Input::Cancel, Input::Interrupt].map(|end| after(&[Input::Start, end]))
}

fn abandoned(tools: &[ToolId], ending: Ending) -> Vec<Output> {
    let end = ToolEnd::Abandoned(ending);
    tools.iter().map(|tool| Output::Emit(Kind::ToolCompleted(*tool, end))).collect()
}

fn refused(before: &Run, bounds: &Bounds, input: Input, why: Refusal) {
    let (mut run, mut out) = (before.clone(), Vec::new());
    assert_eq!(run.step(bounds, input, &mut out), Err(why), "{input:?} in {before:?}");
    no_trace(before, &run, &out);
}

#[test]
fn an_accepted_message_is_emitted_and_watched() {
    let mut out = Vec::new();
    let run = Run::accept(&SMALL, RECEIVED, &mut out);
    assert_eq!(out, [Output::Emit(Kind::Received(RECEIVED)), SILENCE, DEADLINE]);
    assert_eq!((run.message(), run.state(), run.is_open(), run.reserve()), (MESSAGE, &State::Accepted, true, 1));
    assert_eq!(run, Run::recall(RECEIVED));
    assert_eq!((run.thread(), run.is_queued()), (THREAD, false));
}

#[test]
fn the_agent_starts_thinks_and_uses_tools() {
    let mut run = after(&[]);
    let said = |kind| (Ok(Handled::Done), vec![Output::Emit(kind), SILENCE]);
    let executing = |kind| (Ok(Handled::Done), vec![Output::Emit(kind), EXECUTION]);
    assert_eq!(step(&mut run, Input::Start), said(Kind::Started));
    assert_eq!((run.state(), run.reserve()), (&State::Started, 1));
    assert_eq!(step(&mut run, Input::Think), said(Kind::Thinking));
    assert_eq!((run.state(), run.reserve()), (&working(&[]), 1));
    assert_eq!(step(&mut run, open(1)), executing(Kind::ToolExecuting(TOOLS[0])));
    assert_eq!((run.state(), run.reserve()), (&working(&TOOLS[..1]), 2));
    assert_eq!(step(&mut run, Input::Think), executing(Kind::Thinking));
    assert_eq!(run.state(), &working(&TOOLS[..1]), "thinking closes no tool");
    assert_eq!(step(&mut run, open(2)), executing(Kind::ToolExecuting(TOOLS[1])));
    assert_eq!((run.state(), run.reserve()), (&working(&TOOLS[..2]), 3));
    for (tool, end, left) in [(1, ToolEnd::Failure, &TOOLS[1..2]), (2, ToolEnd::Success, &[])] {
        let closed = step(&mut run, Input::CloseTool(ToolId(tool), end));
        let kind = Kind::ToolCompleted(ToolId(tool), end);
        assert_eq!(closed, if left.is_empty() { said(kind) } else { executing(kind) });
        assert_eq!(run.state(), &working(left));
    }
    assert!(run.is_open());
}

#[test]
fn a_first_tool_needs_no_thought_before_it() {
    let mut run = after(&[Input::Start]);
    let out = vec![Output::Emit(Kind::ToolExecuting(TOOLS[0])), EXECUTION];
    assert_eq!(step(&mut run, open(1)), (Ok(Handled::Done), out));
    assert_eq!(run.state(), &working(&TOOLS[..1]));
}

/// RUN-3: an event that is invalid in a state is refused for its own reason.
#[test]
fn what_comes_out_of_order_is_refused() {
    for input in [Input::Think, open(1), close(1), Input::Complete] {
        refused(&after(&[]), &SMALL, input, Refusal::OutOfOrder);
    }
    for run in &living()[1..] {
        refused(run, &SMALL, Input::Start, Refusal::OutOfOrder);
    }
}

#[test]
fn a_tool_is_opened_once_at_a_time_and_closed_only_while_open() {
    let run = after(&[Input::Start, open(1)]);
    refused(&run, &SMALL, open(1), Refusal::ToolOpen);
    refused(&run, &SMALL, close(2), Refusal::ToolNotOpen);
    refused(&after(&[Input::Start]), &SMALL, close(1), Refusal::ToolNotOpen);
    let closed = after(&[Input::Start, open(1), close(1)]);
    refused(&closed, &SMALL, close(1), Refusal::ToolNotOpen);
    assert_eq!(step(&mut closed.clone(), open(1)).0, Ok(Handled::Done), "and again later");
}

/// LIM-1: tools up to the bound (2), and one more when one is closed.
#[test]
fn tools_are_bounded() {
    let full = after(&[Input::Start, open(1), open(2)]);
    refused(&full, &SMALL, open(3), Refusal::TooManyTools);
    refused(&full, &SMALL, open(2), Refusal::ToolOpen);
    let room = after(&[Input::Start, open(1), open(2), close(1)]);
    assert_eq!(step(&mut room.clone(), open(3)).0, Ok(Handled::Done));
}

/// LIM-1: events up to the bound; then only those that close.
#[test]
fn events_are_bounded_and_the_end_is_not_counted() {
    let bounds = Bounds { events: 4, ..SMALL };
    let mut run = after(&[]);
    for input in [Input::Start, open(1), Input::Think] {
        assert_eq!(run.step(&bounds, input, &mut Vec::new()), Ok(Handled::Done));
    }
    let mut full = run.clone();
    assert_eq!(full.step(&bounds, open(2), &mut Vec::new()), Ok(Handled::Done), "the fourth");
    for input in [Input::Think, open(3), open(2)] {
        refused(&full, &bounds, input, Refusal::TooManyEvents);
    }
    for input in [close(1), Input::Complete, Input::Fail, Input::Cancel, Input::Interrupt, Input::Abandon] {
        assert_eq!(full.clone().step(&bounds, input, &mut Vec::new()), Ok(Handled::Done), "{input:?}");
    }
    assert_eq!(full.step(&bounds, close(1), &mut Vec::new()), Ok(Handled::Done));
    refused(&full, &bounds, Input::Think, Refusal::TooManyEvents);

    let one = Bounds { events: 1, ..SMALL };
    let mut run = after(&[]);
    assert_eq!(run.step(&one, Input::Start, &mut Vec::new()), Ok(Handled::Done), "a run may always start");
    refused(&run, &one, Input::Think, Refusal::TooManyEvents);
    refused(&run, &one, open(1), Refusal::TooManyEvents);
}

/// RUN-1: every end closes the open tools, then the run, disarms the timers and stops the agent.
#[test]
fn every_end_closes_the_tools_first() {
    let ends = [
        (Input::Complete, State::Completed, Ending::Completed),
        (Input::Fail, State::Failed, Ending::Error(Reason::Failed)),
        (Input::Abandon, State::Failed, Ending::Error(Reason::Abandoned)),
        (Input::Expired(Timer::Silence), State::Failed, Ending::Error(Reason::Silent)),
        (Input::Expired(Timer::Deadline), State::Failed, Ending::Error(Reason::TimedOut)),
        (Input::Cancel, State::Cancelled, Ending::Error(Reason::Cancelled)),
        (Input::Interrupt, State::Interrupted, Ending::Error(Reason::Interrupted)),
    ];
    for (input, state, ending) in ends {
        for before in living() {
            if before.state() == &State::Accepted && input == Input::Complete {
                continue;
            }
            let tools = if let State::Working { tools } = before.state() { tools.clone() } else { BTreeSet::new() };
            let mut out = abandoned(&tools.into_iter().collect::<Vec<_>>(), ending);
            let disarmed = [Timer::Silence, Timer::Deadline].map(Output::Disarm);
            out.push(Output::Emit(ending.kind()));
            out.extend(disarmed);
            out.push(Output::Stop);
            let mut run = before.clone();
            assert_eq!(step(&mut run, input), (Ok(Handled::Done), out), "{input:?} in {before:?}");
            assert_eq!((run.state(), run.is_open(), run.reserve()), (&state, false, 0));
        }
    }
}

/// RUN-1: then nothing. The agent is told that the run has ended; our own inputs are merely late.
#[test]
fn nothing_follows_the_end() {
    for run in finished() {
        for input in [Input::Start, Input::Think, Input::Alive, open(1), close(1), Input::Complete, Input::Fail] {
            refused(&run, &SMALL, input, Refusal::RunEnded);
        }
        let timers = [Timer::Silence, Timer::Deadline].map(Input::Expired);
        for input in [Input::Abandon, Input::Cancel, Input::Interrupt].into_iter().chain(timers) {
            let mut late = run.clone();
            assert_eq!(step(&mut late, input), (Ok(Handled::Ignored), vec![]));
            assert_eq!(late, run);
        }
    }
}

#[test]
fn a_timer_that_is_not_the_runs_is_ignored() {
    for run in living().into_iter().chain(finished()) {
        for timer in [Timer::Idle, Timer::Linger, Timer::Retry] {
            let mut same = run.clone();
            assert_eq!(step(&mut same, Input::Expired(timer)), (Ok(Handled::Ignored), vec![]));
            assert_eq!(same, run);
        }
    }
}

/// RUN-3 and the reserved end: an input emits no more than its need plus what the run releases from its reserve.
#[test]
fn needs_and_reserve_account_for_every_event() {
    let inputs = [
        (Input::Start, 1),
        (Input::Think, 1),
        (Input::Alive, 0),
        (Input::Pause, 2),
        (Input::Resume(PauseId(1)), 0),
        (open(3), 2),
        (close(1), 0),
        (Input::Complete, 0),
        (Input::Fail, 0),
        (Input::Abandon, 0),
        (Input::Cancel, 0),
        (Input::Interrupt, 0),
        (Input::Expired(Timer::Silence), 0),
        (Input::Expired(Timer::Deadline), 0),
    ];
    let bounds = Bounds { tools: 3, ..SMALL };
    for (input, need) in inputs {
        assert_eq!(Run::needs(&input), need, "{input:?}");
        for before in living() {
            let (mut run, mut out) = (before.clone(), Vec::new());
            if run.step(&bounds, input, &mut out) == Ok(Handled::Done) {
                assert_eq!(emitted(&out).len() + run.reserve(), before.reserve() + need, "{input:?} in {before:?}");
            }
        }
    }
}

/// A restored run does not emit its events again, and then ends with its open tools.
#[test]
fn a_recalled_run_is_where_its_events_say() {
    let replayed = |kinds: &[Kind]| {
        let mut run = Run::recall(RECEIVED);
        for kind in kinds {
            run.replay(*kind);
        }
        run
    };
    let (tool, done) = (Kind::ToolExecuting, |tool| Kind::ToolCompleted(tool, ToolEnd::Success));
    let states = [
        (vec![], State::Accepted),
        (vec![Kind::Received(RECEIVED)], State::Accepted),
        (vec![Kind::Started], State::Started),
        (vec![Kind::Started, Kind::Thinking], working(&[])),
        (vec![Kind::Started, tool(TOOLS[0]), Kind::Thinking, tool(TOOLS[1])], working(&TOOLS[..2])),
        (vec![Kind::Started, tool(TOOLS[0]), tool(TOOLS[1]), done(TOOLS[0])], working(&TOOLS[1..2])),
        (vec![Kind::Started, tool(TOOLS[0]), Kind::Paused(PauseId(1))], waiting(1, &TOOLS[..1])),
        (vec![Kind::Started, Kind::Paused(PauseId(1)), Kind::Resumed(PauseId(1))], working(&[])),
        (vec![Kind::Started, Kind::Completed], State::Completed),
        (vec![Kind::Error(Reason::Failed)], State::Failed),
        (vec![Kind::Error(Reason::Abandoned)], State::Failed),
        (vec![Kind::Error(Reason::Silent)], State::Failed),
        (vec![Kind::Error(Reason::TimedOut)], State::Failed),
        (vec![Kind::Error(Reason::Cancelled)], State::Cancelled),
        (vec![Kind::Error(Reason::NoReply)], State::Cancelled),
        (vec![Kind::Error(Reason::Interrupted)], State::Interrupted),
    ];
    for (kinds, state) in states {
        let run = replayed(&kinds);
        assert_eq!((run.state(), run.message()), (&state, MESSAGE), "{kinds:?}");
    }
    let mut run = replayed(&[Kind::Started, tool(TOOLS[0])]);
    let end = ToolEnd::Abandoned(Ending::Error(Reason::Interrupted));
    let closing = [Kind::ToolCompleted(TOOLS[0], end), Kind::Error(Reason::Interrupted)];
    assert_eq!(emitted(&step(&mut run, Input::Interrupt).1), closing);
}

/// LIVE-2: a sign of life emits nothing and restarts the silence timer, which is longer while a tool executes. Nothing
/// extends the run's deadline.
#[test]
fn an_agent_may_be_alive_without_a_word() {
    refused(&after(&[]), &SMALL, Input::Alive, Refusal::OutOfOrder);
    let working = [Input::Start, Input::Think, open(1), Input::Think];
    for (inputs, watch) in [(1, SILENCE), (2, SILENCE), (3, EXECUTION), (4, EXECUTION)] {
        let before = after(&working[..inputs]);
        let mut run = before.clone();
        assert_eq!(step(&mut run, Input::Alive), (Ok(Handled::Done), vec![watch]));
        assert_eq!(run, before);
    }
    let mut run = after(&working);
    let closed = Output::Emit(Kind::ToolCompleted(ToolId(1), ToolEnd::Success));
    assert_eq!(step(&mut run, close(1)), (Ok(Handled::Done), vec![closed, SILENCE]), "the tool has returned");
}

#[test]
fn only_an_answer_and_an_error_are_terminal() {
    let tool = TOOLS[0];
    let open = [Kind::Received(RECEIVED), Kind::Started, Kind::Thinking, Kind::ToolExecuting(tool)];
    for kind in open.into_iter().chain([Kind::ToolCompleted(tool, ToolEnd::Failure)]) {
        assert!(!kind.is_terminal(), "{kind:?}");
        survives_json(&kind);
    }
    for kind in [Kind::Completed, Kind::Error(Reason::Failed), Kind::Error(Reason::Cancelled)] {
        assert!(kind.is_terminal(), "{kind:?}");
        survives_json(&kind);
    }
}

#[test]
fn check_counts_the_tools() {
    for run in living().into_iter().chain(finished()) {
        assert_eq!(run.check(&SMALL), Ok(()));
    }
    let crowded = tampered(&living()[3], "/state", &working(&TOOLS));
    assert_eq!(crowded.check(&SMALL), violates("LIM-1"));
}

/// RUN-4: a queued run has no timer, and waits for its turn, whatever agents and timers do.
#[test]
fn a_queued_run_waits_for_its_turn() {
    let mut out = Vec::new();
    let run = Run::accept(&SMALL, QUEUED, &mut out);
    assert_eq!(out, [Output::Emit(Kind::Received(QUEUED))]);
    assert_eq!((run.state(), run.is_open(), run.is_queued(), run.reserve()), (&State::Queued, true, true, 2));
    assert_eq!(run, Run::recall(QUEUED));
    for input in [Input::Abandon, Input::Expired(Timer::Silence), Input::Expired(Timer::Deadline)] {
        assert_eq!(step(&mut run.clone(), input), (Ok(Handled::Ignored), vec![]));
    }
    for input in [Input::Start, Input::Think, Input::Alive, Input::OpenTool(TOOLS[0]), Input::Complete, Input::Fail] {
        let mut same = run.clone();
        assert_eq!(step(&mut same, input), (Err(Refusal::OutOfOrder), vec![]), "{input:?}");
        assert_eq!(same, run);
    }
    let mut begun = run.clone();
    let started = vec![DEADLINE, Output::Emit(Kind::Started), SILENCE];
    assert_eq!(step(&mut begun, Input::Dequeue), (Ok(Handled::Done), started));
    assert_eq!((begun.state(), begun.is_queued(), begun.reserve()), (&State::Started, false, 1));
    assert_eq!(step(&mut begun.clone(), Input::Dequeue), (Ok(Handled::Ignored), vec![]));
    assert_eq!(step(&mut begun.clone(), Input::Start), (Err(Refusal::OutOfOrder), vec![]), "its beginning is said");

    for (input, state, reason) in [
        (Input::Cancel, State::Cancelled, Reason::Cancelled),
        (Input::Interrupt, State::Interrupted, Reason::Interrupted),
    ] {
        let mut ended = run.clone();
        let (handled, out) = step(&mut ended, input);
        assert_eq!((handled, &out[0]), (Ok(Handled::Done), &Output::Emit(Kind::Error(reason))));
        assert_eq!((ended.state(), ended.reserve()), (&state, 0));
        assert_eq!(step(&mut ended, Input::Dequeue), (Ok(Handled::Ignored), vec![]));
    }
    let mut recalled = Run::recall(QUEUED);
    recalled.replay(Kind::Started);
    assert_eq!(recalled.state(), &State::Started);
}

/// RUN-5: a paused run keeps its open tools, takes only the reply to this pause, and resumes with new deadlines.
#[test]
fn a_pause_waits_for_its_own_reply() {
    let mut run = after(&[Input::Start, open(1), Input::Pause]);
    let bounds = Bounds { tools: 3, ..SMALL };
    assert_eq!((run.state(), run.reserve(), run.has_agent()), (&waiting(1, &TOOLS[..1]), 3, false));
    for input in
        [Input::Start, Input::Think, Input::Alive, open(2), close(1), Input::Pause, Input::Complete, Input::Fail]
    {
        refused(&run, &bounds, input, Refusal::OutOfOrder);
    }
    let timers = [Timer::Silence, Timer::Deadline].map(Input::Expired);
    for input in
        [Input::Resume(PauseId(0)), Input::Resume(PauseId(2)), Input::Abandon, Input::Dequeue].into_iter().chain(timers)
    {
        assert_eq!(step(&mut run, input), (Ok(Handled::Ignored), vec![]), "{input:?}");
    }
    let (handled, out) = step(&mut run, Input::Resume(PauseId(1)));
    let resumed = [Output::Disarm(Timer::Pause), DEADLINE, Output::Emit(Kind::Resumed(PauseId(1))), EXECUTION];
    assert_eq!((handled, out.as_slice()), (Ok(Handled::Done), resumed.as_slice()));
    assert_eq!((run.state(), run.reserve()), (&working(&TOOLS[..1]), 2));
    assert_eq!(step(&mut run, Input::Resume(PauseId(1))), (Ok(Handled::Ignored), vec![]));
    let _ = step(&mut run, Input::Pause);
    assert_eq!(run.paused(), Some(PauseId(2)), "pauses are numbered");
}

/// LIVE-2: the time for a reply is the only timer of a paused run.
#[test]
fn a_pause_without_a_reply_ends_the_run() {
    let mut run = after(&[Input::Start, open(1), Input::Pause]);
    let (handled, out) = step(&mut run, Input::Expired(Timer::Pause));
    let reason = Ending::Error(Reason::NoReply);
    let end = [Output::Emit(Kind::Error(Reason::NoReply)), Output::Disarm(Timer::Pause), Output::Stop];
    assert_eq!((handled, out), (Ok(Handled::Done), [abandoned(&TOOLS[..1], reason), end.to_vec()].concat()));
    assert_eq!(run.state(), &State::Cancelled);
    let paused = Run::recall(RECEIVED);
    let mut out = Vec::new();
    paused.recover(&SMALL, &mut out);
    assert_eq!(out, [], "a run that is not paused has nothing to recover");
}
