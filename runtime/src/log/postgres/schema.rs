//! The tables, and their migrations.

use super::connection::Connection;
use super::{NotConnected, Settings, refused};

/// The schema version that this gateway needs.
pub(super) const VERSION: i32 = 3;

/// The newest format of a stream's content that this gateway reads.
pub(super) const FORMAT: i16 = 1;

/// One migration runs at a time: the key of its advisory lock.
const LOCK: i64 = 0x6c6f_636b_7374_6570;

/// The migration to each version, from the first. A version is never changed once it was released.
const MIGRATIONS: [Migration; 3] = [
    Migration { to: 1, since: 1, tables: FIRST },
    Migration { to: 2, since: 1, tables: SECOND },
    Migration { to: 3, since: 1, tables: THIRD },
];

struct Migration {
    to: i32,
    /// The oldest schema version whose gateways can use these tables, so that old and new ones run at the same time.
    since: i32,
    tables: &'static str,
}

/// Names of users and threads and titles are `bytea`: they may contain NUL, which `text` cannot. `data` is JSON, which
/// escapes it. Numbers of 64 bits without a sign are stored with the same bits.
const FIRST: &str = "
    -- The timeline of the engine, which a failover raises.
    create function lockstep.timeline() returns int language sql volatile as
        $$ select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int $$;

    create sequence lockstep.user_number;

    -- A user, its ownership and the bounds of its stream. The row of an erased user stays, without a subject.
    create table lockstep.stream (
        user_id bigint primary key,
        subject bytea unique,
        epoch bigint not null,
        generation bigint not null default 0,
        -- The incarnation of the process that owns the user, if any does.
        owner bigint,
        -- The head when the owner acquired the user: its entries are after it.
        since bigint not null default 0,
        head bigint not null default 0,
        trimmed bigint not null default 0,
        read bigint not null default 0,
        -- The newest deletion of a thread, and the newest one whose content was removed.
        deleted bigint not null default 0,
        swept bigint not null default 0,
        -- The user is erased, but not all of its content yet.
        erasing boolean not null default false,
        timeline int not null,
        format smallint not null default 1
    ) with (fillfactor = 70);
    create index stream_unswept on lockstep.stream (user_id) where deleted > swept;
    create index stream_erasing on lockstep.stream (user_id) where erasing;

    -- An event. Trimmed ones stay, as the user's conversations.
    create table lockstep.entry (
        user_id bigint not null,
        at_offset bigint not null,
        run bigint not null,
        generation bigint not null,
        kind text not null,
        -- What else the kind has, as JSON.
        about text,
        message bigint,
        thread bytea not null,
        at bigint not null,
        data text not null,
        primary key (user_id, at_offset)
    );
    create index entry_deletions on lockstep.entry (user_id, at_offset) where kind = 'deleted';

    -- A run of a thread that is not deleted: its first entry, and its last one if it has ended.
    create table lockstep.run (
        user_id bigint not null,
        begin bigint not null,
        run bigint not null,
        thread bytea not null,
        message bigint,
        title bytea,
        last bigint,
        ended bigint,
        primary key (user_id, begin),
        unique (user_id, run)
    );
    create index run_by_thread on lockstep.run (user_id, thread, begin);
    create index run_by_end on lockstep.run (ended);

    -- The title that the user gave a thread, and the head at that time.
    create table lockstep.title (
        user_id bigint not null,
        thread bytea not null,
        title bytea not null,
        as_of bigint not null,
        primary key (user_id, thread)
    );

    -- A message whose thread is deleted: its id, which does not run again.
    create table lockstep.past (
        user_id bigint not null,
        begin bigint not null,
        message bigint not null,
        primary key (user_id, begin)
    );

    -- A process that shares the log. A lease that has ended stays for some days, so that it is not granted again.
    create table lockstep.member (
        incarnation bigint primary key,
        address text not null,
        expires timestamptz not null,
        -- The mark of the newest revocation that it has applied.
        applied bigint not null default 0
    );
    create index member_expires on lockstep.member (expires);

    -- Revocations, in the order of their marks.
    create table lockstep.revocation (
        mark bigint primary key,
        subject bytea not null,
        credential bigint,
        -- Milliseconds since the Unix epoch.
        at bigint not null,
        stored timestamptz not null default now()
    );
    create table lockstep.revocation_mark (newest bigint not null);
    insert into lockstep.revocation_mark values (0);
";

