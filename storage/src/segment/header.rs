//! The header block of a segment file.
//!
//! ```text
//!   0          8         12      16       24           28     32     40            48            56           64        4096
//!   +----------+---------+-------+--------+------------+------+------+-------------+-------------+------------+-- - - --+
//!   | magic    | format  | CRC   | log id | generation | zero | salt | first index | base offset | file bytes | zero    |
//!   | HWSEGMNT | version |       |        |            |      |      |             |             |            |         |
//!   | 8        | u32     | u32   | u64    | u32        | u32  | u64  | u64         | u64         | u64        |         |
//!   +----------+---------+-------+--------+------------+------+------+-------------+-------------+------------+-- - - --+
//! ```
//!
//! All numbers are little-endian. The CRC is CRC-32 (IEEE) over the first 64 bytes but for itself. The block repeats what the journal or
//! the checkpoint says of the segment; a file whose block says something else is another one.

use super::{Generation, SegmentSpec};
use crate::{LogId, Offset, RaftIndex};

/// Bytes of the block; frames start after it.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// Bytes of the block that mean something.
pub(crate) const FIELD_BYTES: usize = 64;

const MAGIC: [u8; 8] = *b"HWSEGMNT";
const FORMAT_VERSION: u32 = 1;

/// The block of a segment of `log`.
pub(crate) fn encode(log: LogId, spec: &SegmentSpec) -> Vec<u8> {
    let mut block = vec![0; usize::try_from(BLOCK_BYTES).expect("a page")];
    block[0..8].copy_from_slice(&MAGIC);
    block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    block[16..24].copy_from_slice(&log.0.to_le_bytes());
    block[24..28].copy_from_slice(&spec.generation.0.to_le_bytes());
    block[32..40].copy_from_slice(&spec.salt.to_le_bytes());
    block[40..48].copy_from_slice(&spec.first_index.0.to_le_bytes());
    block[48..56].copy_from_slice(&spec.base_offset.0.to_le_bytes());
    block[56..64].copy_from_slice(&spec.file_bytes.to_le_bytes());
    let crc = crc_of(&block[..FIELD_BYTES]);
    block[12..16].copy_from_slice(&crc.to_le_bytes());
    block
}

/// The log and the segment that a block was written for; `None` when it is no block of a version we know.
pub(crate) fn decode(block: &[u8]) -> Option<(LogId, SegmentSpec)> {
    let fields = block.first_chunk::<FIELD_BYTES>()?;
    if fields[0..8] != MAGIC
        || u32_at(fields, 8) != FORMAT_VERSION
        || u32_at(fields, 12) != crc_of(fields)
    {
        return None;
    }
    let spec = SegmentSpec {
        generation: Generation(u32_at(fields, 24)),
        salt: u64_at(fields, 32),
        first_index: RaftIndex(u64_at(fields, 40)),
        base_offset: Offset(u64_at(fields, 48)),
        file_bytes: u64_at(fields, 56),
    };
    Some((LogId(u64_at(fields, 16)), spec))
}

fn crc_of(fields: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&fields[..12]);
    hasher.update(&fields[16..FIELD_BYTES]);
    hasher.finalize()
}

fn u32_at(fields: &[u8; FIELD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(fields[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(fields: &[u8; FIELD_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(fields[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SegmentSpec {
        SegmentSpec {
            generation: Generation(3),
            salt: 0x0123_4567_89ab_cdef,
            first_index: RaftIndex(17),
            base_offset: Offset(1000),
            file_bytes: 65536,
        }
    }

    #[test]
    fn bytes_of_a_block_are_these() {
        let block = encode(LogId(7), &spec());
        let mut expected = b"HWSEGMNT".to_vec();
        expected.extend([1, 0, 0, 0, 0x93, 0x6d, 0xca, 0x1d]); // version, CRC
        expected.extend([7, 0, 0, 0, 0, 0, 0, 0]); // log
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0]); // generation
        expected.extend([0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01]); // salt
        expected.extend([17, 0, 0, 0, 0, 0, 0, 0]); // first index
        expected.extend([0xe8, 3, 0, 0, 0, 0, 0, 0]); // base offset
        expected.extend([0, 0, 1, 0, 0, 0, 0, 0]); // file bytes
        assert_eq!(block[..FIELD_BYTES], expected);
        assert!(block[FIELD_BYTES..].iter().all(|byte| *byte == 0));
        assert_eq!(decode(&block), Some((LogId(7), spec())));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        for bit in 0..FIELD_BYTES * 8 {
            let mut block = encode(LogId(7), &spec());
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&block), None, "bit {bit}");
        }
    }

    #[test]
    fn zeros_and_short_bytes_are_no_block() {
        assert_eq!(decode(&[0; 4096]), None);
        assert_eq!(decode(&encode(LogId(7), &spec())[..63]), None);
    }
}
