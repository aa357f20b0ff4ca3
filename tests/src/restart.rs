//! How long clients are away when their gateway is replaced, and what happens to a running answer meanwhile.

use std::time::{Duration, Instant};

use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_model::{Bounds, PartId};
use lockstep_proofs::history::check;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::history::History;
use crate::process::{Gateway, Way};
use crate::simulated_client::{self, Command, Seen, Who};

/// What the clients saw of the replacement.
#[derive(Clone, Debug)]
pub struct Found {
    /// How long each client was away, shortest first.
    pub away: Vec<Duration>,
    /// How the running answer ended.
    pub answer: Kind,
    /// Pieces of that answer that its reader saw from then on.
    pub pieces: usize,
}

impl Found {
    /// The time within which `per_mille` of a thousand clients were back.
    #[must_use]
    pub fn within(&self, per_mille: usize) -> Duration {
        let index = (self.away.len() * per_mille / 1_000).min(self.away.len().saturating_sub(1));
        self.away.get(index).copied().unwrap_or_default()
    }
}

/// Clients that connect at once.
const WAVE: usize = 50;
/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One client and the times of what it saw. Dropping it ends the client.
#[derive(Debug)]
pub struct Watched {
    commands: mpsc::UnboundedSender<Command>,
    seen: mpsc::UnboundedReceiver<(Instant, Seen)>,
    tasks: [JoinHandle<()>; 2],
}

impl Watched {
    /// Connects to a gateway as user `number`.
    #[must_use]
    pub fn start(gateway: &Gateway, number: usize, history: &History) -> Self {
        let user = format!("user-{number}");
        let who = Who {
            name: user.clone(),
            user: user.clone(),
            url: gateway.url(),
            begin: ReadFrom::Earliest,
            token: Gateway::tokens(&user, Duration::from_secs(3_600)),
        };
        let (commands, mut observed, client) = simulated_client::start(who, Bounds::DEFAULT, history.clone());
        let (stamped, seen) = mpsc::unbounded_channel();
        let watch = tokio::spawn(async move {
            while let Some(seen) = observed.recv().await {
                let _ = stamped.send((Instant::now(), seen));
            }
        });
        let _ = commands.send(Command::Connect);
        Self { commands, seen, tasks: [client, watch] }
    }

    /// Sends a message under the name `name`.
    pub fn send(&self, name: &str, text: &str) {
        let _ = self.commands.send(Command::Send(name.to_owned(), json!({ "text": text })));
    }

    /// Waits until the client is live.
    ///
    /// # Errors
    ///
    /// As [`Watched::until`].
    pub async fn live(&mut self) -> Result<(), String> {
        self.until("connection_ready", |_, seen| matches!(seen, Seen::At(_)).then_some(())).await
    }

    /// Waits for an event of kind `wanted` on any connection.
    ///
    /// # Errors
    ///
    /// As [`Watched::until`].
    pub async fn reads(&mut self, wanted: Kind) -> Result<(), String> {
        self.until(&format!("{wanted:?}"), |_, seen| (kind(seen) == Some(wanted)).then_some(())).await
    }

    /// Waits until `is` returns a value for something the client saw, and returns that value.
    ///
    /// # Errors
    ///
    /// If that does not happen in time.
    pub async fn until<T>(&mut self, what: &str, mut is: impl FnMut(Instant, &Seen) -> Option<T>) -> Result<T, String> {
        let found = async {
            while let Some((at, seen)) = self.seen.recv().await {
                if let Some(found) = is(at, &seen) {
                    return Ok(found);
                }
            }
            Err(format!("a client ended before {what}"))
        };
        tokio::time::timeout(PATIENCE, found).await.map_err(|_| format!("no {what} in time"))?
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn kind(seen: &Seen) -> Option<Kind> {
    if let Seen::Event { entry, .. } = seen { Some(entry.event.kind) } else { None }
}

/// Checks what clients saw against the properties, as `prove history` does.
///
/// # Errors
///
/// The contradictions, one per line.
pub fn judged(history: &History) -> Result<(), String> {
    let findings = check(history.kept().as_slice()).map_err(|error| error.to_string())?;
    let lines = findings.contradictions.iter().map(|found| format!("{}: {}\n", found.property, found.why));
    let found: String = lines.collect();
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Replaces the process of a prepared gateway while `clients` clients are connected, one of which reads an answer. The
/// new process keeps running.
///
/// # Errors
///
/// The cause.
pub async fn replace(gateway: &mut Gateway, way: Way, clients: usize, history: &History) -> Result<Found, String> {
    gateway.start().await?;
    let mut all = Vec::with_capacity(clients);
    while all.len() < clients {
        let wave = all.len()..(all.len() + WAVE).min(clients);
        all.extend(wave.clone().map(|number| Watched::start(gateway, number, history)));
        for client in &mut all[wave] {
            client.live().await?;
        }
    }
    let reader = &mut all[0];
    reader.send("m1", "count to 60");
    reader.reads(Kind::Delta(PartId(1))).await?;

    gateway.replace(way, PATIENCE).await?;

    let (mut away, mut pieces, mut answer) = (Vec::with_capacity(clients), 0, None);
    for (number, client) in all.iter_mut().enumerate() {
        let (mut left, mut reads) = (None, number == 0);
        let back = client.until("return of a client", |at, seen| {
            if matches!(seen, Seen::Closed(_)) {
                left.get_or_insert(at);
            }
            if let Some(kind) = kind(seen).filter(|_| reads) {
                pieces += usize::from(matches!(kind, Kind::Delta(_)));
                if kind.is_terminal() {
                    (answer, reads) = (Some(kind), false);
                }
            }
            // A reader may be back before its answer has ended.
            let back = matches!(seen, Seen::At(_)) && left.is_some();
            back.then(|| left.map(|left| at.duration_since(left))).flatten()
        });
        away.push(back.await?);
        if reads {
            answer = Some(client.until("end of the answer", |_, seen| kind(seen).filter(Kind::is_terminal)).await?);
        }
    }
    away.sort_unstable();
    let answer = answer.ok_or("the answer did not end")?;
    Ok(Found { away, answer, pieces })
}
