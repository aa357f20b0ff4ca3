//! Which connections are closed, how they are told, and which still occupy a place afterwards.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "A5",
            "cleanup under another key",
            "a record that was stored under one key is removed under another, so it stays, and locks its user out",
            ["SES-1", "LIM-1"],
            Setup {
                lenient: true,
                mistake: Some(Mistake::feeding(use_another_key)),
                ..one_place("a lost client, another client")
            }
        ),
        in_world!(
            "A6",
            "probes count as activity",
            "idle connections are cleaned up, and the probe itself counts as activity, so dead ones keep every place",
            ["SES-1"],
            Setup {
                idle: true,
                mistake: Some(Mistake::feeding(count_probe_as_activity)),
                ..one_place("a dead client, another client")
            }
        ),
        in_world!(
            "A7",
            "idle connections are forgotten",
            "to make room, the gateway forgets a quiet connection but leaves its socket open",
            ["SES-1", "CONN-1"],
            Setup {
                clients: vec![client(0, 0, 1), client(0, 0, 1)],
                mistake: Some(Mistake { feed: make_room, tamper: keep_the_socket }),
                ..Setup::calm("session", "two tabs")
            }
        ),
        in_world!(
            "A20",
            "one code for everything",
            "every close reports an internal failure, even for a rejected token",
            ["CONN-1"],
            Setup {
                rejections: 1,
                mistake: Some(Mistake::feeding(close_with_fault)),
                ..Setup::calm("session", "a token is rejected")
            }
        ),
        in_world!(
            "X105",
            "deactivated, then not removable",
            "a teardown deactivates the node first, and each removal is then refused because the node is not active",
            ["CONN-3", "LIVE-4"],
            Setup {
                clients: vec![client(0, 0, 1)],
                drains: 1,
                lenient: true,
                mistake: Some(Mistake::feeding(refuse_removals)),
                ..Setup::calm("node", "the operator drains the node")
            }
        ),
        in_world!(
            "A27",
            "failed close is forgotten",
            "a connection whose close fails stays on the list forever, until no place is left",
            ["SES-1", "LIM-1"],
            Setup {
                clients: vec![client(0, 0, 2)],
                rejections: 1,
                lenient: true,
                bounds: Bounds { node_connections: 1, ..setup::small() },
                mistake: Some(Mistake { feed: forget_closing, tamper: try_again }),
                ..Setup::calm("session", "a token is rejected, another is not")
            }
        ),
        in_world!(
            "B2",
            "old socket closes the new one",
            "the end of a replaced socket is taken for the end of its client's current connection",
            ["CONN-1"],
            Setup { mistake: Some(Mistake::feeding(close_the_newest)), ..lost("a client reconnects") }
        ),
        in_world!(
            "B4",
            "announced before it has left",
            "the end of a connection is announced before the session has removed it",
            ["SES-1"],
            Setup {
                lenient: true,
                mistake: Some(Mistake { feed: ignore_gone, tamper: announce_first }),
                ..lost("a connection is lost")
            }
        ),
        in_world!(
            "B9",
            "aborted before the close frame",
            "a refused connection is aborted while its close frame waits, so the client is never told to stay away",
            ["CONN-1"],
            Setup {
                rejections: 1,
                mistake: Some(Mistake::feeding(abort_first)),
                ..Setup::calm("session", "a token is rejected")
            }
        ),
        in_world!(
            "X1",
            "no idle deadline",
            "a connection that becomes live is never given its idle deadline",
            ["CONN-3"],
            Setup { mistake: Some(Mistake::tampering(never_idle)), ..Setup::calm("session", "one client connects") }
        ),
    ]
}

fn lost(about: &'static str) -> Setup {
    Setup { clients: vec![client(0, 0, 2)], cuts: 1, ..Setup::calm("session", about) }
}

/// Two clients of a user who may have one connection. The first is lost.
fn one_place(about: &'static str) -> Setup {
    let tab = |sockets| ClientSetup { fast: true, ..client(0, 0, sockets) };
    let bounds = Bounds { connections: 1, ..setup::small() };
    Setup { clients: vec![tab(2), tab(1)], bounds, ..lost(about) }
}

fn use_another_key(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { connection, input: C::Gone(_) } = &mut input {
        connection.0 |= 8;
    }
    fed.push(input);
}

