//! What can be told per topic, on a page of its own: it has as many lines as there are topics.

use std::collections::BTreeMap;

use prometheus::{IntCounterVec, IntGaugeVec};

use super::catalog::Catalog;
use crate::hosted::HostedPartitions;

/// The metrics of one page.
struct Topics {
    partitions: IntGaugeVec,
    log_bytes: IntGaugeVec,
    records: IntCounterVec,
    held: IntGaugeVec,
}

impl Topics {
    fn new(catalog: &mut Catalog) -> Self {
        catalog.section("Topics");
        Self {
            partitions: catalog.gauges(
                "highwater_topic_partitions",
                "Partitions of the topic on this broker",
                &["topic"],
            ),
            log_bytes: catalog.gauges(
                "highwater_topic_log_bytes",
                "Bytes of the topic's logs on this broker",
                &["topic"],
            ),
            records: catalog.counters(
                "highwater_topic_records_total",
                "Records that were ever committed to the topic's partitions on this broker: the sum of their high watermarks",
                &["topic"],
            ),
            held: catalog.gauges(
                "highwater_topic_records",
                "Records that the topic's partitions on this broker hold: high watermarks less log starts",
                &["topic"],
            ),
        }
    }
}

#[derive(Default)]
struct Sums {
    partitions: i64,
    log_bytes: u64,
    records: u64,
    held: u64,
}

/// The page, made from what the partitions show their readers. Blocks shortly.
pub(crate) fn render(partitions: &HostedPartitions) -> String {
    let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
    for partition in partitions.iter() {
        let sum = sums.entry(&partition.topic.name).or_default();
        let segments = partition.reader.segments();
        // The log start first: it never passes a high watermark that is read later.
        let log_start = partition.shared.log_start().0;
        let high_watermark = partition.shared.high_watermark().0;
        sum.partitions += 1;
        sum.log_bytes += segments.iter().map(|segment| segment.bytes).sum::<u64>();
        sum.records += high_watermark;
        sum.held += high_watermark - log_start;
    }
    let mut catalog = Catalog::default();
    let topics = Topics::new(&mut catalog);
    let level = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    for (name, sum) in sums {
        let labels = &[name];
        topics
            .partitions
            .with_label_values(labels)
            .set(sum.partitions);
        let log_bytes = topics.log_bytes.with_label_values(labels);
        log_bytes.set(level(sum.log_bytes));
        topics.records.with_label_values(labels).inc_by(sum.records);
        topics.held.with_label_values(labels).set(level(sum.held));
    }
    catalog.render()
}

/// What the page may hold.
#[cfg(test)]
pub(super) fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    Topics::new(&mut catalog);
    catalog
}
