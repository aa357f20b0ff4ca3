//! Durations in a configuration: a number in the field's own unit, or a text with a unit, such as `"45s"`.

use core::fmt;

use serde::Deserializer;
use serde::de::{self, Unexpected, Visitor};

/// The units of a text, with their milliseconds. A unit that ends with another one's name comes first.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a field in milliseconds.
pub(super) fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Duration { unit: 1, name: "milliseconds" })
}

/// Reads a field in seconds.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Duration { unit: 1_000, name: "seconds" })
}

/// Reads a field in days.
pub(super) fn days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Duration { unit: 86_400_000, name: "days" })
}

/// A duration in a field's unit.
struct Duration {
    /// The unit's milliseconds.
    unit: u64,
    name: &'static str,
}

impl Visitor<'_> for Duration {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whole {}, as a number or as a text such as \"45s\" (ms, s, m, h or d)", self.name)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        let milliseconds = UNITS.iter().find_map(|(unit, milliseconds)| {
            let number: u64 = text.trim().strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(*milliseconds)
        });
        milliseconds
            .filter(|milliseconds| milliseconds.is_multiple_of(self.unit))
            .map(|milliseconds| milliseconds / self.unit)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}
