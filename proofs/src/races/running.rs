//! Messages, runs, tools, agents and the log.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "A11",
            "buffered and dropped",
            "an emit while the log is busy is buffered, reported as done, and never processed",
            ["RUN-3"],
            Setup {
                thinking: 1,
                mistake: Some(Mistake::feeding(drop_while_busy)),
                ..Setup::calm("session", "an agent emits while the log is busy")
            }
        ),
        in_world!(
            "A15",
            "one breaker for all",
            "failed runs of one user make the gateway refuse the messages of every other",
            ["ISO-1", "NODE-1"],
            Setup {
                clients: vec![client(0, 1, 1), client(1, 1, 1)],
                deaths: 1,
                bounds: Bounds { failures: 1, ..setup::small() },
                mistake: Some(Mistake::feeding(refuse_for_others)),
                ..Setup::calm("isolation", "two users, a failing agent")
            }
        ),
        in_world!(
            "A22",
            "silent agent",
            "no timer watches an agent that stops emitting",
            ["LIVE-2"],
            Setup {
                deaths: 1,
                mistake: Some(Mistake::tampering(never_watch)),
                ..Setup::calm("session", "an agent hangs")
            }
        ),
        in_world!(
            "A23",
            "cancelled with an open tool",
            "a cancel ends the run without closing the tool that executes",
            ["RUN-1"],
            Setup {
                tools: 1,
                cancels: 1,
                mistake: Some(Mistake::tampering(leave_tools_open)),
                ..Setup::calm("session", "a run with a tool is cancelled")
            }
        ),
        in_world!(
            "B19",
            "repeat treated as new",
            "a message that is repeated because its answer was lost is treated as another message",
            ["RUN-2", "STR-1"],
            Setup {
                clients: vec![client(0, 1, 2)],
                cuts: 1,
                // In a thread that queues, the second run would wait for the first.
                bounds: Bounds { concurrency: Concurrency::Parallel, ..setup::small() },
                mistake: Some(Mistake::feeding(take_for_new)),
                ..Setup::calm("session", "a message is repeated")
            }
        ),
        in_world!(
            "X83",
            "trimmed ids not restored",
            "a restored session does not restore the ids of messages that the log has trimmed",
            ["RUN-2"],
            Setup {
                clients: vec![client(0, 1, 2)],
                crashes: 1,
                bounds: Bounds { retained: 2, ..setup::small() },
                mistake: Some(Mistake::feeding(forget_what_is_trimmed)),
                ..Setup::calm("session", "a restart after a run that is trimmed")
            }
        ),
        in_world!(
            "X4",
            "refused, reported as done",
            "a write that the log refused is reported as durable, and is never written again",
            ["STR-2"],
            Setup {
                log_failures: 1,
                mistake: Some(Mistake::feeding(report_durable)),
                ..Setup::calm("session", "the log refuses a batch")
            }
        ),
        in_world!(
            "X60",
            "deadline renewed forever",
            "each event of a run restarts its deadline",
            ["LIVE-2"],
            Setup {
                thinking: 1,
                mistake: Some(Mistake::tampering(renew_the_deadline)),
                ..Setup::calm("session", "an agent at work")
            }
        ),
        in_world!(
            "X8",
            "notice given twice",
            "a notice whose answer is slow is given to the session once more",
            ["RUN-3"],
            Setup {
                notices: 1,
                mistake: Some(Mistake::feeding(give_notice_twice)),
                ..Setup::calm("notice", "a notice for the user")
            }
        ),
        in_world!(
            "X9",
            "notice without a stream",
            "a notice for a user who is not connected is reported as sent, and is stored nowhere",
            ["RUN-3"],
            Setup {
                notices: 1,
                lingers: 1,
                mistake: Some(Mistake::feeding(drop_unread)),
                ..Setup::calm("notice", "a notice for an absent user")
            }
        ),
        in_world!(
            "X62",
            "skipped on return",
            "a connection that names no position begins at the end of the stream, after the notices for an absent user",
            ["STR-1"],
            Setup {
                notices: 1,
                lingers: 1,
                mistake: Some(Mistake::feeding(begin_at_the_end)),
                ..Setup::calm("notice", "a notice for an absent user")
            }
        ),
        in_world!(
            "X240",
            "room that is kept quiet",
            "an emit that was refused while the log was behind is not told that the log has caught up",
            ["RUN-3"],
            Setup {
                thinking: 1,
                bounds: Bounds { runs: 1, pending: 3, ..setup::small() },
                mistake: Some(Mistake::tampering(keep_room_quiet)),
                ..Setup::calm("session", "an agent is faster than the log")
            }
        ),
        in_world!(
            "X241",
            "restored, and not told",
            "a notice that was refused while its user's stream was read is not told that the stream is there",
            ["RUN-3"],
            Setup {
                notices: 1,
                mistake: Some(Mistake::tampering(keep_a_restored_stream_quiet)),
                ..Setup::calm("notice", "a notice for a user whose stream is read")
            }
        ),
        in_world!(
            "X242",
            "retired, and not told",
            "a notice that was refused is not told that the session has ended, so no other session takes it",
            ["RUN-3"],
            Setup {
                notices: 1,
                restore_failures: 1,
                mistake: Some(Mistake::tampering(keep_an_end_quiet)),
                ..Setup::calm("notice", "a notice for a user whose stream cannot be read")
            }
        ),
    ]
}

