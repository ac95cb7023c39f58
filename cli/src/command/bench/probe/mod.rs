//! What this machine can do at most: the yardstick for what a broker makes of it.

mod loopback;
mod sequential;
mod sync;

use std::io;
use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::amount::{Size, Time};
use super::latencies::Latencies;
use crate::failure::Failure;

pub(crate) use sync::SyncRate;

/// How much is probed.
#[derive(Debug, Clone, Args)]
#[group(id = "probe_options")]
#[command(next_help_heading = "Probe of the machine")]
pub(crate) struct Options {
    /// How long each size of write is synced, and loopback asked
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub(crate) probe_time: Time,

    /// How much is written and read in one go
    #[arg(long, value_name = "BYTES", default_value = "1GiB")]
    pub(crate) probe_size: Size,
}

/// The sizes of synced writes, in bytes.
const SYNC_SIZES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];

/// What was measured.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Overwrites of recycled files, one for each of 4 KiB, 64 KiB and 1 MiB.
    pub(crate) syncs: [SyncRate; 3],
    /// A growing file written and then synced, in MB (10^6 bytes) per second.
    pub(crate) sequential_write_mb_s: f64,
    /// The same file read from the disk.
    pub(crate) sequential_read_mb_s: f64,
    /// Round trips over loopback.
    pub(crate) round_trips: Latencies,
}

/// The limits that figures are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Limits {
    /// Median of a sync after 4 KiB of a recycled file were overwritten, in microseconds.
    pub(crate) sync_4k_us_p50: f64,
    /// 64 KiB overwritten and synced, again and again, in MB per second.
    pub(crate) overwrite_sync_64k_mb_s: f64,
    /// The same with 1 MiB.
    pub(crate) overwrite_sync_1m_mb_s: f64,
    /// A growing file, synced at its end, in MB per second.
    pub(crate) sequential_write_mb_s: f64,
    /// Read from the disk, in MB per second.
    pub(crate) sequential_read_mb_s: f64,
    /// Median round trip of 100 bytes over TCP on loopback, in microseconds.
    pub(crate) loopback_rtt_us_p50: f64,
}

impl Measured {
    /// The part that figures are compared with.
    pub(crate) fn limits(&self) -> Limits {
        let [sync_4k, sync_64k, sync_1m] = &self.syncs;
        let median = |latencies: &Latencies| latencies.percentiles().map_or(0.0, |all| all.p50);
        Limits {
            sync_4k_us_p50: median(&sync_4k.latencies),
            overwrite_sync_64k_mb_s: sync_64k.megabytes_per_second(),
            overwrite_sync_1m_mb_s: sync_1m.megabytes_per_second(),
            sequential_write_mb_s: self.sequential_write_mb_s,
            sequential_read_mb_s: self.sequential_read_mb_s,
            loopback_rtt_us_p50: median(&self.round_trips),
        }
    }
}

/// Measures the disk under `directory`, and loopback. Leaves no file behind.
pub(crate) async fn run(directory: &Path, options: &Options) -> Result<Measured, Failure> {
    let (directory, options) = (directory.to_owned(), options.clone());
    let what = format!("cannot measure the disk under {}", directory.display());
    let measured = tokio::task::spawn_blocking(move || measure(&directory, &options)).await;
    measured
        .map_err(io::Error::other)
        .and_then(|measured| measured)
        .map_err(|error| Failure::new(what, error))
}

fn measure(directory: &Path, options: &Options) -> io::Result<Measured> {
    let time = options.probe_time.0;
    // Files without a name: nothing stays behind, even of a process that is killed.
    let syncs = sync::measure(&tempfile::tempfile_in(directory)?, SYNC_SIZES, time)?;
    let sequential = tempfile::tempfile_in(directory)?;
    let (write, read) = sequential::measure(&sequential, options.probe_size)?;
    Ok(Measured {
        syncs,
        sequential_write_mb_s: write,
        sequential_read_mb_s: read,
        round_trips: loopback::measure(time)?,
    })
}

/// MB (10^6 bytes) per second, with three decimals.
fn megabytes_per_second(bytes: u64, elapsed: std::time::Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "2^53 bytes are 9 PB")]
    let per_second = bytes as f64 / 1e6 / elapsed.as_secs_f64().max(1e-9);
    (per_second * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_limit_is_measured_and_no_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            probe_time: Time(Duration::from_millis(20)),
            probe_size: Size(3 << 20),
        };
        let limits = measure(directory.path(), &options).unwrap().limits();
        for limit in [
            limits.sync_4k_us_p50,
            limits.overwrite_sync_64k_mb_s,
            limits.overwrite_sync_1m_mb_s,
            limits.sequential_write_mb_s,
            limits.sequential_read_mb_s,
            limits.loopback_rtt_us_p50,
        ] {
            assert!(limit > 0.0, "{limits:?}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_megabyte_is_a_million_bytes() {
        assert_eq!(megabytes_per_second(3_000_000, Duration::from_secs(2)), 1.5);
    }
}
