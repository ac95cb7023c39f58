//! Numbers as people write and read them.

use std::str::FromStr;

/// How many partitions a topic gets (`add-partitions -p`): `12` in total, or `+4` more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartitionCount {
    /// This many afterwards.
    Total(u32),
    /// This many more than now.
    More(u32),
}

impl PartitionCount {
    /// The number afterwards, where there are `now`; none above 2^32 - 1.
    pub(crate) fn total(self, now: u32) -> Option<u32> {
        match self {
            Self::Total(total) => Some(total),
            Self::More(more) => now.checked_add(more),
        }
    }
}

impl FromStr for PartitionCount {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str = "use a number above 0: `12` for 12 in total, `+4` for 4 more";
        let (digits, is_more) = match text.strip_prefix('+') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        match parse_digits(digits) {
            Some(0) | None => Err(FORMS),
            Some(number) if is_more => Ok(Self::More(number)),
            Some(number) => Ok(Self::Total(number)),
        }
    }
}

/// The number of a partition (`-p`).
pub(crate) fn parse_partition(text: &str) -> Result<u32, &'static str> {
    parse_digits(text).ok_or("a partition is a number from 0, such as 3")
}

/// How many records to stop after (`-n`).
pub(crate) fn parse_count(text: &str) -> Result<u64, &'static str> {
    parse_digits(text).ok_or("use a number of records, such as 10")
}

/// How many partitions or replicas a topic gets.
pub(crate) fn parse_at_least_one(text: &str) -> Result<u32, &'static str> {
    match parse_digits(text) {
        Some(0) | None => Err("use a number, at least 1"),
        Some(number) => Ok(number),
    }
}

/// A number of digits only: `from_str` would let a sign pass.
pub(crate) fn parse_digits<N: FromStr>(text: &str) -> Option<N> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// Bytes with three significant digits in a binary unit: `0 B`, `999 B`, `1.50 KiB`, `12.3 MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024 belongs to the next unit.
    while amount >= 1023.5 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let decimals = match amount {
        _ if amount < 9.995 => 2,
        _ if amount < 99.95 => 1,
        _ => 0,
    };
    format!("{amount:.decimals$} {}", UNITS[unit])
}

/// A count with its noun: `1 record`, `2 records`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_counted_in_total_or_on_top() {
        assert_eq!("12".parse(), Ok(PartitionCount::Total(12)));
        assert_eq!("+4".parse(), Ok(PartitionCount::More(4)));
        assert_eq!(PartitionCount::Total(12).total(8), Some(12));
        assert_eq!(PartitionCount::More(4).total(8), Some(12));
        assert_eq!(PartitionCount::More(1).total(u32::MAX), None);
    }

    #[test]
    fn no_partitions_and_no_numbers_are_refused() {
        for text in ["", "0", "+", "+0", "++1", "-1", "many", "4294967296"] {
            assert!(text.parse::<PartitionCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_have_no_signs() {
        assert_eq!(parse_partition("0"), Ok(0));
        assert_eq!(parse_count("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_at_least_one("1"), Ok(1));
        for text in ["", "-1", "+1", "x", "1.5", "0x1", "99999999999999999999"] {
            assert!(parse_partition(text).is_err(), "{text}");
            assert!(parse_count(text).is_err(), "{text}");
            assert!(parse_at_least_one(text).is_err(), "{text}");
        }
        assert!(parse_at_least_one("0").is_err());
    }

    #[test]
    fn bytes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10 * 1024 - 1, "10.0 KiB"),
            (12_900_000, "12.3 MiB"),
            (1024 * 1024 - 1, "1.00 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human_bytes(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(0, "record"), "0 records");
    }
}
