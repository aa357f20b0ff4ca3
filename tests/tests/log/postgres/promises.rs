//! What the engine must promise, and what a failover does.

use lockstep::log::postgres::{Failover, PostgresLog, Settings, migrate};
use lockstep::log::{Acquired, Log, LogError};
use lockstep::testing::log::{PROCESS, content, own, written};
use lockstep_model::run::Kind;
use lockstep_model::{Offset, RunId};
use lockstep_tests::postgres::Server;

use super::faults::{again, until};
use super::{connect, database};

async fn refusal(settings: &Settings) -> String {
    PostgresLog::connect(settings.clone()).await.expect_err("it is refused").to_string()
}

#[tokio::test]
async fn a_database_without_the_tables_is_refused_with_what_to_do() {
    let server = Server::shared();
    let settings = Settings::new(server.url(&server.database()));
    let said = refusal(&settings).await;
    assert!(said.contains("has no tables of Lockstep: run `lockstep migrate`"), "{said}");
    assert_eq!(migrate(settings.clone()).await, Ok((0, 3)));
    assert_eq!(migrate(settings.clone()).await, Ok((3, 3)), "it may be repeated");
    drop(connect(&settings).await);
    let name = settings.url.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("a name");
    server.sql(name, "delete from lockstep.version where version > 1");
    let said = refusal(&settings).await;
    assert!(said.contains("have version 1, but this gateway needs version 3: run `lockstep migrate`"), "{said}");
    server.sql(name, "update lockstep.version set version = 7");
    drop(connect(&settings).await);
    server.sql(name, "update lockstep.version set since = 7");
    let said = refusal(&settings).await;
    assert!(said.contains("start a newer gateway"), "{said}");
}

/// Version 3 adds the tables of notices to everyone.
#[tokio::test]
async fn tables_of_version_2_are_migrated_with_what_they_hold() {
    let server = Server::shared();
    let settings = database(server).await;
    let name = settings.url.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("a name");
    let (user, entry) = {
        let log = connect(&settings).await;
        let user = log.user("ada").await.expect("a number");
        let entry = written(2, Kind::Notice, "before");
        let tenure = own(&log, user).await;
        log.append(user, tenure, Offset(0), vec![entry.clone()]).await.expect("appended");
        (user, entry)
    };
    server.sql(name, "drop table lockstep.broadcast, lockstep.due; delete from lockstep.version where version > 2");
    let said = refusal(&settings).await;
    assert!(said.contains("have version 2, but this gateway needs version 3: run `lockstep migrate`"), "{said}");
    assert_eq!(migrate(settings.clone()).await, Ok((2, 3)));
    let log = connect(&settings).await;
    let tenure = own(&log, user).await;
    let held = log.restore(user, tenure).await.expect("what the log holds");
    assert_eq!(held.entries.iter().map(|(_, entry)| content(entry)).collect::<Vec<_>>(), [content(&entry)]);
    let data = serde_json::value::to_raw_value(&serde_json::json!({})).expect("an object is JSON");
    let members = log.members().expect("members");
    members.broadcast(RunId(4), &data).await.expect("stored");
    assert_eq!(members.due(PROCESS, 9).await.expect("what is due").len(), 1);
}

/// Several processes migrate at the same time.
#[tokio::test]
async fn migrations_wait_for_each_other() {
    let server = Server::shared();
    let settings = Settings::new(server.url(&server.database()));
    let migrations = (0..4).map(|_| migrate(settings.clone()));
    for migrated in futures_util::future::join_all(migrations).await {
        assert_eq!(migrated.expect("tables").1, 3);
    }
    drop(connect(&settings).await);
}

#[tokio::test]
async fn a_failover_that_keeps_is_refused_unless_commits_wait_for_a_standby() {
    let settings = database(Server::shared()).await.failover(Failover::Keeps);
    let said = refusal(&settings).await;
    assert!(said.contains("needs a synchronous standby: set synchronous_standby_names"), "{said}");
    let local = ["fsync=off", "synchronous_standby_names=absent", "synchronous_commit=local"];
    let server = Server::start(&local).unwrap_or_else(|why| panic!("{why}"));
    let settings = database(&server).await.failover(Failover::Keeps);
    let with = |commit: &str| {
        let mut settings = settings.clone();
        settings.url = format!("{}&options=-c%20synchronous_commit%3D{commit}", settings.url);
        settings
    };
    for commit in ["off", "local", "remote_write"] {
        let said = refusal(&with(commit)).await;
        assert!(said.contains(&format!("needs synchronous_commit = on or remote_apply, and it is {commit}")), "{said}");
    }
    for commit in ["on", "remote_apply"] {
        drop(PostgresLog::connect(with(commit)).await.expect("a log"));
    }
    let said = refusal(&with("off").failover(Failover::NewEpoch)).await;
    assert!(said.contains("synchronous_commit = off"), "{said}");
    drop(PostgresLog::connect(with("local").failover(Failover::NewEpoch)).await.expect("a log"));
}

