//! Which segments may leave, and when the active one ends. Pure: segments, configuration and times in, a decision out.
//!
//! A segment is as old as its newest record says, but not younger than the time since this broker first saw it closed:
//! records dated in the future, or not dated at all, do not keep a segment for ever. The times of sight are not kept
//! over a restart, which can only delay a removal.

use std::collections::BTreeMap;

use highwater_storage::{Offset, SegmentInfo};

use crate::raft::machine::Timestamp;
use crate::topic::TopicConfig;

/// When this broker first saw the segments of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentAges {
    /// By base offset, segments with records only.
    seen: BTreeMap<Offset, Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    with_records: Timestamp,
    sealed: Option<Timestamp>,
}

impl SegmentAges {
    /// Looks at the segments now; forgets those that left.
    pub fn observe(&mut self, segments: &[SegmentInfo], now: Timestamp) {
        let mut seen = BTreeMap::new();
        for segment in segments.iter().filter(|segment| has_records(segment)) {
            let known = self.seen.get(&segment.base_offset);
            let sealed = known.and_then(|seen| seen.sealed);
            seen.insert(
                segment.base_offset,
                Seen {
                    with_records: known.map_or(now, |seen| seen.with_records),
                    sealed: sealed.or(segment.sealed.then_some(now)),
                },
            );
        }
        self.seen = seen;
    }

    /// The latest time at which the segment's newest record can have been written; `None` before it was seen sealed.
    fn written_by(&self, segment: &SegmentInfo) -> Option<Timestamp> {
        let sealed = self.seen.get(&segment.base_offset)?.sealed?;
        // Records without a timestamp carry -1, segments without dated records less.
        if segment.max_timestamp_ms < 0 {
            return Some(sealed);
        }
        Some(sealed.min(Timestamp(segment.max_timestamp_ms)))
    }
}

/// The log start that retention asks for: the end of the last segment of the longest run, from the oldest on, in which
/// each is sealed, committed, and too old or too much. `None` when nothing may leave.
///
/// `segments` are those of one log from oldest to newest, as last observed by `ages`.
pub fn new_log_start(
    segments: &[SegmentInfo],
    ages: &SegmentAges,
    config: &TopicConfig,
    now: Timestamp,
    log_start: Offset,
    high_watermark: Offset,
) -> Option<Offset> {
    let live = |segment: &&SegmentInfo| segment.next_offset > log_start;
    let mut bytes_kept: u64 = segments
        .iter()
        .filter(live)
        .map(|segment| segment.bytes)
        .sum();
    let mut end = None;
    for segment in segments.iter().filter(live) {
        let may_leave = segment.sealed && segment.next_offset <= high_watermark;
        let too_old = config.retention_ms.is_some_and(|limit_ms| {
            ages.written_by(segment)
                .is_some_and(|written| older(written, now, limit_ms))
        });
        let without = bytes_kept - segment.bytes;
        let too_much = config.retention_bytes.is_some_and(|limit| without >= limit);
        if !may_leave || !(too_old || too_much) {
            break;
        }
        bytes_kept = without;
        end = Some(segment.next_offset);
    }
    end
}

/// Whether the active segment should end now, so that retention can reach its records: it was open for `segment.ms`, or
/// all it holds is past `retention.ms`.
pub fn should_roll(
    segments: &[SegmentInfo],
    ages: &SegmentAges,
    config: &TopicConfig,
    now: Timestamp,
) -> bool {
    let Some(active) = segments
        .last()
        .filter(|last| !last.sealed && has_records(last))
    else {
        return false;
    };
    let open_too_long = ages
        .seen
        .get(&active.base_offset)
        .is_some_and(|seen| older(seen.with_records, now, config.segment_ms));
    let expired = active.max_timestamp_ms >= 0
        && config
            .retention_ms
            .is_some_and(|limit_ms| older(Timestamp(active.max_timestamp_ms), now, limit_ms));
    open_too_long || expired
}

fn has_records(segment: &SegmentInfo) -> bool {
    segment.next_offset > segment.base_offset
}

