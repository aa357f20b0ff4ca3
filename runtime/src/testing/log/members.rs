//! The contract of logs that several processes share: leases, who acquires a user, revocations, and notices to everyone.

use core::time::Duration;

use std::sync::Arc;

use lockstep_model::run::Kind;
use lockstep_model::{CredentialId, Incarnation, Offset, RunId, Tenure, UserId};
use serde_json::value::{RawValue, to_raw_value};

use super::{content, fenced, held, run, written};
use crate::log::members::{Mark, Progress};
use crate::log::{Acquired, Log, LogError, Members, Written};
use crate::verify::Revocation;

/// A lease longer than the test.
const LONG: Duration = Duration::from_secs(600);

/// A lease that ends during the test.
const SHORT: Duration = Duration::from_millis(200);

/// Tests a log that several processes share: its [`Members`], and that one of them owns a user. Its incarnations are
/// random, so that a log may be tested again.
///
/// # Panics
///
/// If the log violates the contract, or has no members.
pub async fn members(log: &dyn Log) {
    let members = log.members().expect("a log that several processes share has members");
    leases(members).await;
    owners(log, members).await;
    ended(log, members).await;
    raced(log, members).await;
    revocations(members).await;
    broadcasts(log, members).await;
    broadcasts_in_order(log, members).await;
}

/// An incarnation that the log does not know.
fn unknown() -> Incarnation {
    Incarnation(crate::random().expect("random bytes"))
}

async fn joined(members: &dyn Members, address: &str) -> Incarnation {
    let who = unknown();
    members.renew(who, address, LONG).await.expect("a lease");
    who
}

async fn granted(log: &dyn Log, user: UserId, who: Incarnation) -> Tenure {
    match log.acquire(user, who).await.expect("an owner") {
        Acquired::Owner(tenure) => tenure,
        Acquired::Elsewhere(owner) => panic!("the user has an owner in another process: {owner:?}"),
    }
}

async fn unavailable(log: &dyn Log, user: UserId, who: Incarnation) {
    let error = log.acquire(user, who).await.expect_err("a process without a lease acquires nothing");
    assert!(matches!(error, LogError::Unavailable(_)), "{error}");
}

/// Everything of this tenure is fenced.
async fn is_over(log: &dyn Log, user: UserId, tenure: Tenure) {
    fenced(log.append(user, tenure, Offset(0), run(1)).await);
    fenced(log.append(user, tenure, Offset(0), Vec::new()).await);
    fenced(log.restore(user, tenure).await);
    fenced(log.trim(user, tenure, Offset(1)).await);
    fenced(log.read(user, tenure, Offset(1)).await);
    fenced(log.release(user, tenure).await);
}

async fn leases(members: &dyn Members) {
    let (one, two) = (joined(members, "one:1").await, joined(members, "two:2").await);
    members.renew(one, "one:3", LONG).await.expect("a renewed lease");
    assert_eq!(members.address(one).await.expect("an answer").as_deref(), Some("one:3"), "the newest address counts");
    let list = members.list().await.expect("a list");
    assert!(list.is_sorted_by_key(|member| member.incarnation), "members are in the order of their incarnations");
    let found = list.iter().find(|member| member.incarnation == two).expect("a member is on the list");
    assert_eq!(&*found.address, "two:2");
    assert!(found.left > LONG / 2 && found.left <= LONG, "the rest of the lease: {:?}", found.left);
    members.depart(one).await.expect("departed");
    members.depart(one).await.expect("departed again");
    assert_eq!(members.address(one).await, Ok(None), "who has departed is no member");
    assert!(members.list().await.expect("a list").iter().all(|member| member.incarnation != one));
    assert_eq!(members.renew(one, "one:1", LONG).await, Err(LogError::Fenced), "a lease that has ended stays ended");
    // A renewal may arrive after the departure.
    let late = unknown();
    members.depart(late).await.expect("departed");
    assert_eq!(members.renew(late, "late:1", LONG).await, Err(LogError::Fenced));
    assert_eq!(members.address(unknown()).await, Ok(None));
    members.depart(two).await.expect("departed");
}

