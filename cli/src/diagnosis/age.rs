//! Times as people say them.

/// How long something takes or took, in the largest unit of which there are two at least.
pub(crate) fn span(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
    ];
    for (unit_ms, name) in UNITS {
        if ms >= 2 * unit_ms {
            return format!("{} {name}", ms / unit_ms);
        }
    }
    format!("{ms} ms")
}

/// How long ago a time was; 0 for one that is still to come.
pub(crate) fn since(then_ms: i64, now_ms: i64) -> u64 {
    u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_the_unit_that_fits() {
        let said = [
            0,
            1_999,
            2_000,
            119_999,
            120_000,
            7_199_999,
            7_200_000,
            172_800_000,
        ]
        .map(span);
        let expected = [
            "0 ms", "1999 ms", "2 s", "119 s", "2 min", "119 min", "2 h", "2 d",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn what_is_to_come_is_now() {
        assert_eq!(since(5, 9), 4);
        assert_eq!(since(9, 5), 0);
        assert_eq!(since(i64::MIN, i64::MAX), i64::MAX as u64);
    }
}
