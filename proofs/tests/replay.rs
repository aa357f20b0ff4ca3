//! `prove replay`, on traces of a gateway that runs in this process: recorded traces replay, and damage to a trace is
//! reported.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lockstep::Manager;
use lockstep::testing::{AnyToken, Echo, TestClient};
use lockstep::trace::{Settings, Trace};
use lockstep_model::Bounds;
use lockstep_proofs::cli::{self, COUNTEREXAMPLE, HOLDS, INCOMPLETE, USAGE};
use lockstep_proofs::replay::format::{self, Record};
use serde_json::{Value, json};

/// Texts that must not occur in a trace.
const SECRETS: [&str; 2] = ["ada-s-secret-credential", "a text that is ada's alone"];

/// A temporary directory, removed on drop.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lockstep-replay-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(&self.0).expect("a directory").map(|file| file.expect("a file").path()).collect();
        files.sort();
        files
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn prove(arguments: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = ["prove", "replay"].into_iter().chain(arguments.iter().copied()).map(OsString::from);
    let code = cli::run(arguments, &Arc::new(AtomicBool::new(false)), &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (code, text(out), text(err))
}

fn replay(path: &Path) -> (u8, Value, String) {
    let (code, out, err) = prove(&[path.to_str().expect("UTF-8"), "--format", "json"]);
    (code, serde_json::from_str(&out).unwrap_or(Value::Null), err)
}

/// Runs a gateway with a number of users, two clients each, through many failures.
fn record(settings: &Settings, users: usize, messages: usize) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let trace = Trace::start(settings, &Bounds::DEFAULT).expect("a trace");
        let manager =
            Manager::builder().verifier(AnyToken).agent(Echo).trace(trace.clone()).build().expect("a manager");
        let name = |user: usize| if user == 0 { SECRETS[0].to_owned() } else { format!("user-{user}") };
        for user in 0..users {
            let login = json!({ "type": "auth", "token": name(user), "resume": "earliest" }).to_string();
            let mut one = TestClient::connect(&manager);
            one.say(&login);
            assert_eq!(one.next().await["type"], "connection_ready");
            let mut two = TestClient::connect(&manager);
            two.say(r#"{"type":"ping"}"#);
            two.say(&login);
            assert_eq!(two.next().await["type"], "connection_ready");
            for number in 0..messages {
                // A gateway closes a connection that sends too often. The allowance is restored with time.
                if number % 50 == 49 {
                    tokio::time::advance(Bounds::DEFAULT.allowance).await;
                }
                let message = json!({ "type": "user_message", "message_id": format!("m{number}"), "payload": { "text": SECRETS[1] } });
                one.say(&message.to_string());
                one.until("agent_completed").await;
                two.until("agent_completed").await;
            }
            one.say(r#"{"type":"nonsense"}"#);
            two.cut();
            if user % 3 == 0 {
                manager.user(&name(user)).revoke().await.expect("revoked");
                one.until("close").await;
            }
        }
        let mut anonymous = TestClient::connect(&manager);
        anonymous.say(r#"{"type":"auth","token":"rejected"}"#);
        anonymous.until("close").await;
        anonymous.cut();
        manager.drain().await;
        assert!(manager.health().stopped);
        trace.close();
        assert_eq!(trace.dropped(), 0);
    });
}

/// Returns the range of each frame of a file.
fn frames(bytes: &[u8]) -> Vec<core::ops::Range<usize>> {
    let (mut frames, mut at) = (Vec::new(), format::PREFIX);
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize;
        frames.push(at..at + format::HEAD + length);
        at += format::HEAD + length;
    }
    frames
}

#[test]
fn a_gateways_trace_replays_and_contains_no_user_data() {
    let directory = Directory::new("whole");
    record(&Settings::new(&directory.0), 5, 60);
    let (code, report, err) = replay(&directory.0);
    assert_eq!((code, err.as_str()), (HOLDS, ""), "{report:#}");
    let trace = &report["traces"][0];
    assert_eq!((&trace["finding"], &trace["unchecked"]), (&json!("replays"), &json!(0)), "{report:#}");
    assert!(trace["session_steps"].as_u64() > Some(5 * 60 * 5), "{report:#}");
    for file in directory.files() {
        let bytes = fs::read(file).expect("a trace");
        for secret in SECRETS {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is in the trace");
        }
    }
    let (code, out, _) = prove(&[directory.0.to_str().expect("UTF-8")]);
    assert!(code == HOLDS && out.contains("replays") && out.contains("of sessions"), "{out}");
    let (code, out, _) = prove(&[directory.0.to_str().expect("UTF-8"), "--format", "junit"]);
    assert!(code == HOLDS && out.contains("errors=\"0\""), "{out}");
}

