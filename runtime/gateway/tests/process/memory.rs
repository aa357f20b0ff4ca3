//! What a busy hour leaves behind in the memory of the process.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future;
use lockstep_model::run::Kind;
use lockstep_tests::history::History;
use lockstep_tests::process::Gateway;
use lockstep_tests::restart::Watched;
use lockstep_tests::soak::watch::resident;

use super::{Folder, LOCKSTEP, PATIENCE};

const CLIENTS: usize = 30;
const MESSAGES: usize = 20;
/// Bytes of one message.
const LONG: usize = 60_000;
/// A third of what the process grew by may stay when the clients are gone: jemalloc keeps a tenth, glibc nine of them.
const KEPT: u64 = 3;

/// Memory that long messages took is given back when their users are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_long_messages_took_is_given_back() {
    let (folder, history) = (Folder::new(), History::in_memory());
    let settings = "[bounds]\nlinger_ms = 200\n";
    let mut gateway = Gateway::prepare(Path::new(LOCKSTEP), &folder.0, settings).expect("a gateway");
    gateway.start().await.expect("it starts");
    let process = gateway.id().expect("a process");
    let memory = || resident(process).expect("its memory");
    let before = memory();
    let text = "y".repeat(LONG);
    future::join_all((0..CLIENTS).map(|number| {
        let mut client = Watched::start(&gateway, number, &history);
        let text = &text;
        async move {
            for message in 0..MESSAGES {
                client.send(&format!("m{message}"), text);
                client.reads(Kind::Completed).await.expect("an answer");
            }
        }
    }))
    .await;
    let (peak, began) = (memory(), Instant::now());
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    while memory() > before + peak.saturating_sub(before) / KEPT {
        assert!(began.elapsed() < PATIENCE, "{before} KiB before, {peak} KiB at the end, still {} KiB", memory());
        tick.tick().await;
    }
    gateway.drain(PATIENCE).await.expect("ends in order");
}
