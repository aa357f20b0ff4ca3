//! A gateway process with its own token issuer. Dropping the [`Gateway`] ends the process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};

/// Signs the tokens; known only to this process and the gateway that it starts.
const SECRET: &str = "a secret of load and soak runs, good for nothing else";

/// How long a gateway may take until it serves.
const STARTS: Duration = Duration::from_secs(30);

/// How one process replaces another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Way {
    /// The process is killed, and its supervisor starts another.
    Crash,
    /// The process is asked to end. When it has ended, its supervisor starts another.
    Restart,
    /// Another process is started and takes over.
    Handover,
}

/// How long a supervisor waits before it restarts a process: `RestartSec` of systemd.
const SUPERVISOR: Duration = Duration::from_millis(100);

/// The processor times that a process has used (proc(5)), of itself and of its children that have ended.
#[must_use]
pub fn processor_times(process: u32) -> Option<[Duration; 2]> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4);
    // In ticks of a hundredth of a second.
    let ticks: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let [user, system, user_of_children, system_of_children] = ticks[..] else { return None };
    Some([user + system, user_of_children + system_of_children].map(|ticks| Duration::from_millis(10 * ticks)))
}

/// A gateway process and its address.
#[derive(Debug)]
pub struct Gateway {
    binary: PathBuf,
    /// The directory of its data and configuration.
    pub directory: PathBuf,
    /// The address on which it listens.
    pub address: SocketAddr,
    process: Option<Child>,
}

/// A token for `user`, valid for `lifetime`. Each has its own id.
#[must_use]
pub fn token(user: &str, lifetime: Duration) -> String {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), json!(user));
    claims.insert("iat".to_owned(), json!(now));
    claims.insert("exp".to_owned(), json!(now + lifetime.as_secs_f64()));
    claims.insert("jti".to_owned(), json!(format!("{}-{number}", std::process::id())));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &Value::Object(claims), &key).unwrap_or_default()
}

impl Gateway {
    /// Prepares a gateway: the binary, a directory for its data, and additional settings in TOML.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn prepare(binary: &Path, directory: &Path, settings: &str) -> Result<Self, String> {
        let fail = |what: &str, error: &dyn core::fmt::Display| format!("cannot {what}: {error}");
        std::fs::create_dir_all(directory).map_err(|error| fail("make the gateway's directory", &error))?;
        let key = directory.join("secret");
        std::fs::write(&key, SECRET).map_err(|error| fail("write the key", &error))?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| fail("find a free port", &error))?;
        let address = free.local_addr().map_err(|error| fail("find a free port", &error))?;
        let config =
            format!("[auth]\nissuer = \"jwt\"\nkey_file = {:?}\nleeway_seconds = 0\n\n{settings}", key.display());
        std::fs::write(directory.join("lockstep.toml"), config).map_err(|error| fail("write the settings", &error))?;
        Ok(Self { binary: binary.to_owned(), directory: directory.to_owned(), address, process: None })
    }

    /// Starts the process and waits until it admits connections.
    ///
    /// # Errors
    ///
    /// The cause; the process's own output is in `gateway.log` of its directory.
    pub async fn start(&mut self) -> Result<(), String> {
        let path = self.log();
        self.spawn(&self.directory.join("lockstep.toml"), &[])?;
        let Some(child) = &mut self.process else { return Ok(()) };
        let (began, mut tick) = (Instant::now(), tokio::time::interval(Duration::from_millis(10)));
        while tokio::net::TcpStream::connect(self.address).await.is_err() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("the gateway ended: {status}; see {}", path.display()));
            }
            if began.elapsed() > STARTS {
                return Err(format!("the gateway does not listen; see {}", path.display()));
            }
            tick.tick().await;
        }
        Ok(())
    }

    /// Starts a process that takes over, with additional arguments, and returns the one that serves. Waits for neither.
    ///
    /// # Errors
    ///
    /// The cause.
    pub fn succeed(&mut self, more: &[&str]) -> Result<Self, String> {
        self.succeed_with(&self.directory.join("lockstep.toml"), more)
    }

    /// [`Gateway::succeed`] with another configuration.
    ///
    /// # Errors
    ///
    /// The cause.
    pub fn succeed_with(&mut self, config: &Path, more: &[&str]) -> Result<Self, String> {
        let Self { binary, directory, address, .. } = self;
        let (binary, directory, address) = (binary.clone(), directory.clone(), *address);
        let before = Self { binary, directory, address, process: self.process.take() };
        self.spawn(config, &[&["--take-over"], more].concat())?;
        Ok(before)
    }

    /// Replaces the serving process, which has `within` to end.
    ///
    /// # Errors
    ///
    /// The cause.
    pub async fn replace(&mut self, way: Way, within: Duration) -> Result<(), String> {
        let ended = match way {
            Way::Crash => {
                self.kill();
                Ok(())
            }
            Way::Restart => self.drain(within).await,
            Way::Handover => return self.succeed(&[])?.ended(within).await,
        };
        let _ = tokio::time::timeout(SUPERVISOR, core::future::pending::<()>()).await;
        ended.and(self.start().await)
    }

    /// The path of the process's own output.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.join("gateway.log")
    }

    fn spawn(&mut self, config: &Path, more: &[&str]) -> Result<(), String> {
        let path = self.log();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        let again = log.try_clone().map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        let child = Command::new(&self.binary)
            .arg("serve")
            .args(["--listen", &self.address.to_string(), "--log-filter", "warn"])
            .arg("--data-dir")
            .arg(self.directory.join("data"))
            .arg("--config")
            .arg(config)
            .args(more)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.binary.display()))?;
        self.process = Some(child);
        Ok(())
    }

    /// Kills the process, like a crash.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Asks the process to end, and waits until it has.
    ///
    /// # Errors
    ///
    /// If it does not end in time.
    pub async fn drain(&mut self, within: Duration) -> Result<(), String> {
        self.terminate();
        self.ended(within).await
    }

    /// Asks the process to end.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends the process a signal, as `kill` names it.
    pub fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            let _ = Command::new("kill").args([name, &process.id().to_string()]).status();
        }
    }

    /// Waits until the process has ended successfully.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub async fn ended(&mut self, within: Duration) -> Result<(), String> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let (began, mut tick) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
        loop {
            match process.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("the gateway ended with {status}")),
                Ok(None) if began.elapsed() < within => {
                    tick.tick().await;
                }
                Ok(None) | Err(_) => {
                    let _ = process.kill();
                    let _ = process.wait();
                    return Err(format!("the gateway did not end within {} s", within.as_secs()));
                }
            }
        }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// The URL of its WebSocket endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// Returns a function that makes tokens for `user`.
    pub fn tokens(user: &str, lifetime: Duration) -> Arc<dyn Fn() -> String + Send + Sync> {
        let user = user.to_owned();
        Arc::new(move || token(&user, lifetime))
    }
}

/// A function that makes a credential only when the last one has expired.
pub fn lazy_tokens(user: &str, lifetime: Duration) -> Arc<dyn Fn() -> String + Send + Sync> {
    let user = user.to_owned();
    let kept: Mutex<Option<(Instant, String)>> = Mutex::new(None);
    Arc::new(move || {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((until, token)) if Instant::now() < *until => token.clone(),
            Some(_) | None => {
                let new = token(&user, lifetime);
                *kept = Some((Instant::now() + lifetime, new.clone()));
                new
            }
        }
    })
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}
