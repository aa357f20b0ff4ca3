//! Messages of one thread, whose runs wait for each other.

#![expect(clippy::ptr_arg, reason = "a mistake may also drop outputs")]

use lockstep_model::run::Schedule;
use lockstep_model::session::Begin;
use lockstep_model::{RunId, ThreadId};

use super::hooks::*;
use crate::models::world::Threads;
use crate::models::world::action::message_of;
use crate::models::world::storage::recorded;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "X73",
            "begun twice",
            "a restart launches a queued run whose beginning is in the log, instead of interrupting it",
            ["RUN-4"],
            Setup { crashes: 1, mistake: Some(Mistake::tampering(launch_again)), ..thread(2, 2) }
        ),
        in_world!(
            "X74",
            "queued run lost at a restart",
            "a restart interrupts queued runs as if they had begun",
            ["RUN-4"],
            Setup { crashes: 1, mistake: Some(Mistake::feeding(interrupt_all)), ..thread(2, 2) }
        ),
        in_world!(
            "X75",
            "taken back and launched",
            "a cancel meets the beginning of a queued run, and the launch checks the beginning alone",
            ["RUN-4"],
            Setup { cancels: 1, mistake: Some(Mistake::tampering(launch_what_began)), ..thread(2, 1) }
        ),
        in_world!(
            "X76",
            "launched before durable",
            "the next run is launched when the one before it has ended, and not when the log has that end",
            ["RUN-4"],
            Setup { mistake: Some(Mistake::tampering(launch_at_once)), ..thread(2, 1) }
        ),
        in_world!(
            "X77",
            "last in, first out",
            "of two queued runs the newer is launched",
            ["RUN-4"],
            Setup {
                clients: vec![reader(2, 1), reader(1, 1)],
                mistake: Some(Mistake::tampering(launch_the_newest)),
                ..thread(2, 1)
            }
        ),
        in_world!(
            "X78",
            "one queue for all threads",
            "messages of two threads wait for each other",
            ["RUN-4"],
            Setup { threads: Threads::Own, mistake: Some(Mistake::feeding(join_threads)), ..thread(2, 1) }
        ),
        in_world!(
            "X79",
            "concurrent runs in one thread",
            "a message begins at once, whatever is open in its thread",
            ["RUN-4"],
            Setup { mistake: Some(Mistake::feeding(split_the_thread)), ..thread(2, 1) }
        ),
        in_world!(
            "X80",
            "interrupted before it began",
            "a node whose time is over interrupts queued runs together with begun ones",
            ["RUN-4"],
            Setup { drains: 1, mistake: Some(Mistake::feeding(interrupt_at_the_end)), ..thread(2, 1) }
        ),
        in_world!(
            "X81",
            "begun at the end",
            "a node that is about to leave begins the next run of a thread",
            ["NODE-2"],
            Setup { drains: 1, mistake: Some(Mistake::feeding(begin_at_the_end)), ..thread(2, 1) }
        ),
        in_world!(
            "X91",
            "replaced but still answering",
            "a message replaces a turn whose answer is open, and the answer continues after it",
            ["RUN-4"],
            Setup {
                replacing: true,
                mistake: Some(Mistake { feed: replace_nothing, tamper: replace_first_turn }),
                ..thread(2, 1)
            }
        ),
        in_world!(
            "X92",
            "replaced before its end",
            "the message that replaces a turn is written before the turn's end, and a crash falls between the two",
            ["RUN-4"],
            Setup { replacing: true, mistake: Some(Mistake::tampering(write_the_message_first)), ..thread(2, 1) }
        ),
    ]
}

fn reader(messages: u8, sockets: u8) -> ClientSetup {
    ClientSetup { fast: true, ..client(0, messages, sockets) }
}

/// One user whose messages are in one thread.
fn thread(messages: u8, sockets: u8) -> Setup {
    Setup {
        clients: vec![reader(messages, sockets)],
        threads: Threads::Shared,
        pull: 8,
        bounds: Bounds { retained: 12, pending: 8, queued: 2, ..setup::small() },
        ..Setup::calm("queue", "messages of one thread")
    }
}

/// Returns a session's queued runs.
fn queued(session: &Session<Payload>) -> impl Iterator<Item = RunId> {
    session.runs().iter().filter(|(_, run)| run.is_queued()).map(|(id, _)| *id)
}

fn interrupt(user: UserId, generation: Generation, run: RunId) -> Input {
    Input::Session { user, generation, input: S::Run { run, input: run::Input::Interrupt, payload: None } }
}

/// Whether an event begins a queued run.
fn is_beginning(world: &World, user: UserId, run: RunId, kind: Kind) -> bool {
    kind == Kind::Started && log_of(world, user).is_some_and(|log| log.is_queued(run))
}

/// Launches an agent with the message of a queued run, as the log has it.
fn launch(run: RunId) -> SessionOutput<Payload> {
    let payload = u8::try_from(message_of(run)).ok();
    SessionOutput::Launch { run, payload: Some(recorded(payload)), begin: Begin::Queued }
}

