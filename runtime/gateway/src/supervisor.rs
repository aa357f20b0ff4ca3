//! Notifies a supervisor with systemd's datagram protocol (sd_notify(3)), without its library.

use std::env;
use std::time::Duration;

/// The supervisor that the environment names, if there is one.
#[derive(Debug, Default)]
pub struct Supervisor {
    #[cfg(target_os = "linux")]
    to: Option<(std::os::unix::net::UnixDatagram, std::os::unix::net::SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The supervisor of `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    #[must_use]
    pub fn of_environment() -> Self {
        let of_this = env::var("WATCHDOG_PID").ok().is_none_or(|id| id == std::process::id().to_string());
        let period = env::var("WATCHDOG_USEC").ok().and_then(|period| period.parse().ok()).filter(|_| of_this);
        Self {
            #[cfg(target_os = "linux")]
            to: socket(),
            // Twice per period, as sd_watchdog_enabled(3) recommends.
            watchdog: period.map(Duration::from_micros).map(|period| period / 2).filter(|period| !period.is_zero()),
        }
    }

    /// Sends a message. If the supervisor does not receive it, that is no error.
    pub fn tell(&self, what: &str) {
        #[cfg(target_os = "linux")]
        if let Some((socket, address)) = &self.to
            && let Err(error) = socket.send_to_addr(what.as_bytes(), address)
        {
            tracing::warn!(%error, "the supervisor cannot be notified");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = what;
    }

    /// Keeps reporting that the process is alive, if the supervisor wants to know.
    pub async fn watch(&self) {
        let Some(period) = self.watchdog else { return core::future::pending().await };
        let mut tick = tokio::time::interval(period);
        loop {
            tick.tick().await;
            self.tell("WATCHDOG=1");
        }
    }
}

#[cfg(target_os = "linux")]
fn socket() -> Option<(std::os::unix::net::UnixDatagram, std::os::unix::net::SocketAddr)> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let name = env::var("NOTIFY_SOCKET").ok()?;
    let address = match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(&name),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
}
