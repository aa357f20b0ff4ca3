//! Conversations: whatever happens to a stream, the tables have what a log in memory has that forgets nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep::log::conversations::{Retention, Turns};
use lockstep::log::{Conversations as _, Log, LogError, MemoryLog, PostgresLog, Written};
use lockstep::payload::Record;
use lockstep::payload::data_of_piece;
use lockstep::testing::log::{content, deletion, own};
use lockstep_model::run::{Kind, Reason, Received};
use lockstep_model::{MessageId, Offset, PartId, RunId, Tenure, ThreadId, UserId};
use lockstep_tests::postgres::Server;
use proptest::prelude::*;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::{connect, database};
use crate::deleted::{THREADS, name};

#[derive(Clone, Debug)]
enum Op {
    Begin(usize),
    Say(usize, usize),
    End(usize),
    Notice(usize),
    Delete(usize),
    Rename(usize, Option<String>),
    /// The number of newest entries that are kept for resuming.
    Trim(usize),
    Acquire,
    /// The answer was lost.
    Repeat,
}

fn op() -> impl Strategy<Value = Op> {
    let thread = 0..THREADS.len();
    prop_oneof![
        6 => thread.clone().prop_map(Op::Begin),
        6 => (0..3_usize, 1..6_usize).prop_map(|(of, pieces)| Op::Say(of, pieces)),
        4 => (0..3_usize).prop_map(Op::End),
        1 => thread.clone().prop_map(Op::Notice),
        2 => thread.clone().prop_map(Op::Delete),
        2 => (thread, prop::option::of("[a-z\u{0}\u{2713}]{0,6}")).prop_map(|(thread, title)| Op::Rename(thread, title)),
        2 => (0..20_usize).prop_map(Op::Trim),
        1 => Just(Op::Acquire),
        3 => Just(Op::Repeat),
    ]
}

/// The same user in both logs, with the same offsets.
struct World<'a> {
    log: &'a PostgresLog,
    memory: MemoryLog,
    user: UserId,
    in_memory: UserId,
    tenure: Tenure,
    of_memory: Tenure,
    head: Offset,
    trimmed: Offset,
    open: Vec<(u64, &'static str)>,
    runs: u64,
    /// The last append: what it was behind, and what it was answered.
    last: Option<(Offset, Vec<Written>, Vec<Offset>)>,
    at: u64,
}

impl<'a> World<'a> {
    async fn new(log: &'a PostgresLog, subject: &str) -> Self {
        let memory = MemoryLog::new();
        let (user, in_memory) = (log.user(subject).await.expect("a user"), memory.user("ada").await.expect("a user"));
        let (tenure, of_memory) = (own(log, user).await, own(&memory, in_memory).await);
        Self {
            log,
            memory,
            user,
            in_memory,
            tenure,
            of_memory,
            head: Offset(0),
            trimmed: Offset(0),
            open: Vec::new(),
            runs: 0,
            last: None,
            at: 1_000,
        }
    }

    fn entry(&mut self, run: u64, thread: &str, kind: Kind, data: Box<RawValue>) -> Written {
        self.at += 1;
        let thread = name(thread).map(Arc::from);
        Written { run: RunId(run), kind, record: Arc::new(Record::written(thread, data, self.at)) }
    }

    async fn append(&mut self, batch: Vec<Written>) {
        let after = self.head;
        let offsets = self.log.append(self.user, self.tenure, after, batch.clone()).await.expect("appended");
        let expected = self.memory.append(self.in_memory, self.of_memory, after, batch.clone()).await;
        assert_eq!(expected.as_ref(), Ok(&offsets), "both logs assign the same offsets");
        self.head = offsets.last().copied().unwrap_or(after);
        self.last = Some((after, batch, offsets));
    }

