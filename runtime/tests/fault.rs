//! What becomes of a machine that breaks an invariant or panics: it is not used again, and nothing it held is lost.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lockstep::shell::cell::CHECK_EVERY;
use lockstep::shell::{Carry, Effects, Fault, Machine, Port, Registry, Shell};
use lockstep_model::connection;
use lockstep_model::frame::{Request, Resume};
use lockstep_model::stream::Snapshot;
use lockstep_model::{
    Attempt, Bounds, Cause, ConnectionId, CredentialId, Epoch, Frame, Generation, Grant, Handled, Lifetime, MessageId,
    Offset, RunId, Tenure, ThreadId, UserId, Verdict, Violation, gateway, node, session,
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
    type Order = ();
    type Orders = Vec<()>;
    type Answer = ();

    fn step(&mut self, (): &(), input: Input, out: &mut Vec<()>) {
        match input {
            Input::Nothing => out.push(()),
            Input::Break => self.broken = true,
            Input::Panic => panic!("as I was told"),
        }
    }

    fn orders(out: &mut Vec<()>) -> &mut Vec<()> {
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

impl Carry<Obedient> for Faults {
    fn carry(&mut self, (): &(), (): ()) {}

    fn abandon(&mut self, (): &(), fault: Fault) {
        self.add(fault);
    }
}

/// Enters the user's cell and steps it; the generation of the cell that took the step.
fn step(registry: &Registry<Obedient, Faults>, faults: &Faults, input: Input) -> Generation {
    let open = |_, _: &mut Vec<()>| (Obedient::default(), faults.clone());
    let (cell, ()) = registry.enter(&(), USER, open, |live| live.step(input));
    cell.generation()
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
    assert!(panicked.is_err(), "the panic goes on to whoever asked for the step");
    assert_eq!(faults.seen(), [Fault::Panicked]);
    assert_eq!(step(&registry, &faults, Input::Nothing), Generation(2), "its successor takes the steps");
}

#[test]
fn a_visitor_that_panics_outside_a_step_harms_nobody() {
    let (registry, faults) = (Registry::new(NonZeroUsize::MIN), Faults::default());
    step(&registry, &faults, Input::Nothing);
    let open = |_, _: &mut Vec<()>| (Obedient::default(), faults.clone());
    let panicked = catch_unwind(AssertUnwindSafe(|| registry.enter(&(), USER, open, |_| panic!("not in a step"))));
    assert!(panicked.is_err());
    assert_eq!(step(&registry, &faults, Input::Nothing), Generation(1), "the machine is as it was");
    assert_eq!(faults.seen(), []);
}

/// A driver that panics when it is asked to launch an agent.
#[derive(Debug, Default)]
struct Clumsy(Faults);

impl Effects<u8> for Clumsy {
    fn apply(&self, order: gateway::Output<u8>) {
        if let gateway::Output::Session { order: gateway::Order::Launch { .. }, .. } = order {
            panic!("dropped it");
        }
    }

    fn quiet(&self) {}

    fn fault(&self, _: UserId, _: Generation, fault: Fault) {
        self.0.add(fault);
    }
}

fn join(shell: &Arc<Shell<u8, Clumsy>>, id: u64) -> Port<u8, Clumsy> {
    let mut port = Port::accept(shell, ConnectionId(id)).expect("the node admits");
    let grant = Grant { user: USER, credential: CredentialId(id), generation: Generation(0) };
    let lifetime = Lifetime::new(Duration::from_secs(60)).expect("not zero");
    for input in [
        connection::Input::Opened,
        connection::Input::Received(Request::Auth { token: 0, resume: Resume::default() }),
        connection::Input::Verdict { attempt: Attempt(1), verdict: Verdict::Valid { grant, lifetime } },
    ] {
        assert_eq!(port.step(input), Handled::Done);
    }
    port
}

#[test]
fn the_connections_of_a_session_that_panicked_close_with_1011_and_the_next_session_is_a_new_one() {
    let shell = Arc::new(Shell::new(Bounds::DEFAULT, Clumsy::default()));
    assert_eq!(shell.steer(node::Input::Started), Ok(Handled::Done));
    let mut ports = [join(&shell, 1), join(&shell, 2)];
    let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), generation: Generation(1) });
    let restored = session::Input::Restored { attempt: Attempt(1), snapshot };
    assert_eq!(shell.session(USER, Generation(1), restored), Ok(Handled::Done));
    let message = Request::Message {
        message: MessageId(1),
        thread: ThreadId(1),
        run: RunId(1),
        payload: 0,
        repeat: false,
        replaces: None,
    };
    assert_eq!(ports[0].step(connection::Input::Received(message)), Handled::Done);
    let persisted = || session::Input::Persisted { batch: Generation(0), offset: Offset(1), record: None };
    let panicked = catch_unwind(AssertUnwindSafe(|| shell.session(USER, Generation(1), persisted())));
    assert!(panicked.is_err());
    assert_eq!(shell.effects().0.seen(), [Fault::Panicked]);
    assert_eq!(shell.session(USER, Generation(1), persisted()), Ok(Handled::Ignored), "the old one is over");

    for port in &mut ports {
        let mut frames = Vec::new();
        port.pull(4, &mut frames);
        assert_eq!(frames, [Frame::Close(Cause::Fault)]);
        assert_eq!(port.step(connection::Input::Gone(Cause::PeerClosed)), Handled::Done);
        assert_eq!(port.closed(), Some(Cause::Fault));
    }
    assert_eq!((shell.node().connections(), shell.node().sessions()), (0, 0), "nobody is counted twice or left");

    let port = join(&shell, 3);
    assert_eq!(shell.look(USER, |generation, session| (generation, session.members().len())), Some((Generation(2), 1)));
    drop(port);
    assert_eq!(shell.node().connections(), 0, "a port that is dropped closes its connection");
}
