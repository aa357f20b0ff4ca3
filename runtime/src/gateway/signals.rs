//! Signals. They are taken from the moment of [`Signals::install`], so that none is lost while the gateway starts, also
//! where the process is the first of its container and a signal does nothing unless it is taken.
//!
//! | signal | what it asks for |
//! | --- | --- |
//! | `SIGTERM`, `SIGINT`, `SIGQUIT` | drain and end; the second one ends at once |
//! | `SIGHUP` | read the certificates again; at a terminal, which has gone then: drain and end |
//! | `SIGUSR1`, `SIGUSR2`, `SIGALRM` | nothing: untaken, they would end the process undrained |

use std::io;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To end.
    End,
    /// To read again what can be read again.
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
    /// Takes the signals from now on. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn install() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use std::io::IsTerminal;

            use tokio::signal::unix::{SignalKind, signal};
            for nothing in [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()] {
                // Taken for as long as the process lives.
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

    /// The next signal. Cancel safe: one that has come is not lost.
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

    /// Waits for a signal that asks to end.
    pub async fn end(&mut self) {
        while self.next().await != Asked::End {}
    }
}
