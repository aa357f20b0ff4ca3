//! Revocations and logins, in memory and in an append-only file. This module drives the state machine of logins
//! ([`lockstep_model::login`]) and decides nothing itself.
//!
//! | what | where |
//! | --- | --- |
//! | the machine, and the requests that wait for its answers | behind one lock, which is held only for a step |
//! | the file | on a thread of its own: a disk that hangs blocks no task, and each request has a deadline |
//!
//! The outputs of a step are dispatched after the lock is released. Writes still keep their order, because the machine
//! emits the next write only after the result of the last.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;

use lockstep_model::login::revoked::{Issued, NotGood};
use lockstep_model::login::{Answer, Ask, Input, LoginLimits, Logins, Now, Output, Record, Standing, Why};
use lockstep_model::{CredentialId, Handled};
use tokio::sync::oneshot;

use super::clock::{Clock, millis};
use super::line_file::{FileError, LineFile};
use super::{NotRevoked, Revocation};
use crate::sentence;
use crate::sync::lock;

mod file;

pub use file::FILE;

/// The most revoked credentials of one subject. One more revokes the subject.
pub const MAX_CREDENTIALS: usize = 1024;
/// The most revocations that are remembered. One more drops the oldest, and rejects credentials issued before it.
pub const MAX_REVOCATIONS: usize = 1 << 20;
/// The most logins of one user. One more ends the least recently used one.
const MAX_PER_USER: usize = 32;
/// The most logins in total. Further logins are refused.
const MAX_LOGINS: usize = 100_000;
/// The most requests that wait for the disk. Further requests are answered as unavailable.
const MAX_WAITING: usize = 4096;
/// Lines that are appended before the file is replaced, unless it needs more for its current content.
const MIN_LINES: usize = 512;
/// How long a request waits for the disk.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// The pause between two attempts at a failing disk.
const REST: Duration = Duration::from_secs(1);

/// A user's name at its issuer.
pub type Subject = Arc<str>;

sentence! {
    /// Why the file of revocations and logins cannot be opened, with its path: a sentence for the operator.
    NotOpened
}

impl From<FileError> for NotOpened {
    fn from(error: FileError) -> Self {
        Self::because(error.to_string(), error)
    }
}

/// Revocations and logins, shared by all issuers and verifiers.
pub struct Revocations {
    core: Arc<Core>,
}

/// Called when a login has ended, before any request is answered.
pub type Ended = Box<dyn Fn(Subject, CredentialId, Why) + Send + Sync>;

struct Core {
    state: Mutex<State>,
    /// The thread that writes; `None` if there is no file.
    writer: Option<Sender<Job>>,
    ended: OnceLock<Ended>,
    clock: Clock,
    began: u64,
}

struct State {
    machine: Logins<Subject>,
    limits: LoginLimits,
    waiting: HashMap<Ask, oneshot::Sender<Answer<Subject>>>,
    next: u64,
    /// Whether the gateway has its own login: revocations then end logins.
    own: bool,
    /// The disk's last error.
    failure: String,
}

enum Job {
    Append(Vec<Record<Subject>>),
    Replace(Vec<Record<Subject>>),
    Rest,
    Close(oneshot::Sender<()>),
}

impl Revocations {
    /// Reads revocations and logins from [`FILE`] in the data directory, and replaces it by a file without expired
    /// entries. The files of earlier versions are read if they exist.
    ///
    /// Revocations of another issuer's tokens are remembered for `retention`.
    ///
    /// # Errors
    ///
    /// [`NotOpened`], with the file and the invalid line.
    pub fn open(directory: &Path, retention: Duration, clock: Clock) -> Result<Self, NotOpened> {
        let mut machine = Logins::new();
        let mut file = file::open(directory, &mut machine)?;
        let limits = limits(retention);
        machine.sweep(&limits);
        file.rewrite(&file::lines(&machine.records()))?;
        file::remove_old(directory);
        let (writer, jobs) = mpsc::channel();
        let core = Arc::new(Core::new(machine, limits, clock, Some(writer)));
        let weak = Arc::downgrade(&core);
        let thread = std::thread::Builder::new().name("lockstep-logins".into());
        let spawned = thread.spawn(move || write(&weak, file, &jobs));
        spawned.map_err(|error| {
            NotOpened::because(format!("cannot start a thread for the file of logins: {error}"), error)
        })?;
        Ok(Self { core })
    }