fn launch_again(world: &World, outputs: &mut Vec<Output>) {
    let again = outputs.iter().find_map(|output| match output {
        Output::Session { user, generation, output: SessionOutput::Write { event, .. } }
            if event.kind == Kind::Error(run::Reason::Interrupted)
                && is_beginning(world, *user, event.run, Kind::Started) =>
        {
            Some(Output::Session { user: *user, generation: *generation, output: launch(event.run) })
        }
        _ => None,
    });
    outputs.extend(again);
}

fn interrupt_all(world: &World, input: Input, fed: &mut Vec<Input>) {
    let restored = match &input {
        Input::Session { user, generation, input: S::Restored { snapshot, .. } } => {
            let log = log_of(world, *user);
            let runs = snapshot.entries.iter().map(|entry| entry.event.run);
            let queued = runs.filter(|run| log.is_some_and(|log| log.is_queued(*run))).collect::<Vec<_>>();
            Some((*user, *generation, queued))
        }
        _ => None,
    };
    fed.push(input);
    if let Some((user, generation, runs)) = restored {
        fed.extend(runs.into_iter().map(|run| interrupt(user, generation, run)));
    }
}

fn launch_what_began(world: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Session { user, output, .. } = output
            && let SessionOutput::Durable { run, offset, .. } = *output
            && let Some(event) = log_of(world, *user).and_then(|log| log.at(offset.0))
            && is_beginning(world, *user, run, event.kind)
        {
            *output = launch(run);
        }
    }
}

fn launch_at_once(world: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Session { user, output, .. } = output
            && let SessionOutput::Write { event, .. } = output
            && is_beginning(world, *user, event.run, event.kind)
        {
            *output = launch(event.run);
        }
    }
}

fn launch_the_newest(world: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Session { user, output: SessionOutput::Launch { run, begin: Begin::Queued, .. }, .. } = output
            && let Some(newest) = session_of(world, *user).and_then(|session| session.queue().back())
        {
            *run = newest.run;
        }
    }
}

fn with_thread(mut input: Input, of: fn(MessageId) -> ThreadId) -> Input {
    if let Input::Connection { input: C::Received(Request::Message { message, thread, .. }), .. } = &mut input {
        *thread = of(*message);
    }
    input
}

fn join_threads(_: &World, input: Input, fed: &mut Vec<Input>) {
    fed.push(with_thread(input, |_| ThreadId(0)));
}

fn split_the_thread(_: &World, input: Input, fed: &mut Vec<Input>) {
    fed.push(with_thread(input, |message| ThreadId(message.0)));
}

fn replace_nothing(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { input: C::Received(Request::Message { replaces, .. }), .. } = &mut input {
        *replaces = None;
    }
    fed.push(input);
}

/// Returns the beginnings that are written.
fn beginnings(outputs: &mut [Output]) -> impl Iterator<Item = &mut run::Received> {
    outputs.iter_mut().filter_map(|output| match output {
        Output::Session { output: SessionOutput::Write { event, .. }, .. } => match &mut event.kind {
            Kind::Received(received) => Some(received),
            _ => None,
        },
        _ => None,
    })
}

fn replace_first_turn(_: &World, outputs: &mut Vec<Output>) {
    for received in beginnings(outputs).filter(|received| received.message != MessageId(0)) {
        (received.replaces, received.schedule) = (Some(Offset(1)), Schedule::Immediate);
    }
}

fn write_the_message_first(_: &World, outputs: &mut Vec<Output>) {
    let is_write = |output: &Output| matches!(output, Output::Session { output: SessionOutput::Write { .. }, .. });
    let writes: Vec<usize> = (0..outputs.len()).filter(|place| is_write(&outputs[*place])).collect();
    if let [.., before, last] = writes[..]
        && beginnings(&mut outputs[last..=last]).any(|received| received.replaces.is_some())
    {
        outputs.swap(before, last);
    }
}

fn interrupt_at_the_end(world: &World, input: Input, fed: &mut Vec<Input>) {
    if matches!(input, Input::Node(node::Input::Expired(Timer::Drain))) {
        for (user, slot) in world.gateway.slots() {
            fed.extend(queued(&slot.session).map(|run| interrupt(*user, slot.generation, run)));
        }
    }
    fed.push(input);
}

fn begin_at_the_end(world: &World, input: Input, fed: &mut Vec<Input>) {
    let next = match &input {
        Input::Session { user, generation, input: S::Run { input: run::Input::Complete, .. } }
            if !world.is_serving() =>
        {
            session_of(world, *user).and_then(|session| queued(session).next()).map(|run| Input::Session {
                user: *user,
                generation: *generation,
                input: S::Run { run, input: run::Input::Dequeue, payload: None },
            })
        }
        _ => None,
    };
    fed.push(input);
    fed.extend(next);
}
