//! One entry of a log as bytes.
//!
//! ```text
//!   0        4        8         12        16       24      32            40                 48             52     53
//!   +--------+--------+---------+---------+--------+-------+-------------+------------------+--------------+------+--------+
//!   | magic  | header | payload | payload | Raft   | term  | base offset | max timestamp    | record count | kind | zero   |
//!   | "HWF1" | CRC    | bytes   | CRC     | index  |       |             | ms, signed       |              |      | 3      |
//!   | u32    | u32    | u32     | u32     | u64    | u64   | u64         | i64              | u32          | u8   |        |
//!   +--------+--------+---------+---------+--------+-------+-------------+------------------+--------------+------+--------+
//!  56 payload, then zeros up to a multiple of 8
//! ```
//!
//! All numbers are little-endian. A frame starts at a multiple of 8.
//!
//! - The **header CRC** is CRC-32 (IEEE) over a u64 salt and then the header but for itself. The salt is drawn anew each time a file is
//!   put to use, so that the bytes of its former life never pass for frames. Because the CRC covers the payload length, no length is
//!   believed that was not written by us.
//! - The **payload CRC** is CRC-32C. For a batch (a Kafka record batch v2) it is the batch's own CRC, over its bytes from 21 on. The 21
//!   bytes before (base offset, length, leader epoch, magic and that CRC) all follow from the frame header: they are written anew with
//!   each frame, and reading compares them. For every other kind it covers the whole payload.
//! - Where a header would start, zeros (or too few bytes for one) are the clean end of the frames.
//!
//! Not decided here: whether bytes that are no frame are a torn tail or damage. Only who knows what was durable can tell.

use bytes::Bytes;

use crate::ids::{Offset, RaftIndex, Term};

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 56;

/// Frames start at multiples of this.
pub const ALIGNMENT: usize = 8;

/// The longest payload of one frame. A length above it is refused before anything is allocated.
pub const MAX_PAYLOAD_BYTES: u32 = 256 * 1024 * 1024;

/// The shortest payload of a batch: a record batch v2 without a record.
pub const MIN_BATCH_BYTES: usize = 61;

/// The bytes at the start of a batch that are derived from the frame header.
pub const BATCH_PREFIX_BYTES: usize = 21;

const MAGIC: [u8; 4] = *b"HWF1";
const BATCH_MAGIC: u8 = 2;
/// Bytes of a batch before what its own length field counts.
const BATCH_LENGTH_FROM: u32 = 12;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A record batch v2. The only kind, with [`FrameKind::Lost`] in its place, that takes offsets.
    Batch,
    /// The empty entry of a new leader.
    NoOp,
    /// A membership change.
    ConfChange,
    /// Events of a state machine.
    Events,
    /// What stands where frames were lost and a repair gave up on them.
    Lost,
}

impl FrameKind {
    /// The byte that stands for the kind, in files and in Raft entries.
    pub fn code(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::NoOp => 2,
            Self::ConfChange => 3,
            Self::Events => 4,
            Self::Lost => 5,
        }
    }

    /// The kind that `code` stands for.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Batch,
            2 => Self::NoOp,
            3 => Self::ConfChange,
            4 => Self::Events,
            5 => Self::Lost,
            _ => return None,
        })
    }

    fn takes_offsets(self) -> bool {
        matches!(self, Self::Batch | Self::Lost)
    }
}

/// An entry to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFrame {
    /// Where the entry stands in the log.
    pub index: RaftIndex,
    /// The term it was proposed in; below 2^31 for a batch.
    pub term: Term,
    /// What it is.
    pub kind: FrameKind,
    /// How many offsets it takes: 0 unless it is a batch, or a lost frame that stands for batches.
    pub record_count: u32,
    /// The largest timestamp of its records in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// The contents. A batch is whole; its first 17 bytes count for nothing, its CRC (bytes 17 to 21) was checked by the caller.
    pub payload: Bytes,
}

