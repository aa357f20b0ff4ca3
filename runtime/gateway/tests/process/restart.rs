//! A gateway that is replaced while clients are connected: by stop and start, and by a successor that takes over.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lockstep_model::PartId;
use lockstep_model::run::Kind;
use lockstep_tests::history::History;
use lockstep_tests::process::{Gateway, Way, token};
use lockstep_tests::restart::{Found, Watched, judged, replace};
use lockstep_tests::simulated_client::Seen;
use lockstep_tests::soak::watch::ask;
use lockstep_tests::soak::watch::metrics;

use super::{Folder, LOCKSTEP, PATIENCE};

const CLIENTS: usize = 100;
/// Within which nearly every client is back.
const BACK: Duration = Duration::from_secs(1);
/// An answer is made for about a second.
const SETTINGS: &str = "[agent]\npace_ms = 20\n[limits]\nper_address = 16000\n";

fn prepare(folder: &Folder) -> Gateway {
    Gateway::prepare(Path::new(LOCKSTEP), &folder.0, SETTINGS).expect("a gateway")
}

async fn replaced(way: Way) -> Found {
    let (folder, history) = (Folder::new(), History::in_memory());
    let mut gateway = prepare(&folder);
    let found = replace(&mut gateway, way, CLIENTS, &history).await.expect("replaced");
    gateway.drain(PATIENCE).await.expect("ends in order");
    judged(&history).expect("nothing is lost, doubled or reordered");
    found
}

/// Waits until a process has said something.
async fn says(gateway: &Gateway, what: &str) {
    let (began, mut tick) = (Instant::now(), tokio::time::interval(Duration::from_millis(5)));
    while !std::fs::read_to_string(gateway.log()).is_ok_and(|said| said.contains(what)) {
        assert!(
            began.elapsed() < PATIENCE,
            "it does not say {what:?}; it said {:?}",
            std::fs::read_to_string(gateway.log())
        );
        tick.tick().await;
    }
}

/// A gateway with a client that reads an answer, and a process that is about to take over.
async fn handing_over(folder: &Folder, history: &History, more: &[&str]) -> (Gateway, Gateway, Watched) {
    let mut after = prepare(folder);
    after.start().await.expect("it starts");
    let mut client = Watched::start(&after, 0, history);
    client.live().await.expect("live");
    client.send("m1", "count to 60");
    client.reads(Kind::Delta(PartId(1))).await.expect("an answer begins");
    let before = after.succeed(more).expect("a process");
    says(&before, "handing over").await;
    (before, after, client)
}

/// NODE-2: with a successor an answer is read to its end, and clients are back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_takes_over_and_clients_are_back_within_a_second() {
    let found = replaced(Way::Handover).await;
    assert_eq!((found.answer, found.away.len()), (Kind::Completed, CLIENTS));
    assert!(found.within(990) < BACK, "{:?}", found.away);
}

/// NODE-2: without a successor, too. The supervisor's pause is part of the time that clients are away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_stop_and_a_start_clients_are_back_within_a_second() {
    let found = replaced(Way::Restart).await;
    assert_eq!((found.answer, found.away.len()), (Kind::Completed, CLIENTS));
    assert!(found.within(990) < BACK, "{:?}", found.away);
}

/// What an orderly end has written is known to be whole, and a process that was killed has not said so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_drains_closes_its_log() {
    let folder = Folder::new();
    let mut gateway = prepare(&folder);
    let is_closed = || {
        let manifest = std::fs::read_to_string(folder.0.join("data/log/manifest")).expect("a manifest");
        manifest.contains("\"closed\": true")
    };
    gateway.start().await.expect("it starts");
    gateway.drain(PATIENCE).await.expect("ends in order");
    assert!(is_closed());
    gateway.start().await.expect("it starts");
    // It listens before it has opened its log, and answers after that.
    metrics(gateway.address).await.expect("it answers");
    gateway.kill();
    assert!(!is_closed());
}

/// A successor that is gone before anyone was told to go changes nothing: no connection is closed, and messages are taken again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_is_killed_while_it_waits_changes_nothing() {
    let (folder, history) = (Folder::new(), History::in_memory());
    let (mut before, mut after, mut client) = handing_over(&folder, &history, &[]).await;
    after.kill();
    says(&before, "this one continues to serve").await;
    client.send("m2", "hello");
    let mut ends = 0;
    let closed = client.until("both answers", |_, sight| {
        if let Seen::Closed(code) = sight {
            return Some(Some(*code));
        }
        ends += usize::from(matches!(sight, Seen::Event { entry, .. } if entry.event.kind == Kind::Completed));
        (ends == 2).then_some(None)
    });
    assert_eq!(closed.await, Ok(None), "no client was told to go");
    before.drain(PATIENCE).await.expect("ends in order");
    judged(&history).expect("nothing is lost, doubled or reordered");
}

/// A successor that fails when the data directory is its own already: the process before it serves again, from the same socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_fails_late_leaves_the_directory_to_the_process_before_it() {
    let (folder, history) = (Folder::new(), History::in_memory());
    let (mut before, _after, mut client) = handing_over(&folder, &history, &["--trace", "/proc/nothing"]).await;
    client.reads(Kind::Completed).await.expect("the answer ends");
    says(&before, "this one starts again").await;
    client.live().await.expect("back");
    client.send("m2", "hello");
    client.reads(Kind::Completed).await.expect("an answer");
    before.drain(PATIENCE).await.expect("ends in order");
    judged(&history).expect("nothing is lost, doubled or reordered");
}

