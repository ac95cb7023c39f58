//! When each record of an open loop is due.
//!
//! An open loop sends by the clock, whether or not earlier records were acknowledged, and counts the latency of a record
//! from when it was due. A slow broker thus cannot slow down the questions it is asked (coordinated omission).

use std::time::Duration;

const NANOSECONDS_PER_SECOND: u128 = 1_000_000_000;

/// Records at equal distances, `rate` of them per second: record 0 is due at time 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Records per second over all generators; not 0.
    rate: u64,
    /// How many generators share the rate; not 0.
    generators: u64,
    /// Which of them this is: it takes record `generator` of each `generators`.
    generator: u64,
}

impl Schedule {
    /// The share of the generator number `generator` of `generators` in a rate of so many records per second.
    pub(crate) fn new(rate: u64, generator: u64, generators: u64) -> Self {
        assert!(rate > 0 && generator < generators, "there is a share");
        Self {
            rate,
            generators,
            generator,
        }
    }

    /// When the record with this number, counted from 0, is due.
    pub(crate) fn due_at(&self, record: u64) -> Duration {
        let place = u128::from(record) * u128::from(self.generators) + u128::from(self.generator);
        let nanoseconds = (place * NANOSECONDS_PER_SECOND).div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// How many records are due when so much time has passed: those with `due_at <= elapsed`.
    pub(crate) fn due_by(&self, elapsed: Duration) -> u64 {
        let places = elapsed.as_nanos() * u128::from(self.rate) / NANOSECONDS_PER_SECOND + 1;
        let others = u128::from(self.generator);
        let due = places
            .saturating_sub(others)
            .div_ceil(u128::from(self.generators));
        u64::try_from(due).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_equal_distances_from_the_start_on() {
        let schedule = Schedule::new(10_000, 0, 1);
        assert_eq!(schedule.due_at(0), Duration::ZERO);
        assert_eq!(schedule.due_at(1), Duration::from_micros(100));
        assert_eq!(schedule.due_at(10_000), Duration::from_secs(1));
        assert_eq!(schedule.due_by(Duration::ZERO), 1);
        assert_eq!(schedule.due_by(Duration::from_micros(99)), 1);
        assert_eq!(schedule.due_by(Duration::from_micros(100)), 2);
    }

    #[test]
    fn a_record_is_due_exactly_when_its_time_has_come() {
        for (rate, generators) in [(1, 1), (3, 2), (7, 3), (999_983, 4), (2_800_000, 5)] {
            for generator in 0..generators {
                let schedule = Schedule::new(rate, generator, generators);
                for record in [0, 1, 2, 3, 1_000, 123_457] {
                    let due_at = schedule.due_at(record);
                    assert_eq!(schedule.due_by(due_at), record + 1, "{schedule:?} {record}");
                    if let Some(before) = due_at.checked_sub(Duration::from_nanos(1)) {
                        assert_eq!(schedule.due_by(before), record, "{schedule:?} {record}");
                    }
                }
            }
        }
    }

    #[test]
    fn generators_share_the_rate_without_gaps() {
        let elapsed = Duration::from_millis(1_234);
        let due: u64 = (0..3)
            .map(|generator| Schedule::new(1_000, generator, 3).due_by(elapsed))
            .sum();
        assert_eq!(due, Schedule::new(1_000, 0, 1).due_by(elapsed));
    }
}