/// An entry as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where the entry stands in the log.
    pub index: RaftIndex,
    /// The term it was proposed in.
    pub term: Term,
    /// What it is.
    pub kind: FrameKind,
    /// The offset of its first record; of the next record to come when it has none.
    pub base_offset: Offset,
    /// How many offsets it takes.
    pub record_count: u32,
    /// The largest timestamp of its records in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// The contents; of a batch with its first 21 bytes as this log gave them.
    pub payload: Bytes,
}

impl Frame {
    /// The offset after the last record.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(self.record_count)
    }
}

/// Why bytes or an entry are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The header is not one, or not one of this file's present life.
    #[error("no frame header")]
    Header,
    /// The header CRC fits, and yet a field is out of its range: written by a newer version, or by a bug.
    #[error("frame header with a field out of range: {0}")]
    Field(&'static str),
    /// The payload is not the one that the header was written with.
    #[error("payload does not match its CRC")]
    Payload,
    /// A batch is too short, or its term does not fit a leader epoch.
    #[error("batch cannot be framed: {0}")]
    Batch(&'static str),
}

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A frame starts here.
    Header(FrameHeader),
    /// Nothing was ever written here.
    End,
}

/// A frame but for its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of Frame")]
pub struct FrameHeader {
    pub index: RaftIndex,
    pub term: Term,
    pub kind: FrameKind,
    pub base_offset: Offset,
    pub record_count: u32,
    pub max_timestamp_ms: i64,
    /// Bytes of the payload.
    pub payload_len: u32,
    /// CRC-32C of the payload; of a batch from byte 21 on.
    pub payload_crc: u32,
}

impl FrameHeader {
    /// The header under which `frame` is written when the log's next record has offset `base_offset`.
    ///
    /// # Errors
    /// [`Error::Batch`] or [`Error::Field`] when the entry has no form on disk.
    pub fn new(frame: &NewFrame, base_offset: Offset) -> Result<Self, Error> {
        let payload_len =
            u32::try_from(frame.payload.len()).map_err(|_| Error::Field("payload length"))?;
        let payload_crc = match frame.kind {
            FrameKind::Batch => {
                let crc = frame
                    .payload
                    .get(17..21)
                    .filter(|_| frame.payload.len() >= MIN_BATCH_BYTES);
                let crc = crc.ok_or(Error::Batch("shorter than its header"))?;
                u32::from_be_bytes(crc.try_into().expect("four bytes"))
            }
            _ => crc32c::crc32c(&frame.payload),
        };
        let header = Self {
            index: frame.index,
            term: frame.term,
            kind: frame.kind,
            base_offset,
            record_count: frame.record_count,
            max_timestamp_ms: frame.max_timestamp_ms,
            payload_len,
            payload_crc,
        };
        header.check_fields()?;
        Ok(header)
    }

