//! Runs the scenarios over the servers, interleaved, and says what came of it.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::ValueEnum;

use crate::process::Pinning;
use crate::report::{Absent, Report, Row, junit};
use crate::scenarios::{Sample, Scenario, Sizes};
use crate::servers::{Kind, NotStarted, Place, Server};
use crate::{Format, Options, baseline, page};

/// What is run.
struct Schedule {
    scenarios: Vec<Scenario>,
    servers: Vec<Kind>,
    repeats: u32,
    sizes: Sizes,
}

/// A server that is never as fast as it can be costs the same whatever else the machine does; the limit of *stream* does not.
const SHORT: [Scenario; 3] = [Scenario::Paced, Scenario::Turns16, Scenario::Connect];

impl Schedule {
    fn of(options: &Options) -> Self {
        let (scenarios, servers, repeats, seconds, users) = if options.short {
            (SHORT.to_vec(), vec![Kind::Bare, Kind::Memory, Kind::Disk], 3, 0.8, 1_000)
        } else {
            (Scenario::value_variants().to_vec(), Kind::value_variants().to_vec(), 3, 3.0, 1_000)
        };
        let chosen = |given: &Vec<_>, default| if given.is_empty() { default } else { given.clone() };
        Self {
            scenarios: chosen(&options.scenarios, scenarios),
            servers: if options.server.is_empty() { servers } else { options.server.clone() },
            repeats: options.repeat.unwrap_or(repeats).max(1),
            sizes: Sizes {
                seconds: options.seconds.unwrap_or(seconds).max(0.1),
                users: options.users.unwrap_or(users).max(1),
            },
        }
    }
}

/// Runs what is asked for and prints the result. Returns whether all is well.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    // A file that cannot be read is better known now.
    let stored = options.baseline.as_deref().map(page::read).transpose()?;
    let (schedule, place) = (Schedule::of(options), place(options)?);
    std::fs::create_dir_all(&place.data).map_err(|error| format!("{}: {error}", place.data.display()))?;
    // After the pinning, so that its thread is pinned too.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let rows = runtime.map_err(|error| error.to_string())?.block_on(measure(&schedule, &place));
    let report = Report {
        date: said("date", &["-u", "+%F %H:%M UTC"]),
        machine: machine(),
        pinning: place.pinning.words().to_owned(),
        command: std::env::args().map(|word| name_of(&word)).collect::<Vec<_>>().join(" "),
        versions: versions(&place),
        users: schedule.sizes.users,
        seconds: schedule.sizes.seconds,
        rows,
    };
    let _ = std::fs::remove_dir_all(&place.data);
    conclude(&report, stored.as_ref(), options)
}

/// The program's name without its folder, and other words as they are.
fn name_of(word: &str) -> String {
    let own = std::env::args().next().is_some_and(|first| first == word);
    if own { "load".to_owned() } else { word.to_owned() }
}

fn place(options: &Options) -> Result<Place, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = own.parent().unwrap_or(Path::new("."));
    let peers = options.peers.clone().unwrap_or_else(|| beside.join("../peers"));
    Ok(Place {
        peers: std::fs::canonicalize(&peers).unwrap_or(peers),
        scripts: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers"),
        data: beside.join(format!("load-{}", std::process::id())),
        pinning: Pinning::establish(),
    })
}

async fn measure(schedule: &Schedule, place: &Place) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut progress = Progress::new(schedule);
    for scenario in &schedule.scenarios {
        let mut of: Vec<Row> = schedule.servers.iter().map(|server| row(*scenario, *server)).collect();
        for _ in 0..schedule.repeats {
            for (row, server) in of.iter_mut().zip(&schedule.servers) {
                progress.next(*scenario, *server);
                if row.absent.is_some() {
                    continue;
                }
                match once(*scenario, *server, place, schedule.sizes).await {
                    Ok(sample) => row.samples.push(sample),
                    Err(NotStarted::NotInstalled(what)) => {
                        progress.missing(*server, &what);
                        row.absent = Some(Absent::NotInstalled);
                    }
                    Err(NotStarted::Failed(why)) => row.absent = Some(Absent::Failed(why)),
                }
            }
        }
        rows.extend(of);
    }
    progress.end();
    rows
}

fn row(scenario: Scenario, server: Kind) -> Row {
    Row {
        scenario: scenario.name(),
        unit: scenario.unit().to_owned(),
        server: server.name(),
        absent: (!scenario.fits(server)).then_some(Absent::NotDone),
        samples: Vec::new(),
    }
}

