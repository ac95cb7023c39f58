//! A checkpoint as a file.
//!
//! ```text
//!   0          8         12    16       24            32             40            48      52       56
//!   +----------+---------+-----+--------+-------------+--------------+-------------+-------+--------+----------+
//!   | magic    | version | CRC | number | journal     | journal      | synced      | logs  | deleted| sections |
//!   | HWCHKPNT | u32     | u32 | u64    | file u64    | group u64    | group u64   | u32   | u32    |          |
//!   +----------+---------+-----+--------+-------------+--------------+-------------+-------+--------+----------+
//!
//!   section:  bytes u32, CRC u32, body
//! ```
//!
//! The header's CRC is over the header but for itself. There is one section for each log ([`super::entry`]), then one for each deleted
//! log whose directory may still be there (log id u64, directory). All CRCs are CRC-32 (IEEE). The file ends with the last section.
//!
//! A file has its name only when it is whole and durable. One that is not whole is damaged, and the one before it takes its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::cursor::{Cursor, put_string};
use crate::error::{Error, Result};
use crate::fs::{self, File, Fs};
use crate::journal::Start;
use crate::numbered::NumberedFiles;
use crate::{LogId, RaftIndex};

/// Where checkpoints and snapshots are.
pub(crate) const DIRECTORY: &str = "checkpoint";
/// The checkpoints.
pub(crate) const FILES: NumberedFiles = NumberedFiles {
    directory: DIRECTORY,
    extension: ".checkpoint",
};
const TEMPORARY: &str = "new";

const MAGIC: [u8; 8] = *b"HWCHKPNT";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 56;
const SECTION_HEADER_BYTES: usize = 8;
/// Checkpoints are read into memory; one beyond this is not one of ours.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// The contents of a checkpoint. Entries are encoded: most are carried forward as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Counts the checkpoints of the directory.
    pub(crate) number: u64,
    /// What is to be replayed after it begins here.
    pub(crate) journal: Start,
    /// The last group known to be synced.
    pub(crate) synced_group: u64,
    /// An encoded [`super::entry::LogEntry`] for each log.
    pub(crate) logs: Vec<Bytes>,
    /// Deleted logs, and the directories that are to go.
    pub(crate) deleted: Vec<(LogId, String)>,
}

impl Contents {
    fn encode(&self) -> Vec<u8> {
        let bytes: usize = self
            .logs
            .iter()
            .map(|log| SECTION_HEADER_BYTES + log.len())
            .sum();
        let mut out = Vec::with_capacity(HEADER_BYTES + bytes);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for number in [
            self.number,
            self.journal.file,
            self.journal.group,
            self.synced_group,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        crate::cursor::put_count(&mut out, self.logs.len());
        crate::cursor::put_count(&mut out, self.deleted.len());
        let crc = header_crc(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        self.logs.iter().for_each(|log| put_section(&mut out, log));
        for (log, directory) in &self.deleted {
            let mut body = log.0.to_le_bytes().to_vec();
            put_string(&mut body, directory.as_bytes());
            put_section(&mut out, &body);
        }
        out
    }

    fn decode(bytes: &Bytes) -> std::result::Result<Self, &'static str> {
        let header = bytes
            .get(..HEADER_BYTES)
            .ok_or("it is shorter than its header")?;
        let mut cursor = Cursor::new(bytes.slice(..));
        let magic = cursor.bytes(8).ok_or("it has no header")?;
        let version = cursor.u32().ok_or("it has no header")?;
        let crc = cursor.u32().ok_or("it has no header")?;
        if magic != MAGIC[..] || version != VERSION || crc != header_crc(header) {
            return Err("its header is not one of a checkpoint of this version");
        }
        let contents = Self::decode_rest(&mut cursor).ok_or("a section is not what was written")?;
        if cursor.remaining() == 0 {
            Ok(contents)
        } else {
            Err("it is longer than its sections")
        }
    }

    fn decode_rest(cursor: &mut Cursor) -> Option<Self> {
        let number = cursor.u64()?;
        let journal = Start {
            file: cursor.u64()?,
            group: cursor.u64()?,
        };
        let synced_group = cursor.u64()?;
        let (log_count, deleted_count) = (cursor.u32()?, cursor.u32()?);
        let mut logs = vec![];
        for _ in 0..log_count {
            logs.push(take_section(cursor)?);
        }
        let mut deleted = vec![];
        for _ in 0..deleted_count {
            let mut body = Cursor::new(take_section(cursor)?);
            deleted.push((LogId(body.u64()?), body.text()?));
        }
        Some(Self {
            number,
            journal,
            synced_group,
            logs,
            deleted,
        })
    }
}

fn header_crc(header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..12]);
    crc.update(&header[16..HEADER_BYTES]);
    crc.finalize()
}

