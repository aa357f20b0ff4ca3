//! What becomes of a machine that breaks an invariant or panics: it is not used again, and nothing it held is lost.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lockstep::core::slot::CHECK_EVERY;
use lockstep::core::{ConnectionHandle, Core, Dispatch, Effects, Fault, Machine, Registry};
use lockstep_model::connection;
use lockstep_model::frame::{Request, Resume};
use lockstep_model::stream::Snapshot;
use lockstep_model::{
    AcquisitionId, BatchId, Bounds, Cause, ConnectionId, CredentialId, Epoch, FencingToken, Frame, Generation, Grant,
    Handled, Lifetime, MessageId, Offset, RevocationGeneration, RunId, Tenure, ThreadId, UserId, Verdict,
    VerificationId, Violation, gateway, node, session,
};

const USER: UserId = UserId(1);

/// A machine that does what it is told, however wrong.
#[derive(Debug, Default)]
struct Obedient {
    broken: bool,
}

#[derive(Clone, Copy, Debug)]
enum Input {
    Nothing,
    Break,
    Panic,
}

impl Machine for Obedient {
    type Bounds = ();
    type Input = Input;
    type Output = ();
    type Outputs = Vec<()>;
    type Answer = ();

    fn step(&mut self, (): &(), input: Input, out: &mut Vec<()>) {
        match input {
            Input::Nothing => out.push(()),
            Input::Break => self.broken = true,
            Input::Panic => panic!("as I was told"),
        }
    }

    fn outputs(out: &mut Vec<()>) -> &mut Vec<()> {
        out
    }

    fn is_over(&self) -> bool {
        false
    }

    fn check(&self, (): &()) -> Result<(), Violation> {
        if self.broken { Err(Violation("SES-1")) } else { Ok(()) }
    }
}

#[derive(Clone, Debug, Default)]
struct Faults(Arc<Mutex<Vec<Fault>>>);

impl Faults {
    fn seen(&self) -> Vec<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }
}

impl Dispatch<Obedient> for Faults {
    fn dispatch(&mut self, (): &(), (): ()) {}

    fn abandon(&mut self, (): &(), fault: Fault) {
        self.add(fault);
    }
}

/// Enters the user's slot and steps it; the generation of the slot that took the step.
fn step(registry: &Registry<Obedient, Faults>, faults: &Faults, input: Input) -> Generation {
    let open = |_, _: &mut Vec<()>| (Obedient::default(), faults.clone());
    let (slot, ()) = registry.with_or_open(&(), USER, open, |live| live.step(input));
    slot.generation()
}

#[test]
fn a_machine_that_breaks_an_invariant_is_abandoned_within_the_interval_of_checks() {
    let (registry, faults) = (Registry::new(NonZeroUsize::MIN), Faults::default());
    assert_eq!(step(&registry, &faults, Input::Nothing), Generation(1));
    step(&registry, &faults, Input::Break);
    for _ in 0..CHECK_EVERY {
        step(&registry, &faults, Input::Nothing);
    }
    assert_eq!(faults.seen(), [Fault::Broken(Violation("SES-1"))]);
    assert_eq!(step(&registry, &faults, Input::Nothing), Generation(2), "its successor takes the steps");
}

#[test]
fn a_machine_that_panics_is_abandoned_at_once() {
    let (registry, faults) = (Registry::new(NonZeroUsize::MIN), Faults::default());
    step(&registry, &faults, Input::Nothing);
    let panicked = catch_unwind(AssertUnwindSafe(|| step(&registry, &faults, Input::Panic)));
    assert!(panicked.is_err(), "the panic reaches the caller of the step");
    assert_eq!(faults.seen(), [Fault::Panicked]);
    assert_eq!(step(&registry, &faults, Input::Nothing), Generation(2), "its successor takes the steps");
}

