//! Metrics, by Prometheus conventions: names with units, each with a help text.

use std::path::Path;
use std::time::Duration;

use lockstep::Manager;
use lockstep_model::connection::State;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use super::mode_name;

mod process;

/// Upper bounds of the buckets, in seconds: from a tenth of a millisecond to ten seconds.
const BUCKETS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The same for the times of a model: from 25 milliseconds to ten minutes.
const MODEL_BUCKETS: [f64; 14] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// How often histograms are updated.
const UPKEEP: Duration = Duration::from_secs(5);

lockstep::internal::sentence! {
    /// Why metrics are not recorded.
    NotInstalled
}

lockstep::internal::sentence! {
    /// Why a log level or filter is not valid.
    InvalidFilter
}

/// Begins recording, for the whole process.
///
/// # Errors
///
/// [`NotInstalled`], if another recorder is installed already.
pub(crate) fn install() -> Result<PrometheusHandle, NotInstalled> {
    let fail = |error: BuildError| NotInstalled::because(error.to_string(), error);
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .map_err(fail)?;
    let builder = ["lockstep_run_seconds", "lockstep_first_token_seconds", "lockstep_model_seconds"]
        .iter()
        .try_fold(builder, |builder, name| {
            builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), &MODEL_BUCKETS)
        })
        .map_err(fail)?;
    let handle = builder.install_recorder().map_err(fail)?;
    describe();
    Ok(handle)
}

/// Moves recorded samples into their histogram buckets, forever. Otherwise they would pile up until the next scrape.
pub(super) async fn upkeep(handle: &PrometheusHandle) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        handle.run_upkeep();
    }
}

/// Parses a log level or filter. It never includes the messages of the WebSocket library, which at `trace` contain
/// whole frames with their credentials. The filter is a layer of the crate `tracing-subscriber`, because the binary
/// installs the subscriber.
///
/// # Errors
///
/// [`InvalidFilter`].
pub fn log_filter(filter: &str) -> Result<EnvFilter, InvalidFilter> {
    let filter = EnvFilter::try_new(filter).map_err(|error| InvalidFilter::because(error.to_string(), error))?;
    let quiet = ["tungstenite=info", "tungstenite::protocol=info", "tungstenite::protocol::frame=info"];
    let quiet = quiet
        .iter()
        .map(|directive| directive.parse().map_err(|_| InvalidFilter::new(format!("{directive} is not a filter"))));
    quiet.collect::<Result<Vec<_>, _>>().map(|quiet| quiet.into_iter().fold(filter, EnvFilter::add_directive))
}

/// The counters and their help texts.
const COUNTERS: [(&str, &str); 21] = [
    ("lockstep_connections_admitted_total", "Connections that the node admitted."),
    ("lockstep_connections_refused_total", "Connections that the node refused, by close code."),
    ("lockstep_connections_relayed_total", "Connections that were passed on to the process that owns their user."),
    ("lockstep_connections_closed_total", "Connections that were closed, by close code."),
    (
        "lockstep_sockets_refused_total",
        "TCP connections and upgrades that were refused, by the limit that they exceed.",
    ),
    (
        "lockstep_accept_failures_total",
        "TCP connections that could not be accepted, most likely for lack of file descriptors.",
    ),
    ("lockstep_logins_ended_total", "Logins that ended without a logout, by reason."),
    ("lockstep_operator_actions_total", "Actions of the operator, by action."),
    ("lockstep_operator_refused_total", "Requests to the operator's routes without the operator's token, by reason."),
    ("lockstep_events_total", "Events that the log accepted, by type."),
    ("lockstep_runs_launched_total", "Runs that were given to the agent."),
    ("lockstep_faults_total", "Sessions that were abandoned because they violated an invariant: bugs."),
    ("lockstep_log_failures_total", "Appends that the log refused."),
    ("lockstep_trace_failures_total", "Traces that ended because they could not be written."),
    ("lockstep_logins_total", "Requests to the login's routes, by route and outcome."),
    ("lockstep_verdicts_total", "Credentials that were verified, by verdict."),
    ("lockstep_credentials_rejected_total", "Credentials that were rejected, by reason."),
    ("lockstep_key_set_failures_total", "Key sets that could not be fetched."),
    ("lockstep_agent_failures_total", "Runs that an AG-UI agent did not answer, by error code."),
    ("lockstep_model_failures_total", "Runs that a model did not answer, by error code."),
    ("lockstep_deprecated_calls_total", "Calls of deprecated functions, by name and call site."),
];

