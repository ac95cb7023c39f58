//! How long things took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Significant digits that are kept of each latency: 0.1 %.
const DIGITS: u8 = 3;

/// Latencies, counted in an HdrHistogram of nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new(DIGITS).expect("3 digits are within what it can");
        Self { histogram }
    }

    /// Counts a latency `times` times.
    pub(crate) fn record(&mut self, latency: Duration, times: u64) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.histogram
            .record_n(nanoseconds, times)
            .expect("it grows with what is recorded");
    }

    /// Adds those of another.
    pub(crate) fn add(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("it grows with what is recorded");
    }

    /// The percentiles; `None` where there are no latencies.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        if self.histogram.is_empty() {
            return None;
        }
        let at = |quantile| microseconds(self.histogram.value_at_quantile(quantile));
        Some(Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: microseconds(self.histogram.max()),
        })
    }
}

/// What share of latencies is no longer than this, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    /// The median.
    pub(crate) p50: f64,
    /// 90 %.
    pub(crate) p90: f64,
    /// 99 %.
    pub(crate) p99: f64,
    /// 99.9 %.
    pub(crate) p999: f64,
    /// 99.99 %.
    pub(crate) p9999: f64,
    /// The longest.
    pub(crate) max: f64,
}

/// Microseconds with one decimal.
fn microseconds(nanoseconds: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
    let tenths = (nanoseconds as f64 / 100.0).round();
    tenths / 10.0
}

/// A latency with three digits in the unit it is best read in: `87.0 us`, `1.25 ms`, `12.0 s`.
pub(crate) fn human_microseconds(microseconds: f64) -> String {
    let (number, unit) = match microseconds {
        _ if microseconds < 1_000.0 => (microseconds, "us"),
        _ if microseconds < 1_000_000.0 => (microseconds / 1_000.0, "ms"),
        _ => (microseconds / 1_000_000.0, "s"),
    };
    let decimals = match number {
        _ if number < 9.995 => 2,
        _ if number < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_a_thousandth() {
        let mut latencies = Latencies::new();
        for microseconds in 1..=10_000 {
            latencies.record(Duration::from_micros(microseconds), 1);
        }
        let found = latencies.percentiles().unwrap();
        for (found, expected) in [
            (found.p50, 5_000.0),
            (found.p90, 9_000.0),
            (found.p99, 9_900.0),
            (found.p999, 9_990.0),
            (found.p9999, 9_999.0),
            (found.max, 10_000.0),
        ] {
            assert!((found / expected - 1.0).abs() < 0.001, "{found} {expected}");
        }
    }

    #[test]
    fn a_stall_weighs_as_much_as_the_records_that_waited() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_micros(10), 98);
        latencies.record(Duration::from_secs(1), 2);
        let found = latencies.percentiles().unwrap();
        assert!(found.p90 < 11.0 && found.p99 > 999_000.0, "{found:?}");
    }

    #[test]
    fn those_of_several_generators_add_up() {
        let mut all = Latencies::new();
        assert_eq!(all.percentiles(), None);
        let mut one = Latencies::new();
        one.record(Duration::from_secs(5), 1);
        all.add(&one);
        assert!(all.percentiles().unwrap().max > 4_990_000.0);
    }

    #[test]
    fn latencies_are_read_in_their_unit() {
        for (microseconds, text) in [
            (0.0, "0.00 us"),
            (87.04, "87.0 us"),
            (999.0, "999 us"),
            (1_254.0, "1.25 ms"),
            (12_000_000.0, "12.0 s"),
        ] {
            assert_eq!(human_microseconds(microseconds), text);
        }
    }
}
