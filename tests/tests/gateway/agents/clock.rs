//! The clock against a calendar that counts day by day.

use lockstep::agent::tools::clock::{rfc3339, weekday};

const DAY: u64 = 86_400_000;

#[test]
fn every_day_of_five_centuries_has_its_date() {
    let is_leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let (mut year, mut month, mut day) = (1970_u64, 1_usize, 1);
    for days in 0..500 * 365 {
        assert_eq!(rfc3339(days * DAY), format!("{year:04}-{month:02}-{day:02}T00:00:00.000Z"));
        let february = if is_leap(year) { 29 } else { 28 };
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        day += 1;
        if day > lengths[month - 1] {
            (month, day) = (month + 1, 1);
        }
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
    }
}

#[test]
fn the_time_of_day_is_told_to_the_millisecond() {
    // The output of `date -u`.
    assert_eq!(rfc3339(DAY - 1), "1970-01-01T23:59:59.999Z");
    assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    assert_eq!([0, 1, 2].map(|days| weekday(days * DAY)), ["Thursday", "Friday", "Saturday"]);
    assert_eq!(weekday(1_700_000_000_123), "Tuesday");
}
