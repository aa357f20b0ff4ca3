//! The log and its owner: answers that do not come, come late, or say that the user is another's.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "X30",
            "a retry that only reads",
            "what was not answered is looked up instead of written again, and what is on its way is taken for there",
            ["STR-2"],
            Setup {
                mistake: Some(Mistake { feed: look_it_up, tamper: write_once }),
                ..unanswered("an append is not answered")
            }
        ),
        in_world!(
            "X31",
            "an old answer for a new batch",
            "an answer that comes after its append was given up is taken for that of the batch under way",
            ["STR-2", "RUN-3"],
            Setup { mistake: Some(Mistake::feeding(take_late)), ..unanswered("an append is answered late") }
        ),
        in_world!(
            "X32",
            "the drain waits for the log",
            "a session stays until the log has taken what is pending, however long that is",
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
            "fenced taken for failed",
            "a log that has another owner for the user is asked again, for ever, as one that is busy",
            ["LIVE-6"],
            Setup { mistake: Some(Mistake::feeding(ask_again)), ..fenced("the log has another owner") }
        ),
        in_world!(
            "X34",
            "fenced, and still serving",
            "a session that has lost its user goes on showing what it has to those who are connected",
            ["LIVE-6"],
            Setup { mistake: Some(Mistake::feeding(carry_on)), ..fenced("the log has another owner") }
        ),
        in_world!(
            "X35",
            "acknowledged though fenced",
            "when a session ends, its agents are told that what they have said is durable",
            ["STR-2", "OWN-1", "RUN-3"],
            Setup { mistake: Some(Mistake::ordering(call_it_done)), ..fenced("the log has another owner") }
        ),
        in_world!(
            "X36",
            "lost without a word",
            "a session that ends leaves its agents waiting for what will never be durable",
            ["RUN-3"],
            Setup { mistake: Some(Mistake::ordering(keep_silent)), ..fenced("the log has another owner") }
        ),
        in_world!(
            "X37",
            "a right that it was not granted",
            "a session quotes the newest generation of its user instead of the one that it was granted",
            ["OWN-1"],
            Setup { mistake: Some(Mistake::ordering(quote_the_newest)), ..fenced("the log has another owner") }
        ),
    ]
}

fn unanswered(about: &'static str) -> Setup {
    Setup { unanswered: 1, pull: 8, ..Setup::calm("storage", about) }
}

fn fenced(about: &'static str) -> Setup {
    Setup { fences: 1, pull: 8, ..Setup::calm("storage", about) }
}

/// What waits of a user whose session is fed.
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

fn ask_again(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    let present = pending(world, &input);
    if let (Input::Session { input, .. }, Some((batch, _))) = (&mut input, present)
        && *input == S::Fenced
    {
        *input = S::Failed { batch };
    }
    fed.push(input);
}

fn carry_on(_: &World, input: Input, fed: &mut Vec<Input>) {
    if !matches!(input, Input::Session { input: S::Fenced, .. }) {
        fed.push(input);
    }
}

fn call_it_done(_: &World, outputs: &mut Vec<Output>) {
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

fn keep_silent(_: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| !matches!(output, Output::Session { output: SessionOutput::Lose, .. }));
}
