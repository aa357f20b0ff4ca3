//! The current time.

use serde_json::{Value, json};

use super::{CallError, Invocation, Tool};
use crate::BoxFuture;
use crate::payload::now_ms;

const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// Formats a time as RFC 3339, in UTC, with milliseconds.
///
/// ```
/// assert_eq!(lockstep::agent::tools::clock::rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
/// ```
#[must_use]
pub fn rfc3339(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The day of the week of a time, in UTC.
#[must_use]
pub const fn weekday(unix_ms: u64) -> &'static str {
    WEEKDAYS[(unix_ms / 86_400_000 % 7) as usize]
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from March, so
/// that the leap day is the last day: the months before it then have the same lengths in every year.
const fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // Days since 0000-03-01.
    let days = days + 719_468;
    let era = days / DAYS_OF_400_YEARS;
    let day_of_era = days % DAYS_OF_400_YEARS;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + (month <= 2) as u64;
    (year, month, day)
}

/// The wall clock as a tool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Tool for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn description(&self) -> &'static str {
        "Tells the current date, time and weekday, in UTC."
    }

    fn parameters(&self) -> Value {
        json!({ "type": "object", "properties": {}, "additionalProperties": false })
    }

    fn call(&self, _: Invocation) -> BoxFuture<'_, Result<Value, CallError>> {
        Box::pin(async {
            let now = now_ms();
            Ok(json!({ "utc": rfc3339(now), "weekday": weekday(now), "unix_ms": now }))
        })
    }
}
