//! One step that was split in two: production machines with a lock, a store or a limit that is checked, released, and
//! then used.
//!
//! In the sound version of each model the two halves are one step, as ensured by a session's lock, a store that redeems
//! atomically and an atomically swapped key set.

mod admission;
mod hub;
mod tickets;
mod verdicts;
mod window;

use super::Row;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = admission::rows();
    rows.extend(hub::rows());
    rows.extend(tickets::rows());
    rows.extend(verdicts::rows());
    rows.extend(window::rows());
    rows
}

/// Shared parts: a restored session, and connections that may join it.
mod parts {
    use lockstep_model::connection::Input;
    use lockstep_model::stream::Snapshot;
    use lockstep_model::{
        AcquisitionId, Bounds, Connection, ConnectionId, Epoch, FencingToken, Mode, Request, Resume, Session, Tenure,
        UserId, session,
    };

    use crate::races::hooks::welcome;

    /// Creates a session that the log has restored.
    pub(super) fn restored(bounds: &Bounds) -> Session<u8> {
        let mut outputs = session::Outputs::new();
        let mut session = Session::open(bounds, UserId(0), Mode::Ready, &mut outputs);
        let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1) });
        let restored = session::Input::Restored { attempt: AcquisitionId(1), snapshot };
        let _ = session.step(bounds, restored, &mut outputs);
        session
    }

    /// Creates a connection whose credential is being verified.
    pub(super) fn presented(bounds: &Bounds, id: u64) -> Connection<u8> {
        let mut outputs = Vec::new();
        let mut connection = Connection::accept(bounds, ConnectionId(id), &mut outputs);
        let auth = Request::Auth { token: 0, resume: Resume::default() };
        for input in [Input::Opened, Input::Received(auth)] {
            let _ = connection.step(bounds, input, &mut outputs);
        }
        connection
    }

    /// Creates a connection that may join.
    pub(super) fn verified(bounds: &Bounds, id: u64) -> Box<Connection<u8>> {
        let mut connection = presented(bounds, id);
        let verdict = Input::Verdict { attempt: connection.auth().newest(), verdict: welcome(UserId(0)) };
        let _ = connection.step(bounds, verdict, &mut Vec::new());
        Box::new(connection)
    }
}
