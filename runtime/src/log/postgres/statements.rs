//! Every statement that the log executes. Each is a transaction of its own.
//!
//! | rule | where |
//! | --- | --- |
//! | the statement that writes compares epoch and generation | [`APPEND`], [`MARK`], [`RELEASE`] lock the stream's row, and decide by its newest version |
//! | a repeated append writes | [`APPEND`] updates the row of each append that it takes, although its entries are there |
//! | rows are locked in the order of users | [`APPEND`] |
//! | what an earlier owner appended is restored | [`RESTORE`] begins after [`ACQUIRE`] was answered |
//! | a notice to everyone is due until it is in the stream | [`APPEND`] removes what is due in the statement that stores the notice |
//! | the engine's clock decides on leases | `now()` in [`ACQUIRE`] and in the statements of members |

pub(super) mod broadcasts;
pub(super) mod logins;

/// The condition that a tenure is the newest: parameters 2 and 3 are its epoch and generation, 4 is true if a failover
/// loses nothing. Otherwise a tenure from before a failover is void.
macro_rules! tenure {
    () => {
        "s.user_id = $1 and s.subject is not null and s.epoch = $2 and s.generation = $3
         and ($4::bool or s.timeline = (select lockstep.timeline()))"
    };
}

/// The content of an entry.
macro_rules! entry {
    () => {
        "e.at_offset, e.run, e.kind, e.about, e.message, e.thread, e.at, e.data"
    };
}

/// Returns a user's number.
pub(super) const FIND: &str = "select user_id from lockstep.stream where subject = $1";

/// Gives a user a number. Numbers of different timelines differ: if a failover lost one, no other user gets it.
pub(super) const ENROL: &str = "
    insert into lockstep.stream as s (user_id, subject, epoch, timeline)
    select (t.timeline - 1)::bigint * (1::bigint << 40) + nextval('lockstep.user_number'), $1,
        (extract(epoch from clock_timestamp()) * 1000)::bigint * 1000 + t.timeline % 1000, t.timeline
    from (select lockstep.timeline() as timeline) t
    on conflict (subject) do update set format = s.format
    returning user_id";

/// Returns a user's subject.
pub(super) const SUBJECT: &str = "select subject from lockstep.stream where user_id = $1 and subject is not null";

/// Makes a process the owner of a user. Parameters: user, process, the newest format, whether a failover loses nothing.
pub(super) const ACQUIRE: &str = "
    with locked as (
        select s.user_id, s.owner, s.timeline, (select lockstep.timeline()) as present,
            case
                when s.subject is null then 'fenced'
                when s.format > $3 then 'newer'
                when not exists (select from lockstep.member m where m.incarnation = $2 and m.expires > now())
                    then 'no lease'
                when s.owner <> $2
                    and exists (select from lockstep.member m where m.incarnation = s.owner and m.expires > now())
                    then 'elsewhere'
                else 'granted'
            end as verdict
        from lockstep.stream s
        where s.user_id = $1
        for update of s
    ), granted as (
        update lockstep.stream s
        set owner = $2, generation = s.generation + 1, since = s.head, timeline = l.present,
            epoch = case
                when $4::bool or l.timeline = l.present then s.epoch
                else greatest(
                    s.epoch + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint * 1000 + l.present % 1000
                )
            end
        from locked l
        where s.user_id = l.user_id and l.verdict = 'granted'
        returning s.epoch, s.generation
    )
    select l.verdict, l.owner, g.epoch, g.generation from locked l left join granted g on true";

/// Returns what the log holds for a user: a row for each entry, or one without an entry.
pub(super) const RESTORE: &str = concat!(
    "select s.trimmed, s.read, s.head, s.deleted > s.swept, ",
    entry!(),
    " from lockstep.stream s
      left join lockstep.entry e on e.user_id = s.user_id and e.at_offset > s.trimmed
      where ",
    tenure!(),
    " and s.owner is not null order by e.at_offset"
);

/// Returns the newest messages that are trimmed or in a deleted thread, newest first.
pub(super) const PAST: &str = "
    select message from (
        (select begin, message from lockstep.run
         where user_id = $1 and begin <= $2 and message is not null order by begin desc limit $3)
        union all
        (select begin, message from lockstep.past where user_id = $1 order by begin desc limit $3)
    ) past order by begin desc limit $3";

