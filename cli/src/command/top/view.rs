//! What is shown of a cluster: how it is, and from two moments how fast it moves.
//!
//! Rates are of what became visible between the two: records by the movement of high watermarks, bytes by the growth of
//! logs, progress of groups by their committed offsets. What shrank, was not there before, or was not said counts as
//! no movement; a topic that was made in between began with nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::sample::{Group, Partition, Sample, Topic};

/// The cluster, as JSON. All lists are by name or id.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct View {
    /// Over which rates are taken.
    pub(super) interval_ms: u64,
    pub(super) brokers: Vec<BrokerView>,
    pub(super) topics: Vec<TopicView>,
    pub(super) groups: Vec<GroupView>,
}

/// A broker, as JSON.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct BrokerView {
    pub(super) broker: u32,
    pub(super) alive: bool,
    pub(super) leaders: u64,
    pub(super) replicas: u64,
}

/// A topic, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct TopicView {
    pub(super) topic: String,
    pub(super) partitions: u64,
    /// Partitions that nobody leads.
    pub(super) leaderless: u64,
    pub(super) records_per_second: u64,
    pub(super) bytes_per_second: u64,
    /// Records that its partitions hold together.
    pub(super) records: u64,
}

/// A group, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct GroupView {
    pub(super) group: String,
    pub(super) state: &'static str,
    pub(super) members: u32,
    /// Records that are not committed yet; null where that is known of no partition.
    pub(super) lag: Option<u64>,
    pub(super) records_per_second: u64,
}

/// Compares two moments that are `elapsed` apart.
pub(super) fn compare(before: &Sample, after: &Sample, elapsed: Duration) -> View {
    View {
        interval_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        brokers: brokers(after),
        topics: topics(before, after, elapsed),
        groups: groups(before, after, elapsed),
    }
}

fn brokers(after: &Sample) -> Vec<BrokerView> {
    let mut leaders: BTreeMap<u32, u64> = BTreeMap::new();
    let mut replicas: BTreeMap<u32, u64> = BTreeMap::new();
    for partition in after.topics.iter().flat_map(|topic| &topic.partitions) {
        if let Some(leader) = partition.leader {
            *leaders.entry(leader).or_default() += 1;
        }
        for &broker in &partition.replicas {
            *replicas.entry(broker).or_default() += 1;
        }
    }
    let of = |counts: &BTreeMap<u32, u64>, id| counts.get(&id).copied().unwrap_or_default();
    let view = |broker: &super::sample::Broker| BrokerView {
        broker: broker.id,
        alive: broker.is_up,
        leaders: of(&leaders, broker.id),
        replicas: of(&replicas, broker.id),
    };
    after.brokers.iter().map(view).collect()
}

fn topics(before: &Sample, after: &Sample, elapsed: Duration) -> Vec<TopicView> {
    let known: BTreeMap<&[u8], &Topic> = before
        .topics
        .iter()
        .map(|topic| (topic.id.as_slice(), topic))
        .collect();
    let view = |topic: &Topic| {
        let earlier = known.get(topic.id.as_slice());
        let (mut records, mut bytes, mut held) = (0, 0, 0);
        for partition in &topic.partitions {
            let Some(log) = partition.log else { continue };
            held += log.high_watermark.saturating_sub(log.start);
            let was = match earlier {
                None => Some((0, 0)),
                Some(topic) => topic.partition(partition.number).and_then(position),
            };
            if let Some((was_high_watermark, was_bytes)) = was {
                records += log.high_watermark.saturating_sub(was_high_watermark);
                bytes += log.bytes.saturating_sub(was_bytes);
            }
        }
        let leaderless = topic.partitions.iter().filter(|each| each.leader.is_none());
        TopicView {
            topic: topic.name.clone(),
            partitions: topic.partitions.len() as u64,
            leaderless: leaderless.count() as u64,
            records_per_second: per_second(records, elapsed),
            bytes_per_second: per_second(bytes, elapsed),
            records: held,
        }
    };
    after.topics.iter().map(view).collect()
}

fn position(partition: &Partition) -> Option<(u64, u64)> {
    let log = partition.log?;
    Some((log.high_watermark, log.bytes))
}

fn groups(before: &Sample, after: &Sample, elapsed: Duration) -> Vec<GroupView> {
    let known: BTreeMap<&str, &Group> = before
        .groups
        .iter()
        .map(|group| (group.id.as_str(), group))
        .collect();
    let view = |group: &Group| {
        let earlier = known.get(group.id.as_str());
        let (mut lag, mut records) = (None, 0);
        for (place, &committed) in &group.committed {
            if let Some(end) = after.high_watermark(&place.0, place.1) {
                *lag.get_or_insert(0) += end.saturating_sub(committed);
            }
            if let Some(was) = earlier.and_then(|group| group.committed.get(place)) {
                records += committed.saturating_sub(*was);
            }
        }
        GroupView {
            group: group.id.clone(),
            state: group.state,
            members: group.members,
            lag,
            records_per_second: per_second(records, elapsed),
        }
    };
    after.groups.iter().map(view).collect()
}

