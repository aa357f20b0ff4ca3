//! What one event costs the whole gateway: from an agent's emit, over the log, to the bytes in a client's TCP socket.
//!
//! ```text
//! cargo bench -p lockstep --bench event                      allocations, bytes kept and written
//! cargo bench -p lockstep --bench event -- --instructions    instructions too; needs valgrind
//! cargo bench -p lockstep --bench event -- --profile memory  the functions in which they are spent; needs valgrind
//! cargo bench -p lockstep --bench event -- --instructions --baseline FILE
//! ```
//!
//! `FILE` is an earlier report of this command. The exit code is 1 if an event takes more instructions than there, or
//! keeps more bytes, by more than a twentieth.
//!
//! A case runs in this process, on a runtime of one thread. Its clients are threads that read bytes and do nothing with
//! them. Each figure is the difference of two runs of different lengths, divided by the difference of their events, so
//! it does not contain starting and connecting. Instructions are counted by callgrind: their number does not change
//! with the load of a shared machine.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use allocation_counter::AllocationInfo;
use futures_util::future::join_all;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lockstep::BoxFuture;
use lockstep::Manager;
use lockstep::agent::{Agent, Message, Run};
use lockstep::log::disk::{DiskLog, Durability};
use lockstep::testing::AnyToken;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

/// Events of the two runs for the costs in a steady state, in which old events are trimmed.
const STEADY: [u64; 2] = [1_120, 3_120];

/// Events of the two runs for the memory of an event that is kept: all of them are. On a disk, each is synced, which
/// takes a while.
const KEPT: [u64; 2] = [208, 1_008];

/// Connections that do nothing. Twice as many need four times as many files, of the 1,024 that are usual.
const IDLE: usize = 128;

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    disk: bool,
    users: usize,
    /// How many events of a run are emitted before the first of them is awaited.
    together: usize,
    emits: Emits,
}

/// What an agent emits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Emits {
    /// Events that are kept one by one.
    Thoughts,
    /// Pieces of an answer, which are joined.
    Pieces,
    /// Nothing: the service sends notices of 2,000 B to everyone.
    Notices,
}

const ONE: Case = Case { name: "memory", disk: false, users: 1, together: 1, emits: Emits::Thoughts };

const CASES: [Case; 7] = [
    ONE,
    Case { name: "memory-16", together: 16, ..ONE },
    Case { name: "pieces-16", together: 16, emits: Emits::Pieces, ..ONE },
    Case { name: "disk", disk: true, ..ONE },
    Case { name: "disk-16", disk: true, together: 16, ..ONE },
    Case { name: "disk-64-users", disk: true, users: 64, ..ONE },
    Case { name: "to-64-users", users: 64, emits: Emits::Notices, ..ONE },
];

/// What a run cost.
struct Cost {
    events: u64,
    allocations: AllocationInfo,
    /// Bytes that the process has caused to be written to the disk, in whole pages.
    written: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| arguments.iter().position(|argument| argument == name).map(|at| &arguments[at + 1..]);
    if let Some([case, events, ..]) = after("--once") {
        run(case_of(case), events.parse().expect("a number of events"));
        return ExitCode::SUCCESS;
    }
    // `cargo test` runs this too, without measuring.
    if after("--bench").is_none() {
        return ExitCode::SUCCESS;
    }
    let mut report = match after("--profile") {
        Some(case) => profile(case_of(case.first().map_or("memory", |case| case))),
        None => table(after("--instructions").is_some()),
    };
    let mut grown = String::new();
    if let Some([baseline, ..]) = after("--baseline") {
        let baseline = std::fs::read_to_string(baseline).expect("the baseline can be read");
        grown = compared(&baseline, &report);
        report.push_str(&grown);
    }
    let written = io::stdout().write_all(report.as_bytes());
    ExitCode::from(u8::from(written.is_err() || !grown.is_empty()))
}

/// The figures that are compared with a baseline, by their column. The others depend on the machine's other load.
const COMPARED: [(&str, usize); 2] = [("instructions", 0), ("bytes kept", 3)];

