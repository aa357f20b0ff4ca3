//! Entries that were appended in pieces soon take little more disk space than their text.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep::log::disk::{Durability, Options};
use lockstep::log::{KeptLog, Log, Written};
use lockstep::payload::data_of_piece;
use lockstep::payload::{Record, now_ms};
use lockstep::testing::log::{content, own};
use lockstep_model::run::{Kind, Received, Schedule};
use lockstep_model::{MessageId, Offset, PartId, RunId, ThreadId};
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::contract::Folder;

const TURNS: u64 = 100;
const TOKENS: usize = 800;

/// A token as models emit them: a syllable or a word, with its space.
fn token(seed: &mut u64) -> String {
    const SYLLABLES: [&str; 32] = [
        "the", "ing", "er", "con", "pro", "sta", "te", "ma", "chi", "ne", "is", "of", "to", "and", "a", "in", "ver",
        "si", "on", "log", "en", "try", "user", "time", "out", "re", "con", "nec", "tion", "lock", "step", "gate",
    ];
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let (first, second) = ((*seed >> 33) as usize % 32, (*seed >> 40) as usize % 64);
    format!(" {}{}", SYLLABLES[first], SYLLABLES.get(second).unwrap_or(&""))
}

fn entry(run: u64, kind: Kind, at: u64, data: Box<serde_json::value::RawValue>) -> Written {
    Written {
        run: RunId(run.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        kind,
        record: Arc::new(Record::written(Some("6e1f0a4c-thread".into()), data, at)),
    }
}

fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("a directory").map(|file| file.expect("a file").path());
    files.map(|path| if path.is_dir() { size(&path) } else { fs::metadata(path).map_or(0, |about| about.len()) }).sum()
}

#[tokio::test]
async fn a_conversation_takes_twice_its_text_at_most() {
    let folder = Folder::new("packed");
    fs::create_dir_all(&folder.0).expect("a directory");
    let options = Options::new(Durability::Never).upkeep(Duration::from_millis(20));
    let log = KeptLog::open(&folder.0.join("log"), &options).expect("a log");
    let user = log.user("ada").await.expect("a number");
    let tenure = own(&log, user).await;
    let (mut head, mut text, mut seed, mut at, mut expected) = (Offset(0), 0, 7, now_ms(), Vec::new());
    for turn in 1..=TURNS {
        let raw = |value: serde_json::Value| to_raw_value(&value).expect("JSON");
        let received =
            Received { message: MessageId(turn), thread: ThreadId(0), schedule: Schedule::Immediate, replaces: None };
        let mut turns = vec![entry(turn, Kind::Received(received), at, raw(json!({ "message_id": turn.to_string() })))];
        turns.push(entry(turn, Kind::Started, at, raw(json!({}))));
        for _ in 0..TOKENS {
            let token = token(&mut seed);
            at += 20 + (seed >> 60);
            text += token.len() as u64;
            turns.push(entry(turn, Kind::Delta(PartId(1)), at, data_of_piece(PartId(1), "text", &token)));
        }
        turns.push(entry(turn, Kind::Completed, at, raw(json!({ "finish_reason": "stop" }))));
        for entries in turns.chunks(7) {
            let offsets = log.append(user, tenure, head, entries.to_vec()).await.expect("appended");
            head = *offsets.last().expect("some");
            expected.extend(offsets.into_iter().zip(entries.iter().map(content)));
        }
    }
    let (loose, since) = (size(&folder.0), Instant::now());
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while size(&folder.0) > 2 * text {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "{text} bytes of text take {}, at first {loose}",
            size(&folder.0)
        );
        tick.tick().await;
    }
    assert!(loose > 8 * text, "or there is nothing to be packed");
    let held = log.restore(user, tenure).await.expect("what it holds");
    assert!(held.entries.iter().map(|(offset, entry)| (*offset, content(entry))).eq(expected.iter().cloned()));
    drop(log);
    let log = KeptLog::open(&folder.0.join("log"), &options).expect("a log");
    let tenure = own(&log, user).await;
    let held = log.restore(user, tenure).await.expect("what it holds");
    assert!(held.entries.iter().map(|(offset, entry)| (*offset, content(entry))).eq(expected));
}