    /// Starts without revocations or logins, and keeps them only in memory.
    #[must_use]
    pub fn in_memory(retention: Duration, clock: Clock) -> Self {
        Self { core: Arc::new(Core::new(Logins::new(), limits(retention), clock, None)) }
    }

    /// How long a revocation of another issuer's token is remembered.
    #[must_use]
    pub fn retention(&self) -> Duration {
        Duration::from_millis(lock(&self.core.state).limits.retention)
    }

    /// Records a revocation. It takes effect at the first poll; when this returns, it is on the disk. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`NotRevoked`], if it is not on the disk yet. It is still in effect, and is written as soon as possible; a crash
    /// before that undoes it.
    pub async fn revoke(&self, revocation: &Revocation) -> Result<(), NotRevoked> {
        self.revoke_as_of(revocation, u64::MAX).await
    }

    /// Revokes as of this instant, in milliseconds since the Unix epoch, or as of now if that is earlier.
    ///
    /// # Errors
    ///
    /// As [`Revocations::revoke`].
    pub async fn revoke_as_of(&self, revocation: &Revocation, at: u64) -> Result<(), NotRevoked> {
        let (subject, credential) = match revocation {
            Revocation::Subject(subject) => (Arc::clone(subject), None),
            Revocation::Credential(subject, credential) => (Arc::clone(subject), Some(*credential)),
        };
        let own = lock(&self.core.state).own;
        let answer = self.ask(|ask, now| {
            if own {
                Input::End { ask, subject, login: credential }
            } else {
                let now = Now { wall: now.wall.min(at), ..now };
                Input::Revoke { ask, subject, credential, now }
            }
        });
        match answer.await {
            Answer::Ended => Ok(()),
            Answer::Unavailable | Answer::Refused | Answer::Admitted { .. } => Err(self.failure().into()),
        }
    }

    /// Whether a revocation that [`Revocations::revoke`] could not write is on the disk by now. The file is rewritten
    /// automatically, with the revocation's original instant.
    ///
    /// # Errors
    ///
    /// As [`Revocations::revoke`], while it is not.
    pub fn record(&self) -> Result<(), NotRevoked> {
        let written = lock(&self.core.state).machine.is_written();
        if written { Ok(()) } else { Err(self.failure().into()) }
    }

    /// The instant up to which this subject's credentials are revoked. `None` if the subject was never revoked as a
    /// whole.
    #[must_use]
    pub fn subject(&self, subject: &str) -> Option<u64> {
        lock(&self.core.state).machine.revoked().subject(&Arc::from(subject))
    }

    /// Whether this one credential of the subject is revoked.
    #[must_use]
    pub fn credential(&self, subject: &str, credential: CredentialId) -> bool {
        lock(&self.core.state).machine.revoked().credential(&Arc::from(subject), credential)
    }

    /// Checks another issuer's token against the revocations, and remembers when it was issued.
    pub fn check_token(&self, subject: &str, credential: CredentialId, issued: Issued) -> Result<(), NotGood> {
        let checked = lock(&self.core.state).machine.revoked().check_token(&Arc::from(subject), credential, issued);
        if let (Ok(()), Some(issued)) = (checked, issued.at) {
            self.core.drive(Input::Seen { issued });
        }
        checked
    }

    /// Whether a login's tokens are valid.
    pub fn standing(&self, subject: &str, login: CredentialId) -> Standing {
        lock(&self.core.state).machine.standing(&Arc::from(subject), login)
    }

    /// Enables the gateway's own login, with these limits on the lifetime of logins.
    pub fn serve(&self, idle: Duration, longest: Duration) {
        let mut state = lock(&self.core.state);
        state.own = true;
        (state.limits.idle, state.limits.longest) = (millis(idle), millis(longest));
    }