    /// The header as bytes, valid under `salt`.
    pub fn encode(&self, salt: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.base_offset.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.max_timestamp_ms.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[52] = self.kind.code();
        let crc = header_crc(&bytes, salt);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Bytes of the whole frame, padding included.
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_len)
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(self.record_count)
    }

    /// Checks `payload`, which stands after this header.
    ///
    /// # Errors
    /// [`Error::Payload`] unless it is byte for byte the one that was written.
    pub fn verify_payload(&self, payload: &[u8]) -> Result<(), Error> {
        if payload.len() != self.payload_len as usize {
            return Err(Error::Payload);
        }
        let covered = match self.batch_prefix() {
            Some(prefix) => payload.strip_prefix(&prefix).ok_or(Error::Payload)?,
            None => payload,
        };
        if crc32c::crc32c(covered) == self.payload_crc {
            Ok(())
        } else {
            Err(Error::Payload)
        }
    }

    /// The frame with its payload, which was or will be verified.
    pub fn with_payload(&self, payload: Bytes) -> Frame {
        Frame {
            index: self.index,
            term: self.term,
            kind: self.kind,
            base_offset: self.base_offset,
            record_count: self.record_count,
            max_timestamp_ms: self.max_timestamp_ms,
            payload,
        }
    }

    /// The first bytes of a batch as this header gives them; `None` for other kinds.
    fn batch_prefix(&self) -> Option<[u8; BATCH_PREFIX_BYTES]> {
        if self.kind != FrameKind::Batch {
            return None;
        }
        let epoch = u32::try_from(self.term.0).expect("checked with the fields");
        let mut prefix = [0; BATCH_PREFIX_BYTES];
        prefix[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        prefix[8..12].copy_from_slice(&(self.payload_len - BATCH_LENGTH_FROM).to_be_bytes());
        prefix[12..16].copy_from_slice(&epoch.to_be_bytes());
        prefix[16] = BATCH_MAGIC;
        prefix[17..21].copy_from_slice(&self.payload_crc.to_be_bytes());
        Some(prefix)
    }

    fn check_fields(&self) -> Result<(), Error> {
        if self.payload_len > MAX_PAYLOAD_BYTES {
            return Err(Error::Field("payload length"));
        }
        if self.index.0 == 0 {
            return Err(Error::Field("index"));
        }
        let last = self.base_offset.0.checked_add(u64::from(self.record_count));
        if last.is_none_or(|last| i64::try_from(last).is_err()) {
            return Err(Error::Field("base offset"));
        }
        if self.record_count > 0 && !self.kind.takes_offsets() {
            return Err(Error::Field("record count"));
        }
        if self.kind == FrameKind::Batch {
            if (self.payload_len as usize) < MIN_BATCH_BYTES {
                return Err(Error::Batch("shorter than its header"));
            }
            if i32::try_from(self.term.0).is_err() {
                return Err(Error::Batch("term above the leader epochs"));
            }
        }
        Ok(())
    }
}

/// Bytes of a frame with a payload of `payload_len` bytes, padding included.
pub fn frame_bytes(payload_len: u32) -> u64 {
    (HEADER_BYTES as u64 + u64::from(payload_len)).next_multiple_of(ALIGNMENT as u64)
}

/// Reads the header at the start of `bytes`, which go on to the end of the file or further than one header.
///
/// # Errors
/// [`Error::Header`] for bytes that were not written under `salt`.
pub fn decode_header(bytes: &[u8], salt: u64) -> Result<Decoded, Error> {
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(Decoded::End);
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(Decoded::End);
    }
    if bytes[0..4] != MAGIC || u32_at(bytes, 4) != header_crc(bytes, salt) {
        return Err(Error::Header);
    }
    let kind = FrameKind::from_code(bytes[52]).ok_or(Error::Field("kind"))?;
    let header = FrameHeader {
        index: RaftIndex(u64_at(bytes, 16)),
        term: Term(u64_at(bytes, 24)),
        kind,
        base_offset: Offset(u64_at(bytes, 32)),
        record_count: u32_at(bytes, 48),
        max_timestamp_ms: u64_at(bytes, 40).cast_signed(),
        payload_len: u32_at(bytes, 8),
        payload_crc: u32_at(bytes, 12),
    };
    header.check_fields()?;
    Ok(Decoded::Header(header))
}

/// A frame ready to be written: three runs of bytes, of which the long one is the caller's own.
#[derive(Clone, Debug)]
pub struct EncodedFrame {
    header: FrameHeader,
    head: [u8; HEADER_BYTES + BATCH_PREFIX_BYTES],
    head_len: usize,
    body: Bytes,
}

/// Makes `frame` ready to be written under `salt` where the next record has offset `base_offset`. The payload is not copied.
///
/// # Errors
/// As [`FrameHeader::new`].
pub fn encode(frame: &NewFrame, base_offset: Offset, salt: u64) -> Result<EncodedFrame, Error> {
    let header = FrameHeader::new(frame, base_offset)?;
    let mut head = [0; HEADER_BYTES + BATCH_PREFIX_BYTES];
    head[..HEADER_BYTES].copy_from_slice(&header.encode(salt));
    let prefix_len = match header.batch_prefix() {
        Some(prefix) => {
            head[HEADER_BYTES..].copy_from_slice(&prefix);
            BATCH_PREFIX_BYTES
        }
        None => 0,
    };
    Ok(EncodedFrame {
        header,
        head,
        head_len: HEADER_BYTES + prefix_len,
        body: frame.payload.slice(prefix_len..),
    })
}

