//! What is said on the connections of the session, and what must be said to a message that comes again.

use lockstep_model::connection::{self, Connection};
use lockstep_model::session::Input;
use lockstep_model::{Attempt, Bounds, ConnectionId, Offset, Request, Resume, RunId};

use super::{Member, Seen, State, valid, wanted};

impl State {
    /// Behind which event the stream can be read.
    pub(super) const fn tail(&self, bounds: &Bounds) -> u64 {
        self.events.saturating_sub(bounds.retained as u64)
    }

    /// Where the run of a message began that is remembered: what follows can be read, or it is open. Of any other nobody can
    /// say anything to a connection that has not resumed.
    pub(super) fn known(&self, bounds: &Bounds, message: u64) -> Option<Offset> {
        let begun = usize::try_from(message - 1).ok().and_then(|index| self.begun.get(index)).copied().unwrap_or(0);
        (begun > self.tail(bounds) || self.runs.contains(&RunId(message))).then_some(Offset(begun))
    }

    pub(super) fn renew(
        &mut self,
        bounds: &Bounds,
        connection: ConnectionId,
        credential: u64,
        generation: u32,
        seen: &mut Seen,
    ) {
        let auth = Request::Auth { token: 2, resume: Resume::default() };
        self.feed(bounds, Input::Connection { connection, input: connection::Input::Received(auth) }, seen);
        let member = self.session.members().get(&connection);
        let attempt = member.map_or(Attempt(0), |member| member.connection.auth().newest());
        let input = connection::Input::Verdict { attempt, verdict: valid(credential, generation) };
        self.feed(bounds, Input::Connection { connection, input }, seen);
    }

    /// The first connection that is there says something.
    pub(super) fn say(&mut self, bounds: &Bounds, request: Request<u8>, seen: &mut Seen) {
        if let Some(Member { id: connection, .. }) = self.members.first().copied() {
            let input = connection::Input::Received(request);
            self.feed(bounds, Input::Connection { connection, input }, seen);
        }
    }
}

/// A connection that was verified, on its way into the session.
pub(super) fn attaching(bounds: &Bounds, id: ConnectionId, credential: u64, generation: u32) -> Connection<u8> {
    let mut out = Vec::new();
    let mut connection = Connection::accept(bounds, id, &mut out);
    let auth = Request::Auth { token: 1, resume: Resume { from: wanted(credential), replaces: None } };
    let verdict = connection::Input::Verdict { attempt: Attempt(1), verdict: valid(credential, generation) };
    for input in [connection::Input::Opened, connection::Input::Received(auth), verdict] {
        let _ = connection.step(bounds, input, &mut out);
    }
    connection
}
