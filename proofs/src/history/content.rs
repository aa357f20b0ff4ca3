//! Digests of JSON values: equal for equivalent values, however they are written. Needs no allocation per value.

use core::fmt;
use core::hash::Hash;

use ahash::RandomState;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Above this bound not every integer is a float, so a float does not determine an integer.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Returns the digest of a value. Objects are equal in any order of their members; if a name is repeated, the last one
/// counts. Numbers are compared by value. Text that serde_json does not accept, such as a number that no float can
/// represent, is digested as written.
pub fn digest(value: &RawValue, hasher: &RandomState, members: &mut Vec<(u64, u64)>) -> u64 {
    members.clear();
    let mut deserializer = serde_json::Deserializer::from_str(value.get());
    let digest = Digest { hasher, members }.deserialize(&mut deserializer);
    digest.unwrap_or_else(|_| hasher.hash_one(value.get()))
}

/// `members` is a stack of digests of names and values in the open objects.
struct Digest<'a> {
    hasher: &'a RandomState,
    members: &'a mut Vec<(u64, u64)>,
}

/// Domain separation: the kind of a digested value.
#[derive(Hash)]
enum Of<T> {
    Null,
    Bool(bool),
    Integer(i128),
    Float(u64),
    Text(T),
    Array(u64, u64),
    Object(u64, u64),
}

impl Digest<'_> {
    fn of(&self, content: impl Hash) -> u64 {
        self.hasher.hash_one(content)
    }
}

impl<'de> DeserializeSeed<'de> for Digest<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Digest<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(self.of(Of::<()>::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<u64, E> {
        Ok(self.of(Of::<()>::Bool(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<u64, E> {
        Ok(self.of(Of::<()>::Integer(value.into())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<u64, E> {
        Ok(self.of(Of::<()>::Integer(value.into())))
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is an integer, and below the bound")]
    fn visit_f64<E>(self, value: f64) -> Result<u64, E> {
        let integer = value.fract() == 0.0 && value.abs() < MAX_EXACT;
        Ok(self.of(if integer { Of::<()>::Integer(value as i128) } else { Of::Float(value.to_bits()) }))
    }

    fn visit_str<E>(self, value: &str) -> Result<u64, E> {
        Ok(self.of(Of::Text(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<u64, A::Error> {
        let (mut length, mut sum) = (0, 0);
        while let Some(element) =
            array.next_element_seed(Digest { hasher: self.hasher, members: &mut *self.members })?
        {
            length += 1;
            sum = self.of((sum, element));
        }
        Ok(self.of(Of::<()>::Array(length, sum)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<u64, A::Error> {
        let base = self.members.len();
        while let Some(name) = object.next_key_seed(Digest { hasher: self.hasher, members: &mut *self.members })? {
            let value = object.next_value_seed(Digest { hasher: self.hasher, members: &mut *self.members })?;
            self.members.push((name, value));
        }
        // The sort is stable: of a repeated name the last stays last.
        self.members[base..].sort_by_key(|(name, _)| *name);
        let (mut length, mut sum) = (0, 0);
        for (index, member) in self.members[base..].iter().enumerate() {
            if self.members.get(base + index + 1).is_none_or(|next| next.0 != member.0) {
                length += 1;
                sum = self.of((sum, member));
            }
        }
        self.members.truncate(base);
        Ok(self.of(Of::<()>::Object(length, sum)))
    }
}
