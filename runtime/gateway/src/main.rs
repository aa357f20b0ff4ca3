//! The `lockstep` command: the ready-made gateway, its accounts and its configuration.

#![forbid(unsafe_code)]
use core::fmt::Display;
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lockstep_gateway::accounts::AccountError;
use lockstep_gateway::config::{Config, ConfigError, Flags, LogFlag, TraceFlag};
use lockstep_gateway::signals::Signals;
use lockstep_gateway::terminal::Terminal;
use lockstep_gateway::{self as gateway, Startup};

/// Its background threads return freed memory to the system, so an idle gateway does not stay at its peak.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The session layer of an AI chat gateway.
#[derive(Parser)]
#[command(version, about, long_about = LONG, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const LONG: &str = "The session layer of an AI chat gateway: users log in, send a message, and see the answer while it \
                    is written, over connections that may be cut, duplicated, expired or slow. State machines make \
                    every decision, and a model checker has visited every reachable state of them.";

const AFTER: &str = "\
Examples:
  lockstep serve                                  a gateway on 127.0.0.1:8080, with its data in ./lockstep-data
  lockstep serve --listen 0.0.0.0:443 --config lockstep.toml
  lockstep serve --trace traces                   records each step, for `prove replay traces`
  lockstep serve --log postgres://lockstep@db/lockstep --config node.toml
                                                  one of several gateways, after `lockstep migrate` with the same --log
  lockstep serve --take-over                      restarts: open runs end first, and clients are away for under a second
  lockstep user add ada                           asks for a password
  lockstep config > lockstep.toml                 prints every setting with its description
  lockstep config --config lockstep.toml --check  checks a file, and names the line and field of an error
  LOCKSTEP_AGENT__KIND=builtin lockstep config    prints the result of flags, environment and file

Signals of `serve`: TERM and INT drain, a second one ends at once; HUP reloads the certificates, or drains if the
terminal has closed. Under systemd it reports when it is ready (Type=notify, WatchdogSec).

Exit codes: 0 success, 1 could not start or continue, 2 wrong usage or configuration";

#[derive(Subcommand)]
enum Command {
    /// Start the gateway.
    Serve {
        #[command(flatten)]
        common: Common,
        /// Where to listen [default: 127.0.0.1:8080].
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// Where streams are kept: `disk`, `memory` or `postgres://USER@HOST:PORT/DATABASE` [default: disk].
        #[arg(long, value_name = "LOG")]
        log: Option<LogFlag>,
        /// Write each step of each machine to files in this directory, for `prove replay`.
        #[arg(long, value_name = "DIR")]
        trace: Option<PathBuf>,
        /// Take over from the gateway that serves the data directory, if there is one: its socket first, then its
        /// clients once its open runs have ended.
        #[arg(long)]
        take_over: bool,
        /// The format of the log on the terminal.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
        /// What is logged: a level, or a filter such as `lockstep=debug`.
        #[arg(long, env = "LOCKSTEP_LOG_FILTER", default_value = "info", value_name = "FILTER")]
        log_filter: String,
    },
    /// Manage the accounts of the built-in login: those of a data directory, or of a cluster. Running gateways see
    /// changes within a second.
    User {
        #[command(flatten)]
        common: Common,
        /// The engine of a cluster, `postgres://USER@HOST:PORT/DATABASE` [default: `log.url` of the configuration].
        #[arg(long, value_name = "LOG", global = true)]
        log: Option<LogFlag>,
        #[command(subcommand)]
        action: UserAction,
    },
    /// Create the tables of the log in PostgreSQL, or migrate those of an earlier version. Gateways may run meanwhile.
    Migrate {
        #[command(flatten)]
        common: Common,
        /// The engine: `postgres://USER@HOST:PORT/DATABASE` [default: `log.url` of the configuration].
        #[arg(long, value_name = "LOG")]
        log: Option<LogFlag>,
    },
    /// Print the configuration that results from flags, environment and file.
    Config {
        #[command(flatten)]
        common: Common,
        /// Only check whether it is valid.
        #[arg(long)]
        check: bool,
    },
}

