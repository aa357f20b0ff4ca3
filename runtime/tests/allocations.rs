//! A steady-state emit allocates its payload and nothing else.

use std::sync::Arc;
use std::time::Duration;

use lockstep::core::{ConnectionHandle, Core, Effects, Fault};
use lockstep_model::connection;
use lockstep_model::frame::{Request, Resume};
use lockstep_model::stream::Snapshot;
use lockstep_model::{
    AcquisitionId, BatchId, Bounds, ConnectionId, CredentialId, Epoch, FencingToken, Frame, Generation, Grant, Handled,
    Lifetime, MessageId, Offset, RevocationGeneration, RunId, Tenure, ThreadId, UserId, Verdict, VerificationId,
    gateway, node, run, session,
};

type Payload = Arc<[u8]>;

struct Sink;

impl Effects<Payload> for Sink {
    fn apply(&self, _: gateway::Output<Payload>) {}

    fn quiet(&self) {}

    fn fault(&self, _: UserId, _: Generation, fault: Fault) {
        panic!("{fault:?}");
    }
}

const USER: UserId = UserId(1);
const RUN: RunId = RunId(1);

fn step(core: &Core<Payload, Sink>, input: session::Input<Payload>) {
    assert_eq!(core.session(USER, Generation(1), input), Ok(Handled::Done));
}

#[test]
fn a_steady_state_emit_allocates_its_payload_and_nothing_else() {
    let bounds = Bounds { retained: 16, ..Bounds::DEFAULT };
    let core = Arc::new(Core::new(bounds, Sink));
    assert_eq!(core.steer(node::Input::Started), Ok(Handled::Done));
    let mut handle = ConnectionHandle::accept(&core, ConnectionId(1)).expect("the node admits");
    let grant = Grant { user: USER, credential: CredentialId(1), generation: RevocationGeneration(0) };
    let lifetime = Lifetime::new(Duration::from_secs(60)).expect("not zero");
    let message = Request::Message {
        message: MessageId(1),
        thread: ThreadId(1),
        run: RUN,
        payload: Arc::from([]),
        repeat: false,
        replaces: None,
    };
    for input in [
        connection::Input::Opened,
        connection::Input::Received(Request::Auth { token: Arc::from([]), resume: Resume::default() }),
        connection::Input::Verdict { attempt: VerificationId(1), verdict: Verdict::Valid { grant, lifetime } },
        connection::Input::Received(message),
    ] {
        assert_eq!(handle.step(input), Handled::Done);
    }
    let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1) });
    step(&core, session::Input::Restored { attempt: AcquisitionId(1), snapshot });
    step(&core, session::Input::Persisted { batch: BatchId(0), offset: Offset(1), record: None });
    step(&core, session::Input::Run { run: RUN, input: run::Input::Start, payload: None });
    step(&core, session::Input::Persisted { batch: BatchId(0), offset: Offset(2), record: None });

    let mut frames = Vec::with_capacity(4);
    let mut offset = 2;
    let mut emit = || {
        offset += 1;
        let payload = Arc::from(*b"a token");
        step(&core, session::Input::Run { run: RUN, input: run::Input::Think, payload: Some(payload) });
        step(&core, session::Input::Persisted { batch: BatchId(0), offset: Offset(offset), record: None });
        frames.clear();
        handle.pull(4, &mut frames);
        assert!(matches!(frames.last(), Some(Frame::Event(entry)) if entry.offset == Offset(offset)));
    };
    // Until what is retained is full, and every buffer has grown.
    (0..100).for_each(|_| emit());
    let emits = 1_000;
    let counted = allocation_counter::measure(|| (0..emits).for_each(|_| emit()));
    assert_eq!(counted.count_total, emits, "allocations of {emits} emits");
}