/// The rate in a second, rounded; nothing where no time has passed.
fn per_second(count: u64, elapsed: Duration) -> u64 {
    let nanoseconds = elapsed.as_nanos();
    if nanoseconds == 0 {
        return 0;
    }
    let rate = (u128::from(count) * 1_000_000_000 + nanoseconds / 2) / nanoseconds;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Broker, Log};
    use super::*;

    const SECONDS: Duration = Duration::from_secs(2);

    fn partition(number: u32, leader: Option<u32>, start: u64, end: u64, bytes: u64) -> Partition {
        Partition {
            number,
            leader,
            replicas: vec![1, 2],
            log: leader.map(|_| Log {
                start,
                high_watermark: end,
                bytes,
            }),
        }
    }

    fn topic(name: &str, id: u8, partitions: Vec<Partition>) -> Topic {
        Topic {
            name: name.into(),
            id: vec![id],
            partitions,
        }
    }

    fn group(committed: &[(&str, u32, u64)]) -> Group {
        let committed = committed.iter();
        let place = |&(topic, partition, offset): &(&str, u32, u64)| {
            ((topic.to_owned(), partition), offset)
        };
        Group {
            id: "g".into(),
            state: "stable",
            members: 2,
            committed: committed.map(place).collect(),
        }
    }

    fn sample(topics: Vec<Topic>, groups: Vec<Group>) -> Sample {
        Sample {
            brokers: vec![
                Broker { id: 1, is_up: true },
                Broker {
                    id: 2,
                    is_up: false,
                },
            ],
            topics,
            groups,
        }
    }

    fn topics(before: Vec<Topic>, after: Vec<Topic>) -> Vec<TopicView> {
        let (before, after) = (sample(before, Vec::new()), sample(after, Vec::new()));
        compare(&before, &after, SECONDS).topics
    }

    #[test]
    fn a_topic_is_as_fast_as_its_partitions_together() {
        let before = vec![
            partition(0, Some(1), 0, 10, 100),
            partition(1, Some(2), 5, 20, 200),
        ];
        let after = vec![
            partition(0, Some(1), 0, 16, 700),
            partition(1, Some(2), 15, 25, 150),
        ];
        let seen = topics(vec![topic("t", 1, before)], vec![topic("t", 1, after)]);
        let expected = TopicView {
            topic: "t".into(),
            partitions: 2,
            leaderless: 0,
            // 6 and 5 records, 600 bytes and what was trimmed.
            records_per_second: 6,
            bytes_per_second: 300,
            records: 26,
        };
        assert_eq!(seen, [expected]);
    }

    #[test]
    fn what_nobody_leads_does_not_move() {
        let known = |leader| vec![topic("t", 1, vec![partition(0, leader, 0, 10, 9)])];
        let lost = topics(known(Some(1)), known(None));
        assert_eq!((lost[0].leaderless, lost[0].records_per_second), (1, 0));
        let back = topics(known(None), known(Some(1)));
        assert_eq!((back[0].records_per_second, back[0].records), (0, 10));
    }

    #[test]
    fn a_topic_that_was_made_again_began_with_nothing() {
        let before = vec![topic("t", 1, vec![partition(0, Some(1), 0, 1_000, 9)])];
        let after = vec![topic("t", 2, vec![partition(0, Some(1), 0, 10, 8)])];
        assert_eq!(topics(before, after)[0].records_per_second, 5);
    }

    #[test]
    fn brokers_are_counted_by_what_they_lead_and_hold() {
        let partitions = vec![partition(0, Some(1), 0, 0, 0), partition(1, None, 0, 0, 0)];
        let now = sample(vec![topic("t", 1, partitions)], Vec::new());
        let seen = compare(&now, &now, SECONDS).brokers;
        let counts: Vec<_> = seen
            .iter()
            .map(|broker| (broker.broker, broker.alive, broker.leaders, broker.replicas))
            .collect();
        assert_eq!(counts, [(1, true, 1, 2), (2, false, 0, 2)]);
    }

    #[test]
    fn lag_is_of_the_partitions_whose_end_is_known_and_never_negative() {
        let partitions = vec![
            partition(0, Some(1), 0, 10, 0),
            partition(1, Some(1), 0, 10, 0),
            partition(2, None, 0, 0, 0),
        ];
        let topics = vec![topic("t", 1, partitions)];
        let seen = |before: &[_], after: &[_]| {
            let before = sample(topics.clone(), vec![group(before)]);
            let after = sample(topics.clone(), vec![group(after)]);
            let view = compare(&before, &after, SECONDS);
            (view.groups[0].lag, view.groups[0].records_per_second)
        };
        let before = [("t", 0, 2), ("t", 1, 12)];
        let after = [("t", 0, 6), ("t", 1, 12), ("t", 2, 5), ("gone", 0, 3)];
        assert_eq!(seen(&before, &after), (Some(4), 2));
        assert_eq!(seen(&[], &[("t", 2, 5)]), (None, 0));
        // Set back.
        assert_eq!(seen(&after, &before), (Some(8), 0));
    }

    #[test]
    fn rates_are_rounded_and_need_time() {
        assert_eq!(per_second(3, Duration::from_secs(2)), 2);
        assert_eq!(per_second(5, Duration::ZERO), 0);
        assert_eq!(per_second(u64::MAX, Duration::from_nanos(1)), u64::MAX);
    }
}
