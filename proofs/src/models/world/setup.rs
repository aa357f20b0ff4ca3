//! The size of a world, and the adversary's budgets.

use lockstep_model::Bounds;

use super::mistake::Mistake;

/// A client and its user.
#[derive(Clone, Copy, Debug)]
pub struct ClientSetup {
    /// The user whose token it holds.
    pub user: u8,
    /// Messages that the user sends.
    pub messages: u8,
    /// Sockets that it may open: one more than its reconnects.
    pub sockets: u8,
    /// Whether it begins with everything retained, or with the next event.
    pub earliest: bool,
    /// Whether it reads everything immediately. No step involves two cursors, so one lagging reader is enough.
    pub fast: bool,
}

/// How frames reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Frames are handled in the step that sends them, in both directions, and steps that concern one client alone are
    /// not interleaved with others. See the header of [`world`](crate::models::world).
    Instant,
    /// At most this many pulled frames are in flight on each connection, in order.
    Queued(usize),
}

/// The threads of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// A thread for each message, so that no run waits for another.
    Own,
    /// One thread for all.
    Shared,
}

/// A world and its adversary. Every count is a budget for one whole run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The model's name.
    pub name: &'static str,
    /// One sentence on what is explored.
    pub about: &'static str,
    /// The machines' bounds.
    pub bounds: Bounds,
    /// The clients.
    pub clients: Vec<ClientSetup>,
    /// The threads of messages.
    pub threads: Threads,
    /// Whether each message replaces the turn of its user's first message, once the log has that.
    pub replacing: bool,
    /// How frames travel.
    pub wire: Wire,
    /// The number of frames that one pull requests.
    pub pull: usize,
    /// `agent_thinking` events per run.
    pub thinking: u8,
    /// `agent_delta` events per run, all of one part: at most 7.
    pub pieces: u8,
    /// Tools that one run may call.
    pub tools: u8,
    /// Pauses per run: at most 2.
    pub pauses: u8,
    /// Replies to pauses, right and wrong ones.
    pub replies: u8,
    /// Runs whose agent may fall silent, vanish, or fail.
    pub deaths: u8,
    /// Cancels.
    pub cancels: u8,
    /// Connections that are cut with everything in flight. Only connections of clients that can come back are cut: to
    /// the gateway, a client that cannot come back is a reader that lags forever.
    pub cuts: u8,
    /// Crashes, each followed by a restart from the durable prefix.
    pub crashes: u8,
    /// Batches that the log refuses.
    pub log_failures: u8,
    /// Whether a writer goes on pulling after a cut.
    pub void: bool,
    /// Whether an idle timer may detect a dead peer. Otherwise only the transport's own error does.
    pub idle: bool,
    /// Whether a refused batch may be written in part without the gateway's knowledge.
    pub torn: bool,
    /// Restores that the log fails.
    pub restore_failures: u8,
    /// Requests to append or to restore that the log does not answer in time. It may still execute them later.
    pub unanswered: u8,
    /// How often the log grants a user to another owner, or forgets the user.
    pub fences: u8,
    /// Answers of the log that break its contract.
    pub breaches: u8,
    /// Whether nothing is assumed of the log: it may never answer, and the world's promises still hold.
    pub mute: bool,
    /// Verdicts other than valid.
    pub rejections: u8,
    /// Verifications that are never answered, so that their timer fires.
    pub silences: u8,
    /// Credentials that expire. The same number of warnings is given, each of which leads to a refresh.
    pub expiries: u8,
    /// Revocations of all credentials of user 0.
    pub revocations: u8,
    /// Notices of the embedding service for user 0.
    pub notices: u8,
    /// Deletions of threads of user 0.
    pub deletions: u8,
    /// Whether the log keeps trimmed entries for readers that catch up.
    pub keeps: bool,
    /// Queries of conversations by clients.
    pub queries: u8,
    /// Lookups that the log fails.
    pub lookup_failures: u8,
    /// Changes of mode by the operator.
    pub pins: u8,
    /// Drains without a successor.
    pub drains: u8,
    /// Drains with a waiting successor, which may give up.
    pub handovers: u8,
    /// Sessions that retire because no connection was there.
    pub lingers: u8,
    /// Invalid requests, from any client.
    pub garbage: u8,
    /// Requests before the verdict, which our client does not make: the token again, or a ping.
    pub eager: u8,
    /// Whether such a peer may also present a token of the other user.
    pub strangers: bool,
    /// Whether the oracle lets the run continue when a connection stays although it is known to be gone. Otherwise it
    /// ends the run there, and misses violations that would only follow later.
    pub lenient: bool,
    /// The mistake, if any.
    pub mistake: Option<Mistake>,
}

