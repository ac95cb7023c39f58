//! The unit in which the journal is written and synced.
//!
//! A **group** starts at a multiple of 4096 bytes and holds the records of whole turns:
//!
//! ```text
//!   0        4     8              16               24             28     32
//!   +--------+-----+--------------+----------------+--------------+------+---------+---------------------------+
//!   | magic  | CRC | group number | synced through | record bytes | zero | records | zeros to the next block   |
//!   | "HWG1" | u32 | u64          | u64            | u32          | u32  |         |                           |
//!   +--------+-----+--------------+----------------+--------------+------+---------+---------------------------+
//! ```
//!
//! The first block of a **journal file** says which file it is, and the last block says it again, because no group of a file can be
//! told without it:
//!
//! ```text
//!   0        4     8         12     16            24     32
//!   +--------+-----+---------+------+-------------+------+-------------+--------------------------+
//!   | magic  | CRC | version | zero | file number | salt | first group | zeros to the next block  |
//!   | "HWJ1" | u32 | u32     | u32  | u64         | u64  | u64         |                          |
//!   +--------+-----+---------+------+-------------+------+-------------+--------------------------+
//! ```
//!
//! Both CRCs are CRC-32 (IEEE) over all that follows the CRC up to the zeros; a group's is seeded with the salt of its file, drawn
//! when the file was opened, so that a group of the file's former life is no group. Group numbers go up by one from group to group,
//! across files. *Synced through* is the last group that was known to be on disk when this one was written.

use crate::config::{BLOCK_BYTES, BLOCK_LEN};

/// Bytes of a group before its records.
pub(crate) const GROUP_HEADER_BYTES: usize = 32;
/// Bytes of a file's first block that are used.
pub(crate) const FILE_HEADER_BYTES: usize = 40;

const GROUP_MAGIC: [u8; 4] = *b"HWG1";
const FILE_MAGIC: [u8; 4] = *b"HWJ1";
const FILE_VERSION: u32 = 1;

/// What stands at the start of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// Counts the journal files of the directory.
    pub(crate) number: u64,
    /// What the CRCs of its groups are seeded with.
    pub(crate) salt: u64,
    /// The number of its first group.
    pub(crate) first_group: u64,
}

impl FileHeader {
    /// The file's first block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_LEN];
        block[0..4].copy_from_slice(&FILE_MAGIC);
        block[8..12].copy_from_slice(&FILE_VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.number.to_le_bytes());
        block[24..32].copy_from_slice(&self.salt.to_le_bytes());
        block[32..40].copy_from_slice(&self.first_group.to_le_bytes());
        let crc = crc32fast::hash(&block[8..FILE_HEADER_BYTES]);
        block[4..8].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads the first bytes of a file; `None` when they are no header of this version.
    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let header = block.first_chunk::<FILE_HEADER_BYTES>()?;
        let fits = header[0..4] == FILE_MAGIC
            && u32_at(header, 4) == crc32fast::hash(&header[8..])
            && u32_at(header, 8) == FILE_VERSION;
        fits.then(|| Self {
            number: u64_at(header, 16),
            salt: u64_at(header, 24),
            first_group: u64_at(header, 32),
        })
    }
}

/// What stands at the start of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// Counts the groups of the directory; the first is 1.
    pub(crate) number: u64,
    /// The last group known to be durable when this one was written.
    pub(crate) synced_through: u64,
    /// Bytes of the records.
    pub(crate) record_bytes: u32,
}

