//! What a benchmark answers: the arithmetic, and how it looks to people and to programs.

use serde::Serialize;

use super::latencies::{Percentiles, human_microseconds};
use super::observer::Observed;
use super::probe::Limits;
use super::tally::Tally;
use super::topic::Topic;
use super::window::Window;
use crate::failure::Failure;
use crate::quantity::{counted, human_bytes};
use crate::table::{Summary, Table};

/// The answer of `bench produce`, `consume` and `latency`, as JSON: docs/benchmarks.md explains each field.
#[derive(Debug, Serialize)]
pub(crate) struct Report<P> {
    pub(crate) records_per_second: f64,
    pub(crate) megabytes_per_second: f64,
    pub(crate) latency_us: Option<Percentiles>,
    pub(crate) broker_cpu_seconds_per_gb: Option<f64>,
    pub(crate) broker_memory_bytes: Option<u64>,
    pub(crate) broker_mapped_bytes: Option<u64>,
    pub(crate) limits: Option<Limits>,
    pub(crate) limit_ratio: Option<LimitRatio>,
    pub(crate) errors: u64,
    pub(crate) unsent: u64,
    #[serde(skip)]
    pub(crate) first_error: Option<String>,
    #[serde(flatten)]
    pub(crate) parameters: P,
}

/// What was run, as JSON, with the options `O` of the workload.
#[derive(Debug, Serialize)]
pub(crate) struct Parameters<'a, O> {
    pub(crate) workload: &'static str,
    pub(crate) topic: &'a str,
    pub(crate) partitions: u32,
    #[serde(flatten)]
    pub(crate) options: &'a O,
}

impl<'a, O> Parameters<'a, O> {
    /// Those of `workload` on `topic`.
    pub(crate) fn new(workload: &'static str, topic: &'a Topic, options: &'a O) -> Self {
        Self {
            workload,
            topic: &topic.name,
            partitions: topic.partitions,
            options,
        }
    }
}

/// How near a figure is to what bounds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LimitRatio {
    /// Name of the limit, as in `limits`.
    pub(crate) limit: &'static str,
    /// The figure divided by the limit.
    pub(crate) ratio: f64,
    /// The same in words.
    #[serde(skip)]
    pub(crate) words: String,
}

/// What a workload is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// 64 KiB overwritten and synced, again and again: for what is acknowledged from disk.
    OverwriteSync,
    /// A growing file, synced at the end: for what is acknowledged from memory.
    SequentialWrite,
    /// A sync and a round trip: for one record at a time.
    SyncAndRoundTrip,
    /// Nothing of the disk's.
    None,
}

impl<P> Report<P> {
    /// Puts together what was counted and seen.
    pub(crate) fn new(
        window: Window,
        tally: Tally,
        observed: Observed,
        limits: Option<Limits>,
        bound: Bound,
        parameters: P,
    ) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "three decimals are kept")]
        let (records, bytes) = (tally.records as f64, tally.bytes as f64);
        let seconds = window.duration().as_secs_f64().max(1e-9);
        let megabytes_per_second = rounded(bytes / 1e6 / seconds);
        let latency_us = tally.latencies.percentiles();
        let cpu = observed.cpu_seconds.filter(|_| tally.bytes > 0);
        Self {
            records_per_second: rounded(records / seconds),
            megabytes_per_second,
            latency_us,
            broker_cpu_seconds_per_gb: cpu.map(|cpu| rounded(cpu / (bytes / 1e9))),
            broker_memory_bytes: observed.memory_bytes,
            broker_mapped_bytes: observed.mapped_bytes,
            limit_ratio: limits
                .and_then(|limits| bound.ratio(&limits, megabytes_per_second, latency_us)),
            limits,
            errors: tally.errors,
            unsent: tally.unsent,
            first_error: tally.first_error,
            parameters,
        }
    }
}

impl<P> Report<P> {
    /// The failure that errors are.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match &self.first_error {
            None => Ok(()),
            Some(first) => Err(Failure::new(
                format!(
                    "{} failed, the first of them",
                    counted(self.errors, "record")
                ),
                first,
            )),
        }
    }
}

