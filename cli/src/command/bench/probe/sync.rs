//! Overwriting a file that was written before, and syncing after each write: what a journal of recycled files does.
//!
//! A file whose blocks are allocated and written needs no change of the file system's metadata, so a sync is a
//! flush of the data alone; an append costs about twice as much.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::megabytes_per_second;
use crate::command::bench::latencies::Latencies;
use crate::command::bench::payload::random_bytes;

/// Bytes of the file. What is overwritten stays in the page cache, as the files of a journal do.
const FILE_BYTES: usize = 64 << 20;

/// Writes of one size, each followed by a sync.
#[derive(Debug, Clone)]
pub(crate) struct SyncRate {
    /// Bytes of a write.
    pub(crate) bytes: usize,
    /// Writes that were synced.
    pub(crate) count: u64,
    /// How long they took together, the writing included.
    pub(crate) elapsed: Duration,
    /// How long each sync took, without the write before it.
    pub(crate) latencies: Latencies,
}

impl SyncRate {
    /// Syncs in a second.
    pub(crate) fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 syncs")]
        let count = self.count as f64;
        count / self.elapsed.as_secs_f64()
    }

    /// What they bring to the disk, in MB per second.
    pub(crate) fn megabytes_per_second(&self) -> f64 {
        megabytes_per_second(self.count * self.bytes as u64, self.elapsed)
    }
}

/// Fills the file, which is empty, then syncs writes of each size for so long.
pub(super) fn measure<const SIZES: usize>(
    file: &File,
    sizes: [usize; SIZES],
    time: Duration,
) -> io::Result<[SyncRate; SIZES]> {
    let largest = sizes.into_iter().max().unwrap_or_default();
    // Another window of it is written each time, so no block is overwritten with what it holds.
    let content = random_bytes(2 * largest);
    for position in (0..FILE_BYTES).step_by(largest) {
        file.write_all_at(&content[..largest], position as u64)?;
    }
    file.sync_all()?;
    let mut rates = Vec::with_capacity(SIZES);
    for bytes in sizes {
        rates.push(overwrite(file, &content, bytes, time)?);
    }
    Ok(rates.try_into().expect("one rate for each size"))
}

fn overwrite(file: &File, content: &[u8], bytes: usize, time: Duration) -> io::Result<SyncRate> {
    let mut latencies = Latencies::new();
    let start = Instant::now();
    let mut positions = (0..FILE_BYTES).step_by(bytes).cycle();
    let mut count = 0;
    while count == 0 || start.elapsed() < time {
        let position = positions.next().expect("it begins again at the end");
        let from = usize::try_from(count * 64).unwrap_or_default() % (content.len() - bytes);
        file.write_all_at(&content[from..from + bytes], position as u64)?;
        let written = Instant::now();
        file.sync_data()?;
        latencies.record(written.elapsed(), 1);
        count += 1;
    }
    Ok(SyncRate {
        bytes,
        count,
        elapsed: start.elapsed(),
        latencies,
    })
}
