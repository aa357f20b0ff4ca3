//! Random walks with a disk that fails and a process that crashes. The reference is a set of the answers.

use std::collections::BTreeSet;

use lockstep_model::login::{Answer, Ask, Input, Logins, Now, Output, Reach, Record, Standing};
use proptest::prelude::*;

use super::{LIMITS, id};
use crate::support::{cases, survives_json};

#[derive(Clone, Debug)]
enum Move {
    Input(Input<u8>),
    Written,
    /// A write fails after that many lines.
    Fail(usize),
    /// The process ends after that many lines.
    Crash(usize),
}

fn inputs() -> impl Strategy<Value = Input<u8>> {
    let now = || (0..40_u64, 0..4_u64).prop_map(|(wall, up)| Now { wall, up });
    let (login, subject, ask) = (|| (1..6_u64).prop_map(id), || 1..3_u8, || (0..8_u64).prop_map(Ask));
    let reach = prop_oneof![Just(Reach::This), Just(Reach::Everywhere)];
    prop_oneof![
        6 => (ask(), login(), subject(), 0..2_u64, now())
            .prop_map(|(ask, login, subject, version, now)| Input::LogIn { ask, login, subject, version, now }),
        8 => (ask(), login(), 0..3_u64, now())
            .prop_map(|(ask, login, turn, now)| Input::Refresh { ask, login, turn, now }),
        4 => (ask(), login(), 0..3_u64, reach)
            .prop_map(|(ask, login, turn, reach)| Input::LogOut { ask, login, turn, reach }),
        1 => (ask(), subject(), prop::option::of(login()))
            .prop_map(|(ask, subject, login)| Input::End { ask, subject, login }),
        1 => (ask(), subject(), prop::option::of(login()), now())
            .prop_map(|(ask, subject, credential, now)| Input::Revoke { ask, subject, credential, now }),
        1 => (0..200_000_u64).prop_map(|issued| Input::Seen { issued }),
        2 => prop::collection::btree_map(subject(), 0..2_u64, 0..3).prop_map(Input::Looked),
        1 => ask().prop_map(Input::GiveUp),
        1 => Just(Input::Retry),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        10 => inputs().prop_map(Move::Input),
        6 => Just(Move::Written),
        1 => (0..4_usize).prop_map(Move::Fail),
        1 => (0..4_usize).prop_map(Move::Crash),
    ]
}

/// A gateway, its disk, and its pending requests.
#[derive(Default)]
struct World {
    logins: Logins<u8>,
    disk: Logins<u8>,
    write: Option<(bool, Vec<Record<u8>>)>,
    waiting: Vec<(Ask, Option<u64>)>,
    ended: BTreeSet<u64>,
}

impl World {
    fn hear(&mut self, input: Input<u8>) {
        let mut out = Vec::new();
        let before = self.logins.clone();
        if self.logins.step(&LIMITS, input.clone(), &mut out) == lockstep_model::Handled::Ignored {
            assert_eq!((&self.logins, out.len()), (&before, 0), "{input:?}");
        }
        assert_eq!(self.logins.check(&LIMITS), Ok(()), "{input:?} in {before:?}");
        survives_json(&self.logins);
        for output in out {
            match output {
                Output::Append(lines) => assert!(self.write.replace((false, lines)).is_none(), "two writes"),
                Output::Replace(lines) => assert!(self.write.replace((true, lines)).is_none(), "two writes"),
                Output::Answer(ask, answer) => self.answered(ask, &answer),
                Output::Ended { login, .. } => assert_ne!(self.standing(login.0), Standing::Good),
                Output::Retry => {}
            }
        }
    }

    fn answered(&mut self, ask: Ask, answer: &Answer<u8>) {
        let at = self.waiting.iter().position(|(of, _)| *of == ask).expect("one who waits, once");
        let (_, login) = self.waiting.swap_remove(at);
        match (answer, login) {
            (Answer::Admitted { .. }, login) => {
                let login = login.expect("a login");
                assert_eq!(self.standing(login), Standing::Good);
                assert!(!self.ended.contains(&login), "AUTH-4");
                assert!(self.disk.logins().contains_key(&id(login)), "AUTH-5: not on the disk");
            }
            (Answer::Ended, Some(login)) => drop(self.ended.insert(login)),
            (Answer::Ended | Answer::Refused | Answer::Unavailable, _) => {}
        }
    }

    fn standing(&self, login: u64) -> Standing {
        let subject = self.logins.logins().get(&id(login)).and_then(|state| Some(state.login()?.subject));
        subject.map_or(Standing::Ended, |subject| self.logins.standing(&subject, id(login)))
    }

    fn apply(&mut self, lines: usize) -> bool {
        let Some((replaces, records)) = self.write.take() else { return false };
        if !replaces || lines > 0 {
            let kept = if replaces { usize::MAX } else { lines };
            if replaces {
                self.disk = Logins::new();
            }
            records.into_iter().take(kept).for_each(|record| self.disk.note(record));
        }
        true
    }

    /// AUTH-4: a login that was answered as ended is invalid, here and after a crash.
    fn check_properties(&self) {
        for login in &self.ended {
            assert_ne!(self.standing(*login), Standing::Good);
            assert!(!self.disk.logins().contains_key(&id(*login)), "it comes back after a crash: {login}");
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    /// AUTH-4, LIM-1, and every answer is on disk.
    #[test]
    fn what_was_answered_ended_never_comes_back(moves in prop::collection::vec(moves(), 1..120)) {
        let mut world = World::default();
        let (mut asks, mut names) = (100, BTreeSet::new());
        for next in moves {
            match next {
                Move::Input(mut input) => {
                    // No number and no name is used twice.
                    asks += 1;
                    let login = match &mut input {
                        Input::LogIn { ask, login, .. } => {
                            if !names.insert(login.0) {
                                continue;
                            }
                            *ask = Ask(asks);
                            Some(login.0)
                        }
                        Input::Refresh { ask, login, .. } | Input::LogOut { ask, login, .. } => {
                            *ask = Ask(asks);
                            names.contains(&login.0).then_some(login.0)
                        }
                        Input::End { ask, .. } | Input::Revoke { ask, .. } => {
                            *ask = Ask(asks);
                            None
                        }
                        Input::GiveUp(ask) => {
                            let Some(one) = world.waiting.pop() else { continue };
                            *ask = one.0;
                            world.hear(input);
                            continue;
                        }
                        Input::Seen { .. } | Input::Looked(_) | Input::Written | Input::NotWritten | Input::Retry => {
                            world.hear(input);
                            world.check_properties();
                            continue;
                        }
                    };
                    world.waiting.push((Ask(asks), login));
                    world.hear(input);
                }
                Move::Written => if world.apply(usize::MAX) {
                    world.hear(Input::Written);
                },
                Move::Fail(lines) => if world.apply(lines) {
                    world.hear(Input::NotWritten);
                },
                Move::Crash(lines) => {
                    world.apply(lines);
                    world.waiting.clear();
                    let mut read = Logins::new();
                    world.disk.records().into_iter().for_each(|record| read.note(record));
                    assert_eq!(&read, &world.disk, "the lines say all that counts");
                    // A gateway that starts drops what is too old, or too much, and rewrites the file.
                    read.sweep(&LIMITS);
                    world.disk = Logins::new();
                    read.records().into_iter().for_each(|record| world.disk.note(record));
                    world.logins = read;
                }
            }
            world.check_properties();
        }
    }
}
