//! Measures how long clients are away when their gateway is replaced: by a crash, by a stop and start, by a hand-over.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the one who types it")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lockstep_tests::history::History;
use lockstep_tests::process::{Gateway, Way};
use lockstep_tests::restart::replace;

/// Measures how long the clients of its own gateway on loopback are away when the process is replaced, while one of
/// them reads an answer.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: cargo build --release --bin lockstep && \
    cargo run --release -p lockstep-tests --bin restart -- --clients 1000\n\n\
    Exit codes: 0 measured, 1 the run failed, 2 wrong usage"
)]
struct Options {
    /// Clients, one user each.
    #[arg(long, default_value_t = 1_000)]
    clients: usize,
    /// How the process is replaced.
    #[arg(long, value_enum, default_values_t = [Way::Crash, Way::Restart, Way::Handover])]
    way: Vec<Way>,
    /// The gateway's binary [default: beside this one].
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(measure(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("restart: {error}");
            ExitCode::from(1)
        }
    }
}

async fn measure(options: &Options) -> Result<(), String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let binary = options.gateway.clone().unwrap_or_else(|| here.with_file_name("lockstep"));
    println!("{:<10} {:>8} {:>10} {:>10} {:>10}  the answer under way", "", "clients", "p50 ms", "p99 ms", "most ms");
    for way in &options.way {
        let directory = std::env::temp_dir().join(format!("lockstep-restart-{}-{way:?}", std::process::id()));
        let settings = "[agent]\npace_ms = 20\n[limits]\nper_address = 16000\n";
        let mut gateway = Gateway::prepare(&binary, &directory, settings)?;
        let found = replace(&mut gateway, *way, options.clients, &History::none()).await;
        let ended = gateway.drain(Duration::from_secs(60)).await;
        let _ = std::fs::remove_dir_all(&directory);
        let found = found?;
        ended?;
        let ms = |per_mille| found.within(per_mille).as_secs_f64() * 1e3;
        let way = format!("{way:?}").to_lowercase();
        let (count, answer) = (found.away.len(), found.answer);
        println!("{way:<10} {count:>8} {:>10.0} {:>10.0} {:>10.0}  {answer:?}", ms(500), ms(990), ms(1_000));
    }
    Ok(())
}