impl GroupHeader {
    /// The header of a group with these records, under the salt of its file.
    pub(crate) fn encode<'a>(
        &self,
        salt: u64,
        records: impl Iterator<Item = &'a [u8]>,
    ) -> [u8; GROUP_HEADER_BYTES] {
        let mut header = [0; GROUP_HEADER_BYTES];
        header[0..4].copy_from_slice(&GROUP_MAGIC);
        header[8..16].copy_from_slice(&self.number.to_le_bytes());
        header[16..24].copy_from_slice(&self.synced_through.to_le_bytes());
        header[24..28].copy_from_slice(&self.record_bytes.to_le_bytes());
        let crc = group_crc(salt, &header, records);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Reads what looks like a group header. Nothing in it is to be believed before [`GroupHeader::verify`].
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<GROUP_HEADER_BYTES>()?;
        (header[0..4] == GROUP_MAGIC).then(|| Self {
            number: u64_at(header, 8),
            synced_through: u64_at(header, 16),
            record_bytes: u32_at(header, 24),
        })
    }

    /// Whether `group`, header and records, was written under `salt`.
    pub(crate) fn verify(salt: u64, group: &[u8]) -> bool {
        let Some((header, records)) = group.split_first_chunk::<GROUP_HEADER_BYTES>() else {
            return false;
        };
        u32_at(header, 4) == group_crc(salt, header, std::iter::once(records))
    }

    /// Bytes that the group takes in the file, header and filling included.
    pub(crate) fn file_bytes(&self) -> u64 {
        group_file_bytes(u64::from(self.record_bytes))
    }
}

/// Where the header of a journal file of `file_bytes` stands a second time. Groups end before it.
pub(crate) fn second_header_position(file_bytes: u64) -> u64 {
    file_bytes.saturating_sub(BLOCK_BYTES)
}

/// Bytes that a group with `record_bytes` of records takes in a file.
pub(crate) fn group_file_bytes(record_bytes: u64) -> u64 {
    (GROUP_HEADER_BYTES as u64 + record_bytes).next_multiple_of(BLOCK_BYTES)
}

fn group_crc<'a>(
    salt: u64,
    header: &[u8; GROUP_HEADER_BYTES],
    records: impl Iterator<Item = &'a [u8]>,
) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&header[8..]);
    records.for_each(|run| crc.update(run));
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x0123_4567_89ab_cdef;

    #[test]
    fn bytes_of_a_group_are_these() {
        let header = GroupHeader {
            number: 0x0102,
            synced_through: 0x0101,
            record_bytes: 8,
        };
        let bytes = header.encode(SALT, [&b"rec"[..], &b"ords!"[..]].into_iter());
        let mut expected = b"HWG1".to_vec();
        expected.extend_from_slice(&bytes[4..8]);
        expected.extend([2, 1, 0, 0, 0, 0, 0, 0]); // number
        expected.extend([1, 1, 0, 0, 0, 0, 0, 0]); // synced through
        expected.extend([8, 0, 0, 0, 0, 0, 0, 0]); // record bytes
        assert_eq!(bytes[..], expected);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&SALT.to_le_bytes());
        crc.update(&expected[8..]);
        crc.update(b"records!");
        assert_eq!(bytes[4..8], crc.finalize().to_le_bytes());
        let whole = [&bytes[..], b"records!"].concat();
        assert!(GroupHeader::verify(SALT, &whole));
        assert!(
            !GroupHeader::verify(SALT + 1, &whole),
            "another life of the file"
        );
        assert_eq!(GroupHeader::decode(&whole), Some(header));
    }

    #[test]
    fn any_flipped_bit_of_a_group_is_found() {
        let header = GroupHeader {
            number: 5,
            synced_through: 4,
            record_bytes: 3,
        };
        let mut whole = header.encode(SALT, std::iter::once(&b"abc"[..])).to_vec();
        whole.extend_from_slice(b"abc");
        for bit in 32..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!GroupHeader::verify(SALT, &flipped), "bit {bit}");
        }
    }

    #[test]
    fn bytes_of_a_file_header_are_these() {
        let header = FileHeader {
            number: 3,
            salt: SALT,
            first_group: 9,
        };
        let block = header.encode();
        let mut expected = vec![1, 0, 0, 0, 0, 0, 0, 0]; // version
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0]); // number
        expected.extend([0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01]); // salt
        expected.extend([9, 0, 0, 0, 0, 0, 0, 0]); // first group
        assert_eq!(block[..4], *b"HWJ1");
        assert_eq!(block[4..8], crc32fast::hash(&expected).to_le_bytes());
        assert_eq!(block[8..40], expected);
        assert_eq!(block.len(), BLOCK_LEN);
        assert_eq!(FileHeader::decode(&block), Some(header));
        for bit in 0..FILE_HEADER_BYTES * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&flipped), None, "bit {bit}");
        }
    }
}
