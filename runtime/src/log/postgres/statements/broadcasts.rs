//! The statements of notices to everyone. [`APPEND`](super::APPEND) removes what is due.

/// Stores a notice for every user who has an owner with a lease, unless it is known. It writes in each case.
/// Each user gets a random run.
pub(in super::super) const STORE: &str = "
    with owned as (
        select s.user_id from lockstep.stream s join lockstep.member m on m.incarnation = s.owner
        where m.expires > now() and s.subject is not null
    ), stored as (
        insert into lockstep.broadcast as b (notice, data, users)
        values ($1, $2, (select count(*) from owned))
        on conflict (notice) do update set notice = excluded.notice
        returning b.notice, b.xmax = 0 as fresh
    )
    insert into lockstep.due (user_id, run, notice)
    select o.user_id, ('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint, s.notice
    from owned o cross join stored s where s.fresh";

/// The notices that are due for users of a process and for users without a living owner, which come
/// last. Those of one user are in the order of broadcasts.
pub(in super::super) const DUE: &str = "
    select d.user_id, d.notice, d.run
    from lockstep.due d join lockstep.broadcast b using (notice) join lockstep.stream s using (user_id)
    where s.subject is not null and (
        s.owner is null or s.owner = $1
        or not exists (select from lockstep.member m where m.incarnation = s.owner and m.expires > now())
    )
    order by s.owner is distinct from $1, b.place, d.user_id limit $2";

/// What notices say.
pub(in super::super) const DATA: &str = "select notice, data from lockstep.broadcast where notice = any($1::bigint[])";

/// For how many users a notice was stored, and for how many it is due.
pub(in super::super) const PROGRESS: &str = "
    select b.users, (
        select count(*) from lockstep.due d join lockstep.stream s using (user_id)
        where d.notice = b.notice and s.subject is not null
    )
    from lockstep.broadcast b where b.notice = $1";

/// Forgets notices that are due for no user, when no caller repeats them any longer.
pub(in super::super) const FORGET: &str = "
    delete from lockstep.broadcast b
    where b.stored < now() - interval '32 days' and not exists (select from lockstep.due d where d.notice = b.notice)";
