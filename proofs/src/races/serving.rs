//! Modes and drains.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "B23",
            "drain that never begins",
            "a drain closes every connection at once but never begins, so they come back and it never ends",
            ["NODE-2", "LIVE-4"],
            Setup { clients: vec![client(0, 0, 2)], mistake: Some(Mistake::feeding(close_all)), ..drained() }
        ),
        in_world!(
            "X5",
            "stopped with open sessions",
            "a drain ends the process at once, while there are still sessions",
            ["NODE-2"],
            Setup { mistake: Some(Mistake::tampering(stop_at_once)), ..drained() }
        ),
        in_world!(
            "X6",
            "mode without effect",
            "messages are handled as if the node were ready, whatever its mode",
            ["NODE-1"],
            Setup {
                pins: 1,
                mistake: Some(Mistake::feeding(ignore_the_mode)),
                ..Setup::calm("node", "the operator pins a mode")
            }
        ),
        in_world!(
            "X102",
            "closed, not told",
            "a node that leaves closes its clients' connections at once, and none is told when to come back",
            ["NODE-2"],
            Setup { clients: vec![client(0, 1, 1)], mistake: Some(Mistake::feeding(stop_the_sessions)), ..drained() }
        ),
        in_world!(
            "H1",
            "left in the middle of an answer",
            "a drain tells every client to leave at once, and a reader of an answer sees it freeze",
            ["NODE-2"],
            Setup { clients: vec![client(0, 1, 1)], mistake: Some(Mistake::feeding(tell_all_to_leave)), ..drained() }
        ),
        in_world!(
            "H2",
            "no successor listens",
            "clients are told that a successor is waiting, and there is none",
            ["NODE-2"],
            Setup { mistake: Some(Mistake::feeding(pretend_a_successor)), ..drained() }
        ),
        in_world!(
            "H3",
            "drain without a deadline",
            "a drain waits for open runs without a deadline, so one that never ends keeps the process",
            ["LIVE-4"],
            Setup { clients: vec![client(0, 1, 1)], mistake: Some(Mistake::tampering(no_deadline)), ..drained() }
        ),
        in_world!(
            "H4",
            "two writers",
            "the log is handed to the successor on request, while sessions still write",
            ["NODE-2"],
            Setup { mistake: Some(Mistake::tampering(release_at_once)), ..handed_over() }
        ),
        in_world!(
            "H5",
            "nothing is handed over",
            "the successor was told that it is next, and the old process continues as before",
            ["NODE-2", "LIVE-4"],
            Setup { clients: vec![client(0, 1, 1)], mistake: Some(Mistake::feeding(drop_drain)), ..handed_over() }
        ),
        in_world!(
            "H6",
            "no way back",
            "the successor could not start, and the old process ends all the same",
            ["NODE-2", "NODE-1"],
            Setup { clients: vec![client(0, 1, 1)], mistake: Some(Mistake::feeding(drop_abort)), ..handed_over() }
        ),
    ]
}

fn handed_over() -> Setup {
    Setup { drains: 0, handovers: 1, ..drained() }
}

fn tell_all_to_leave(world: &World, input: Input, fed: &mut Vec<Input>) {
    let members = world.gateway.slots().values().flat_map(|slot| slot.session.members().keys());
    if let Input::Node(node::Input::Drain { successor }) = input {
        fed.extend(members.map(|id| Input::Connection { connection: *id, input: C::Drain { successor } }));
    }
    fed.push(input);
}

fn stop_the_sessions(world: &World, input: Input, fed: &mut Vec<Input>) {
    let slots = world.gateway.slots().iter();
    if matches!(input, Input::Node(node::Input::Expired(Timer::Drain))) {
        fed.extend(slots.map(|(user, slot)| Input::Session {
            user: *user,
            generation: slot.generation,
            input: S::Stop,
        }));
    }
    fed.push(input);
}

fn pretend_a_successor(_: &World, input: Input, fed: &mut Vec<Input>) {
    fed.push(match input {
        Input::Node(node::Input::Drain { .. }) => Input::Node(node::Input::Drain { successor: Successor::Waiting }),
        other => other,
    });
}

fn no_deadline(_: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| !matches!(output, Output::Arm(_, Timer::Drain, _)));
}

fn release_at_once(_: &World, outputs: &mut Vec<Output>) {
    if outputs.iter().any(|output| matches!(output, Output::Arm(_, Timer::Drain, _))) {
        outputs.insert(0, Output::Released);
    }
}

fn drop_drain(_: &World, input: Input, fed: &mut Vec<Input>) {
    if !matches!(input, Input::Node(node::Input::Drain { .. })) {
        fed.push(input);
    }
}

fn drop_abort(_: &World, input: Input, fed: &mut Vec<Input>) {
    if !matches!(input, Input::Node(node::Input::HandoverAborted)) {
        fed.push(input);
    }
}

fn drained() -> Setup {
    Setup { clients: vec![client(0, 0, 1)], drains: 1, ..Setup::calm("node", "the operator drains the node") }
}

fn close_all(world: &World, input: Input, fed: &mut Vec<Input>) {
    if matches!(input, Input::Node(node::Input::Drain { .. })) {
        let members = world.gateway.slots().values().flat_map(|slot| slot.session.members().keys());
        fed.extend(members.map(|id| Input::Connection { connection: *id, input: C::Close(Cause::GoingAway) }));
    } else {
        fed.push(input);
    }
}

fn stop_at_once(_: &World, outputs: &mut Vec<Output>) {
    if outputs.iter().any(|output| matches!(output, Output::Arm(_, Timer::Drain, _))) {
        outputs.push(Output::Stopped);
    }
}

fn ignore_the_mode(world: &World, input: Input, fed: &mut Vec<Input>) {
    let mode = world.gateway.node().mode();
    let message = matches!(input, Input::Connection { input: C::Received(Request::Message { .. }), .. });
    let pin = |mode| Input::Node(node::Input::Pin(Some(mode)));
    if message && mode != Mode::Ready {
        fed.extend([pin(Mode::Ready), input, pin(mode)]);
    } else {
        fed.push(input);
    }
}
