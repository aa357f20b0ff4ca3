//! Events per processor second of all gateways, with one gateway and with several.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::{Nodes, Used, User, WAVE, lasts, live};
use crate::postgres::Server;
use crate::simulated_client::{Command, Seen};

/// How long answers run before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(2);

/// Where the users' sockets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// At the gateway that owns the user.
    Local,
    /// At another one, which relays them.
    Relayed,
}

/// The load, the same in each measurement.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Users with one socket each, who send the next message when their answer has ended.
    pub users: usize,
    /// The pause between two pieces of an answer.
    pub pace: Duration,
}

/// What one measurement found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Events that clients read in a second.
    pub events: f64,
    /// Events for each second of processor time that the gateways used.
    pub per_second: f64,
    /// Events in a batch that the log made durable.
    pub batch: f64,
}

/// Gateways whose users talk.
#[derive(Debug)]
pub struct Talking {
    nodes: Nodes,
    sockets: Sockets,
    users: Vec<User>,
    events: Arc<AtomicU64>,
}

/// What was counted until a moment.
struct Counted {
    used: Used,
    events: u64,
    batches: f64,
}

impl Talking {
    /// Starts `count` gateways, connects the users, and lets them talk.
    ///
    /// # Errors
    ///
    /// What failed.
    pub async fn start(
        server: &Arc<Server>,
        binary: &Path,
        directory: &Path,
        count: usize,
        sockets: Sockets,
        load: Load,
    ) -> Result<Self, String> {
        let agent = format!("pace_ms = {}", load.pace.as_millis());
        let nodes = Nodes::start(server, binary, directory.to_owned(), count, &agent).await?;
        let events = Arc::new(AtomicU64::new(0));
        let mut users = Vec::new();
        for first in (0..load.users).step_by(WAVE) {
            let wave = first..(first + WAVE).min(load.users);
            users.extend(connect(&nodes, wave, sockets, &events).await?);
        }
        Ok(Self { nodes, sockets, users, events })
    }

    async fn counted(&self) -> Result<Counted, String> {
        let batches = self.nodes.sum("lockstep_log_append_seconds_count").await?;
        Ok(Counted { used: self.nodes.used(), events: self.events.load(Ordering::Relaxed), batches })
    }

    /// Ends the connections and the gateways.
    ///
    /// # Errors
    ///
    /// What failed, and if sockets are not where they should be.
    pub async fn end(self) -> Result<(), String> {
        let relays = self.nodes.sum("lockstep_relays").await?;
        let expected = if self.sockets == Sockets::Relayed { self.users.len() as f64 } else { 0.0 };
        if relays != expected {
            return Err(format!("{relays} sockets are relayed, and not {expected}"));
        }
        for user in self.users {
            user.end().await;
        }
        self.nodes.end().await
    }
}

/// Measures for that long, all at the same time, so that what else the machine does is the same for all of them.
///
/// # Errors
///
/// If a gateway does not answer.
pub async fn measure(all: &[Talking], time: Duration) -> Result<Vec<Found>, String> {
    lasts(WARM_UP).await;
    let mut before = Vec::new();
    for talking in all {
        before.push(talking.counted().await?);
    }
    lasts(time).await;
    let mut found = Vec::new();
    for (talking, before) in all.iter().zip(before) {
        let after = talking.counted().await?;
        let events = (after.events - before.events) as f64;
        found.push(Found {
            events: events / (after.used.at - before.used.at).as_secs_f64(),
            per_second: events / (after.used.gateways - before.used.gateways).as_secs_f64(),
            batch: events / (after.batches - before.batches),
        });
    }
    Ok(found)
}

/// Connects users, each to the next gateway, and lets them talk.
async fn connect(
    nodes: &Nodes,
    wave: core::ops::Range<usize>,
    sockets: Sockets,
    events: &Arc<AtomicU64>,
) -> Result<Vec<User>, String> {
    let url = |number: usize| nodes.gateways[number % nodes.gateways.len()].url();
    let name = |number: usize| format!("user-{number}");
    // The gateway that a user reaches first becomes the owner.
    let mut first: Vec<_> = wave.clone().map(|number| User::start(&name(number), url(number))).collect();
    for (_, seen) in &mut first {
        live(seen).await?;
    }
    if sockets == Sockets::Relayed {
        let mut second: Vec<_> = wave.map(|number| User::start(&name(number), url(number + 1))).collect();
        for (_, seen) in &mut second {
            live(seen).await?;
        }
        for (owner, _) in core::mem::replace(&mut first, second) {
            owner.end().await;
        }
    }
    Ok(first
        .into_iter()
        .map(|(user, seen)| {
            tokio::spawn(talk(user.commands.downgrade(), seen, Arc::clone(events)));
            user
        })
        .collect())
}

/// Sends a message whenever the last one is answered, and counts what the client reads.
async fn talk(
    commands: mpsc::WeakUnboundedSender<Command>,
    mut seen: mpsc::UnboundedReceiver<Seen>,
    events: Arc<AtomicU64>,
) {
    let mut number = 0;
    let mut next = || {
        number += 1;
        let message = Command::Send(format!("m{number}"), json!({ "text": "count to 60" }));
        commands.upgrade().is_some_and(|commands| commands.send(message).is_ok())
    };
    let mut talks = next();
    while talks && let Some(seen) = seen.recv().await {
        if let Seen::Event { entry, .. } = seen {
            events.fetch_add(1, Ordering::Relaxed);
            talks = !entry.event.kind.is_terminal() || next();
        }
    }
}
