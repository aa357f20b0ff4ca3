//! Cursors: gaps, repeats, wake-ups, and which frames reach which connection.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "A9",
            "cleared, then sent",
            "a batch is taken off its queue before it is sent, and a time-out after the first frame loses the others",
            ["STR-1", "STR-2"],
            Setup { pull: 3, mistake: Some(Mistake::tampering(lose_the_rest)), ..answered() }
        ),
        in_world!(
            "A10",
            "new before old",
            "a new event is pushed at once to a reader that has not read the older ones yet",
            ["STR-1"],
            Setup { mistake: Some(Mistake::tampering(push_the_newest)), ..answered() }
        ),
        in_world!(
            "A12",
            "reader not registered",
            "no reader is woken when there is a new event",
            ["STR-1", "LIVE-3"],
            Setup { mistake: Some(Mistake::tampering(wake_no_reader)), ..answered() }
        ),
        in_world!(
            "A13",
            "first handler gets everything",
            "one router for all: the first registered handler is given the messages of every user",
            ["ISO-1"],
            Setup { mistake: Some(Mistake::tampering(give_to_the_first)), ..neighbours() }
        ),
        in_world!(
            "A14",
            "only the newest connection",
            "a user has one place for a reader, and the newest connection takes it",
            ["STR-1", "LIVE-3"],
            Setup {
                clients: vec![client(0, 1, 1), client(0, 0, 1)],
                mistake: Some(Mistake::tampering(wake_the_newest)),
                ..Setup::calm("session", "two clients")
            }
        ),
        in_world!(
            "A21",
            "routed by own messages",
            "a connection is sent only the events of its own messages, and those of another connection are dropped",
            ["STR-1"],
            Setup {
                clients: vec![client(0, 1, 1), client(0, 1, 1)],
                mistake: Some(Mistake::tampering(drop_unknown_threads)),
                ..Setup::calm("session", "two clients, a message each")
            }
        ),
        in_world!(
            "A30",
            "separate connection maps",
            "the emitting component looks connections up in another map than the one where they are registered",
            ["STR-1", "ISO-1", "SES-1"],
            Setup { mistake: Some(Mistake::tampering(send_to_first_socket)), ..neighbours() }
        ),
        in_world!(
            "B16",
            "failed replay drops events",
            "when a batch fails, the events held back behind it are dropped, and reading continues with the newest",
            ["STR-1"],
            Setup { mistake: Some(Mistake::tampering(keep_the_newest)), ..answered() }
        ),
        in_world!(
            "B17",
            "last event is dropped",
            "the end of a run is dropped when it does not fit into the reader's queue",
            ["RUN-1", "STR-1"],
            Setup {
                clients: vec![client(0, 2, 1)],
                pull: 3,
                mistake: Some(Mistake::tampering(shed_the_end)),
                ..Setup::calm("session", "one client, two messages")
            }
        ),
        in_world!(
            "B25",
            "broadcast until assigned",
            "an event of a run that is not assigned to a user yet goes to all connections",
            ["ISO-1"],
            Setup { mistake: Some(Mistake::tampering(broadcast_received)), ..neighbours() }
        ),
        in_world!(
            "X3",
            "shown before it is durable",
            "an event is sent when it is written, and not when the log has it",
            ["STR-2"],
            Setup { mistake: Some(Mistake::tampering(show_early)), ..answered() }
        ),
    ]
}

fn answered() -> Setup {
    Setup::calm("session", "one client, one message")
}

fn neighbours() -> Setup {
    Setup { clients: vec![client(0, 0, 1), client(1, 1, 1)], ..Setup::calm("isolation", "two users, one message") }
}

fn is_event(output: &Output) -> bool {
    matches!(output, Output::Send { frame: Frame::Event(_), .. })
}

fn lose_the_rest(_: &World, outputs: &mut Vec<Output>) {
    let mut first = true;
    outputs.retain(|output| !is_event(output) || std::mem::take(&mut first));
}

