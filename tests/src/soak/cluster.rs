//! Several gateways on one PostgreSQL with a synchronous standby, and what fails there.
//!
//! ```text
//! clients ──▶ one link to all ──▶ gateway ──▶ two links ──▶ primary, standby
//!                                    ▲
//!               other gateways ──▶ one link       standby ──▶ one link ──▶ primary
//! ```
//!
//! Each connection of a client goes to another gateway, so users move whenever they reconnect. The standby becomes the
//! primary, and then has a standby of its own, as often as the plan says.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use lockstep::log::postgres::{Failover, Settings, migrate};

use super::plan::{Fault, GATEWAYS};
use super::system::System;
use super::watch;
use crate::link::{Line, Link};
use crate::postgres::{Server, free_port};
use crate::process::{Gateway, Way};

/// The lease of a gateway.
const LEASE: Duration = Duration::from_secs(2);

/// How long a request may fail because of a fault that has ended: the lease of a gateway that was killed goes on, and
/// clients that were cut off come back after pauses.
pub const SETTLES: Duration = Duration::from_secs(5);

/// How long a gateway may take to leave.
const DRAIN: Duration = Duration::from_secs(15);

/// How long commits wait for a standby that is cut off, until the engine is killed.
const COMMITS: Duration = Duration::from_millis(150);

/// How long gateways may repeat what was not answered, until the standby is promoted.
const RETRIES: Duration = Duration::from_millis(1_200);

/// The standby's name in `synchronous_standby_names`.
const STANDBY: &str = "one";

/// The operator's token of each gateway, so that any can be told.
pub const OPERATOR: &str = "the operator of gateways of a soak run";

/// What the gateways share.
#[derive(Debug)]
pub struct Cluster {
    servers: [Server; 2],
    /// Which server is the primary.
    primary: usize,
    /// The standby's way to the primary.
    replication: Link,
    database: String,
    /// Each gateway's way to the two servers.
    engine: Vec<[Link; 2]>,
    /// The others' way to each gateway.
    gateways: Vec<Link>,
    clients: Link,
}

/// The conditions that the tables meet when all has ended: what is wrong, and the query that counts it.
const CONDITIONS: [(&str, &str); 7] = [
    (
        "OWN-1: entries of an owner that was replaced before",
        "select count(*) from (
             select generation, max(generation) over (partition by user_id order by at_offset) as newest
             from lockstep.entry
         ) e where generation < newest",
    ),
    (
        "OWN-1: entries of a generation that was not granted",
        "select count(*) from lockstep.entry e left join lockstep.stream s using (user_id)
         where s.user_id is null or e.generation > s.generation",
    ),
    (
        "STR-2: streams whose head is not their newest entry",
        "select count(*) from lockstep.stream s where s.head <> (
             select coalesce(max(e.at_offset), 0) from lockstep.entry e where e.user_id = s.user_id
         )",
    ),
    (
        "STR-2: streams with a hole behind their newest deletion",
        "select count(*) from lockstep.stream s where s.head - s.deleted <> (
             select count(*) from lockstep.entry e where e.user_id = s.user_id and e.at_offset > s.deleted
         )",
    ),
    ("notices to everyone that are not delivered", "select count(*) from lockstep.due"),
    (
        "notices to everyone that are not once in the stream of each user they are for",
        "select count(*) from lockstep.broadcast b where (b.users, b.users) <> (
             select count(*), count(distinct e.user_id) from lockstep.entry e
             where e.kind = 'notice' and e.data = b.data
         )",
    ),
    ("LIVE-2: runs without an end", "select count(*) from lockstep.run where last is null and message is not null"),
];

/// Waits. Faults last as long as the plan says.
async fn lasts(time: Duration) {
    let _ = tokio::time::timeout(time, core::future::pending::<()>()).await;
}

