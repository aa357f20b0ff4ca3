//! The workload: executes a plan with every user's tabs, the operator, hostile clients, and restarts of the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_model::Bounds;
use lockstep_model::frame::ReadFrom;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::hostile::{self, Target};
use super::ledger::{Ledger, Reader};
use super::plan::{Act, Begin, Chats, Place};
use super::replies::{Replies, Waiting};
use super::system::{Disturbance, System};
use crate::frames::message_id;
use crate::history::History;
use crate::process::{Gateway, Way, lazy_tokens, token};
use crate::simulated_client::{self, Command, Seen, Who};

mod operator;

/// How long closing a revoked user's tab may take.
const CLOSES: Duration = Duration::from_secs(5);
/// The lifetime of a credential that must be refreshed often.
const SHORT: Duration = Duration::from_secs(6);
/// The lifetime of a credential that lasts for the run.
const LONG: Duration = Duration::from_hours(1);

/// The clients' bounds: short pauses, because a run is short.
pub const BOUNDS: Bounds = Bounds {
    backoff: Duration::from_millis(100),
    backoff_most: Duration::from_secs(2),
    connect: Duration::from_secs(5),
    heartbeat: Duration::from_secs(4),
    ..Bounds::DEFAULT
};

/// One tab and its client.
struct Tab {
    reader: Reader,
    /// How often it was reloaded.
    loads: u32,
    commands: mpsc::UnboundedSender<Command>,
    seen: mpsc::UnboundedReceiver<Seen>,
    task: JoinHandle<()>,
    paused_until: Instant,
}

/// Work to do or check later.
enum Later {
    Connect(Place),
    LetHealthDecide,
    /// The tab's socket with that load and close count must be closed, if nothing was disturbed meanwhile.
    Closed(Place, u32, u64, Option<u64>),
}

/// The result of a background task.
enum Done {
    Attacked(Result<(), String>),
    Revoked {
        user: usize,
        sequence: Option<u64>,
        live: Vec<(Place, u32, u64)>,
        old: String,
        answer: Result<(u16, String), String>,
    },
    Noticed {
        user: usize,
        number: u64,
        sequence: Option<u64>,
        answer: Result<(u16, String), String>,
    },
    NoticedAll {
        sequence: Option<u64>,
        answer: Result<(u16, String), String>,
    },
    Pinned {
        sequence: Option<u64>,
        answer: Result<(u16, String), String>,
    },
    Disturbed(Result<(), String>),
}

/// All simulated clients of a run.
pub struct Workload {
    /// What is known of the run.
    pub ledger: Ledger,
    /// The processes; locked while they are disturbed.
    pub system: Arc<tokio::sync::Mutex<System>>,
    address: std::net::SocketAddr,
    operator: String,
    history: History,
    chats: Chats,
    tabs: Vec<Vec<Tab>>,
    later: Vec<(Instant, Later)>,
    done: JoinSet<Done>,
    /// Incremented when a disturbance begins and when it ends: odd meanwhile.
    disturbances: u64,
    /// When the newest disturbance ended, and how long it may be felt.
    calm_since: Instant,
    settles: Duration,
    /// Each user's token that is not revoked yet.
    tokens: Vec<String>,
    revoked: Vec<(String, String)>,
    replies: Replies,
    messages: usize,
    attacks: usize,
    changed: Instant,
}

impl core::fmt::Debug for Workload {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Workload").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

/// A user's name.
pub(super) fn user_name(user: usize) -> String {
    format!("user{user}")
}

impl Workload {
    /// Starts all clients.
    pub async fn new(system: System, operator: String, history: History, chats: Chats, tabs: &[usize]) -> Self {
        let mut workload = Self {
            ledger: Ledger::new(tabs.len()),
            address: system.address(),
            settles: system.settles(),
            system: Arc::new(tokio::sync::Mutex::new(system)),
            operator,
            history,
            chats,
            tabs: Vec::new(),
            later: Vec::new(),
            done: JoinSet::new(),
            disturbances: 0,
            calm_since: Instant::now(),
            tokens: (0..tabs.len()).map(|user| token(&user_name(user), LONG)).collect(),
            revoked: Vec::new(),
            replies: Replies::default(),
            messages: 0,
            attacks: 0,
            changed: Instant::now(),
        };
        for (user, tabs) in tabs.iter().enumerate() {
            let tabs = (0..*tabs).map(|tab| workload.load(Place { user, tab }, 0, ReadFrom::Latest)).collect();
            workload.tabs.push(tabs);
        }
        workload
    }

