//! A PostgreSQL of one's own, for tests. It ends with the process that started it, however that ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::process::processor_times;

/// How long a server may take until it can be written.
const STARTS: Duration = Duration::from_secs(60);

/// The oldest version that the log works with.
const OLDEST: u32 = 15;

/// The user that runs the server where the tests run as root, which PostgreSQL refuses.
const USER: &str = "postgres";

/// Creates a cluster in directory `$2` unless there is one, starts it on port `$3` with the options `$4`, says "ready",
/// and stops it when its input ends: when the process that holds the other end has ended.
const RUN: &str = r#"
trap '' INT TERM HUP
bin=$1 data=$2 port=$3 options=$4
set -e
if [ ! -e "$data/PG_VERSION" ]; then
    "$bin/initdb" -D "$data" --no-sync --auth=trust --encoding=UTF8 --locale=C --username=postgres >&2
fi
"$bin/pg_ctl" -D "$data" -l "$data/server.log" -w -t 60 \
    -o "-p $port -k '$data' -c listen_addresses=127.0.0.1 $options" start >&2 || { cat "$data/server.log" >&2; exit 1; }
echo ready
cat >/dev/null
"$bin/pg_ctl" -D "$data" -m immediate -w stop >&2 || true
rm -rf "$data"
"#;

/// A running server, with databases for tests.
#[derive(Debug)]
pub struct Server {
    binaries: PathBuf,
    data: PathBuf,
    /// The TCP port on 127.0.0.1.
    pub port: u16,
    options: String,
    /// The server runs until this is closed.
    life: Option<ChildStdin>,
    script: Child,
}

/// The directory of the newest installed version.
fn binaries() -> Result<PathBuf, String> {
    let missing = || {
        format!("PostgreSQL {OLDEST} or later is not installed: `apt-get install postgresql`, or put initdb on PATH")
    };
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let path = version.path().join("bin");
        (number >= OLDEST && path.join("initdb").exists()).then_some((number, path))
    });
    if let Some((_, path)) = newest.max() {
        return Ok(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|path| path.join("initdb").exists()).ok_or_else(missing)
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

/// A command that runs as a user whom PostgreSQL accepts.
fn command(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", USER, "--"]).arg(program);
    // The tests' directory may be closed to that user.
    command.current_dir("/");
    command
}

/// A directory for the files of a server.
fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("lockstep-postgres-{}-{number}", std::process::id()))
}

pub(crate) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

impl Server {
    /// Starts a server with these settings, each as `-c NAME=VALUE`.
    ///
    /// # Errors
    ///
    /// If PostgreSQL is not installed or does not start, with its words.
    pub fn start(settings: &[&str]) -> Result<Self, String> {
        let options: Vec<String> = settings.iter().map(|setting| format!("-c {setting}")).collect();
        Self::run(folder(), free_port()?, options.join(" "))
    }

