//! A long run under faults against its own gateway process, and the conditions it must meet.
//!
//! | checked | by |
//! | --- | --- |
//! | AUTH-1, ISO-1, STR-1, STR-2, RUN-1, RUN-2, OWN-2, OWN-3 | the recorded history ([`lockstep_proofs::history`]) |
//! | each step of each machine is the model's | the gateway's trace ([`lockstep_proofs::replay`]) |
//! | what any tab has read is in its user's conversation | what the gateway has stored, read page by page |
//! | every message is answered, every run ends, a user's tabs have read the same | the state after the faults |
//! | no user's run is ended by another user; no bad credential is admitted; a revoked one is closed | the clients |
//! | the gateway has no internal fault | close code 1011, `gateway.log` |
//! | nothing leaks | open files, memory, sessions and timers after all clients have left |
//! | OWN-1, OWN-2: owners that were replaced append nothing, and no entry is missing | the tables of a [`cluster`] |
//!
//! One gateway restarts only in the middle part of the run, so that any leak has time to show. In a cluster something
//! fails all the time.

use std::fs::File;
use std::io::{BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lockstep::log::KeptLog;
use lockstep::log::LogError;
use lockstep::log::disk::{Durability, Options as DiskOptions};
use lockstep::log::postgres::PostgresLog;
use lockstep_proofs::history::check;
use lockstep_proofs::replay::{self, DamageKind};

use crate::history::History;
use crate::process::Gateway;

pub mod cluster;
pub mod hostile;
pub mod kept;
pub mod ledger;
pub mod plan;
pub mod replies;
pub mod system;
pub mod watch;
pub mod workload;

use cluster::Cluster;
use plan::{Chats, Plan};
use system::{Disturbance, System};
use workload::Workload;

/// How often the observations are read.
const TURN: Duration = Duration::from_millis(20);
/// How long nothing may happen before the run counts as settled.
const QUIET: Duration = Duration::from_millis(1_500);
/// How long settling may take after the faults stop.
const CALM: Duration = Duration::from_secs(30);
/// How long the gateway may take to release everything of its clients.
const FORGETS: Duration = Duration::from_secs(20);
/// Files that a process may open for itself meanwhile.
const MAX_FILES: usize = 8;
/// KiB that the process may hold beyond twice its memory after the first tenth.
const MAX_MEMORY: u64 = 32 * 1024;
/// What a process holds for its clients.
const HELD: [&str; 5] =
    ["lockstep_connections", "lockstep_sessions", "lockstep_runs", "lockstep_relays", "lockstep_timers"];
/// Timers that an idle process has.
const MAX_TIMERS: f64 = 2.0;
/// Contradictions and findings that are shown.
const MAX_SHOWN: usize = 20;

/// The gateway's deadlines are short because a run is.
const SETTINGS: &str = "\
[agent]
pace_ms = 20

[bounds]
linger_ms = 1500
verification_ms = 2000
handshake_ms = 4000
heartbeat_ms = 4000
idle_ms = 10000
drain_ms = 3000
grace_ms = 1000
breaker_ms = 2000
probe_ms = 500
";

/// What a run soaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One gateway with its log on disk.
    One,
    /// Three gateways on a PostgreSQL with a synchronous standby.
    Cluster,
}

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is soaked.
    pub shape: Shape,
    /// The gateway's binary.
    pub gateway: PathBuf,
    /// How long there are faults.
    pub time: Duration,
    /// The plan's seed.
    pub seed: u64,
    /// The number of users.
    pub users: usize,
    /// What an event waits for before delivery: `log.sync` of the gateway.
    pub sync: String,
    /// What the users talk about.
    pub chats: Chats,
    /// The directory of all files.
    pub directory: PathBuf,
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The counters by name.
    pub rows: Vec<(String, String)>,
    /// The violations.
    pub findings: Vec<String>,
    /// The number of violations; not all are in `findings`.
    pub wrong: u64,
}