/// A restored session is given the ids of the messages that the log has trimmed, and the trace contains them.
#[test]
fn a_session_that_refuses_what_an_earlier_one_ran_replays() {
    let (directory, bounds) = (Directory::new("past"), Bounds { retained: 8, ..Bounds::DEFAULT });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let trace = Trace::start(&Settings::new(&directory.0), &bounds).expect("a trace");
        let builder = Manager::builder().verifier(AnyToken).agent(Echo).bounds(bounds);
        let manager = builder.trace(trace.clone()).build().expect("a manager");
        let login = async || {
            let mut ada = TestClient::connect(&manager);
            ada.say(r#"{"type":"auth","token":"ada","resume":"latest"}"#);
            assert_eq!(ada.next().await["type"], "connection_ready");
            ada
        };
        let message = |number| {
            json!({ "type": "user_message", "message_id": format!("m{number}"), "payload": { "text": "" } }).to_string()
        };
        let mut ada = login().await;
        for number in 0..9 {
            ada.say(&message(number));
            ada.until("agent_completed").await;
        }
        drop(ada);
        while manager.health().sessions > 0 {
            tokio::time::advance(bounds.linger).await;
        }
        let mut ada = login().await;
        ada.say(&message(0));
        assert_eq!(ada.next().await["code"], "forgotten");
        manager.drain().await;
        trace.close();
    });
    let (code, report, err) = replay(&directory.0);
    assert_eq!((code, err.as_str()), (HOLDS, ""), "{report:#}");
    assert_eq!(report["traces"][0]["unchecked"], 0, "{report:#}");
}

#[test]
fn a_trace_of_many_files_replays_and_its_rest_replays_from_checkpoints() {
    let directory = Directory::new("rotated");
    let settings = Settings::new(&directory.0).file_bytes(20_000).files(1_000);
    record(&settings, 3, 600);
    let files = directory.files();
    assert!(files.len() > 5, "{files:?}");
    assert_eq!(replay(&directory.0).0, HOLDS);
    fs::remove_file(&files[3]).expect("removed");
    let (code, _, err) = replay(&directory.0);
    assert!(code == USAGE && err.contains("file 3 of this trace"), "{err}");
    for file in &files[..3] {
        fs::remove_file(file).expect("removed");
    }
    let (code, report, err) = replay(&directory.0);
    assert_eq!((code, err.as_str()), (INCOMPLETE, ""), "{report:#}");
    let trace = &report["traces"][0];
    assert!(trace["checkpoints"].as_u64() > Some(5) && trace["session_steps"].as_u64() > Some(10_000), "{report:#}");
    assert!(trace["unchecked"].as_u64() < Some(20), "checkpoints do not follow at once: {report:#}");
}

#[test]
fn at_most_the_configured_number_of_files_is_kept() {
    let directory = Directory::new("bounded");
    let settings = Settings::new(&directory.0).file_bytes(20_000).files(3);
    record(&settings, 3, 60);
    assert_eq!(directory.files().len(), 3);
    let sizes = directory.files().iter().map(|file| fs::metadata(file).expect("a file").len()).max();
    assert!(sizes < Some(60_000), "{sizes:?}");
    assert_eq!(replay(&directory.0).0, INCOMPLETE);
}