/// One line for each figure that is more than a twentieth above the baseline's, or missing in either report.
fn compared(baseline: &str, report: &str) -> String {
    let figure = |report: &str, case: &Case, column: usize| -> Option<f64> {
        let mut rows = report.lines().filter_map(|row| row.split_once(' '));
        let (_, row) = rows.find(|(name, _)| *name == case.name)?;
        row.split_whitespace().filter(|word| *word != "B").nth(column)?.parse().ok()
    };
    let mut grown = String::new();
    for case in &CASES {
        for (name, column) in COMPARED {
            let figures = [baseline, report].map(|report| figure(report, case, column));
            match figures {
                [Some(before), Some(now)] if now <= before * 1.05 => {}
                [Some(before), Some(now)] => {
                    let _ = writeln!(grown, "{}: {name}: {now}, and {before} in the baseline", case.name);
                }
                [None, _] | [_, None] => {
                    let _ = writeln!(grown, "{}: {name}: not in both reports", case.name);
                }
            }
        }
    }
    grown
}

fn case_of(name: &str) -> Case {
    *CASES.iter().find(|case| case.name == name).expect("the name of a case")
}

fn table(instructions: bool) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:16}{:>14}{:>12}{:>12}{:>12}{:>12}",
        "per event", "instructions", "allocations", "allocated", "kept", "written"
    );
    for case in CASES {
        let steady = case.steady().map(|events| run(case, events));
        let kept = KEPT.map(|events| run(case, events));
        let instructions = if instructions { format!("{:.0}", counted(case)) } else { "-".to_owned() };
        let _ = writeln!(
            text,
            "{:16}{instructions:>14}{:>12.1}{:>10.0} B{:>10.0} B{:>10.0} B",
            case.name,
            difference(&steady, |cost| cost.allocations.count_total as f64),
            difference(&steady, |cost| cost.allocations.bytes_total as f64),
            difference(&kept, |cost| cost.allocations.bytes_current as f64),
            difference(&steady, |cost| cost.written as f64),
        );
    }
    let _ = writeln!(text, "{:16}{:>60} B", "idle connection", idle());
    text
}

fn difference([short, long]: &[Cost; 2], count: fn(&Cost) -> f64) -> f64 {
    (count(long) - count(short)) / (long.events - short.events) as f64
}

/// The instructions of one event.
fn counted(case: Case) -> f64 {
    let [short, long] = case.steady().map(|events| callgrind(case, events).0);
    let [first, last] = case.steady().map(|events| case.events(events));
    (long - short) / (last - first) as f64
}

/// The instructions of a run, and the file with its profile.
fn callgrind(case: Case, events: u64) -> (f64, PathBuf) {
    let profile = std::env::temp_dir().join(format!("lockstep-event-{}-{events}.callgrind", case.name));
    let this = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", profile.display()));
    command.arg(this).args(["--once", case.name, &events.to_string()]);
    let output = command.output().expect("valgrind is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    (count.expect("callgrind counts"), profile)
}

/// The functions in which most instructions of a run are spent.
fn profile(case: Case) -> String {
    let (_, profile) = callgrind(case, case.steady()[1]);
    let output = Command::new("callgrind_annotate").arg("--threshold=95").arg(profile).output();
    String::from_utf8_lossy(&output.expect("valgrind is installed").stdout).into_owned()
}

impl Case {
    const fn steady(&self) -> [u64; 2] {
        if self.disk { KEPT } else { STEADY }
    }

    /// All users' events in a run: many users have fewer each.
    const fn events(&self, events: u64) -> u64 {
        self.each(events) * self.users as u64
    }

    const fn each(&self, events: u64) -> u64 {
        if self.users > 16 { events / 16 } else { events }
    }
}

fn run(case: Case, events: u64) -> Cost {
    let (directory, written) = (Directory::new(), written());
    let (runtime, mut clients) = (runtime(), Vec::new());
    let allocations = allocation_counter::measure(|| {
        runtime.block_on(async {
            let speaking = Arc::new(Speaking { left: AtomicUsize::new(case.users), done: Notify::new() });
            let agent = Speaker { case, events: case.each(events), speaking: Arc::clone(&speaking) };
            let builder = Manager::builder().verifier(AnyToken).agent(agent);
            let builder = match case.disk {
                true => builder.log(DiskLog::open(&directory.0, Durability::Always).expect("a log")),
                false => builder,
            };
            let manager = builder.build().expect("a manager");
            let address = serve(manager.clone()).await;
            let client = |user| thread::spawn(move || connect(address, user, true).map(drain));
            clients = (0..case.users).map(client).collect();
            speaking.done.notified().await;
            if case.emits == Emits::Notices {
                let notice = serde_json::json!({ "text": "x".repeat(2_000) });
                for _ in 0..case.each(events) {
                    let sent = manager.broadcast(&notice).await.expect("JSON");
                    assert_eq!((sent.sent, sent.failed), (case.users, 0));
                }
            }
        });
    });
    // The clients' sockets end with it.
    drop(runtime);
    clients.into_iter().for_each(end);
    Cost { events: case.events(events), allocations, written: self::written() - written }
}

/// The bytes of memory of an idle connection with a live credential.
fn idle() -> i64 {
    let runtime = runtime();
    let address = runtime.block_on(async {
        let agent = Speaker { case: ONE, events: 0, speaking: Arc::default() };
        serve(Manager::builder().verifier(AnyToken).agent(agent).build().expect("a manager")).await
    });
    let mut kept = 0;
    let mut clients = Vec::new();
    // The second round finds maps that have grown.
    for round in 0..2 {
        let (live, mut arrived) = mpsc::unbounded_channel();
        clients.push(thread::spawn(move || {
            for user in 0..IDLE {
                let _ = live.send(connect(address, round * IDLE + user, false).expect("the gateway listens"));
            }
        }));
        let mut sockets = Vec::new();
        let counted = allocation_counter::measure(|| {
            runtime.block_on(async {
                while let Some(socket) = arrived.recv().await {
                    allocation_counter::opt_out(|| sockets.push(socket));
                }
            });
        });
        std::mem::forget(sockets);
        kept = counted.bytes_current / IDLE as i64;
    }
    clients.into_iter().for_each(|client| client.join().expect("it did not panic"));
    kept
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Serves as `examples/hyper.rs` does.
async fn serve(manager: Manager) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let manager = manager.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let response = manager.upgrade(request);
                    async move { Ok::<_, std::convert::Infallible>(response) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            });
        }
    });
    address
}

