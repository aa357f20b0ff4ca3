//! The user of a request, by its bearer token.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use lockstep::payload::Token;
use lockstep::upgrade::bearer;
use lockstep::verify::{Identity, NotVerified, Reports, Verifier};

use super::answer::Problem;

/// Verifies the token in `Authorization`.
pub(super) struct Bearer {
    verifier: Arc<dyn Verifier>,
    reports: Reports,
}

impl Bearer {
    pub(super) fn new(verifier: Arc<dyn Verifier>) -> Self {
        Self { verifier, reports: Reports::new() }
    }

    /// The token of a request, and its user.
    pub(super) async fn identify(&self, headers: &HeaderMap) -> Result<(Token, Identity), Problem> {
        let presented = bearer(headers).map(Token::new);
        let token = presented.ok_or(Problem::new(
            StatusCode::UNAUTHORIZED,
            "no_token",
            "the token is missing: send it as `Authorization: Bearer …`",
        ))?;
        let verified = self.verifier.verify(&token).await.inspect_err(|not| self.reports.take(not));
        let identity = verified.map_err(|not| match not {
            NotVerified::Rejected(_) => Problem::new(StatusCode::UNAUTHORIZED, "rejected", "the token is not valid"),
            NotVerified::Unavailable(_) => Problem::later(),
        })?;
        Ok((token, identity))
    }
}
