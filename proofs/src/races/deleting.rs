//! Deleted threads, and parts of them that are still read.

use lockstep_model::ThreadId;
use lockstep_model::session::Begin;
use lockstep_model::stream::Entry;

use super::hooks::*;
use crate::models::world::Threads;
use crate::models::world::action::message_of;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "X84",
            "back after a restart",
            "the log compacts the deletion away before the deleted entries, and a crash brings those back",
            ["RET-1"],
            Setup { crashes: 1, mistake: Some(Mistake::feeding(forget_deletions)), ..thread(1, 2) }
        ),
        in_world!(
            "X85",
            "run goes on after the deletion",
            "a deletion is written while a run of its thread is open, which ends later",
            ["RET-1"],
            Setup { mistake: Some(Mistake { feed: delete_another, tamper: write_the_right_one }), ..thread(1, 1) }
        ),
        in_world!(
            "X86",
            "deleted entries are still read",
            "a client that comes back gets whatever the log has after its position, deleted or not",
            ["RET-1"],
            Setup { cuts: 1, mistake: Some(Mistake::tampering(read_the_disk)), ..thread(1, 2) }
        ),
        in_world!(
            "X87",
            "link to a deleted entry",
            "the entry after a deletion names a deleted one as its predecessor, and its reader requests that forever",
            ["STR-1"],
            Setup { mistake: Some(Mistake::tampering(keep_the_link)), ..thread(2, 1) }
        ),
        in_world!(
            "X88",
            "message id lost with the thread",
            "the log deletes message ids with the messages, and a message repeated after a restart runs again",
            ["RUN-2"],
            Setup { crashes: 1, mistake: Some(Mistake::feeding(forget_ids)), ..thread(1, 2) }
        ),
        in_world!(
            "X89",
            "deleted and launched",
            "a message waits for its agent while its thread is deleted, and the launch checks the message alone",
            ["RET-1"],
            Setup { mistake: Some(Mistake::tampering(launch_what_is_deleted)), ..thread(1, 1) }
        ),
        in_world!(
            "X90",
            "acknowledged before durable",
            "a deletion is acknowledged when it is emitted, and a crash takes it back",
            ["STR-2"],
            Setup { mistake: Some(Mistake::tampering(answer_at_once)), ..thread(1, 1) }
        ),
    ]
}

/// One user whose messages are in one thread, which the user may delete.
fn thread(messages: u8, sockets: u8) -> Setup {
    Setup {
        clients: vec![client(0, messages, sockets)],
        threads: Threads::Shared,
        deletions: 1,
        pull: 8,
        bounds: Bounds { retained: 12, pending: 8, queued: 2, ..setup::small() },
        ..Setup::calm("deletion", "a thread that is deleted")
    }
}

fn forget_deletions(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Session { input: S::Restored { snapshot, .. }, .. } = &mut input {
        snapshot.entries.retain(|entry| entry.event.kind != Kind::Deleted);
    }
    fed.push(input);
}

fn forget_ids(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Session { input: S::Restored { snapshot, .. }, .. } = &mut input {
        snapshot.past.clear();
    }
    fed.push(input);
}

fn delete_another(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { input: C::Received(Request::Delete { thread, .. }), .. } | Input::Delete { thread, .. } =
        &mut input
    {
        *thread = ThreadId(9);
    }
    fed.push(input);
}

fn write_the_right_one(_: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Session { output: SessionOutput::Write { event, .. }, .. } = output
            && event.kind == Kind::Deleted
        {
            event.thread = Some(ThreadId(0));
        }
    }
}

fn read_the_disk(world: &World, outputs: &mut Vec<Output>) {
    let again = outputs.iter().enumerate().find_map(|(place, output)| match output {
        Output::Send { connection, frame: Frame::Control(Control::Ready { offset, .. }) } => {
            let log = log_of(world, world.gateway.user_of(*connection)?)?;
            let deleted = log.readable().into_iter().rev().find(|entry| entry.event.kind == Kind::Deleted)?;
            let next = log.at(offset.0 + 1).filter(|_| offset.0 + 1 < deleted.offset.0)?;
            let entry = Entry { offset: Offset(offset.0 + 1), previous: *offset, event: next.clone() };
            Some((place + 1, Output::Send { connection: *connection, frame: Frame::Event(entry) }))
        }
        _ => None,
    });
    if let Some((place, again)) = again {
        outputs.insert(place, again);
    }
}

fn keep_the_link(_: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Send { frame: Frame::Event(entry), .. } = output
            && !matches!(entry.event.kind, Kind::Delta(_))
        {
            entry.previous = Offset(entry.offset.0 - 1);
        }
    }
}

fn launch_what_is_deleted(world: &World, outputs: &mut Vec<Output>) {
    let launched = outputs.iter().find_map(|output| match output {
        Output::Session { user, generation, output: SessionOutput::Durable { run, offset, .. } } => {
            let log = log_of(world, *user)?;
            log.at(offset.0).filter(|event| event.kind == Kind::Deleted && event.run == *run)?;
            let begun = log.readable().into_iter().find(|entry| matches!(entry.event.kind, Kind::Received(_)))?;
            let run = begun.event.run;
            let unlaunched = world.oracle.launched & (1 << message_of(run)) == 0;
            let output = SessionOutput::Launch { run, payload: begun.event.payload, begin: Begin::New };
            unlaunched.then_some(Output::Session { user: *user, generation: *generation, output })
        }
        _ => None,
    });
    outputs.extend(launched);
}

fn answer_at_once(_: &World, outputs: &mut Vec<Output>) {
    let answers: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Session { user, generation, output: SessionOutput::Write { event, after, .. } }
                if event.kind == Kind::Deleted =>
            {
                let output = SessionOutput::Durable { run: event.run, offset: Offset(after.0 + 1), last: true };
                Some(Output::Session { user: *user, generation: *generation, output })
            }
            _ => None,
        })
        .collect();
    outputs.extend(answers);
}
