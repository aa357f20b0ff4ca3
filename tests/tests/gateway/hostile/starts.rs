//! Gateways that cannot start, or whose disk fills up: whole processes, each as the binary runs it.
//!
//! The test binary runs itself for that, so that nothing else must be built first.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use jsonwebtoken::Algorithm;
use lockstep_gateway::Startup;
use lockstep_gateway::config::{Flags, TraceFlag};
use lockstep_gateway::signals::Signals;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::client::*;
use super::credentials::{now, token_of};
use super::*;

/// The environment variable with the path of the process's configuration.
const FILE: &str = "GATEWAY_UNDER_TEST";

const SECRET: &[u8] = b"a secret of these processes, good for nothing else";

/// A temporary directory, removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("lockstep-hostile-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The gateway, which another test starts in a process of its own.
#[test]
fn serves_as_the_file_says() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let say = |line: &str| writeln!(io::stdout(), "{line}").expect("a reader");
    let file = Path::new(&file);
    let flags = Flags { trace: Some(TraceFlag { directory: traces(file) }), ..Flags::default() };
    let served = Config::load(Some(file), &flags).map_err(|error| error.to_string());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _within = runtime.enter();
    let mut signals = Signals::install().expect("signals");
    let served = served.and_then(|config| {
        let run = lockstep_gateway::run(&config, Startup::Alone, &mut signals, &say);
        runtime.block_on(run).map_err(|error| error.to_string())
    });
    say(&served.map_or_else(|error| format!("FAILED {error}"), |()| "ENDED".to_owned()));
}

/// The trace directory of a process with this configuration.
fn traces(file: &Path) -> PathBuf {
    file.with_file_name("traces")
}

/// A command that runs one test of this binary in another process.
pub(crate) fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "--nocapture", test]);
    command
}

/// A process and its output.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    record: Record,
}

impl Process {
    pub(crate) fn start(command: Command, file: &Path) -> Self {
        Self::recorded(command, file, Record::of_processes(traces(file)))
    }

    /// Kills the process unless it has ended, and returns when it is gone.
    pub(crate) async fn kill(&mut self) {
        if self.child.id().is_none() {
            return;
        }
        timeout(PATIENCE, self.child.kill()).await.expect("an end").expect("a process");
    }

    /// Kills the process and starts another. Their clients share one record.
    pub(crate) async fn replaced(mut self, command: Command, file: &Path) -> Self {
        self.kill().await;
        Self::recorded(command, file, self.record)
    }

    fn recorded(mut command: Command, file: &Path, record: Record) -> Self {
        command.env(FILE, file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines, record }
    }

    /// The rest of the first output line that contains `word`, after it.
    pub(crate) async fn says(&mut self, word: &str) -> String {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await.expect("the process says nothing");
            let line = line.expect("text").unwrap_or_else(|| panic!("it ended without saying {word}"));
            if let Some((_, rest)) = line.split_once(word) {
                return rest.to_owned();
            }
        }
    }

    /// The address on which it listens. Its clients and its trace are recorded and checked.
    pub(crate) async fn address(&mut self) -> SocketAddr {
        let address = self.listens().await;
        self.record.serves(address);
        address
    }

    /// The address on which it listens.
    pub(crate) async fn listens(&mut self) -> SocketAddr {
        let listens = self.says("listens on http").await;
        listens.trim_start_matches(['s', ':', '/']).parse().expect("an address")
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().expect("a process").to_string();
        std::process::Command::new("kill").args([signal, &id]).status().expect("a signal");
    }

    /// Limits the size of its files, like a disk with that much room. For a process of [`with_a_limit`].
    pub(crate) fn room(&self, bytes: &str) {
        let id = self.child.id().expect("a process").to_string();
        let limit = std::process::Command::new("prlimit").args(["--pid", &id, &format!("--fsize={bytes}:")]).status();
        assert!(limit.expect("prlimit").success());
    }

    pub(crate) async fn terminate(self) {
        self.signal("-TERM");
        self.ended().await;
    }

    /// Returns when the process has ended, in order.
    pub(crate) async fn ended(mut self) {
        self.says("ENDED").await;
        timeout(PATIENCE, self.child.wait()).await.expect("an end").expect("a status");
    }
}

