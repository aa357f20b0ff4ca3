//! What an operator sees of a session: the states of its machines, without what users said.

use lockstep_model::{ConnectionId, Generation, Session, UserId};
use serde_json::{Value, json};

use super::Core;
use crate::payload::Payload;
use crate::wire::hex;

/// Describes the user's session in this process, with the addresses of its clients. `None` if there is none.
pub(crate) fn session(core: &Core, user: UserId) -> Option<Value> {
    let look = |generation, session: &Session<Payload>| {
        (describe(user, generation, session), session.members().keys().copied().collect::<Vec<_>>())
    };
    let (mut state, connections) = core.look(user, look)?;
    if let Some(described) = state["connections"].as_array_mut() {
        let addresses = connections.iter().map(|id: &ConnectionId| core.effects().client(*id));
        for (connection, address) in described.iter_mut().zip(addresses) {
            connection["client"] = json!(address);
        }
    }
    Some(state)
}

fn describe(user: UserId, generation: Generation, session: &Session<Payload>) -> Value {
    let connections = session.members().iter().map(|(id, member)| {
        json!({
            "id": hex(id.0).to_string(),
            "state": name_of(&format!("{:?}", member.connection.state())),
            "credential": name_of(&format!("{:?}", member.connection.auth().state())),
            "cursor": member.cursor.map(|cursor| cursor.at().0),
            "parked": member.parked,
        })
    });
    let connections: Vec<Value> = connections.collect();
    let runs: Vec<Value> = session
        .runs()
        .iter()
        .map(|(id, run)| json!({ "id": hex(id.0).to_string(), "state": format!("{:?}", run.state()) }))
        .collect();
    let stream = session.stream().map(|stream| {
        json!({
            "epoch": stream.epoch().0,
            "tail": stream.tail().0,
            "head": stream.head().0,
            "retained": stream.entries().len(),
            "pending": stream.pending().len(),
            "writer": format!("{:?}", stream.writer()),
        })
    });
    json!({
        "user": user.0,
        "generation": generation.0,
        "state": format!("{:?}", session.state()),
        "mode": session.mode(),
        "connections": connections,
        "runs": runs,
        "stream": stream,
        "messages_known": session.known().len(),
        "breaker_open": session.breaker().is_open(),
        "fence_up": session.fence().is_up(),
    })
}

/// The name of a state, without its fields.
fn name_of(debug: &str) -> &str {
    debug.split([' ', '(', '{']).next().unwrap_or(debug)
}
