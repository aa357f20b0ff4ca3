//! Measures how long connecting, starting a run and delivering take with many connections and a steady stream of
//! messages, and checks what the clients saw.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the one who types it")]

use std::collections::HashMap;
use std::io::BufReader;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use clap::Parser;
use lockstep_model::Bounds;
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_tests::frames::message_id;
use lockstep_tests::history::History;
use lockstep_tests::process::{Gateway, processor_times};
use lockstep_tests::simulated_client::{self, Command, Seen, Who};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

/// Measures its own gateway on loopback: many connections, a steady stream of messages, each answered by the built-in
/// agent with a tool.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: cargo build --release --bin lockstep && \
    cargo run --release -p lockstep-tests --bin steady -- --connections 1000 --runs 200 --seconds 20\n\n\
    Exit codes: 0 every promise held, 1 a promise was broken or the run failed, 2 wrong usage"
)]
struct Options {
    /// Connections, one user each.
    #[arg(long, default_value = "1000")]
    connections: NonZeroUsize,
    /// Messages a second, over all connections.
    #[arg(long, default_value = "200")]
    runs: NonZeroU32,
    /// Seconds for which messages are sent.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The gateway's binary [default: beside this one].
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// Deliver events before they are on disk.
    #[arg(long)]
    no_sync: bool,
    /// Let the gateway write a trace.
    #[arg(long)]
    trace: bool,
}

/// Clients that connect at once: as many as a loopback listener's backlog takes without a retry.
const WAVE: usize = 50;

/// What the replaced system promised: the 99th percentile of each must be below this.
const PROMISES: [(&str, Duration); 3] = [
    ("connect", Duration::from_secs(2)),
    ("agent_started", Duration::from_millis(500)),
    ("event", Duration::from_millis(100)),
];

fn main() -> ExitCode {
    let options = Options::parse();
    let run = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match run.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(measure(&options))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("steady: {error}");
            ExitCode::from(1)
        }
    }
}

async fn measure(options: &Options) -> Result<bool, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let binary = options.gateway.clone().unwrap_or_else(|| here.with_file_name("lockstep"));
    let directory = std::env::temp_dir().join(format!("lockstep-steady-{}", std::process::id()));
    let mut settings =
        format!("[agent]\npace_ms = 0\n[log]\nsync = {}\n[limits]\nper_address = 16000\n", !options.no_sync);
    if options.trace {
        settings.push_str(&format!("[trace]\ndirectory = {:?}\n", directory.join("trace").display()));
    }
    let mut gateway = Gateway::prepare(&binary, &directory, &settings)?;
    gateway.start().await?;
    let path = directory.join("history.jsonl");
    let history = History::create(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    let measured = with_clients(options, &gateway, &history).await;
    let memory = gateway.id().and_then(resident);
    history.flush().map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    gateway.drain(Duration::from_secs(60)).await?;
    let judged = check(&path);
    let _ = std::fs::remove_dir_all(&directory);
    let (mut figures, missing, cpu) = measured?;
    println!("{:<15} {:>8} {:>10} {:>10} {:>10} {:>10}", "", "count", "p50 ms", "p99 ms", "p99.9 ms", "promise");
    let mut held = missing == 0;
    for (name, promise) in PROMISES {
        let times = figures.entry(name).or_default();
        times.sort_unstable();
        let at = |per_mille: usize| times.get((times.len() * per_mille / 1_000).min(times.len().saturating_sub(1)));
        let ms = |per_mille| at(per_mille).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        println!(
            "{name:<15} {:>8} {:>10.1} {:>10.1} {:>10.1} {:>10}",
            times.len(),
            ms(500),
            ms(990),
            ms(999),
            promise.as_millis()
        );
        held &= at(990).is_some_and(|time| *time <= promise);
    }
    println!("runs without an end: {missing}");
    let runs = f64::from(options.runs.get()) * options.seconds as f64;
    println!("gateway: {:.0} µs of processor time a run", cpu.as_secs_f64() * 1e6 / runs);
    held &= judged?;
    if let Some(kib) = memory {
        println!(
            "gateway: {} MiB resident, {:.1} KiB a connection",
            kib / 1024,
            kib as f64 / options.connections.get() as f64
        );
    }
    Ok(held)
}

/// Checks what the clients saw. Returns false if two lines contradict each other.
fn check(path: &Path) -> Result<bool, String> {
    let fail = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
    let began = Instant::now();
    let file = std::fs::File::open(path).map_err(|error| fail(&error))?;
    let findings = lockstep_proofs::history::check(BufReader::new(file)).map_err(|error| fail(&error))?;
    let rate = findings.lines as f64 / began.elapsed().as_secs_f64();
    let contradictions = findings.contradictions.len();
    println!("history: {} lines, {contradictions} contradictions, {rate:.0} lines judged a second", findings.lines);
    for found in &findings.contradictions {
        println!("{}, lines {} and {}: {}", found.property, found.lines[0], found.lines[1], found.why);
    }
    Ok(contradictions == 0)
}

