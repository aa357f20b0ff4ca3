//! Answers, requests, connections and the engine are lost.

use std::future::Future;
use std::time::{Duration, Instant};

use lockstep::log::postgres::{PostgresLog, Settings, migrate};
use lockstep::log::{Acquired, Log, LogError, Members as _};
use lockstep::testing::log::{content, own, written};
use lockstep_model::run::{Kind, Received};
use lockstep_model::{Incarnation, MessageId, Offset, Tenure, ThreadId, UserId};
use lockstep_tests::postgres::Server;

use super::proxy::Proxy;
use super::{LONG, connect, database};

/// How long a statement may take where answers are lost.
const SHORT: Duration = Duration::from_millis(500);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

const OTHER: Incarnation = Incarnation(2);

/// A log behind a proxy, and the same one reached directly by another process.
struct Pair {
    name: String,
    proxy: Proxy,
    log: PostgresLog,
    other: PostgresLog,
    user: UserId,
    tenure: Tenure,
}

impl Pair {
    async fn new(timeout: Duration) -> Self {
        let server = Server::shared();
        let name = server.database();
        let direct = Settings::new(server.url(&name));
        migrate(direct.clone()).await.expect("tables");
        let proxy = Proxy::before(server.port).await;
        let url = direct.url.replace(&format!(":{}/", server.port), &format!(":{}/", proxy.port));
        let log = connect(&Settings::new(url).timeout(timeout)).await;
        let other = PostgresLog::connect(direct).await.expect("a log");
        other.renew(OTHER, "other:1", LONG).await.expect("a lease");
        let user = log.user("ada").await.expect("a number");
        let tenure = own(&log, user).await;
        Self { name, proxy, log, other, user, tenure }
    }

    /// The number of entries in the table.
    fn stored(&self) -> String {
        Server::shared().sql(&self.name, "select count(*) from lockstep.entry")
    }

    /// The other process takes the user over.
    async fn take_over(&self) -> Tenure {
        self.other.depart(lockstep::testing::log::PROCESS).await.expect("departed");
        granted(self.other.acquire(self.user, OTHER).await)
    }
}

fn granted(answer: Result<Acquired, LogError>) -> Tenure {
    let answer = answer.expect("an answer");
    let Acquired::Owner(tenure) = answer else { panic!("the user has an owner in another process: {answer:?}") };
    tenure
}

fn unavailable<T: core::fmt::Debug>(answer: Result<T, LogError>) {
    let error = answer.map(|_| ()).expect_err("what is lost is not answered");
    assert!(matches!(error, LogError::Unavailable(_)), "{error}");
}

/// Repeats a call until the log is available.
pub(super) async fn again<T, F: Future<Output = Result<T, LogError>>>(call: impl Fn() -> F) -> Result<T, LogError> {
    let (began, mut tick) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    loop {
        match call().await {
            Err(LogError::Unavailable(why)) => assert!(began.elapsed() < PATIENCE, "{why}"),
            answer => return answer,
        }
        tick.tick().await;
    }
}

/// Waits until a query answers with this.
pub(super) async fn until(server: &Server, database: &str, query: &str, wanted: &str) {
    let (began, mut tick) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    loop {
        let found = server.sql(database, query);
        if found == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{query}: {found}");
        tick.tick().await;
    }
}

