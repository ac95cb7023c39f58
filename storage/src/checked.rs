//! The form of small files that are written whole.
//!
//! ```text
//!   0       4     8         12
//!   +-------+-----+---------+------+
//!   | magic | CRC | version | body |
//!   | 4     | u32 | u32     |      |
//!   +-------+-----+---------+------+
//! ```
//! The CRC is CRC-32 (IEEE) over what follows it.

use crate::cursor::Cursor;

/// The file with this body.
pub(crate) fn encode(magic: [u8; 4], version: u32, body: &[u8]) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(body);
    let crc = crc32fast::hash(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The body; `None` of a file that is not what was written, or is another one.
pub(crate) fn decode(magic: [u8; 4], version: u32, bytes: Vec<u8>) -> Option<Cursor> {
    let expected = crc32fast::hash(bytes.get(8..)?);
    let mut cursor = Cursor::new(bytes.into());
    let is_whole =
        cursor.bytes(4)? == magic[..] && cursor.u32()? == expected && cursor.u32()? == version;
    is_whole.then_some(cursor)
}
