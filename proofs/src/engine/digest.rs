//! Fingerprints of states and of their parts.
//!
//! `derive(Hash)` calls the hasher once for each small number, and each call of a good hash function is expensive. The
//! numbers are therefore first collected in a buffer, small ones as one byte, and the buffer is hashed in one call.
//! Different sequences of numbers give different buffers, because a number that does not fit into a byte follows a
//! marker.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};

use ahash::RandomState;

/// Returns 64 bits of a value, hashed with these seeds.
pub(crate) fn digest<T: Hash + ?Sized>(seeds: &RandomState, value: &T) -> u64 {
    written(value, |bytes| seeds.hash_one(bytes))
}

/// Returns 128 bits of a value, from two independent hash functions. Among *n* values the probability that any two
/// collide is below n²/2¹²⁹, so these bits can stand for the value.
pub fn digest_wide<T: Hash + ?Sized>(value: &T) -> Wide {
    const SEEDS: [RandomState; 2] = [
        RandomState::with_seeds(
            0x8536_5a1b_4cd4_73b9,
            0x71b7_20bd_0c6a_f4e5,
            0xc2b2_ae3d_27d4_eb4f,
            0x1656_67b1_9e37_79f9,
        ),
        RandomState::with_seeds(
            0x27d4_eb2f_1656_67c5,
            0x5851_f42d_4c95_7f2d,
            0x1405_7b7e_f767_814f,
            0xda94_2042_e4dd_58b5,
        ),
    ];
    written(value, |bytes| Wide(SEEDS.map(|seeds| seeds.hash_one(bytes))))
}

/// 128 bits that stand for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wide(pub(crate) [u64; 2]);

impl Hash for Wide {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u128(u128::from(self.0[0]) << 64 | u128::from(self.0[1]));
    }
}

/// Passes the bytes that a value feeds to its hasher to `read`.
pub fn written<T: Hash + ?Sized, R>(value: &T, read: impl FnOnce(&[u8]) -> R) -> R {
    thread_local! {
        static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    // A part may be digested while its whole is being encoded. It then finds no buffer, and allocates one.
    let mut encoder = Encoder(BYTES.take());
    encoder.0.clear();
    value.hash(&mut encoder);
    let answer = read(&encoder.0);
    BYTES.set(encoder.0);
    answer
}

struct Encoder(Vec<u8>);

/// Precedes a number that does not fit into a byte.
const MARK: u8 = u8::MAX;

impl Encoder {
    #[inline]
    fn number(&mut self, number: u64) {
        match u8::try_from(number) {
            Ok(small) if small != MARK => self.0.push(small),
            Ok(_) | Err(_) => {
                self.0.push(MARK);
                self.0.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
}

impl Hasher for Encoder {
    fn finish(&self) -> u64 {
        unreachable!("the buffer is read, and never finished")
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.0.push(number);
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.number(number.into());
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.number(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.number(number);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.number(number as u64);
    }

    #[inline]
    fn write_isize(&mut self, number: isize) {
        // The discriminant of an enum. It is never negative, and if it were, a large number would do as well.
        self.number(number as u64);
    }
}
