//! Modes and drains.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "B23",
            "a grace without end",
            "a drain tells nobody to go, and no deadline ends it",
            ["NODE-2", "LIVE-4"],
            Setup { mistake: Some(Mistake::ordering(wait_for_ever)), ..drained() }
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

fn wait_for_ever(_: &World, orders: &mut Vec<Output>) {
    orders.retain(|order| {
        !matches!(
            order,
            Output::Arm(_, Timer::Grace | Timer::Drain, _)
                | Output::Send { frame: Frame::Control(Control::GoingAway), .. }
        )
    });
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
