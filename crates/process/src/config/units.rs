//! Durations and sizes as text with a unit, for `#[serde(with = "…")]`.

/// `#[serde(with = "rowcast_process::config::duration")]` on a [`std::time::Duration`]: `"250ms"`, `"3s"`, `"5m"`, `"1h"`, `"7d"`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

    /// Writes the duration in the largest unit that divides it.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format(*value))
    }

    /// Reads a duration.
    ///
    /// # Errors
    /// When it is not text, has no unit or an unknown one, or is beyond 584 million years.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map_err(D::Error::custom)
    }

    /// Parses a duration such as `"250ms"`.
    ///
    /// # Errors
    /// What is wrong with the text, in words.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let millis = super::parse(text, &UNITS).ok_or_else(|| {
            format!("{text:?} is not a duration such as \"250ms\", \"3s\", \"5m\", \"1h\" or \"7d\"")
        })?;
        Ok(Duration::from_millis(millis))
    }

    /// The duration in the largest unit that divides it; what is below a millisecond is cut off.
    pub fn format(value: Duration) -> String {
        let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        super::format(millis, &UNITS, "0s")
    }
}

/// `#[serde(with = "rowcast_process::config::size")]` on a `u64` of bytes: `"512B"`, `"256KiB"`, `"1MiB"`, `"2GiB"`.
pub mod size {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    const UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

    /// Writes the size in the largest unit that divides it.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::format(*value, &UNITS, "0B"))
    }

    /// Reads a size.
    ///
    /// # Errors
    /// When it is not text, has no unit or an unknown one, or is beyond 2^64 bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text, &UNITS).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is not a size such as \"512B\", \"256KiB\", \"1MiB\" or \"2GiB\""
            ))
        })
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn format(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return zero.to_owned();
    }
    let (unit, factor) =
        units.iter().rev().find(|(_, factor)| value.is_multiple_of(*factor)).expect("the first factor is 1");
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::duration;

    #[test]
    fn durations_round_trip_and_bare_numbers_are_refused() {
        for text in ["0s", "250ms", "3s", "90s", "5m", "1h", "7d"] {
            assert_eq!(duration::format(duration::parse(text).unwrap()), text);
        }
        assert_eq!(duration::parse("1500ms").unwrap(), Duration::from_millis(1500));
        for text in
            ["", "3", "s", "-1s", "1.5s", "3 parsecs", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration::parse(text).unwrap_err().contains("is not a duration"), "{text}");
        }
    }

    #[test]
    fn sizes_use_the_largest_unit_that_divides_them() {
        assert_eq!(super::parse("256KiB", &[("KiB", 1024)]), Some(262_144));
        assert_eq!(super::format(1 << 20, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)], "0B"), "1MiB");
        assert_eq!(super::format(1025, &[("B", 1), ("KiB", 1 << 10)], "0B"), "1025B");
    }
}
