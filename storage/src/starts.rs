//! How often the data directory was started: what tells an old copy of it from the directory itself.
//!
//! Each start of a broker takes the next number, durably, and tells the cluster. Who comes with a number that the cluster has heard
//! already comes with a copy from before.
//!
//! ```text
//!   0        4     8         12       20
//!   +--------+-----+---------+--------+-------------+
//!   | magic  | CRC | version | number | is set back |
//!   | "HWS1" | u32 | u32     | u64    | u8          |
//!   +--------+-----+---------+--------+-------------+
//! ```
//! The CRC is CRC-32 (IEEE) over what follows it.

use std::path::Path;

use crate::checked;
use crate::checkpoint::{read_whole, write_whole};
use crate::fs::{self, Fs};

const PATH: &str = "starts";
const MAGIC: [u8; 4] = *b"HWS1";
const VERSION: u32 = 1;

/// The starts of a data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// Number of the last start; 0 before the first.
    pub number: u64,
    /// Whether the directory turned out to be an old copy, and the cluster has not taken note of that yet.
    pub is_set_back: bool,
}

impl Starts {
    /// What the directory says. What cannot be read counts as no start: the cluster then takes the directory for an old copy, and
    /// nothing of it is relied on.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub(crate) fn read(fs: &dyn Fs) -> fs::Result<Self> {
        if fs.len(Path::new(PATH))?.is_none() {
            return Ok(Self::default());
        }
        let decoded = read_whole(fs, Path::new(PATH))
            .ok()
            .and_then(|bytes| decode(bytes.into()));
        Ok(decoded.unwrap_or_else(|| {
            tracing::warn!(path = PATH, "the number of starts cannot be read");
            Self::default()
        }))
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// When that fails; what was there before is then still there.
    pub(crate) fn write(self, fs: &dyn Fs) -> fs::Result<()> {
        write_whole(fs, Path::new(PATH), &encode(self))?;
        fs.sync_dir(Path::new(""))
    }
}

fn encode(starts: Starts) -> Vec<u8> {
    let mut body = starts.number.to_le_bytes().to_vec();
    body.push(u8::from(starts.is_set_back));
    checked::encode(MAGIC, VERSION, &body)
}

fn decode(bytes: Vec<u8>) -> Option<Starts> {
    let mut body = checked::decode(MAGIC, VERSION, bytes)?;
    Some(Starts {
        number: body.u64()?,
        is_set_back: body.flag()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_starts_are_these() {
        let starts = Starts {
            number: 0x0102,
            is_set_back: true,
        };
        let bytes = encode(starts);
        assert_eq!(bytes[8..], [1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(decode(bytes.clone()), Some(starts));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(flipped), None, "bit {bit}");
        }
    }
}