/// The histograms of times and their help texts.
const TIMES: [(&str, &str); 8] = [
    ("lockstep_model_first_token_seconds", "Time from a request to a model to the first word of its reply."),
    ("lockstep_model_reply_seconds", "Time from a request to a model to the end of its reply."),
    ("lockstep_relay_open_seconds", "Time until the process that owns a user has accepted a relayed connection."),
    ("lockstep_log_append_seconds", "Time until the log has made a batch durable."),
    (
        "lockstep_event_age_seconds",
        "Time from the creation of an event until it is written to a socket; replayed events count with their age.",
    ),
    ("lockstep_run_seconds", "Time from the launch of a run to its end."),
    ("lockstep_first_token_seconds", "Time from the launch of a run to the first output of its agent."),
    ("lockstep_model_seconds", "Time from a request to a model's server until it begins to answer, by outcome."),
];

/// The gauges and their help texts.
const GAUGES: [(&str, &str); 9] = [
    ("lockstep_connections", "Connections by state."),
    ("lockstep_relays", "Connections that are passed on to the process that owns their user now."),
    ("lockstep_sessions", "Sessions."),
    ("lockstep_runs", "Runs that have an agent."),
    ("lockstep_timers", "Armed deadlines."),
    ("lockstep_cursor_lag_events", "Events between the slowest reader's cursor and its stream's head."),
    ("lockstep_pending_events", "Events that the log has not confirmed yet."),
    ("lockstep_log_bytes", "Bytes of the log's files."),
    ("lockstep_mode", "1 for the node's mode, 0 for the others."),
];

fn describe() {
    process::describe();
    for (name, help) in COUNTERS {
        describe_counter!(name, Unit::Count, help);
    }
    for (name, help) in TIMES {
        describe_histogram!(name, Unit::Seconds, help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(name, Unit::Count, help);
    }
}

/// The size of the log's files in the data directory: those named `log` or `log.*`.
fn log_bytes(directory: &Path) -> u64 {
    let entries = |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let of_log = entries(directory).filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name == "log" || name.starts_with("log."))
    });
    let size = |entry: std::fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
    of_log.map(|entry| if entry.path().is_dir() { entries(&entry.path()).map(size).sum() } else { size(entry) }).sum()
}

/// Updates the gauges. `kept` is the data directory, if the log is on disk.
pub(super) fn observe(manager: &Manager, kept: Option<&Path>) {
    if let Some(directory) = kept {
        gauge!("lockstep_log_bytes").set(log_bytes(directory) as f64);
    }
    process::observe();
    let health = manager.health();
    let (mut attaching, mut live, mut draining) = (0_u32, 0_u32, 0_u32);
    let (mut lag, mut pending) = (0, 0);
    for user in manager.sessions() {
        manager.inspect(user, |_, session| {
            let stream = session.stream();
            let head = stream.map_or(0, |stream| stream.head().0);
            pending += stream.map_or(0, |stream| stream.pending().len());
            for member in session.members().values() {
                match member.connection.state() {
                    State::Live { .. } => live += 1,
                    State::Draining => draining += 1,
                    State::Opening
                    | State::Authenticating { .. }
                    | State::Attaching { .. }
                    | State::Relayed { .. }
                    | State::Closing { .. }
                    | State::Closed { .. } => attaching += 1,
                }
                lag = lag.max(member.cursor.map_or(0, |cursor| head.saturating_sub(cursor.at().0)));
            }
        });
    }
    let outside = health.connections.saturating_sub(attaching + live + draining);
    for (state, count) in
        [("unauthenticated", outside), ("attaching", attaching), ("live", live), ("draining", draining)]
    {
        gauge!("lockstep_connections", "state" => state).set(f64::from(count));
    }
    gauge!("lockstep_sessions").set(f64::from(health.sessions));
    gauge!("lockstep_runs").set(count(health.runs));
    gauge!("lockstep_timers").set(count(health.timers));
    gauge!("lockstep_pending_events").set(count(pending));
    gauge!("lockstep_cursor_lag_events").set(count(usize::try_from(lag).unwrap_or(usize::MAX)));
    for mode in lockstep_model::Mode::ALL {
        gauge!("lockstep_mode", "mode" => mode_name(mode).to_string()).set(f64::from(u8::from(mode == health.mode)));
    }
}

fn count(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