pub(crate) fn gateway() -> Command {
    again("hostile::starts::serves_as_the_file_says")
}

/// The gateway in a process in which a write beyond [`Process::room`] fails and does not end it.
pub(crate) fn with_a_limit() -> Command {
    let (mut command, exec) = (Command::new("sh"), gateway());
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    command.arg(exec.as_std().get_program()).args(exec.as_std().get_args());
    command
}

/// The settings of a gateway for tokens signed with the secret, on any port, between the lines `first` and `last`.
pub(crate) fn settings(folder: &Folder, first: &str, last: &str) -> PathBuf {
    let key = folder.file("secret", SECRET);
    let listen = if first.contains("listen") { "" } else { "listen = \"127.0.0.1:0\"" };
    let data = if first.contains("data_dir") { String::new() } else { format!("data_dir = {:?}", folder.path("data")) };
    let auth =
        if last.contains("[auth]") { String::new() } else { format!("[auth]\nissuer = \"jwt\"\nkey_file = {key:?}") };
    folder.file("lockstep.toml", format!("{first}\n{listen}\n{data}\n{auth}\n{last}\n").as_bytes())
}

pub(crate) fn token(user: &str) -> String {
    token_of(Algorithm::HS256, SECRET, &json!({ "sub": user, "iat": now(), "exp": now() + 600 }))
}

/// Why a gateway with these settings does not start.
async fn failure(file: &Path) -> String {
    Process::start(gateway(), file).says("FAILED ").await
}

#[tokio::test]
async fn a_port_that_is_in_use_is_said_with_what_to_do() {
    let folder = Folder::new();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("an address");
    let said = failure(&settings(&folder, &format!("listen = \"{address}\""), "")).await;
    let expected = format!("cannot listen on {address}: the port is in use; stop the process that uses it");
    assert!(said.starts_with(&expected), "{said}");
    drop(holder);
}

#[tokio::test]
async fn what_cannot_be_read_or_written_is_named() {
    let folder = Folder::new();
    folder.file("file", b"no directory");
    let data = |name: &str, file: &str, content: &[u8]| {
        let file = format!("{name}/{file}");
        std::fs::create_dir_all(folder.path(&file).parent().expect("a parent")).expect("a directory");
        folder.file(&file, content);
        format!("data_dir = {:?}", folder.path(name))
    };
    let at = |name: &str| folder.path(name).display().to_string();
    let auth = |lines: &str| format!("[auth]\n{lines}");
    let jwt = |file: &str| auth(&format!("issuer = \"jwt\"\nkey_file = {:?}", folder.path(file)));
    let tls = |certificate: &str, key: &str| {
        format!("[tls]\ncertificate = {:?}\nkey = {:?}", folder.path(certificate), folder.path(key))
    };
    let openai = "[agent]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n";
    for (first, last, says, path) in [
        (
            format!("data_dir = {:?}", folder.path("file/data")),
            String::new(),
            "cannot create the data dir",
            at("file/data"),
        ),
        (format!("data_dir = {:?}", folder.path("file")), String::new(), "cannot create the data dir", at("file")),
        (data("a", "log/manifest", b"this is no log"), String::new(), "cannot open the log", at("a/log")),
        (data("d", "log.redb", b"a log"), String::new(), "was written by an earlier version", at("d/log.redb")),
        (
            data("b", "operator.token", b"short"),
            String::new(),
            "cannot use the operator's token",
            at("b/operator.token"),
        ),
        (data("c", "operator.token/x", b""), String::new(), "cannot read the operator's token", at("c/operator.token")),
        (String::new(), jwt("missing"), "cannot use the keys of `auth`", at("missing")),
        (String::new(), jwt("b"), "cannot use the keys of `auth`", at("b")),
        (String::new(), tls("missing.pem", "secret"), "cannot read the certificate", at("missing.pem")),
        (String::new(), tls("file", "secret"), "cannot read the key", at("secret")),
        (
            String::new(),
            format!("{openai}api_key_file = {:?}", folder.path("no key")),
            "cannot use `agent.api_key_file`",
            at("no key"),
        ),
    ] {
        let said = failure(&settings(&folder, &first, &last)).await;
        assert!(said.contains(says) && said.contains(&path), "{says} … {path}\n{said}");
    }
}

