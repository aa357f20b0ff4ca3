//! The servers that are measured, and how each is started.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use crate::client::Dialect;
use crate::process::{Pinning, Usage};

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// tokio-tungstenite with a token check and the last frames of each user: the limit
    Bare,
    /// Lockstep, log in memory
    Memory,
    /// Lockstep, each event on disk before it is shown
    Disk,
    /// Lockstep, log in memory, spoken to in the envelope of older clients
    Legacy,
    /// Node with ws, the same service by hand
    Ws,
    /// Bun with its own WebSockets, the same service by hand
    Bun,
    /// Node with Socket.IO and its connection state recovery
    Socketio,
    /// Python with websockets, the same service by hand
    Python,
}

impl Kind {
    /// The name on the command line and in reports.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// How it wraps frames.
    pub(crate) const fn dialect(self) -> Dialect {
        match self {
            Self::Socketio => Dialect::SocketIo,
            Self::Legacy => Dialect::Legacy,
            Self::Bare | Self::Memory | Self::Disk | Self::Ws | Self::Bun | Self::Python => Dialect::Plain,
        }
    }

    /// Whether its streams outlive its process.
    pub(crate) const fn is_durable(self) -> bool {
        match self {
            Self::Disk => true,
            Self::Bare | Self::Memory | Self::Legacy | Self::Ws | Self::Bun | Self::Socketio | Self::Python => false,
        }
    }
}

/// Where things are, and where servers run.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Programs of the peers, installed by `tests/load/install`.
    pub(crate) peers: PathBuf,
    /// The peers' scripts.
    pub(crate) scripts: PathBuf,
    /// Data of servers that keep some.
    pub(crate) data: PathBuf,
    /// Which core is whose.
    pub(crate) pinning: Pinning,
}

/// Why a server does not run.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// What it needs is not there.
    NotInstalled(PathBuf),
    /// It has failed.
    Failed(String),
}

/// A server that runs. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Which one.
    pub(crate) kind: Kind,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    directory: PathBuf,
    place: Place,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// How long a server may take until it listens.
const STARTS: Duration = Duration::from_secs(20);

impl Server {
    /// Starts a server with nothing in it.
    pub(crate) async fn start(kind: Kind, place: &Place) -> Result<Self, NotStarted> {
        let failed = |error: std::io::Error| NotStarted::Failed(error.to_string());
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address = free.map_err(failed)?;
        let directory = place.data.join(format!("{}-{}", kind.name(), address.port()));
        let child = spawn(kind, address.port(), &directory, place)?;
        let mut server = Self { kind, address, directory, place: place.clone(), child };
        server.listens().await?;
        Ok(server)
    }

    /// Kills the process and starts another at the same address, with the same data.
    pub(crate) async fn restart(&mut self) -> Result<(), NotStarted> {
        self.end();
        self.child = spawn(self.kind, self.address.port(), &self.directory, &self.place)?;
        self.listens().await
    }

    /// What its process has used.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn listens(&mut self) -> Result<(), NotStarted> {
        let began = tokio::time::Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            if tokio::net::TcpStream::connect(self.address).await.is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(NotStarted::Failed(format!("{} ended: {status}", self.kind.name())));
            }
            if began.elapsed() > STARTS {
                return Err(NotStarted::Failed(format!("{} does not listen", self.kind.name())));
            }
        }
    }
}

fn spawn(kind: Kind, port: u16, directory: &Path, place: &Place) -> Result<Child, NotStarted> {
    let failed = |error: std::io::Error| NotStarted::Failed(format!("{}: {error}", kind.name()));
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut command = command(kind, directory, place)?;
    let log = std::fs::File::create(place.data.join(format!("{}.log", kind.name()))).map_err(failed)?;
    command.env("PORT", port.to_string()).env("SECRET", crate::plan::SECRET);
    command.env("NODE_PATH", place.peers.join("node_modules"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(failed)
}

fn command(kind: Kind, directory: &Path, place: &Place) -> Result<Command, NotStarted> {
    let own = std::env::current_exe().map_err(|error| NotStarted::Failed(error.to_string()))?;
    let modules = place.peers.join("node_modules");
    let script = |program: PathBuf, needs: PathBuf, script: &str| {
        if needs.exists() && (program.components().count() == 1 || program.exists()) {
            let mut command = place.pinning.server(&program);
            command.arg(place.scripts.join(script));
            Ok(command)
        } else {
            Err(NotStarted::NotInstalled(needs))
        }
    };
    let itself = |arguments: &[&str]| {
        let mut command = place.pinning.server(&own);
        command.args(arguments);
        command
    };
    match kind {
        Kind::Bare => Ok(itself(&["serve-bare"])),
        Kind::Memory | Kind::Legacy => Ok(itself(&["serve-lockstep"])),
        Kind::Disk => {
            let mut command = itself(&["serve-lockstep", "--disk"]);
            command.arg(directory.join("log"));
            Ok(command)
        }
        Kind::Ws => script("node".into(), modules.join("ws"), "ws.mjs"),
        Kind::Socketio => script("node".into(), modules.join("socket.io"), "socketio.mjs"),
        Kind::Bun => script(modules.join(".bin/bun"), modules.join(".bin/bun"), "bun.mjs"),
        Kind::Python => {
            let python = place.peers.join("python/bin/python");
            script(python.clone(), python, "python.py")
        }
    }
}
