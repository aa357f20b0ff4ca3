//! Files that are removed or replaced while the log has them open: answered data is found at the next opening.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lockstep::log::disk::{DiskLog, Options};
use lockstep::log::{Log, LogError};
use lockstep::testing::log::{content, own, written};
use lockstep_model::run::Kind;
use lockstep_model::{Offset, Tenure, UserId};

use crate::contract::{Folder, LEVELS};

/// How long the log may take to notice that a file is gone.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than the time between a removal and the next append here, so that the append detects it.
const LONG: Duration = Duration::from_secs(5);
/// So short that a removal is detected without an append.
const SHORT: Duration = Duration::from_millis(1);

/// The files that a process killed now would leave.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for file in fs::read_dir(from).expect("a directory") {
        let file = file.expect("a file");
        fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

async fn append(log: &DiskLog, user: UserId, tenure: Tenure, number: u64) {
    let began = Instant::now();
    let entry = || vec![written(number, Kind::Thinking, &format!("entry {number}"))];
    loop {
        match log.append(user, tenure, Offset(number - 1), entry()).await {
            Ok(offsets) => return assert_eq!(offsets, [Offset(number)]),
            Err(LogError::Unavailable(_)) => assert!(began.elapsed() < PATIENCE, "the log does not come back"),
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn until(mut happened: impl FnMut() -> bool, log: &DiskLog) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < PATIENCE, "it is not written again");
        let _ = log.probe().await;
    }
}

/// STR-2: nothing is answered that only this process can read.
#[tokio::test]
async fn what_was_answered_survives_the_removal_of_any_file_of_the_log() {
    for (place, level) in LEVELS.into_iter().enumerate() {
        for upkeep in [LONG, SHORT] {
            for replaced in [false, true] {
                for sealed in [false, true] {
                    let folder = Folder::new(&format!("removed-{place}-{}-{replaced}-{sealed}", upkeep.as_millis()));
                    let path = folder.0.join("log");
                    let options = Options::new(level).upkeep(upkeep);
                    if sealed {
                        let log = DiskLog::open_with(&path, &options).expect("a log");
                        let user = log.user("ada").await.expect("a number");
                        let tenure = own(&log, user).await;
                        append(&log, user, tenure, 1).await;
                    }
                    let log = DiskLog::open_with(&path, &options).expect("a log");
                    let user = log.user("ada").await.expect("a number");
                    let tenure = own(&log, user).await;
                    if !sealed {
                        append(&log, user, tenure, 1).await;
                    }
                    append(&log, user, tenure, 2).await;
                    for file in fs::read_dir(&path).expect("a directory") {
                        let file = file.expect("a file").path();
                        if file.extension().is_some_and(|extension| extension == "log") {
                            fs::remove_file(&file).expect("removed");
                            if replaced {
                                fs::write(&file, "another file").expect("a file");
                            }
                        }
                    }
                    if upkeep == LONG {
                        append(&log, user, tenure, 3).await;
                    } else {
                        for name in ["manifest", "mark"] {
                            fs::remove_file(path.join(name)).expect("removed");
                        }
                        until(|| path.join("manifest").exists() && path.join("mark").exists(), &log).await;
                    }
                    let killed = folder.0.join("killed");
                    copy(&path, &killed);
                    let again =
                        DiskLog::open_with(&killed, &options).unwrap_or_else(|error| panic!("{level:?}: {error}"));
                    let next = own(&again, user).await;
                    assert_eq!(next.epoch, tenure.epoch, "{level:?}: nothing is lost");
                    let held = again.restore(user, next).await.expect("what it holds");
                    let found: Vec<_> = held.entries.iter().map(|(_, entry)| content(entry)).collect();
                    let last = if upkeep == LONG { 3 } else { 2 };
                    let said = (1..=last).map(|number| written(number, Kind::Thinking, &format!("entry {number}")));
                    assert_eq!(found, said.map(|entry| content(&entry)).collect::<Vec<_>>());
                }
            }
        }
    }
}