    fn run(data: PathBuf, port: u16, options: String) -> Result<Self, String> {
        let binaries = binaries()?;
        let mut script = command(Path::new("/bin/sh"))
            .args(["-c", RUN, "sh"])
            .args([&binaries, &data])
            .args([&port.to_string(), &options])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("PostgreSQL cannot be started: {error}"))?;
        let (life, output) = (script.stdin.take(), script.stdout.take());
        let mut said = String::new();
        let read = output.map(|output| BufReader::new(output).read_line(&mut said));
        if !matches!(read, Some(Ok(_))) || said.trim() != "ready" {
            drop(life);
            let mut why = String::new();
            let _ = script.stderr.take().map(|mut errors| errors.read_to_string(&mut why));
            let _ = script.wait();
            return Err(format!("PostgreSQL does not start: {why}"));
        }
        Ok(Self { binaries, data, port, options, life, script })
    }

    /// The server of this process, which is started by the first call.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is not installed or does not start.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start(&["fsync=off", "max_connections=200"]).unwrap_or_else(|why| panic!("{why}")))
    }

    /// The URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Creates an empty database with a name of its own, and returns its name.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("create database {name}"));
        name
    }

    /// Executes SQL in a database, and returns the rows: one a line, columns separated by `|`.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = Command::new(self.binaries.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .output();
        succeeded("psql", output).trim_end().to_owned()
    }

    /// The processor time that all of its processes have used.
    #[must_use]
    pub fn processor_time(&self) -> Option<Duration> {
        let file = std::fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let first: u32 = file.lines().next()?.parse().ok()?;
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).ok()?;
        let children = children.split_whitespace().filter_map(|child| processor_times(child.parse().ok()?));
        let [own, ended] = processor_times(first)?;
        Some(own + ended + children.map(|[own, _]| own).sum::<Duration>())
    }

    /// Writes a file into the server's directory, which only the server can read.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    pub fn write(&self, name: &str, content: &str) {
        let mut writing = command(Path::new("/bin/sh"))
            .args(["-c", "umask 077; cat >\"$1\"", "sh"])
            .arg(self.data.join(name))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("sh: {error}"));
        let written = writing.stdin.take().map(|mut input| input.write_all(content.as_bytes()));
        assert!(matches!(written, Some(Ok(()))) && writing.wait().is_ok_and(|status| status.success()), "{name}");
    }

    /// Kills the server as a crash would, and starts it again.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn crash(&self) {
        self.kill();
        self.restart();
    }

    /// Kills the server, and starts it on the next timeline, as a standby that is promoted does. It has all that was
    /// committed.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn next_timeline(&self) {
        self.kill();
        let signal = command(Path::new("touch")).arg(self.data.join("recovery.signal")).output();
        succeeded("touch", signal);
        self.restart();
        let began = Instant::now();
        while self.sql("postgres", "select pg_is_in_recovery()") != "f" {
            assert!(began.elapsed() < STARTS, "PostgreSQL stays in recovery");
        }
    }

    /// Starts a standby of this server under a name, which `synchronous_standby_names` may have.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn standby(&self, name: &str) -> Self {
        self.standby_through(self.port, name)
    }

    /// Starts a standby that reaches this server at another port.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn standby_through(&self, port: u16, name: &str) -> Self {
        let data = folder();
        let from = format!("host=127.0.0.1 port={port} user=postgres application_name={name}");
        let copied = command(&self.binaries.join("pg_basebackup"))
            .args(["--no-sync", "-R", "-c", "fast", "-d", &from, "-D"])
            .arg(&data)
            .output();
        succeeded("pg_basebackup", copied);
        let port = free_port().unwrap_or_else(|why| panic!("{why}"));
        let standby = Self::run(data, port, self.options.clone()).unwrap_or_else(|why| panic!("{why}"));
        let began = Instant::now();
        let state = format!("select state from pg_stat_replication where application_name = '{name}'");
        while self.sql("postgres", &state) != "streaming" {
            assert!(began.elapsed() < STARTS, "the standby does not follow");
        }
        standby
    }

    /// Promotes a standby.
    ///
    /// # Panics
    ///
    /// If it is not promoted.
    pub fn promote(&self) {
        succeeded("pg_ctl", self.control().args(["-w", "promote"]).output());
    }

    /// Kills the server, as a machine that fails does.
    ///
    /// # Panics
    ///
    /// If it was not running.
    pub fn kill(&self) {
        succeeded("pg_ctl", self.control().args(["-m", "immediate", "-w", "stop"]).output());
    }

    /// Starts a server that was killed.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&self) {
        let (port, data, options) = (self.port, self.data.display(), &self.options);
        let options = format!("-p {port} -k '{data}' -c listen_addresses=127.0.0.1 -c restore_command=false {options}");
        let mut control = self.control();
        control.arg("-l").arg(self.data.join("server.log")).args(["-w", "-o", &options, "start"]);
        // The server keeps what it inherits.
        let started = control.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(started.is_ok_and(|status| status.success()), "PostgreSQL does not start again: {}/server.log", data);
    }

    fn control(&self) -> Command {
        let mut control = command(&self.binaries.join("pg_ctl"));
        control.arg("-D").arg(&self.data);
        control
    }
}

fn succeeded(program: &str, output: std::io::Result<Output>) -> String {
    let output = output.unwrap_or_else(|error| panic!("{program} cannot be executed: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.life = None;
        let _ = self.script.wait();
    }
}
