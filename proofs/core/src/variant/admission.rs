//! Admissions that break SH-4.

use std::collections::BTreeSet;

use lockstep_model::connection::{self, State};
use lockstep_model::frame::{Request, Resume};
use lockstep_model::session::{Input, Outputs};
use lockstep_model::stream::Snapshot;
use lockstep_model::{
    AcquisitionId, Bounds, Connection, ConnectionId, Epoch, FencingToken, Handled, Mode, Session, Successor, Tenure,
};

use super::scenario::fixture::{USER, verdict};
use super::scenario::sh4::{AdmissionList, Hosting};
use super::sync::{Mutex, lock};

/// The admitted connections, and the notified ones.
#[derive(Debug)]
struct List {
    open: bool,
    admitted: BTreeSet<u64>,
    told: BTreeSet<u64>,
}

impl List {
    fn open() -> Mutex<Self> {
        Mutex::new(Self { open: true, admitted: BTreeSet::new(), told: BTreeSet::new() })
    }
}

/// Lists the connections to notify before it closes the admission.
#[derive(Debug)]
pub struct SnapshotFirst(Mutex<List>);

impl AdmissionList for SnapshotFirst {
    fn open() -> Self {
        Self(List::open())
    }

    fn admit(&self, id: u64) -> bool {
        let mut list = lock(&self.0);
        list.open && list.admitted.insert(id)
    }

    fn drain(&self) {
        let to_tell = lock(&self.0).admitted.clone();
        let mut list = lock(&self.0);
        list.open = false;
        list.told = to_tell;
    }

    fn told(&self, id: u64) -> bool {
        lock(&self.0).told.contains(&id)
    }
}

/// Puts a connection on the list after the step that admitted it.
#[derive(Debug)]
pub struct ListedLater(Mutex<List>);

impl AdmissionList for ListedLater {
    fn open() -> Self {
        Self(List::open())
    }

    fn admit(&self, id: u64) -> bool {
        let admitted = lock(&self.0).open;
        if admitted {
            lock(&self.0).admitted.insert(id);
        }
        admitted
    }

    fn drain(&self) {
        let mut list = lock(&self.0);
        list.open = false;
        list.told = list.admitted.clone();
    }

    fn told(&self, id: u64) -> bool {
        lock(&self.0).told.contains(&id)
    }
}

/// The real session behind a lock, and the node's mode behind another. A join passes the mode that it reads, and a
/// session that the join has brought into that mode is taken for one that was told to leave.
#[derive(Debug)]
pub struct ModeSwallowed {
    mode: Mutex<Mode>,
    session: Mutex<(Session<u8>, Outputs<u8>)>,
}

impl ModeSwallowed {
    fn step(&self, input: impl FnOnce() -> Input<u8>) {
        let (session, outputs) = &mut *lock(&self.session);
        let stepped = session.step(&Bounds::DEFAULT, input(), outputs);
        assert!(stepped.is_ok(), "the session is live: {stepped:?}");
        outputs.list.clear();
    }
}

impl Hosting for ModeSwallowed {
    fn open(_: usize) -> Self {
        let mut outputs = Outputs::new();
        let session = Session::open(&Bounds::DEFAULT, USER, Mode::Ready, &mut outputs);
        let hosting = Self { mode: Mutex::new(Mode::Ready), session: Mutex::new((session, outputs)) };
        let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1) });
        hosting.step(|| Input::Restored { attempt: AcquisitionId(1), snapshot });
        hosting
    }

    fn without_session(connections: usize) -> Self {
        Self::open(connections)
    }

    fn join(&self, id: u64) {
        let mut outputs = Vec::new();
        let mut connection = Connection::accept(&Bounds::DEFAULT, ConnectionId(id), &mut outputs);
        let auth = Request::Auth { token: 0, resume: Resume::default() };
        for input in [connection::Input::Opened, connection::Input::Received(auth), verdict(id)] {
            let _ = connection.step(&Bounds::DEFAULT, input, &mut outputs);
        }
        self.step(|| {
            let mode = *lock(&self.mode);
            Input::Join { connection: Box::new(connection), mode }
        });
    }

    fn drain(&self) {
        *lock(&self.mode) = Mode::Draining;
        let (session, outputs) = &mut *lock(&self.session);
        if session.step(&Bounds::DEFAULT, Input::Mode(Mode::Draining), outputs) == Ok(Handled::Done) {
            let _ = session.step(&Bounds::DEFAULT, Input::Leave(Successor::Absent), outputs);
        }
        outputs.list.clear();
    }

    fn untold(&self) -> Vec<ConnectionId> {
        let (session, _) = &*lock(&self.session);
        let live = session.members().iter();
        live.filter(|(_, member)| !matches!(member.connection.state(), State::Draining)).map(|(id, _)| *id).collect()
    }

    fn finish(&self) {}
}