    async fn step(&mut self, op: &Op) {
        match op.clone() {
            Op::Begin(_) if self.open.len() == 3 => {}
            Op::Begin(thread) => self.begin(THREADS[thread]).await,
            Op::Say(of, pieces) => {
                let mut batch = Vec::new();
                for piece in 0..pieces {
                    let Some((run, thread)) = self.open.get((of + piece / 3) % self.open.len().max(1)).copied() else {
                        return;
                    };
                    let part = PartId(1);
                    let data = data_of_piece(part, "text", &format!("\"{piece}\n\u{f6}"));
                    batch.push(self.entry(run, thread, Kind::Delta(part), data));
                }
                self.append(batch).await;
            }
            Op::End(of) if of < self.open.len() => {
                let ends = self.ends(|place, _| place == of);
                self.append(ends).await;
            }
            Op::End(_) => {}
            Op::Notice(thread) => {
                self.runs += 1;
                let notice =
                    self.entry(self.runs, THREADS[thread], Kind::Notice, to_raw_value("for all").expect("JSON"));
                self.append(vec![notice]).await;
            }
            Op::Delete(thread) => {
                self.runs += 1;
                let mut batch = self.ends(|_, of| of == THREADS[thread]);
                batch.push(deletion(self.runs, name(THREADS[thread])));
                self.append(batch).await;
            }
            Op::Rename(thread, title) => {
                let thread = name(THREADS[thread]);
                let renamed = self.log.rename(self.user, thread, title.as_deref()).await;
                assert_eq!(renamed, self.memory.rename(self.in_memory, thread, title.as_deref()).await);
            }
            Op::Trim(kept) => {
                self.trimmed = self.trimmed.max(Offset(self.head.0.saturating_sub(kept as u64)));
                self.log.trim(self.user, self.tenure, self.trimmed).await.expect("trimmed");
                self.last = None;
            }
            Op::Acquire => {
                self.tenure = own(self.log, self.user).await;
                self.of_memory = own(&self.memory, self.in_memory).await;
                self.last = None;
            }
            Op::Repeat => {
                let Some((after, batch, offsets)) = self.last.clone() else { return };
                let repeated = self.log.append(self.user, self.tenure, after, batch).await;
                assert_eq!(repeated, Ok(offsets), "a repetition is known");
            }
        }
    }

    async fn begin(&mut self, thread: &'static str) {
        self.runs += 1;
        let run = self.runs;
        let received = Kind::Received(Received::immediate(MessageId(run), ThreadId(0)));
        let data = json!({ "message_id": format!("m{run}"), "payload": { "text": format!("asks {run}") } });
        let message = self.entry(run, thread, received, to_raw_value(&data).expect("JSON"));
        self.open.push((run, thread));
        self.append(vec![message]).await;
    }

    fn ends(&mut self, which: impl Fn(usize, &str) -> bool) -> Vec<Written> {
        let open = core::mem::take(&mut self.open);
        let (ended, open) = open.into_iter().enumerate().partition::<Vec<_>, _>(|(place, (_, of))| which(*place, of));
        self.open = open.into_iter().map(|(_, run)| run).collect();
        let error = || (Kind::Error(Reason::Cancelled), to_raw_value(&json!({ "reason": "cancelled" })).expect("JSON"));
        let ends = ended.into_iter().map(|(_, (run, thread))| {
            let (kind, data) = error();
            self.entry(run, thread, kind, data)
        });
        ends.collect()
    }

    async fn check(&self) {
        let (user, in_memory) = (self.user, self.in_memory);
        let threads = self.log.threads(user, None, 10).await.expect("threads");
        assert_eq!(threads, self.memory.threads(in_memory, None, 10).await.expect("threads"));
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = self.log.threads(user, before.as_ref(), 1).await.expect("threads");
            found.extend(page.threads);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(found, threads.threads, "pages of one have the same threads");
        for thread in THREADS {
            for limit in [1, 2, 100] {
                let ours = self.log.turns(user, name(thread), Some(self.head), limit).await.expect("turns");
                let wanted = self.memory.turns(in_memory, name(thread), Some(self.head), limit).await.expect("turns");
                assert_eq!(shown(&ours), shown(&wanted));
            }
            let ours = self.log.turns(user, name(thread), None, 100).await.expect("turns");
            assert_eq!(
                shown(&ours),
                shown(&self.memory.turns(in_memory, name(thread), None, 100).await.expect("turns"))
            );
        }
        for after in [Offset(0), Offset(self.head.0 / 2)] {
            let ours = self.log.page(user, after, self.head, 200).await.expect("a page");
            let wanted = self.memory.page(in_memory, after, self.head, 200).await.expect("a page");
            assert_eq!((ours.trimmed, ours.through), (wanted.trimmed, wanted.through));
            assert_eq!(contents(&ours.entries), contents(&wanted.entries));
        }
        let held = self.log.restore(user, self.tenure).await.expect("held");
        let mut wanted = self.memory.restore(in_memory, self.of_memory).await.expect("held").entries;
        wanted.retain(|(offset, _)| *offset > self.trimmed);
        assert_eq!((held.trimmed, contents(&held.entries)), (self.trimmed, contents(&wanted)));
        self.check_stale().await;
    }