/// Appends the batches of several users. Parameters 1 to 5 are a row for each batch: the user, the tenure's epoch and
/// generation, the offset after which it is appended, and its number of entries. Parameter 6 is true if a failover
/// loses nothing. The next nine are a row for each entry. The next nine are a row for each run that begins or ends in a
/// batch: its user and number, the places of its first, its newest and its last entry, and what is stored of it. The
/// last parameter belongs to the first five: the place of the newest deletion in the batch, if it has one.
///
/// An append is taken if the tenure is the newest, and the offsets after `after` are free or have entries of this
/// generation that the batch begins with. The row of a stream is written in each case.
pub const APPEND: &str = "
    with requests as (
        select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $25::bigint[])
            as a (user_id, epoch, generation, after, size, deletion)
    ), locked as (
        select s.user_id, s.head, s.trimmed, a.generation, a.after, a.size, a.deletion,
            case
                when s.subject is null or s.owner is null or s.epoch <> a.epoch or s.generation <> a.generation
                    or not ($6::bool or s.timeline = (select lockstep.timeline())) then 'fenced'
                when a.after < s.trimmed or a.after > s.head then 'outside'
                when a.size > 0 and s.head > a.after and (a.after < s.since or s.head - a.after > a.size) then 'occupied'
                else 'taken'
            end as verdict
        from requests a join lockstep.stream s using (user_id)
        order by s.user_id
        for update of s
    ), entries as (
        select e.*, l.after + e.place as at_offset, l.generation
        from unnest($7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::bigint[], $13::bytea[],
                    $14::bigint[], $15::text[])
            as e (user_id, place, run, kind, about, message, thread, at, data)
        join locked l using (user_id)
        where l.verdict = 'taken' and l.after + e.place > l.head
    ), stored as (
        insert into lockstep.entry (user_id, at_offset, run, generation, kind, about, message, thread, at, data)
        select user_id, at_offset, run, generation, kind, about, message, thread, at, data from entries
    ), told as (
        delete from lockstep.due d using entries e
        where d.user_id = e.user_id and d.run = e.run and e.kind = 'notice'
    ), runs as (
        insert into lockstep.run as r (user_id, begin, run, thread, message, title, last, ended)
        select b.user_id, l.after + b.first, b.run, b.thread, b.message, b.title, l.after + b.last, b.ended
        from unnest($16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bytea[],
                    $22::bigint[], $23::bytea[], $24::bigint[])
            as b (user_id, run, first, newest, last, thread, message, title, ended)
        join locked l using (user_id)
        where l.verdict = 'taken' and l.after + b.newest > l.head
        on conflict (user_id, run) do update set
            last = coalesce(excluded.last, r.last), ended = coalesce(excluded.ended, r.ended)
    ), written as (
        update lockstep.stream s
        set head = greatest(s.head, l.after + l.size), deleted = greatest(s.deleted, l.after + l.deletion)
        from locked l
        where s.user_id = l.user_id and l.verdict = 'taken'
    )
    select user_id, verdict, trimmed, head from locked";

/// Removes the content of deleted threads. Content that an append commits after this has begun is left to the next
/// time.
pub(super) const SWEEP: &str = "
    with locked as (
        select user_id from lockstep.stream where user_id = $1 and subject is not null for update
    ), deletions as (
        select e.thread, max(e.at_offset) as at_offset
        from lockstep.entry e join locked using (user_id) where e.kind = 'deleted' group by e.thread
    ), entries as (
        delete from lockstep.entry e using deletions d
        where e.user_id = $1 and e.thread = d.thread and e.at_offset < d.at_offset
            and not (e.kind = 'notice' and e.thread = '')
        returning e.at_offset, e.message
    ), past as (
        insert into lockstep.past (user_id, begin, message)
        select $1, at_offset, message from entries where message is not null
        on conflict do nothing
    ), runs as (
        delete from lockstep.run r using deletions d
        where r.user_id = $1 and r.thread = d.thread and r.begin < d.at_offset
    ), titles as (
        delete from lockstep.title t using deletions d
        where t.user_id = $1 and t.thread = d.thread and t.as_of < d.at_offset
    )
    update lockstep.stream s
    set swept = greatest(s.swept, (select max(at_offset) from deletions))
    where s.user_id = $1 and s.subject is not null";

/// Moves the marks of trimmed and read entries.
pub(super) const MARK: &str = concat!(
    "update lockstep.stream s
     set trimmed = greatest(s.trimmed, least($5::bigint, s.head)), read = greatest(s.read, $6::bigint)
     where ",
    tenure!(),
    " and s.owner is not null returning s.user_id"
);

/// Gives up a user. Repeated, it writes again.
pub(super) const RELEASE: &str =
    concat!("update lockstep.stream s set owner = null where ", tenure!(), " returning s.user_id");

/// Erases a user: from now on its content is not read, and its tenure is fenced. Repeated, it writes again.
pub(super) const ERASE: &str =
    "update lockstep.stream set subject = null, owner = null, erasing = true where user_id = $1";

