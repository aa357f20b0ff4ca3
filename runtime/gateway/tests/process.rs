//! The `lockstep` command as a process among others: readers that go away, signals, supervisors, the limit of open files, the process
//! that comes after it.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[path = "process/audit.rs"]
mod audit;
#[path = "process/command.rs"]
mod command;
#[path = "process/memory.rs"]
mod memory;
#[path = "process/restart.rs"]
mod restart;

/// How long anything may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that goes away with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("lockstep-process-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A gateway with a log in memory; it ends with this.
struct Gateway {
    child: Child,
    _folder: Folder,
}

/// The command line of a gateway in that folder, for tokens of another issuer: no password is hashed while it starts.
fn serve(folder: &Folder) -> Vec<String> {
    let (key, config) = (folder.0.join("secret"), folder.0.join("lockstep.toml"));
    fs::write(&key, "a secret of these tests, good for nothing else").expect("a file");
    fs::write(&config, format!("[auth]\nissuer = \"jwt\"\nkey_file = {key:?}\n[log]\nkind = \"memory\"\n{LIMITS}"))
        .expect("a file");
    let words = ["serve", "--listen", "127.0.0.1:0", "--data-dir"].map(str::to_owned).into_iter();
    let paths = [folder.0.join("data"), PathBuf::from("--config"), config].map(|path| path.display().to_string());
    words.chain(paths).collect()
}

/// However slow the machine is, half a request is waited for.
const LIMITS: &str = "[limits]\nheader_ms = 60000\n";

const LOCKSTEP: &str = env!("CARGO_BIN_EXE_lockstep");

/// The gateway, started by this line of a shell, which has it in `"$@"`.
fn shell(line: &str, folder: &Folder) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line, LOCKSTEP, LOCKSTEP]).args(serve(folder));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Gateway {
    fn start(mut command: Command, folder: Folder) -> Self {
        Self { child: command.spawn().expect("a process"), _folder: folder }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("a signal").success());
    }

    fn ended(&mut self) -> ExitStatus {
        until(|| self.child.try_wait().expect("a process"))
    }

    /// Where it listens, and what else it will say.
    fn listens(&mut self) -> (SocketAddr, BufReader<ChildStdout>) {
        let mut lines = BufReader::new(self.child.stdout.take().expect("its output"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        let address = line.trim().rsplit_once("http://").expect(&line).1.parse().expect("an address");
        (address, lines)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until there is something.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited for too long");
        std::thread::yield_now();
    }
}

/// The answer to a request of a new connection.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    // One that is refused may be gone already, and has said why.
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn metric(address: SocketAddr, name: &str) -> f64 {
    let page = get(address, "/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}: {page}")).parse().expect("a number")
}

/// The reader of its output has gone: it serves, takes a signal, drains, and ends in order.
#[test]
fn readers_that_go_away_do_not_disturb_it() {
    // The second line of its output, and every line of its log, have no reader.
    let folder = Folder::new();
    let mut gateway = Gateway::start(shell("LOCKSTEP_LOG_FILTER=debug exec \"$@\"", &folder), folder);
    let (address, output) = gateway.listens();
    drop((output, gateway.child.stderr.take()));
    for _ in 0..20 {
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
    }
    gateway.signal("-TERM");
    assert!(gateway.ended().success());
}