impl Setup {
    /// One user, one quiet client, no faults.
    pub fn calm(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            bounds: small(),
            clients: vec![ClientSetup { user: 0, messages: 1, sockets: 1, earliest: false, fast: false }],
            threads: Threads::Own,
            replacing: false,
            wire: Wire::Instant,
            pull: 2,
            thinking: 0,
            pieces: 0,
            tools: 0,
            pauses: 0,
            replies: 0,
            deaths: 0,
            cancels: 0,
            cuts: 0,
            crashes: 0,
            log_failures: 0,
            void: true,
            idle: false,
            torn: false,
            restore_failures: 0,
            unanswered: 0,
            fences: 0,
            breaches: 0,
            mute: false,
            rejections: 0,
            silences: 0,
            expiries: 0,
            revocations: 0,
            notices: 0,
            deletions: 0,
            keeps: false,
            queries: 0,
            lookup_failures: 0,
            pins: 0,
            drains: 0,
            handovers: 0,
            lingers: 0,
            garbage: 0,
            eager: 0,
            strangers: false,
            lenient: false,
            mistake: None,
        }
    }

    /// Whether the verifier answers immediately and truthfully, because nothing in between could matter.
    pub fn verifies_at_once(&self) -> bool {
        self.wire == Wire::Instant && self.rejections + self.silences + self.expiries + self.revocations == 0
    }

    /// The number of users.
    pub fn users(&self) -> usize {
        self.clients.iter().map(|client| usize::from(client.user) + 1).max().unwrap_or(1)
    }

    /// The bounds as text, for reports.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let clients = self
            .clients
            .iter()
            .map(|client| {
                let reads = if client.fast { "fast" } else { "slow" };
                format!("user {}, {} messages, {} sockets, {reads}", client.user, client.messages, client.sockets)
            })
            .collect::<Vec<_>>()
            .join("; ");
        let mut bounds = vec![
            ("clients", clients),
            ("wire", format!("{:?}", self.wire).to_lowercase()),
            ("connections", self.bounds.connections.to_string()),
            ("runs", self.bounds.runs.to_string()),
            ("retained", self.bounds.retained.to_string()),
            ("pending", self.bounds.pending.to_string()),
        ];
        if self.keeps {
            bounds.push(("keeps", "trimmed entries".to_owned()));
        }
        if self.replacing {
            bounds.push(("replacing", "the first turn".to_owned()));
        }
        if self.threads == Threads::Shared {
            bounds.extend([("threads", "shared".to_owned()), ("queued", self.bounds.queued.to_string())]);
        }
        let budgets = [
            ("thinking", self.thinking),
            ("pieces", self.pieces),
            ("tools", self.tools),
            ("pauses", self.pauses),
            ("replies", self.replies),
            ("deaths", self.deaths),
            ("cancels", self.cancels),
            ("cuts", self.cuts),
            ("crashes", self.crashes),
            ("log_failures", self.log_failures),
            ("restore_failures", self.restore_failures),
            ("unanswered", self.unanswered),
            ("fences", self.fences),
            ("breaches", self.breaches),
            ("rejections", self.rejections),
            ("silences", self.silences),
            ("expiries", self.expiries),
            ("revocations", self.revocations),
            ("notices", self.notices),
            ("deletions", self.deletions),
            ("queries", self.queries),
            ("lookup_failures", self.lookup_failures),
            ("pins", self.pins),
            ("drains", self.drains),
            ("handovers", self.handovers),
            ("lingers", self.lingers),
            ("garbage", self.garbage),
            ("eager", self.eager),
        ];
        bounds.extend(budgets.into_iter().filter(|(_, budget)| *budget > 0).map(|(name, n)| (name, n.to_string())));
        bounds
    }
}

/// Bounds as small as possible while each is still reached.
pub fn small() -> Bounds {
    Bounds {
        connections: 2,
        runs: 2,
        queued: 0,
        tools: 1,
        events: 100,
        early: 2,
        outbox: 4,
        requests: 0,
        attempts: 2,
        retained: 3,
        joined: 3,
        apart: 1,
        pending: 6,
        failures: 0,
        revoked: 1,
        node_connections: 8,
        strikes: 1,
        recovery: 1,
        ..Bounds::DEFAULT
    }
}