/// A process's resident memory in KiB.
fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

type Figures = HashMap<&'static str, Vec<Duration>>;

async fn with_clients(
    options: &Options,
    gateway: &Gateway,
    history: &History,
) -> Result<(Figures, usize, Duration), String> {
    let mut figures = Figures::new();
    let mut clients = Vec::new();
    for number in 0..options.connections.get() {
        let user = format!("user{number}");
        let token = Gateway::tokens(&user, Duration::from_secs(3_600));
        let who = Who { name: user.clone(), user, url: gateway.url(), begin: ReadFrom::Latest, token };
        let (commands, seen, task) = simulated_client::start(who, Bounds::DEFAULT, history.clone());
        commands.send(Command::Connect).map_err(|error| error.to_string())?;
        clients.push((commands, seen, task));
        if clients.len().is_multiple_of(WAVE) || clients.len() == options.connections.get() {
            let wave = (clients.len() - 1) / WAVE * WAVE;
            for (_, seen, _) in &mut clients[wave..] {
                figures.entry("connect").or_default().push(live(seen).await?);
            }
        }
    }
    let used = || gateway.id().and_then(processor_times).map_or(Duration::ZERO, |[own, _]| own);
    let before = used();
    let pause = Duration::from_secs(1) / options.runs.get();
    let total = usize::try_from(u64::from(options.runs.get()) * options.seconds).unwrap_or(usize::MAX);
    let mut tick = tokio::time::interval(pause);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut sent = HashMap::new();
    let mut tallies: Vec<Tally> = clients.iter().map(|_| Tally::default()).collect();
    for number in 0..total {
        tick.tick().await;
        let place = number % clients.len();
        let name = format!("m{number}");
        sent.insert(message_id(&name), Instant::now());
        let payload = json!({ "text": "what is 2+3*4?" });
        clients[place].0.send(Command::Send(name, payload)).map_err(|error| error.to_string())?;
        tallies[place].asked += 1;
        let last = (place + clients.len() - 1) % clients.len();
        while let Ok(seen) = clients[last].1.try_recv() {
            tallies[last].take(seen, &sent, &mut figures);
        }
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    for ((_, seen, _), tally) in clients.iter_mut().zip(&mut tallies) {
        while tally.ended < tally.asked
            && let Ok(Some(seen)) = tokio::time::timeout_at(deadline, seen.recv()).await
        {
            tally.take(seen, &sent, &mut figures);
        }
    }
    let cpu = used() - before;
    let missing = tallies.iter().map(|tally| tally.asked - tally.ended).sum();
    for (commands, _, task) in clients {
        drop(commands);
        let _ = task.await;
    }
    Ok((figures, missing, cpu))
}

/// How long a client took to become live.
async fn live(seen: &mut UnboundedReceiver<Seen>) -> Result<Duration, String> {
    let becomes = async {
        loop {
            match seen.recv().await {
                Some(Seen::Ready { after }) => return Some(after),
                Some(_) => {}
                None => return None,
            }
        }
    };
    let within = tokio::time::timeout(Duration::from_secs(60), becomes).await;
    within.ok().flatten().ok_or_else(|| "a client did not become live within a minute".to_owned())
}

/// One client's runs.
#[derive(Default)]
struct Tally {
    runs: HashMap<lockstep_model::RunId, Instant>,
    asked: usize,
    ended: usize,
}

impl Tally {
    fn take(&mut self, seen: Seen, sent: &HashMap<lockstep_model::MessageId, Instant>, figures: &mut Figures) {
        let Seen::Event { entry, stamp, at } = seen else { return };
        let received = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        figures.entry("event").or_default().push(received.saturating_sub(Duration::from_millis(stamp)));
        match entry.event.kind {
            Kind::Received(received) => {
                self.runs.extend(sent.get(&received.message).map(|at| (entry.event.run, *at)));
            }
            Kind::Started => {
                if let Some(sent) = self.runs.get(&entry.event.run) {
                    // It was read a while before it is counted here.
                    let age = at.elapsed().unwrap_or_default();
                    figures.entry("agent_started").or_default().push(sent.elapsed().saturating_sub(age));
                }
            }
            Kind::Completed | Kind::Error(_) => self.ended += 1,
            Kind::Thinking
            | Kind::Delta(_)
            | Kind::ToolExecuting(_)
            | Kind::ToolCompleted(..)
            | Kind::Paused(_)
            | Kind::Resumed(_)
            | Kind::Notice
            | Kind::Deleted => {}
        }
    }
}