/// Removes the content of an erased user.
pub(super) const PURGE: &str = "
    with erased as (
        update lockstep.stream set erasing = false where user_id = $1 and subject is null returning user_id
    ), entries as (delete from lockstep.entry e using erased where e.user_id = erased.user_id),
    runs as (delete from lockstep.run r using erased where r.user_id = erased.user_id),
    titles as (delete from lockstep.title t using erased where t.user_id = erased.user_id),
    due as (delete from lockstep.due d using erased where d.user_id = erased.user_id)
    delete from lockstep.past p using erased where p.user_id = erased.user_id";

/// Returns users whose content must be removed: erased, or with a deleted thread. A process may have stopped before it
/// did.
pub(super) const LEFT: &str = "
    (select user_id, true from lockstep.stream where erasing limit $1)
    union all
    (select user_id, false from lockstep.stream where deleted > swept and subject is not null limit $1)";

/// Returns what the engine promises now.
pub(super) const PROMISE: &str = "
    select current_setting('server_version_num')::int, current_setting('server_encoding'),
        current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), current_setting('fsync'),
        (select count(*) from pg_stat_activity
         where usename = current_user and wait_event = 'SyncRep' and query_start < now() - interval '10 seconds')";

/// Grants or renews a lease of that many seconds, unless it has ended.
pub(super) const RENEW: &str = "
    insert into lockstep.member as m (incarnation, address, expires)
    values ($1, $2, now() + make_interval(secs => $3::float8))
    on conflict (incarnation) do update set address = excluded.address, expires = excluded.expires
        where m.expires > now()
    returning m.incarnation";

/// Ends a lease. The row stays, so that a renewal that arrives late is refused.
pub(super) const DEPART: &str = "
    insert into lockstep.member as m (incarnation, address, expires) values ($1, '', now())
    on conflict (incarnation) do update set expires = least(m.expires, now())";

/// Returns the address of a member.
pub(super) const ADDRESS: &str = "select address from lockstep.member where incarnation = $1 and expires > now()";

/// Returns the members.
pub(super) const MEMBERS: &str = "
    select incarnation, address, extract(epoch from expires - now())::float8
    from lockstep.member where expires > now()";

/// Returns the member that owns a user.
pub(super) const OWNER: &str = "
    select m.incarnation, m.address, extract(epoch from m.expires - now())::float8
    from lockstep.stream s join lockstep.member m on m.incarnation = s.owner
    where s.user_id = $1 and m.expires > now()";

/// Forgets leases that ended long ago.
pub(super) const FORGET: &str = "delete from lockstep.member where expires < now() - interval '7 days'";

/// The runs of a user's threads, each with the time of its newest entry.
macro_rules! runs {
    () => {
        "select r.user_id, r.thread, r.begin, r.message, r.title, r.last is null and r.message is not null as open,
            coalesce(r.ended, (
                select e.at from lockstep.entry e
                where e.user_id = r.user_id and e.run = r.run and e.at_offset >= r.begin
                order by e.at_offset desc limit 1
            ), 0) as updated
         from lockstep.run r where r.user_id = $1"
    };
}

/// Returns whether the content of a deleted thread is left; no row if the user is erased.
pub(super) const STANDING: &str =
    "select deleted > swept from lockstep.stream where user_id = $1 and subject is not null";

/// Returns a page of a user's threads after the place in parameters 2 and 3. A title that was given to an earlier
/// thread of the same name does not count.
pub(super) const THREADS: &str = concat!(
    "with runs as (",
    runs!(),
    "), threads as (
        select thread, max(updated) as updated, bool_or(open) as open, min(begin) as begin,
            (array_agg(title order by begin) filter (where title is not null))[1] as title
        from runs group by thread
    )
    select t.thread, t.updated, t.open, coalesce(n.title, t.title)
    from threads t
    left join lockstep.title n on n.user_id = $1 and n.thread = t.thread and n.as_of >= t.begin
    where $2::bigint is null or (t.updated, t.thread) < ($2, $3::bytea)
    order by t.updated desc, t.thread desc limit $4"
);

/// Returns the entries of the newest runs of a thread that begin before an offset, each with its run's beginning.
pub(super) const TURNS: &str = concat!(
    "with runs as (
        select run, begin, coalesce(last, 9223372036854775807) as last from lockstep.run
        where user_id = $1 and thread = $2 and begin < $3 order by begin desc limit $4
    )
    select r.begin, ",
    entry!(),
    " from runs r
      join lockstep.entry e on e.user_id = $1 and e.at_offset between r.begin and r.last and e.run = r.run
      order by r.begin desc, e.at_offset"
);

/// Returns the entries between two offsets.
pub(super) const PAGE: &str = concat!(
    "select ",
    entry!(),
    " from lockstep.entry e
      where e.user_id = $1 and e.at_offset > $2 and e.at_offset <= $3 order by e.at_offset limit $4"
);

