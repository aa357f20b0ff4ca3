//! The part of the oracle that judges whether commands that were refused for lack of room are told of room. See
//! [`oracle`](super::oracle).

use lockstep_model::{Run, UserId};

use super::setup::Setup;
use super::state::{Scratch, World};

/// The most room that a command needs: opening a tool needs room for its end too.
const MOST: usize = 2;

impl World {
    /// The number of events for which a user's stream has room, apart from the room reserved for the ends of open runs;
    /// `None` without a stream.
    pub(super) fn room(&self, setup: &Setup, user: UserId) -> Option<usize> {
        let session = &self.gateway.slots().get(&user)?.session;
        let reserve: usize = session.runs().values().map(Run::reserve).sum();
        Some(setup.bounds.pending.saturating_sub(session.stream()?.pending().len() + reserve))
    }

    /// The room of each user whose session may have refused a command for lack of room.
    pub(super) fn scarce_room(&self, setup: &Setup) -> [Option<usize>; 2] {
        [0, 1].map(UserId).map(|user| {
            let room = self.gateway.slots().contains_key(&user).then(|| self.room(setup, user).unwrap_or(0));
            room.filter(|room| *room < MOST)
        })
    }

    /// RUN-3: a command that was refused for lack of room is told in the step in which it may be accepted: the session
    /// has more room than `before`, or has ended.
    pub(super) fn check_told_of_room(&mut self, setup: &Setup, before: [Option<usize>; 2], scratch: &mut Scratch) {
        let told = std::mem::take(&mut scratch.room);
        for (user, before) in before.into_iter().enumerate() {
            let Some(before) = before else { continue };
            let user_id = UserId(user as u64);
            let ended = !self.gateway.slots().contains_key(&user_id);
            let grown = ended || self.room(setup, user_id).unwrap_or(0) > before;
            self.expect(told[user] || !grown, "RUN-3");
        }
    }
}