    fn load(&self, place: Place, loads: u32, begin: ReadFrom) -> Tab {
        let user = user_name(place.user);
        let name = format!("{user}-tab{}-{loads}", place.tab);
        // One third of the tabs refresh in time, one third only after the credential has expired.
        let token: Arc<dyn Fn() -> String + Send + Sync> = match (place.user + place.tab) % 3 {
            0 => Gateway::tokens(&user, SHORT),
            1 => lazy_tokens(&user, SHORT),
            _ => Gateway::tokens(&user, LONG),
        };
        let who = Who { name: name.clone(), user, url: format!("ws://{}/ws", self.address), begin, token };
        let (commands, seen, task) = simulated_client::start(who, BOUNDS, self.history.clone());
        // A client that has ended is detected when the tab is left.
        let _ = commands.send(Command::Connect);
        let reader = Reader { name, ..Reader::default() };
        Tab { reader, loads, commands, seen, task, paused_until: Instant::now() }
    }

    fn tab(&mut self, place: Place) -> &mut Tab {
        &mut self.tabs[place.user][place.tab]
    }

    fn tell(&mut self, place: Place, command: Command) {
        let _ = self.tab(place).commands.send(command);
    }

    /// Executes one step.
    pub async fn act(&mut self, act: Act) {
        match act {
            Act::Say(place, text) => {
                self.messages += 1;
                let name = format!("m{}", self.messages);
                self.send(place, name, json!({ "text": self.chats.texts()[text] }));
            }
            // A restarted process does not know messages that have left the window.
            Act::Again(_) if self.chats == Chats::Long => {}
            Act::Again(place) => {
                let Some((name, payload)) = self.ledger.newest(place.user) else { return };
                let reader = &self.tab(place).reader;
                // The gateway does not know forever whether a message ran: only a tab that is connected now can repeat
                // one safely.
                if reader.live && !reader.waiting.contains_key(&message_id(&name)) {
                    self.ledger.count("messages sent twice");
                    self.send(place, name, payload);
                }
            }
            Act::Cancel(place) => {
                if let Some(run) = self.ledger.cancels(place.user) {
                    self.ledger.count("cancels");
                    self.tell(place, Command::Cancel(run));
                }
            }
            Act::Delete(place) => {
                if self.tab(place).reader.live {
                    self.ledger.deletes(place.user);
                    self.tell(place, Command::Delete);
                }
            }
            Act::Cut(place) => self.tell(place, Command::Cut),
            Act::Leave(place, time) => {
                self.ledger.count("leaves");
                self.tell(place, Command::Disconnect);
                self.later.push((Instant::now() + Duration::from_millis(time), Later::Connect(place)));
            }
            Act::Reload(place, begin) => self.reload(place, begin).await,
            Act::Refresh(place) => self.tell(place, Command::Refresh),
            Act::Pause(place, time) => {
                let time = Duration::from_millis(time);
                self.tab(place).paused_until = Instant::now() + time;
                self.ledger.count("slow readers");
                self.tell(place, Command::Pause(time));
            }
            Act::Revoke(user) => self.revoke(user),
            Act::Notice(user) => self.notice(user),
            Act::Degrade(time) => {
                self.pin("\"degraded\"");
                self.later.push((Instant::now() + Duration::from_millis(time), Later::LetHealthDecide));
            }
            Act::Attack(attack) => {
                self.attacks += 1;
                self.ledger.count("attacks");
                let target = Target {
                    address: self.address,
                    history: self.history.clone(),
                    runs: self.ledger.open(),
                    revoked: self.revoked.get(self.attacks % self.revoked.len().max(1)).cloned(),
                    number: self.attacks,
                };
                self.done.spawn(async move { Done::Attacked(hostile::attack(attack, target).await) });
            }
            Act::Restart => self.disturb(Disturbance::Replace(Way::Restart)),
            Act::Crash => self.disturb(Disturbance::Replace(Way::Crash)),
            Act::Handover => self.disturb(Disturbance::Replace(Way::Handover)),
        }
    }

    fn send(&mut self, place: Place, name: String, payload: serde_json::Value) {
        let tab = &mut self.tabs[place.user][place.tab];
        self.ledger.sends(place.user, &mut tab.reader, message_id(&name), name.clone(), payload.clone());
        let _ = tab.commands.send(Command::Send(name, payload));
    }

