//! What several gateways on one PostgreSQL cost, and how fast their users move when they are replaced. The engine has
//! no standby, so that the gateways are what is measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep::log::postgres::{Settings, migrate};
use lockstep_model::Bounds;
use lockstep_model::frame::ReadFrom;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::history::History;
use crate::postgres::{Server, free_port};
use crate::process::{Gateway, processor_times};
use crate::simulated_client::{self, Command, Seen, Who};
use crate::soak::watch;

pub mod deploy;
pub mod share;

/// Clients that connect at once.
const WAVE: usize = 50;
/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gateways on one database.
#[derive(Debug)]
pub struct Nodes {
    server: Arc<Server>,
    /// The gateways.
    pub gateways: Vec<Gateway>,
    directory: PathBuf,
}

impl Nodes {
    /// Starts gateways on an empty database, with these settings of their agent. Their files are in a directory that
    /// must not exist, and are removed when this is dropped.
    ///
    /// # Errors
    ///
    /// What cannot be started.
    pub async fn start(
        server: &Arc<Server>,
        binary: &Path,
        directory: PathBuf,
        count: usize,
        agent: &str,
    ) -> Result<Self, String> {
        std::fs::create_dir_all(&directory).map_err(|error| format!("cannot create {directory:?}: {error}"))?;
        let key = directory.join("cluster.key");
        std::fs::write(&key, "the key of the gateways that are measured").map_err(|error| error.to_string())?;
        let url = server.url(&tokio::task::block_in_place(|| server.database()));
        migrate(Settings::new(url.as_str())).await.map_err(|error| error.to_string())?;
        let mut nodes = Self { server: Arc::clone(server), gateways: Vec::new(), directory };
        for number in 1..=count {
            let settings = format!(
                "[agent]\n{agent}\n[limits]\nper_address = 16000\n[log]\nkind = \"postgres\"\nurl = {url:?}\n\
                 failover = \"new_epoch\"\n[cluster]\nlisten = \"127.0.0.1:{}\"\nkey_file = {key:?}\n",
                free_port()?
            );
            let mut gateway = Gateway::prepare(binary, &nodes.directory.join(number.to_string()), &settings)?;
            gateway.start().await?;
            nodes.gateways.push(gateway);
        }
        Ok(nodes)
    }

    /// Drains all gateways.
    ///
    /// # Errors
    ///
    /// If one does not end in time.
    pub async fn end(mut self) -> Result<(), String> {
        for gateway in &mut self.gateways {
            gateway.drain(PATIENCE).await?;
        }
        Ok(())
    }

    /// The sum of a metric over all gateways.
    async fn sum(&self, name: &str) -> Result<f64, String> {
        let mut sum = 0.0;
        for gateway in &self.gateways {
            sum += watch::sum(&watch::metrics(gateway.address).await?, name);
        }
        Ok(sum)
    }

    fn used(&self) -> Used {
        let [own, of_ended] = processor_times(std::process::id()).unwrap_or_default();
        let running = self.gateways.iter().filter_map(|gateway| processor_times(gateway.id()?));
        let gateways = running.map(|[own, _]| own).sum::<Duration>() + of_ended;
        Used { at: Instant::now(), gateways, engine: self.server.processor_time().unwrap_or_default(), clients: own }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.gateways.clear();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Processor time that was used until a moment. That of gateways which have ended is included.
#[derive(Clone, Copy, Debug)]
struct Used {
    at: Instant,
    gateways: Duration,
    engine: Duration,
    clients: Duration,
}

/// A user's client. Dropping it ends the connection without a word.
#[derive(Debug)]
struct User {
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<()>,
}

impl User {
    /// Connects to a gateway's URL.
    fn start(name: &str, url: String) -> (Self, mpsc::UnboundedReceiver<Seen>) {
        let who = Who {
            name: name.to_owned(),
            user: name.to_owned(),
            url,
            begin: ReadFrom::Latest,
            token: Gateway::tokens(name, Duration::from_secs(3_600)),
        };
        let (commands, seen, task) = simulated_client::start(who, Bounds::DEFAULT, History::none());
        let _ = commands.send(Command::Connect);
        (Self { commands, task }, seen)
    }

    /// Closes the connection.
    async fn end(self) {
        let _ = self.commands.send(Command::Disconnect);
        let Self { commands, task } = self;
        drop(commands);
        let _ = task.await;
    }
}

/// Waits until a client is live.
async fn live(seen: &mut mpsc::UnboundedReceiver<Seen>) -> Result<(), String> {
    let becomes = async {
        while let Some(seen) = seen.recv().await {
            if matches!(seen, Seen::At(_)) {
                return Ok(());
            }
        }
        Err("a client has ended".to_owned())
    };
    tokio::time::timeout(PATIENCE, becomes).await.map_err(|_| "a client does not become live")?
}

/// Waits that long.
async fn lasts(time: Duration) {
    let _ = tokio::time::timeout(time, core::future::pending::<()>()).await;
}