/// Connects a user, and returns once its connection is ready. With `speaks`, it sends a message.
fn connect(address: SocketAddr, user: usize, speaks: bool) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         Sec-WebSocket-Protocol: lockstep.v1\r\nAuthorization: Bearer user-{user}\r\n\r\n"
    );
    socket.write_all(request.as_bytes())?;
    let (mut read, mut buffer) = (Vec::new(), [0; 4_096]);
    while !read.windows(16).any(|window| window == b"connection_ready") {
        let bytes = socket.read(&mut buffer)?;
        assert!(bytes > 0, "the gateway has closed the socket");
        read.extend_from_slice(&buffer[..bytes]);
    }
    if speaks {
        let message = br#"{"type":"user_message","message_id":"m","payload":{"text":"hello"}}"#;
        // Masked with zeros, so as it is (RFC 6455 §5.3).
        let mut frame = vec![0x81, 0x80 | message.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(message);
        socket.write_all(&frame)?;
    }
    Ok(socket)
}

/// Reads to the end.
fn drain(mut socket: TcpStream) {
    let mut buffer = [0; 65_536];
    while socket.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
}

fn end(client: JoinHandle<io::Result<()>>) {
    client.join().expect("it did not panic").expect("the gateway listened");
}

/// The runs that are not over.
#[derive(Default)]
struct Speaking {
    left: AtomicUsize,
    done: Notify,
}

/// Emits that many events, some at a time.
struct Speaker {
    case: Case,
    events: u64,
    speaking: Arc<Speaking>,
}

impl Agent for Speaker {
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        let (Case { together, emits, .. }, events, speaking) = (self.case, self.events, Arc::clone(&self.speaking));
        Box::pin(async move {
            let events = if emits == Emits::Notices { 0 } else { events };
            let say = async || match emits {
                Emits::Thoughts => run.thinking("a few words of an answer").await.expect("the run goes on"),
                Emits::Pieces => run.text("a few words of an answer").await.expect("the run goes on"),
                Emits::Notices => {}
            };
            for _ in 0..events / together as u64 {
                if together == 1 {
                    say().await;
                } else {
                    join_all((0..together).map(|_| say())).await;
                }
            }
            run.complete(serde_json::json!({ "text": "" })).await.expect("the run goes on");
            if speaking.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                speaking.done.notify_one();
            }
        })
    }
}

/// Bytes that this process has caused to be written to the disk.
fn written() -> u64 {
    let counters = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = counters.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
    written.unwrap_or_default()
}

/// A directory on the disk that is removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let name = format!("lockstep-event-{}-{}", std::process::id(), NUMBERS.fetch_add(1, Ordering::Relaxed));
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
