//! The properties of every world: the `always` properties, the premises that show that they are not vacuous, and the
//! liveness promises.

use lockstep_model::connection::State;
use lockstep_model::run::{Kind, Reason};
use lockstep_model::{Connection, Successor, client, node, session, stream};
use stateright::Property;

use super::setup::Threads;
use super::state::{SimulatedClient, Slot};
use super::turns::begun;
use super::{Explored, Setup, World};
use crate::engine::proof::Promise;
use crate::models::harness::checked;

/// Every `always`, and the premises that a world of this setup can reach.
pub fn properties(setup: &Setup) -> Vec<Property<Explored>> {
    let mut all = unbroken();
    all.extend(
        PREMISES
            .iter()
            .filter(|premise| (premise.within)(setup))
            .map(|premise| Property::sometimes(premise.name, premise.reached)),
    );
    all
}

checked![
    Explored, World;
    "AUTH-1", "AUTH-2", "AUTH-3", "CONN-1", "CONN-2", "CONN-3", "ISO-1", "STR-1", "STR-2", "STR-3", "RUN-1", "RUN-2", "RUN-3", "RUN-4",
    "RUN-5", "RET-1", "LIM-1", "SES-1", "NODE-1", "NODE-2", "OWN-1", "LIVE-2", "LIVE-4", "LIVE-6",
];

/// A premise: a state that a world with sufficient budget reaches.
struct Premise {
    name: &'static str,
    within: fn(&Setup) -> bool,
    reached: fn(&Explored, &World) -> bool,
}

/// Whether runs can share a thread.
fn shares(setup: &Setup) -> bool {
    setup.threads == Threads::Shared && setup.bounds.queued > 0
}

const fn always_within(_: &Setup) -> bool {
    true
}