/// A successor whose configuration is wrong says so and ends, before anyone is told anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_cannot_serve_is_refused_before_it_matters() {
    let (folder, history) = (Folder::new(), History::in_memory());
    let mut gateway = prepare(&folder);
    gateway.start().await.expect("it starts");
    let wrong = folder.0.join("wrong.toml");
    std::fs::write(&wrong, "[auth]\nissuer = \"jwt\"\nkey_file = \"/nowhere\"\n").expect("a file");
    let mut before = gateway.succeed_with(&wrong, &[]).expect("a process");
    assert!(gateway.ended(PATIENCE).await.is_err(), "it says what is wrong");
    says(&before, "could not start").await;
    let mut client = Watched::start(&before, 0, &history);
    client.live().await.expect("live");
    client.send("m1", "hello");
    client.reads(Kind::Completed).await.expect("an answer");
    before.drain(PATIENCE).await.expect("ends in order");
}

/// A process that is told to end while a successor waits ends; the successor serves all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_told_to_end_while_it_hands_over_is_succeeded() {
    let (folder, history) = (Folder::new(), History::in_memory());
    let (mut before, mut after, mut client) = handing_over(&folder, &history, &[]).await;
    before.terminate();
    client.reads(Kind::Completed).await.expect("the answer ends");
    before.ended(PATIENCE).await.expect("ends in order");
    client.live().await.expect("back");
    client.send("m2", "hello");
    client.reads(Kind::Completed).await.expect("an answer");
    after.drain(PATIENCE).await.expect("ends in order");
    judged(&history).expect("nothing is lost, doubled or reordered");
}

/// CLIENT-2, NODE-2: what is sent while a process waits for the open runs is not run there. The client keeps it, and the next
/// process answers it, as after a crash: its user does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_while_a_process_is_about_to_end_is_answered_by_the_next() {
    for has_successor in [true, false] {
        let (folder, history) = (Folder::new(), History::in_memory());
        let mut gateway = prepare(&folder);
        gateway.start().await.expect("it starts");
        let mut client = Watched::start(&gateway, 0, &history);
        client.live().await.expect("live");
        client.send("m1", "count to 60");
        client.reads(Kind::Delta(PartId(1))).await.expect("an answer begins");
        let mut before = if has_successor { Some(gateway.succeed(&[]).expect("a process")) } else { None };
        if let Some(before) = &before {
            says(before, "handing over").await;
        } else {
            gateway.terminate();
            says(&gateway, "draining: open runs end").await;
        }
        for name in ["m2", "m3"] {
            client.send(name, "hello");
        }
        if let Some(before) = &mut before {
            before.ended(PATIENCE).await.expect("ends in order");
        } else {
            gateway.ended(PATIENCE).await.expect("ends in order");
            gateway.start().await.expect("it starts again");
        }
        let (mut ends, mut accepted) = (0, 0);
        let answered = client.until("three answers", |_, sight| match sight {
            Seen::Refused(message, code) => Some(Err(format!("{message:?} is refused: {code:?}"))),
            Seen::Unknown(message) => Some(Err(format!("{message:?} is unknown"))),
            Seen::Accepted(..) => {
                accepted += 1;
                None
            }
            Seen::Event { entry, .. } if entry.event.kind == Kind::Completed => {
                ends += 1;
                (ends == 3).then_some(Ok(()))
            }
            Seen::Ready { .. }
            | Seen::At(_)
            | Seen::Event { .. }
            | Seen::Reset(..)
            | Seen::TooLong(_)
            | Seen::Error(_)
            | Seen::Closed(_)
            | Seen::Foreign(_) => None,
        });
        assert_eq!(answered.await, Ok(Ok(())), "with a successor: {has_successor}");
        assert_eq!(accepted, 2, "m1 was accepted before");
        gateway.drain(PATIENCE).await.expect("ends in order");
        judged(&history).expect("nothing is lost, doubled or reordered");
    }
}

/// AUTH-4: each revocation that was answered holds in the next process, whichever process answered it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_while_processes_change_stays_revoked() {
    const REVOKERS: usize = 4;
    let (folder, history) = (Folder::new(), History::none());
    let (mut before, mut after, mut client) = handing_over(&folder, &history, &[]).await;
    let address = before.address;
    let operator = std::fs::read_to_string(folder.0.join("data/operator.token")).expect("the operator's token");
    let served = Arc::new(AtomicBool::new(false));
    let revokers: Vec<_> = (0..REVOKERS)
        .map(|number| {
            let (operator, served) = (operator.trim().to_owned(), Arc::clone(&served));
            tokio::spawn(async move {
                let mut revoked = Vec::new();
                while !served.load(Ordering::SeqCst) {
                    let user = format!("revoked-{number}-{}", revoked.len());
                    let (token, body) = (token(&user, PATIENCE), format!("{{\"subject\":{user:?}}}"));
                    let answer = ask(address, "POST", "/operator/revoke", &operator, &body).await;
                    revoked.push((token, matches!(answer, Ok((204, _)))));
                }
                revoked
            })
        })
        .collect();
    client.reads(Kind::Completed).await.expect("the answer ends");
    before.ended(PATIENCE).await.expect("ends in order");
    client.live().await.expect("back");
    served.store(true, Ordering::SeqCst);
    let mut answered = 0;
    for revoker in revokers {
        for (token, _) in revoker.await.expect("a task").into_iter().filter(|(_, revoked)| *revoked) {
            let admitted = ask(address, "POST", "/ws/ticket", &token, "").await.expect("an answer");
            assert_eq!(admitted.0, 401, "a token of revocation {answered}: {}", admitted.1);
            answered += 1;
        }
    }
    assert!(answered >= REVOKERS, "{answered} were answered");
    let other = ask(address, "POST", "/ws/ticket", &token("another", PATIENCE), "").await.expect("an answer");
    assert_eq!(other.0, 200, "what was not revoked is good: {}", other.1);
    after.drain(PATIENCE).await.expect("ends in order");
}
