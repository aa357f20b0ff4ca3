//! Many users and every kind of fault against a gateway process: see [`lockstep_tests::soak`].

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the one who types it")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{CommandFactory, Parser, error::ErrorKind};
use lockstep_tests::soak::plan::Chats;
use lockstep_tests::soak::{self, Options, Shape};

/// Soaks its own gateway on loopback. Users with several tabs send messages to the built-in agent and cancel runs,
/// while sockets are cut, tabs reload, credentials expire and are revoked, readers are slow and hostile clients attack.
/// The process is drained, killed and restarted, or handed over to another.
///
/// The run records what the clients sent and saw and checks it as `prove history` does, and checks the gateway's trace
/// as `prove replay` does. Once the faults stop, every message must have its answer, every run its end, and all tabs of
/// a user must have read the same. Once all clients have left, the gateway must hold no file, session, timer or memory
/// for them.
///
/// With `--cluster`, three gateways share a PostgreSQL that has a synchronous standby, and each reconnection reaches
/// another gateway. Gateways are killed, paused past their lease, told to leave, and cut off from the engine and from
/// each other; the engine crashes and fails over. At the end, the tables too are judged: no entry of an owner that had
/// been replaced, and none missing.
#[derive(Parser)]
#[command(
    name = "soak",
    version,
    after_help = "\
The seed determines the schedule: the same seed, seconds and users repeat a run.

Examples:
  cargo build --release --bin lockstep
  cargo run --release -p lockstep-tests --bin soak -- --seconds 60
  cargo run --release -p lockstep-tests --bin soak -- --seconds 600 --seed 7 --users 50 --out target/soak
  cargo run --release -p lockstep-tests --bin soak -- --seconds 20 --sync always,interval,never --chats long
  cargo run --release -p lockstep-tests --bin soak -- --cluster --seconds 60
  cargo prove history target/soak/*/history.jsonl
  cargo prove replay target/soak/*/traces

Exit codes: 0 no violation found, 1 a violation was found or the run failed, 2 wrong usage"
)]
struct Arguments {
    /// Seconds for which faults are injected, at each level of `--sync`
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..))]
    seconds: u64,
    /// The schedule's seed [default: drawn, and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Users, each with one to three tabs
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    users: u16,
    /// The gateway's `log.sync`; one run for each level. No level loses anything to the faults of a run
    #[arg(long, value_name = "LEVEL,…", default_value = "always", value_delimiter = ',', value_parser = ["always", "interval", "never"])]
    sync: Vec<String>,
    /// Soaks three gateways on a PostgreSQL of its own, which must be installed, instead of one gateway
    #[arg(long, conflicts_with = "sync")]
    cluster: bool,
    /// The length of the chats: with `long`, answers have hundreds of pieces, and most of these are trimmed before
    /// the end
    #[arg(long, value_name = "WHAT", default_value = "short", value_parser = ["short", "long"])]
    chats: String,
    /// The gateway's binary [default: beside this one]
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// Keeps the history, the trace, the gateway's log and its data in a new directory inside this one [default: kept
    /// in the directory for temporary files, and only after a failure]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let gateway = arguments.gateway.clone().or_else(|| Some(std::env::current_exe().ok()?.with_file_name("lockstep")));
    let Some(gateway) = gateway.filter(|gateway| gateway.is_file()) else {
        let missing =
            "there is no gateway binary: run cargo build --release --bin lockstep, or name one with --gateway";
        Arguments::command().error(ErrorKind::ValueValidation, missing).exit()
    };
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = arguments.seed.unwrap_or(u64::from(clock.subsec_nanos()));
    let mut ended = ExitCode::SUCCESS;
    let levels = if arguments.cluster { &[String::from("postgres")][..] } else { &arguments.sync };
    for sync in levels {
        if let Err(said) = soak(&arguments, &gateway, seed, sync) {
            eprintln!("soak: {said}");
            ended = ExitCode::from(1);
        }
    }
    ended
}

/// One run.
fn soak(arguments: &Arguments, gateway: &Path, seed: u64, sync: &str) -> Result<(), String> {
    let base = arguments.out.clone().unwrap_or_else(std::env::temp_dir);
    let directory = base.join(format!("soak-{seed}-{sync}-{}", std::process::id()));
    let options = Options {
        shape: if arguments.cluster { Shape::Cluster } else { Shape::One },
        gateway: gateway.to_owned(),
        time: Duration::from_secs(arguments.seconds),
        seed,
        users: usize::from(arguments.users),
        sync: sync.to_owned(),
        chats: if arguments.chats == "long" { Chats::Long } else { Chats::Short },
        directory: directory.clone(),
    };
    eprintln!(
        "soak: seed {seed}, {} s, {} users, {} chats, sync {sync}; in {}",
        arguments.seconds,
        arguments.users,
        arguments.chats,
        directory.display()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let report = runtime.block_on(soak::run(&options))?;
    println!("{}", report.table());
    if report.wrong > 0 {
        return Err(format!("the recordings are in {}", directory.display()));
    }
    if arguments.out.is_none() {
        let _ = std::fs::remove_dir_all(&directory);
    }
    Ok(())
}