impl Report<()> {
    /// The same with parameters.
    pub(crate) fn with<P>(self, parameters: P) -> Report<P> {
        Report {
            records_per_second: self.records_per_second,
            megabytes_per_second: self.megabytes_per_second,
            latency_us: self.latency_us,
            broker_cpu_seconds_per_gb: self.broker_cpu_seconds_per_gb,
            broker_memory_bytes: self.broker_memory_bytes,
            broker_mapped_bytes: self.broker_mapped_bytes,
            limits: self.limits,
            limit_ratio: self.limit_ratio,
            errors: self.errors,
            unsent: self.unsent,
            first_error: self.first_error,
            parameters,
        }
    }
}

impl<P> Report<P> {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut summary = Summary::default();
        summary
            .line("RECORDS/S", format!("{:.0}", self.records_per_second))
            .line("MB/S", format!("{:.1}", self.megabytes_per_second));
        if let Some(cpu) = self.broker_cpu_seconds_per_gb {
            summary.line("BROKER CPU", format!("{cpu:.2} s/GB"));
        }
        if let Some(bytes) = self.broker_memory_bytes {
            let mapped = human_bytes(self.broker_mapped_bytes.unwrap_or_default());
            let memory = human_bytes(bytes);
            summary.line(
                "BROKER MEMORY",
                format!("{memory}, and {mapped} of mapped files"),
            );
        }
        if let Some(ratio) = &self.limit_ratio {
            summary.line("BOUND", &ratio.words);
        }
        summary.line("ERRORS", self.errors);
        if self.unsent > 0 {
            let unsent = counted(self.unsent, "record");
            summary.line(
                "NOT SUSTAINED",
                format!("{unsent} could not be sent in time"),
            );
        }
        match self.latency_us {
            None => summary.to_string(),
            Some(latency) => format!("{summary}\n{}", latency_table(latency)),
        }
    }
}

/// One row of percentiles.
fn latency_table(latency: Percentiles) -> Table {
    let mut table = Table::new(["LATENCY", "P50", "P90", "P99", "P99.9", "P99.99", "MAX"]);
    let [p50, p90, p99, p999, p9999, max] = [
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.p9999,
        latency.max,
    ]
    .map(human_microseconds);
    table.row([&"", &p50, &p90, &p99, &p999, &p9999, &max]);
    table
}

impl Bound {
    fn ratio(
        self,
        limits: &Limits,
        megabytes_per_second: f64,
        latency: Option<Percentiles>,
    ) -> Option<LimitRatio> {
        let of_rate = |limit, limit_mb_s: f64, name: &str| {
            let ratio = rounded(megabytes_per_second / limit_mb_s);
            let words = format!("{ratio:.2} of {name} ({limit_mb_s:.0} MB/s)");
            Some(LimitRatio {
                limit,
                ratio,
                words,
            })
        };
        match self {
            Self::OverwriteSync => of_rate(
                "overwrite_sync_64k_mb_s",
                limits.overwrite_sync_64k_mb_s,
                "the disk's 64 KiB overwrite limit",
            ),
            Self::SequentialWrite => of_rate(
                "sequential_write_mb_s",
                limits.sequential_write_mb_s,
                "the disk's sequential write limit",
            ),
            Self::SyncAndRoundTrip => {
                let p50 = latency?.p50;
                let (sync, trip) = (limits.sync_4k_us_p50, limits.loopback_rtt_us_p50);
                Some(LimitRatio {
                    limit: "sync_4k_us_p50 + loopback_rtt_us_p50",
                    ratio: rounded(p50 / (sync + trip)),
                    words: format!(
                        "p50 is {:.0} us more than a sync ({sync:.0} us) and a round trip ({trip:.0} us)",
                        p50 - sync - trip
                    ),
                })
            }
            Self::None => None,
        }
    }
}

/// Three decimals: more would be noise.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests;
