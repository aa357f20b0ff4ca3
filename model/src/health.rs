//! What is measured of a process, and what that says about it.
//!
//! | measured | poor | critical |
//! | --- | --- | --- |
//! | a probe of the log | refused, not answered, or slower than [`Bounds::slow_log`] | – |
//! | the oldest thing that a session waits for the log to do | older than [`Bounds::slow_log`] | older than [`Bounds::log_answer`] |
//! | resident memory | seven eighths of [`Bounds::memory`] | [`Bounds::memory`] |
//! | open files | – | fewer than [`Bounds::spare_files`] are left |
//!
//! A process with a log that refuses serves those who read; it is poor. While a log answers nothing, a new connection would only
//! wait for its stream; that is critical, as is whatever one more connection makes worse for those who are here. A verifier that
//! cannot be reached harms no run and no reader: without verdicts no connection is admitted anyway, so it is told, but is not poor.
//!
//! * **NODE-1** The driver measures, and this decides: equal measurements give equal health.

use core::time::Duration;

use crate::bounds::Bounds;
use crate::node::Mode;

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Health {
    /// All well.
    Good,
    /// Something the runs need is slow or failing.
    Poor,
    /// One more connection would harm those who are here.
    Critical,
}

/// What a probe of the log came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Probe {
    /// It was durable after so long.
    Answered(Duration),
    /// The log refused it.
    Refused,
    /// No answer came while it was waited for.
    Unanswered,
}

/// What the verifier did since it was measured last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reach {
    /// It was not asked, or some of its answers were verdicts.
    Reached,
    /// It was asked, and gave no verdict.
    OutOfReach,
}

/// One measurement of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Measured {
    /// A probe of the log.
    pub log: Probe,
    /// For how long the oldest of what sessions want of the log has waited: an append, or the restoring of a stream.
    pub waiting: Duration,
    /// The verifier.
    pub verifier: Reach,
    /// Resident memory in bytes; zero if it is not known.
    pub memory: u64,
    /// Open files.
    pub files: u64,
    /// As many files as may be open; zero if it is not known.
    pub file_limit: u64,
}

/// One thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Trouble {
    /// The log answers nothing: sessions wait longer than the machines do.
    LogMute,
    /// The log refuses.
    LogRefuses,
    /// The log did not answer a probe.
    LogUnanswered,
    /// The log is slow.
    LogSlow,
    /// The verifier cannot be reached.
    Verifier,
    /// Memory nears its bound, or has reached it.
    Memory,
    /// Nearly as many files are open as may be.
    Files,
}

impl Trouble {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::LogMute,
        Self::LogRefuses,
        Self::LogUnanswered,
        Self::LogSlow,
        Self::Verifier,
        Self::Memory,
        Self::Files,
    ];

    /// Whether nothing is durable while it lasts, so that others should be sent what is sent here.
    #[must_use]
    pub const fn takes_nothing(self) -> bool {
        match self {
            Self::LogMute | Self::LogRefuses | Self::LogUnanswered => true,
            Self::LogSlow | Self::Verifier | Self::Memory | Self::Files => false,
        }
    }
}

impl core::fmt::Display for Trouble {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::LogMute => "the log answers nothing",
            Self::LogRefuses => "the log refuses",
            Self::LogUnanswered => "the log does not answer a probe",
            Self::LogSlow => "the log is slow",
            Self::Verifier => "the verifier cannot be reached",
            Self::Memory => "memory nears its bound",
            Self::Files => "nearly all files are open",
        })
    }
}

impl Measured {
    /// A process that lacks nothing and is asked nothing.
    pub const WELL: Self = Self {
        log: Probe::Answered(Duration::ZERO),
        waiting: Duration::ZERO,
        verifier: Reach::Reached,
        memory: 0,
        files: 0,
        file_limit: 0,
    };

    /// How bad it is in one respect.
    #[must_use]
    pub fn of(&self, trouble: Trouble, bounds: &Bounds) -> Health {
        let (wrong, health) = match trouble {
            Trouble::LogMute => (self.waiting > bounds.log_answer, Health::Critical),
            Trouble::LogRefuses => (self.log == Probe::Refused, Health::Poor),
            Trouble::LogUnanswered => (self.log == Probe::Unanswered, Health::Poor),
            Trouble::LogSlow => {
                let slow = matches!(self.log, Probe::Answered(took) if took > bounds.slow_log);
                (slow || self.waiting > bounds.slow_log, Health::Poor)
            }
            Trouble::Verifier => (false, Health::Good),
            Trouble::Memory if bounds.memory == 0 => (false, Health::Good),
            Trouble::Memory if self.memory >= bounds.memory => (true, Health::Critical),
            Trouble::Memory => (self.memory >= bounds.memory - bounds.memory / 8, Health::Poor),
            Trouble::Files => {
                let left = self.file_limit.saturating_sub(self.files);
                (self.file_limit > 0 && left < bounds.spare_files, Health::Critical)
            }
        };
        if wrong { health } else { Health::Good }
    }

    /// How it is: as bad as in its worst respect.
    #[must_use]
    pub fn health(&self, bounds: &Bounds) -> Health {
        Trouble::ALL.into_iter().map(|trouble| self.of(trouble, bounds)).max().unwrap_or(Health::Good)
    }

    /// Whether others should be sent here: not while the mode refuses connections, nor while nothing becomes durable.
    #[must_use]
    pub fn is_ready(&self, mode: Mode, bounds: &Bounds) -> bool {
        mode.refuses_connections().is_none() && !self.troubles(bounds).any(Trouble::takes_nothing)
    }

    /// What an operator should know.
    pub fn troubles(&self, bounds: &Bounds) -> impl Iterator<Item = Trouble> {
        let unreachable = self.verifier == Reach::OutOfReach;
        let (measured, bounds) = (*self, *bounds);
        Trouble::ALL.into_iter().filter(move |trouble| {
            measured.of(*trouble, &bounds) != Health::Good || (*trouble == Trouble::Verifier && unreachable)
        })
    }
}
