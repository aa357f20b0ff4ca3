//! Ids, a connection's first machine, and which user is bound to which socket.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "A1",
            "two machines for one socket",
            "a verified connection gets a new id, and under it a new machine in its initial state",
            ["CONN-1", "LIVE-1"],
            Setup { mistake: Some(Mistake::feeding(restart_machine)), ..Setup::calm("session", "one client connects") }
        ),
        in_world!(
            "A2",
            "two initialisers",
            "the verifier's side declares a connection ready, and so does the session once it is restored",
            ["CONN-2"],
            Setup { mistake: Some(Mistake::tampering(declare_twice)), ..Setup::calm("session", "one client connects") }
        ),
        in_world!(
            "A4",
            "ids from a coarse clock",
            "two connections that open in the same second share one id, and therefore one machine",
            ["ISO-1", "CONN-1"],
            Setup {
                clients: vec![client(0, 0, 1), client(1, 0, 1)],
                mistake: Some(Mistake::feeding(share_an_id)),
                ..Setup::calm("isolation", "two users connect")
            }
        ),
        in_world!(
            "B10",
            "crossed upgrades",
            "of two verifications in progress, the first answer goes to the other connection",
            ["ISO-1", "AUTH-2"],
            Setup {
                clients: vec![client(0, 0, 1), client(1, 0, 1)],
                rejections: 1,
                mistake: Some(Mistake::feeding(swap_verdicts)),
                ..Setup::calm("isolation", "two users connect at once")
            }
        ),
        in_world!(
            "X103",
            "two users under one id",
            "subjects are mapped to ids so that two of them get the same one, and they share a session",
            ["AUTH-2", "ISO-1"],
            Setup {
                clients: vec![client(0, 0, 1), client(1, 0, 1)],
                mistake: Some(Mistake::feeding(merge_users)),
                ..Setup::calm("isolation", "two users connect")
            }
        ),
        in_world!(
            "B26",
            "joined after it left",
            "a connection that leaves during verification is in no session to be removed from, and joins later",
            ["SES-1"],
            Setup {
                clients: vec![client(0, 0, 2)],
                cuts: 1,
                rejections: 1,
                lenient: true,
                mistake: Some(Mistake::feeding(join_after_leaving)),
                ..Setup::calm("session", "a connection is cut while it is verified")
            }
        ),
    ]
}

/// Ids of a client's sockets end below eight.
fn renamed(id: ConnectionId) -> ConnectionId {
    ConnectionId(id.0 | 8)
}

fn restart_machine(world: &World, input: Input, fed: &mut Vec<Input>) {
    let Input::Connection { connection, input } = input else { return fed.push(input) };
    let other = renamed(connection);
    let renamed = world.gateway.connection(other).is_some();
    if matches!(input, C::Verdict { .. }) && !renamed {
        fed.push(Input::Accept { connection: other });
        fed.push(Input::Connection { connection: other, input: C::Opened });
        fed.push(Input::Connection { connection: other, input });
    } else {
        let connection = if renamed && matches!(input, C::Received(_)) { other } else { connection };
        fed.push(Input::Connection { connection, input });
    }
}

fn declare_twice(world: &World, outputs: &mut Vec<Output>) {
    let restoring = |output: &Output| matches!(output, Output::Session { output: SessionOutput::Restore { .. }, .. });
    if outputs.iter().any(restoring) {
        let members = world.gateway.slots().values().flat_map(|slot| slot.session.members().keys());
        outputs
            .extend(members.map(|connection| Output::Send { connection: *connection, frame: Frame::Control(READY) }));
    }
}

fn share_an_id(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Accept { connection } | Input::Connection { connection, .. } | Input::Pull { connection, .. } =
        &mut input
    {
        connection.0 %= 16;
    }
    fed.push(input);
}

fn swap_verdicts(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { connection, input: C::Verdict { .. } } = &mut input
        && let Some(other) = world.verifier.iter().find(|asked| asked.connection != *connection)
    {
        *connection = other.connection;
    }
    fed.push(input);
}

fn merge_users(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { input: C::Verdict { verdict: Verdict::Valid { grant, .. }, .. }, .. } = &mut input {
        grant.user = UserId(0);
    }
    fed.push(input);
}

fn join_after_leaving(world: &World, input: Input, fed: &mut Vec<Input>) {
    let joining = match &input {
        Input::Connection { connection, input: C::Gone(_) } => {
            world.verifier.iter().any(|asked| asked.connection == *connection)
        }
        _ => false,
    };
    if !joining {
        fed.push(input);
    }
}