/// Gives a thread a title, if there is such a thread.
pub(super) const RENAME: &str = "
    with locked as (
        select user_id, head from lockstep.stream where user_id = $1 and subject is not null for update
    )
    insert into lockstep.title (user_id, thread, title, as_of)
    select l.user_id, $2, $3, l.head from locked l
    where exists (select from lockstep.run r where r.user_id = $1 and r.thread = $2)
    on conflict (user_id, thread) do update set title = excluded.title, as_of = excluded.as_of
    returning user_id";

/// Removes the title of a thread that was deleted while [`RENAME`] waited.
pub(super) const RENAMED: &str = "
    delete from lockstep.title t
    where t.user_id = $1 and t.thread = $2 and not exists (
        select from lockstep.run r where r.user_id = $1 and r.thread = $2 and r.begin <= t.as_of
    )
    returning t.user_id";

/// Removes the title that a user gave a thread. Returns whether there is such a thread.
pub(super) const UNNAME: &str = "
    with removed as (delete from lockstep.title where user_id = $1 and thread = $2)
    select exists (select from lockstep.run where user_id = $1 and thread = $2)";

/// Returns users with a thread whose newest entry is from before that time.
pub(super) const AGED: &str = "
    select distinct r.user_id from lockstep.run r
    where r.ended < $1 and not exists (
        select from lockstep.run n
        where n.user_id = r.user_id and n.thread = r.thread and (n.last is null or n.ended >= $1)
    )";

/// Returns users with more messages than that.
pub(super) const TALKATIVE: &str =
    "select user_id from lockstep.run where message is not null group by user_id having count(*) > $1";

/// Returns users with more bytes than that.
pub(super) const LARGE: &str = "
    select user_id from lockstep.entry where kind <> 'deleted'
    group by user_id having sum(octet_length(data)) > $1";

/// Returns the sizes of a user's threads; their bytes if parameter 2 is true.
pub(super) const SIZES: &str = concat!(
    "with runs as (",
    runs!(),
    "), bytes as (
        select r.thread, sum(octet_length(e.data))::bigint as bytes
        from lockstep.entry e join lockstep.run r on r.user_id = e.user_id and r.run = e.run
        where e.user_id = $1 and $2::bool group by r.thread
    )
    select r.thread, max(r.updated), bool_or(r.open), count(r.message), coalesce(max(b.bytes), 0), max(s.head)
    from runs r
    join lockstep.stream s on s.user_id = r.user_id and s.subject is not null
    left join bytes b on b.thread = r.thread
    group by r.thread"
);

/// Adds a revocation. The one row of `revocation_mark` is locked until the end of the statement, so revocations become
/// visible in the order of their marks, and a reader that has passed a mark misses none before it. Marks of different
/// timelines differ: if a failover lost one, no other revocation gets it.
pub(super) const PUBLISH: &str = "
    with next as (
        update lockstep.revocation_mark
        set newest = greatest(newest, (lockstep.timeline() - 1)::bigint << 40) + 1
        returning newest
    )
    insert into lockstep.revocation (mark, subject, credential, at)
    select newest, $1, $2, $3 from next
    returning mark";

/// The revocations after a mark, oldest first.
pub(super) const REVOCATIONS: &str = "
    select mark, subject, credential, at from lockstep.revocation where mark > $1 order by mark limit $2";

/// Notes how far a member has applied revocations.
pub(super) const APPLIED: &str = "update lockstep.member set applied = greatest(applied, $2) where incarnation = $1";

/// The members with a lease that have not applied a revocation yet.
pub(super) const BEHIND: &str = "select count(*) from lockstep.member where expires > now() and applied < $1";

/// Forgets revocations that no credential can be older than.
pub(super) const FORGET_REVOCATIONS: &str = "delete from lockstep.revocation where stored < now() - interval '32 days'";

/// What each connection prepares.
pub(super) const ALL: &[&str] = &[
    PUBLISH,
    REVOCATIONS,
    APPLIED,
    BEHIND,
    FORGET_REVOCATIONS,
    broadcasts::STORE,
    broadcasts::DUE,
    broadcasts::DATA,
    broadcasts::PROGRESS,
    broadcasts::FORGET,
    FIND,
    ENROL,
    SUBJECT,
    ACQUIRE,
    RESTORE,
    PAST,
    APPEND,
    SWEEP,
    MARK,
    RELEASE,
    ERASE,
    PURGE,
    LEFT,
    PROMISE,
    RENEW,
    DEPART,
    ADDRESS,
    MEMBERS,
    OWNER,
    FORGET,
    STANDING,
    THREADS,
    TURNS,
    PAGE,
    RENAME,
    RENAMED,
    UNNAME,
    AGED,
    TALKATIVE,
    LARGE,
    SIZES,
];
