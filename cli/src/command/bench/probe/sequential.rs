//! A large file written in one go and synced at its end, then read back from the disk.
//!
//! Writing includes the first touch of the page cache's memory, as it does in a log that grows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::megabytes_per_second;
use crate::command::bench::amount::Size;
use crate::command::bench::payload::random_bytes;

/// Bytes of a write or read.
const BLOCK_BYTES: usize = 1 << 20;

/// Fills the file, which is empty, with whole blocks, `size` altogether, and reads them; returns MB per second of both.
pub(super) fn measure(file: &File, size: Size) -> io::Result<(f64, f64)> {
    let blocks = size.0.div_ceil(BLOCK_BYTES as u64);
    let bytes = blocks * BLOCK_BYTES as u64;
    let positions = || (0..blocks).map(|block| block * BLOCK_BYTES as u64);

    let mut block = random_bytes(BLOCK_BYTES);
    let start = Instant::now();
    for position in positions() {
        file.write_all_at(&block, position)?;
    }
    file.sync_data()?;
    let write = megabytes_per_second(bytes, start.elapsed());

    forget_cached(file)?;
    let start = Instant::now();
    for position in positions() {
        file.read_exact_at(&mut block, position)?;
    }
    Ok((write, megabytes_per_second(bytes, start.elapsed())))
}

/// Drops the file's pages from the cache (`posix_fadvise`, `POSIX_FADV_DONTNEED`), so that reading meets the disk. No
/// rights are needed for that, and the rest of the machine keeps its cache.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn forget_cached(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(
        file,
        0,
        None,
        rustix::fs::Advice::DontNeed,
    )?)
}

/// Where the system has no such advice, reading is measured from its cache.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn forget_cached(_file: &File) -> io::Result<()> {
    Ok(())
}
