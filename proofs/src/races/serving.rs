//! Modes and drains.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "B23",
            "everybody out, and on it goes",
            "a drain closes everybody at once and never begins, so they come back and it never ends",
            ["NODE-2", "LIVE-4"],
            Setup { clients: vec![client(0, 0, 2)], mistake: Some(Mistake::feeding(close_everybody)), ..drained() }
        ),
        in_world!(
            "X5",
            "stopped with everybody on board",
            "a drain ends the process at once, while sessions are still there",
            ["NODE-2"],
            Setup { mistake: Some(Mistake::ordering(stop_at_once)), ..drained() }
        ),
        in_world!(
            "X6",
            "a mode that changes nothing",
            "messages are handled as if the node were ready, whatever its mode",
            ["NODE-1"],
            Setup {
                pins: 1,
                mistake: Some(Mistake::feeding(ignore_the_mode)),
                ..Setup::calm("node", "the operator pins a mode")
            }
        ),
    ]
}

fn drained() -> Setup {
    Setup { clients: vec![client(0, 0, 1)], drains: 1, ..Setup::calm("node", "the operator drains the node") }
}

fn close_everybody(world: &World, input: Input, fed: &mut Vec<Input>) {
    if matches!(input, Input::Node(node::Input::Drain)) {
        let members = world.gateway.cells().values().flat_map(|cell| cell.session.members().keys());
        fed.extend(members.map(|id| Input::Connection { connection: *id, input: C::Close(Cause::GoingAway) }));
    } else {
        fed.push(input);
    }
}

fn stop_at_once(_: &World, orders: &mut Vec<Output>) {
    if orders.iter().any(|order| matches!(order, Output::Arm(_, Timer::Drain, _))) {
        orders.push(Output::Stopped);
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