/// Runs the workload and checks the result.
///
/// # Errors
///
/// If the run could not be made.
pub async fn run(options: &Options) -> Result<Report, String> {
    let plan = match options.shape {
        Shape::One => Plan::new(options.seed, options.users, options.time),
        Shape::Cluster => Plan::cluster(options.seed, options.users, options.time),
    };
    std::fs::create_dir_all(&options.directory).map_err(|error| format!("cannot make the directory: {error}"))?;
    let path = options.directory.join("history.jsonl");
    let history = History::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let system = start(options).await?;
    // A gateway listens before it has opened its log. Once it answers, every file of an idle gateway is open.
    for (address, _) in system.processes() {
        watch::metrics(address).await?;
    }
    let files_before = system.files();
    let operator = system.gateways[0].directory.join("data").join("operator.token");
    let operator = std::fs::read_to_string(&operator).map_err(|error| format!("no operator's token: {error}"))?;
    let mut workload =
        Workload::new(system, operator.trim().to_owned(), history.clone(), options.chats, &plan.tabs).await;

    let mut progress = Progress::new(options);
    let memory_before = faults(options, &plan, &mut workload, &mut progress).await;
    let calm = calm(&mut workload, &mut progress).await;
    let trimmed = workload.trimmed();
    if options.chats == Chats::Long && trimmed == 0 {
        workload.ledger.find("no window has trimmed: the run shows nothing of that".to_owned());
    }
    workload.disconnect_all().await;
    progress.end();
    let rest = forgotten(&mut workload, files_before, memory_before).await;
    let system = std::sync::Arc::clone(&workload.system);
    let mut system = system.lock().await;
    for what in system.end().await {
        workload.ledger.find(what);
    }
    history.flush().map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let judged = judged(&path, &mut workload)?;
    let replayed = replayed(&system.traces(), &mut workload);
    let stored = stored(options, &system, &mut workload).await;

    let mut rows = vec![
        ("seed".to_owned(), options.seed.to_string()),
        ("plan".to_owned(), format!("{} steps, digest {:016x}", plan.steps.len(), plan.digest())),
        ("log.sync".to_owned(), options.sync.clone()),
        ("users, tabs".to_owned(), format!("{}, {}", plan.tabs.len(), plan.tabs.iter().sum::<usize>())),
    ];
    rows.extend(workload.ledger.counts.iter().map(|(name, count)| (name.clone(), count.to_string())));
    rows.push(("runs whose end no reader could see".to_owned(), workload.ledger.unread().to_string()));
    rows.push(("users whose window has trimmed".to_owned(), trimmed.to_string()));
    rows.push(("calm after".to_owned(), format!("{:.1} s", calm.as_secs_f64())));
    rows.extend(judged);
    rows.push(replayed);
    rows.extend(stored);
    rows.extend(rest);
    Ok(Report { rows, findings: workload.ledger.findings, wrong: workload.ledger.wrong })
}

/// Starts the processes.
async fn start(options: &Options) -> Result<System, String> {
    let bounds = format!("{SETTINGS}retained = {}\n", options.chats.retained());
    match options.shape {
        Shape::One => {
            let (sync, traces) = (&options.sync, options.directory.join("traces"));
            let settings = format!(
                "{bounds}\n[log]\nsync = {sync:?}\n\n[trace]\nfiles = 4096\ndirectory = {:?}\n",
                traces.display()
            );
            let mut gateway = Gateway::prepare(&options.gateway, &options.directory, &settings)?;
            gateway.start().await?;
            Ok(System::one(gateway))
        }
        Shape::Cluster => Cluster::start(&options.gateway, &options.directory, &bounds).await,
    }
}

/// Executes the plan. Returns the process's memory in KiB after the first tenth.
async fn faults(options: &Options, plan: &Plan, workload: &mut Workload, progress: &mut Progress) -> Option<u64> {
    let began = Instant::now();
    let mut tick = tokio::time::interval(TURN);
    let mut steps = plan.steps.iter().peekable();
    let mut faults = plan.faults.iter().peekable();
    let mut memory = None;
    while began.elapsed() < options.time {
        tick.tick().await;
        workload.turn();
        while let Some((_, act)) = steps.next_if(|(at, _)| *at <= began.elapsed()) {
            workload.act(*act).await;
        }
        if let Some((_, fault)) = faults.next_if(|(gap, _)| *gap <= workload.calm_for()) {
            workload.disturb(Disturbance::Strike(*fault));
        }
        if options.shape == Shape::One && memory.is_none() && began.elapsed() >= options.time / 10 {
            // No restart is planned before this.
            memory = workload.system.lock().await.gateways[0].id().and_then(watch::resident);
        }
        progress.show(workload);
    }
    memory
}

