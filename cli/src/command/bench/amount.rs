//! Sizes and times as they are given on the command line, and as JSON shows them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A number of bytes: `65536`, `64KiB`, `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Size(pub(crate) u64);

/// Letters after a number of bytes, and what they multiply it by. `64K` is left out: it means two things.
const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

impl Size {
    /// The number for an allocation of this machine.
    pub(crate) fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str = "use bytes above 0, or a number with KiB, MiB, GiB, KB, MB or GB";
        let (digits, unit) = split_unit(text);
        let factor = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .map(|(_, factor)| *factor);
        let number = digits.parse::<u64>().ok();
        match factor.zip(number).and_then(|(f, n)| n.checked_mul(f)) {
            None | Some(0) => Err(FORMS),
            Some(bytes) => Ok(Self(bytes)),
        }
    }
}

/// A length of time: `10s`, `500ms`, `2m`; a bare number counts seconds. Seconds in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str = "use a time such as 10s, 500ms or 2m";
        let (digits, unit) = split_unit(text);
        let milliseconds = match unit {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            _ => return Err(FORMS),
        };
        let number = digits.parse::<u64>().map_err(|_| FORMS)?;
        let milliseconds = number.checked_mul(milliseconds).ok_or(FORMS)?;
        Ok(Self(Duration::from_millis(milliseconds)))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, bytes) in [
            ("1", 1),
            ("100B", 100),
            ("64KiB", 65_536),
            ("64kib", 65_536),
            ("2MB", 2_000_000),
            ("4GiB", 4 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn sizes_that_are_none_or_mean_two_things_are_refused() {
        for text in ["", "0", "64K", "KiB", "-1", "1.5MB", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_count_seconds_unless_they_say_otherwise() {
        for (text, milliseconds) in [
            ("3", 3_000),
            ("10s", 10_000),
            ("250ms", 250),
            ("2m", 120_000),
        ] {
            let time = Time(Duration::from_millis(milliseconds));
            assert_eq!(text.parse(), Ok(time), "{text}");
        }
        for text in ["", "s", "1h", "-1s", "1.5s"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