#[test]
fn a_panic_outside_a_step_leaves_the_machine_as_it_was() {
    let (registry, faults) = (Registry::new(NonZeroUsize::MIN), Faults::default());
    step(&registry, &faults, Input::Nothing);
    let open = |_, _: &mut Vec<()>| (Obedient::default(), faults.clone());
    let panicked =
        catch_unwind(AssertUnwindSafe(|| registry.with_or_open(&(), USER, open, |_| panic!("not in a step"))));
    assert!(panicked.is_err());
    assert_eq!(step(&registry, &faults, Input::Nothing), Generation(1), "the machine is as it was");
    assert_eq!(faults.seen(), []);
}

/// A driver that panics when it is asked to launch an agent.
#[derive(Debug, Default)]
struct Clumsy(Faults);

impl Effects<u8> for Clumsy {
    fn apply(&self, output: gateway::Output<u8>) {
        if let gateway::Output::Session { output: gateway::SessionOutput::Launch { .. }, .. } = output {
            panic!("dropped it");
        }
    }

    fn quiet(&self) {}

    fn fault(&self, _: UserId, _: Generation, fault: Fault) {
        self.0.add(fault);
    }
}

fn join(core: &Arc<Core<u8, Clumsy>>, id: u64) -> ConnectionHandle<u8, Clumsy> {
    let mut handle = ConnectionHandle::accept(core, ConnectionId(id)).expect("the node admits");
    let grant = Grant { user: USER, credential: CredentialId(id), generation: RevocationGeneration(0) };
    let lifetime = Lifetime::new(Duration::from_secs(60)).expect("not zero");
    for input in [
        connection::Input::Opened,
        connection::Input::Received(Request::Auth { token: 0, resume: Resume::default() }),
        connection::Input::Verdict { attempt: VerificationId(1), verdict: Verdict::Valid { grant, lifetime } },
    ] {
        assert_eq!(handle.step(input), Handled::Done);
    }
    handle
}

#[test]
fn the_connections_of_a_session_that_panicked_close_with_1011_and_the_next_session_is_a_new_one() {
    let core = Arc::new(Core::new(Bounds::DEFAULT, Clumsy::default()));
    assert_eq!(core.steer(node::Input::Started), Ok(Handled::Done));
    let mut ports = [join(&core, 1), join(&core, 2)];
    let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1) });
    let restored = session::Input::Restored { attempt: AcquisitionId(1), snapshot };
    assert_eq!(core.session(USER, Generation(1), restored), Ok(Handled::Done));
    let message = Request::Message {
        message: MessageId(1),
        thread: ThreadId(1),
        run: RunId(1),
        payload: 0,
        repeat: false,
        replaces: None,
    };
    assert_eq!(ports[0].step(connection::Input::Received(message)), Handled::Done);
    let persisted = || session::Input::Persisted { batch: BatchId(0), offset: Offset(1), record: None };
    let panicked = catch_unwind(AssertUnwindSafe(|| core.session(USER, Generation(1), persisted())));
    assert!(panicked.is_err());
    assert_eq!(core.effects().0.seen(), [Fault::Panicked]);
    assert_eq!(core.session(USER, Generation(1), persisted()), Ok(Handled::Ignored), "the old one is over");

    for handle in &mut ports {
        let mut frames = Vec::new();
        handle.pull(4, &mut frames);
        assert_eq!(frames, [Frame::Close(Cause::Fault)]);
        assert_eq!(handle.step(connection::Input::Gone(Cause::PeerClosed)), Handled::Done);
        assert_eq!(handle.closed(), Some(Cause::Fault));
    }
    assert_eq!(
        (core.node().connections(), core.node().sessions()),
        (0, 0),
        "a connection or session is counted twice or left"
    );

    let handle = join(&core, 3);
    assert_eq!(core.look(USER, |generation, session| (generation, session.members().len())), Some((Generation(2), 1)));
    drop(handle);
    assert_eq!(core.node().connections(), 0, "a handle that is dropped closes its connection");
}
