//! How much of what is fetched ahead may be of one partition, so that a busy or slow one leaves room to the others.
//!
//! Pure. Credit is given to a broker for all of its partitions, and any one may use all of it. A partition is pushed while it
//! holds less than half of its share, or nobody else waits; as a broker never has more credit than the other half, the share
//! is not exceeded by more than one batch.

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    bytes: u64,
}

impl Share {
    pub(super) fn new(bytes: u32) -> Self {
        Self {
            bytes: u64::from(bytes),
        }
    }

    /// The most credit that a broker may have at a time.
    pub(super) fn most_credit(self) -> u64 {
        (self.bytes / 2).max(1)
    }

    /// What may still come of a partition that has this much.
    pub(super) fn room(self, bytes: u64) -> u64 {
        self.bytes.saturating_sub(bytes)
    }

    /// Whether a partition with this much can do without being pushed, for the sake of others.
    pub(super) fn is_full(self, bytes: u64) -> bool {
        bytes > self.bytes / 2
    }

    /// Whether a partition with this much should be pushed.
    pub(super) fn is_low(self, bytes: u64) -> bool {
        bytes <= self.bytes / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_is_not_full_stays_in_its_share_whatever_credit_there_is() {
        for bytes in 1..1_000 {
            let share = Share::new(bytes);
            let most = (0..=u64::from(bytes)).rfind(|held| !share.is_full(*held));
            let most = most.unwrap() + share.most_credit();
            assert!(most <= u64::from(bytes), "{most} of {bytes}");
        }
    }

    #[test]
    fn nothing_is_both_full_and_low_and_an_empty_one_is_low() {
        for bytes in 1..1_000 {
            let share = Share::new(bytes);
            assert!(share.is_low(0) && share.room(0) > 0 && share.most_credit() > 0);
            assert!((0..2_000).all(|held| !(share.is_low(held) && share.is_full(held))));
        }
    }
}