#[derive(Args)]
struct Common {
    /// The configuration, a TOML file. `lockstep config` prints all settings.
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// The directory of accounts, keys, documents and the log [default: lockstep-data].
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum UserAction {
    /// Add an account. Asks for the password, or reads it from standard input if that is not a terminal.
    Add {
        /// The account's name: 1 to 64 of a-z, 0-9, '.', '_' and '-'.
        name: String,
    },
    /// Change a password. Its logins with the old one end, even while the gateway runs.
    Passwd {
        /// The account's name.
        name: String,
    },
    /// Remove an account. Its logins end, even while the gateway runs.
    Remove {
        /// The account's name.
        name: String,
    },
    /// List the accounts.
    List,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for humans.
    Text,
    /// One JSON object per line.
    Json,
}

fn main() -> ExitCode {
    // Before anything else: the first process of a container receives only the signals that it has installed handlers
    // for.
    let early = std::env::args_os().nth(1).filter(|word| word == "serve").map(|_| Early::begin());
    match Cli::parse().command {
        Command::Serve { common, listen, log, trace, take_over, log_format, log_filter } => {
            let startup = if take_over { Startup::TakeOver } else { Startup::Alone };
            match early.unwrap_or_else(Early::begin) {
                Ok(early) => {
                    let config = || load(&common, listen, log, trace);
                    serve(early, config, startup, log_format, &log_filter)
                }
                Err(error) => failed(format_args!("cannot start: {error}")),
            }
        }
        Command::Migrate { common, log } => {
            let flags = Flags { data_dir: common.data_dir.clone(), log, ..Flags::default() };
            loaded(Config::load_for_log(common.config.as_deref(), &flags))
                .map_or_else(|code| code, |config| migrate(&config))
        }
        Command::User { common, log, action } => {
            let flags = Flags { data_dir: common.data_dir.clone(), log, ..Flags::default() };
            // What only a gateway needs may be missing.
            match loaded(Config::load_for_log(common.config.as_deref(), &flags)) {
                Ok(config) => user(&config, &action).map_or_else(failed, |()| ExitCode::SUCCESS),
                Err(code) => code,
            }
        }
        Command::Config { common, check } => match load(&common, None, None, None) {
            Ok(_) if check => {
                say("the configuration is valid");
                ExitCode::SUCCESS
            }
            Ok(config) => match config.print() {
                Ok(text) => {
                    say(text.trim_end());
                    ExitCode::SUCCESS
                }
                Err(error) => failed(error),
            },
            Err(code) => code,
        },
    }
}

/// What a gateway needs before its configuration is loaded.
struct Early {
    runtime: tokio::runtime::Runtime,
    signals: Signals,
}

impl Early {
    fn begin() -> io::Result<Self> {
        let runtime = tokio::runtime::Runtime::new()?;
        let signals = {
            let _within = runtime.enter();
            Signals::install()?
        };
        Ok(Self { runtime, signals })
    }
}

fn serve(
    early: Early,
    config: impl FnOnce() -> Result<Config, ExitCode>,
    startup: Startup,
    log_format: LogFormat,
    log_filter: &str,
) -> ExitCode {
    let Early { runtime, mut signals } = early;
    let config = match config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let terminals = Terminal::new(io::stdout()).and_then(|output| Ok((output, Terminal::new(io::stderr())?)));
    let (output, log) = match terminals {
        Ok(terminals) => terminals,
        Err(error) => return failed(format_args!("cannot start: {error}")),
    };
    if let Err(error) = log_to_terminal(log_format, log_filter, log.clone()) {
        complain(format_args!("--log-filter: {error}"));
        return ExitCode::from(2);
    }
    let say = |line: &str| output.write(format!("{line}\n").into_bytes());
    let served = runtime.block_on(gateway::run(&config, startup, &mut signals, &say));
    runtime.shutdown_background();
    output.flush();
    log.flush();
    served.map_or_else(failed, |()| ExitCode::SUCCESS)
}

fn migrate(config: &Config) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(error),
    };
    match runtime.block_on(gateway::cluster::prepare(config)) {
        Ok((before, after)) if before == after => say(format_args!("the tables are of version {after} already")),
        Ok((0, after)) => say(format_args!("created the tables, version {after}")),
        Ok((before, after)) => say(format_args!("migrated the tables from version {before} to {after}")),
        Err(error) => return failed(error),
    }
    ExitCode::SUCCESS
}

/// Writes a line to standard output. If the reader has gone, that is no error.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Writes an error to standard error.
fn complain(error: impl Display) {
    let _ = writeln!(io::stderr(), "lockstep: {error}");
}

fn load(
    common: &Common,
    listen: Option<SocketAddr>,
    log: Option<LogFlag>,
    trace: Option<PathBuf>,
) -> Result<Config, ExitCode> {
    let trace = trace.map(|directory| TraceFlag { directory });
    let flags = Flags { listen, data_dir: common.data_dir.clone(), trace, log };
    loaded(Config::load(common.config.as_deref(), &flags))
}

fn loaded(config: Result<Config, ConfigError>) -> Result<Config, ExitCode> {
    config.map_err(|error| {
        complain(error);
        ExitCode::from(2)
    })
}

fn failed(error: impl Display) -> ExitCode {
    complain(error);
    ExitCode::from(1)
}

fn log_to_terminal(format: LogFormat, filter: &str, terminal: Terminal) -> Result<(), String> {
    let filter = gateway::telemetry::log_filter(filter).map_err(|error| error.to_string())?;
    // A line that cannot be written must not cause another one, which would fail too and end the process.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(terminal);
    match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|error| error.to_string())
}

fn user(config: &Config, action: &UserAction) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let act = async {
        let accounts = gateway::cluster::accounts(config).await.map_err(|error| Failure::Input(error.to_string()))?;
        match action {
            UserAction::Add { name } => {
                accounts.add(name, &password().map_err(Failure::Input)?).await?;
                say(format_args!("added {name}"));
            }
            UserAction::Passwd { name } => {
                accounts.passwd(name, &password().map_err(Failure::Input)?).await?;
                say(format_args!("changed the password of {name}"));
            }
            UserAction::Remove { name } => {
                accounts.remove(name).await?;
                say(format_args!("removed {name}"));
            }
            UserAction::List => {
                for name in accounts.list().await? {
                    say(name);
                }
            }
        }
        Ok(())
    };
    runtime.block_on(act).map_err(|failure| match failure {
        Failure::Input(error) => error,
        Failure::Account(error) => error.to_string(),
    })
}

enum Failure {
    Input(String),
    Account(AccountError),
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Self {
        Self::Account(error)
    }
}

/// Prompts for the password twice without echo, or reads a line of standard input.
fn password() -> Result<String, String> {
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(|error| format!("cannot read the password: {error}"))?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let ask = |prompt| rpassword::prompt_password(prompt).map_err(|error| format!("cannot read the password: {error}"));
    let password = ask("password: ")?;
    if password == ask("again: ")? { Ok(password) } else { Err("the two passwords differ".to_owned()) }
}
