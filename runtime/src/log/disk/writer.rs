//! The writing thread: waiting requests share a group, and a group is answered once it is as durable as required.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use lockstep_model::{FencingToken, Offset, Tenure, UserId};
use tokio::sync::oneshot;

use super::clean::Cleaning;
use super::entries::Entries;
use super::format::{self, State};
use super::index::{Index, Segment};
use super::pace::Pace;
use super::read::Places;
use super::segment::{Draft, GROUP_BYTES, Segments};
use super::{Durability, IDLE, LOOSE, Options, Shared};
use crate::log::{LogError, already_there};
use crate::sync::lock;

/// The most requests that share one group.
const MAX_BATCH: usize = 4_096;

/// The most pending user states that one group records.
const MAX_TOLD: usize = 1_024;

/// A request to the writing thread.
pub(super) enum Write {
    User(Arc<str>, Answer<UserId>),
    Acquire(UserId, Answer<Tenure>),
    Append(Append, Answer<Vec<Offset>>),
    Erase(UserId, Answer<()>),
    Probe(Answer<Duration>),
}

pub(super) struct Append {
    pub(super) user: UserId,
    pub(super) tenure: Tenure,
    pub(super) after: Offset,
    pub(super) batch: Vec<Vec<u8>>,
    /// The index of the last entry in the batch that deletes a thread.
    pub(super) deletion: Option<usize>,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, LogError>>;

/// Sends an answer when the group is durable, or has failed.
type Reply = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// Whether the log can write.
enum Health {
    Good,
    /// Not now: the cause, and when to try again.
    Failed(String, Instant),
    /// Acknowledged content is gone. Only opening the log again, which begins a new epoch, ends this state.
    Lost(String),
}

pub(super) struct Writer {
    pub(super) segments: Segments,
    pub(super) shared: Arc<Shared>,
    pub(super) options: Options,
    health: Health,
    /// Whether a failure was logged, and not yet that the log works again.
    said: bool,
    pub(super) cleaning: Option<Cleaning>,
    pub(super) cleaned: Instant,
    told: Instant,
    committed: Option<Instant>,
    /// The time of the last append.
    appended: Instant,
    synced: Instant,
    /// When the log last checked that each file is there.
    looked: Instant,
    pace: Pace,
}

/// A group and the requests that wait for it.
struct Group {
    draft: Draft,
    /// Users with a record in the group: a second request for one of them waits for the next group.
    busy: HashSet<UserId>,
    names: HashSet<Arc<str>>,
    owners: Vec<UserId>,
    numbers: u64,
    replies: Vec<Reply>,
    sync: bool,
    forced: bool,
    /// Whether it has entries.
    appends: bool,
}

impl Writer {
    pub(super) fn new(segments: Segments, shared: Arc<Shared>, options: Options) -> Self {
        let now = Instant::now();
        Self {
            segments,
            shared,
            options,
            health: Health::Good,
            said: false,
            cleaning: None,
            cleaned: now,
            told: now,
            committed: None,
            appended: now,
            synced: now,
            looked: now,
            pace: Pace::new(now),
        }
    }