const PREMISES: &[Premise] = &[
    Premise {
        name: "AUTH-1.delivered",
        within: always_within,
        reached: |_, world| {
            world.sockets.iter().any(|(_, socket)| {
                socket.observed.valid.is_some() && socket.observed.reader.at().is_some_and(|seen| seen.0 > 0)
            })
        },
    },
    Premise {
        name: "AUTH-1.ended",
        within: |setup| setup.expiries + setup.revocations > 0,
        reached: |_, world| {
            let mut peers = world.peers.iter();
            peers.any(|peer| matches!(peer.client.state(), client::State::Stopped { code: 4501 | 4502 }))
        },
    },
    Premise {
        name: "AUTH-3.fenced",
        within: |setup| setup.revocations > 0,
        reached: |_, world| world.gateway.slots().values().any(|slot| slot.session.fence().is_up()),
    },
    Premise {
        name: "CONN-1.closing",
        within: |setup| setup.cuts > 0 && setup.clients.iter().any(|client| client.sockets > 1),
        reached: |_, world| world.sockets.iter().any(|(_, socket)| socket.cut && !socket.server_gone),
    },
    Premise {
        name: "ISO-1.neighbours",
        within: |setup| setup.clients.iter().filter(|client| client.messages > 0).any(|client| client.user > 0),
        reached: |_, world| {
            let busy = |slot: &Slot| !slot.session.members().is_empty() && !slot.session.runs().is_empty();
            world.gateway.slots().values().filter(|slot| busy(slot)).count() > 1
        },
    },
    Premise {
        name: "STR-1.resumed",
        within: |setup| setup.cuts + setup.crashes > 0 && setup.clients.iter().any(|client| client.sockets > 1),
        reached: |_, world| {
            world.sockets.iter().any(|(_, socket)| {
                socket.generation.0 > 1
                    && !socket.observed.reset
                    && socket.observed.reader.at().is_some_and(|seen| seen.0 > 0)
            })
        },
    },
    Premise {
        name: "STR-1.reset",
        within: |setup| setup.bounds.retained < 3 && !setup.keeps,
        reached: |_, world| world.sockets.iter().any(|(_, socket)| socket.observed.reset),
    },
    Premise {
        name: "STR-1.three",
        within: |setup| setup.cuts > 0 && setup.clients.iter().filter(|client| client.user == 0).count() > 1,
        reached: |_, world| world.sockets.iter().filter(|(_, socket)| !socket.server_gone).count() > 2,
    },
    Premise {
        name: "STR-2.refused",
        within: |setup| setup.log_failures > 0,
        reached: |_, world| {
            let mut streams = world.gateway.slots().values().filter_map(|slot| slot.session.stream());
            streams.any(|stream| stream.writer() == stream::Writer::Waiting)
        },
    },
    Premise {
        name: "STR-2.late",
        within: |setup| setup.unanswered > 0,
        reached: |_, world| world.logs.iter().any(|log| !log.late.is_empty() && !log.writes.is_empty()),
    },
    Premise {
        name: "OWN-1.fenced",
        within: |setup| setup.fences > 0,
        reached: |setup, world| {
            let moved = |peer: &SimulatedClient| peer.backoff && world.logs.iter().any(|log| log.token > log.granted.1);
            setup.setup.fences > world.left.fences && world.peers.iter().any(moved)
        },
    },
    Premise {
        name: "LIVE-4.unwritten",
        within: |setup| setup.mute && setup.drains > 0,
        reached: |_, world| {
            let unwritten = world.logs.iter().any(|log| !log.late.is_empty());
            world.gateway.node().state() == node::State::Stopped && unwritten
        },
    },
    Premise { name: "STR-3.joined", within: |setup| setup.pieces > 1, reached: |_, world| world.oracle.joined },
    Premise {
        name: "STR-3.inside",
        within: |setup| setup.pieces > 1 && setup.cuts > 0,
        reached: |_, world| world.oracle.inside,
    },
    Premise { name: "STR-3.caught up", within: |setup| setup.keeps, reached: |_, world| world.oracle.caught_up },
    Premise {
        name: "RET-1.outdated",
        within: |setup| setup.keeps && setup.deletions > 0,
        reached: |_, world| world.oracle.outdated,
    },
    Premise {
        name: "CONN-2.answered",
        within: |setup| setup.queries > 0,
        reached: |setup, world| {
            let waits = |socket: &super::state::Socket| socket.observed.queries > 0;
            world.left.queries < setup.setup.queries && !world.sockets.values().any(waits)
        },
    },
    Premise {
        name: "STR-2.trimmed",
        within: |setup| setup.bounds.retained < 3,
        reached: |_, world| world.logs.iter().any(|log| log.trimmed > 0),
    },
    Premise { name: "RUN-1.completed", within: always_within, reached: |_, world| wrote(world, Kind::Completed) },
    Premise {
        name: "RUN-1.cancelled",
        within: |setup| setup.cancels > 0,
        reached: |_, world| wrote(world, Kind::Error(Reason::Cancelled)),
    },
    Premise {
        name: "RUN-1.interrupted",
        within: |setup| setup.crashes > 0,
        reached: |_, world| wrote(world, Kind::Error(Reason::Interrupted)),
    },
    Premise {
        name: "RUN-1.silent",
        within: |setup| setup.deaths > 0,
        reached: |_, world| wrote(world, Kind::Error(Reason::Silent)),
    },
    Premise {
        name: "RUN-2.repeated",
        within: |setup| setup.cuts + setup.crashes > 0 && setup.clients.iter().any(|client| client.sockets > 1),
        reached: |_, world| world.oracle.arrivals.iter().any(|arrivals| *arrivals > 1),
    },
    Premise {
        name: "RUN-2.recalled",
        within: |setup| {
            let returns = setup.clients.iter().any(|client| client.messages > 0 && client.sockets > 1);
            setup.bounds.retained < 3 && setup.crashes + setup.lingers > 0 && returns
        },
        reached: |_, world| world.logs.iter().any(|log| !log.past.is_empty() && log.restore.is_some()),
    },
    Premise {
        name: "RUN-3.full",
        within: |setup| setup.bounds.pending < 5,
        reached: |setup, world| {
            world.gateway.slots().iter().any(|(user, slot)| {
                let waits = slot.session.stream().is_some_and(|stream| !stream.pending().is_empty());
                waits && world.room(&setup.setup, *user) == Some(0)
            })
        },
    },
    Premise { name: "RUN-4.queued", within: shares, reached: |_, world| world.has_queued() },
    Premise {
        name: "RUN-4.taken back",
        within: |setup| shares(setup) && setup.cancels > 0,
        reached: |_, world| world.has_taken_back(),
    },
    Premise {
        name: "RUN-4.resumed",
        within: |setup| shares(setup) && setup.crashes > 0,
        reached: |_, world| world.has_resumed(),
    },
    Premise {
        name: "RUN-5.resumed",
        within: |setup| setup.pauses > 0,
        reached: |_, world| {
            world.oracle.resumed != 0 && world.gateway.slots().values().any(|slot| begun(&slot.session) > 0)
        },
    },
    Premise {
        name: "RUN-5.again",
        within: |setup| setup.pauses > 1 && setup.replies > 2,
        reached: |_, world| world.oracle.resumed & 0b11 == 0b11,
    },
    Premise {
        name: "RUN-5.no reply",
        within: |setup| setup.pauses > 0,
        reached: |_, world| wrote(world, Kind::Error(Reason::NoReply)),
    },
    Premise {
        name: "RUN-5.recovered",
        within: |setup| setup.pauses > 0 && setup.crashes + setup.handovers > 0,
        reached: |setup, world| {
            let crashed = world.left.crashes < setup.setup.crashes;
            crashed
                && world
                    .gateway
                    .slots()
                    .values()
                    .any(|slot| slot.session.runs().values().any(|run| run.paused().is_some()))
        },
    },
    Premise {
        name: "LIM-1.runs",
        within: |setup| {
            setup.clients.iter().filter(|c| c.user == 0).map(|c| usize::from(c.messages)).sum::<usize>()
                >= setup.bounds.runs
                && setup.threads == Threads::Own
        },
        reached: |setup, world| {
            world.gateway.slots().values().any(|slot| slot.session.runs().len() == setup.setup.bounds.runs)
        },
    },
    Premise {
        name: "LIM-1.connections",
        within: |setup| setup.clients.iter().filter(|client| client.user == 0).count() >= setup.bounds.connections,
        reached: |setup, world| {
            world.gateway.slots().values().any(|slot| slot.session.members().len() == setup.setup.bounds.connections)
        },
    },
    Premise {
        name: "LIM-1.breaker",
        within: |setup| setup.bounds.failures > 0,
        reached: |_, world| world.gateway.slots().values().any(|slot| slot.session.breaker().is_open()),
    },
    Premise {
        name: "RUN-4.replaced",
        within: |setup| setup.replacing,
        reached: |_, world| {
            let mut events = world.logs.iter().flat_map(|log| log.entries.iter());
            let cancelled = |event: &lockstep_model::Event<u8>| event.kind == Kind::Error(Reason::Cancelled);
            let replaces = |kind| matches!(kind, Kind::Received(received) if received.replaces.is_some());
            events.any(cancelled) && events.any(|event| replaces(event.kind))
        },
    },
    Premise {
        name: "RET-1.deleted",
        within: |setup| setup.deletions > 0,
        reached: |_, world| {
            world.logs.iter().any(|log| (log.trimmed..=log.head()).any(|offset| log.is_deleted(offset)))
        },
    },
    Premise {
        name: "RET-1.cancelled",
        within: |setup| setup.deletions > 0,
        reached: |_, world| {
            let mut events = world.logs.iter().flat_map(|log| log.entries.iter());
            wrote(world, Kind::Deleted) && events.any(|event| event.kind == Kind::Error(Reason::Cancelled))
        },
    },
    Premise {
        name: "RET-1.inside",
        within: |setup| setup.deletions > 0 && setup.cuts + setup.crashes > 0,
        reached: |_, world| world.oracle.passed,
    },
    Premise { name: "RUN-3.notice", within: |setup| setup.notices > 0, reached: |_, world| wrote(world, Kind::Notice) },
    Premise {
        name: "SES-1.notified",
        within: |setup| setup.notices > 0 && setup.lingers > 0,
        reached: |_, world| {
            let vacant = |slot: &Slot| slot.session.members().is_empty();
            wrote(world, Kind::Notice) && world.peers[0].sent == 0 && world.gateway.slots().values().all(vacant)
        },
    },
    Premise {
        name: "SES-1.retired",
        within: |setup| setup.lingers > 0,
        reached: |setup, world| world.left.lingers < setup.setup.lingers && world.gateway.slots().is_empty(),
    },
    Premise {
        name: "NODE-1.degraded",
        within: |setup| setup.pins > 0,
        reached: |_, world| matches!(world.gateway.node().state(), node::State::Degraded { .. }),
    },
    Premise {
        name: "NODE-2.finishing",
        within: |setup| setup.drains > 0,
        reached: |_, world| matches!(world.gateway.node().state(), node::State::Finishing { .. }),
    },
    Premise {
        name: "NODE-2.handed over",
        within: |setup| setup.handovers > 0,
        reached: |_, world| world.oracle.successor == Some(Successor::Waiting) && world.oracle.released,
    },
    Premise {
        name: "NODE-2.aborted",
        within: |setup| setup.handovers > 0,
        reached: |setup, world| {
            let begun = world.left.handovers < setup.setup.handovers;
            begun
                && world.gateway.node().state() == (node::State::Ready { bad: 0 })
                && world.left.crashes == setup.setup.crashes
        },
    },
    Premise {
        name: "NODE-2.stopped",
        within: |setup| setup.drains + setup.handovers > 0,
        reached: |_, world| world.gateway.node().state() == node::State::Stopped,
    },
];

