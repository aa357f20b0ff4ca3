//! Bad input on real sockets. Each kind gets the error or close code from the table, while another user and another tab
//! of the same user have their messages answered undisturbed.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{get, post};
use lockstep::Manager;
use lockstep::agent::Agent;
use lockstep::log::{Log, MemoryLog};
use lockstep::testing::{AnyToken, Echo};
use lockstep::verify::Verifier;
use lockstep::verify::clock::Clock;
use lockstep_gateway::config::{Config, LogKind};
use lockstep_gateway::login::{TicketService, ticket_routes};
use lockstep_gateway::serve::{Serving, accept, bind};
use lockstep_tests::agent::noted;
use lockstep_tests::history::History;
use tokio::task::JoinHandle;

pub(crate) mod client;
mod credentials;
mod floods;
mod frames;
mod limits;
mod logs;
mod requests;
mod secrets;
pub(crate) mod starts;
mod upgrades;

use self::client::{Client, Others};
pub(crate) use self::secrets::Pages;
use crate::judged::Record;

/// A gateway in this process with its own listener. Dropping it ends and checks it.
pub(crate) struct Gateway {
    pub(crate) manager: Manager,
    pub(crate) address: SocketAddr,
    listener: JoinHandle<()>,
    _record: Record,
}

/// The gateway's verifier, agent and log, and the destination of its history.
pub(crate) struct Parts {
    pub(crate) verifier: Arc<dyn Verifier>,
    pub(crate) agent: Arc<dyn Agent>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) history: History,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            verifier: Arc::new(AnyToken),
            agent: Arc::new(Echo),
            log: Arc::new(MemoryLog::new()),
            history: History::in_memory(),
        }
    }
}

impl Gateway {
    /// A gateway with these configuration changes that admits any user.
    pub(crate) async fn open(change: impl FnOnce(&mut Config)) -> Self {
        Self::of(Parts::default(), change).await
    }

    pub(crate) async fn of(parts: Parts, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
        config.log.kind = LogKind::Memory;
        // All peers are on loopback.
        config.bounds.close_ms = 1_500;
        change(&mut config);
        let tickets = Arc::new(TicketService::new(Arc::clone(&parts.verifier), Clock::monotonic()));
        let redeem = Arc::clone(&tickets);
        config.bounds.pong_ms = config.bounds.pong_ms.min(config.bounds.heartbeat_ms);
        let bounds = (&config.bounds).into();
        let agent = noted(parts.history.clone(), parts.agent);
        let mut record = Record::of_manager(&bounds, parts.history);
        let manager = Manager::builder()
            .trace(record.trace())
            .verifier(parts.verifier)
            .agent(agent)
            .log(parts.log)
            .bounds(bounds)
            .limits(config.limits.socket())
            .origins(config.origins.clone())
            .codec(config.codec.into())
            .tickets(redeem)
            .build()
            .expect("a manager");
        let socket = manager.clone();
        let router = Router::new()
            .route("/ws", get(async move |request: Request| socket.upgrade(request).map(Body::from)))
            .route("/body", post(async |body: String| body))
            .merge(ticket_routes(tickets));
        let listener = bind(config.listen).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        record.serves(address);
        let serving = Serving::new(&config, manager.draining());
        let listener = tokio::spawn(accept(listener, router, serving));
        Self { manager, address, listener, _record: record }
    }

    /// A connection that has received `connection_ready` for this token's user.
    pub(crate) async fn live(&self, token: &str) -> Client {
        Client::live(self.address, token).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Mallory violates the protocol once live, and receives this close code. Other connections notice nothing.
async fn is_closed(code: u16, attack: impl AsyncFnOnce(&mut Client)) {
    let gateway = Gateway::open(|_| {}).await;
    let mut others = Others::arrive(gateway.address).await;
    let mut mallory = gateway.live("mallory").await;
    attack(&mut mallory).await;
    assert_eq!(mallory.end().await, code);
    others.notice_nothing().await;
}