async fn owners(log: &dyn Log, members: &dyn Members) {
    let user = log.user("members: owners").await.expect("a number");
    unavailable(log, user, unknown()).await;
    let (one, two) = (joined(members, "one:1").await, joined(members, "two:2").await);
    let first = granted(log, user, one).await;
    assert_eq!(log.acquire(user, two).await, Ok(Acquired::Elsewhere(one)), "a user has one owner");
    let owner = members.owner(user).await.expect("an answer").expect("an owner");
    assert_eq!((owner.incarnation, &*owner.address), (one, "one:1"));
    let again = granted(log, user, one).await;
    assert!(again.token > first.token, "the owner itself gets another generation");
    is_over(log, user, first).await;
    let offsets = log.append(user, again, Offset(0), run(2)).await.expect("the owner appends");
    members.depart(one).await.expect("departed");
    assert_eq!(members.owner(user).await, Ok(None), "an owner without a lease is none");
    let second = granted(log, user, two).await;
    assert!(second.token > again.token, "each generation is granted once");
    is_over(log, user, again).await;
    unavailable(log, user, one).await;
    let found = held(log, user, second).await;
    assert_eq!(found.entries.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), offsets);
    assert!(found.entries.iter().map(|(_, entry)| content(entry)).eq(run(2).iter().map(content)));
    let three = joined(members, "three:3").await;
    assert_eq!(log.acquire(user, three).await, Ok(Acquired::Elsewhere(two)));
    log.release(user, second).await.expect("released");
    assert_eq!(members.owner(user).await, Ok(None));
    let third = granted(log, user, three).await;
    assert!(third.token > second.token);
    is_over(log, user, second).await;
    log.append(user, third, *offsets.last().expect("some"), run(3)).await.expect("the newest owner appends");
}

/// A lease that is not renewed ends.
async fn ended(log: &dyn Log, members: &dyn Members) {
    let user = log.user("members: ended").await.expect("a number");
    let (short, other) = (unknown(), joined(members, "other:1").await);
    members.renew(short, "short:1", SHORT).await.expect("a lease");
    let first = granted(log, user, short).await;
    let mut tick = tokio::time::interval(SHORT / 10);
    let second = loop {
        tick.tick().await;
        match log.acquire(user, other).await.expect("an answer") {
            Acquired::Owner(tenure) => break tenure,
            Acquired::Elsewhere(owner) => assert_eq!(owner, short),
        }
    };
    assert!(second.token > first.token);
    is_over(log, user, first).await;
    assert_eq!(
        members.renew(short, "short:1", LONG).await,
        Err(LogError::Fenced),
        "a lease that has ended stays ended"
    );
    assert_eq!(members.address(short).await, Ok(None));
    unavailable(log, user, short).await;
}

/// Of several that acquire at the same time, one is the owner.
async fn raced(log: &dyn Log, members: &dyn Members) {
    let user = log.user("members: raced").await.expect("a number");
    let mut racers = Vec::new();
    for _ in 0..8 {
        racers.push(joined(members, "racer:1").await);
    }
    let answers = racers.iter().map(|racer| log.acquire(user, *racer));
    let answers = futures_util::future::join_all(answers).await;
    let won = answers.iter().filter(|answer| matches!(answer, Ok(Acquired::Owner(_)))).count();
    assert_eq!(won, 1, "{answers:?}");
    let owner = racers.iter().zip(&answers).find(|(_, answer)| matches!(answer, Ok(Acquired::Owner(_))));
    let owner = *owner.expect("an owner").0;
    let is_told = |answer: &Result<Acquired, LogError>| match answer {
        Ok(Acquired::Owner(_)) => true,
        Ok(Acquired::Elsewhere(other)) => *other == owner,
        Err(_) => false,
    };
    assert!(answers.iter().all(is_told), "the others are told who owns the user: {answers:?}");
}

/// A revocation has a mark, every reader gets it once and in order, and the log knows which processes have applied it.
async fn revocations(members: &dyn Members) {
    let (a, b) = (joined(members, "a").await, joined(members, "b").await);
    let revoked = [
        Revocation::Subject(Arc::from("ada of the revocations")),
        Revocation::Credential(Arc::from("ada of the revocations"), CredentialId(u64::MAX)),
    ];
    let before = members.publish(&revoked[0], 1).await.expect("a mark");
    members.applied(a, before).await.expect("noted");
    members.applied(b, before).await.expect("noted");
    let others = members.behind(before).await.expect("a count");
    let mark = members.publish(&revoked[1], u64::MAX >> 1).await.expect("a mark");
    assert!(mark > before, "marks increase");
    let read = members.revocations(Mark(before.0 - 1), 2).await.expect("revocations");
    let wanted = [(before, &revoked[0], 1), (mark, &revoked[1], u64::MAX >> 1)];
    assert!(read.iter().map(|of| (of.mark, &of.revocation, of.at)).eq(wanted), "{read:?}");
    assert!(members.revocations(mark, 2).await.expect("revocations").is_empty());
    members.applied(a, mark).await.expect("noted");
    assert_eq!(members.behind(mark).await.expect("a count"), others + 1, "one of the two is behind");
    members.applied(b, before).await.expect("noted late");
    members.depart(b).await.expect("it departs");
    assert_eq!(members.behind(mark).await.expect("a count"), others, "one without a lease is not waited for");
    members.depart(a).await.expect("it departs");
}

fn said(text: &str) -> Box<RawValue> {
    to_raw_value(&serde_json::json!({ "text": text })).expect("an object is JSON")
}

/// The id of a broadcast.
fn fresh() -> RunId {
    RunId(crate::random().expect("random bytes"))
}