fn put_section(out: &mut Vec<u8>, body: &[u8]) {
    crate::cursor::put_count(out, body.len());
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    out.extend_from_slice(body);
}

fn take_section(cursor: &mut Cursor) -> Option<Bytes> {
    let (len, crc) = (cursor.u32()?, cursor.u32()?);
    let body = cursor.bytes(usize::try_from(len).ok()?)?;
    (crc32fast::hash(&body) == crc).then_some(body)
}

/// Reads a checkpoint.
///
/// # Errors
/// [`Error::Corrupt`] when it is not whole, or cannot be read.
pub(crate) fn read(fs: &dyn Fs, number: u64) -> Result<Contents> {
    let path = FILES.path(number);
    let corrupt = |reason: String| Error::Corrupt {
        path: path.display().to_string(),
        reason,
    };
    let bytes = read_whole(fs, &path).map_err(|error| corrupt(error.to_string()))?;
    let contents = Contents::decode(&bytes).map_err(|reason| corrupt(reason.to_owned()))?;
    if contents.number != number {
        return Err(corrupt(format!("it is checkpoint {}", contents.number)));
    }
    Ok(contents)
}

/// Writes a checkpoint and makes it durable under its name, together with the snapshots that were put beside it.
///
/// # Errors
/// When that fails; what is on disk then is in doubt, unless there was no space.
pub(crate) fn write(fs: &dyn Fs, contents: &Contents) -> fs::Result<()> {
    write_whole(fs, &FILES.path(contents.number), &contents.encode())?;
    fs.sync_dir(Path::new(DIRECTORY))
}

/// The file of a snapshot of `log` at applied index `index` with this CRC: another snapshot has another name.
pub(crate) fn snapshot_path(log: LogId, index: RaftIndex, crc: u32) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{log}-{index}-{crc:08x}.snapshot"))
}

/// Writes a whole file and gives it its name when its bytes are durable.
pub(crate) fn write_whole(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> fs::Result<()> {
    let temporary = path.with_extension(TEMPORARY);
    if fs.len(&temporary)?.is_some() {
        fs.remove_file(&temporary)?;
    }
    let file: Arc<dyn File> = fs.create(&temporary, bytes.len() as u64)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    fs.rename(&temporary, path)
}

/// Reads a whole file.
///
/// # Errors
/// When it cannot be read, or is too long to be one of ours.
pub(crate) fn read_whole(fs: &dyn Fs, path: &Path) -> fs::Result<Bytes> {
    let file = fs.open(path)?;
    if file.len() > MAX_FILE_BYTES {
        return Err(fs::Error::new(
            fs::Operation::Read,
            path,
            std::io::ErrorKind::FileTooLarge,
        ));
    }
    let mut bytes = vec![0; usize::try_from(file.len()).expect("checked")];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents() -> Contents {
        Contents {
            number: 3,
            journal: Start { file: 5, group: 7 },
            synced_group: 6,
            logs: vec![Bytes::from_static(b"log")],
            deleted: vec![(LogId(9), "t/9".to_owned())],
        }
    }

    #[test]
    fn bytes_of_a_checkpoint_are_these() {
        let bytes = contents().encode();
        let mut expected = b"HWCHKPNT\x01\0\0\0".to_vec();
        expected.extend_from_slice(&bytes[12..16]);
        for number in [3_u64, 5, 7, 6] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        expected.extend([1, 0, 0, 0, 1, 0, 0, 0]); // logs, deleted
        expected.extend([3, 0, 0, 0]);
        expected.extend(crc32fast::hash(b"log").to_le_bytes());
        expected.extend(b"log");
        let deleted = b"\x09\0\0\0\0\0\0\0\x03\0\0\0t/9";
        expected.extend([15, 0, 0, 0]);
        expected.extend(crc32fast::hash(deleted).to_le_bytes());
        expected.extend(deleted);
        assert_eq!(bytes, expected);
        assert_eq!(Contents::decode(&bytes.into()), Ok(contents()));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_found() {
        let bytes = contents().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Contents::decode(&flipped.into()).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            let cut = Bytes::from(bytes.clone()).slice(..len);
            assert!(Contents::decode(&cut).is_err(), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_sections_never_panic(body: Vec<u8>, counts: [u32; 2]) {
            let mut bytes = contents().encode();
            bytes.truncate(HEADER_BYTES);
            bytes[48..52].copy_from_slice(&counts[0].to_le_bytes());
            bytes[52..56].copy_from_slice(&counts[1].to_le_bytes());
            let crc = header_crc(&bytes);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
            bytes.extend(body);
            let _ = Contents::decode(&bytes.into());
        }
    }
}
