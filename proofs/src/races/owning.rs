//! The log and its owner: answers that are missing, late, or say that the user has another owner.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "X30",
            "retry without a write",
            "an unanswered append is looked up instead of rewritten, and an append in flight is taken for written",
            ["STR-2"],
            Setup {
                mistake: Some(Mistake { feed: look_it_up, tamper: write_once }),
                ..unanswered("an append is not answered")
            }
        ),
        in_world!(
            "X31",
            "old answer for a new batch",
            "the late answer to an abandoned append is taken for the answer to the current batch",
            ["STR-2", "RUN-3"],
            Setup { mistake: Some(Mistake::feeding(take_late)), ..unanswered("an append is answered late") }
        ),
        in_world!(
            "X32",
            "drain waits for the log",
            "a session stays until the log has taken all pending events, however long that takes",
            ["NODE-2", "LIVE-4"],
            Setup {
                drains: 1,
                mute: true,
                mistake: Some(Mistake::feeding(never_give_up)),
                ..unanswered("a drain with a mute log")
            }
        ),
        in_world!(
            "X33",
            "fenced treated as failed",
            "a log that reports another owner is retried forever, as if it were busy",
            ["LIVE-6"],
            Setup { mistake: Some(Mistake::feeding(retry_when_fenced)), ..fenced("the log has another owner") }
        ),
        in_world!(
            "X34",
            "fenced, and still serving",
            "a session that has lost its user goes on serving its connections",
            ["LIVE-6"],
            Setup { mistake: Some(Mistake::feeding(ignore_fenced)), ..fenced("the log has another owner") }
        ),
        in_world!(
            "X35",
            "acknowledged though fenced",
            "when a session ends, its agents are told that their pending events are durable",
            ["STR-2", "OWN-1", "RUN-3"],
            Setup { mistake: Some(Mistake::tampering(report_durable)), ..fenced("the log has another owner") }
        ),
        in_world!(
            "X36",
            "lost without notice",
            "a session that ends leaves its agents waiting for events that will never be durable",
            ["RUN-3"],
            Setup { mistake: Some(Mistake::tampering(drop_loss_notice)), ..fenced("the log has another owner") }
        ),
        in_world!(
            "X37",
            "another owner's token",
            "a session uses its user's newest fencing token instead of the one that it was granted",
            ["OWN-1"],
            Setup { mistake: Some(Mistake::tampering(quote_the_newest)), ..fenced("the log has another owner") }
        ),
    ]
}

fn unanswered(about: &'static str) -> Setup {
    Setup { unanswered: 1, pull: 8, ..Setup::calm("storage", about) }
}

fn fenced(about: &'static str) -> Setup {
    Setup { fences: 1, pull: 8, ..Setup::calm("storage", about) }
}

/// The pending batch and offset of the user whose session receives this input.
fn pending(world: &World, input: &Input) -> Option<(BatchId, Offset)> {
    let Input::Session { user, .. } = input else { return None };
    let stream = session_of(world, *user)?.stream()?;
    (!stream.pending().is_empty()).then(|| (stream.batch(), stream.head()))
}

fn look_it_up(world: &World, input: Input, fed: &mut Vec<Input>) {
    let found = match (&input, pending(world, &input)) {
        (Input::Session { user, generation, input: S::Expired(_, Timer::Retry) }, Some((batch, head))) => {
            let there = S::Persisted { batch, offset: Offset(head.0 + 1), record: None };
            Some(Input::Session { user: *user, generation: *generation, input: there })
        }
        (_, _) => None,
    };
    fed.push(input);
    fed.extend(found);
}

fn write_once(world: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| match output {
        Output::Session { user, output: SessionOutput::Write { .. }, .. } => {
            let stream = session_of(world, *user).and_then(Session::stream);
            stream.is_some_and(|stream| stream.batch() == BatchId(0))
        }
        _ => true,
    });
}

fn take_late(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    let present = pending(world, &input);
    if let Input::Session { input: S::Persisted { batch, offset, .. }, .. } = &mut input
        && let Some((now, head)) = present
        && *batch != now
    {
        (*batch, *offset) = (now, Offset(head.0 + 1));
    }
    fed.push(input);
}

fn never_give_up(world: &World, input: Input, fed: &mut Vec<Input>) {
    let sessions = world.gateway.slots().values().filter_map(|slot| slot.session.stream());
    let waits = sessions.into_iter().any(|stream| !stream.pending().is_empty());
    if !(waits && matches!(input, Input::Node(node::Input::Expired(Timer::Grace)))) {
        fed.push(input);
    }
}

fn retry_when_fenced(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    let present = pending(world, &input);
    if let (Input::Session { input, .. }, Some((batch, _))) = (&mut input, present)
        && *input == S::Fenced
    {
        *input = S::Failed { batch };
    }
    fed.push(input);
}

fn ignore_fenced(_: &World, input: Input, fed: &mut Vec<Input>) {
    if !matches!(input, Input::Session { input: S::Fenced, .. }) {
        fed.push(input);
    }
}

fn report_durable(_: &World, outputs: &mut Vec<Output>) {
    let halted = outputs.iter().find_map(|output| match output {
        Output::Session { output: SessionOutput::Halt { run }, .. } => Some(*run),
        _ => None,
    });
    for output in outputs {
        if let (Output::Session { output, .. }, Some(run)) = (output, halted)
            && *output == SessionOutput::Lose
        {
            *output = SessionOutput::Durable { run, offset: Offset(9), last: false };
        }
    }
}

fn quote_the_newest(world: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Session { user, output: SessionOutput::Write { tenure, .. }, .. } = output {
            tenure.token = world.newest_owner(*user);
        }
    }
}

fn drop_loss_notice(_: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| !matches!(output, Output::Session { output: SessionOutput::Lose, .. }));
}