fn wrote(world: &World, kind: Kind) -> bool {
    world.logs.iter().any(|log| log.entries.iter().any(|event| event.kind == kind))
}

/// The liveness promises. If the log may be mute, the promises that depend on the log alone are left out: that a run
/// ends, that a reader reaches the head, and that a session with something to write retires.
pub fn promises(setup: &Setup) -> Vec<Promise<Explored>> {
    let whatever = |promise: &Promise<_>| matches!(promise.id, "LIVE-1" | "LIVE-4");
    let mut all: Vec<Promise<Explored>> = vec![
        Promise { id: "LIVE-1", pending: |_, world| is_opening(world) },
        Promise {
            id: "LIVE-2",
            pending: |_, world| world.gateway.slots().values().any(|slot| !slot.session.runs().is_empty()),
        },
        Promise { id: "LIVE-3", pending: |_, world| is_behind(world) || is_unanswered(world) },
        Promise { id: "LIVE-4", pending: |_, world| is_left_behind(world) },
        Promise { id: "SES-1", pending: |_, world| is_zombie(world) },
    ];
    if setup.deletions > 0 {
        all.push(Promise { id: "CLIENT-2", pending: |_, world| is_unsettled(world) });
    }
    all.into_iter().filter(|promise| !setup.mute || whatever(promise)).collect()
}

