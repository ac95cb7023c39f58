//! What one generator, or all of them, counted.

use std::time::Instant;

use super::latencies::Latencies;
use super::window::Window;

/// Counts of a run.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    window: Window,
    /// Records that were acknowledged, or read, within the window.
    pub(crate) records: u64,
    /// Bytes of their values.
    pub(crate) bytes: u64,
    /// Latencies of records that were due, or sent, within the window.
    pub(crate) latencies: Latencies,
    /// Records that failed, at any time, or operations where there is no record to name.
    pub(crate) errors: u64,
    /// What the first of them said.
    pub(crate) first_error: Option<String>,
    /// Records that were due within the window and could not be sent by its end.
    pub(crate) unsent: u64,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new(window: Window) -> Self {
        Self {
            window,
            records: 0,
            bytes: 0,
            latencies: Latencies::new(),
            errors: 0,
            first_error: None,
            unsent: 0,
        }
    }

    /// Records with values of so many bytes altogether were done with at this moment.
    pub(crate) fn done(&mut self, at: Instant, records: u64, bytes: u64) {
        if self.window.contains(at) {
            self.records += records;
            self.bytes += bytes;
        }
    }

    /// Records that were due, or sent, at `from`, took until `to`.
    pub(crate) fn took(&mut self, from: Instant, to: Instant, records: u64) {
        if self.window.contains(from) {
            let latency = to.saturating_duration_since(from);
            self.latencies.record(latency, records);
        }
    }

    /// A record that was due at `due` had not been sent when the window ended: it took at least until then.
    pub(crate) fn unsent(&mut self, due: Instant) {
        if self.window.contains(due) {
            self.took(due, self.window.to, 1);
            self.unsent += 1;
        }
    }

    /// Records failed.
    pub(crate) fn failed(&mut self, records: u64, error: impl ToString) {
        self.errors += records;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// Adds those of another generator.
    pub(crate) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.latencies.add(&other.latencies);
        self.unsent += other.unsent;
        self.add_failures(&other);
    }

    /// Adds what failed in another, and nothing else.
    pub(crate) fn add_failures(&mut self, other: &Self) {
        self.errors += other.errors;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn tally() -> Tally {
        Tally::new(Window::new(Instant::now(), SECOND, SECOND))
    }

    #[test]
    fn throughput_counts_by_the_end_of_a_record_and_latency_by_its_beginning() {
        let mut tally = tally();
        let Window { from, to, .. } = tally.window;
        tally.done(from - SECOND / 2, 1, 10);
        tally.took(from - SECOND / 2, from, 1);
        assert_eq!((tally.records, tally.latencies.percentiles()), (0, None));

        tally.done(to + SECOND, 1, 10);
        tally.took(from, to + SECOND, 1);
        assert_eq!(tally.records, 0);
        let longest = tally.latencies.percentiles().unwrap().max;
        assert!((longest / 2_000_000.0 - 1.0).abs() < 0.001, "{longest}");

        tally.done(from, 3, 30);
        assert_eq!((tally.records, tally.bytes), (3, 30));
    }

    #[test]
    fn what_could_not_be_sent_counts_with_the_time_it_waited() {
        let mut tally = tally();
        tally.unsent(tally.window.from);
        tally.unsent(tally.window.start);
        assert_eq!(tally.unsent, 1);
        let longest = tally.latencies.percentiles().unwrap().max;
        assert!((longest / 1_000_000.0 - 1.0).abs() < 0.001, "{longest}");
    }

    #[test]
    fn the_first_error_is_kept() {
        let (mut all, mut one) = (tally(), tally());
        one.failed(2, "first");
        one.failed(1, "second");
        all.add(one);
        assert_eq!((all.errors, all.first_error.as_deref()), (3, Some("first")));
    }
}
