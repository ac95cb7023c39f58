//! How far consumer groups are behind, on a page of its own: it has as many lines as groups have partitions.

use std::collections::BTreeMap;

use prometheus::{GaugeVec, IntGaugeVec};

use super::catalog::Catalog;

/// Partitions of groups that have lines of their own. With more, only topics and groups have.
const MAX_PARTITIONS: usize = 10_000;

/// How far a group is behind in one partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PartitionLag {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// Records that are not committed yet.
    pub(crate) records: u64,
    /// How old the oldest of them is, 0 where there is none; `None`: it has no timestamp, or cannot be read.
    pub(crate) seconds: Option<f64>,
}

/// Records and seconds, with the same labels.
struct Lag {
    records: IntGaugeVec,
    seconds: GaugeVec,
}

impl Lag {
    fn set(&self, labels: &[&str], sum: &Sum) {
        let records = i64::try_from(sum.records).unwrap_or(i64::MAX);
        self.records.with_label_values(labels).set(records);
        if let Some(seconds) = sum.seconds {
            self.seconds.with_label_values(labels).set(seconds);
        }
    }
}

/// The metrics of the page.
struct Groups {
    group: Lag,
    topic: Lag,
    partition: Lag,
}

impl Groups {
    fn new(catalog: &mut Catalog) -> Self {
        catalog.section("Lag of consumer groups");
        Self {
            group: Lag {
                records: catalog.gauges(
                    "highwater_group_lag_records",
                    "Records that the group has not committed yet, in the partitions that it committed to and that have leaders",
                    &["group"],
                ),
                seconds: catalog.real_gauges(
                    "highwater_group_lag_seconds",
                    "How old the oldest of those records is by its timestamp; 0 where there is none. Absent where none has a timestamp",
                    &["group"],
                ),
            },
            topic: Lag {
                records: catalog.gauges(
                    "highwater_group_topic_lag_records",
                    "The same, of one topic",
                    &["group", "topic"],
                ),
                seconds: catalog.real_gauges(
                    "highwater_group_topic_lag_seconds",
                    "The same, of one topic",
                    &["group", "topic"],
                ),
            },
            partition: Lag {
                records: catalog.gauges(
                    "highwater_group_partition_lag_records",
                    "The same, of one partition. Absent where the groups of this page have more than 10,000 partitions together",
                    &["group", "topic", "partition"],
                ),
                seconds: catalog.real_gauges(
                    "highwater_group_partition_lag_seconds",
                    "The same, of one partition. Absent likewise",
                    &["group", "topic", "partition"],
                ),
            },
        }
    }
}

/// Lags together.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    records: u64,
    seconds: Option<f64>,
}

impl Sum {
    fn add(&mut self, lag: &PartitionLag) {
        self.records = self.records.saturating_add(lag.records);
        self.seconds = match (self.seconds, lag.seconds) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
    }
}

/// The page.
pub(crate) fn render(lags: &[PartitionLag]) -> String {
    let mut catalog = Catalog::default();
    let groups = Groups::new(&mut catalog);
    let mut of_groups: BTreeMap<&str, Sum> = BTreeMap::new();
    let mut of_topics: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for lag in lags {
        of_groups.entry(&lag.group).or_default().add(lag);
        let of_topic = of_topics.entry((&lag.group, &lag.topic)).or_default();
        of_topic.add(lag);
        if lags.len() <= MAX_PARTITIONS {
            let mut of_partition = Sum::default();
            of_partition.add(lag);
            let partition = lag.partition.to_string();
            let labels = [&lag.group[..], &lag.topic, &partition];
            groups.partition.set(&labels, &of_partition);
        }
    }
    for (group, sum) in of_groups {
        groups.group.set(&[group], &sum);
    }
    for ((group, topic), sum) in of_topics {
        groups.topic.set(&[group, topic], &sum);
    }
    catalog.render()
}

/// What the page may hold.
#[cfg(test)]
pub(super) fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    Groups::new(&mut catalog);
    catalog
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(topic: &str, partition: u32, records: u64, seconds: Option<f64>) -> PartitionLag {
        PartitionLag {
            group: "g".to_owned(),
            topic: topic.to_owned(),
            partition,
            records,
            seconds,
        }
    }

    #[test]
    fn lags_add_up_and_the_longest_time_counts() {
        let page = render(&[
            lag("t", 0, 3, Some(1.5)),
            lag("t", 1, 4, None),
            lag("u", 0, 0, Some(0.0)),
        ]);
        for line in [
            "highwater_group_lag_records{group=\"g\"} 7",
            "highwater_group_lag_seconds{group=\"g\"} 1.5",
            "highwater_group_topic_lag_records{group=\"g\",topic=\"t\"} 7",
            "highwater_group_topic_lag_seconds{group=\"g\",topic=\"u\"} 0",
            "highwater_group_partition_lag_records{group=\"g\",partition=\"1\",topic=\"t\"} 4",
            "highwater_group_partition_lag_seconds{group=\"g\",partition=\"0\",topic=\"t\"} 1.5",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
        let timeless = "highwater_group_partition_lag_seconds{group=\"g\",partition=\"1\"";
        assert!(!page.contains(timeless), "{page}");
    }

    #[test]
    fn too_many_partitions_have_no_lines_of_their_own() {
        let most = u32::try_from(MAX_PARTITIONS).unwrap();
        let lags: Vec<_> = (0..=most).map(|number| lag("t", number, 1, None)).collect();
        let page = render(&lags);
        assert!(
            page.contains("highwater_group_lag_records{group=\"g\"} 10001"),
            "no sum"
        );
        assert!(!page.contains("highwater_group_partition_lag_records{"));
    }
}
