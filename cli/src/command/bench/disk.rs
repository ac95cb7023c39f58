//! `highwater bench disk`: the limits of this machine, to compare a broker's figures with.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::amount::{Size, Time};
use super::latencies::{Percentiles, human_microseconds};
use super::probe::{self, Limits, Measured};
use super::session::unless_interrupted;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupts::Interrupts;
use crate::quantity::human_bytes;
use crate::table::{Summary, Table};

/// Options of `highwater bench disk`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Measure the disk under this directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_dir: PathBuf,

    #[command(flatten)]
    probe: probe::Options,
}

/// The limits, as JSON.
#[derive(Debug, Serialize)]
struct Report {
    limits: Limits,
    overwrite_sync: Vec<SyncReport>,
    loopback_rtt_us: Option<Percentiles>,
    data_dir: PathBuf,
    probe_time: Time,
    probe_size: Size,
}

/// Overwrites of one size, as JSON.
#[derive(Debug, Serialize)]
struct SyncReport {
    bytes: usize,
    syncs_per_second: f64,
    megabytes_per_second: f64,
    /// Of the sync alone, without the write before it.
    sync_us: Option<Percentiles>,
}

/// Measures and prints.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    let probing = probe::run(&options.data_dir, &options.probe);
    let measured = unless_interrupted(&mut interrupts, context, probing).await?;
    let report = Report::new(&measured, options);
    context.answer(|| text(&report), || &report)
}

impl Report {
    fn new(measured: &Measured, options: Options) -> Self {
        let overwrite_sync = measured.syncs.iter().map(|rate| SyncReport {
            bytes: rate.bytes,
            syncs_per_second: rate.per_second().round(),
            megabytes_per_second: rate.megabytes_per_second(),
            sync_us: rate.latencies.percentiles(),
        });
        Self {
            limits: measured.limits(),
            overwrite_sync: overwrite_sync.collect(),
            loopback_rtt_us: measured.round_trips.percentiles(),
            data_dir: options.data_dir,
            probe_time: options.probe.probe_time,
            probe_size: options.probe.probe_size,
        }
    }
}

fn text(report: &Report) -> String {
    let mut syncs = Table::new([
        "OVERWRITE AND SYNC",
        "PER SECOND",
        "MB/S",
        "SYNC P50",
        "P99",
        "MAX",
    ]);
    for sync in &report.overwrite_sync {
        let [p50, p99, max] = columns(sync.sync_us);
        let megabytes = format!("{:.1}", sync.megabytes_per_second);
        let size = human_bytes(sync.bytes as u64);
        syncs.row([&size, &sync.syncs_per_second, &megabytes, &p50, &p99, &max]);
    }
    let limits = &report.limits;
    let size = human_bytes(report.probe_size.0);
    let [p50, p99, _] = columns(report.loopback_rtt_us);
    let mut others = Summary::default();
    others
        .line(
            "SEQUENTIAL WRITE",
            format!(
                "{:.0} MB/s ({size}, synced at the end)",
                limits.sequential_write_mb_s
            ),
        )
        .line(
            "SEQUENTIAL READ",
            format!(
                "{:.0} MB/s (the same, dropped from the page cache)",
                limits.sequential_read_mb_s
            ),
        )
        .line(
            "LOOPBACK ROUND TRIP",
            format!("p50 {p50}, p99 {p99} (100 bytes over TCP)"),
        );
    format!("{syncs}\n{others}")
}

fn columns(latencies: Option<Percentiles>) -> [String; 3] {
    match latencies {
        Some(found) => [found.p50, found.p99, found.max].map(human_microseconds),
        None => Default::default(),
    }
}
