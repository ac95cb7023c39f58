//! When and after what wait to try again.

use std::time::Duration;

use highwater_proto::{ApiError, Reason};

/// Waits between attempts: doubling from `initial` to `max`, each shortened at random by up to a fifth, so that
/// clients that failed together do not return together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// After the first failure.
    pub(crate) initial: Duration,
    /// The longest.
    pub(crate) max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(50),
            max: Duration::from_secs(1),
        }
    }
}

/// Attempts that fit at least into the time that something has; see [`Backoff::within`].
const ATTEMPTS: u32 = 10;
/// No wait is made shorter than this.
const SHORTEST: Duration = Duration::from_millis(10);

impl Backoff {
    /// The same, with waits short enough for what must be done within `time`: a broker that is back is noticed long before
    /// the time is over.
    pub(crate) fn within(self, time: Duration) -> Self {
        let max = self.max.min((time / ATTEMPTS).max(SHORTEST));
        Self {
            initial: self.initial.min(max),
            max,
        }
    }

    /// The wait after `failures` failures in a row, at least 1. `random` is any number.
    pub(crate) fn wait(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.initial.saturating_mul(1 << doublings).min(self.max);
        let fifth = u64::try_from(full.as_micros() / 5).unwrap_or(u64::MAX);
        full - Duration::from_micros(random % fifth.saturating_add(1))
    }

    /// The same, but never shorter than what the broker asked for.
    pub(crate) fn wait_after(&self, error: &ApiError, failures: u32, random: u64) -> Duration {
        let asked = error.retry_after.unwrap_or_default();
        self.wait(failures, random).max(asked)
    }
}

/// Whether the failure may come from an outdated view of who leads what.
pub(crate) fn wants_metadata(error: &ApiError) -> bool {
    matches!(
        error.reason,
        Reason::NotLeaderOrFollower
            | Reason::LeaderNotAvailable
            | Reason::FencedLeaderEpoch
            | Reason::UnknownLeaderEpoch
            | Reason::UnknownTopicOrPartition
            | Reason::UnknownTopicId
            | Reason::BrokerNotAvailable
            | Reason::ShuttingDown
            | Reason::NetworkException
            | Reason::StorageError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let backoff = Backoff {
            initial: Duration::from_millis(100),
            max: Duration::from_millis(450),
        };
        let waits: Vec<_> = [1, 2, 3, 4, 100]
            .map(|n| backoff.wait(n, 0).as_millis())
            .into();
        assert_eq!(waits, [100, 200, 400, 450, 450]);
    }

    #[test]
    fn waits_leave_time_for_several_attempts() {
        let backoff = Backoff::default();
        assert_eq!(backoff.within(Duration::from_secs(120)), backoff);
        let short = backoff.within(Duration::from_millis(300));
        assert_eq!(short.wait(9, 0), Duration::from_millis(30));
        let shortest = backoff.within(Duration::from_millis(1));
        assert_eq!(shortest.wait(1, 0), Duration::from_millis(10));
    }

    #[test]
    fn jitter_takes_at_most_a_fifth() {
        let backoff = Backoff::default();
        for random in [1, 999, 12_345, u64::MAX] {
            let wait = backoff.wait(3, random);
            assert!(wait <= Duration::from_millis(200) && wait >= Duration::from_millis(160));
        }
    }

    #[test]
    fn the_broker_can_ask_for_more_but_not_for_less() {
        let backoff = Backoff::default();
        let long = ApiError::new(Reason::Throttled, "").retry_after(Duration::from_secs(9));
        assert_eq!(backoff.wait_after(&long, 1, 0), Duration::from_secs(9));
        let short = ApiError::new(Reason::Throttled, "").retry_after(Duration::ZERO);
        assert_eq!(backoff.wait_after(&short, 1, 0), backoff.initial);
    }

    #[test]
    fn a_moved_leader_asks_for_metadata_and_a_full_disk_does_not() {
        let wants = |reason| wants_metadata(&ApiError::new(reason, ""));
        assert!(wants(Reason::NotLeaderOrFollower) && wants(Reason::NetworkException));
        assert!(!wants(Reason::DiskFull) && !wants(Reason::Throttled));
    }
}
