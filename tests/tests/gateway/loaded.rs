//! Fairness: what a busy gateway leaves for other users.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::hostile::client::Client;
use crate::hostile::starts::{Folder, Process, gateway, settings, token};

fn message(id: &str, text: &str) -> serde_json::Value {
    json!({ "type": "user_message", "message_id": id, "payload": { "text": text } })
}

/// Three users search all documents again and again; a fourth asks for a sum.
#[tokio::test]
async fn a_sum_does_not_wait_for_the_searches_of_others() {
    const SUMS: usize = 40;
    let folder = Folder::new();
    let file = settings(&folder, "", "[agent]\npace_ms = 0\n[bounds]\nrequests = 0\n[log]\nsync = \"never\"");
    let documents = folder.path("data/documents");
    std::fs::create_dir_all(&documents).expect("a directory");
    let text = "a line with some words in it that a search must look at, one after another\n".repeat(1_300);
    for number in 0..200 {
        std::fs::write(documents.join(format!("{number}.txt")), &text).expect("a document");
    }
    let mut process = Process::start(gateway(), &file);
    let address = process.address().await;
    let mut searching = JoinSet::new();
    for number in 0..3 {
        searching.spawn(async move {
            let mut client = Client::live(address, &token(&format!("reader{number}"))).await;
            for search in 0_u64.. {
                client.say(&message(&format!("s{search}"), "search for words that a search looks at")).await;
                client.until("agent_completed").await;
            }
        });
    }
    // The searches are running by now.
    let mut first = Client::live(address, &token("first")).await;
    first.say(&message("m", "search for words")).await;
    first.until("agent_completed").await;
    let mut ada = Client::live(address, &token("ada")).await;
    let mut times = Vec::new();
    for number in 0..SUMS {
        let began = Instant::now();
        ada.say(&message(&format!("m{number}"), "1+1")).await;
        ada.until("agent_completed").await;
        times.push(began.elapsed());
    }
    searching.shutdown().await;
    times.sort_unstable();
    let (median, slowest) = (times[SUMS / 2], times[SUMS - 1]);
    assert!(median < Duration::from_millis(250), "the slowest of {SUMS} took {slowest:?}: {times:?}");
    process.terminate().await;
}
