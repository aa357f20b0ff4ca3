//! What was revoked and who is logged in, in memory and in an append-only file: this drives the machine of the logins
//! ([`lockstep_model::login`]), and decides nothing.
//!
//! | what | where |
//! | --- | --- |
//! | the machine, and who waits for its answers | behind one lock, which is held for a step and no longer |
//! | the file | a thread of its own: a disk that does not answer holds up no task, and each request has a deadline |
//!
//! The orders of a step are carried out after the lock is released. Writes keep their order all the same: the machine
//! orders the next one when it has heard of the last.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;

use lockstep_model::login::revoked::{Issued, NotGood};
use lockstep_model::login::{Answer, Ask, Input, Limits, Logins, Now, Output, Record, Standing, Why};
use lockstep_model::{CredentialId, Handled};
use tokio::sync::oneshot;

use super::Revocation;
use super::clock::{Clock, millis};
use super::journal::Journal;
use crate::sync::lock;

mod file;

pub use file::FILE;

/// Single credentials of one subject. One more revokes the subject.
pub const MAX_CREDENTIALS: usize = 1024;
/// Revocations that are remembered. One more drops the oldest, and rejects what was issued before.
pub const MAX_REVOCATIONS: usize = 1 << 20;
/// Logins of one user. One more ends the one that was used the longest ago.
const MAX_PER_USER: usize = 32;
/// Logins in all. One more is refused.
const MAX_LOGINS: usize = 100_000;
/// Requests that wait for the disk. One more is answered that it is not possible now.
const MAX_WAITING: usize = 4096;
/// Lines that are appended before the file is replaced, unless it holds more than that by right.
const MIN_LINES: usize = 512;
/// How long a request waits for the disk.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// Between two attempts at a disk that refuses.
const REST: Duration = Duration::from_secs(1);

pub(crate) type Subject = Arc<str>;

/// What was revoked, and who is logged in; shared by all who issue or verify.
pub struct Revocations {
    core: Arc<Core>,
}

/// Who is told that a login has ended, before anyone is answered.
pub(crate) type Ended = Box<dyn Fn(Subject, CredentialId, Why) + Send + Sync>;

struct Core {
    state: Mutex<State>,
    /// The thread that writes; without one there is no file.
    writer: Option<Sender<Job>>,
    ended: OnceLock<Ended>,
    clock: Clock,
    began: u64,
}

struct State {
    machine: Logins<Subject>,
    limits: Limits,
    waiting: HashMap<Ask, oneshot::Sender<Answer<Subject>>>,
    next: u64,
    /// Whether there is a login here: revocations then end logins.
    own: bool,
    /// What the disk said last.
    failure: String,
}

enum Job {
    Append(Vec<Record<Subject>>),
    Replace(Vec<Record<Subject>>),
    Rest,
    Close(oneshot::Sender<()>),
}

impl Revocations {
    /// What was revoked and who was logged in, from [`FILE`] in the data directory, which is replaced by one without
    /// what is too old. The files of earlier versions are read if they are there.
    ///
    /// Revocations of another issuer's tokens are remembered for `retention`.
    ///
    /// # Errors
    ///
    /// A sentence that names the file, and the line that is not what it should be.
    pub fn open(directory: &Path, retention: Duration, clock: Clock) -> Result<Self, String> {
        let mut machine = Logins::new();
        let mut journal = file::open(directory, &mut machine)?;
        let limits = limits(retention);
        machine.sweep(&limits);
        journal.rewrite(&file::lines(&machine.records()))?;
        file::remove_old(directory);
        let (writer, jobs) = mpsc::channel();
        let core = Arc::new(Core::new(machine, limits, clock, Some(writer)));
        let weak = Arc::downgrade(&core);
        let thread = std::thread::Builder::new().name("lockstep-logins".into());
        let spawned = thread.spawn(move || write(&weak, journal, &jobs));
        spawned.map_err(|error| format!("no thread for the file of the logins: {error}"))?;
        Ok(Self { core })
    }

    /// Nothing revoked, nobody logged in, and nothing remembered after the process.
    #[must_use]
    pub fn in_memory(retention: Duration, clock: Clock) -> Self {
        Self { core: Arc::new(Core::new(Logins::new(), limits(retention), clock, None)) }
    }

