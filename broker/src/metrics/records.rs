//! Records in and out.

use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use super::buckets::SECONDS;
use super::catalog::Catalog;

/// Throughput and the time to acknowledge.
#[derive(Debug)]
pub(crate) struct Records {
    produced_batches: IntCounter,
    produced_records: IntCounter,
    produced_bytes: IntCounter,
    acknowledged: Histogram,
    fetched_records: IntCounter,
    fetched_bytes: IntCounter,
}

impl Records {
    pub(super) fn new(catalog: &mut Catalog) -> Self {
        catalog.section("Throughput");
        Self {
            produced_batches: catalog.counter(
                "highwater_produced_batches_total",
                "Record batches handed to their partitions. Refusals later on are in highwater_request_errors_total",
            ),
            produced_records: catalog.counter(
                "highwater_produced_records_total",
                "Records in those batches",
            ),
            produced_bytes: catalog.counter(
                "highwater_produced_bytes_total",
                "Bytes of those batches, compressed as they were sent",
            ),
            acknowledged: catalog.histogram(
                "highwater_produce_acknowledgement_seconds",
                "Time from the arrival of a batch to its outcome, on streams and in requests: what a producer waits, \
                 without the network",
                SECONDS,
            ),
            fetched_records: catalog.counter(
                "highwater_fetched_records_total",
                "Records in answers to fetches and subscriptions",
            ),
            fetched_bytes: catalog.counter(
                "highwater_fetched_bytes_total",
                "Bytes of those records: batches as stored, or decoded where the client asked for that",
            ),
        }
    }

    /// A batch goes to its partition.
    pub(crate) fn produced(&self, records: u32, bytes: usize) {
        self.produced_batches.inc();
        self.produced_records.inc_by(u64::from(records));
        self.produced_bytes.inc_by(bytes as u64);
    }

    /// The outcome of a batch is known.
    pub(crate) fn acknowledged(&self, after: Duration) {
        self.acknowledged.observe(after.as_secs_f64());
    }

    /// Records go to a client.
    pub(crate) fn fetched(&self, records: u64, bytes: u64) {
        self.fetched_records.inc_by(records);
        self.fetched_bytes.inc_by(bytes);
    }
}