fn batch(run: u64) -> Vec<lockstep::log::Written> {
    let received = Kind::Received(Received::immediate(MessageId(run), ThreadId(run)));
    vec![written(run, received, "asked"), written(run, Kind::Started, ""), written(run, Kind::Completed, "so")]
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_repeated_and_stored_once() {
    let pair = Pair::new(SHORT).await;
    let (user, tenure) = (pair.user, pair.tenure);
    pair.proxy.swallow();
    unavailable(pair.log.append(user, tenure, Offset(0), batch(1)).await);
    until(Server::shared(), &pair.name, "select count(*) from lockstep.entry", "3").await;
    let more = [batch(1), batch(2)].concat();
    let offsets = again(|| pair.log.append(user, tenure, Offset(0), more.clone())).await.expect("appended");
    assert_eq!(offsets, (1..=6).map(Offset).collect::<Vec<_>>());
    assert_eq!(again(|| pair.log.append(user, tenure, Offset(0), more.clone())).await, Ok(offsets.clone()));
    assert_eq!(pair.stored(), "6");
    let held = again(|| pair.log.restore(user, tenure)).await.expect("held");
    let found: Vec<_> = held.entries.iter().map(|(offset, entry)| (*offset, content(entry))).collect();
    assert_eq!(found, offsets.into_iter().zip(more.iter().map(content)).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_acquisition_whose_answer_is_lost_is_repeated_and_gets_a_generation_of_its_own() {
    let pair = Pair::new(SHORT).await;
    pair.proxy.swallow();
    unavailable(pair.log.acquire(pair.user, lockstep::testing::log::PROCESS).await);
    let generation = "select generation from lockstep.stream";
    until(Server::shared(), &pair.name, generation, &format!("{}", pair.tenure.token.0 + 1)).await;
    let tenure = granted(again(|| pair.log.acquire(pair.user, lockstep::testing::log::PROCESS)).await);
    assert!(tenure.token.0 > pair.tenure.token.0 + 1, "the lost one is not granted again");
    again(|| pair.log.append(pair.user, tenure, Offset(0), batch(1))).await.expect("appended");
}

#[tokio::test]
async fn a_release_whose_answer_is_lost_may_be_repeated_and_frees_the_user() {
    let pair = Pair::new(SHORT).await;
    pair.proxy.swallow();
    unavailable(pair.log.release(pair.user, pair.tenure).await);
    until(Server::shared(), &pair.name, "select owner is null from lockstep.stream", "t").await;
    again(|| pair.log.release(pair.user, pair.tenure)).await.expect("released again");
    let tenure = granted(pair.other.acquire(pair.user, OTHER).await);
    assert!(tenure.token > pair.tenure.token);
    assert_eq!(again(|| pair.log.release(pair.user, pair.tenure)).await, Err(LogError::Fenced));
    pair.other.append(pair.user, tenure, Offset(0), batch(1)).await.expect("a late release takes nothing away");
}

#[tokio::test]
async fn an_append_that_arrives_after_a_take_over_is_refused() {
    for takes_over in [true, false] {
        let pair = Pair::new(SHORT).await;
        pair.proxy.hold();
        unavailable(pair.log.append(pair.user, pair.tenure, Offset(0), batch(1)).await);
        let next = if takes_over { Some(pair.take_over().await) } else { None };
        drop(pair.log);
        pair.proxy.deliver().await;
        let stored = Server::shared().sql(&pair.name, "select count(*) from lockstep.entry");
        match next {
            Some(next) => {
                assert_eq!(stored, "0", "a late append of an earlier owner changes nothing");
                let offsets = pair.other.append(pair.user, next, Offset(0), batch(2)).await.expect("appended");
                assert_eq!(offsets[0], Offset(1));
            }
            None => assert_eq!(stored, "3", "what is delayed arrives"),
        }
    }
}

#[tokio::test]
async fn an_owner_that_stops_in_the_middle_does_not_hold_up_its_successor() {
    let pair = Pair::new(LONG).await;
    pair.proxy.swallow();
    // The owner waits for an answer for the rest of the test.
    let stopped = pair.log.append(pair.user, pair.tenure, Offset(0), batch(1));
    until(Server::shared(), &pair.name, "select count(*) from lockstep.entry", "3").await;
    let next = tokio::time::timeout(PATIENCE, pair.take_over()).await.expect("the user is free");
    let held = pair.other.restore(pair.user, next).await.expect("held");
    assert_eq!(held.entries.len(), 3, "what the earlier owner appended is there");
    drop(stopped);
}

/// Experiment 1 of the decision: an acquisition that waits for an append of the earlier owner, and the restore after
/// it.
#[tokio::test]
async fn a_restore_has_the_append_that_its_acquisition_waited_for() {
    let server = Server::shared();
    let pair = Pair::new(LONG).await;
    server.sql(
        &pair.name,
        "create table public.latch (id int);
         create function public.wait() returns trigger language plpgsql as
             $$ begin lock table public.latch in share mode; return new; end $$;
         create trigger wait before insert on lockstep.entry for each row execute function public.wait();",
    );
    let (database, url) = (pair.name.clone(), server.url(&pair.name));
    let latch = super::session::Session::open(&url, "begin; lock table public.latch in exclusive mode;");
    let appending = pair.log.append(pair.user, pair.tenure, Offset(0), batch(1));
    let waits = "select count(*) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock' and query like '%";
    until(server, &database, &format!("{waits}unnest%'"), "1").await;
    let (taken, appended) = tokio::join!(pair.take_over(), async {
        until(server, &database, &format!("{waits}no lease%'"), "1").await;
        drop(latch);
        appending.await
    });
    let offsets = appended.expect("the append was there first");
    let held = pair.other.restore(pair.user, taken).await.expect("held");
    assert_eq!(held.entries.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), offsets);
}

/// Each user appends, and repeats what was not answered, while the engine crashes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_survives_crashes_of_the_engine() {
    let server = Server::start(&["max_connections=50"]).unwrap_or_else(|why| panic!("{why}"));
    let log = std::sync::Arc::new(connect(&database(&server).await).await);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut users = Vec::new();
    for number in 0..8 {
        let (log, stopped) = (std::sync::Arc::clone(&log), stopped.clone());
        users.push(tokio::spawn(async move {
            let user = again(|| async { log.user(&format!("user {number}")).await }).await.expect("a number");
            let tenure = own(&*log, user).await;
            let (mut acknowledged, mut run) = (Vec::new(), 1);
            while !*stopped.borrow() {
                let after = acknowledged.last().map_or(Offset(0), |(offset, _)| *offset);
                let offsets = again(|| log.append(user, tenure, after, batch(run))).await.expect("appended");
                acknowledged.extend(offsets.into_iter().zip(batch(run).iter().map(content)));
                run += 1;
            }
            (user, tenure, acknowledged)
        }));
    }
    let database = server.sql("postgres", "select datname from pg_database where datname like 'test%'");
    for crash in 1..=3 {
        let count = format!("select count(*) > {} from lockstep.entry", crash * 100);
        until(&server, &database, &count, "t").await;
        server.crash();
    }
    until(&server, &database, "select count(*) > 400 from lockstep.entry", "t").await;
    stop.send_replace(true);
    for user in users {
        let (user, tenure, acknowledged) = user.await.expect("a user");
        let held = again(|| log.restore(user, tenure)).await.expect("held");
        let found: Vec<_> = held.entries.iter().map(|(offset, entry)| (*offset, content(entry))).collect();
        assert_eq!(found, acknowledged);
    }
}

/// Experiment 3 of the decision: a commit whose wait for the standby is cancelled is no answer, and a repetition waits,
/// too.
#[tokio::test]
async fn a_commit_that_did_not_wait_for_its_standby_is_not_answered() {
    let server = Server::start(&["fsync=off"]).unwrap_or_else(|why| panic!("{why}"));
    let settings = database(&server).await.timeout(Duration::from_secs(3));
    let log = connect(&settings).await;
    let user = log.user("ada").await.expect("a number");
    let tenure = own(&log, user).await;
    let standbys = |names: &str| {
        server.sql("postgres", &format!("alter system set synchronous_standby_names = '{names}'"));
        server.sql("postgres", "select pg_reload_conf()");
    };
    standbys("absent");
    let database = server.sql("postgres", "select datname from pg_database where datname like 'test%'");
    until(&server, &database, "show synchronous_standby_names", "absent").await;
    let waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    let append = || log.append(user, tenure, Offset(0), batch(1));
    let (answer, ()) = tokio::join!(append(), async {
        until(&server, &database, waiting, "1").await;
        server.sql(&database, "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'");
    });
    unavailable(answer);
    assert_eq!(server.sql(&database, "select count(*) from lockstep.entry"), "3", "it is visible");
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let why = loop {
        tick.tick().await;
        match append().await {
            Err(LogError::Unavailable(why)) if why.contains("not answered") => break why,
            Err(LogError::Unavailable(_)) => {}
            answer => panic!("a repetition writes, and waits for the standby: {answer:?}"),
        }
    };
    assert!(why.contains("3 s"), "{why}");
    standbys("");
    assert_eq!(again(append).await, Ok((1..=3).map(Offset).collect()));
}
