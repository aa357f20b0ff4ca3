//! How fast users move when each of three gateways is drained and replaced in turn.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Nodes, PATIENCE, User, WAVE, live};
use crate::link::Link;
use crate::postgres::Server;
use crate::simulated_client::Seen;
use crate::soak::watch;

/// The gateways of a deploy.
const GATEWAYS: usize = 3;

/// How the users of one gateway moved.
#[derive(Clone, Debug)]
pub struct Found {
    /// From the signal until each user was served again, shortest first.
    pub moved: Vec<Duration>,
    /// Connections that were closed meanwhile: more than one of a user whose owner has not released it yet.
    pub closes: usize,
    /// From the signal until each user's connection was closed.
    pub closed: Vec<Duration>,
    /// From the start of each user's new connection until it was live.
    pub opened: Vec<Duration>,
    /// From the signal until the process had ended.
    pub ended: Duration,
    /// From the signal until the new process admitted connections.
    pub replaced: Duration,
    /// Processor time from the signal until the last user was served: of gateways, the engine, and the clients.
    pub used: [Duration; 3],
}

impl Found {
    /// Users who moved in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.moved.len() as f64 / self.moved.last().map_or(f64::NAN, Duration::as_secs_f64)
    }
}

/// What a client saw, and when.
enum Fact {
    Closed,
    Live { after: Duration },
}

type Facts = mpsc::UnboundedReceiver<(usize, Instant, Fact)>;

/// Replaces each gateway while `users` users have a socket each, spread over all gateways.
///
/// # Errors
///
/// What failed.
pub async fn measure(
    server: &Arc<Server>,
    binary: &Path,
    directory: &Path,
    users: usize,
) -> Result<Vec<Found>, String> {
    let mut nodes = Nodes::start(server, binary, directory.to_owned(), GATEWAYS, "pace_ms = 0").await?;
    let ports: Vec<u16> = nodes.gateways.iter().map(|gateway| gateway.address.port()).collect();
    let balancer = Link::to(ports.clone()).await.map_err(|error| error.to_string())?;
    let url = format!("ws://{}/ws", balancer.address);
    let (tell, mut facts) = mpsc::unbounded_channel();
    let mut clients = Vec::new();
    for first in (0..users).step_by(WAVE) {
        let wave = first..(first + WAVE).min(users);
        let mut wave: Vec<_> =
            wave.map(|number| (number, User::start(&format!("user-{number}"), url.clone()))).collect();
        for (_, (_, seen)) in &mut wave {
            live(seen).await?;
        }
        for (number, (client, seen)) in wave {
            tokio::spawn(observe(number, seen, tell.clone()));
            clients.push(client);
        }
    }
    let mut found = Vec::new();
    for number in 0..GATEWAYS {
        // As a load balancer does that sees `/readyz`.
        balancer.lead_to(ports.iter().copied().filter(|port| *port != ports[number]).collect());
        found.push(replace(&mut nodes, number, &mut facts).await?);
        balancer.lead_to(ports.clone());
    }
    for client in clients {
        client.end().await;
    }
    nodes.end().await?;
    Ok(found)
}

/// Passes on when a client's connections end, and when the next ones are live.
async fn observe(
    number: usize,
    mut seen: mpsc::UnboundedReceiver<Seen>,
    tell: mpsc::UnboundedSender<(usize, Instant, Fact)>,
) {
    while let Some(seen) = seen.recv().await {
        let fact = match seen {
            Seen::Closed(_) => Fact::Closed,
            Seen::Ready { after } => Fact::Live { after },
            Seen::At(_)
            | Seen::Event { .. }
            | Seen::Reset(..)
            | Seen::Accepted(..)
            | Seen::Refused(..)
            | Seen::TooLong(_)
            | Seen::Unknown(_)
            | Seen::Error(_)
            | Seen::Foreign(_) => continue,
        };
        let _ = tell.send((number, Instant::now(), fact));
    }
}

/// Replaces one gateway, and waits until its users are served again.
async fn replace(nodes: &mut Nodes, number: usize, facts: &mut Facts) -> Result<Found, String> {
    let here = watch::sum(&watch::metrics(nodes.gateways[number].address).await?, "lockstep_connections");
    let before = nodes.used();
    nodes.gateways[number].terminate();
    let moved = tokio::time::timeout(PATIENCE, moves(facts, here as usize, before.at)).await;
    let (closes, [moved, closed, opened]) = moved.map_err(|_| format!("{here} users do not move in time"))??;
    let after = nodes.used();
    let gateway = &mut nodes.gateways[number];
    gateway.ended(PATIENCE).await?;
    let ended = before.at.elapsed();
    gateway.start().await?;
    let replaced = before.at.elapsed();
    let used = [after.gateways - before.gateways, after.engine - before.engine, after.clients - before.clients];
    Ok(Found { moved, closes, closed, opened, ended, replaced, used })
}

/// Waits until this number of users has left and is served again.
async fn moves(facts: &mut Facts, users: usize, since: Instant) -> Result<(usize, [Vec<Duration>; 3]), String> {
    let mut last = std::collections::BTreeMap::new();
    let (mut served, mut closes) = (0, 0);
    while served < users {
        let (user, at, fact) = facts.recv().await.ok_or("the clients have ended")?;
        match fact {
            Fact::Closed => {
                closes += 1;
                let (_, now) = last.entry(user).or_insert((at, None));
                served -= usize::from(now.take().is_some());
            }
            Fact::Live { after } => {
                let Some((_, now)) = last.get_mut(&user) else { return Err(format!("user {user} had not left")) };
                served += usize::from(now.replace((at, after)).is_none());
            }
        }
    }
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for (closed, now) in last.into_values() {
        let Some((at, after)) = now else { return Err("a user of another gateway has left".to_owned()) };
        times[0].push(at - since);
        times[1].push(closed - since);
        times[2].push(after);
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    Ok((closes, times))
}