/// A connection that is neither live nor closed.
fn is_opening(world: &World) -> bool {
    let attaching = |connection: &Connection<u8>| matches!(connection.state(), State::Attaching { .. });
    let mut sessions = world.gateway.slots().values().map(|slot| &slot.session);
    !world.gateway.unattached().is_empty()
        || sessions.any(|session| session.members().values().any(|member| attaching(&member.connection)))
}

/// A client that is connected and waits for the result of a message that it has written.
fn is_unsettled(world: &World) -> bool {
    world.sockets.values().any(|socket| {
        let client = &world.peers[usize::from(socket.peer)].client;
        let there =
            client.is_ready() && !socket.cut && !socket.client_gone && !socket.server_gone && !socket.observed.closing;
        there && client.outgoing().iter().any(|message| message.socket == socket.generation)
    })
}

/// A client that is connected and waits for the answer to a query.
fn is_unanswered(world: &World) -> bool {
    world.sockets.values().any(|socket| {
        let there = !socket.cut && !socket.client_gone && !socket.server_gone && !socket.observed.closing;
        there && socket.observed.queries > 0
    })
}

/// A client that is connected and has not read everything in its user's log.
fn is_behind(world: &World) -> bool {
    world.sockets.iter().any(|(id, socket)| {
        let live = world.peers[usize::from(socket.peer)].client.is_ready();
        let there = live && !socket.cut && !socket.client_gone && !socket.server_gone && !socket.observed.closing;
        let user = world.gateway.user_of(*id).and_then(|user| world.gateway.slots().get(&user));
        let head = user.and_then(|slot| slot.session.stream()).map(stream::Stream::head);
        there && head.is_some_and(|head| socket.observed.reader.at().is_none_or(|seen| seen < head))
    })
}

/// A drain that has not ended, a dead peer that was not detected, or an expired credential on an open connection.
fn is_left_behind(world: &World) -> bool {
    let dead = |socket: &super::state::Socket| {
        let unnoticed = (socket.cut || socket.client_gone) && !socket.server_gone;
        unnoticed || (socket.cut && !socket.client_gone)
    };
    let over = |socket: &super::state::Socket| {
        socket.observed.reader.at().is_some() && socket.observed.valid.is_none() && !socket.server_gone
    };
    (world.oracle.drained && world.gateway.node().state() != node::State::Stopped)
        || world.sockets.iter().any(|(_, socket)| dead(socket) || over(socket))
}

/// An unneeded session that does not retire, as long as its user may still leave.
fn is_zombie(world: &World) -> bool {
    let vacant = |slot: &Slot| slot.session.state() == session::State::Vacant;
    world.left.lingers > 0 && world.gateway.slots().values().any(vacant)
}