fn older(than: Timestamp, now: Timestamp, limit_ms: u64) -> bool {
    u64::try_from(now.0.saturating_sub(than.0)).is_ok_and(|age| age > limit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::testing::config;

    const NOW: Timestamp = Timestamp(1_000_000);

    /// Ten records in a hundred bytes each, numbered from 0; the last one is active.
    fn segments(max_timestamps_ms: &[i64]) -> Vec<SegmentInfo> {
        let last = max_timestamps_ms.len() - 1;
        let segment = |(number, max_timestamp_ms): (usize, &i64)| SegmentInfo {
            base_offset: Offset(number as u64 * 10),
            next_offset: Offset(number as u64 * 10 + 10),
            bytes: 100,
            max_timestamp_ms: *max_timestamp_ms,
            sealed: number != last,
        };
        max_timestamps_ms.iter().enumerate().map(segment).collect()
    }

    fn start(
        segments: &[SegmentInfo],
        config: &TopicConfig,
        high_watermark: u64,
    ) -> Option<Offset> {
        let mut ages = SegmentAges::default();
        ages.observe(segments, NOW);
        new_log_start(
            segments,
            &ages,
            config,
            NOW,
            Offset(0),
            Offset(high_watermark),
        )
    }

    #[test]
    fn sealed_segments_leave_when_their_newest_record_is_too_old() {
        let config = TopicConfig {
            retention_ms: Some(1_000),
            ..config()
        };
        let old = NOW.0 - 1_001;
        assert_eq!(
            start(&segments(&[old, old, old]), &config, 30),
            Some(Offset(20))
        );
        assert_eq!(
            start(&segments(&[old, NOW.0 - 1_000, old]), &config, 30),
            Some(Offset(10))
        );
        assert_eq!(start(&segments(&[NOW.0, old, old]), &config, 30), None);
        assert_eq!(
            start(&segments(&[old]), &config, 10),
            None,
            "the active one stays"
        );
    }

    #[test]
    fn nothing_leaves_that_is_not_committed() {
        let config = TopicConfig {
            retention_ms: Some(0),
            retention_bytes: Some(0),
            ..config()
        };
        assert_eq!(start(&segments(&[0, 0, 0]), &config, 19), Some(Offset(10)));
        assert_eq!(start(&segments(&[0, 0, 0]), &config, 9), None);
    }

    #[test]
    fn the_oldest_leave_while_the_rest_holds_enough() {
        let of = |bytes| TopicConfig {
            retention_ms: None,
            retention_bytes: Some(bytes),
            ..config()
        };
        let four = segments(&[NOW.0; 4]);
        assert_eq!(start(&four, &of(400), 40), None);
        assert_eq!(start(&four, &of(301), 40), None);
        assert_eq!(start(&four, &of(300), 40), Some(Offset(10)));
        assert_eq!(start(&four, &of(150), 40), Some(Offset(20)));
        assert_eq!(start(&four, &of(0), 40), Some(Offset(30)));
    }

    #[test]
    fn what_was_trimmed_is_not_counted_again() {
        let config = TopicConfig {
            retention_ms: None,
            retention_bytes: Some(200),
            ..config()
        };
        let three = segments(&[NOW.0; 3]);
        let mut ages = SegmentAges::default();
        ages.observe(&three, NOW);
        let from = |start| new_log_start(&three, &ages, &config, NOW, Offset(start), Offset(30));
        assert_eq!(from(0), Some(Offset(10)));
        assert_eq!(from(10), None);
        assert_eq!(from(5), Some(Offset(10)));
    }

    #[test]
    fn records_dated_in_the_future_age_from_the_time_they_were_seen_sealed() {
        let config = TopicConfig {
            retention_ms: Some(1_000),
            ..config()
        };
        for dated in [i64::MAX, -1, i64::MIN] {
            let segments = segments(&[dated, dated]);
            let mut ages = SegmentAges::default();
            ages.observe(&segments, NOW);
            let at = |now_ms| {
                let now = Timestamp(now_ms);
                new_log_start(&segments, &ages, &config, now, Offset(0), Offset(20))
            };
            assert_eq!(at(NOW.0 + 1_000), None);
            assert_eq!(at(NOW.0 + 1_001), Some(Offset(10)));
        }
    }

    #[test]
    fn the_active_segment_ends_after_its_time_or_with_its_records() {
        let config = TopicConfig {
            segment_ms: 500,
            retention_ms: Some(5_000),
            ..config()
        };
        let one = segments(&[NOW.0 - 4_800]);
        let mut ages = SegmentAges::default();
        ages.observe(&one, NOW);
        let at = |now_ms, config: &TopicConfig| should_roll(&one, &ages, config, Timestamp(now_ms));
        assert!(!at(
            NOW.0 + 500,
            &TopicConfig {
                retention_ms: None,
                ..config.clone()
            }
        ));
        assert!(at(
            NOW.0 + 501,
            &TopicConfig {
                retention_ms: None,
                ..config.clone()
            }
        ));
        assert!(!at(NOW.0 + 200, &config));
        assert!(at(NOW.0 + 201, &config));
    }

    #[test]
    fn an_empty_active_segment_does_not_end() {
        let mut one = segments(&[0]);
        one[0].next_offset = one[0].base_offset;
        let mut ages = SegmentAges::default();
        ages.observe(&one, Timestamp(0));
        assert!(!should_roll(&one, &ages, &config(), Timestamp(i64::MAX)));
    }

    #[test]
    fn the_time_of_first_sight_stays() {
        let two = segments(&[i64::MAX, i64::MAX]);
        let mut ages = SegmentAges::default();
        ages.observe(&two, NOW);
        let before = ages.clone();
        ages.observe(&two, Timestamp(NOW.0 + 77));
        assert_eq!(ages, before);
        ages.observe(&two[1..], NOW);
        assert_eq!(ages.seen.len(), 1);
    }
}