impl Cluster {
    /// Starts the engine and the gateways, each with these settings.
    ///
    /// # Errors
    ///
    /// What cannot be started.
    pub async fn start(binary: &Path, directory: &Path, bounds: &str) -> Result<System, String> {
        let options = ["fsync=off", &format!("synchronous_standby_names={STANDBY}"), "max_connections=100"];
        let fail = |error: std::io::Error| format!("cannot link the cluster: {error}");
        let primary = tokio::task::block_in_place(|| Server::start(&options))?;
        let replication = Link::to(vec![primary.port]).await.map_err(fail)?;
        let (servers, database) = tokio::task::block_in_place(|| {
            let standby = primary.standby_through(replication.address.port(), STANDBY);
            let database = primary.database();
            ([primary, standby], database)
        });
        let settings = Settings::new(servers[0].url(&database)).failover(Failover::Keeps);
        migrate(settings).await.map_err(|error| error.to_string())?;
        let key = directory.join("cluster.key");
        std::fs::write(&key, "the key of the gateways that a soak run starts").map_err(fail)?;
        let (mut processes, mut engine, mut gateways) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=GATEWAYS {
            let own = directory.join(format!("gateway{number}"));
            let (first, second) = (Link::to(vec![servers[0].port]).await, Link::to(vec![servers[1].port]).await);
            let links = [first.map_err(fail)?, second.map_err(fail)?];
            let listens = free_port()?;
            let peers = Link::to(vec![listens]).await.map_err(fail)?;
            let settings = format!(
                "{bounds}\n[log]\nkind = \"postgres\"\nfailover = \"keeps\"\n\
                 url = \"postgres://postgres@{},{}/{database}?sslmode=disable\"\n\n\
                 [cluster]\nlisten = \"127.0.0.1:{listens}\"\naddress = \"{}\"\nkey_file = {key:?}\n\
                 lease_seconds = {}\n\n[trace]\nfiles = 4096\ndirectory = {:?}\n",
                links[0].address,
                links[1].address,
                peers.address,
                LEASE.as_secs(),
                own.join("traces").display()
            );
            let mut gateway = Gateway::prepare(binary, &own, &settings)?;
            std::fs::create_dir_all(own.join("data")).map_err(fail)?;
            std::fs::write(own.join("data").join("operator.token"), OPERATOR).map_err(fail)?;
            gateway.start().await?;
            processes.push(gateway);
            engine.push(links);
            gateways.push(peers);
        }
        let ports = processes.iter().map(|gateway| gateway.address.port()).collect();
        let clients = Link::to(ports).await.map_err(fail)?;
        let cluster = Self { servers, primary: 0, replication, database, engine, gateways, clients };
        Ok(System { gateways: processes, cluster: Some(cluster) })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.clients.address.port()).into()
    }

    /// Makes a fault, and ends it.
    ///
    /// # Errors
    ///
    /// What did not come back.
    pub async fn strike(&mut self, processes: &mut [Gateway], fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill(number) => return again(&mut processes[number], Way::Crash).await,
            Fault::Leave(number) => return again(&mut processes[number], Way::Restart).await,
            Fault::Pause(number, more) => {
                processes[number].signal("-STOP");
                lasts(LEASE + Duration::from_millis(more)).await;
                processes[number].signal("-CONT");
            }
            Fault::CutEngine(number, line, time) => {
                let links: Vec<&Link> = self.engine[number].iter().collect();
                cut(&links, line, time).await;
            }
            Fault::CutGateways(number, line, time) => cut(&[&self.gateways[number]], line, time).await,
            Fault::CrashEngine => tokio::task::block_in_place(|| self.servers[self.primary].crash()),
            Fault::Failover => self.failover().await?,
            Fault::PausedFailover(number) => {
                processes[number].signal("-STOP");
                let began = Instant::now();
                let failed = self.failover().await;
                lasts((LEASE + Duration::from_secs(1)).saturating_sub(began.elapsed())).await;
                processes[number].signal("-CONT");
                failed?;
            }
            Fault::LosingFailover => {
                self.replication.set(Line::Silent);
                lasts(COMMITS).await;
                tokio::task::block_in_place(|| self.servers[self.primary].crash());
                lasts(RETRIES).await;
                self.failover().await?;
            }
        }
        Ok(())
    }

    /// The primary is killed, its standby promoted, and given a new standby.
    async fn failover(&mut self) -> Result<(), String> {
        let (old, new) = (self.primary, 1 - self.primary);
        let replication = Link::to(vec![self.servers[new].port]).await;
        let replication = replication.map_err(|error| format!("the standby cannot be linked: {error}"))?;
        tokio::task::block_in_place(|| {
            self.servers[old].kill();
            self.servers[new].promote();
            self.servers[old] = self.servers[new].standby_through(replication.address.port(), STANDBY);
        });
        self.replication = replication;
        self.primary = new;
        for links in &self.engine {
            links[old].lead_to(vec![self.servers[old].port]);
        }
        Ok(())
    }

    /// The settings of a log that reads what the cluster holds.
    #[must_use]
    pub fn log(&self) -> Settings {
        Settings::new(self.servers[self.primary].url(&self.database)).failover(Failover::Keeps)
    }

    /// Judges the tables. Returns what they hold, and what is wrong.
    ///
    /// # Panics
    ///
    /// If they cannot be read.
    #[must_use]
    pub fn judge(&self) -> (Vec<(String, String)>, Vec<String>) {
        let ask = |query: &str| self.servers[self.primary].sql(&self.database, query);
        tokio::task::block_in_place(|| {
            let row = |name: &str, query: &str| (name.to_owned(), ask(query));
            let rows = vec![
                row("entries in the engine", "select count(*) from lockstep.entry"),
                row("notices to everyone, and their users", "select count(*), sum(users) from lockstep.broadcast"),
                row("generations granted", "select sum(generation) from lockstep.stream"),
                row("timeline of the engine", "select lockstep.timeline()"),
            ];
            let counted = CONDITIONS.map(|(what, query)| (what, ask(query)));
            let wrong = counted.iter().filter(|(_, count)| count != "0");
            (rows, wrong.map(|(what, count)| format!("{what}: {count}")).collect())
        })
    }
}

/// Replaces a gateway, and waits until it serves: one that does not reach the engine then ends, and a supervisor would
/// have to start it again.
async fn again(gateway: &mut Gateway, way: Way) -> Result<(), String> {
    gateway.replace(way, DRAIN).await?;
    watch::metrics(gateway.address).await.map(drop)
}

async fn cut(links: &[&Link], line: Line, time: u64) {
    links.iter().for_each(|link| link.set(line));
    lasts(Duration::from_millis(time)).await;
    links.iter().for_each(|link| link.set(Line::Whole));
}
