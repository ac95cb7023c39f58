//! Whose data directory this is.
//!
//! ```text
//!   0          8         12    16            32           33        49             50
//!   +----------+---------+-----+-------------+------------+---------+--------------+-----------+
//!   | magic    | version | CRC | incarnation | cluster is | cluster | broker id is | broker id |
//!   | HWIDENT. | u32     | u32 | 16          | known u8   | 16      | known u8     | u64       |
//!   +----------+---------+-----+-------------+------------+---------+--------------+-----------+
//! ```
//! The CRC is CRC-32 (IEEE) over all but itself. The version is that of all formats in the directory.

use std::path::Path;

use uuid::Uuid;

use crate::checkpoint::{read_whole, write_whole};
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::fs::{self, Fs};

const PATH: &str = "identity";
const MAGIC: [u8; 8] = *b"HWIDENT\0";
/// The version of the formats that this crate reads and writes.
const FORMAT_VERSION: u32 = 1;

/// Names a data directory. It is written once; the cluster and the broker's number are added when they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The version of all formats in the directory.
    pub format_version: u32,
    /// The cluster; `None` until founded or joined.
    pub cluster: Option<Uuid>,
    /// The broker's number in the cluster; `None` until given.
    pub broker_id: Option<u64>,
    /// Drawn when the directory was created: another disk is another incarnation.
    pub incarnation: Uuid,
}

impl Identity {
    /// The identity of a new directory.
    pub(crate) fn new(random: &mut dyn FnMut() -> u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&random().to_le_bytes());
        bytes[8..].copy_from_slice(&random().to_le_bytes());
        let incarnation = uuid::Builder::from_random_bytes(bytes).into_uuid();
        Self {
            format_version: FORMAT_VERSION,
            cluster: None,
            broker_id: None,
            incarnation,
        }
    }

    /// Reads the identity; `None` when the directory has none yet.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::UnsupportedFormat`], [`Error::Io`].
    pub(crate) fn read(fs: &dyn Fs) -> Result<Option<Self>> {
        if fs.len(Path::new(PATH))?.is_none() {
            return Ok(None);
        }
        let bytes = read_whole(fs, Path::new(PATH))?;
        match decode(bytes.into()) {
            Some(identity) if identity.format_version == FORMAT_VERSION => Ok(Some(identity)),
            Some(identity) => Err(Error::UnsupportedFormat {
                found: identity.format_version,
                known: FORMAT_VERSION,
            }),
            None => Err(Error::Corrupt {
                path: PATH.to_owned(),
                reason: "it is not what was written".to_owned(),
            }),
        }
    }

    /// Writes the identity, durably.
    ///
    /// # Errors
    /// When that fails; the one before is then still there.
    pub(crate) fn write(&self, fs: &dyn Fs) -> fs::Result<()> {
        write_whole(fs, Path::new(PATH), &encode(self))?;
        fs.sync_dir(Path::new(""))
    }
}

fn encode(identity: &Identity) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&identity.format_version.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(identity.incarnation.as_bytes());
    out.push(u8::from(identity.cluster.is_some()));
    out.extend_from_slice(identity.cluster.unwrap_or_default().as_bytes());
    out.push(u8::from(identity.broker_id.is_some()));
    out.extend_from_slice(&identity.broker_id.unwrap_or_default().to_le_bytes());
    let crc = crc_of(&out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: Vec<u8>) -> Option<Identity> {
    if bytes.len() < 16 || bytes[..8] != MAGIC {
        return None;
    }
    let expected = crc_of(&bytes);
    let mut cursor = Cursor::new(bytes.into());
    cursor.bytes(8)?;
    let (format_version, crc) = (cursor.u32()?, cursor.u32()?);
    if crc != expected {
        return None;
    }
    let uuid = |cursor: &mut Cursor| Uuid::from_slice(&cursor.bytes(16)?).ok();
    let incarnation = uuid(&mut cursor)?;
    let (has_cluster, cluster) = (cursor.flag()?, uuid(&mut cursor)?);
    let (has_broker, broker) = (cursor.flag()?, cursor.u64()?);
    Some(Identity {
        format_version,
        cluster: has_cluster.then_some(cluster),
        broker_id: has_broker.then_some(broker),
        incarnation,
    })
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..]);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_identity_are_these() {
        let mut identity = Identity::new(&mut || 0x0807_0605_0403_0201);
        identity.broker_id = Some(3);
        let bytes = encode(&identity);
        assert_eq!(bytes[..12], *b"HWIDENT\0\x01\0\0\0");
        assert_eq!(bytes[16..32], *identity.incarnation.as_bytes());
        assert_eq!(
            bytes[32..],
            [&[0; 17][..], &[1, 3, 0, 0, 0, 0, 0, 0, 0]].concat()
        );
        assert_eq!(decode(bytes.clone()), Some(identity));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(flipped), None, "bit {bit}");
        }
    }
}
