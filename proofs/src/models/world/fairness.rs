//! The weak-fairness classes of a world's actions, on which the LIVE promises rest.

use lockstep_model::gateway::Place;
use lockstep_model::{ConnectionId, Timer, UserId};

use super::action::{Action, AgentStep};
use super::setup::Setup;

impl Action {
    /// The network, the verifier, the timers, the log and a live agent are served if they can be served forever.
    /// Actions of users, operators and faults may never happen.
    pub fn fairness(&self, setup: &Setup) -> Option<u8> {
        // A client's sockets are numbered from one, and no setup has more than four at once.
        let connection = |id: &ConnectionId| u8::try_from((id.0 / 16 * 3 + id.0 % 16) % 8).unwrap_or(0);
        let user = |user: &UserId| u8::try_from(user.0 % 2).unwrap_or(0);
        match self {
            Self::Up(id) | Self::Down(id) => Some(connection(id)),
            Self::Pull(id) => Some(8 + connection(id)),
            Self::ServerNotices(id) => Some(16 + connection(id)),
            Self::ClientNotices(id) => Some(24 + connection(id)),
            Self::Expire(Place::Connection(_), Timer::Lookup) => None,
            Self::Expire(Place::Connection(id), _) => Some(32 + connection(id)),
            Self::Verify(..) => Some(40),
            Self::Open(peer) | Self::Backoff(peer) => Some(41 + peer % 4),
            Self::Token(peer) => Some(45 + peer % 4),
            Self::Persist(_) | Self::Restore(..) | Self::Confirm(_) if setup.mute => None,
            Self::Persist(user) => Some(49 + user % 2),
            Self::Restore(user, _) | Self::Confirm(user) => Some(51 + user % 2),
            Self::Expire(Place::Session(of, _), Timer::Retry | Timer::Restore | Timer::LogAnswer) => {
                Some(53 + user(of))
            }
            Self::Find { user, few: false, outdated: false, .. } => Some(62 + user % 2),
            Self::Expire(Place::Session(of, _), _) => Some(55 + user(of)),
            Self::Expire(Place::Node, _) => Some(57),
            Self::Agent(
                run,
                AgentStep::Start
                | AgentStep::Think
                | AgentStep::Say
                | AgentStep::OpenTool
                | AgentStep::CloseTool
                | AgentStep::Pause
                | AgentStep::Complete,
            )
            | Self::Expire(Place::Run(_, _, run), _) => Some(58 + u8::try_from(run.0 / 8 % 4).unwrap_or(0)),
            Self::Agent(_, AgentStep::Fail | AgentStep::Vanish | AgentStep::Hang)
            | Self::Cut(_)
            | Self::Send(_)
            | Self::Cancel(..)
            | Self::Reply(..)
            | Self::Garbage(_)
            | Self::Eager(..)
            | Self::Refuse(..)
            | Self::FailRestore(_)
            | Self::Query(_)
            | Self::Find { .. }
            | Self::NotFound { .. }
            | Self::Late(_)
            | Self::Fence(_)
            | Self::Breach(_)
            | Self::Crash(_)
            | Self::Revoke
            | Self::Notice
            | Self::Delete(..)
            | Self::Pin(_)
            | Self::Drain(_)
            | Self::Abort => None,
        }
    }
}
