//! Files that are cut, flipped or missing: no answered data is lost silently, no hole is served, and no user reads
//! another user's data.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep::log::disk::{Damage, DiskLog, Durability, Options};
use lockstep::log::{Held, Log, LogError};
use lockstep::testing::log::{content, own, written};
use lockstep_model::run::Kind;
use lockstep_model::{Epoch, Offset};

use crate::contract::LEVELS;
use crate::simulated::Disk;

type Files = BTreeMap<String, Vec<u8>>;

const USERS: [&str; 3] = ["ada", "bob", "eve"];
const ROUNDS: u64 = 6;

/// What a user said in that round.
fn said(user: &str, round: u64) -> String {
    format!("{user} says {round}")
}

/// The files of a log to which each user has appended in turn, and its epoch. The process was killed, or the log
/// closed.
async fn filled(options: &Options, closed: bool) -> (Files, Epoch) {
    let disk = Disk::default();
    let log = DiskLog::on(Arc::new(disk.clone()), options).expect("a log");
    let mut epoch = None;
    let mut owners = Vec::new();
    for name in USERS {
        let user = log.user(name).await.expect("a number");
        owners.push((name, user, own(&log, user).await, Offset(0)));
    }
    for round in 1..=ROUNDS {
        for (name, user, tenure, head) in &mut owners {
            let entry = written(round, Kind::Thinking, &said(name, round));
            *head = log.append(*user, *tenure, *head, vec![entry]).await.expect("appended")[0];
            epoch = Some(tenure.epoch);
        }
    }
    let files = disk.files();
    drop(log);
    (if closed { disk.files() } else { files }, epoch.expect("an owner"))
}

/// What the users read from it; `Err` if the log does not open.
async fn reading(files: &Files, options: &Options) -> Result<(Epoch, Vec<Result<Held, LogError>>), String> {
    let log = DiskLog::on(Arc::new(Disk::with(files)), options).map_err(|error| error.to_string())?;
    let (mut epoch, mut all) = (Epoch(0), Vec::new());
    for name in USERS {
        let user = log.user(name).await.expect("a number");
        let tenure = own(&log, user).await;
        epoch = tenure.epoch;
        all.push(log.restore(user, tenure).await);
    }
    Ok((epoch, all))
}

/// The first error in what the users read, who were answered in epoch `before`.
fn wrong(before: Epoch, epoch: Epoch, all: &[Result<Held, LogError>]) -> Option<String> {
    for (name, held) in USERS.iter().zip(all) {
        // A user who is refused is not told anything false.
        let Ok(Held { trimmed, entries, .. }) = held else { continue };
        let first = trimmed.0 + 1;
        for (place, (offset, entry)) in entries.iter().enumerate() {
            let round = first + place as u64;
            let expected = content(&written(round, Kind::Thinking, &said(name, round)));
            if offset.0 != round || content(entry) != expected {
                return Some(format!("{name} reads {:?} at {}", content(entry), offset.0));
            }
        }
        if epoch == before && (trimmed.0 != 0 || entries.len() as u64 != ROUNDS) {
            return Some(format!("{name} reads {} of {ROUNDS} entries in the same epoch", entries.len()));
        }
        if epoch < before {
            return Some("the epoch went back".to_owned());
        }
    }
    None
}

fn small(level: Durability) -> Options {
    Options::new(level).segment_bytes(400)
}

#[tokio::test]
async fn a_file_that_is_cut_at_any_byte_is_refused_or_ends_the_epoch() {
    for level in LEVELS {
        for closed in [false, true] {
            let (files, before) = filled(&small(level), closed).await;
            assert!(files.len() > 4, "several segments: {:?}", files.keys());
            let (mut refused, mut renewed) = (0, 0);
            for (name, bytes) in &files {
                for length in 0..bytes.len() {
                    let mut cut = files.clone();
                    cut.insert(name.clone(), bytes[..length].to_vec());
                    match reading(&cut, &small(level)).await {
                        Err(_) => refused += 1,
                        Ok((epoch, all)) => {
                            renewed += usize::from(epoch > before);
                            if let Some(wrong) = wrong(before, epoch, &all) {
                                panic!("{level:?}, closed: {closed}, {name} cut at {length}: {wrong}");
                            }
                        }
                    }
                }
            }
            assert!(refused > 0 && renewed > 0, "{level:?}: {refused} refused, {renewed} in a new epoch");
        }
    }
}

#[tokio::test]
async fn a_bit_that_is_flipped_anywhere_is_refused_or_ends_the_epoch() {
    for closed in [false, true] {
        let options = small(Durability::Always);
        let (files, before) = filled(&options, closed).await;
        for (name, bytes) in &files {
            for at in 0..bytes.len() {
                let mut flipped = files.clone();
                flipped.get_mut(name).expect("the file")[at] ^= 1 << (at % 8);
                if let Ok((epoch, all)) = reading(&flipped, &options).await
                    && let Some(wrong) = wrong(before, epoch, &all)
                {
                    panic!("closed: {closed}, {name} flipped at {at}: {wrong}");
                }
            }
        }
    }
}

