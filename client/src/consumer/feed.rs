//! One subscription to one broker: which assignment it follows, and how many bytes the broker may still send.

use std::time::Instant;

use highwater_proto::BrokerId;

/// A subscription; a later one to the same broker is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FeedId(pub(crate) u64);

/// See the module.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) id: FeedId,
    pub(super) broker: BrokerId,
    pub(super) address: String,
    /// When the broker sent something last, or was first asked to.
    pub(super) heard_at: Instant,
    /// The assignment that the broker was told last; 0 before the first.
    assignment_id: u64,
    /// What is read of this broker is not what it was told.
    is_stale: bool,
    /// Bytes that the broker may still send. Below 0 after a batch that was larger than the credit left.
    credit_bytes: i64,
}

impl Feed {
    pub(super) fn new(id: FeedId, broker: BrokerId, address: String, now: Instant) -> Self {
        Self {
            id,
            broker,
            address,
            heard_at: now,
            assignment_id: 0,
            is_stale: true,
            credit_bytes: 0,
        }
    }

    /// The set of partitions read here has changed, or where one of them is read.
    pub(super) fn set_stale(&mut self) {
        self.is_stale = true;
    }

    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Number of the assignment to send now. What follows from an earlier one is not wanted any more.
    pub(super) fn assign(&mut self) -> u64 {
        self.is_stale = false;
        self.assignment_id += 1;
        self.assignment_id
    }

    /// The broker has used credit.
    pub(super) fn spend(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.credit_bytes = self.credit_bytes.saturating_sub(bytes);
    }

    /// The credit to add so that there are `level` bytes of it; `None` while that is not worth a message. Small steps
    /// are worth one only when the broker has to stop without it.
    pub(super) fn credit_due(&self, level: u64, step: u64) -> Option<u64> {
        if level == 0 {
            return None;
        }
        let level = i64::try_from(level).unwrap_or(i64::MAX);
        let missing = u64::try_from(level.saturating_sub(self.credit_bytes)).unwrap_or(0);
        let has_stopped = self.credit_bytes <= 0;
        (has_stopped || missing >= step).then_some(missing)
    }

    /// Credit that was sent.
    pub(super) fn add_credit(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.credit_bytes = self.credit_bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed() -> Feed {
        Feed::new(FeedId(1), BrokerId(1), "b:1".into(), Instant::now())
    }

    #[test]
    fn credit_is_added_in_steps_and_at_once_where_there_is_none() {
        let mut feed = feed();
        assert_eq!(feed.credit_due(100, 1_000), Some(100));
        feed.add_credit(100);
        feed.spend(40);
        assert_eq!(feed.credit_due(100, 50), None);
        feed.spend(20);
        assert_eq!(feed.credit_due(100, 50), Some(60));
        assert_eq!(feed.credit_due(0, 50), None);
    }

    #[test]
    fn a_batch_beyond_the_credit_is_paid_back_first() {
        let mut feed = feed();
        feed.add_credit(100);
        feed.spend(500);
        assert_eq!(feed.credit_due(0, 50), None);
        assert_eq!(feed.credit_due(30, 50), Some(430));
    }

    #[test]
    fn each_assignment_has_a_number_of_its_own() {
        let mut feed = feed();
        assert!(feed.is_stale());
        let first = feed.assign();
        assert!(!feed.is_stale());
        feed.set_stale();
        assert!(feed.assign() > first);
    }
}