/// What the owner appends.
async fn entry(members: &dyn Members, who: Incarnation, (user, notice): (UserId, RunId)) -> Vec<Written> {
    let due = members.due(who, usize::MAX).await.expect("what is due");
    let due = due.iter().find(|due| due.user == user && due.notice == notice).expect("it is due");
    vec![written(due.run.0, Kind::Notice, "to everyone")]
}

/// The users for whom a process is told that the notice is due.
async fn due(members: &dyn Members, who: Incarnation, notice: RunId) -> Vec<UserId> {
    let due = members.due(who, usize::MAX).await.expect("what is due");
    due.into_iter().filter(|due| due.notice == notice).map(|due| due.user).collect()
}

/// A notice to everyone is due for each user who has an owner, until the append that has it is durable.
async fn broadcasts(log: &dyn Log, members: &dyn Members) {
    let (one, two) = (joined(members, "one:1").await, joined(members, "two:2").await);
    let mut users = Vec::new();
    for name in ["members: told", "members: told elsewhere", "members: not told", "members: told and erased"] {
        users.push(log.user(name).await.expect("a number"));
    }
    let [told, elsewhere, absent, erased] = users[..] else { unreachable!("four") };
    let tenure = granted(log, told, one).await;
    let of_elsewhere = granted(log, elsewhere, two).await;
    let gone = granted(log, absent, one).await;
    log.release(absent, gone).await.expect("released");
    granted(log, erased, one).await;
    let (notice, text) = (fresh(), said("to everyone"));
    assert!(matches!(members.progress(notice).await, Err(LogError::Unavailable(_))), "it is not known yet");
    members.broadcast(notice, &text).await.expect("stored");
    assert_eq!(due(members, one, notice).await, [told, erased], "each process is told its own users");
    assert_eq!(due(members, two, notice).await, [elsewhere]);
    let read = members.due(two, usize::MAX).await.expect("what is due");
    let read = read.iter().find(|due| due.notice == notice).expect("the notice");
    assert_eq!(read.data.get(), text.get());
    let to_told = entry(members, one, (told, notice)).await;
    let to_elsewhere = entry(members, two, (elsewhere, notice)).await;
    assert_ne!(to_told[0].run, to_elsewhere[0].run, "ISO-1: no run is seen by two users");
    log.erase(erased).await.expect("erased");
    let before = members.progress(notice).await.expect("how far it is");
    // A repetition changes nothing, although another user has an owner by now.
    granted(log, absent, one).await;
    members.broadcast(notice, &said("something else")).await.expect("known");
    assert_eq!(due(members, one, notice).await, [told]);
    assert_eq!(members.progress(notice).await, Ok(before));

    let fresher = granted(log, told, one).await;
    fenced(log.append(told, tenure, Offset(0), to_told.clone()).await);
    assert_eq!(due(members, one, notice).await, [told], "a fenced append delivers nothing");
    log.append(told, fresher, Offset(0), to_told.clone()).await.expect("appended");
    assert_eq!(due(members, one, notice).await, [], "it is in the stream");
    log.append(told, fresher, Offset(0), to_told).await.expect("appended before");
    assert_eq!(members.progress(notice).await, Ok(Progress { due: before.due - 1, ..before }));
    members.broadcast(notice, &text).await.expect("known");
    assert_eq!(due(members, one, notice).await, [], "it is not due again");

    // A user whose owner is gone is any process's.
    members.depart(two).await.expect("departed");
    assert_eq!(due(members, one, notice).await, [elsewhere]);
    let next = granted(log, elsewhere, one).await;
    fenced(log.append(elsewhere, of_elsewhere, Offset(0), to_elsewhere.clone()).await);
    log.append(elsewhere, next, Offset(0), to_elsewhere).await.expect("appended");
    log.release(elsewhere, next).await.expect("released");
    assert_eq!(due(members, one, notice).await, []);
    assert_eq!(members.progress(notice).await, Ok(Progress { due: before.due - 2, ..before }));
    members.depart(one).await.expect("departed");
}

/// What is due for a user is read in the order of the broadcasts, even if only a part is read.
async fn broadcasts_in_order(log: &dyn Log, members: &dyn Members) {
    let who = joined(members, "one:1").await;
    let user = log.user("members: told in order").await.expect("a number");
    let tenure = granted(log, user, who).await;
    let notices = [fresh(), fresh(), fresh()];
    for notice in notices {
        members.broadcast(notice, &said("one of three")).await.expect("stored");
    }
    for (place, notice) in notices.into_iter().enumerate() {
        let due = members.due(who, 1).await.expect("what is due");
        assert_eq!(due.iter().map(|due| (due.user, due.notice)).collect::<Vec<_>>(), [(user, notice)]);
        let entry = entry(members, who, (user, notice)).await;
        log.append(user, tenure, Offset(place as u64), entry).await.expect("appended");
    }
    members.depart(who).await.expect("departed");
}
