//! The fence: what a session remembers of revocations.

use lockstep_model::{
    Bounds, ConnectionId, CredentialId, Fence, Grant, RevocationGeneration, Scope, UserId, Verifications,
};
use proptest::prelude::*;

use crate::support::{SMALL, cases, grant, survives_json};

const fn one(credential: u64) -> Scope {
    Scope::One(CredentialId(credential), RevocationGeneration(5))
}

const fn all(oldest: u32) -> Scope {
    Scope::All(RevocationGeneration(oldest))
}

#[test]
fn a_scope_covers_older_generations_or_the_one_credential() {
    assert!(all(3).covers(grant(1, 1, 2)));
    assert!(!all(3).covers(grant(1, 1, 3)));
    assert!(!all(3).covers(grant(1, 1, 4)));
    assert!(one(5).covers(grant(1, 5, 9)));
    assert!(!one(5).covers(grant(1, 4, 0)));
    assert!(!one(5).covers(grant(1, 6, 0)));
}

#[test]
fn a_lowered_fence_admits_every_credential() {
    let fence = Fence::default();
    assert!(!fence.is_up() && fence.is_empty());
    assert!(fence.admits(grant(1, 1, 0)));
}

/// AUTH-3: a verification that began before the revocation does not pass, one that began after it does.
#[test]
fn revoking_all_keeps_out_what_is_older_and_never_lets_in_again() {
    let mut fence = Fence::default();
    fence.raise(&SMALL, all(2));
    assert!(fence.is_up() && fence.is_empty());
    assert_eq!([1, 2, 3].map(|age| fence.admits(grant(1, 1, age))), [false, true, true]);
    fence.raise(&SMALL, all(1));
    assert!(!fence.admits(grant(1, 1, 1)), "an older revocation takes nothing back");
    fence.raise(&SMALL, all(4));
    assert_eq!([3, 4].map(|age| fence.admits(grant(1, 1, age))), [false, true]);
}

#[test]
fn single_credentials_are_remembered_up_to_the_bound_and_one_more_keeps_out_all_that_is_older() {
    let mut fence = Fence::default();
    fence.raise(&SMALL, one(1));
    assert!(fence.is_up() && !fence.is_empty() && fence.len() == 1);
    fence.raise(&SMALL, one(2));
    assert_eq!(fence.len(), SMALL.revoked);
    assert_eq!([1, 2, 3].map(|id| fence.admits(grant(1, id, 0))), [false, false, true]);
    fence.raise(&SMALL, one(2));
    assert_eq!([1, 2, 3].map(|id| fence.admits(grant(1, id, 0))), [false, false, true], "it is no third one");

    fence.raise(&SMALL, one(3));
    assert_eq!(fence.len(), SMALL.revoked, "LIM-1");
    assert_eq!([1, 2, 3, 4].map(|id| fence.admits(grant(1, id, 4))), [false; 4]);
    assert_eq!(
        [1, 2, 3, 4].map(|id| fence.admits(grant(1, id, 5))),
        [false, false, true, true],
        "they are verified again"
    );

    assert!(!fence.lower(RevocationGeneration(4)), "AUTH-3: a verdict is awaited that began before");
    assert!(fence.is_up() && fence.lower(RevocationGeneration(5)));
    assert_eq!(fence, Fence::default());
    assert!(!fence.lower(RevocationGeneration(9)), "it is down");
    assert!(fence.admits(grant(1, 1, 0)));
}

/// AUTH-3: a fence is lowered when the last verification that began before it ends; later ones do not keep it up.
#[test]
fn a_fence_stands_as_long_as_an_older_verdict_is_awaited() {
    let mut verifications = Verifications::new();
    let [ada, bob] = [1, 2].map(UserId);
    let connection = [1, 2, 3].map(ConnectionId);
    assert_eq!(verifications.begin(connection[0]), RevocationGeneration(0));
    assert_eq!(verifications.begin(connection[1]), RevocationGeneration(0));
    let revoked = verifications.revoke();
    assert_eq!(verifications.fence(ada, revoked), None);
    assert_eq!(verifications.begin(connection[2]), revoked);
    assert_eq!(verifications.end(connection[0]), []);
    assert!(!verifications.awaits(connection[0]) && verifications.awaits(connection[1]));
    assert_eq!(verifications.end(connection[2]), []);
    assert_eq!(verifications.oldest(), RevocationGeneration(0));
    assert_eq!(verifications.end(connection[1]), [(ada, revoked)]);
    assert_eq!(verifications.end(connection[1]), [], "once");

    let again = verifications.revoke();
    assert_eq!(verifications.fence(bob, again), Some(again), "no verdict is awaited");
    verifications.begin(connection[0]);
    let last = verifications.revoke();
    assert_eq!(verifications.fence(bob, last), None);
    // The verdict on a connection's older credential is stale.
    verifications.begin(connection[0]);
    assert_eq!(verifications.oldest(), last);
    assert_eq!(verifications.end(connection[0]), [(bob, last)]);
}

fn grants() -> impl Strategy<Value = Grant> {
    (0..12u64, 0..5u32).prop_map(|(credential, age)| grant(1, credential, age))
}

proptest! {
    #![proptest_config(cases())]

    /// AUTH-1: the reference is the list of revocations since the fence was last lowered.
    #[test]
    fn it_admits_what_no_revocation_since_it_was_lowered_covers(
        moves in prop::collection::vec(prop_oneof![
            6 => (0..5u32).prop_map(|oldest| Some(all(oldest))),
            6 => Just(Some(one(0))),
            1 => Just(None),
        ], 0..60),
        revoked in 0..8usize,
        asked in prop::collection::vec(grants(), 8),
    ) {
        let bounds = Bounds { revoked, ..SMALL };
        let (mut fence, mut since, mut next) = (Fence::default(), Vec::new(), 0);
        for what in moves {
            match what {
                None => {
                    fence.lower(RevocationGeneration(9));
                    since.clear();
                }
                Some(scope) => {
                    let scope = match scope {
                        Scope::All(_) => scope,
                        Scope::One(..) => {
                            next += 1;
                            one(next % 12)
                        }
                    };
                    if since.contains(&scope) {
                        continue;
                    }
                    fence.raise(&bounds, scope);
                    since.push(scope);
                }
            }
            let singles = since.iter().filter(|scope| matches!(scope, Scope::One(..))).count();
            for grant in &asked {
                let covered = since.iter().any(|scope| scope.covers(*grant));
                let sealed = singles > revoked && grant.generation < RevocationGeneration(5);
                // One revocation too many is remembered as a revocation of everything older.
                prop_assert!(!fence.admits(*grant) || !covered || singles > revoked, "{:?} against {:?}", grant, since);
                prop_assert!(fence.admits(*grant) || covered || sealed, "{:?} against {:?}", grant, since);
                prop_assert!(!fence.admits(*grant) || !sealed, "{:?} against {:?}", grant, since);
            }
            prop_assert_eq!(fence.is_up(), !since.is_empty());
            prop_assert_eq!(fence.len(), singles.min(revoked));
            prop_assert_eq!(fence.is_empty(), singles.min(revoked) == 0);
            survives_json(&fence);
        }
    }
}