#[test]
fn a_slow_writer_leaves_a_gap_and_later_steps_are_checked_again() {
    let directory = Directory::new("hole");
    let settings = Settings::new(&directory.0).buffer_bytes(2_500);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let dropped = runtime.block_on(async {
        let trace = Trace::start(&settings, &Bounds::DEFAULT).expect("a trace");
        let manager =
            Manager::builder().verifier(AnyToken).agent(Echo).trace(trace.clone()).build().expect("a manager");
        let mut ada = TestClient::connect(&manager);
        ada.say(r#"{"type":"auth","token":"ada"}"#);
        ada.until("connection_ready").await;
        // The writer has its own thread, which may keep up for a long time. A few more messages follow the gap.
        let mut last = None;
        for number in 0_usize.. {
            if last.is_none() && trace.dropped() > 0 {
                last = Some(number + 20);
            }
            if last == Some(number) {
                break;
            }
            assert!(number < 100_000, "a buffer of {} bytes was never full", settings.buffer_bytes);
            if number % 50 == 49 {
                tokio::time::advance(Bounds::DEFAULT.allowance).await;
            }
            ada.say(&json!({ "type": "user_message", "message_id": format!("m{number}"), "payload": {} }).to_string());
            ada.until("agent_completed").await;
        }
        trace.close();
        trace.dropped()
    });
    let (code, report, err) = replay(&directory.0);
    assert_eq!((code, err.as_str()), (INCOMPLETE, ""), "{report:#}");
    assert_eq!(report["traces"][0]["dropped"], dropped);
}

#[test]
fn every_kind_of_damage_is_reported() {
    let directory = Directory::new("tampered");
    record(&Settings::new(&directory.0), 1, 5);
    let file = directory.files()[0].clone();
    let whole = fs::read(&file).expect("a trace");
    let frames = frames(&whole);
    let (early, late) = (frames[10].clone(), frames[11].clone());
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&file, bytes).expect("written");
        let (code, _, err) = replay(&file);
        assert_eq!(code, USAGE, "{err}");
        err
    };
    for at in early.clone() {
        let err = changed(&|bytes| bytes[at] ^= 1);
        assert!(err.contains("tampered: record 10 "), "byte {at}: {err}");
    }
    let swapped = [&whole[late.clone()], &whole[early.clone()]].concat();
    let err = changed(&|bytes| bytes[early.start..late.end].copy_from_slice(&swapped));
    assert!(err.contains("reordered: record 11 stands where record 10 belongs"), "{err}");
    let err = changed(&|bytes| drop(bytes.drain(early.clone())));
    assert!(err.contains("missing: record 11 comes where record 10 belongs"), "{err}");
    for cut in [whole.len() - 1, frames[frames.len() - 1].start, late.end, late.end - 1, late.start + 1] {
        let err = changed(&|bytes| bytes.truncate(cut));
        assert!(err.contains("truncated"), "{cut}: {err}");
        let (code, out, err) = prove(&[file.to_str().expect("UTF-8"), "--killed"]);
        assert!(code == INCOMPLETE && err.is_empty() && out.contains("ends in the middle"), "{out}{err}");
    }
    let err = changed(&|bytes| bytes.push(0));
    assert!(err.contains("tampered"), "{err}");
    let [next, _] = (format::VERSION + 1).to_le_bytes();
    assert!(changed(&|bytes| bytes[8] = next).contains(&format!("format version {next}")));
    assert!(changed(&|bytes| bytes.clear()).contains("empty"));
    assert!(changed(&|bytes| bytes.truncate(4)).contains("not a trace"));
    assert!(
        changed(&|bytes| bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31) ^ 7)).contains("not a trace")
    );
    assert_eq!(prove(&["nowhere/at/all"]).0, USAGE);
}

#[test]
fn a_diverging_step_is_shown_with_the_steps_before_it() {
    let directory = Directory::new("diverges");
    record(&Settings::new(&directory.0), 1, 5);
    let file = directory.files()[0].clone();
    let whole = fs::read(&file).expect("a trace");
    // A forgery that changes the digest of one step's state and recomputes every link.
    let (mut forged, mut link, mut victim) = (whole[..format::PREFIX].to_vec(), 0, None);
    for (sequence, frame) in (0..).zip(frames(&whole)) {
        let body = &whole[frame.start + format::HEAD..frame.end];
        let mut record: Record = postcard::from_bytes(body).expect("a record");
        if sequence > 60
            && victim.is_none()
            && let Record::Session { outcome, .. } = &mut record
        {
            outcome.state ^= 1;
            victim = Some(sequence);
        }
        link = format::frame(&mut forged, link, sequence, &postcard::to_allocvec(&record).expect("encoded"));
    }
    fs::write(&file, forged).expect("written");
    let html = directory.0.join("html");
    let (code, out, err) = prove(&[file.to_str().expect("UTF-8"), "--html", html.to_str().expect("UTF-8")]);
    assert_eq!((code, err.as_str()), (COUNTEREXAMPLE, ""), "{out}");
    let victim = victim.expect("a session's step");
    assert!(
        out.contains(&format!("record {victim}: session ")) && out.contains("the state is not the model's"),
        "{out}"
    );
    assert!(out.contains("opened, Ready") || out.contains("Connection {"), "the steps before it: {out}");
    let page = fs::read_to_string(html.join(format!("replay-{victim}-replay.html"))).expect("a picture");
    assert!(page.contains("<svg"));
}
