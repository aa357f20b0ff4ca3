//! The ids of server-sent events: places in a user's stream.

use core::fmt;
use core::str::FromStr;

/// The place behind an event, as its `id`: `epoch:offset`, or `epoch:offset.n` behind the `n`th of the events that the
/// entry after that offset became.
///
/// ```
/// use lockstep::agui::Place;
///
/// let place: Place = "1795348729814:44.1".parse().unwrap();
/// assert_eq!((place.epoch, place.offset, place.within), (1_795_348_729_814, 44, 1));
/// assert_eq!(place.to_string(), "1795348729814:44.1");
/// assert!("44".parse::<Place>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The epoch of the user's stream.
    pub epoch: u64,
    /// The last entry that was sent whole.
    pub offset: u64,
    /// How many events of the entry after it were sent.
    pub within: usize,
}

/// A text is not a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPlace;

impl fmt::Display for NotAPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event's id is `epoch:offset` or `epoch:offset.n`")
    }
}

impl core::error::Error for NotAPlace {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)?;
        if self.within > 0 { write!(f, ".{}", self.within) } else { Ok(()) }
    }
}

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let (epoch, rest) = text.trim().split_once(':').ok_or(NotAPlace)?;
        let (offset, within) = rest.split_once('.').unwrap_or((rest, "0"));
        let whole = |text: &str| text.parse::<u64>().ok().filter(|number| *number <= crate::wire::MAX_INTEGER);
        let within = whole(within).and_then(|within| usize::try_from(within).ok());
        match (whole(epoch), whole(offset), within) {
            (Some(epoch), Some(offset), Some(within)) => Ok(Self { epoch, offset, within }),
            _ => Err(NotAPlace),
        }
    }
}
