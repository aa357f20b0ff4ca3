//! Connection and run ids as text.

use core::fmt;
use core::str::FromStr;

use lockstep_model::{ConnectionId, RunId};
use serde::{Serialize, Serializer};

/// The text form of a 64-bit random id: 16 lower-case hexadecimal digits, and nothing else.
///
/// ```
/// use lockstep::wire::Hex;
/// use lockstep_model::RunId;
///
/// assert_eq!(Hex::from(RunId(0xC0FFEE)).to_string(), "0000000000c0ffee");
/// assert_eq!("0000000000c0ffee".parse(), Ok(Hex(0xC0FFEE)));
/// assert!("C0FFEE".parse::<Hex>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex(pub u64);

/// Wraps the 64 bits of an id for display.
#[must_use]
pub const fn hex(id: u64) -> Hex {
    Hex(id)
}

/// The text is not an id: it must be 16 of `0`–`9` and `a`–`f`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHex;

impl fmt::Display for NotHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 16 lower-case hexadecimal digits")
    }
}

impl core::error::Error for NotHex {}

impl Hex {
    pub(crate) const fn digits(self) -> [u8; 16] {
        let (mut digits, mut rest) = ([0; 16], self.0);
        let mut place = digits.len();
        while place > 0 {
            place -= 1;
            digits[place] = b"0123456789abcdef"[(rest % 16) as usize];
            rest /= 16;
        }
        digits
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(core::str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Hex {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        // `from_str_radix` would accept a sign and capitals, giving one id several spellings.
        let digits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits { u64::from_str_radix(text, 16).map(Self).map_err(|_| NotHex) } else { Err(NotHex) }
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(core::str::from_utf8(&self.digits()).map_err(serde::ser::Error::custom)?)
    }
}

impl From<ConnectionId> for Hex {
    fn from(id: ConnectionId) -> Self {
        Self(id.0)
    }
}

impl From<RunId> for Hex {
    fn from(id: RunId) -> Self {
        Self(id.0)
    }
}

impl From<Hex> for ConnectionId {
    fn from(Hex(id): Hex) -> Self {
        Self(id)
    }
}

impl From<Hex> for RunId {
    fn from(Hex(id): Hex) -> Self {
        Self(id)
    }
}