/// A reader that does not read is not waited for: many times what a pipe holds is logged meanwhile.
#[test]
fn readers_that_stop_reading_do_not_stop_it() {
    let folder = Folder::new();
    let mut gateway = Gateway::start(shell("LOCKSTEP_LOG_FILTER=debug exec \"$@\"", &folder), folder);
    let (address, _output) = gateway.listens();
    // Each is a line of the log.
    for _ in 0..1_500 {
        let mut stream = TcpStream::connect(address).expect("a listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(b"no request\r\n\r\n").expect("a socket");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    gateway.signal("-TERM");
    assert!(gateway.ended().success());
}

#[test]
fn commands_whose_reader_goes_away_end_in_order() {
    for arguments in [&["config"][..], &["config", "--check"], &["user", "list"]] {
        let folder = Folder::new();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(LOCKSTEP);
        command.args(arguments).env("LOCKSTEP_DATA_DIR", folder.0.join("data")).stdin(Stdio::null());
        let output = command.stdout(writer).stderr(Stdio::piped()).output().expect("a process");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Whether the process has asked for this signal.
fn takes(child: &Child, signal: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim().to_owned();
    u64::from_str_radix(&caught, 16).is_ok_and(|caught| caught >> (signal - 1) & 1 == 1)
}

const HUP: u32 = 1;
const INT: u32 = 2;
const QUIT: u32 = 3;
const TERM: u32 = 15;

/// It takes signals before it reads its configuration, which here does not come until it has got one.
#[test]
fn a_signal_is_not_lost_while_it_starts() {
    for signal in ["-TERM", "-INT", "-QUIT"] {
        let folder = Folder::new();
        let mut command = shell("exec \"$@\"", &folder);
        let config = folder.0.join("lockstep.toml");
        let text = fs::read_to_string(&config).expect("a file");
        fs::remove_file(&config).expect("a file");
        assert!(Command::new("mkfifo").arg(&config).status().expect("a pipe").success());
        let mut gateway = Gateway { child: command.spawn().expect("a process"), _folder: folder };
        until(|| [HUP, INT, QUIT, TERM].iter().all(|signal| takes(&gateway.child, *signal)).then_some(()));
        gateway.signal(signal);
        fs::write(&config, text).expect("a pipe");
        assert!(gateway.ended().success(), "{signal}");
        let mut said = String::new();
        gateway.child.stdout.take().expect("its output").read_to_string(&mut said).expect("text");
        // It may have begun to serve before the signal was handled: then it drains first.
        assert!(said.is_empty() || said.contains("\ndraining"), "{signal}: {said}");
    }
}

/// A hang-up is no end where there is no terminal, nor is a signal that asks for nothing here.
#[test]
fn a_hangup_is_survived() {
    let folder = Folder::new();
    let mut gateway = Gateway::start(shell("exec \"$@\"", &folder), folder);
    let (address, _output) = gateway.listens();
    for signal in ["-USR1", "-USR2", "-ALRM", "-HUP"] {
        gateway.signal(signal);
    }
    let mut log = BufReader::new(gateway.child.stderr.take().expect("its log"));
    let mut line = String::new();
    while !line.contains("no certificates") {
        line.clear();
        assert!(log.read_line(&mut line).expect("text") > 0, "it has ended");
    }
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
    gateway.signal("-INT");
    assert!(gateway.ended().success());
}

/// A supervisor hears when it is ready, that it lives, and that it ends.
#[test]
fn its_supervisor_is_told() {
    let folder = Folder::new();
    let path = folder.0.join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("a socket");
    supervisor.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let hear = || {
        let mut bytes = [0; 512];
        let length = supervisor.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut command = shell("exec \"$@\"", &folder);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000").env_remove("WATCHDOG_PID");
    let mut gateway = Gateway::start(command, folder);
    let ready = hear();
    let (address, _output) = gateway.listens();
    assert_eq!(ready, format!("READY=1\nSTATUS=listening on http://{address}"));
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    gateway.signal("-TERM");
    let stops = until(|| Some(hear()).filter(|said| said != "WATCHDOG=1"));
    assert_eq!(stops, "STOPPING=1\nSTATUS=draining");
    assert!(gateway.ended().success());
}

/// The soft limit is raised to the hard one.
#[test]
fn the_limit_of_open_files_is_raised() {
    let folder = Folder::new();
    let mut gateway = Gateway::start(shell("ulimit -Sn 256; ulimit -Hn 2000; exec \"$@\"", &folder), folder);
    let (address, _output) = gateway.listens();
    assert_eq!(metric(address, "process_max_fds"), 2_000.0);
    gateway.signal("-TERM");
    assert!(gateway.ended().success());
}

/// With few files it says how many sockets fit, refuses those that do not, and health and metrics go on.
#[test]
fn with_few_files_it_says_so_and_health_goes_on() {
    let folder = Folder::new();
    let mut gateway = Gateway::start(shell("ulimit -n 256; exec \"$@\"", &folder), folder);
    let (address, _output) = gateway.listens();
    let mut log = BufReader::new(gateway.child.stderr.take().expect("its log"));
    let mut line = String::new();
    while !line.contains("128 sockets fit") {
        line.clear();
        assert!(log.read_line(&mut line).expect("text") > 0, "it has ended");
    }
    assert!(line.contains("256 open files") && line.contains("LimitNOFILE"), "{line}");
    let crowd: Vec<_> = (0..250).map(|_| TcpStream::connect(address).expect("a listener")).collect();
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 503 "), "its own address has used up its reserve");
    drop(crowd);
    until(|| get(address, "/healthz").starts_with("HTTP/1.1 200 ").then_some(()));
    assert!(metric(address, "lockstep_sockets_refused_total{limit=\"sockets\"}") >= 250.0 - 128.0 - 8.0);
    assert_eq!(metric(address, "lockstep_accept_failures_total"), 0.0);
    gateway.signal("-TERM");
    assert!(gateway.ended().success());
}

/// Connections that begin a request, and do not end it, hold little more than what they have sent.
#[test]
fn half_a_request_holds_little() {
    const NUMBER: usize = 1_000;
    let folder = Folder::new();
    let mut gateway = Gateway::start(shell("exec \"$@\"", &folder), folder);
    let (address, _output) = gateway.listens();
    let beginning = b"GET / HTTP/1.1\r\nHost: gateway.test\r\nUser-Agent: half of one\r\n";
    let memory = || metric(address, "process_resident_memory_bytes");
    let open = |number: usize| {
        let files = metric(address, "process_open_fds");
        let sockets: Vec<_> = (0..number)
            .map(|_| {
                let mut stream = TcpStream::connect(address).expect("a listener");
                stream.write_all(beginning).expect("a socket");
                stream
            })
            .collect();
        until(|| (metric(address, "process_open_fds") >= files + number as f64 * 0.99).then_some(()));
        sockets
    };
    let warm = open(50);
    let before = memory();
    let crowd = open(NUMBER);
    let each = (memory() - before) / NUMBER as f64;
    assert!(each < 8.0 * 1_024.0, "{each} bytes each");
    drop((warm, crowd));
    gateway.signal("-TERM");
    assert!(gateway.ended().success());
}
