//! `/ws/health`, `/ws/config` and `/ws/stats`: small JSON objects for clients and dashboards of the earlier system.
//! They need no credential, and so contain no user, connection or secret. The same numbers are in `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use lockstep::Manager;
use lockstep::payload::now_ms;
use lockstep::wire::Codec;
use lockstep_model::Bounds;
use serde_json::{Value, json};

use super::answer::json as answer;
use super::config::{Config, FailoverKind, LogKind};
use super::mode_name;

/// The limits that clients may know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announced {
    codec: Codec,
    bounds: Bounds,
    /// Bytes of the longest message.
    message: usize,
    /// The effect of a failover of the log's engine, if it has one.
    pub(crate) promise: Option<&'static str>,
}

impl Announced {
    pub(crate) fn of(config: &Config) -> Self {
        let message = config.limits.message_bytes.min(config.limits.frame_bytes);
        let promise = match (config.log.kind, config.log.failover) {
            (LogKind::Postgres, FailoverKind::Keeps) => Some("a failover of PostgreSQL keeps what was acknowledged"),
            (LogKind::Postgres, FailoverKind::NewEpoch) => {
                Some("a failover of PostgreSQL begins a new epoch, and may lose the newest events")
            }
            (LogKind::Disk | LogKind::Memory, _) => None,
        };
        Self { codec: config.codec.into(), bounds: (&config.bounds).into(), message, promise }
    }
}

#[derive(Clone)]
struct Parts {
    manager: Manager,
    limits: Announced,
}

pub(crate) fn routes<S: Clone + Send + Sync + 'static>(manager: &Manager, limits: Announced) -> Router<S> {
    Router::new()
        .route("/ws/health", get(health))
        .route("/ws/config", get(config))
        .route("/ws/stats", get(stats))
        .with_state(Parts { manager: manager.clone(), limits })
}

/// 200 while new connections are admitted, else 503, as `/readyz`.
async fn health(State(parts): State<Parts>) -> Response {
    let ready = parts.manager.is_ready();
    let (status, word) =
        if ready { (StatusCode::OK, "healthy") } else { (StatusCode::SERVICE_UNAVAILABLE, "unhealthy") };
    let mode = mode_name(parts.manager.health().mode);
    answer(status, &json!({ "status": word, "mode": mode.to_string(), "timestamp": now_ms() }))
}

async fn config(State(Parts { limits, .. }): State<Parts>) -> Response {
    let websocket = json!({
        "heartbeat_interval": limits.bounds.heartbeat.as_secs().max(1),
        "max_message_size": limits.message,
        "max_connections_per_user": limits.bounds.connections,
        "path": "/ws",
        "subprotocols": [Codec::V1.subprotocol(), Codec::Legacy.subprotocol()],
        "without_subprotocol": limits.codec.subprotocol(),
    });
    answer(StatusCode::OK, &json!({ "websocket": websocket }))
}

async fn stats(State(parts): State<Parts>) -> Response {
    let health = parts.manager.health();
    let stats: Value = json!({
        "active_connections": health.connections,
        "active_sessions": health.sessions,
        "active_runs": health.runs,
        "mode": mode_name(health.mode).to_string(),
        "timestamp": now_ms(),
    });
    answer(StatusCode::OK, &stats)
}