    async fn check_stale(&self) {
        let none = Retention::default();
        for retention in [none.age(Duration::from_millis(20)), none.turns(2), none.bytes(300), none.turns(1).bytes(100)]
        {
            let mut ours = self.log.stale(retention, self.at, usize::MAX).await.expect("an answer");
            ours.retain(|stale| stale.user == self.user);
            let ours: Vec<_> = ours.into_iter().map(|stale| (stale.thread, stale.as_of)).collect();
            let wanted = self.memory.stale(retention, self.at, usize::MAX).await.expect("an answer");
            let wanted: Vec<_> = wanted.into_iter().map(|stale| (stale.thread, stale.as_of)).collect();
            assert_eq!(ours, wanted, "{retention:?}");
        }
    }
}

type Contents = Vec<(Offset, (RunId, Kind, Option<Arc<str>>, u64, String))>;

fn contents(entries: &[(Offset, Written)]) -> Contents {
    entries.iter().map(|(offset, entry)| (*offset, content(entry))).collect()
}

fn shown(turns: &Turns) -> (Contents, Option<Offset>) {
    (contents(&turns.entries), turns.next)
}

#[test]
fn random_conversations_are_those_of_a_log_that_forgets_nothing() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let log = runtime.block_on(async { connect(&database(Server::shared()).await).await });
    let number = std::cell::Cell::new(0);
    let config =
        ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(ops in prop::collection::vec(op(), 1..50))| {
        number.set(number.get() + 1);
        runtime.block_on(async {
            let mut world = World::new(&log, &format!("user {}", number.get())).await;
            for (step, op) in ops.iter().enumerate() {
                world.step(op).await;
                if step % 8 == 7 {
                    world.check().await;
                }
            }
            world.check().await;
            log.erase(world.user).await.expect("erased");
        });
    });
}

/// RET-1: the rows of what is deleted or erased are gone when it is answered, and when a process has stopped before,
/// they go when the log is next opened.
#[tokio::test]
async fn what_is_deleted_or_erased_leaves_the_tables() {
    let server = Server::shared();
    let settings = database(server).await;
    let database = settings.url.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("a name");
    let log = connect(&settings).await;
    let rows = |word: &str| {
        let tables = ["entry", "run", "title", "stream", "past"];
        let count = tables.map(|table| format!("(select count(*) from lockstep.{table} t where t::text ~ '{word}')"));
        let found: BTreeMap<_, _> = tables
            .into_iter()
            .zip(
                server
                    .sql(database, &format!("select {}", count.join(", ")))
                    .split('|')
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            )
            .collect();
        found.into_iter().filter(|(_, count)| count != "0").map(|(table, _)| table).collect::<Vec<_>>()
    };
    // Names, titles and subjects are bytes, shown in hexadecimal digits.
    let word = |text: &str| format!("{text}|{}", text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
    let mut world = World::new(&log, "subject-of-ada").await;
    world.step(&Op::Begin(1)).await;
    world.step(&Op::End(0)).await;
    log.rename(world.user, name(THREADS[1]), Some("title-by-ada")).await.expect("renamed");
    assert_eq!(rows(&word("asks 1")), ["entry", "run"]);
    assert_eq!(rows(&word("title-by-ada")), ["title"]);
    world.step(&Op::Delete(1)).await;
    assert_eq!(rows(&format!("{}|{}", word("asks 1"), word("title-by-ada"))), Vec::<&str>::new());
    // As if a process had stopped between two statements.
    server.sql(
        database,
        "insert into lockstep.entry select user_id, 1, 1, 1, 'delta', null, null, thread, 1, '{\"left\":1}'
         from lockstep.entry where kind = 'deleted'; update lockstep.stream set swept = 0",
    );
    assert_eq!(rows("left"), ["entry"]);
    let page = log.page(world.user, Offset(0), world.head, 1_000).await.expect("a page");
    assert_eq!(page.entries.len(), 1, "the deletion alone");
    assert_eq!(rows("left"), Vec::<&str>::new());
    world.step(&Op::Begin(0)).await;
    assert_eq!(rows(&word("subject-of-ada")), ["stream"]);
    server.sql(database, "update lockstep.stream set subject = null, owner = null, erasing = true");
    assert_eq!(log.threads(world.user, None, 1).await, Err(LogError::Fenced));
    let again = connect(&settings).await;
    super::faults::until(server, database, "select count(*) from lockstep.entry", "0").await;
    assert_eq!(rows(&format!("{}|{}", word("asks 2"), word("subject-of-ada"))), Vec::<&str>::new());
    again.probe().await.expect("a healthy log answers");
}
