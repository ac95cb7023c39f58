//! What a disk may do to the bytes of a file.

use std::ops::Range;

use highwater_storage::FrameKind;
use highwater_storage::frame::{BATCH_PREFIX_BYTES, Decoded, HEADER_BYTES, decode_header};

use super::chance::Chance;

/// Bytes that a disk reads and writes as one; the first of them in a file are the segment's header block.
const PAGE_BYTES: usize = 4096;
/// Files are cut, and writes are lost, at multiples of this.
const SECTOR_BYTES: usize = 512;
/// Where the salt of the frames stands in the header block.
const SALT: Range<usize> = 32..40;
/// Bits that flip, at most.
const MOST_FLIPS: u64 = 3;

/// A kind of damage to one segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// A few bits flip, mostly in the frames.
    Flips,
    /// A page reads as zeros.
    Zeros,
    /// A page holds what belongs into another one.
    Misdirected,
    /// The file is as it was earlier: what was written last never came to the disk.
    Stale,
    /// The file is shorter.
    Cut,
    /// The file is gone.
    Gone,
}

impl Harm {
    /// All kinds, as often as they are to happen.
    pub(super) const KINDS: [Self; 8] = [
        Self::Flips,
        Self::Flips,
        Self::Flips,
        Self::Zeros,
        Self::Misdirected,
        Self::Stale,
        Self::Cut,
        Self::Gone,
    ];

    /// What it makes of a file that holds frames; `None` when that is gone.
    pub(super) fn done_to(self, mut bytes: Vec<u8>, chance: &mut Chance) -> Option<Vec<u8>> {
        let written = written(&bytes);
        let pages = written.div_ceil(PAGE_BYTES);
        match self {
            Self::Flips => {
                for _ in 0..chance.within(1..=MOST_FLIPS) {
                    let is_in_block = chance.percent(5);
                    let from = if is_in_block { 0 } else { PAGE_BYTES };
                    flip(&mut bytes[from..written], chance);
                }
            }
            Self::Zeros => {
                let page = page(&bytes, 1 + chance.place(pages - 1));
                bytes[page].fill(0);
            }
            Self::Misdirected => {
                let (to, from) = (1 + chance.place(pages - 1), chance.place(pages));
                let other = bytes[page(&bytes, from)].to_vec();
                let page = page(&bytes, to);
                let len = page.len().min(other.len());
                bytes[page][..len].copy_from_slice(&other[..len]);
            }
            Self::Stale => {
                let sectors = (written - PAGE_BYTES).div_ceil(SECTOR_BYTES);
                let from = PAGE_BYTES + chance.place(sectors) * SECTOR_BYTES;
                bytes[from..].fill(0);
            }
            Self::Cut => bytes.truncate(chance.place(bytes.len() / SECTOR_BYTES) * SECTOR_BYTES),
            Self::Gone => return None,
        }
        Some(bytes)
    }
}

/// Flips one bit.
fn flip(bytes: &mut [u8], chance: &mut Chance) {
    let at = chance.place(bytes.len());
    bytes[at] ^= 1 << chance.place(8);
}

/// Flips one bit of what was written into a file of any kind; `None` where that is nothing.
pub(super) fn flip_written(mut bytes: Vec<u8>, chance: &mut Chance) -> Option<Vec<u8>> {
    let written = written(&bytes);
    flip(
        bytes
            .get_mut(..written)
            .filter(|written| !written.is_empty())?,
        chance,
    );
    Some(bytes)
}

/// Where what was written into a file ends.
fn written(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last + 1)
}

/// Whether frames were written into a segment file.
pub(super) fn has_frames(bytes: &[u8]) -> bool {
    written(bytes) > PAGE_BYTES
}

fn page(bytes: &[u8], number: usize) -> Range<usize> {
    let start = number * PAGE_BYTES;
    start..bytes.len().min(start + PAGE_BYTES)
}

/// Changes a record of some batch in a segment file and makes all checksums fit: what a storage does that checks none.
/// `None` where there is no batch.
pub(super) fn forge(mut bytes: Vec<u8>, chance: &mut Chance) -> Option<Vec<u8>> {
    let salt = u64::from_le_bytes(bytes.get(SALT)?.try_into().ok()?);
    let mut batches = Vec::new();
    let mut at = PAGE_BYTES;
    while let Ok(Decoded::Header(header)) = decode_header(bytes.get(at..)?, salt) {
        if header.kind == FrameKind::Batch {
            batches.push((at, header));
        }
        at += usize::try_from(header.frame_bytes()).ok()?;
    }
    if batches.is_empty() {
        return None;
    }
    let (at, mut header) = *chance.pick(&batches);
    let start = at + HEADER_BYTES;
    let end = start + usize::try_from(header.payload_len).ok()?;
    let records = start + BATCH_PREFIX_BYTES;
    // The last byte belongs to a record.
    *bytes.get_mut(end - 1)? ^= 1;
    header.payload_crc = crc32c::crc32c(&bytes[records..end]);
    bytes[records - 4..records].copy_from_slice(&header.payload_crc.to_be_bytes());
    bytes[at..start].copy_from_slice(&header.encode(salt));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose first three pages are written.
    fn file() -> Vec<u8> {
        let mut bytes = vec![0; 8 * PAGE_BYTES];
        for (page, fill) in [(0, 1), (1, 2), (2, 3)] {
            bytes[page * PAGE_BYTES..(page + 1) * PAGE_BYTES].fill(fill);
        }
        bytes
    }

    #[test]
    fn harm_is_done_to_what_was_written() {
        for seed in 0..200 {
            for harm in Harm::KINDS {
                let done = harm.done_to(file(), &mut Chance::new(seed));
                match (harm, done) {
                    (Harm::Gone, done) => assert_eq!(done, None),
                    (Harm::Cut, done) => assert!(done.unwrap().len() < file().len()),
                    (Harm::Misdirected, Some(done)) => {
                        assert_eq!(done.len(), file().len());
                        assert_eq!(written(&done), 3 * PAGE_BYTES);
                    }
                    (_, Some(done)) => {
                        assert_eq!(done.len(), file().len(), "{harm:?}");
                        let changed = done.iter().zip(file()).rposition(|(new, old)| *new != old);
                        assert!(changed.is_some_and(|at| at < 3 * PAGE_BYTES), "{harm:?}");
                    }
                    (_, None) => panic!("{harm:?} takes no file away"),
                }
            }
        }
    }

    #[test]
    fn a_file_without_frames_is_told_from_one_with_some() {
        assert!(has_frames(&file()));
        assert!(!has_frames(&file()[..PAGE_BYTES]));
        assert!(!has_frames(&[]));
    }
}