    /// Replies from one tab, and the first time from another one, too: the first reply counts.
    fn reply(&mut self, waiting: Waiting, replies: u32) {
        let live = self.tabs[waiting.user].iter().filter(|tab| tab.reader.live);
        for tab in live.take(if replies == 0 { 2 } else { 1 }) {
            let _ = tab.commands.send(Command::Reply(waiting.run, waiting.pause, waiting.reply()));
            self.ledger.count("replies");
        }
    }

    async fn reload(&mut self, place: Place, begin: Begin) {
        self.ledger.count("reloads");
        self.drain_observations();
        let old = self.tab(place);
        let loads = old.loads + 1;
        let begin = match (begin, old.reader.position) {
            (Begin::Last, Some(position)) => ReadFrom::After(position),
            (Begin::Earliest, _) => ReadFrom::Earliest,
            (Begin::Last | Begin::Latest, _) => ReadFrom::Latest,
        };
        let new = self.load(place, loads, begin);
        let old = core::mem::replace(self.tab(place), new);
        self.leave(place.user, old).await;
    }

    /// Ends a tab's client and drops the messages for which it waits.
    async fn leave(&mut self, user: usize, tab: Tab) {
        let Tab { mut reader, commands, mut seen, task, .. } = tab;
        drop(commands);
        if task.await.is_err() {
            self.ledger.find(format!("{}: the client panicked", reader.name));
        }
        while let Some(seen) = seen.recv().await {
            self.ledger.take(user, &mut reader, seen);
        }
        for _ in &reader.waiting {
            self.ledger.count("messages gone with their tab");
        }
    }

    /// Begins a disturbance, unless there is one already.
    pub fn disturb(&mut self, disturbance: Disturbance) {
        if self.is_disturbed() {
            return self.ledger.count("restarts left out");
        }
        self.disturbances += 1;
        disturbance.names().iter().for_each(|name| self.ledger.count(name));
        let system = Arc::clone(&self.system);
        self.done.spawn(async move { Done::Disturbed(system.lock_owned().await.disturb(disturbance).await) });
    }

    /// Whether a disturbance has begun and not ended.
    #[must_use]
    pub const fn is_disturbed(&self) -> bool {
        self.disturbances % 2 == 1
    }

    /// How long nothing has been disturbed.
    #[must_use]
    pub fn calm_for(&self) -> Duration {
        if self.is_disturbed() { Duration::ZERO } else { self.calm_since.elapsed() }
    }

    /// Processes everything that has happened.
    pub fn turn(&mut self) {
        self.drain_observations();
        for (waiting, replies) in self.replies.due(self.ledger.waiting()) {
            self.reply(waiting, replies);
        }
        while let Some(done) = self.done.try_join_next() {
            match done {
                Ok(done) => self.finish(done),
                Err(error) => self.ledger.find(format!("the soak's own task failed: {error}")),
            }
        }
        let now = Instant::now();
        let (due, later) = core::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        for (_, late) in due {
            match late {
                Later::Connect(place) => self.tell(place, Command::Connect),
                Later::LetHealthDecide => self.pin("null"),
                Later::Closed(place, loads, closes, sequence) => {
                    let undisturbed = self.undisturbed_since(sequence);
                    let tab = self.tab(place);
                    if undisturbed && tab.loads == loads && tab.reader.closes == closes && tab.paused_until < now {
                        let name = tab.reader.name.clone();
                        self.ledger.find(format!("{name}: revoked, and not closed within {} s", CLOSES.as_secs()));
                    }
                }
            }
        }
    }

