//! The statements for the state that gateways keep beside the log: accounts, logins, keys and tickets.
//!
//! | rule | where |
//! | --- | --- |
//! | a change is of what was read | [`CHANGE_ROSTER`] and [`WRITE_LOGINS`] compare versions, which never come twice, even after a failover |
//! | a login ends on all gateways | [`WRITE_LOGINS`] adds its revocation in the same transaction |
//! | no login begins or goes on with accounts that have changed | [`WRITE_LOGINS`] locks the roster that it was decided with |
//! | what was read is answered only once it is kept | [`SETTLE`], [`KEEP_KEY`] write, and so wait for the standby as the first write did |

/// A version that was never there before, on any timeline.
macro_rules! after {
    ($version:literal) => {
        concat!("greatest(", $version, ", (lockstep.timeline() - 1)::bigint << 40) + 1")
    };
}

/// The engine's clock, in milliseconds since the Unix epoch.
macro_rules! wall {
    () => {
        "(extract(epoch from clock_timestamp()) * 1000)::bigint"
    };
}

/// Keeps a key unless there is one of this name. Returns the one that is kept.
pub(in super::super) const KEEP_KEY: &str = "
    insert into lockstep.secret as s (name, key) values ($1, $2)
    on conflict (name) do update set key = s.key
    returning key";

/// Returns the accounts, unless they have this version.
pub(in super::super) const ROSTER: &str =
    "select version, coalesce(content, ''::bytea) from lockstep.roster where version is distinct from $1";

/// Replaces the accounts of this version.
pub(in super::super) const CHANGE_ROSTER: &str = concat!(
    "update lockstep.roster set content = $2, version = ",
    after!("version"),
    " where version = $1 returning version"
);

/// Returns the logins of a subject: of the one in parameter 2, or of the one whose login is in parameter 1. One row for
/// each, or one without a login.
pub(in super::super) const LOGINS: &str = concat!(
    "select c.age, ",
    wall!(),
    ", s.subject, coalesce(v.version, 0),
        l.login, l.password, l.began_age, l.began_wall, l.turn, l.turned_age, l.turned_wall
     from lockstep.login_clock c
     cross join lateral (
        select coalesce($2::bytea, (select o.subject from lockstep.login o where o.login = $1::bigint)) as subject
     ) s
     left join lockstep.login_version v on v.subject = s.subject
     left join lockstep.login l on l.subject = s.subject"
);

/// Writes logins of one subject. Parameters: the subject, the version of its logins and that of the accounts, with which
/// it was decided; a row for each login that goes on; the logins that end. Returns a row if both versions are the newest:
/// that of the logins from now on.
pub(in super::super) const WRITE_LOGINS: &str = concat!(
    "with roster as (
        select version from lockstep.roster where version = $3 for share
    ), known as (
        update lockstep.login_version v set version = ",
    after!("v.version"),
    " from roster where v.subject = $1 and v.version = $2 returning v.version
    ), first as (
        insert into lockstep.login_version (subject, version)
        select $1, ",
    after!("0"),
    " from roster where $2 = 0
        on conflict (subject) do nothing returning version
    ), taken as (
        select version from known union all select version from first
    ), kept as (
        insert into lockstep.login as l
            (login, subject, password, began_age, began_wall, turn, turned_age, turned_wall)
        select u.login, $1, u.password, u.began_age, u.began_wall, u.turn, u.turned_age, u.turned_wall
        from taken, unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
                           $10::bigint[])
            as u (login, password, began_age, began_wall, turn, turned_age, turned_wall)
        on conflict (login) do update
            set turn = excluded.turn, turned_age = excluded.turned_age, turned_wall = excluded.turned_wall
            where l.subject = excluded.subject
    ), ended as (
        delete from lockstep.login l using taken where l.subject = $1 and l.login = any($11::bigint[])
    ), mark as (
        update lockstep.revocation_mark m set newest = greatest(m.newest, (lockstep.timeline() - 1)::bigint << 40)
            + cardinality($11::bigint[])
        from taken where cardinality($11::bigint[]) > 0
        returning m.newest
    ), revoked as (
        insert into lockstep.revocation (mark, subject, credential, at)
        select m.newest - cardinality($11::bigint[]) + e.place, $1, e.login, ",
    wall!(),
    " from mark m, unnest($11::bigint[]) with ordinality as e (login, place)
    )
    select version from taken"
);

/// Returns each subject with a login, and the versions of the passwords that its logins were made with.
pub(in super::super) const HOLDERS: &str = "select distinct subject, password from lockstep.login";

/// Forgets logins that have expired by more than an hour, in which each request that has read one is over.
pub(in super::super) const FORGET_LOGINS: &str = "
    delete from lockstep.login l using lockstep.login_clock c
    where c.age - l.turned_age - 3600000 > $1 or c.age - l.began_age - 3600000 > $2";

/// Forgets an erased subject.
pub(in super::super) const FORGET_SUBJECT: &str = "
    with logins as (delete from lockstep.login where subject = $1)
    delete from lockstep.login_version where subject = $1";

/// Adds the time since a tick of the clock of logins was seen, unless there was another tick. Returns the newest that
/// is known.
pub(in super::super) const TICK: &str = "
    with ticked as (
        update lockstep.login_clock set age = age + $2, tick = tick + 1 where tick = $1 returning tick
    )
    select coalesce((select tick from ticked), (select tick from lockstep.login_clock))";

/// Returns the mark of the newest revocation, once it is kept.
pub(in super::super) const SETTLE: &str = "update lockstep.revocation_mark set newest = newest returning newest";

/// Keeps a ticket for that many seconds.
pub(in super::super) const KEEP_TICKET: &str = "
    insert into lockstep.ticket (digest, token, expires)
    values ($1, $2, clock_timestamp() + make_interval(secs => $3::float8))";

/// Redeems a ticket. Returns what it stands for, unless it has expired.
pub(in super::super) const TAKE_TICKET: &str = "
    with taken as (delete from lockstep.ticket where digest = $1 returning token, expires)
    select token from taken where expires > clock_timestamp()";

/// Forgets tickets that have expired.
pub(in super::super) const FORGET_TICKETS: &str = "delete from lockstep.ticket where expires < clock_timestamp()";

/// What each connection prepares.
pub(in super::super) const ALL: &[&str] = &[
    KEEP_KEY,
    ROSTER,
    CHANGE_ROSTER,
    LOGINS,
    WRITE_LOGINS,
    HOLDERS,
    FORGET_LOGINS,
    FORGET_SUBJECT,
    TICK,
    SETTLE,
    KEEP_TICKET,
    TAKE_TICKET,
    FORGET_TICKETS,
];
