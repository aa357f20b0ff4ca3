//! `POST /ws/ticket` or `/websocket/ticket`: exchanges a token for a single-use ticket. It is for clients that cannot send a header when they
//! connect and must not put the token where it could be logged.

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
pub struct TicketDesk {
    tickets: Tickets<Token>,
    limiter: Limiter<Arc<str>>,
    bearer: Bearer,
    clock: Clock,
}

#[derive(Serialize)]
struct Issued<'a> {
    ticket: &'a str,
    expires_in: u64,
}

impl Redeem for TicketDesk {
    fn redeem<'a>(&'a self, ticket: &'a str) -> BoxFuture<'a, Result<Option<Token>, NotVerified>> {
        Box::pin(core::future::ready(Ok(Self::redeem(self, ticket))))
    }
}

impl TicketDesk {
    /// A desk that issues tickets for tokens that `verifier` accepts. `clock` must not go back, such as
    /// [`Clock::monotonic`].
    #[must_use]
    pub fn new(verifier: Arc<dyn Verifier>, clock: Clock) -> Self {
        let limiter = Limiter::new(RATE, MAX_TICKETS, clock.clone());
        Self { tickets: Tickets::new(MAX_TICKETS), limiter, bearer: Bearer::new(verifier), clock }
    }

    /// Sets the rate, [`RATE`] by default.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        Self { limiter: Limiter::new(rate, MAX_TICKETS, self.clock.clone()), ..self }
    }

    /// Redeems a ticket, once, and returns its token. `None` if the ticket was already redeemed, has expired, or never
    /// existed. The token must be verified like any other: it may have expired or been revoked since.
    #[must_use]
    pub fn redeem(&self, ticket: &str) -> Option<Token> {
        let bytes: [u8; TICKET] = URL_SAFE_NO_PAD.decode(ticket).ok()?.try_into().ok()?;
        self.tickets.redeem(digest(&bytes), self.clock.now())
    }

    async fn issue(&self, headers: &HeaderMap) -> Result<Response, Problem> {
        let (token, identity) = self.bearer.identify(headers).await?;
        self.limiter.take(&identity.subject).map_err(Problem::too_often)?;
        let bytes = random_bytes::<TICKET>().map_err(|reason| Problem::unavailable(&reason.to_string()))?;
        let now = self.clock.now();
        let expires = now.saturating_add(millis(LIFETIME.min(identity.lifetime)));
        self.tickets
            .issue(digest(&bytes), token, now, expires)
            .map_err(|_| Problem::unavailable("too many tickets are open"))?;
        let ticket = URL_SAFE_NO_PAD.encode(bytes);
        Ok(ok(&Issued { ticket: &ticket, expires_in: LIFETIME.min(identity.lifetime).as_secs() }))
    }
}

/// `POST /ws/ticket` and `POST /websocket/ticket`.
pub fn ticket_routes<S>(desk: Arc<TicketDesk>) -> Router<S> {
    async fn issue(State(desk): State<Arc<TicketDesk>>, headers: HeaderMap) -> Result<Response, Problem> {
        desk.issue(&headers).await
    }
    Router::new().route("/ws/ticket", post(issue)).route("/websocket/ticket", post(issue)).with_state(desk)
}

fn digest(ticket: &[u8; TICKET]) -> TicketDigest {
    TicketDigest(Sha256::digest(ticket).into())
}

impl fmt::Debug for TicketDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketDesk(..)")
    }
}
