//! Signals. They are handled from [`Signals::install`] on, so that none is lost while the gateway starts. That matters
//! most for the first process of a container, which ignores signals without a handler.
//!
//! | signal | effect |
//! | --- | --- |
//! | `SIGTERM`, `SIGINT`, `SIGQUIT` | drain and end; the second one ends at once |
//! | `SIGHUP` | reload the certificates; with a terminal, which is then gone: drain and end |
//! | `SIGUSR1`, `SIGUSR2`, `SIGALRM` | none: without a handler, they would end the process undrained |

use std::io;

/// A signal's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// End the process.
    End,
    /// Reload the certificates.
    Reload,
}

/// The signals of the process.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    of_unix: OfUnix,
}

#[cfg(unix)]
#[derive(Debug)]
struct OfUnix {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    at_terminal: bool,
}

impl Signals {
    /// Installs the handlers. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn install() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use std::io::IsTerminal;

            use tokio::signal::unix::{SignalKind, signal};
            for nothing in [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()] {
                // The handler stays installed as long as the process lives.
                drop(signal(nothing)?);
            }
            let of_unix = OfUnix {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
                hangup: signal(SignalKind::hangup())?,
                at_terminal: io::stdin().is_terminal(),
            };
            Ok(Self { of_unix })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// The next signal. Cancel safe: no signal is lost.
    #[cfg(unix)]
    pub async fn next(&mut self) -> Asked {
        let OfUnix { terminate, interrupt, quit, hangup, at_terminal } = &mut self.of_unix;
        tokio::select! {
            _ = terminate.recv() => Asked::End,
            _ = interrupt.recv() => Asked::End,
            _ = quit.recv() => Asked::End,
            _ = hangup.recv() => if *at_terminal { Asked::End } else { Asked::Reload },
        }
    }

    /// The next signal.
    #[cfg(not(unix))]
    pub async fn next(&mut self) -> Asked {
        let _ = tokio::signal::ctrl_c().await;
        Asked::End
    }

    /// Waits for a signal to end.
    pub async fn end(&mut self) {
        while self.next().await != Asked::End {}
    }
}
