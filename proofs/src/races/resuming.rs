//! Where reading continues after a reconnect.

use lockstep_model::ConfirmationId;

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "A29",
            "resume ignored",
            "a request to resume is acknowledged, and reading begins with the next event",
            ["STR-1"],
            Setup { mistake: Some(Mistake::feeding(ignore_resume)), ..back() }
        ),
        in_world!(
            "X112",
            "read under another name",
            "the client writes `offset`, the gateway reads `last_offset`, and an absent number reads as zero",
            ["STR-1"],
            Setup { mistake: Some(Mistake::feeding(read_another_name)), ..back() }
        ),
        in_world!(
            "B12",
            "old replay goes on",
            "the replay on a lost connection continues after the new one is ready",
            ["STR-1"],
            Setup { mistake: Some(Mistake::tampering(repeat_the_last)), ..back() }
        ),
        in_world!(
            "B13",
            "off by one at the boundary",
            "replay begins one entry after the position that the client was told",
            ["STR-1"],
            Setup { mistake: Some(Mistake { feed: skip_one, tamper: tell_the_wanted }), ..back() }
        ),
        in_world!(
            "B14",
            "sent counts as received",
            "reading continues where the lost connection's sending stopped, not where the client's receiving did",
            ["STR-1"],
            Setup { mistake: Some(Mistake::feeding(resume_from_sent)), ..back() }
        ),
        in_world!(
            "B15",
            "renumbered after an eviction",
            "the entries left after an eviction are numbered from the beginning, and the gap is not reported",
            ["STR-1", "STR-2"],
            Setup {
                clients: vec![ClientSetup { fast: true, ..client(0, 1, 2) }],
                crashes: 1,
                bounds: Bounds { retained: 1, ..setup::small() },
                mistake: Some(Mistake { feed: renumber_entries, tamper: hide_the_gap }),
                ..Setup::calm("session", "a client comes back after a restart")
            }
        ),
        in_world!(
            "B18",
            "resumed before saved",
            "a client that returns while its old connection still exists finds no position to resume from",
            ["STR-1"],
            Setup { mistake: Some(Mistake::feeding(find_nothing_saved)), ..back() }
        ),
        in_world!(
            "B20",
            "position and content read apart",
            "the announced offset is read later than the position at which reading begins",
            ["STR-1", "SH-2"],
            Setup { mistake: Some(Mistake::tampering(tell_the_head)), ..back() }
        ),
    ]
}

fn back() -> Setup {
    Setup { clients: vec![client(0, 1, 2)], cuts: 1, ..Setup::calm("session", "a client reconnects during a run") }
}

/// Changes the position at which a connection asks to resume.
fn redirect(mut input: Input, fed: &mut Vec<Input>, place: impl FnOnce(ConnectionId, Resume, Position) -> ReadFrom) {
    if let Input::Connection { connection, input: C::Received(Request::Auth { resume, .. }) } = &mut input
        && let ReadFrom::After(position) = resume.from
    {
        resume.from = place(*connection, *resume, position);
    }
    fed.push(input);
}

fn read_another_name(_: &World, input: Input, fed: &mut Vec<Input>) {
    redirect(input, fed, |_, _, position| ReadFrom::After(Position { offset: Offset(0), ..position }));
}

fn ignore_resume(_: &World, input: Input, fed: &mut Vec<Input>) {
    redirect(input, fed, |_, _, _| ReadFrom::Latest);
}

fn repeat_the_last(world: &World, outputs: &mut Vec<Output>) {
    let again = outputs.iter().find_map(|output| match output {
        Output::Send { connection, frame: Frame::Control(Control::Ready { offset, resumed: true, .. }) } => {
            let entries = stream_of(world, *connection)?.entries();
            let last = entries.iter().find(|entry| entry.offset == *offset)?;
            Some(Output::Send { connection: *connection, frame: Frame::Event(last.clone()) })
        }
        _ => None,
    });
    outputs.extend(again);
}

fn skip_one(world: &World, input: Input, fed: &mut Vec<Input>) {
    redirect(input, fed, |connection, _, position| {
        let user = world.user_of_token(world.peers[peer(connection)].token);
        let head = session_of(world, user).and_then(Session::stream).map_or(Offset(0), Stream::head);
        let offset = Offset((position.offset.0 + 1).min(head.0));
        ReadFrom::After(Position { offset, ..position })
    });
}

fn tell_the_wanted(world: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Send { connection, frame: Frame::Control(Control::Ready { offset, resumed: true, .. }) } = output
            && let Some(wanted) = world.peers[peer(*connection)].client.position()
        {
            *offset = wanted.offset;
        }
    }
}

fn resume_from_sent(world: &World, input: Input, fed: &mut Vec<Input>) {
    redirect(input, fed, |_, resume, position| {
        let older = resume.replaces.and_then(|older| {
            let session = session_of(world, world.gateway.user_of(older)?)?;
            session.members().get(&older)?.cursor
        });
        let offset = older.map_or(position.offset, |cursor| cursor.at());
        ReadFrom::After(Position { offset, ..position })
    });
}

fn renumber_entries(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    let mut next = None;
    if let Input::Session { user, generation, input: S::Restored { snapshot, .. } } = &mut input {
        for (entry, offset) in snapshot.entries.iter_mut().zip(1..) {
            (entry.offset, entry.previous) = (Offset(offset), Offset(offset - 1));
        }
        snapshot.trimmed = Offset(0);
        // A client that had seen more was answered without a question to the log.
        let input = S::Confirmed { attempt: ConfirmationId(1) };
        next = Some(Input::Session { user: *user, generation: *generation, input });
    }
    fed.push(input);
    fed.extend(next);
}

fn hide_the_gap(_: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| !matches!(output, Output::Send { frame: Frame::Control(Control::StreamReset { .. }), .. }));
    for output in outputs {
        if let Output::Send { frame: Frame::Control(Control::Ready { resumed, .. }), .. } = output {
            *resumed = true;
        }
    }
}

fn find_nothing_saved(world: &World, input: Input, fed: &mut Vec<Input>) {
    redirect(input, fed, |_, resume, position| {
        let there = resume.replaces.is_some_and(|older| world.gateway.user_of(older).is_some());
        if there { ReadFrom::Latest } else { ReadFrom::After(position) }
    });
}

fn tell_the_head(world: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Send { connection, frame: Frame::Control(Control::Ready { offset, .. }) } = output
            && let Some(stream) = stream_of(world, *connection)
        {
            *offset = stream.head();
        }
    }
}
