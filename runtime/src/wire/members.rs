//! The members of a JSON object that a peer sent: which are there, and of what kind.

use core::fmt;
use std::collections::BTreeMap;

use lockstep_model::{Code, Epoch, Offset, Position};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Hex;

/// How deep a client's frame may nest: the frame itself is the first level.
pub const MAX_DEPTH: usize = 32;

/// How many members an object of the protocol may have. The payload's objects are not the protocol's.
pub const MAX_MEMBERS: usize = 64;

/// The greatest integer that is exact in every JSON implementation (RFC 7493 §2.2).
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// An object, each member as it was written. There may be a credential in it, so it does not show itself.
pub(super) struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    /// The object that a frame is.
    pub(super) fn parse(text: &'a str) -> Result<Self, Code> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let sound = Level(MAX_DEPTH).deserialize(&mut deserializer).and_then(|()| deserializer.end());
        sound.and_then(|()| Self::take_apart(text)).map_err(|_| Code::Malformed)
    }

    fn take_apart(text: &'a str) -> serde_json::Result<Self> {
        serde_json::Deserializer::from_str(text).deserialize_map(MembersVisitor)
    }

    /// A member that must be there, of whatever kind.
    pub(super) fn any(&self, name: &str) -> Result<&'a RawValue, Code> {
        self.0.get(name).copied().ok_or(Code::InvalidField)
    }

    /// A member that may be left out.
    fn optional<T>(&self, name: &str, read: impl FnOnce(&'a RawValue) -> Result<T, Code>) -> Result<Option<T>, Code> {
        match self.0.get(name) {
            Some(raw) if raw.get() != "null" => read(raw).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// A string that must be there.
    pub(super) fn string(&self, name: &str) -> Result<String, Code> {
        string(self.any(name)?)
    }

    /// A string that is not empty.
    pub(super) fn text(&self, name: &str) -> Result<String, Code> {
        self.string(name).and_then(|text| if text.is_empty() { Err(Code::InvalidField) } else { Ok(text) })
    }

    /// A string that may be left out.
    pub(super) fn optional_string(&self, name: &str) -> Result<Option<String>, Code> {
        self.optional(name, string)
    }

    /// An id.
    pub(super) fn id(&self, name: &str) -> Result<Hex, Code> {
        id(self.any(name)?)
    }

    /// An id that may be left out.
    pub(super) fn optional_id(&self, name: &str) -> Result<Option<Hex>, Code> {
        self.optional(name, id)
    }

    /// An integer that may be left out.
    pub(super) fn optional_integer(&self, name: &str) -> Result<Option<u64>, Code> {
        self.optional(name, integer)
    }

    /// `false` if it is left out.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Code> {
        let flag = self.optional(name, |raw| serde_json::from_str(raw.get()).map_err(|_| Code::InvalidField))?;
        Ok(flag.unwrap_or(false))
    }

    /// An object that must be there.
    pub(super) fn object(&self, name: &str) -> Result<Self, Code> {
        object(self.any(name)?)
    }

    /// Something that may be left out and is either a word or an object.
    pub(super) fn word_or_object(&self, name: &str) -> Result<Option<WordOrObject<'a>>, Code> {
        self.optional(name, |raw| {
            if raw.get().starts_with('"') {
                string(raw).map(WordOrObject::Word)
            } else {
                object(raw).map(WordOrObject::Object)
            }
        })
    }

    /// `epoch` and `offset`.
    pub(super) fn position(&self) -> Result<Position, Code> {
        let (epoch, offset) = (integer(self.any("epoch")?)?, integer(self.any("offset")?)?);
        Ok(Position { epoch: Epoch(epoch), offset: Offset(offset) })
    }
}

/// What `resume` may be.
pub(super) enum WordOrObject<'a> {
    Word(String),
    Object(Members<'a>),
}

fn string(raw: &RawValue) -> Result<String, Code> {
    serde_json::from_str(raw.get()).map_err(|_| Code::InvalidField)
}

fn id(raw: &RawValue) -> Result<Hex, Code> {
    string(raw)?.parse().map_err(|_| Code::InvalidField)
}

fn object(raw: &RawValue) -> Result<Members<'_>, Code> {
    if raw.get().starts_with('{') {
        Members::take_apart(raw.get()).map_err(|_| Code::Malformed)
    } else {
        Err(Code::InvalidField)
    }
}

/// An integer, also one that is written `1.0` or `1e3`: to JSON Schema, and to JavaScript, they are the same.
fn integer(raw: &RawValue) -> Result<u64, Code> {
    let whole = |number: &f64| number.fract() == 0.0 && (0.0..=MAX_INTEGER as f64).contains(number);
    let written = serde_json::from_str::<u64>(raw.get()).ok();
    let integer = written.or_else(|| serde_json::from_str(raw.get()).ok().filter(whole).map(|number| number as u64));
    integer.filter(|integer| *integer <= MAX_INTEGER).ok_or(Code::InvalidField)
}

/// `message_id` of a frame that is refused, as far as the frame can be read. `None` if it is no string, or is there twice.
pub(super) fn message_id(frame: &str) -> Option<String> {
    let mut found = None;
    // An error further on takes nothing away from what was read before it.
    let _ = serde_json::Deserializer::from_str(frame).deserialize_map(MessageIdVisitor(&mut found));
    found
}

struct MessageIdVisitor<'a>(&'a mut Option<String>);

impl<'de> Visitor<'de> for MessageIdVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value::<&'de RawValue>()?;
            if name == "message_id" {
                *self.0 = string(value).ok().filter(|_| !seen);
                seen = true;
            }
        }
        Ok(())
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            if members.len() == MAX_MEMBERS || members.insert(name, value).is_some() {
                return Err(A::Error::custom("too many members, or one of them twice"));
            }
        }
        Ok(Members(members))
    }
}

/// Goes through a value and keeps nothing of it. What it lets pass, every reader of JSON can read: it is not too deep,
/// each number can be held by a double, each escape stands for a character, and no name is one of [`PRIVATE`]. A raw
/// value alone would not see to that.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn inner<E: Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while map.next_key_seed(Name)?.is_some() {
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// How names begin by which `serde_json` hands itself values in disguise. To its `Value`, and so to most agents, an object
/// with such a name is another value than to the rest of the world.
const PRIVATE: &str = "$serde_json::private::";

/// The name of a member.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        if name.starts_with(PRIVATE) { Err(E::custom("a name in disguise")) } else { Ok(()) }
    }
}
