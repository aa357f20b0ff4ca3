//! Pieces: joining is associative, sizes add up, and a joined piece is cut where two pieces met (STR-3).

use std::sync::Arc;

use lockstep_model::Piece;
use lockstep_model::piece::{number, pieces, range};
use proptest::prelude::*;

fn laws<P: Piece + PartialEq + std::fmt::Debug>(a: &P, b: &P, c: &P) -> Result<(), TestCaseError> {
    let (ab, bc) = (a.join(b), b.join(c));
    prop_assert_eq!(ab.join(c).size(), a.join(&bc).size());
    prop_assert_eq!(ab.size(), a.size() + b.size());
    prop_assert_eq!(ab.behind(a.size()).size(), b.size());
    Ok(())
}

proptest! {
    #[test]
    fn bytes_are_pieces(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>) {
        let [a, b, c] = [a, b, c].map(Arc::<[u8]>::from);
        laws(&a, &b, &c)?;
        prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
        prop_assert_eq!(a.join(&b).behind(a.size()), b);
    }

    /// A trace's stand-in for content has its size, and differs if the pieces were joined differently.
    #[test]
    fn numbers_are_pieces(a: u32, b: u32, c: u32, sizes: [u16; 3]) {
        let [a, b, c] = [(a, sizes[0]), (b, sizes[1]), (c, sizes[2])].map(|(of, size)| number(of.into(), size.into()));
        laws(&a, &b, &c)?;
        prop_assert_eq!(a.join(&b), a.join(&b));
        prop_assert!(a == b || a.join(&b) != b.join(&a));
    }
}

#[test]
fn tags_are_pieces_of_one_part_in_order() {
    let all = |tag: u8| range(tag).map(|range| (range.start, range.end));
    for flag in [0, 0x80] {
        for (a, b, c, d) in [(0, 1, 2, 7), (2, 3, 4, 5), (0, 3, 4, 6)] {
            let [first, second, third] = [(a, b), (b, c), (c, d)].map(|(from, to)| pieces(from, to) | flag);
            assert_eq!(all(first.join(&second).join(&third)), Some((a, d)));
            assert_eq!(first.join(&second.join(&third)), first.join(&second).join(&third));
            assert_eq!(first.join(&second).behind(first.size()), second);
            assert_eq!(first.join(&second) & 0x80, flag);
            // A missing piece, a repeated one, the wrong order, and another owner's piece are torn, whatever follows.
            for torn in [first.join(&third), first.join(&first), second.join(&first), first.join(&(second ^ 0x80))] {
                assert_eq!((all(torn), all(torn.join(&third)), all(third.join(&torn))), (None, None, None));
            }
            assert_eq!(all(second.behind(second.size())), None, "nothing is left");
        }
    }
    assert_eq!((all(0x11), 0x11_u8.size()), (None, 1));
}