/// Stops all faults and waits until the run has settled. Adds a finding for whatever has not, and returns the time it
/// took.
async fn calm(workload: &mut Workload, progress: &mut Progress) -> Duration {
    let began = Instant::now();
    let mut tick = tokio::time::interval(TURN);
    while workload.is_disturbed() && began.elapsed() < CALM {
        tick.tick().await;
        workload.turn();
    }
    workload.calm().await;
    loop {
        tick.tick().await;
        workload.turn();
        progress.show(workload);
        let left = workload.unsettled(QUIET);
        if left.is_empty() {
            return began.elapsed();
        }
        if began.elapsed() > CALM {
            for what in left {
                workload.ledger.find(format!("{what} ({} s after the faults)", CALM.as_secs()));
            }
            return began.elapsed();
        }
    }
}

/// Waits until the gateways hold nothing for their clients. Adds a finding for whatever they still hold.
async fn forgotten(workload: &mut Workload, files: Option<usize>, memory: Option<u64>) -> Vec<(String, String)> {
    let system = std::sync::Arc::clone(&workload.system);
    let system = system.lock().await;
    let processes = system.processes();
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let most_files = files.unwrap_or_default() + MAX_FILES * processes.len();
    let most_timers = MAX_TIMERS * processes.len() as f64;
    loop {
        tick.tick().await;
        let mut metrics = Vec::new();
        let mut silent = 0;
        for (address, _) in &processes {
            match watch::metrics(*address).await {
                Ok(of_process) => metrics.extend(of_process),
                Err(_) => silent += 1,
            }
        }
        let of = |name: &str| if silent > 0 { f64::NAN } else { watch::sum(&metrics, name) };
        let held = HELD.map(|name| (name, of(name), if name == "lockstep_timers" { most_timers } else { 0.0 }));
        let open = system.files().unwrap_or(usize::MAX);
        let forgot = held.iter().all(|(_, value, most)| value <= most) && open <= most_files;
        if !forgot && began.elapsed() < FORGETS {
            continue;
        }
        for (name, value, most) in held.iter().filter(|(_, value, most)| value.is_nan() || value > most) {
            workload.ledger.find(format!("{name} is {value} {} s after all left, not {most}", FORGETS.as_secs()));
        }
        if open > most_files {
            workload.ledger.find(format!("{open} files are open, {files:?} before any client came"));
        }
        let resident = processes[0].1.and_then(watch::resident);
        if let (Some(before), Some(after)) = (memory, resident)
            && after > before * 2 + MAX_MEMORY
        {
            workload.ledger.find(format!("the gateway holds {after} KiB of memory, {before} after the first tenth"));
        }
        let faults = of("lockstep_faults_total");
        if faults > 0.0 {
            workload.ledger.find(format!("lockstep_faults_total is {faults}"));
        }
        let kib = |value: Option<u64>| value.map_or("?".to_owned(), |kib| format!("{} MiB", kib / 1024));
        return vec![
            ("all forgotten after".to_owned(), format!("{:.1} s", began.elapsed().as_secs_f64())),
            ("open files, before and after".to_owned(), format!("{}, {open}", files.unwrap_or_default())),
            ("memory, first tenth and end".to_owned(), format!("{}, {}", kib(memory), kib(resident))),
        ];
    }
}

/// Checks the history.
fn judged(path: &Path, workload: &mut Workload) -> Result<Vec<(String, String)>, String> {
    let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    match check(BufReader::with_capacity(1 << 20, file)) {
        Ok(findings) => {
            for found in &findings.contradictions {
                let [first, second] = found.lines;
                workload.ledger.find(format!("{}: lines {first} and {second}: {}", found.property, found.why));
            }
            Ok(vec![
                ("history".to_owned(), format!("{} lines, {} sockets", findings.lines, findings.sockets)),
                ("contradictions".to_owned(), findings.contradictions.len().to_string()),
            ])
        }
        Err(error) => {
            workload.ledger.find(error.to_string());
            Ok(Vec::new())
        }
    }
}

