//! The limits and sizes of one data directory.

use crate::error::{Error, Result};

/// The unit of journal groups and of file sizes in bytes: a page of memory and of the disk.
pub(crate) const BLOCK_BYTES: u64 = BLOCK_LEN as u64;
/// The same as a length in memory.
pub(crate) const BLOCK_LEN: usize = 4096;

/// Configuration of a [`crate::Store`]. All sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Size of a journal file. Larger files are rolled less often; each is preallocated.
    pub journal_file_bytes: u64,
    /// Bytes journaled or cached since the last checkpoint at which the next is due; at twice that, turns must wait. Bounds the time a
    /// start takes.
    pub checkpoint_interval_bytes: u64,
    /// Free bytes of the disk below which produce is refused. Reads, trims and deletes go on.
    pub min_free_bytes: u64,
    /// Bytes set aside at start for the journal and the checkpoints of a disk that others fill.
    pub reserve_bytes: u64,
    /// Size of a log's first segment; each next is as large as all before it together, up to the log's own limit.
    pub first_segment_bytes: u64,
    /// Bytes of frames that a log without a batch keeps in memory before it gets a file.
    pub head_bytes: u64,
    /// How many segment files that need no sync may be open.
    pub open_segments: usize,
    /// Bytes of files kept for reuse instead of being removed.
    pub pool_bytes: u64,
    /// The largest machine snapshot that stands in the checkpoint itself; larger ones get a file of their own.
    pub inline_snapshot_bytes: u64,
    /// The largest payload of one frame.
    pub max_payload_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            journal_file_bytes: 32 * MIB,
            checkpoint_interval_bytes: 128 * MIB,
            min_free_bytes: 512 * MIB,
            reserve_bytes: 64 * MIB,
            first_segment_bytes: 64 << 10,
            head_bytes: 4 << 10,
            open_segments: 4096,
            pool_bytes: 1024 * MIB,
            inline_snapshot_bytes: 4 << 10,
            max_payload_bytes: 64 * MIB,
        }
    }
}

impl Config {
    /// Checks each value against what the formats and the other values need.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the key.
    pub fn validate(&self) -> Result<()> {
        let blocks = |key: &str, value: u64, least: u64| {
            if value < least || !value.is_multiple_of(BLOCK_BYTES) {
                return Err(Error::invalid(format!(
                    "{key} is {value}: it must be a multiple of {BLOCK_BYTES}, at least {least}"
                )));
            }
            Ok(())
        };
        blocks(
            "journal_file_bytes",
            self.journal_file_bytes,
            4 * BLOCK_BYTES,
        )?;
        blocks(
            "first_segment_bytes",
            self.first_segment_bytes,
            2 * BLOCK_BYTES,
        )?;
        if self.reserve_bytes != 0 {
            blocks("reserve_bytes", self.reserve_bytes, BLOCK_BYTES)?;
        }
        if self.checkpoint_interval_bytes < BLOCK_BYTES {
            return Err(Error::invalid(format!(
                "checkpoint_interval_bytes must be at least {BLOCK_BYTES}"
            )));
        }
        if self.max_payload_bytes == 0 || self.max_payload_bytes > u64::from(u32::MAX >> 2) {
            return Err(Error::invalid(format!(
                "max_payload_bytes must be in 1..={}",
                u32::MAX >> 2
            )));
        }
        Ok(())
    }
}