#[tokio::test]
async fn no_error_and_no_debug_output_has_the_password() {
    let server = Server::shared();
    let secret = "s3cr3t-w0rd";
    let urls = [
        format!("postgres://postgres:{secret}@127.0.0.1:{}/none?sslmode=disable", server.port),
        format!("postgres://postgres:{secret}@127.0.0.1:1/none"),
        format!("postgres://postgres:{secret}@127.0.0.1:x/{secret}"),
        format!("postgres://postgres:{secret}?{secret}={secret}"),
        format!("host=127.0.0.1 port=1 password={secret}"),
        format!("password={secret} {secret}"),
    ];
    for url in urls {
        let settings = Settings::new(url);
        let said = format!("{} {settings:?}", refusal(&settings).await);
        assert!(said.contains("PostgreSQL") && !said.contains(secret), "{said}");
    }
}

/// A failover that may lose what was acknowledged: owners of before are fenced at once, and the stream begins a new
/// epoch.
#[tokio::test]
async fn another_timeline_is_another_epoch_and_fences_the_owner_at_once() {
    let server = Server::start(&["fsync=off"]).unwrap_or_else(|why| panic!("{why}"));
    let log = connect(&database(&server).await).await;
    let (ada, bob) = (log.user("ada").await.expect("a number"), log.user("bob").await.expect("a number"));
    let first = own(&log, ada).await;
    let batch = vec![written(1, Kind::Notice, "before")];
    let offsets = log.append(ada, first, Offset(0), batch.clone()).await.expect("appended");
    server.crash();
    assert_eq!(again(|| log.append(ada, first, offsets[0], Vec::new())).await, Ok(Vec::new()), "a crash is none");
    server.next_timeline();
    assert_eq!(again(|| log.append(ada, first, offsets[0], Vec::new())).await, Err(LogError::Fenced));
    assert_eq!(again(|| log.append(ada, first, offsets[0], batch.clone())).await, Err(LogError::Fenced));
    assert_eq!(again(|| log.restore(ada, first)).await.map(|_| ()), Err(LogError::Fenced));
    assert_eq!(again(|| log.trim(ada, first, Offset(1))).await, Err(LogError::Fenced));
    let Ok(Acquired::Owner(second)) = again(|| log.acquire(ada, PROCESS)).await else { panic!("an owner") };
    assert!(second.epoch > first.epoch && second.token > first.token, "{first:?} {second:?}");
    let held = again(|| log.restore(ada, second)).await.expect("held");
    assert_eq!(held.entries.iter().map(|(_, entry)| content(entry)).collect::<Vec<_>>(), [content(&batch[0])]);
    again(|| log.append(ada, second, offsets[0], batch.clone())).await.expect("appended");
    let again_owned = own(&log, ada).await;
    assert_eq!(again_owned.epoch, second.epoch, "one failover is one epoch");
    let carol = again(|| log.user("carol")).await.expect("a number");
    assert!(carol.0 > bob.0 + (1 << 39), "a number that a failover lost is not given to another: {carol:?}");
}

/// A synchronous standby is promoted: nothing is lost, and owners go on in the same epoch.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_keeps_lets_owners_go_on() {
    let names = ["fsync=off", "synchronous_standby_names=one"];
    let server = Server::start(&names).unwrap_or_else(|why| panic!("{why}"));
    let standby = server.standby("one");
    let mut settings = database(&server).await.failover(Failover::Keeps);
    let port = |server: &Server| format!("127.0.0.1:{}", server.port);
    settings.url = settings.url.replace(&port(&server), &format!("{},{}", port(&server), port(&standby)));
    let log = std::sync::Arc::new(connect(&settings).await);
    let user = log.user("ada").await.expect("a number");
    let tenure = own(&*log, user).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let appending = tokio::spawn({
        let log = std::sync::Arc::clone(&log);
        async move {
            let mut acknowledged = vec![Offset(0)];
            while !*stopped.borrow() {
                let (after, run) = (acknowledged[acknowledged.len() - 1], acknowledged.len() as u64);
                let entry = || vec![written(run, Kind::Notice, "")];
                acknowledged.extend(again(|| log.append(user, tenure, after, entry())).await.expect("appended"));
            }
            acknowledged.split_off(1)
        }
    });
    let name = settings.url.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("a name");
    until(&server, name, "select count(*) > 200 from lockstep.entry", "t").await;
    server.kill();
    standby.promote();
    let _third = standby.standby("one");
    let count: u64 = standby.sql(name, "select count(*) from lockstep.entry").parse().expect("a number");
    until(&standby, name, &format!("select count(*) > {} from lockstep.entry", count + 100), "t").await;
    stop.send_replace(true);
    let acknowledged = appending.await.expect("appended");
    let held = again(|| log.restore(user, tenure)).await.expect("the tenure is still the newest");
    assert_eq!(held.entries.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), acknowledged);
    assert_eq!(own(&*log, user).await.epoch, tenure.epoch, "nothing was lost, so the epoch is the same");
}