    /// Calls `ended` for every login that ends, before any request is answered. Only the first call has an effect.
    pub fn on_end(&self, ended: Ended) {
        let _ = self.core.ended.set(ended);
    }

    /// Reports that the accounts were read.
    pub fn looked(&self, accounts: BTreeMap<Subject, u64>) {
        self.core.drive(Input::Looked(accounts));
    }

    /// Sends a request to the machine, and waits for its answer, for [`DEADLINE`] at most. If the caller stops waiting,
    /// the request is given up.
    pub async fn ask(&self, input: impl FnOnce(Ask, Now) -> Input<Subject>) -> Answer<Subject> {
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

    /// Returns when all earlier writes are on the disk or have failed, and the file is closed, so that another process
    /// may open it. Later requests are unavailable.
    pub async fn close(&self) {
        let (closed, done) = oneshot::channel();
        let writer = self.core.writer.as_ref();
        if writer.is_some_and(|writer| writer.send(Job::Close(closed)).is_ok()) {
            let _ = done.await;
        }
    }

    /// Why a request was unavailable, for the operator.
    pub fn failure(&self) -> String {
        let said = lock(&self.core.state).failure.clone();
        let silent = || format!("{FILE}: the disk has not answered within {} s", DEADLINE.as_secs());
        if said.is_empty() { silent() } else { said }
    }
}

/// A request that waits for its answer.
struct Waiting<'a> {
    core: &'a Arc<Core>,
    ask: Ask,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A request that was answered is no longer in the map.
        if lock(&self.core.state).waiting.remove(&self.ask).is_some() {
            self.core.drive(Input::GiveUp(self.ask));
        }
    }
}

impl Core {
    fn new(machine: Logins<Subject>, limits: LoginLimits, clock: Clock, writer: Option<Sender<Job>>) -> Self {
        let state = State { machine, limits, waiting: HashMap::new(), next: 0, own: false, failure: String::new() };
        Self { state: Mutex::new(state), writer, ended: OnceLock::new(), began: clock.elapsed(), clock }
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.now(), up: self.clock.elapsed().saturating_sub(self.began) }
    }

    /// Feeds the machine an input, and dispatches its outputs in order.
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
                        // The caller may be gone.
                        let _ = sender.map(|sender| sender.send(answer));
                    }
                    Output::Append(records) => inputs.extend(self.submit(Job::Append(records))),
                    Output::Replace(records) => inputs.extend(self.submit(Job::Replace(records))),
                    Output::Retry => drop(self.submit(Job::Rest)),
                    Output::Ended { subject, login, why } => {
                        if let Some(ended) = self.ended.get() {
                            ended(subject, login, why);
                        }
                    }
                }
            }
        }
    }

    /// Hands a job to the writer thread. Without a file, the job completes at once.
    fn submit(&self, job: Job) -> Option<Input<Subject>> {
        let Some(writer) = &self.writer else { return Some(Input::Written) };
        writer.send(job).err().map(|_| Input::NotWritten)
    }
}

/// Runs jobs until the file is closed or the core is gone.
fn write(core: &Weak<Core>, mut file: LineFile, jobs: &Receiver<Job>) {
    let mut rests: Option<Instant> = None;
    loop {
        let job = match rests {
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => jobs.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        let written = match job {
            Ok(Job::Append(records)) => file.append(&file::lines(&records)),
            Ok(Job::Replace(records)) => file.rewrite(&file::lines(&records)),
            Ok(Job::Close(closed)) => {
                drop(file);
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
        let failure = written.err().map(|error| error.to_string()).unwrap_or_default();
        let before = core::mem::replace(&mut lock(&core.state).failure, failure.clone());
        if before != failure && !failure.is_empty() {
            tracing::warn!(failure, "the file of logins cannot be written");
        }
        core.drive(input);
    }
}

/// The bounds of logins and revocations. Logins last forever: [`Revocations::serve`].
#[must_use]
pub fn limits(retention: Duration) -> LoginLimits {
    LoginLimits {
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