    /// For how long a revocation of another issuer's token is remembered.
    #[must_use]
    pub fn retention(&self) -> Duration {
        Duration::from_millis(lock(&self.core.state).limits.retention)
    }

    /// Revokes. It is in effect from the first poll; when this returns, it is on the disk. Cancel safe.
    ///
    /// # Errors
    ///
    /// A sentence for the operator, if it is not on the disk yet. It is in effect nevertheless, and is written as soon as
    /// that is possible; until then a crash undoes it.
    pub async fn revoke(&self, revocation: &Revocation) -> Result<(), String> {
        let (subject, credential) = match revocation {
            Revocation::Subject(subject) => (Arc::clone(subject), None),
            Revocation::Credential(subject, credential) => (Arc::clone(subject), Some(*credential)),
        };
        let own = lock(&self.core.state).own;
        let answer = self.ask(|ask, now| {
            if own {
                Input::End { ask, subject, login: credential }
            } else {
                Input::Revoke { ask, subject, credential, now }
            }
        });
        match answer.await {
            Answer::Ended => Ok(()),
            Answer::Unavailable | Answer::Refused | Answer::Admitted { .. } => Err(self.failure()),
        }
    }

    /// Whether a revocation that [`Revocations::revoke`] could not write is on the disk by now. The file is written again by
    /// itself, with the instant that the revocation had.
    ///
    /// # Errors
    ///
    /// As [`Revocations::revoke`], while it is not.
    pub fn record(&self) -> Result<(), String> {
        let written = lock(&self.core.state).machine.is_written();
        if written { Ok(()) } else { Err(self.failure()) }
    }

    /// Until when what was issued for this subject is not good. `None` if nothing was revoked as a whole.
    #[must_use]
    pub fn subject(&self, subject: &str) -> Option<u64> {
        lock(&self.core.state).machine.revoked().subject(&Arc::from(subject))
    }

    /// Whether this one credential of the subject is revoked.
    #[must_use]
    pub fn credential(&self, subject: &str, credential: CredentialId) -> bool {
        lock(&self.core.state).machine.revoked().credential(&Arc::from(subject), credential)
    }

    /// Judges another issuer's token, and remembers when it was issued.
    pub(crate) fn judge(&self, subject: &str, credential: CredentialId, issued: Issued) -> Result<(), NotGood> {
        let judged = lock(&self.core.state).machine.revoked().judge(&Arc::from(subject), credential, issued);
        if let (Ok(()), Some(issued)) = (judged, issued.at) {
            self.core.drive(Input::Seen { issued });
        }
        judged
    }

    /// Whether the tokens of a login are good.
    pub(crate) fn standing(&self, subject: &str, login: CredentialId) -> Standing {
        lock(&self.core.state).machine.standing(&Arc::from(subject), login)
    }

    /// There is a login here, whose logins last for so long.
    pub(crate) fn serve(&self, idle: Duration, longest: Duration) {
        let mut state = lock(&self.core.state);
        state.own = true;
        (state.limits.idle, state.limits.longest) = (millis(idle), millis(longest));
    }

    /// Tells this of every login that ends, before anyone is answered. Only the first call counts.
    pub(crate) fn on_end(&self, ended: Ended) {
        let _ = self.core.ended.set(ended);
    }

    /// The accounts were read.
    pub(crate) fn looked(&self, accounts: BTreeMap<Subject, u64>) {
        self.core.drive(Input::Looked(accounts));
    }

    /// Asks the machine, and waits for its answer, for as long as a request may wait. Who does not wait any more has
    /// given up.
    pub(crate) async fn ask(&self, input: impl FnOnce(Ask, Now) -> Input<Subject>) -> Answer<Subject> {
        let (sender, answer) = oneshot::channel();
        let ask = {
            let mut state = lock(&self.core.state);
            state.next += 1;
            let ask = Ask(state.next);
            state.waiting.insert(ask, sender);
            ask
        };
        let waiting = Waiting { core: &self.core, ask };
        self.core.drive(input(ask, self.core.now()));
        let answer = tokio::time::timeout(DEADLINE, answer).await;
        drop(waiting);
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Answer::Unavailable,
        }
    }

    /// Returns when what was ordered before is on the disk, or was refused by it, and the file is closed: another process
    /// may open it. What is asked later is not possible.
    pub(crate) async fn close(&self) {
        let (closed, done) = oneshot::channel();
        let writer = self.core.writer.as_ref();
        if writer.is_some_and(|writer| writer.send(Job::Close(closed)).is_ok()) {
            let _ = done.await;
        }
    }

    /// Why it was not possible, for the operator.
    pub(crate) fn failure(&self) -> String {
        let said = lock(&self.core.state).failure.clone();
        let silent = || format!("{FILE}: the disk has not answered within {} s", DEADLINE.as_secs());
        if said.is_empty() { silent() } else { said }
    }
}