/// Suppresses [`SessionOutput::Room`] for users whose session is in this state.
fn suppress_room(outputs: &mut Vec<Output>, is_chosen: impl Fn(UserId) -> bool) {
    outputs.retain(|output| match output {
        Output::Session { user, output: SessionOutput::Room, .. } => !is_chosen(*user),
        _ => true,
    });
}

fn keep_room_quiet(world: &World, outputs: &mut Vec<Output>) {
    let head = |user| session_of(world, user).and_then(Session::stream).map(Stream::head);
    suppress_room(outputs, |user| head(user) > Some(Offset(0)));
}

fn keep_a_restored_stream_quiet(world: &World, outputs: &mut Vec<Output>) {
    let head = |user| session_of(world, user).and_then(Session::stream).map(Stream::head);
    suppress_room(outputs, |user| head(user) == Some(Offset(0)));
}

fn keep_an_end_quiet(world: &World, outputs: &mut Vec<Output>) {
    suppress_room(outputs, |user| session_of(world, user).is_none());
}

fn begin_at_the_end(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { input: C::Received(Request::Auth { resume, .. }), .. } = &mut input
        && resume.from == ReadFrom::Unread
    {
        resume.from = ReadFrom::Latest;
    }
    fed.push(input);
}

fn give_notice_twice(_: &World, input: Input, fed: &mut Vec<Input>) {
    if matches!(input, Input::Notice { .. }) {
        fed.push(input.clone());
    }
    fed.push(input);
}

fn drop_unread(world: &World, input: Input, fed: &mut Vec<Input>) {
    let unread = |user| session_of(world, user).is_none_or(|session| session.members().is_empty());
    if !matches!(&input, Input::Notice { user, .. } if unread(*user)) {
        fed.push(input);
    }
}

fn drop_while_busy(world: &World, input: Input, fed: &mut Vec<Input>) {
    let busy = match &input {
        Input::Session { user, input: S::Run { input: run::Input::Think, .. }, .. } => session_of(world, *user)
            .is_some_and(|session| {
                let writing = session.stream().is_some_and(|stream| !stream.pending().is_empty());
                writing && !session.runs().is_empty()
            }),
        _ => false,
    };
    if !busy {
        fed.push(input);
    }
}

fn refuse_for_others(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    let open = world.gateway.slots().values().any(|slot| slot.session.breaker().is_open());
    if let Input::Connection { input, .. } = &mut input
        && let C::Received(Request::Message { message, .. }) = input
        && open
    {
        *input = C::Tell(Control::Refused { message: *message, code: Code::BreakerOpen });
    }
    fed.push(input);
}

fn never_watch(_: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| !matches!(output, Output::Arm(Place::Run(..), Timer::Silence, _)));
}

fn renew_the_deadline(_: &World, outputs: &mut Vec<Output>) {
    let renewed = outputs.iter().filter_map(|output| match output {
        Output::Arm(place @ Place::Run(..), Timer::Silence, after) => {
            Some(Output::Arm(*place, Timer::Deadline, *after))
        }
        _ => None,
    });
    let renewed: Vec<_> = renewed.collect();
    outputs.extend(renewed);
}

fn leave_tools_open(_: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| match output {
        Output::Session { output: SessionOutput::Write { event, .. }, .. } => {
            !matches!(event.kind, Kind::ToolCompleted(_, run::ToolEnd::Abandoned(_)))
        }
        _ => true,
    });
}

fn take_for_new(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { connection, input: C::Received(Request::Message { message, repeat, .. }) } = &mut input
        && let Some(session) = world.gateway.user_of(*connection).and_then(|user| session_of(world, user))
        && session.known().contains_key(message)
    {
        *repeat = false;
        *message = MessageId(message.0 + 8);
    }
    fed.push(input);
}

fn forget_what_is_trimmed(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Session { input: S::Restored { snapshot, .. }, .. } = &mut input {
        snapshot.past.clear();
    }
    fed.push(input);
}

fn report_durable(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Session { user, input, .. } = &mut input
        && let S::Failed { batch } = *input
        && let Some(stream) = session_of(world, *user).and_then(Session::stream)
    {
        *input = S::Persisted { batch, offset: Offset(stream.head().0 + 1), record: None };
    }
    fed.push(input);
}
