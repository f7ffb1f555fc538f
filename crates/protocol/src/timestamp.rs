//! Points in time on the wire: RFC 3339, UTC, microseconds.

use std::fmt;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// Microseconds since 1970-01-01T00:00:00Z. Displayed as RFC 3339 in UTC with six digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

impl Micros {
    /// From whole seconds, as tokens have them. Saturates instead of overflowing.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// From a clock's reading.
    pub fn from_system_time(time: std::time::SystemTime) -> Self {
        let micros = match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        };
        Self(micros)
    }

    /// Reads RFC 3339 with any offset; digits beyond microseconds are cut.
    pub fn parse(text: &str) -> Option<Self> {
        let time = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
        i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).ok().map(Self)
    }
}

impl fmt::Display for Micros {
    /// Times outside the years −9999 to 9999 are shown at the nearer end: the wire has no other form for them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FIRST: i64 = -62_167_219_200_000_000;
        const LAST: i64 = 253_402_300_799_999_999;
        let nanos = i128::from(self.0.clamp(FIRST, LAST)) * 1_000;
        let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| fmt::Error)?;
        f.write_str(&time.format(FORMAT).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_digits_always_and_back() {
        assert_eq!(Micros(1_700_000_000_000_000).to_string(), "2023-11-14T22:13:20.000000Z");
        assert_eq!(Micros(-1).to_string(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(Micros::parse("2023-11-14T23:13:20.0000019+01:00"), Some(Micros(1_700_000_000_000_001)));
    }

    #[test]
    fn a_clocks_reading_counts_from_1970_in_both_directions() {
        let epoch = std::time::UNIX_EPOCH;
        let (before, after) = (
            epoch.checked_sub(std::time::Duration::from_micros(7)),
            epoch + std::time::Duration::from_micros(7),
        );
        assert_eq!(before.map(Micros::from_system_time), Some(Micros(-7)));
        assert_eq!(
            (Micros::from_system_time(after), Micros::from_system_time(epoch)),
            (Micros(7), Micros(0))
        );
    }

    #[test]
    fn absurd_times_do_not_panic() {
        assert_eq!(Micros(i64::MAX).to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(Micros(i64::MIN).to_string(), "0000-01-01T00:00:00.000000Z");
        assert_eq!(Micros::from_seconds(i64::MAX), Micros(i64::MAX));
    }
}
