//! `POST /ws/ticket` or `/websocket/ticket`: exchanges a token for a single-use ticket. It is for clients that cannot
//! send a header when they connect, and must not put the token in a URL, which may be logged.
//!
//! In a cluster, tickets are in the engine of its log, and each gateway redeems them. The engine has a ticket's digest
//! and the token, masked with a digest of the ticket. So the tables and their backups reveal no token.

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lockstep::BoxFuture;
use lockstep::internal::gateways::Shared;
use lockstep::internal::{TicketDigest, Tickets, millis, random_bytes};
use lockstep::payload::Token;
use lockstep::verify::Redeem;
use lockstep::verify::clock::Clock;
use lockstep::verify::{NotVerified, Verifier};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::limit::{Limiter, Rate};
use crate::answer::{Problem, ok};
use crate::bearer::Bearer;

/// The most open tickets.
pub const MAX_TICKETS: usize = 65_536;
/// How long a ticket can be redeemed.
pub const LIFETIME: Duration = Duration::from_secs(30);
/// The ticket rate of one user.
pub const RATE: Rate = Rate { burst: 32, refill: Duration::from_secs(1) };
/// The length of a ticket in bytes.
const TICKET: usize = 32;

/// Issues and redeems tickets.
pub struct TicketService {
    /// The open tickets; with an engine, those that were issued here, to count them.
    tickets: Tickets<Token>,
    engine: Option<Shared>,
    limiter: Limiter<Arc<str>>,
    bearer: Bearer,
    clock: Clock,
}

#[derive(Serialize)]
struct Issued<'a> {
    ticket: &'a str,
    expires_in: u64,
}

impl Redeem for TicketService {
    fn redeem<'a>(&'a self, ticket: &'a str) -> BoxFuture<'a, Result<Option<Token>, NotVerified>> {
        Box::pin(async move {
            match &self.engine {
                None => Ok(Self::redeem(self, ticket)),
                Some(engine) => take(engine, ticket).await,
            }
        })
    }
}

impl TicketService {
    /// A service that issues tickets for tokens that `verifier` accepts. `clock` must not go back, such as
    /// [`Clock::monotonic`].
    #[must_use]
    pub fn new(verifier: Arc<dyn Verifier>, clock: Clock) -> Self {
        let limiter = Limiter::new(RATE, MAX_TICKETS, clock.clone());
        Self { tickets: Tickets::new(MAX_TICKETS), engine: None, limiter, bearer: Bearer::new(verifier), clock }
    }

    /// Keeps tickets in this engine, whose gateways all redeem them.
    #[must_use]
    pub fn shared(self, engine: Shared) -> Self {
        Self { engine: Some(engine), ..self }
    }

    /// Sets the rate, [`RATE`] by default.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        Self { limiter: Limiter::new(rate, MAX_TICKETS, self.clock.clone()), ..self }
    }

    /// Redeems a ticket, once, and returns its token. `None` if the ticket was already redeemed, has expired, or never
    /// existed, or is in an engine. The token must be verified like any other: it may have expired or been revoked since.
    #[must_use]
    pub fn redeem(&self, ticket: &str) -> Option<Token> {
        let bytes = read(ticket)?;
        self.tickets.redeem(digest(&bytes), self.clock.now())
    }

    async fn issue(&self, headers: &HeaderMap) -> Result<Response, Problem> {
        let (token, identity) = self.bearer.identify(headers).await?;
        self.limiter.take(&identity.subject).map_err(Problem::too_often)?;
        let bytes = random_bytes::<TICKET>().map_err(|reason| Problem::unavailable(&reason.to_string()))?;
        let (now, lifetime) = (self.clock.now(), LIFETIME.min(identity.lifetime));
        let masked = self.engine.as_ref().map(|_| mask(&bytes, token.expose().as_bytes()));
        let stands_for = if masked.is_some() { Token::new("") } else { token };
        self.tickets
            .issue(digest(&bytes), stands_for, now, now.saturating_add(millis(lifetime)))
            .map_err(|_| Problem::unavailable("too many tickets are open"))?;
        if let (Some(engine), Some(masked)) = (&self.engine, masked) {
            let kept = engine.keep_ticket(&digest(&bytes).0, &masked, lifetime).await;
            kept.map_err(|error| Problem::unavailable(&error.to_string()))?;
        }
        let ticket = URL_SAFE_NO_PAD.encode(bytes);
        Ok(ok(&Issued { ticket: &ticket, expires_in: lifetime.as_secs() }))
    }
}

/// `POST /ws/ticket` and `POST /websocket/ticket`.
pub fn ticket_routes<S>(service: Arc<TicketService>) -> Router<S> {
    async fn issue(State(service): State<Arc<TicketService>>, headers: HeaderMap) -> Result<Response, Problem> {
        service.issue(&headers).await
    }
    Router::new().route("/ws/ticket", post(issue)).route("/websocket/ticket", post(issue)).with_state(service)
}

/// Redeems a ticket of the cluster.
async fn take(engine: &Shared, ticket: &str) -> Result<Option<Token>, NotVerified> {
    let Some(bytes) = read(ticket) else { return Ok(None) };
    let taken = engine.take_ticket(&digest(&bytes).0).await;
    let masked = taken.map_err(|error| NotVerified::Unavailable(error.to_string()))?;
    let token = masked.and_then(|masked| String::from_utf8(mask(&bytes, &masked)).ok());
    Ok(token.map(|token| Token::new(&token)))
}

fn read(ticket: &str) -> Option<[u8; TICKET]> {
    URL_SAFE_NO_PAD.decode(ticket).ok()?.try_into().ok()
}

/// Masks a token, or unmasks it: each 32 bytes with a digest of the ticket and their number. A ticket masks one token.
fn mask(ticket: &[u8; TICKET], token: &[u8]) -> Vec<u8> {
    let mut masked = token.to_vec();
    for (number, chunk) in (0_u64..).zip(masked.chunks_mut(32)) {
        let key = Sha256::new().chain_update(b"lockstep ticket\0").chain_update(ticket);
        let key = key.chain_update(number.to_be_bytes()).finalize();
        for (byte, key) in chunk.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    masked
}

fn digest(ticket: &[u8; TICKET]) -> TicketDigest {
    TicketDigest(Sha256::digest(ticket).into())
}

impl fmt::Debug for TicketService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketService(..)")
    }
}