impl EncodedFrame {
    /// The header that was encoded.
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The same frame under another salt.
    pub fn with_salt(&self, salt: u64) -> Self {
        let mut other = self.clone();
        other.head[..HEADER_BYTES].copy_from_slice(&self.header.encode(salt));
        other
    }

    /// The runs to write one after the other: [`FrameHeader::frame_bytes`] bytes in all.
    pub fn parts(&self) -> [&[u8]; 3] {
        const PADDING: [u8; ALIGNMENT] = [0; ALIGNMENT];
        let padding = (HEADER_BYTES + self.header.payload_len as usize).next_multiple_of(ALIGNMENT)
            - (HEADER_BYTES + self.header.payload_len as usize);
        [&self.head[..self.head_len], &self.body, &PADDING[..padding]]
    }

    /// The frame in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts().concat()
    }
}

fn header_crc(header: &[u8; HEADER_BYTES], salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&header[0..4]);
    hasher.update(&header[8..]);
    hasher.finalize()
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: u64 = 0x0123_4567_89ab_cdef;

    fn batch(body: &[u8]) -> Bytes {
        let mut batch = vec![0xee; BATCH_PREFIX_BYTES];
        batch.extend_from_slice(body);
        batch.resize(batch.len().max(MIN_BATCH_BYTES), 7);
        let crc = crc32c::crc32c(&batch[BATCH_PREFIX_BYTES..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch.into()
    }

    fn new_frame(kind: FrameKind, payload: Bytes) -> NewFrame {
        let record_count = if kind.takes_offsets() { 3 } else { 0 };
        NewFrame {
            index: RaftIndex(5),
            term: Term(2),
            kind,
            record_count,
            max_timestamp_ms: -1,
            payload,
        }
    }

    fn kinds() -> impl Strategy<Value = FrameKind> {
        (1..=5u8).prop_map(|code| FrameKind::from_code(code).unwrap())
    }

    #[test]
    fn bytes_of_a_frame_are_these() {
        let frame = new_frame(FrameKind::Events, Bytes::from_static(b"hello"));
        let bytes = encode(&frame, Offset(0x1122), SALT).unwrap().to_vec();
        let expected = [
            b'H', b'W', b'F', b'1', 0x4a, 0xff, 0x74, 0x2a, // magic, header CRC
            5, 0, 0, 0, 0x4c, 0xbb, 0x71, 0x9a, // payload bytes, payload CRC
            5, 0, 0, 0, 0, 0, 0, 0, // index
            2, 0, 0, 0, 0, 0, 0, 0, // term
            0x22, 0x11, 0, 0, 0, 0, 0, 0, // base offset
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // max timestamp
            0, 0, 0, 0, 4, 0, 0, 0, // record count, kind
            b'h', b'e', b'l', b'l', b'o', 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn batch_is_written_with_the_prefix_of_its_place() {
        let payload = batch(b"records");
        let encoded = encode(
            &new_frame(FrameKind::Batch, payload.clone()),
            Offset(77),
            SALT,
        )
        .unwrap();
        let bytes = encoded.to_vec();
        let written = &bytes[HEADER_BYTES..HEADER_BYTES + payload.len()];
        assert_eq!(written[0..8], 77u64.to_be_bytes());
        assert_eq!(
            written[8..12],
            49u32.to_be_bytes(),
            "counts what follows it"
        );
        assert_eq!(written[12..16], 2u32.to_be_bytes(), "term");
        assert_eq!(written[16], 2, "magic");
        assert_eq!(written[17..], payload[17..], "CRC and what it covers");
        encoded.header().verify_payload(written).unwrap();
    }

    #[test]
    fn change_in_the_derived_bytes_of_a_batch_is_found() {
        let encoded = encode(&new_frame(FrameKind::Batch, batch(b"x")), Offset(77), SALT).unwrap();
        for at in 0..MIN_BATCH_BYTES {
            let mut payload =
                encoded.to_vec()[HEADER_BYTES..HEADER_BYTES + MIN_BATCH_BYTES].to_vec();
            payload[at] ^= 1;
            assert_eq!(
                encoded.header().verify_payload(&payload),
                Err(Error::Payload),
                "byte {at}"
            );
        }
    }

    #[test]
    fn zeros_and_short_rests_are_the_end() {
        assert_eq!(decode_header(&[], SALT), Ok(Decoded::End));
        assert_eq!(
            decode_header(&[1; HEADER_BYTES - 1], SALT),
            Ok(Decoded::End)
        );
        assert_eq!(decode_header(&[0; 4096], SALT), Ok(Decoded::End));
    }

    #[test]
    fn entries_without_a_form_are_refused() {
        let mut frame = new_frame(FrameKind::Batch, Bytes::from_static(&[0; 60]));
        assert!(matches!(
            encode(&frame, Offset(0), SALT),
            Err(Error::Batch(_))
        ));
        frame.payload = batch(b"");
        frame.term = Term(1 << 31);
        assert!(matches!(
            encode(&frame, Offset(0), SALT),
            Err(Error::Batch(_))
        ));
        frame.term = Term(1);
        assert!(matches!(
            encode(&frame, Offset(i64::MAX as u64), SALT),
            Err(Error::Field(_))
        ));
        frame.kind = FrameKind::NoOp;
        assert!(matches!(
            encode(&frame, Offset(0), SALT),
            Err(Error::Field(_))
        ));
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(
            kind in kinds(), body: Vec<u8>, index in 1..u64::MAX, term in 0..1u64 << 31, base in 0..1u64 << 60, salt: u64, timestamp: i64,
        ) {
            let payload = if kind == FrameKind::Batch { batch(&body) } else { body.into() };
            let mut frame = new_frame(kind, payload);
            (frame.index, frame.term, frame.max_timestamp_ms) = (RaftIndex(index), Term(term), timestamp);
            let encoded = encode(&frame, Offset(base), 1).unwrap().with_salt(salt);
            let bytes = encoded.to_vec();
            prop_assert_eq!(bytes.len() as u64, encoded.header().frame_bytes());
            prop_assert_eq!(decode_header(&bytes, salt), Ok(Decoded::Header(*encoded.header())));
            prop_assert_eq!(encoded.header().index, frame.index);
            let payload = &bytes[HEADER_BYTES..HEADER_BYTES + frame.payload.len()];
            prop_assert_eq!(encoded.header().verify_payload(payload), Ok(()));
            prop_assert_eq!(decode_header(&bytes, salt.wrapping_add(1)), Err(Error::Header), "another life of the file");
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, salt: u64) {
            let decoded = decode_header(&bytes, salt);
            prop_assert!(!matches!(decoded, Ok(Decoded::Header(_))));
        }

        #[test]
        fn arbitrary_fields_under_a_good_crc_never_panic(mut bytes in prop::array::uniform32(any::<u8>()), rest in prop::array::uniform20(any::<u8>()), kind in 0..8u8) {
            bytes[0..4].copy_from_slice(&MAGIC);
            let mut header = [0; HEADER_BYTES];
            header[..32].copy_from_slice(&bytes);
            header[32..52].copy_from_slice(&rest);
            header[52] = kind;
            let crc = header_crc(&header, SALT);
            header[4..8].copy_from_slice(&crc.to_le_bytes());
            if let Ok(Decoded::Header(decoded)) = decode_header(&header, SALT) {
                prop_assert!(decoded.payload_len <= MAX_PAYLOAD_BYTES);
                prop_assert_eq!(decoded.encode(SALT), header);
                let _ = decoded.verify_payload(&bytes);
                let _ = decoded.next_offset();
            }
        }

        #[test]
        fn any_flipped_bit_of_a_header_is_found(bit in 0..HEADER_BYTES * 8) {
            let mut bytes = encode(&new_frame(FrameKind::NoOp, Bytes::new()), Offset(9), SALT).unwrap().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode_header(&bytes, SALT), Err(Error::Header));
        }
    }
}