fn push_the_newest(world: &World, outputs: &mut Vec<Output>) {
    if !is_publishing(outputs) {
        return;
    }
    for (id, member) in world.gateway.slots().values().flat_map(|slot| slot.session.members()) {
        let newest = stream_of(world, *id).and_then(|stream| stream.entries().back());
        if let (Some(entry), Some(cursor)) = (newest, member.cursor)
            && cursor.at() < entry.previous
        {
            outputs.push(Output::Send { connection: *id, frame: Frame::Event(entry.clone()) });
        }
    }
}

fn wake_no_reader(_: &World, outputs: &mut Vec<Output>) {
    if is_publishing(outputs) {
        outputs.retain(|output| !matches!(output, Output::Wake { .. }));
    }
}

fn give_to_the_first(world: &World, outputs: &mut Vec<Output>) {
    let first = world.gateway.slots().iter().next();
    for output in outputs {
        if let (Output::Session { user, generation, output: SessionOutput::Launch { .. } }, Some((first, slot))) =
            (output, first)
        {
            (*user, *generation) = (*first, slot.generation);
        }
    }
}

fn wake_the_newest(world: &World, outputs: &mut Vec<Output>) {
    if is_publishing(outputs) {
        let newest = world.gateway.slots().values().flat_map(|slot| slot.session.members().keys()).max().copied();
        outputs.retain(|output| match output {
            Output::Wake { connection } => Some(*connection) == newest,
            _ => true,
        });
    }
}

fn drop_unknown_threads(_: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| match output {
        Output::Send { connection, frame: Frame::Event(entry) } => entry.event.run.0 / 16 == connection.0 / 16,
        _ => true,
    });
}

fn send_to_first_socket(world: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if !is_event(output) {
            continue;
        }
        let ready = world.sockets.iter().find(|(_, socket)| socket.observed.reader.at().is_some());
        if let (Output::Send { connection, .. }, Some((first, _))) = (output, ready) {
            *connection = *first;
        }
    }
}

fn keep_the_newest(_: &World, outputs: &mut Vec<Output>) {
    let mut events = outputs.iter().filter(|output| is_event(output)).count();
    outputs.retain(|output| {
        events -= usize::from(is_event(output));
        !is_event(output) || events == 0
    });
}

fn shed_the_end(_: &World, outputs: &mut Vec<Output>) {
    let mut waiting = 0;
    outputs.retain(|output| match output {
        Output::Send { frame: Frame::Event(entry), .. } => {
            waiting += 1;
            waiting == 1 || !entry.event.kind.is_terminal()
        }
        _ => true,
    });
}

fn broadcast_received(world: &World, outputs: &mut Vec<Output>) {
    let received = outputs.iter().find_map(|output| match output {
        Output::Send { connection, frame: frame @ Frame::Event(entry) } => {
            matches!(entry.event.kind, Kind::Received(_)).then(|| (*connection, frame.clone()))
        }
        _ => None,
    });
    if let Some((reader, frame)) = received {
        let others =
            world.sockets.iter().filter(|(id, socket)| **id != reader && socket.observed.reader.at().is_some());
        outputs.extend(others.map(|(id, _)| Output::Send { connection: *id, frame: frame.clone() }));
    }
}

fn show_early(world: &World, outputs: &mut Vec<Output>) {
    let mut shown = Vec::new();
    for output in outputs.iter() {
        if let Output::Session { user, output: SessionOutput::Write { after, event, .. }, .. } = output
            && let Some(session) = session_of(world, *user)
        {
            for (id, _) in session.members() {
                let (previous, offset) = (*after, Offset(after.0 + 1));
                let entry = lockstep_model::Entry { offset, previous, event: event.clone() };
                shown.push(Output::Send { connection: *id, frame: Frame::Event(entry) });
            }
        }
    }
    outputs.extend(shown);
}
