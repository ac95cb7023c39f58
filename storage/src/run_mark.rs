//! Whether bytes may be lost that the journal does not have: the mark that `write.caching` needs.
//!
//! A cached append is in the page cache only, which lives as long as the kernel. Before the first one of a run the mark says *running*,
//! with the kernel's boot id and the file system's id; a store whose segments are all durable says *clean*. At start, after a run that
//! was not clean, the cached tails are whole exactly if the same kernel still runs on the same file system.
//!
//! ```text
//!   0        4     8         12      16            24
//!   +--------+-----+---------+-------+-------------+---------+
//!   | magic  | CRC | version | clean | file system | boot id |
//!   | "HWR1" | u32 | u32     | u32   | id u64      | string  |
//!   +--------+-----+---------+-------+-------------+---------+
//! ```
//! The CRC is CRC-32 (IEEE) over what follows it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::checked;
use crate::checkpoint::{read_whole, write_whole};
use crate::cursor::put_string;
use crate::fs::{self, Fs};

const PATH: &str = "run";
const MAGIC: [u8; 4] = *b"HWR1";
const VERSION: u32 = 1;

/// What the mark of the last run says about bytes that are in no journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastRun {
    /// There are none.
    Clean,
    /// They are all in the page cache or on disk.
    CacheKept,
    /// Some may be lost.
    CacheLost,
}

impl std::fmt::Display for LastRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Clean => "there are none, all are durable",
            Self::CacheKept => "they are in the page cache of this kernel",
            Self::CacheLost => "some may be lost",
        })
    }
}

/// The mark of this run.
#[derive(Debug, Default)]
pub(crate) struct RunMark {
    is_running: AtomicBool,
    writing: Mutex<()>,
}

impl RunMark {
    /// Says what the last run left. A mark that cannot be read says nothing good.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub(crate) fn read(fs: &dyn Fs) -> fs::Result<LastRun> {
        if fs.len(Path::new(PATH))?.is_none() {
            return Ok(LastRun::CacheLost);
        }
        let decoded = read_whole(fs, Path::new(PATH))
            .ok()
            .and_then(|bytes| decode(bytes.into()));
        let Some((is_clean, filesystem, boot)) = decoded else {
            return Ok(LastRun::CacheLost);
        };
        if is_clean {
            return Ok(LastRun::Clean);
        }
        let same_kernel = !boot.is_empty() && fs.boot_id().is_some_and(|now| now == boot);
        let same_disk = fs.filesystem_id().is_ok_and(|now| now == filesystem);
        Ok(if same_kernel && same_disk {
            LastRun::CacheKept
        } else {
            LastRun::CacheLost
        })
    }

    /// Says that everything is durable.
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub(crate) fn set_clean(&self, fs: &dyn Fs) -> fs::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        write(fs, true)?;
        self.is_running.store(false, Ordering::Release);
        Ok(())
    }

    /// Says, once, that there are cached bytes from now on.
    ///
    /// # Errors
    /// When the mark cannot be written: nothing may be cached then.
    pub(crate) fn set_running(&self, fs: &dyn Fs) -> fs::Result<()> {
        if self.is_running.load(Ordering::Acquire) {
            return Ok(());
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_running.load(Ordering::Acquire) {
            write(fs, false)?;
            self.is_running.store(true, Ordering::Release);
        }
        Ok(())
    }
}

fn write(fs: &dyn Fs, is_clean: bool) -> fs::Result<()> {
    write_whole(
        fs,
        Path::new(PATH),
        &encode(
            is_clean,
            fs.filesystem_id()?,
            &fs.boot_id().unwrap_or_default(),
        ),
    )?;
    fs.sync_dir(Path::new(""))
}

fn encode(is_clean: bool, filesystem: u64, boot: &str) -> Vec<u8> {
    let mut body = u32::from(is_clean).to_le_bytes().to_vec();
    body.extend_from_slice(&filesystem.to_le_bytes());
    put_string(&mut body, boot.as_bytes());
    checked::encode(MAGIC, VERSION, &body)
}

fn decode(bytes: Vec<u8>) -> Option<(bool, u64, String)> {
    let mut body = checked::decode(MAGIC, VERSION, bytes)?;
    Some((body.u32()? == 1, body.u64()?, body.text()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_mark_are_these() {
        let bytes = encode(true, 0x0102, "b");
        assert_eq!(
            bytes[8..],
            [
                1, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'b'
            ]
        );
        assert_eq!(decode(bytes.clone()), Some((true, 0x0102, "b".to_owned())));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(flipped), None, "bit {bit}");
        }
    }
}