/// The status and the body of a GET request.
pub(crate) async fn fetch(address: SocketAddr, path: &str, line: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n{line}\r\n")).await
}

/// The status and the body of a POST request with that JSON.
pub(crate) async fn post(address: SocketAddr, path: &str, line: &str, body: &str) -> (u16, String) {
    request(address, "POST", path, line, body).await
}

pub(crate) async fn request(address: SocketAddr, method: &str, path: &str, line: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n{line}");
    ask(address, &format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")).await
}

async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut client = Client::connect(address).await;
    client.send(request.as_bytes()).await;
    let answer = String::from_utf8(client.rest().await).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

#[tokio::test]
async fn the_operator_routes_are_closed_to_users_and_a_signal_ends_in_order() {
    let folder = Folder::new();
    let mut process = Process::start(gateway(), &settings(&folder, "", "[bounds]\ngrace_ms = 1000\ndrain_ms = 2000"));
    let address = process.address().await;
    assert_eq!(fetch(address, "/readyz", "").await, (200, "ready\n".to_owned()));
    let user = token("ada");
    for line in ["", "Authorization: Bearer x\r\n", &format!("Authorization: Bearer {user}\r\n"), "Authorization: \r\n"]
    {
        for path in ["/operator/health", "/operator/sessions", "/operator/sessions/ada", "/operator/drain"] {
            let (status, body) = fetch(address, path, line).await;
            assert_eq!(status, 401, "{path} {line}");
            assert!(body.contains("unauthorized"), "{body}");
        }
    }
    let operator = std::fs::read_to_string(folder.path("data/operator.token")).expect("a token");
    let line = format!("Authorization: Bearer {}\r\n", operator.trim());
    assert_eq!(fetch(address, "/operator/health", &line).await.0, 200);
    assert_eq!(fetch(address, "/operator/health", &line.replace("Bearer", "bearer")).await.0, 200);
    let mut ada = Client::live(address, &user).await;
    ada.exchange("hello").await;
    for (body, status, says) in [
        (r#"{"subject":"ada","thread":"t","data":{"text":"noon"}}"#, 200, r#""sent":1"#),
        (r#"{"data":{"text":"noon"}}"#, 200, r#""failed":0"#),
        (r#"{"thread":"t","data":{}}"#, 400, "`thread`"),
        (r#"{"subject":"ada","data":7}"#, 400, "`data`"),
        (r#"{"subject":"ada"}"#, 422, "data"),
    ] {
        let answer = post(address, "/operator/notice", &line, body).await;
        assert!(answer.0 == status && answer.1.contains(says), "{body}: {answer:?}");
    }
    for thread in [json!("t"), json!(null)] {
        let notice = ada.until("notice").await.pop().expect("a notice");
        assert_eq!((&notice["thread_id"], &notice["data"]["text"]), (&thread, &json!("noon")));
    }
    let ended = tokio::spawn(process.terminate());
    ada.until("going_away").await;
    assert_eq!(ada.end().await, 4000);
    ended.await.expect("ended");
}

#[tokio::test]
async fn a_disk_that_is_full_refuses_new_messages_loses_none_that_was_shown_and_is_used_again_when_it_is_free() {
    let folder = Folder::new();
    let bounds = "[agent]\npace_ms = 0\n\
                  [bounds]\nprobe_ms = 100\nretry_ms = 50\nstrikes = 2\nrequests = 0";
    let file = settings(&folder, "", bounds);
    let mut process = Process::start(with_a_limit(), &file);
    let address = process.address().await;
    let (ada, bob) = (token("ada"), token("bob"));
    let mut idle = Client::live(address, &bob).await;
    idle.exchange("before").await;
    let mut busy = Client::live(address, &ada).await;
    let mut shown = Vec::new();
    for number in 0..4 {
        busy.say(&message(&format!("m{number}"), "x")).await;
        for value in busy.until("agent_completed").await {
            shown.extend(value["offset"].as_u64().filter(|_| value["run_id"].is_string()));
        }
    }
    assert!(shown.len() > 9, "{shown:?}");
    process.room("0");
    busy.say(&message("waits", "x")).await;
    assert_eq!(busy.until("mode").await.last().expect("a mode")["mode"], "degraded");
    busy.say(&message("refused", "x")).await;
    assert_eq!(busy.error().await, "degraded");
    assert_eq!(idle.until("mode").await.last().expect("a mode")["mode"], "degraded");
    idle.is_live().await;
    let (status, says) = fetch(address, "/readyz", "").await;
    assert!(status == 503 && says.starts_with("degraded\nthe log refuses writes\n"), "{status} {says}");

    // There is room again: the same process goes on, and queued messages are answered.
    process.room("unlimited");
    let mut answered = false;
    for value in busy.until("mode").await {
        answered |= value["type"] == "agent_completed";
        assert!(value["type"] != "mode" || value["mode"] == "ready", "{value}");
        shown.extend(value["offset"].as_u64().filter(|_| value["run_id"].is_string()));
    }
    if !answered {
        for value in busy.until("agent_completed").await {
            shown.extend(value["offset"].as_u64().filter(|_| value["run_id"].is_string()));
        }
    }
    assert_eq!(fetch(address, "/readyz", "").await, (200, "ready\n".to_owned()));
    assert_eq!(idle.until("mode").await.last().expect("a mode")["mode"], "ready");
    idle.exchange("after").await;

    let mut process = process.replaced(gateway(), &file).await;
    let address = process.address().await;
    let mut ada = Client::upgraded(address, &[&format!("Authorization: Bearer {ada}")]).await;
    let ready = ada.next().await;
    assert!(ready["head"].as_u64() >= shown.last().copied(), "{ready} after {:?}", shown.last());
    process.terminate().await;
}

#[tokio::test]
async fn a_process_that_is_killed_loses_nothing_that_was_shown_at_any_level() {
    for level in ["\"always\"", "\"interval\"", "\"never\"", "false"] {
        let folder = Folder::new();
        let file = settings(&folder, "", &format!("[agent]\npace_ms = 0\n[log]\nsync = {level}"));
        let mut process = Process::start(gateway(), &file);
        let address = process.address().await;
        let ada = token("ada");
        let mut before = Client::upgraded(address, &[&format!("Authorization: Bearer {ada}")]).await;
        let ready = before.next().await;
        before.exchange("before").await;
        before.say(&message("again", "x")).await;
        let head = before.until("agent_completed").await.last().expect("an answer")["offset"].as_u64();
        let mut process = process.replaced(gateway(), &file).await;
        let address = process.address().await;
        let mut after = Client::upgraded(address, &[&format!("Authorization: Bearer {ada}")]).await;
        let again = after.next().await;
        assert_eq!(again["epoch"], ready["epoch"], "sync = {level}: nothing was lost");
        assert_eq!(again["head"].as_u64(), head, "sync = {level}: all of it is there");
        process.terminate().await;
    }
}

/// NODE-1: a process's own measurements take it into emergency, and a load balancer is told so, with the reason.
#[tokio::test]
async fn a_process_that_is_over_its_memory_admits_no_more_connections_and_says_why() {
    let folder = Folder::new();
    let bounds = "[bounds]\nprobe_ms = 20\nstrikes = 2\nmemory = 1000000";
    let mut process = Process::start(gateway(), &settings(&folder, "", bounds));
    let address = process.address().await;
    let emergency = async {
        loop {
            let (status, says) = fetch(address, "/readyz", "").await;
            if says.starts_with("emergency") {
                return (status, says);
            }
        }
    };
    let told = timeout(PATIENCE, emergency).await.expect("it is measured");
    assert_eq!(told, (503, "emergency\nmemory use is near its limit\n".to_owned()));
    let mut ada = Client::upgraded(address, &[&format!("Authorization: Bearer {}", token("ada"))]).await;
    assert_eq!(ada.end().await, 4004);
    process.terminate().await;
}
