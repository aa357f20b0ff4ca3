//! A gateway process of one's own, with tokens of one's own issuer; it ends with the value that holds it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};

/// Signs the tokens; known to this process and the gateway that it starts.
const SECRET: &str = "a secret of load and soak runs, good for nothing else";

/// How long a gateway may take to serve.
const STARTS: Duration = Duration::from_secs(30);

/// A gateway and where it is.
#[derive(Debug)]
pub struct Gateway {
    binary: PathBuf,
    /// Its data and its configuration.
    pub directory: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    process: Option<Child>,
}

/// A token for that user, good for so long. Each has an id of its own.
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
    /// Prepares a gateway: the binary, a directory for its data, and settings in TOML beside those that this needs.
    ///
    /// # Errors
    ///
    /// What could not be done.
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

    /// Starts it and waits until it admits connections.
    ///
    /// # Errors
    ///
    /// What went wrong; its own words are in `gateway.log` of its directory.
    pub async fn start(&mut self) -> Result<(), String> {
        let path = self.directory.join("gateway.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        let again = log.try_clone().map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        let child = Command::new(&self.binary)
            .arg("serve")
            .args(["--listen", &self.address.to_string(), "--log-filter", "warn"])
            .arg("--data-dir")
            .arg(self.directory.join("data"))
            .arg("--config")
            .arg(self.directory.join("lockstep.toml"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.binary.display()))?;
        let child = self.process.insert(child);
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

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub async fn drain(&mut self, within: Duration) -> Result<(), String> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let _ = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
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
                    return Err(format!("the gateway did not drain within {} s", within.as_secs()));
                }
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Its socket's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// Makes tokens for that user.
    pub fn tokens(user: &str, lifetime: Duration) -> Arc<dyn Fn() -> String + Send + Sync> {
        let user = user.to_owned();
        Arc::new(move || token(&user, lifetime))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}