    pub(super) fn run(mut self, queue: &mpsc::Receiver<Write>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match self.receive(queue) {
                    Ok(write) => waiting.extend(write),
                    Err(mpsc::RecvError) => break,
                }
            }
            let delay = self.pace.delay(self.committed, Instant::now());
            if !delay.is_zero() && self.options.durability == Durability::Always {
                std::thread::sleep(delay);
            }
            waiting.extend(queue.try_iter().take(MAX_BATCH.saturating_sub(waiting.len())));
            self.turn(&mut waiting);
        }
        self.close();
    }

    /// Receives the next request, or nothing when other work is due.
    fn receive(&self, queue: &mpsc::Receiver<Write>) -> Result<Option<Write>, mpsc::RecvError> {
        let Some(pause) = self.pause() else { return queue.recv().map(Some) };
        match queue.recv_timeout(pause) {
            Ok(write) => Ok(Some(write)),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(mpsc::RecvError),
        }
    }

    /// How long until work is due without a request.
    fn pause(&self) -> Option<Duration> {
        let until = |at: Instant| at.saturating_duration_since(Instant::now());
        match &self.health {
            Health::Good => {}
            Health::Failed(_, again) => return Some(until(*again)),
            Health::Lost(_) => return None,
        }
        if self.cleaning.is_some() {
            return Some(Duration::ZERO);
        }
        let active = &self.segments.active;
        let untold = !lock(&self.shared.index).untold.is_empty();
        let (scrub, loose) = self.is_to_be_left();
        let tell = untold.then(|| until(self.told + self.options.upkeep));
        let leave = scrub.then(|| until(active.begun + self.options.upkeep));
        let pack = loose.then(|| until(self.appended + self.options.upkeep * IDLE));
        let sync = match self.options.durability {
            Durability::Interval(period) if active.synced < active.length => Some(until(self.synced + period)),
            Durability::Always | Durability::Interval(_) | Durability::Never => None,
        };
        let clean = self.is_cleaning_due().then_some(until(self.cleaned + self.options.upkeep));
        [tell, leave, pack, sync, clean].into_iter().flatten().min()
    }

    fn turn(&mut self, waiting: &mut VecDeque<Write>) {
        if let Err(error) = self.ready() {
            for write in waiting.drain(..) {
                write.refuse(&error);
            }
            return;
        }
        let mut group = Group {
            draft: self.segments.draft(),
            busy: HashSet::new(),
            names: HashSet::new(),
            owners: Vec::new(),
            numbers: 0,
            replies: Vec::new(),
            sync: self.options.durability == Durability::Always,
            forced: false,
            appends: false,
        };
        self.gather(&mut group, waiting);
        self.tell(&mut group);
        let cleaned = self.clean(&mut group.draft);
        group.sync |= cleaned;
        let Group { draft, busy, owners, replies, sync, forced, appends, .. } = group;
        let began = Instant::now();
        if appends {
            self.appended = began;
            self.pace.count(busy, began);
        }
        let result = if draft.is_empty() && !forced { Ok(()) } else { self.segments.commit(draft, sync) };
        let result = result.and_then(|()| self.sync_if_due());
        if let Err(error) = result {
            let error = self.fail(&error);
            for reply in replies {
                reply(Err(error.clone()));
            }
            return;
        }
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if !replies.is_empty() || forced {
            self.shared.commit_us.store(took, Ordering::Relaxed);
            self.committed = Some(Instant::now());
            self.recovered();
        }
        if !owners.is_empty() {
            let mut index = lock(&self.shared.index);
            for user in owners {
                if let Some(user) = index.users.get_mut(&user) {
                    user.owned = true;
                }
            }
        }
        for reply in replies {
            reply(Ok(()));
        }
        if let Err(error) = self.finish_cleaning() {
            self.fail(&error);
        }
    }

    /// Makes sure that there is a segment to write to.
    fn ready(&mut self) -> Result<(), LogError> {
        let failed = match &self.health {
            Health::Lost(why) => return Err(LogError::Broken(why.clone())),
            Health::Failed(why, again) if *again > Instant::now() => return Err(LogError::Unavailable(why.clone())),
            Health::Failed(..) => true,
            Health::Good => false,
        };
        if !failed {
            self.look().map_err(|error| self.fail(&error))?;
        }
        if !failed && !self.is_full() {
            return Ok(());
        }
        // After a failed sync, the doubtful content is rewritten. A segment that is left for another reason is synced
        // first.
        let synced = if failed { Ok(()) } else { self.segments.sync() };
        match synced.and_then(|()| self.segments.next()) {
            Ok(()) => {
                self.health = Health::Good;
                self.synced = Instant::now();
                Ok(())
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Checks periodically that each file is there, and rewrites missing content.
    fn look(&mut self) -> io::Result<()> {
        if self.looked.elapsed() < self.options.upkeep {
            return Ok(());
        }
        self.looked = Instant::now();
        if self.segments.restore()? {
            self.cleaning = None;
            tracing::error!("files of the log were removed or replaced while it was open; their content was rewritten");
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let active = &self.segments.active;
        if active.length >= self.options.segment_bytes {
            return true;
        }
        // Erased content goes with its segment. This waits, so that many erasures share one segment.
        let (scrub, loose) = self.is_to_be_left();
        (scrub && active.begun.elapsed() >= self.options.upkeep)
            || (loose && self.appended.elapsed() >= self.options.upkeep * IDLE)
    }

    /// Whether the active segment holds erased content, and whether it has enough unpacked content to pack.
    fn is_to_be_left(&self) -> (bool, bool) {
        let index = lock(&self.shared.index);
        let active = index.segments.get(&self.segments.active.number);
        active.map_or((false, false), |active| (active.scrub, self.is_loose(active)))
    }

    /// Whether enough of a segment is unpacked.
    pub(super) fn is_loose(&self, segment: &Segment) -> bool {
        segment.loose > self.options.segment_bytes / LOOSE && segment.loose >= segment.live / 2
    }

    /// Handles a failure to write. Logs it once, until the log can write again.
    fn fail(&mut self, error: &io::Error) -> LogError {
        // Acknowledged content that cannot be read back cannot be rewritten.
        let lost = error.get_ref().is_some_and(|error| error.to_string().contains("damaged at byte"));
        let why = error.to_string();
        if !core::mem::replace(&mut self.said, true) || lost {
            tracing::error!("the log cannot write: {why}");
        }
        self.cleaning = None;
        if lost && self.options.durability != Durability::Always {
            let why = format!("confirmed entries are gone: {why}; restart the gateway");
            self.health = Health::Lost(why.clone());
            return LogError::Broken(why);
        }
        self.health = Health::Failed(why.clone(), Instant::now() + self.options.upkeep / 10);
        LogError::Unavailable(why)
    }

    fn recovered(&mut self) {
        if core::mem::replace(&mut self.said, false) {
            tracing::info!("the log can write again");
        }
    }

    fn sync_if_due(&mut self) -> io::Result<()> {
        match self.options.durability {
            Durability::Interval(period) if self.synced.elapsed() >= period => {
                self.segments.sync()?;
                self.synced = Instant::now();
                Ok(())
            }
            Durability::Always | Durability::Interval(_) | Durability::Never => Ok(()),
        }
    }

    fn close(&mut self) {
        if matches!(self.health, Health::Good) {
            let mut group = VecDeque::new();
            self.told = Instant::now().checked_sub(self.options.upkeep).unwrap_or(self.told);
            self.cleaning = None;
            self.turn(&mut group);
        }
        if !matches!(self.health, Health::Good) {
            return;
        }
        if let Err(error) = self.segments.restore().and_then(|_| self.segments.close()) {
            tracing::warn!("the log was not closed cleanly: {error}");
        }
    }

    /// Moves waiting requests into the group.
    fn gather(&mut self, group: &mut Group, waiting: &mut VecDeque<Write>) {
        let shared = Arc::clone(&self.shared);
        let index = lock(&shared.index);
        group.numbers = index.numbers;
        let mut later = VecDeque::new();
        while group.draft.bytes.len() < GROUP_BYTES
            && let Some(write) = waiting.pop_front()
        {
            if let Some(write) = self.put(group, &index, write) {
                later.push_back(write);
            }
        }
        later.append(waiting);
        *waiting = later;
    }

    /// Puts one request into the group, or returns it for the next one.
    fn put(&self, group: &mut Group, index: &Index, write: Write) -> Option<Write> {
        let about = match &write {
            Write::Acquire(user, _) | Write::Erase(user, _) => Some(*user),
            Write::Append(append, _) => Some(append.user),
            Write::User(..) | Write::Probe(_) => None,
        };
        if about.is_some_and(|user| !group.busy.insert(user)) {
            return Some(write);
        }
        match write {
            Write::User(subject, answer) => {
                if let Some(user) = index.subjects.get(&subject) {
                    answer_now(answer, Ok(*user));
                } else if group.names.insert(Arc::clone(&subject)) {
                    group.numbers += 1;
                    let user = UserId(group.numbers);
                    let state = State {
                        user,
                        subject: &subject,
                        generation: FencingToken(0),
                        trimmed: Offset(0),
                        read: Offset(0),
                        head: Offset(0),
                    };
                    format::put_state(&mut group.draft.bytes, &state);
                    group.later(answer, user);
                } else {
                    return Some(Write::User(subject, answer));
                }
            }
            Write::Acquire(id, answer) => match index.users.get(&id) {
                None => answer_now(answer, Err(unknown(index, id))),
                Some(user) => {
                    let generation = FencingToken(user.generation.0 + 1);
                    let state = State { generation, ..Index::state_of(id, user) };
                    format::put_state(&mut group.draft.bytes, &state);
                    group.owners.push(id);
                    group.later(answer, Tenure { epoch: self.shared.epoch, token: generation });
                }
            },
            Write::Append(append, answer) => match self.append(group, index, append) {
                Ok(offsets) => group.later(answer, offsets),
                Err(error) => answer_now(answer, Err(error)),
            },
            Write::Erase(user, answer) => {
                if index.users.contains_key(&user) {
                    format::put_erased(&mut group.draft.bytes, user, self.segments.active.number);
                    group.sync = true;
                }
                group.later(answer, ());
            }
            Write::Probe(answer) => {
                group.forced |= self.committed.is_none_or(|at| at.elapsed() > self.options.upkeep);
                let shared = Arc::clone(&self.shared);
                group.replies.push(Box::new(move |written| {
                    let took = || Duration::from_micros(shared.commit_us.load(Ordering::Relaxed));
                    answer_now(answer, written.map(|()| took()));
                }));
            }
        }
        None
    }

    fn append(&self, group: &mut Group, index: &Index, append: Append) -> Result<Vec<Offset>, LogError> {
        let Append { user: id, tenure, after, batch, deletion } = append;
        let user = self.shared.owned(index, id, tenure)?;
        let there = if after < user.head && after >= user.trimmed {
            let entries = Places::of(index, user).entries().map_err(LogError::Unavailable)?;
            let there = entries.into_iter().filter(|entry| entry.offset > after);
            there.map(|entry| (entry.offset, entry.generation)).collect()
        } else {
            Vec::new()
        };
        let mut offsets = already_there((user.trimmed, user.head), there.into_iter(), tenure, after, batch.len())?;
        let deletion = deletion.filter(|place| *place >= offsets.len());
        let rest = &batch[offsets.len()..];
        if rest.is_empty() {
            return Ok(offsets);
        }
        let numbered = (user.head.0 + 1..).map(Offset);
        offsets.extend(numbered.clone().take(rest.len()));
        let before = Index::before(user, self.segments.active.number);
        let like = Entries { previous: user.head, before, ..Entries::of(id, tenure.token, user.trimmed, user.read) };
        like.put(&mut group.draft.bytes, numbered.zip(rest.iter().map(Vec::as_slice)));
        if let Some(through) = deletion.and_then(|place| offsets.get(place)) {
            format::put_deleted(&mut group.draft.bytes, id, *through, self.segments.active.number);
            group.sync = true;
        }
        group.appends = true;
        Ok(offsets)
    }

    /// Adds the user states that the segments do not have yet.
    fn tell(&mut self, group: &mut Group) {
        if self.told.elapsed() < self.options.upkeep {
            return;
        }
        let index = lock(&self.shared.index);
        for id in index.untold.iter().filter(|id| !group.busy.contains(id)).take(MAX_TOLD) {
            if let Some(user) = index.users.get(id) {
                format::put_state(&mut group.draft.bytes, &Index::state_of(*id, user));
            }
        }
        self.told = Instant::now();
    }
}

impl Group {
    /// Sends the answer when the group is durable.
    fn later<T: Send + 'static>(&mut self, answer: Answer<T>, value: T) {
        self.replies.push(Box::new(move |written| answer_now(answer, written.map(|()| value))));
    }
}

impl Write {
    fn refuse(self, error: &LogError) {
        match self {
            Self::User(_, answer) => answer_now(answer, Err(error.clone())),
            Self::Acquire(_, answer) => answer_now(answer, Err(error.clone())),
            Self::Append(_, answer) => answer_now(answer, Err(error.clone())),
            Self::Erase(_, answer) => answer_now(answer, Err(error.clone())),
            Self::Probe(answer) => answer_now(answer, Err(error.clone())),
        }
    }
}

/// The requester may be gone.
fn answer_now<T>(answer: Answer<T>, result: Result<T, LogError>) {
    let _ = answer.send(result);
}

/// The error for a request about a user that the log does not have.
pub(super) fn unknown(index: &Index, user: UserId) -> LogError {
    if user.0 <= index.numbers {
        return LogError::Fenced;
    }
    LogError::Unavailable(format!("user {} is unknown", user.0))
}
