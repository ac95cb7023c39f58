//! That the data directory is to belong to another cluster from its next start on, which goes on where its own one ended.
//!
//! ```text
//!   0        4     8         12     13        29
//!   +--------+-----+---------+------+---------+
//!   | magic  | CRC | version | part | cluster |
//!   | "HWC1" | u32 | u32     | u8   | 16      |
//!   +--------+-----+---------+------+---------+
//! ```
//! The CRC is CRC-32 (IEEE) over what follows it. Part 1: begins; part 2: follows.

use std::path::Path;

use uuid::Uuid;

use crate::checked;
use crate::checkpoint::{read_whole, write_whole};
use crate::error::{Error, Result};
use crate::fs::Fs;

const PATH: &str = "succession";
const MAGIC: [u8; 4] = *b"HWC1";
const VERSION: u32 = 1;

/// The cluster that a data directory goes over to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The new cluster.
    pub cluster: Uuid,
    /// What the directory's broker does in it.
    pub part: Part,
}

/// What a broker does in a cluster that goes on where another one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The cluster begins with what this broker knows.
    Begins,
    /// It follows one that did.
    Follows,
}

impl Succession {
    /// What is to happen; `None`: nothing.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`]: then it is not known which cluster the directory belongs to.
    pub(crate) fn read(fs: &dyn Fs) -> Result<Option<Self>> {
        if fs.len(Path::new(PATH))?.is_none() {
            return Ok(None);
        }
        let decoded = decode(read_whole(fs, Path::new(PATH))?.into());
        decoded.map(Some).ok_or_else(|| Error::Corrupt {
            path: PATH.to_owned(),
            reason: "it is not what was written".to_owned(),
        })
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn write(self, fs: &dyn Fs) -> Result<()> {
        write_whole(fs, Path::new(PATH), &encode(self))?;
        Ok(fs.sync_dir(Path::new(""))?)
    }

    /// It has happened.
    ///
    /// # Errors
    /// When it cannot be removed: then it happens again, which changes nothing.
    pub(crate) fn remove(fs: &dyn Fs) -> Result<()> {
        fs.remove_file(Path::new(PATH))?;
        Ok(fs.sync_dir(Path::new(""))?)
    }
}

fn encode(succession: Succession) -> Vec<u8> {
    let mut body = vec![match succession.part {
        Part::Begins => 1,
        Part::Follows => 2,
    }];
    body.extend_from_slice(succession.cluster.as_bytes());
    checked::encode(MAGIC, VERSION, &body)
}

fn decode(bytes: Vec<u8>) -> Option<Succession> {
    let mut body = checked::decode(MAGIC, VERSION, bytes)?;
    let part = match body.u8()? {
        1 => Part::Begins,
        2 => Part::Follows,
        _ => return None,
    };
    let cluster = Uuid::from_slice(&body.bytes(16)?).ok()?;
    Some(Succession { cluster, part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_succession_are_these() {
        let succession = Succession {
            cluster: Uuid::from_u128(0x0102),
            part: Part::Follows,
        };
        let bytes = encode(succession);
        assert_eq!(bytes[8..13], [1, 0, 0, 0, 2]);
        assert_eq!(bytes[13..27], [0; 14]);
        assert_eq!(bytes[27..], [1, 2]);
        assert_eq!(decode(bytes.clone()), Some(succession));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(flipped), None, "bit {bit}");
        }
    }
}