fn count_probe_as_activity(_: &World, input: Input, fed: &mut Vec<Input>) {
    match input {
        Input::Connection { connection, input: C::Expired(Timer::Idle) } => {
            let inputs = [C::Received(Request::Pong), C::Expired(Timer::Idle)];
            fed.extend(inputs.map(|input| Input::Connection { connection, input }));
        }
        other => fed.push(other),
    }
}

fn make_room(world: &World, input: Input, fed: &mut Vec<Input>) {
    if matches!(input, Input::Accept { .. }) {
        let quiet = world.gateway.slots().values().flat_map(|slot| slot.session.members().keys()).next();
        fed.extend(quiet.map(|id| Input::Connection { connection: *id, input: C::Gone(Cause::Lost) }));
    }
    fed.push(input);
}

fn keep_the_socket(_: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| !matches!(output, Output::Closed { cause: Cause::Lost, .. }));
}

fn close_with_fault(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { input, .. } = &mut input {
        let failed = match input {
            C::Verdict { verdict, .. } => matches!(verdict, Verdict::Rejected | Verdict::Unavailable),
            C::Revoked | C::Expired(Timer::Handshake | Timer::Verification | Timer::Credential) => true,
            _ => false,
        };
        if failed {
            *input = C::Close(Cause::Fault);
        }
    }
    fed.push(input);
}

fn is_closing(world: &World, id: ConnectionId) -> bool {
    world.gateway.unattached().get(&id).is_some_and(lockstep_model::Connection::is_closing)
}

/// Whether the close frame has left.
fn close_frame_left(world: &World, id: ConnectionId) -> bool {
    is_closing(world, id) && !world.gateway.connection(id).is_some_and(lockstep_model::Connection::has_frame)
}

fn forget_closing(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { connection, input } = &mut input
        && matches!(input, C::Gone(_) | C::Expired(Timer::Close))
        && close_frame_left(world, *connection)
    {
        // Ignored by a connection that is closing.
        *input = C::Opened;
    }
    fed.push(input);
}

/// Retries a failed close, forever.
fn try_again(world: &World, outputs: &mut Vec<Output>) {
    let closing = world.gateway.unattached().keys().filter(|id| is_closing(world, **id));
    let deadline = setup::small().close;
    outputs.extend(closing.map(|id| Output::Arm(Place::Connection(*id), Timer::Close, deadline)));
}

fn close_the_newest(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { connection, input: C::Gone(_) } = &mut input {
        let mut own = world.sockets.keys().filter(|id| peer(**id) == peer(*connection));
        *connection = own.next_back().copied().unwrap_or(*connection);
    }
    fed.push(input);
}

fn ignore_gone(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { connection, input } = &mut input
        && matches!(input, C::Gone(_))
        && world.gateway.user_of(*connection).is_some()
    {
        // Ignored by a connection that is live.
        *input = C::Opened;
    }
    fed.push(input);
}

fn announce_first(world: &World, outputs: &mut Vec<Output>) {
    let gone = world.sockets.iter().find(|(id, socket)| {
        (socket.cut || socket.client_gone) && !socket.server_gone && world.gateway.user_of(**id).is_some()
    });
    if let Some((id, socket)) = gone
        && outputs.is_empty()
    {
        let cause = if socket.cut { Cause::Lost } else { Cause::PeerClosed };
        outputs.push(Output::Closed { connection: *id, cause });
    }
}

fn abort_first(world: &World, input: Input, fed: &mut Vec<Input>) {
    if let Input::Pull { connection, .. } = input
        && is_closing(world, connection)
    {
        fed.push(Input::Connection { connection, input: C::Gone(Cause::Lost) });
    }
    fed.push(input);
}

fn never_idle(_: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| !matches!(output, Output::Arm(_, Timer::Idle, _)));
}

/// Nothing removes a connection of a node that is draining: neither its peer, nor its deadline.
fn refuse_removals(world: &World, input: Input, fed: &mut Vec<Input>) {
    let removes = matches!(input, Input::Connection { input: C::Gone(_) | C::Expired(Timer::Close), .. });
    if !removes || world.gateway.node().mode() != Mode::Draining {
        fed.push(input);
    }
}