/// Compares what is stored with what was seen, and judges the tables of a cluster.
async fn stored(options: &Options, system: &System, workload: &mut Workload) -> Vec<(String, String)> {
    let names: Vec<String> = (0..workload.users()).map(workload::user_name).collect();
    let ledger = &mut workload.ledger;
    let Some(cluster) = &system.cluster else {
        let disk = options.directory.join("data").join("log");
        let log = KeptLog::open(&disk, &DiskOptions::new(Durability::Always));
        return vec![
            kept::compare(log.map_err(|error| LogError::Unavailable(error.to_string())), &names, ledger).await,
        ];
    };
    let log = PostgresLog::connect(cluster.log()).await.map_err(|error| LogError::Unavailable(error.to_string()));
    let (mut rows, wrong) = cluster.judge();
    rows.push(kept::compare(log, &names, ledger).await);
    wrong.into_iter().for_each(|what| ledger.find(what));
    for what in ["crashes", "pauses past the lease", "failovers"] {
        if ledger.counted(what) == 0 {
            ledger.find(format!("there were no {what}: the run shows nothing of them"));
        }
    }
    rows
}

/// Replays the steps of the gateways' processes against the model.
fn replayed(traces: &[PathBuf], workload: &mut Workload) -> (String, String) {
    let (chains, damages) = match replay::gather(traces) {
        Ok(gathered) => gathered,
        Err(error) => {
            workload.ledger.find(error);
            return ("trace".to_owned(), "none".to_owned());
        }
    };
    let (mut steps, mut cut, processes) = (0, 0, chains.len());
    let (mut broken, mut diverged) = (Vec::new(), Vec::new());
    let mut damage = |damage: &replay::Damage| match damage.kind {
        DamageKind::Truncated(_) | DamageKind::Empty => cut += 1,
        DamageKind::Foreign
        | DamageKind::OtherVersion(_)
        | DamageKind::Tampered(_)
        | DamageKind::Reordered { .. }
        | DamageKind::Missing(..)
        | DamageKind::MissingFile(_)
        | DamageKind::Unknown(_)
        | DamageKind::World(_) => broken.push(damage.to_string()),
    };
    damages.iter().for_each(&mut damage);
    for replayed in chains.iter().map(replay::replay) {
        steps += replayed.counts.steps();
        replayed.damage.iter().for_each(&mut damage);
        diverged.extend(replayed.divergence.map(|divergence| {
            format!(
                "{}: record {} is not the model's step: {}",
                divergence.path.display(),
                divergence.sequence,
                divergence.record
            )
        }));
    }
    for what in broken.into_iter().chain(diverged) {
        workload.ledger.find(what);
    }
    // Only a killed process leaves a cut-off trace.
    if cut > workload.ledger.counted("crashes") {
        workload.ledger.find(format!("{cut} traces are cut off, more than there were crashes"));
    }
    ("trace".to_owned(), format!("{steps} steps of {processes} processes, {cut} cut off"))
}

impl Report {
    /// The report as a table, followed by the violations.
    #[must_use]
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut lines: Vec<String> = self.rows.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect();
        lines.extend(self.findings.iter().take(MAX_SHOWN).map(|finding| format!("WRONG: {finding}")));
        lines.push(match self.wrong {
            0 => "nothing wrong".to_owned(),
            wrong => format!("{wrong} wrong"),
        });
        lines.join("\n")
    }
}

/// A progress line on a terminal; nothing elsewhere.
struct Progress {
    terminal: bool,
    began: Instant,
    total: Duration,
    users: usize,
    next: Instant,
}

impl Progress {
    fn new(options: &Options) -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, began: now, total: options.time, users: options.users, next: now }
    }

    fn show(&mut self, workload: &Workload) {
        if !self.terminal || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + Duration::from_millis(500);
        let count = |name| workload.ledger.counted(name);
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[K{}/{} s  {} users  {} events  {} restarts  {} wrong",
            self.began.elapsed().as_secs(),
            self.total.as_secs(),
            self.users,
            count("events read"),
            count("drains") + count("crashes") + count("hand-overs"),
            workload.ledger.wrong
        );
    }

    fn end(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