/// One who waits for an answer.
struct Waiting<'a> {
    core: &'a Arc<Core>,
    ask: Ask,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // One who was answered is not there any more.
        if lock(&self.core.state).waiting.remove(&self.ask).is_some() {
            self.core.drive(Input::GiveUp(self.ask));
        }
    }
}

impl Core {
    fn new(machine: Logins<Subject>, limits: Limits, clock: Clock, writer: Option<Sender<Job>>) -> Self {
        let state = State { machine, limits, waiting: HashMap::new(), next: 0, own: false, failure: String::new() };
        Self { state: Mutex::new(state), writer, ended: OnceLock::new(), began: clock.elapsed(), clock }
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.now(), up: self.clock.elapsed().saturating_sub(self.began) }
    }

    /// Gives the machine an input, and does what it orders, in that order.
    fn drive(&self, input: Input<Subject>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut orders = Vec::new();
            {
                let state = &mut *lock(&self.state);
                if state.machine.step(&state.limits, input, &mut orders) == Handled::Ignored {
                    continue;
                }
                debug_assert_eq!(state.machine.check(&state.limits), Ok(()));
            }
            for order in orders {
                match order {
                    Output::Answer(ask, answer) => {
                        let sender = lock(&self.state).waiting.remove(&ask);
                        // One who has gone is not told.
                        let _ = sender.map(|sender| sender.send(answer));
                    }
                    Output::Append(records) => inputs.extend(self.order(Job::Append(records))),
                    Output::Replace(records) => inputs.extend(self.order(Job::Replace(records))),
                    Output::Retry => drop(self.order(Job::Rest)),
                    Output::Ended { subject, login, why } => {
                        if let Some(ended) = self.ended.get() {
                            ended(subject, login, why);
                        }
                    }
                }
            }
        }
    }

    /// Hands a job to the thread. Without a file, it is done at once.
    fn order(&self, job: Job) -> Option<Input<Subject>> {
        let Some(writer) = &self.writer else { return Some(Input::Written) };
        writer.send(job).err().map(|_| Input::NotWritten)
    }
}

/// Writes what is ordered, until the file is closed or there is nothing left that orders.
fn write(core: &Weak<Core>, mut journal: Journal, jobs: &Receiver<Job>) {
    let mut rests: Option<Instant> = None;
    loop {
        let job = match rests {
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => jobs.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        let written = match job {
            Ok(Job::Append(records)) => journal.append(&file::lines(&records)),
            Ok(Job::Replace(records)) => journal.rewrite(&file::lines(&records)),
            Ok(Job::Close(closed)) => {
                drop(journal);
                let _ = closed.send(());
                return;
            }
            Ok(Job::Rest) => {
                rests = Some(Instant::now() + REST);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {
                rests = None;
                let Some(core) = core.upgrade() else { return };
                core.drive(Input::Retry);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(core) = core.upgrade() else { return };
        let input = if written.is_ok() { Input::Written } else { Input::NotWritten };
        let failure = written.err().unwrap_or_default();
        let before = core::mem::replace(&mut lock(&core.state).failure, failure.clone());
        if before != failure && !failure.is_empty() {
            tracing::warn!(failure, "the file of the logins cannot be written");
        }
        core.drive(input);
    }
}

fn limits(retention: Duration) -> Limits {
    Limits {
        idle: u64::MAX,
        longest: u64::MAX,
        per_subject: MAX_PER_USER,
        logins: MAX_LOGINS,
        waiting: MAX_WAITING,
        retention: millis(retention),
        credentials: MAX_CREDENTIALS,
        revocations: MAX_REVOCATIONS,
        records: MIN_LINES,
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.core.state);
        let (logins, revoked) = (state.machine.logins().len(), state.machine.revoked().len());
        f.debug_struct("Revocations").field("logins", &logins).field("revoked", &revoked).finish_non_exhaustive()
    }
}