    fn drain_observations(&mut self) {
        for (user, tabs) in self.tabs.iter_mut().enumerate() {
            for tab in tabs {
                while let Ok(seen) = tab.seen.try_recv() {
                    // Credentials expire and are refreshed even when the run has settled.
                    if !matches!(seen, Seen::Ready { .. } | Seen::At(_) | Seen::Closed(_)) {
                        self.changed = Instant::now();
                    }
                    self.ledger.take(user, &mut tab.reader, seen);
                }
            }
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Attacked(Ok(())) => {}
            Done::Attacked(Err(what)) => self.ledger.find(what),
            Done::Disturbed(ended) => {
                self.disturbances += 1;
                self.calm_since = Instant::now();
                if let Err(what) = ended {
                    self.ledger.find(what);
                }
            }
            // A process that received the notice and died before it answered may have written it.
            Done::Noticed { user, number, answer: Ok((200, _)), .. } => self.ledger.told(user, number),
            // On a machine with too much to do, a lease of a cluster may end without a fault of the plan.
            Done::Noticed { answer: Ok((503, why)), .. } if !self.settles.is_zero() && why.contains("\"not_sent\"") => {
                self.ledger.count("notices whose owner was lost");
            }
            Done::Noticed { user, sequence, answer, .. } => {
                if self.undisturbed_since(sequence) {
                    self.ledger.find(format!("the operator could not tell {}: {answer:?}", user_name(user)));
                }
            }
            Done::NoticedAll { answer: Ok((200, _)), .. } => {
                self.ledger.count("notices to everyone that were answered");
            }
            // In a cluster, the tables are judged.
            Done::NoticedAll { sequence, answer } => {
                if self.settles.is_zero() && self.undisturbed_since(sequence) {
                    self.ledger.find(format!("the operator could not tell all: {answer:?}"));
                }
            }
            Done::Pinned { sequence, answer } => {
                if !matches!(answer, Ok((200, _))) && self.undisturbed_since(sequence) {
                    self.ledger.find(format!("the operator could not pin a mode: {answer:?}"));
                }
            }
            Done::Revoked { user, sequence, live, old, answer } => {
                if matches!(answer, Ok((204, _))) {
                    self.revoked.push((user_name(user), old));
                    if self.undisturbed_since(sequence) {
                        let due = Instant::now() + CLOSES;
                        let checks = live.into_iter();
                        let checks = checks.map(|(place, loads, closes)| Later::Closed(place, loads, closes, sequence));
                        self.later.extend(checks.map(|check| (due, check)));
                    }
                } else if self.undisturbed_since(sequence) {
                    self.ledger.find(format!("the operator could not revoke {}: {answer:?}", user_name(user)));
                }
            }
        }
    }

    /// The number of disturbances, if none is felt now.
    fn undisturbed(&self) -> Option<u64> {
        let settled = !self.is_disturbed() && self.calm_since.elapsed() >= self.settles;
        settled.then_some(self.disturbances)
    }

    /// Whether no disturbance was felt all the time since.
    fn undisturbed_since(&self, sequence: Option<u64>) -> bool {
        sequence.is_some() && self.undisturbed() == sequence
    }

    /// Ends all faults: all clients connect and read, and one tab of each user reads the whole stream.
    pub async fn calm(&mut self) {
        self.pin("null");
        for user in 0..self.tabs.len() {
            self.reload(Place { user, tab: 0 }, Begin::Earliest).await;
        }
        for tab in self.tabs.iter_mut().flatten() {
            let _ = tab.commands.send(Command::Pause(Duration::ZERO));
            let _ = tab.commands.send(Command::Connect);
        }
    }

    /// What has not settled; empty once everything has.
    #[must_use]
    pub fn unsettled(&self, quiet: Duration) -> Vec<String> {
        let mut left = Vec::new();
        if self.is_disturbed() || !self.done.is_empty() || self.changed.elapsed() < quiet {
            left.push("something still happens".to_owned());
        }
        for tabs in &self.tabs {
            for Tab { reader, .. } in tabs {
                if !reader.live {
                    left.push(format!("{}: not connected", reader.name));
                }
                let names: Vec<&str> = reader.waiting.values().map(String::as_str).collect();
                if !names.is_empty() {
                    left.push(format!("{}: no answer to {}", reader.name, names.join(", ")));
                }
            }
            let last = tabs.first().and_then(|tab| tab.reader.position);
            for Tab { reader, .. } in tabs.iter().filter(|tab| tab.reader.position != last) {
                left.push(format!("{}: read to {:?}, another tab to {last:?}", reader.name, reader.position));
            }
        }
        let runs_without_end = self.ledger.runs_without_end();
        left.extend(
            runs_without_end.iter().map(|(user, run)| format!("{}: run {:016x} has no end", user_name(*user), run.0)),
        );
        let unseen_notices = self.ledger.unseen_notices();
        left.extend(
            unseen_notices.iter().map(|(user, number)| format!("{}: notice {number} was lost", user_name(*user))),
        );
        left
    }

    /// The number of users whose stream no longer has its beginning. One tab of each has read the whole stream once the
    /// run has settled.
    #[must_use]
    pub fn trimmed(&self) -> usize {
        let first = self.tabs.iter().filter_map(|tabs| tabs.first()?.reader.began);
        first.filter(|began| began.offset.0 > 0).count()
    }

    /// The number of users.
    #[must_use]
    pub const fn users(&self) -> usize {
        self.tokens.len()
    }

    /// Disconnects all clients.
    pub async fn disconnect_all(&mut self) {
        for (user, tabs) in core::mem::take(&mut self.tabs).into_iter().enumerate() {
            for tab in tabs {
                self.leave(user, tab).await;
            }
        }
    }
}
