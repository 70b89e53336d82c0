//! Durations and sizes as people write them: `500ms`, `10m`, `4MiB`. One parser for each, and the way back.

use std::fmt;
use std::time::Duration;

/// Units of time with their milliseconds, longest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size with their bytes, largest first.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a duration: a whole number directly followed by `ms`, `s`, `m`, `h` or `d`. The error says what is right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    amount(text, &TIMES)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("must be a duration such as 500ms, 10s, 5m, 24h or 7d, not '{}'", text.escape_debug()))
}

/// Reads a size in bytes: a whole number directly followed by `B`, `KiB`, `MiB` or `GiB`. The error says what is right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    amount(text, &SIZES)
        .ok_or_else(|| format!("must be a size such as 65536, 512KiB or 4MiB, not '{}'", text.escape_debug()))
}

/// Writes a duration in the longest unit that holds it whole. Parts below a millisecond are cut off.
pub fn duration_text(duration: Duration) -> String {
    text(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &TIMES, "0s")
}

/// Writes a size in the largest unit that holds it whole.
pub fn size_text(bytes: u64) -> String {
    text(bytes, &SIZES, "0B")
}

fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn text(amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    match units.iter().find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", amount / factor),
        None => zero.to_owned(),
    }
}

/// For `#[serde(with = "duration")]`.
pub mod duration {
    use super::*;

    /// Reads a duration with its unit; a bare number is refused, because its unit would be a guess.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }

    /// Writes it as it is read.
    pub fn serialize<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration_text(*duration))
    }

    struct DurationVisitor;

    impl serde::de::Visitor<'_> for DurationVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, such as 500ms, 10s, 5m, 24h or 7d")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            parse_duration(text).map_err(E::custom)
        }
    }
}

/// For `#[serde(with = "size")]`.
pub mod size {
    use super::*;

    /// Reads a size with its unit, or a bare number of bytes.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }

    /// Writes it in its largest whole unit.
    pub fn serialize<S: serde::Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&size_text(*bytes))
    }

    struct SizeVisitor;

    impl serde::de::Visitor<'_> for SizeVisitor {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as 65536, 512KiB or 4MiB")
        }

        fn visit_u64<E>(self, bytes: u64) -> Result<u64, E> {
            Ok(bytes)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u64, E> {
            parse_size(text).map_err(E::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_written_back() {
        for text in ["500ms", "10s", "5m", "24h", "7d"] {
            let read = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&duration_text(read)), Ok(read), "{text}");
        }
        assert_eq!(parse_duration("24h").unwrap(), Duration::from_secs(86_400));
        assert_eq!(duration_text(Duration::from_secs(86_400)), "1d");
        assert_eq!(parse_size("4MiB"), Ok(4 << 20));
        assert_eq!(size_text(4 << 20), "4MiB");
        assert_eq!(duration_text(Duration::ZERO), "0s");
    }

    #[test]
    fn what_is_no_amount_is_refused_with_an_example() {
        for text in ["", "10", "s", "-1s", "1.5s", "10 s", "10sec", "99999999999999999999d", "1e3s"] {
            assert!(parse_duration(text).unwrap_err().contains("10s"), "{text}");
        }
        for text in ["", "4MB", "4M", "-1B", "99999999999GiB"] {
            assert!(parse_size(text).unwrap_err().contains("4MiB"), "{text}");
        }
    }
}
