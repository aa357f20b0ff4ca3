use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::login::{Holder, Holders, NotChanged, Roster};
use proptest::prelude::*;

use crate::support::cases;

proptest! {
    #![proptest_config(cases())]

    /// An account is distinguished from every earlier one with its name, whatever the passwords and the clock.
    #[test]
    fn no_two_passwords_are_taken_for_the_same(moves in prop::collection::vec((0..4_u8, 0..2_u8, 0..3_u64), 1..60)) {
        let (mut roster, mut seen) = (Roster::<u8, ()>::default(), BTreeSet::new());
        let (mut there, mut gone) = (BTreeMap::<u8, Holder<u8>>::new(), BTreeSet::<Holder<u8>>::new());
        for (what, name, at) in moves {
            let has = there.contains_key(&name);
            let changed = match what {
                0 => {
                    let added = roster.add(name, (), at);
                    assert_eq!(added, if has { Err(NotChanged::Exists) } else { Ok(()) });
                    added.is_ok()
                }
                1 => {
                    let changed = roster.change(&name, (), at);
                    assert_eq!(changed, if has { Ok(()) } else { Err(NotChanged::Unknown) });
                    changed.is_ok()
                }
                2 => {
                    let removed = roster.remove(&name);
                    assert_eq!(removed, if has { Ok(()) } else { Err(NotChanged::Unknown) });
                    gone.extend(there.remove(&name));
                    false
                }
                _ => {
                    if let Some(person) = gone.pop_first() {
                        roster.erased(&person);
                    }
                    false
                }
            };
            if changed {
                let now = roster.versions().find(|(person, _)| person.name == name).expect("there");
                there.insert(name, now.0.clone());
                assert!(seen.insert(now), "two persons, or two passwords, look the same");
            }
            let erasures: BTreeSet<Holder<u8>> = roster.erasures().clone();
            assert_eq!(&erasures, &gone, "everyone who is gone, until everything is erased");
            assert!(there.values().all(|person| !gone.contains(person)));
            for name in 0..2 {
                let earlier = gone.iter().rev().filter(|person| person.name == name).cloned().collect();
                assert_eq!(roster.holders(&name), Holders { now: there.get(&name).cloned(), earlier });
            }
        }
    }
}
