//! Measures several gateways on one PostgreSQL: what an event costs with three of them, and how fast users move when
//! they are replaced.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the one who types it")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lockstep_tests::nodes::share::{Found, Load, Sockets, Talking};
use lockstep_tests::nodes::{deploy, share};
use lockstep_tests::postgres::Server;

/// Measures gateways of its own on a PostgreSQL of its own, with fsync and without a standby, all on this machine.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: cargo build --release --bin lockstep && \
    cargo run --release -p lockstep-tests --bin nodes -- share\n\n\
    Exit codes: 0 measured, 1 the run failed, 2 wrong usage"
)]
struct Options {
    #[command(subcommand)]
    what: What,
    /// The gateways' binary [default: beside this one].
    #[arg(long, value_name = "FILE", global = true)]
    gateway: Option<PathBuf>,
    /// How often each measurement is repeated.
    #[arg(long, default_value_t = 3, global = true)]
    rounds: usize,
    /// PostgreSQL does not wait for its disk.
    #[arg(long, global = true)]
    no_sync: bool,
}

#[derive(Subcommand)]
enum What {
    /// Events for each second of processor time of all gateways: with one, with three, with three of which none owns the
    /// users of its sockets, and with one that has the load of one of three; all at the same time. Each user has one socket, and sends the next message when its answer has ended.
    Share {
        /// Users; a third of them in the last case.
        #[arg(long, default_value_t = 60)]
        users: usize,
        /// Milliseconds between two of the 60 pieces of an answer.
        #[arg(long, default_value_t = 50)]
        pace: u64,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Users moved a second in a rolling deploy: each of three gateways gets SIGTERM and is started again at its
    /// address. A balancer leads new connections to the other two meanwhile. A user is moved once its next connection
    /// is live.
    Deploy {
        /// Users with one open socket each.
        #[arg(long, default_values_t = [300, 900, 2700])]
        users: Vec<usize>,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(measure(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nodes: {error}");
            ExitCode::from(1)
        }
    }
}

async fn measure(options: &Options) -> Result<(), String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let binary = options.gateway.clone().unwrap_or_else(|| here.with_file_name("lockstep"));
    let mut settings = vec!["shared_buffers=256MB", "max_wal_size=4GB"];
    if options.no_sync {
        settings.push("fsync=off");
    }
    let server = Arc::new(tokio::task::block_in_place(|| Server::start(&settings))?);
    match &options.what {
        What::Share { users, pace, seconds } => {
            let (pace, time) = (Duration::from_millis(*pace), Duration::from_secs(*seconds));
            shares(&server, &binary, options.rounds, Load { users: *users, pace }, time).await
        }
        What::Deploy { users } => {
            println!(
                "{:>6} {:>7} {:>6} {:>8} {:>8} {:>8} {:>7} {:>9} {:>9} {:>8} {:>8}  CPU ms for each moved",
                "users",
                "gateway",
                "moved",
                "p50 ms",
                "last ms",
                "moved/s",
                "closed",
                "closed ms",
                "opened ms",
                "gone ms",
                "new ms"
            );
            for count in users {
                deploys(&server, &binary, options.rounds, *count).await?;
            }
            Ok(())
        }
    }
}

/// A directory of its own for each measurement.
fn directory(round: usize, what: &str) -> PathBuf {
    std::env::temp_dir().join(format!("lockstep-nodes-{}-{round}-{what}", std::process::id()))
}

/// The median, the least and the most.
fn spread(values: &[f64]) -> [f64; 3] {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    [values[values.len() / 2], values[0], values[values.len() - 1]]
}

async fn shares(server: &Arc<Server>, binary: &Path, rounds: usize, load: Load, time: Duration) -> Result<(), String> {
    const CASES: [(&str, usize, Sockets, usize); 4] = [
        ("one", 1, Sockets::Local, 1),
        ("three", 3, Sockets::Local, 1),
        ("relayed", 3, Sockets::Relayed, 1),
        ("third", 1, Sockets::Local, 3),
    ];
    println!("{:<8} {:>9} {:>14} {:>14}", "gateways", "events/s", "events/CPU s", "events/batch");
    let mut found = [const { Vec::new() }; CASES.len()];
    for round in 0..rounds {
        let mut all = Vec::new();
        for (name, count, sockets, part) in CASES {
            let load = Load { users: load.users / part, ..load };
            all.push(Talking::start(server, binary, &directory(round, name), count, sockets, load).await?);
        }
        for (case, measured) in share::measure(&all, time).await?.into_iter().enumerate() {
            let Found { events, per_second, batch } = measured;
            println!("{:<8} {events:>9.0} {per_second:>14.0} {batch:>14.2}", CASES[case].0);
            found[case].push(per_second);
        }
        for talking in all {
            talking.end().await?;
        }
    }
    let [one, least, most] = spread(&found[0]);
    println!("one gateway: {one:.0} events per CPU second ({least:.0} to {most:.0})");
    let others = ["three gateways", "three gateways, each socket relayed", "one gateway with a third of the users"];
    for (index, what) in (1..).zip(others) {
        let [middle, least, most] = spread(&found[index]);
        let ratios: Vec<f64> = found[index].iter().zip(&found[0]).map(|(three, one)| three / one).collect();
        let [ratio, lowest, highest] = spread(&ratios);
        println!(
            "{what}: {middle:.0} events per CPU second ({least:.0} to {most:.0}), {ratio:.2} of one ({lowest:.2} to {highest:.2})"
        );
    }
    Ok(())
}

async fn deploys(server: &Arc<Server>, binary: &Path, rounds: usize, users: usize) -> Result<(), String> {
    let (mut rates, mut lasts) = (Vec::new(), Vec::new());
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    for round in 0..rounds {
        let found = deploy::measure(server, binary, &directory(round, "deploy"), users).await?;
        for (number, one) in found.iter().enumerate() {
            let count = one.moved.len();
            let middle = |times: &[Duration]| ms(times.get(count / 2).copied().unwrap_or_default());
            let last = ms(one.moved.last().copied().unwrap_or_default());
            let [gateways, engine, clients] = one.used.map(|used| ms(used) / count as f64);
            println!(
                "{users:>6} {:>7} {count:>6} {:>8.0} {last:>8.0} {:>8.0} {:>7} {:>9.0} {:>9.0} {:>8.0} {:>8.0}  {gateways:.2} + \
                 engine {engine:.2} + clients {clients:.2}",
                number + 1,
                middle(&one.moved),
                one.rate(),
                one.closes,
                middle(&one.closed),
                middle(&one.opened),
                ms(one.ended),
                ms(one.replaced)
            );
            rates.push(one.rate());
            lasts.push(last);
        }
    }
    let ([rate, slowest, fastest], [last, soonest, latest]) = (spread(&rates), spread(&lasts));
    println!(
        "{users} users: {rate:.0} moved a second ({slowest:.0} to {fastest:.0}), the last after {last:.0} ms \
         ({soonest:.0} to {latest:.0})"
    );
    Ok(())
}
