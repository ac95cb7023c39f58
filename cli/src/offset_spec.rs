//! Where to begin reading (`-o`): `start`, `end`, `N`, `+N`, `-N`, `@time`.

use jiff::{SpanRelativeTo, Timestamp, civil};

use crate::quantity::parse_digits;

/// A place in a partition, as a person writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OffsetSpec {
    /// `start`: the first record held.
    Start,
    /// `end`: after the last record.
    End,
    /// `N`: this offset.
    At(u64),
    /// `+N`: this many records after the start.
    FromStart(u64),
    /// `-N`: this many records before the end.
    FromEnd(u64),
    /// `@time`: the first record of this time or later, in milliseconds since the Unix epoch.
    Time(i64),
}

/// A text that is no offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    text: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.text.starts_with('@') {
            write!(
                f,
                "`{}` is no time; use @2026-01-01T00:00:00Z, @2026-01-01 (UTC), @-1h or @MILLISECONDS since 1970",
                self.text
            )
        } else {
            write!(
                f,
                "`{}` is no offset; use start, end, N, +N (after the start), -N (before the end) or @TIME",
                self.text
            )
        }
    }
}

impl std::error::Error for Error {}

/// The offsets that a partition holds: `start` to `end`, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldOffsets {
    /// Log start offset.
    pub(crate) start: u64,
    /// High watermark.
    pub(crate) end: u64,
}

impl OffsetSpec {
    /// Reads an offset; `now` is what `@-1h` counts from.
    pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Self, Error> {
        let parsed = match text {
            "start" => Some(Self::Start),
            "end" => Some(Self::End),
            _ => match text.split_at_checked(1) {
                Some(("+", digits)) => parse_digits(digits).map(Self::FromStart),
                Some(("-", digits)) => parse_digits(digits).map(Self::FromEnd),
                Some(("@", time)) => parse_time_ms(time, now).map(Self::Time),
                _ => parse_digits(text).map(Self::At),
            },
        };
        parsed.ok_or_else(|| Error { text: text.into() })
    }

    /// The offset meant in a partition that holds `held`. `at_time` is the first offset at the time asked for, none
    /// when every record is older; it is only looked at for [`OffsetSpec::Time`].
    ///
    /// `N` is taken as it is, even where the partition does not hold it: the caller says so to the user.
    pub(crate) fn resolve(self, held: HeldOffsets, at_time: Option<u64>) -> u64 {
        match self {
            Self::Start => held.start,
            Self::End => held.end,
            Self::At(offset) => offset,
            Self::FromStart(records) => held.start.saturating_add(records).min(held.end),
            Self::FromEnd(records) => held.end.saturating_sub(records).max(held.start),
            Self::Time(_) => at_time.unwrap_or(held.end),
        }
    }
}

/// Milliseconds since the Unix epoch of what follows `@`.
fn parse_time_ms(text: &str, now: Timestamp) -> Option<i64> {
    if let Some(milliseconds) = parse_digits(text) {
        return Some(milliseconds);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let span: jiff::Span = ago.parse().ok()?;
        let milliseconds_ago = span
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .ok()?
            .as_millis();
        return now
            .as_millisecond()
            .checked_sub(i64::try_from(milliseconds_ago).ok()?);
    }
    if let Ok(date) = text.parse::<civil::Date>()
        && !text.contains(['T', 't', ' '])
    {
        return date
            .at(0, 0, 0, 0)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|midnight| midnight.timestamp().as_millisecond());
    }
    text.parse::<Timestamp>()
        .ok()
        .map(|timestamp| timestamp.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z.
    const NEW_YEAR_MS: i64 = 1_767_225_600_000;

    fn parse(text: &str) -> Result<OffsetSpec, Error> {
        OffsetSpec::parse(text, Timestamp::from_millisecond(NEW_YEAR_MS).unwrap())
    }

    #[test]
    fn every_form_is_read() {
        for (text, spec) in [
            ("start", OffsetSpec::Start),
            ("end", OffsetSpec::End),
            ("0", OffsetSpec::At(0)),
            ("18446744073709551615", OffsetSpec::At(u64::MAX)),
            ("+7", OffsetSpec::FromStart(7)),
            ("-7", OffsetSpec::FromEnd(7)),
            ("@2026-01-01T00:00:00Z", OffsetSpec::Time(NEW_YEAR_MS)),
            ("@2026-01-01T01:00:00+01:00", OffsetSpec::Time(NEW_YEAR_MS)),
            (
                "@2026-01-01T00:00:00.250Z",
                OffsetSpec::Time(NEW_YEAR_MS + 250),
            ),
            ("@2026-01-01", OffsetSpec::Time(NEW_YEAR_MS)),
            ("@1767225600000", OffsetSpec::Time(NEW_YEAR_MS)),
            ("@-1h", OffsetSpec::Time(NEW_YEAR_MS - 3_600_000)),
            ("@-1h30m", OffsetSpec::Time(NEW_YEAR_MS - 5_400_000)),
            ("@-2d", OffsetSpec::Time(NEW_YEAR_MS - 172_800_000)),
            ("@-500ms", OffsetSpec::Time(NEW_YEAR_MS - 500)),
        ] {
            assert_eq!(parse(text), Ok(spec), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "beginning",
            "+",
            "-",
            "@",
            "+-1",
            "++1",
            "1.5",
            "0x10",
            "18446744073709551616",
            "@yesterday",
            "@2026-13-01",
            "@-1",
            "@-1mo",
            "@2026-01-01T00:00:00",
            "ü",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_error_says_what_can_be_written() {
        assert_eq!(
            parse("first").unwrap_err().to_string(),
            "`first` is no offset; use start, end, N, +N (after the start), -N (before the end) or @TIME"
        );
        assert!(
            parse("@noon")
                .unwrap_err()
                .to_string()
                .contains("is no time")
        );
    }

    #[test]
    fn relative_offsets_stay_within_what_is_held() {
        let held = HeldOffsets { start: 10, end: 20 };
        for (spec, offset) in [
            (OffsetSpec::Start, 10),
            (OffsetSpec::End, 20),
            (OffsetSpec::FromStart(3), 13),
            (OffsetSpec::FromStart(u64::MAX), 20),
            (OffsetSpec::FromEnd(3), 17),
            (OffsetSpec::FromEnd(u64::MAX), 10),
        ] {
            assert_eq!(spec.resolve(held, None), offset, "{spec:?}");
        }
    }

    #[test]
    fn an_absolute_offset_is_taken_as_it_is() {
        let held = HeldOffsets { start: 10, end: 20 };
        assert_eq!(OffsetSpec::At(5).resolve(held, None), 5);
        assert_eq!(OffsetSpec::At(25).resolve(held, None), 25);
    }

    #[test]
    fn a_time_after_the_last_record_is_the_end() {
        let held = HeldOffsets { start: 10, end: 20 };
        assert_eq!(OffsetSpec::Time(0).resolve(held, Some(12)), 12);
        assert_eq!(OffsetSpec::Time(0).resolve(held, None), 20);
    }
}