async fn once(scenario: Scenario, kind: Kind, place: &Place, sizes: Sizes) -> Result<Sample, NotStarted> {
    let mut server = Server::start(kind, place).await?;
    scenario.run(&mut server, sizes).await.map_err(|error| NotStarted::Failed(error.to_string()))
}

/// Prints the result. Returns false if something failed or has become worse.
fn conclude(report: &Report, stored: Option<&Report>, options: &Options) -> Result<bool, String> {
    let compared = stored.map(|stored| baseline::compare(stored, report, options.tolerance / 100.0));
    let mut cases: Vec<(String, Option<String>)> =
        report.failures().into_iter().map(|(name, why)| (name, Some(why))).collect();
    match &compared {
        Some(compared) => {
            cases.extend(compared.iter().map(|compared| (compared.name.clone(), compared.worse.clone())));
            if compared.is_empty() {
                cases.push(("baseline".to_owned(), Some("it has none of these scenarios and servers".to_owned())));
            }
        }
        None => {
            let measured = report.rows.iter().filter(|row| row.absent.is_none());
            cases.extend(measured.map(|row| (format!("{} {}", row.scenario, row.server), None)));
        }
    }
    match options.format {
        Format::Text => {
            print!("{}", report.text());
            println!("\n{}\n{}; {}", page::summary(report), report.machine, report.pinning);
            for compared in compared.iter().flatten() {
                println!("{}: {:.2} x bare, {:.2} in the baseline", compared.name, compared.now, compared.before);
            }
        }
        Format::Json => {
            println!("{}", serde_json::to_string_pretty(report).map_err(|error| error.to_string())?);
        }
        Format::Junit => print!("{}", junit(&cases)),
    }
    let wrong: Vec<_> = cases.iter().filter_map(|(name, wrong)| Some((name, wrong.as_ref()?))).collect();
    for (name, why) in &wrong {
        eprintln!("load: {name}: {why}");
    }
    Ok(wrong.is_empty())
}

/// One line at a terminal, once it takes a while.
struct Progress {
    began: Instant,
    total: usize,
    done: usize,
    missing: Vec<Kind>,
}

impl Progress {
    fn new(schedule: &Schedule) -> Self {
        let total = schedule.scenarios.len() * schedule.servers.len() * schedule.repeats as usize;
        Self { began: Instant::now(), total, done: 0, missing: Vec::new() }
    }

    fn is_shown(&self) -> bool {
        std::io::stderr().is_terminal() && self.began.elapsed().as_secs() >= 2
    }

    fn next(&mut self, scenario: Scenario, server: Kind) {
        if self.is_shown() {
            let seconds = self.began.elapsed().as_secs();
            eprint!("\r\x1b[K{}/{} {} {}, {seconds} s", self.done, self.total, scenario.name(), server.name());
            let _ = std::io::stderr().flush();
        }
        self.done += 1;
    }

    fn missing(&mut self, server: Kind, what: &Path) {
        if !self.missing.contains(&server) {
            self.missing.push(server);
            eprintln!("load: {} is not installed ({}): see tests/load/install", server.name(), what.display());
        }
    }

    fn end(&self) {
        if self.is_shown() {
            eprint!("\r\x1b[K");
        }
    }
}

/// What a command prints first, or "?".
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().map_or_else(|| "?".to_owned(), |line| line.trim().to_owned())
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(':').nth(1)).unwrap_or("?").trim().to_owned()
    };
    let kib: f64 = value(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let model = value(&read("/proc/cpuinfo"), "model name");
    let cores = read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count();
    let (system, release) = (said("uname", &["-s"]), said("uname", &["-r"]));
    // Without what a distribution adds.
    let release = release.split('-').next().unwrap_or_default();
    format!("{cores} cores, {model}, {:.0} GiB, {system} {release}", kib / 1_048_576.0)
}

fn versions(place: &Place) -> Vec<(String, String)> {
    let package = |name: &str| {
        let text = std::fs::read_to_string(place.peers.join("node_modules").join(name).join("package.json"));
        let json: serde_json::Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
        json["version"].as_str().unwrap_or("?").to_owned()
    };
    let python = place.peers.join("python/bin/python");
    let websockets = said(&python.display().to_string(), &["-c", "import websockets; print(websockets.__version__)"]);
    let all = [
        ("Lockstep", env!("CARGO_PKG_VERSION").to_owned()),
        ("rustc", said("rustc", &["--version"]).trim_start_matches("rustc ").to_owned()),
        ("Node", said("node", &["--version"])),
        ("ws", package("ws")),
        ("socket.io", package("socket.io")),
        ("Bun", package("bun")),
        ("websockets", websockets),
    ];
    all.into_iter().map(|(name, version)| (name.to_owned(), version)).collect()
}
