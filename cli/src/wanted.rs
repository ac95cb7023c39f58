//! Which of the records that arrive are wanted, and when there are no more to wait for.

use crate::positions::Position;

/// What is still wanted of a topic.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Records still to come (`-n`); none: any number.
    remaining: Option<u64>,
    /// By the number of the partition, since this is looked at for each record; none: not asked for.
    partitions: Vec<Option<Range>>,
    /// Partitions whose end is not reached; only counted down where there is an end (`-e`).
    open_partitions: usize,
}

/// The offsets wanted of a partition.
#[derive(Debug)]
struct Range {
    from: u64,
    /// First offset that is not wanted any more; none: all to come.
    end: Option<u64>,
}

impl Wanted {
    /// Wants what stands at `positions` and after them, `count` records at most, and, where `until_end` says so,
    /// nothing that came after the positions were found.
    pub(crate) fn new(positions: &[Position], count: Option<u64>, until_end: bool) -> Self {
        let range = |position: &Position| Range {
            // What is gone will not come: an end below which nothing is left is no end to wait for.
            from: position.offset.max(position.held.start),
            end: until_end.then_some(position.held.end),
        };
        let mut partitions = Vec::new();
        for position in positions {
            let place = position.partition as usize;
            if partitions.len() <= place {
                partitions.resize_with(place + 1, || None);
            }
            partitions[place] = Some(range(position));
        }
        Self {
            remaining: count,
            open_partitions: partitions
                .iter()
                .flatten()
                .filter(|range| !range.is_empty())
                .count(),
            partitions,
        }
    }

    /// How many records are wanted at the most; none where there is no end.
    pub(crate) fn total(&self) -> Option<u64> {
        let held = self
            .partitions
            .iter()
            .flatten()
            .try_fold(0_u64, |held, range| {
                let end = range.end?;
                Some(held.saturating_add(end.saturating_sub(range.from)))
            });
        match (self.remaining, held) {
            (Some(remaining), Some(held)) => Some(remaining.min(held)),
            (remaining, held) => remaining.or(held),
        }
    }

    /// Whether nothing more is wanted.
    pub(crate) fn is_satisfied(&self) -> bool {
        self.remaining == Some(0) || self.open_partitions == 0
    }

    /// Whether anything is wanted of `partition`.
    pub(crate) fn reads(&self, partition: u32) -> bool {
        self.range(partition).is_some_and(|range| !range.is_empty())
    }

    /// Whether the record at `offset` of `partition` is wanted. Records of a partition are shown in order.
    pub(crate) fn take(&mut self, partition: u32, offset: u64) -> bool {
        if self.remaining == Some(0) {
            return false;
        }
        let Some(range) = self.range(partition) else {
            return false;
        };
        let is_last = range.end == Some(offset + 1) && !range.is_empty();
        let is_wanted = offset >= range.from && range.end.is_none_or(|end| offset < end);
        self.open_partitions -= usize::from(is_last);
        if is_wanted && let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        is_wanted
    }

    fn range(&self, partition: u32) -> Option<&Range> {
        self.partitions.get(partition as usize)?.as_ref()
    }
}

impl Range {
    fn is_empty(&self) -> bool {
        self.end.is_some_and(|end| self.from >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offset_spec::HeldOffsets;

    fn position(partition: u32, offset: u64, end: u64) -> Position {
        Position {
            partition,
            held: HeldOffsets { start: 0, end },
            offset,
        }
    }

    #[test]
    fn without_limits_it_is_never_satisfied() {
        let mut wanted = Wanted::new(&[position(0, 5, 7)], None, false);
        assert!(wanted.take(0, 5) && wanted.take(0, 6) && wanted.take(0, 7));
        assert!(!wanted.is_satisfied());
    }

    #[test]
    fn a_count_is_over_all_partitions() {
        let mut wanted = Wanted::new(&[position(0, 0, 9), position(1, 0, 9)], Some(2), false);
        assert!(wanted.take(0, 0) && wanted.take(1, 0));
        assert!(wanted.is_satisfied());
        assert!(!wanted.take(1, 1));
        assert!(Wanted::new(&[position(0, 0, 9)], Some(0), false).is_satisfied());
    }

    #[test]
    fn each_partition_has_its_end() {
        let mut wanted = Wanted::new(&[position(0, 0, 2), position(1, 3, 4)], None, true);
        assert!(wanted.take(0, 0) && wanted.take(0, 1));
        assert!(!wanted.is_satisfied());
        assert!(!wanted.take(0, 2), "it came later");
        assert!(wanted.take(1, 3));
        assert!(wanted.is_satisfied());
    }

    #[test]
    fn partitions_with_nothing_to_read_are_not_waited_for() {
        let nothing = [position(0, 0, 0), position(1, 7, 7), position(2, 9, 4)];
        assert!(Wanted::new(&nothing, None, true).is_satisfied());
        assert!(!Wanted::new(&nothing, None, true).reads(0));
        let all = Wanted::new(&nothing, None, false);
        assert!(all.reads(0) && !all.is_satisfied());
    }

    #[test]
    fn an_end_below_which_all_is_gone_is_not_waited_for() {
        let mut trimmed = position(0, 2, 7);
        trimmed.held.start = 7;
        assert!(Wanted::new(&[trimmed], None, true).is_satisfied());
    }

    #[test]
    fn the_total_is_known_where_there_is_a_count_or_an_end() {
        let held = [position(0, 0, 9), position(1, 4, 9)];
        assert_eq!(Wanted::new(&held, None, false).total(), None);
        assert_eq!(Wanted::new(&held, Some(20), false).total(), Some(20));
        assert_eq!(Wanted::new(&held, None, true).total(), Some(14));
        assert_eq!(Wanted::new(&held, Some(20), true).total(), Some(14));
        assert_eq!(Wanted::new(&held, Some(3), true).total(), Some(3));
    }

    #[test]
    fn what_stands_below_the_position_is_skipped() {
        let mut wanted = Wanted::new(&[position(0, 9, 4)], None, false);
        assert!(!wanted.take(0, 4));
        assert!(wanted.take(0, 9));
        assert!(!wanted.take(1, 9), "not asked for");
    }
}
