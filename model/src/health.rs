//! The measurements of a process, and the health that follows from them.
//!
//! | measured | poor | critical |
//! | --- | --- | --- |
//! | a probe of the log | refused, not answered, or slower than [`Bounds::slow_log`] | – |
//! | the longest wait of a session for the log | over [`Bounds::slow_log`] | over [`Bounds::log_answer`] |
//! | resident memory | seven eighths of [`Bounds::memory`] | [`Bounds::memory`] |
//! | open files | – | fewer than [`Bounds::spare_files`] are left |
//!
//! A process whose log refuses writes still serves readers, so it is poor. While a log answers nothing, a new
//! connection would only wait for its stream, so that is critical. So is anything that one more connection would make
//! worse for existing ones. An unreachable verifier harms no run and no reader, and without verdicts no connection is
//! admitted anyway. It is reported, but is not poor.
//!
//! * **NODE-1** The driver measures, and this module decides: equal measurements give equal health.

use core::time::Duration;

use crate::bounds::Bounds;
use crate::mode::Mode;

/// The health of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Health {
    /// Everything works.
    Good,
    /// Something that runs need is slow or failing.
    Poor,
    /// One more connection would harm existing ones.
    Critical,
}

/// The result of a probe of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Probe {
    /// The probe was durable after this time.
    Answered(Duration),
    /// The log refused the probe.
    Refused,
    /// No answer came in time.
    Unanswered,
}

/// The verifier's answers since the last measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reach {
    /// The verifier was not asked, or gave some verdicts.
    Reached,
    /// The verifier was asked, and gave no verdict.
    OutOfReach,
}

/// One measurement of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Measured {
    /// The probe of the log.
    pub log: Probe,
    /// How long the oldest outstanding operation of any session on the log has waited: an append, or the restoring of a
    /// stream.
    pub waiting: Duration,
    /// The verifier.
    pub verifier: Reach,
    /// Resident memory in bytes; zero if unknown.
    pub memory: u64,
    /// Open files.
    pub files: u64,
    /// The limit of open files; zero if unknown.
    pub file_limit: u64,
}

/// A problem of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Trouble {
    /// The log answers nothing: a session has waited longer than [`Bounds::log_answer`].
    LogMute,
    /// The log refuses writes.
    LogRefuses,
    /// The log did not answer a probe.
    LogUnanswered,
    /// The log is slow.
    LogSlow,
    /// The verifier cannot be reached.
    Verifier,
    /// Memory is near its bound, or has reached it.
    Memory,
    /// The number of open files is near its limit.
    Files,
}

impl Trouble {
    /// Every problem.
    pub const ALL: [Self; 7] = [
        Self::LogMute,
        Self::LogRefuses,
        Self::LogUnanswered,
        Self::LogSlow,
        Self::Verifier,
        Self::Memory,
        Self::Files,
    ];

    /// Whether nothing becomes durable while the problem lasts, so that traffic should go to other processes.
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
            Self::LogMute => "the log does not answer sessions",
            Self::LogRefuses => "the log refuses writes",
            Self::LogUnanswered => "the log did not answer a probe",
            Self::LogSlow => "the log is slow",
            Self::Verifier => "the verifier cannot be reached",
            Self::Memory => "memory use is near its limit",
            Self::Files => "the number of open files is near its limit",
        })
    }
}

impl Measured {
    /// A process without problems and without load.
    pub const WELL: Self = Self {
        log: Probe::Answered(Duration::ZERO),
        waiting: Duration::ZERO,
        verifier: Reach::Reached,
        memory: 0,
        files: 0,
        file_limit: 0,
    };

    /// The health in one respect.
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

    /// The health: that of the worst respect.
    #[must_use]
    pub fn health(&self, bounds: &Bounds) -> Health {
        Trouble::ALL.into_iter().map(|trouble| self.of(trouble, bounds)).max().unwrap_or(Health::Good)
    }

    /// Whether traffic should be sent here. It should not while the mode refuses connections, or while nothing becomes
    /// durable.
    #[must_use]
    pub fn is_ready(&self, mode: Mode, bounds: &Bounds) -> bool {
        mode.refuses_connections().is_none() && !self.troubles(bounds).any(Trouble::takes_nothing)
    }

    /// The problems that an operator should know.
    pub fn troubles(&self, bounds: &Bounds) -> impl Iterator<Item = Trouble> {
        let unreachable = self.verifier == Reach::OutOfReach;
        let (measured, bounds) = (*self, *bounds);
        Trouble::ALL.into_iter().filter(move |trouble| {
            measured.of(*trouble, &bounds) != Health::Good || (*trouble == Trouble::Verifier && unreachable)
        })
    }
}