/// What gateways keep beside the log.
const SECOND: &str = "
    -- Keys that all gateways use.
    create table lockstep.secret (name text primary key, key bytea not null);

    -- The accounts of the built-in login, as the file of a data directory has them; null if there never were any.
    create table lockstep.roster (version bigint not null, content bytea);
    insert into lockstep.roster values (0, null);

    -- A login, its newest cookie, and when it began and that cookie was created.
    create table lockstep.login (
        login bigint primary key,
        subject bytea not null,
        -- The version of the password that it was made with.
        password bigint not null,
        began_age bigint not null,
        began_wall bigint not null,
        turn bigint not null,
        turned_age bigint not null,
        turned_wall bigint not null
    ) with (fillfactor = 70);
    create index login_by_subject on lockstep.login (subject);

    -- Changes with each change to a subject's logins. No row is version 0.
    create table lockstep.login_version (subject bytea primary key, version bigint not null) with (fillfactor = 70);

    -- For how many milliseconds gateways have run on these tables.
    create table lockstep.login_clock (age bigint not null, tick bigint not null);
    insert into lockstep.login_clock values (0, 0);

    -- A ticket's digest, and the token that it stands for, which only the ticket reveals.
    create table lockstep.ticket (digest bytea primary key, token bytea not null, expires timestamptz not null);
    create index ticket_expires on lockstep.ticket (expires);
";

/// Notices to everyone. A gateway of an earlier version does not deliver them: they stay due until their users have an
/// owner that does.
const THIRD: &str = "
    -- A notice for all users who had an owner when it was stored, and its id.
    create table lockstep.broadcast (
        place bigint generated always as identity primary key,
        notice bigint not null unique,
        data text not null,
        -- For how many users it was stored.
        users bigint not null,
        stored timestamptz not null default now()
    );

    -- A user whose stream does not have that notice yet, and its run there. The append that puts it there removes the
    -- row.
    create table lockstep.due (
        user_id bigint not null,
        run bigint not null,
        notice bigint not null,
        primary key (user_id, run)
    );
    create index due_by_notice on lockstep.due (notice);
";

/// The versions of the tables: the newest migration, and the oldest version whose gateways can use them. `None` if
/// there are no tables.
async fn versions(connection: &Connection) -> Result<Option<(i32, i32)>, tokio_postgres::Error> {
    let there = connection.client().query_one("select to_regclass('lockstep.version') is not null", &[]).await?;
    if !there.get::<_, bool>(0) {
        return Ok(None);
    }
    let newest = "select version, since from lockstep.version order by version desc limit 1";
    let newest = connection.client().query_opt(newest, &[]).await?;
    Ok(newest.map(|row| (row.get(0), row.get(1))))
}

/// Checks that the tables are those that this gateway needs.
pub(super) async fn check(connection: &Connection, settings: &Settings) -> Result<(), NotConnected> {
    let place = settings.place();
    let found = versions(connection).await.map_err(|error| refused(settings, &error))?;
    match found {
        Some((version, since)) if version >= VERSION && since <= VERSION => Ok(()),
        Some((version, _)) if version < VERSION => Err(NotConnected::from(format!(
            "the tables in PostgreSQL at {place} have version {version}, but this gateway needs version {VERSION}: run \
             `lockstep migrate`"
        ))),
        Some((version, since)) => Err(NotConnected::from(format!(
            "the tables in PostgreSQL at {place} have version {version}, which gateways of version {since} and later can \
             use, but this one has version {VERSION}: start a newer gateway"
        ))),
        None => {
            Err(NotConnected::from(format!("PostgreSQL at {place} has no tables of Lockstep: run `lockstep migrate`")))
        }
    }
}

/// Creates the tables, or migrates those of an earlier version. Returns their version before.
pub(super) async fn migrate(connection: &Connection, settings: &Settings) -> Result<i32, NotConnected> {
    let failed = |error: tokio_postgres::Error| refused(settings, &error);
    let client = connection.client();
    // The lock lasts until the connection is closed.
    client.query("select pg_advisory_lock($1)", &[&LOCK]).await.map_err(failed)?;
    client
        .batch_execute(
            "create schema if not exists lockstep;
             create table if not exists lockstep.version (
                 version int primary key, since int not null, migrated timestamptz not null default now()
             );",
        )
        .await
        .map_err(failed)?;
    let before = versions(connection).await.map_err(failed)?.map_or(0, |(version, _)| version);
    for Migration { to, since, tables } in MIGRATIONS.iter().filter(|migration| migration.to > before) {
        let version = format!("insert into lockstep.version (version, since) values ({to}, {since});");
        client.batch_execute(&format!("begin; {tables} {version} commit;")).await.map_err(failed)?;
    }
    Ok(before)
}