#[tokio::test]
async fn damage_that_is_followed_by_what_was_answered_later_is_refused_with_its_place() {
    let options = Options::new(Durability::Always);
    for closed in [false, true] {
        let (files, _) = filled(&options, closed).await;
        let (name, bytes) = files.iter().find(|(name, _)| name.ends_with(".log")).expect("a segment");
        for at in 0..bytes.len() - 200 {
            let mut flipped = files.clone();
            flipped.get_mut(name).expect("the file")[at] ^= 4;
            let error = reading(&flipped, &options).await.expect_err("a log with a hole");
            assert!(error.contains(name) && error.contains("is damaged at byte"), "flipped at {at}: {error}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_refused_or_ends_the_epoch() {
    for level in LEVELS {
        for closed in [false, true] {
            let (files, before) = filled(&small(level), closed).await;
            for name in files.keys() {
                let mut fewer = files.clone();
                fewer.remove(name);
                match reading(&fewer, &small(level)).await {
                    Err(error) => assert!(error.contains("backup") && error.contains("log.repair"), "{error}"),
                    Ok((epoch, all)) => assert_eq!(wrong(before, epoch, &all), None, "{level:?}, without {name}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_repaired_is_in_a_new_epoch_and_has_no_hole() {
    let options = small(Durability::Always);
    let (files, before) = filled(&options, true).await;
    let repair = options.damage(Damage::Repair);
    for (name, bytes) in files.iter().filter(|(name, _)| *name != "mark") {
        let mut damaged = vec![("gone".to_owned(), files.clone())];
        damaged[0].1.remove(name);
        for at in (0..bytes.len()).step_by(7) {
            let mut flipped = files.clone();
            flipped.get_mut(name).expect("the file")[at] ^= 0x40;
            damaged.push((format!("flipped at {at}"), flipped));
            let mut cut = files.clone();
            cut.insert(name.clone(), bytes[..at].to_vec());
            damaged.push((format!("cut at {at}"), cut));
        }
        for (how, files) in damaged {
            if reading(&files, &options).await.is_ok() {
                continue;
            }
            let disk = Disk::with(&files);
            let log = DiskLog::on(Arc::new(disk.clone()), &repair).expect("a log that is repaired");
            // The process is killed; and in a second case, the log is closed.
            let killed = disk.after_kill().files();
            drop(log);
            for files in [killed, disk.files()] {
                // Repaired once, it opens like any other.
                let (epoch, all) = reading(&files, &options).await.expect("a log that was repaired");
                assert!(epoch > before, "{name} {how}: the same epoch");
                assert!(all.iter().all(Result::is_ok), "{name} {how}: {all:?}");
                assert_eq!(wrong(before, epoch, &all), None, "{name} {how}");
            }
        }
    }
}

#[tokio::test]
async fn an_entry_that_rots_while_the_log_is_open_refuses_its_user_alone() {
    let disk = Disk::default();
    let log = DiskLog::on(Arc::new(disk.clone()), &Options::new(Durability::Always)).expect("a log");
    let (ada, bob) = (log.user("ada").await.expect("a number"), log.user("bob").await.expect("a number"));
    let (of_ada, of_bob) = (own(&log, ada).await, own(&log, bob).await);
    log.append(ada, of_ada, Offset(0), vec![written(1, Kind::Thinking, "rots")]).await.expect("appended");
    log.append(bob, of_bob, Offset(0), vec![written(2, Kind::Thinking, "stays")]).await.expect("appended");
    disk.rot(b"rots");
    let error = log.restore(ada, of_ada).await.expect_err("nothing is given out for what was there");
    assert!(error.to_string().contains("is damaged at byte"), "{error}");
    assert_eq!(log.restore(bob, of_bob).await.expect("what is whole").entries.len(), 1);
}

#[tokio::test]
async fn a_log_of_a_later_format_is_refused_with_both_formats() {
    let (mut files, _) = filled(&small(Durability::Always), true).await;
    files.insert("manifest".to_owned(), with_format(&files["manifest"], 5));
    let error = reading(&files, &small(Durability::Always)).await.expect_err("a later format");
    assert!(error.contains("format 5") && error.contains("format 4"), "{error}");
}

/// A log's manifest with another format version.
pub(crate) fn with_format(manifest: &[u8], version: u32) -> Vec<u8> {
    let text = core::str::from_utf8(manifest).expect("text");
    let (_, json) = text.split_once('\n').expect("two parts");
    let (now, other) = ("\"version\": 4", format!("\"version\": {version}"));
    assert!(json.contains(now), "{json}");
    let other = json.trim_end().replacen(now, &other, 1);
    // The checksum is zlib's CRC-32, which common tools compute.
    let sum = crc32(other.as_bytes());
    format!("lockstep log, checksum {sum:08x}\n{other}\n").into_bytes()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
        }
        sum
    })
}
