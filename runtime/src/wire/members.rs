//! The members of a JSON object that a peer sent: which are present, and of what kind.

use core::fmt;
use std::collections::BTreeMap;

use lockstep_model::{Code, Epoch, Offset, Position};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Hex;

/// The greatest nesting depth of a client's frame: the frame itself is the first level.
pub const MAX_DEPTH: usize = 32;

/// The most members of a protocol object. Objects inside the payload are not protocol objects.
pub const MAX_MEMBERS: usize = 64;

/// The greatest integer that every JSON implementation represents exactly (RFC 7493 §2.2).
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// A parsed object whose members are kept as written. It may contain a credential, so it does not implement `Debug`.
pub(super) struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    /// Parses and validates a frame's object.
    pub(super) fn parse(text: &'a str) -> Result<Self, Code> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let sound = Level(MAX_DEPTH).deserialize(&mut deserializer).and_then(|()| deserializer.end());
        sound.and_then(|()| Self::take_apart(text)).map_err(|_| Code::Malformed)
    }

    fn take_apart(text: &'a str) -> serde_json::Result<Self> {
        serde_json::Deserializer::from_str(text).deserialize_map(MembersVisitor)
    }

    /// A required member of any kind.
    pub(super) fn any(&self, name: &str) -> Result<&'a RawValue, Code> {
        self.0.get(name).copied().ok_or(Code::InvalidField)
    }

    /// An optional member.
    fn optional<T>(&self, name: &str, read: impl FnOnce(&'a RawValue) -> Result<T, Code>) -> Result<Option<T>, Code> {
        self.optional_any(name).map(read).transpose()
    }

    /// A required string.
    pub(super) fn string(&self, name: &str) -> Result<String, Code> {
        string(self.any(name)?)
    }

    /// A required string that is not empty.
    pub(super) fn text(&self, name: &str) -> Result<String, Code> {
        self.string(name).and_then(|text| if text.is_empty() { Err(Code::InvalidField) } else { Ok(text) })
    }

    /// An optional string.
    pub(super) fn optional_string(&self, name: &str) -> Result<Option<String>, Code> {
        self.optional(name, string)
    }

    /// A required id.
    pub(super) fn id(&self, name: &str) -> Result<Hex, Code> {
        id(self.any(name)?)
    }

    /// An optional id.
    pub(super) fn optional_id(&self, name: &str) -> Result<Option<Hex>, Code> {
        self.optional(name, id)
    }

    /// An optional integer.
    pub(super) fn optional_integer(&self, name: &str) -> Result<Option<u64>, Code> {
        self.optional(name, integer)
    }

    /// An optional flag; `false` if absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Code> {
        let flag = self.optional(name, |raw| serde_json::from_str(raw.get()).map_err(|_| Code::InvalidField))?;
        Ok(flag.unwrap_or(false))
    }

    /// An optional member of any kind.
    pub(super) fn optional_any(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|raw| raw.get() != "null")
    }

    /// Whether a member is present, and not `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.optional_any(name).is_some()
    }

    /// An optional object.
    pub(super) fn optional_object(&self, name: &str) -> Result<Option<Self>, Code> {
        self.optional(name, object)
    }

    /// An optional member that is either a word or an object.
    pub(super) fn word_or_object(&self, name: &str) -> Result<Option<WordOrObject<'a>>, Code> {
        self.optional(name, |raw| {
            if raw.get().starts_with('"') {
                string(raw).map(WordOrObject::Word)
            } else {
                object(raw).map(WordOrObject::Object)
            }
        })
    }

    /// Reads `epoch` and `offset`.
    pub(super) fn position(&self) -> Result<Position, Code> {
        let (epoch, offset) = (integer(self.any("epoch")?)?, integer(self.any("offset")?)?);
        Ok(Position { epoch: Epoch(epoch), offset: Offset(offset) })
    }
}

/// The two forms of `resume`.
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

/// Parses an integer, including one written as `1.0` or `1e3`: JSON Schema and JavaScript treat them as the same.
fn integer(raw: &RawValue) -> Result<u64, Code> {
    let whole = |number: &f64| number.fract() == 0.0 && (0.0..=MAX_INTEGER as f64).contains(number);
    let written = serde_json::from_str::<u64>(raw.get()).ok();
    let integer = written.or_else(|| serde_json::from_str(raw.get()).ok().filter(whole).map(|number| number as u64));
    integer.filter(|integer| *integer <= MAX_INTEGER).ok_or(Code::InvalidField)
}

/// The `message_id` of a refused frame, as far as it can be read. `None` if it is not a string, or appears twice.
pub(super) fn message_id(frame: &str) -> Option<String> {
    let mut found = None;
    // An error later in the frame does not invalidate what was read before it.
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
                return Err(A::Error::custom("too many members, or a member given twice"));
            }
        }
        Ok(Members(members))
    }
}

/// Validates a value without keeping it. Every JSON reader can read a value that passes: it is not too deep, a
/// double can hold each number, each escape stands for a character, and no name starts with [`PRIVATE`]. Parsing a raw
/// value alone does not check this.
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

/// The prefix of the names with which `serde_json` passes special values to itself. Its `Value`, and so most agents,
/// would read an object with such a name differently from every other JSON reader.
const PRIVATE: &str = "$serde_json::private::";

/// Validates the name of a member.
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
        if name.starts_with(PRIVATE) { Err(E::custom("a reserved name")) } else { Ok(()) }
    }
}
