//! ISO-1 and LIM-1 of attempts to log in, from wrong passwords and their times, without buckets.
//!
//! An attempt is refused only for what its own network or its own account has done (ISO-1). In no time does a key have
//! more wrong passwords than its rate allows (LIM-1). While more keys are in use than are kept, the second law is not
//! claimed for that kind of key.

use lockstep_model::login::attempts::{Rate, Tries};

/// An attempt that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt {
    pub(crate) network: u8,
    pub(crate) account: u8,
    pub(crate) wrong: bool,
}

/// What was observed of attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Observed {
    pub(crate) now: u64,
    /// Attempts in progress, sorted, each with the network and the account that it is counted for.
    pub(crate) open: Vec<(Attempt, (u8, u8))>,
    /// The wrong passwords so far, with their times, sorted by time.
    pub(crate) wrong: Vec<(u64, Attempt)>,
    /// Whether more networks, or accounts, have been in use than are kept.
    pub(crate) crowded: [bool; 2],
}

/// The two kinds of key.
const KINDS: [fn(&Attempt) -> u8; 2] = [|attempt| attempt.network, |attempt| attempt.account];

/// The burst of a rate, and the milliseconds after which one more is allowed.
fn parts(rate: Rate) -> (u64, u64) {
    (u64::from(rate.burst), u64::try_from(rate.refill.as_millis()).unwrap_or(u64::MAX))
}

const fn rates(tries: &Tries) -> [Rate; 2] {
    [tries.per_network, tries.per_account]
}

impl Observed {
    /// The wrong passwords of a key within a time, and its attempts in progress.
    pub(crate) fn used(&self, kind: usize, key: u8, span: u64) -> u64 {
        let is = |attempt: &Attempt| KINDS[kind](attempt) == key;
        let recent = self.wrong.iter().filter(|(at, attempt)| is(attempt) && at + span > self.now);
        (recent.count() + self.open.iter().filter(|(attempt, _)| is(attempt)).count()) as u64
    }

    /// Whether the attempt's network, and its account, have nothing left. An attempt is refused only if one has not.
    pub(crate) fn full(&self, tries: &Tries, attempt: &Attempt) -> [bool; 2] {
        [0, 1].map(|kind| {
            let (burst, refill) = parts(rates(tries)[kind]);
            self.used(kind, KINDS[kind](attempt), burst * refill) >= burst
        })
    }

    /// An attempt is admitted, and counted for these keys.
    pub(crate) fn begins(&mut self, attempt: Attempt, counted: (u8, u8)) {
        self.open.push((attempt, counted));
        self.open.sort_unstable();
    }

    /// Notes whether more keys are in use at once than are kept.
    pub(crate) fn note_crowds(&mut self, tries: &Tries) {
        for kind in 0..2 {
            let (burst, refill) = parts(rates(tries)[kind]);
            let used = (0..8).filter(|key| self.used(kind, *key, burst * refill) > 0).count();
            self.crowded[kind] |= used > tries.keys;
        }
    }

    /// An attempt ends. Returns it, with the keys that it is counted for.
    pub(crate) fn ends(&mut self, index: usize) -> (Attempt, (u8, u8)) {
        let ended = self.open.remove(index);
        if ended.0.wrong {
            self.wrong.push((self.now, ended.0));
            self.wrong.sort_unstable();
        }
        ended
    }

    /// Whether the attempt's keys have, in every time, at most a burst of wrong passwords and one more per refill.
    pub(crate) fn is_within(&self, tries: &Tries, attempt: &Attempt) -> bool {
        (0..2).all(|kind| {
            let (burst, refill) = parts(rates(tries)[kind]);
            let same = |wrong: &&(u64, Attempt)| KINDS[kind](&wrong.1) == KINDS[kind](attempt);
            let times: Vec<u64> = self.wrong.iter().filter(same).map(|(at, _)| *at).collect();
            let allowed = |from: &u64, to: &u64, count: u64| count <= burst + (to - from) / refill;
            let mut firsts = times.iter().enumerate();
            self.crowded[kind]
                || firsts
                    .all(|(first, from)| times[first..].iter().zip(1..).all(|(to, count)| allowed(from, to, count)))
        })
    }
}
