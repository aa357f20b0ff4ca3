//! What a run soaks: one gateway, or a cluster of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::Cluster;
use super::plan::Fault;
use super::watch;
use crate::process::{Gateway, Way};

/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(15);

/// A fault of the processes.
#[derive(Clone, Copy, Debug)]
pub enum Disturbance {
    /// The gateway is replaced.
    Replace(Way),
    /// Something fails in a cluster.
    Strike(Fault),
}

impl Disturbance {
    /// The names under which it is counted.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Replace(Way::Crash) | Self::Strike(Fault::Kill(_)) => &["crashes"],
            Self::Replace(Way::Restart) | Self::Strike(Fault::Leave(_)) => &["drains"],
            Self::Replace(Way::Handover) => &["hand-overs"],
            Self::Strike(Fault::Pause(..)) => &["pauses past the lease"],
            Self::Strike(Fault::CutEngine(..)) => &["cuts to the engine"],
            Self::Strike(Fault::CutGateways(..)) => &["cuts between gateways"],
            Self::Strike(Fault::CrashEngine) => &["crashes of the engine"],
            Self::Strike(Fault::Failover) => &["failovers"],
            Self::Strike(Fault::PausedFailover(_)) => &["failovers", "pauses past the lease"],
            Self::Strike(Fault::LosingFailover) => &["failovers", "commits that only the primary had"],
        }
    }
}

/// The processes of a run.
#[derive(Debug)]
pub struct System {
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// What they share, if they are several.
    pub cluster: Option<Cluster>,
}

impl System {
    /// One gateway with a log of its own.
    #[must_use]
    pub fn one(gateway: Gateway) -> Self {
        Self { gateways: vec![gateway], cluster: None }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.cluster.as_ref().map_or(self.gateways[0].address, Cluster::address)
    }

    /// How long the system may feel a disturbance that has ended: a lease is not over, or an owner is unknown.
    #[must_use]
    pub fn settles(&self) -> Duration {
        self.cluster.as_ref().map_or(Duration::ZERO, |_| super::cluster::SETTLES)
    }

    /// Makes a disturbance, and ends it.
    ///
    /// # Errors
    ///
    /// What did not come back.
    pub async fn disturb(&mut self, disturbance: Disturbance) -> Result<(), String> {
        match (disturbance, &mut self.cluster) {
            (Disturbance::Replace(way), _) => self.gateways[0].replace(way, DRAIN).await,
            (Disturbance::Strike(fault), Some(cluster)) => cluster.strike(&mut self.gateways, fault).await,
            (Disturbance::Strike(_), None) => Err("one gateway has no faults of a cluster".to_owned()),
        }
    }

    /// Each gateway's address and process.
    #[must_use]
    pub fn processes(&self) -> Vec<(SocketAddr, Option<u32>)> {
        self.gateways.iter().map(|gateway| (gateway.address, gateway.id())).collect()
    }

    /// The number of files that all processes have open.
    #[must_use]
    pub fn files(&self) -> Option<usize> {
        self.gateways.iter().map(|gateway| watch::files(gateway.id()?)).sum()
    }

    /// The directories of the processes' traces.
    #[must_use]
    pub fn traces(&self) -> Vec<PathBuf> {
        self.gateways.iter().map(|gateway| gateway.directory.join("traces")).collect()
    }

    /// Ends the gateways, and returns what is wrong.
    pub async fn end(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for gateway in &mut self.gateways {
            wrong.extend(gateway.drain(DRAIN).await.err());
            wrong.extend(watch::bugs(&gateway.log()));
        }
        wrong
    }
}
