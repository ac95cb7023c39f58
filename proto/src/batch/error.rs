//! What can be wrong with a batch.

use super::{Compression, RecordProblem};
use crate::Reason;

/// Why a batch is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end inside the batch.
    #[error("the batch is cut short: it needs {needed} bytes and {found} are there")]
    Cut {
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        found: u64,
    },
    /// The batch length is too small for the header.
    #[error("the batch declares a length of {declared}, less than its own header takes")]
    Length {
        /// The length field.
        declared: i32,
    },
    /// There are more bytes than the batch declares.
    #[error("the batch declares {declared} bytes and {found} were sent")]
    TrailingBytes {
        /// Bytes of the batch by its own length field.
        declared: u64,
        /// Bytes there.
        found: u64,
    },
    /// Not a batch of format 2.
    #[error("the batch has format version {found}, only 2 is supported")]
    Magic {
        /// The magic byte.
        found: u8,
    },
    /// Attribute bits without a meaning.
    #[error("the batch sets unknown attribute bits ({found:#06x})")]
    Attributes {
        /// All attribute bits.
        found: u16,
    },
    /// A compression codec without a meaning.
    #[error("the batch names the unknown compression codec {found}")]
    Codec {
        /// The codec bits.
        found: u16,
    },
    /// The checksum does not fit the bytes.
    #[error("the checksum of the batch is {stored:#010x}, its bytes have {computed:#010x}")]
    Checksum {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// No record, or fewer.
    #[error("the batch has a record count of {found}, at least 1 is needed")]
    Empty {
        /// The record count.
        found: i32,
    },
    /// More records than the bytes or the limit allow.
    #[error("the batch claims {found} records, at most {most} are possible")]
    RecordCount {
        /// The record count.
        found: u32,
        /// Allowed by the bytes present or the configured limit, whichever is less.
        most: u64,
    },
    /// Last offset delta and record count disagree.
    #[error("the batch has last offset delta {found} and {record_count} records")]
    LastOffsetDelta {
        /// The delta.
        found: i32,
        /// The record count.
        record_count: i32,
    },
    /// A base offset below zero, too large, or one set by a client.
    #[error("the batch has base offset {found}, a client must send 0")]
    BaseOffset {
        /// The base offset.
        found: i64,
    },
    /// A leader epoch set by a client.
    #[error("the batch has leader epoch {found}, a client must send -1")]
    LeaderEpoch {
        /// The leader epoch.
        found: i32,
    },
    /// Producer fields that are neither all set nor all absent.
    #[error(
        "the batch has producer id {id}, epoch {epoch}, sequence {sequence}: all or none must be set"
    )]
    Producer {
        /// Producer id.
        id: i64,
        /// Producer epoch.
        epoch: i16,
        /// Base sequence.
        sequence: i32,
    },
    /// Control batches are written by brokers only.
    #[error("a client must not send control batches")]
    Control,
    /// Transactions do not exist yet.
    #[error("transactional batches are not supported")]
    Transactional,
    /// Delete horizons are written by compaction only.
    #[error("a client must not send a delete horizon")]
    DeleteHorizon,
    /// The append time is the broker's to set.
    #[error("a client must not send a batch with timestamp type LogAppendTime")]
    TimestampType,
    /// The max timestamp is not the greatest of the records.
    #[error("the batch has max timestamp {declared}, its greatest record timestamp is {greatest}")]
    MaxTimestamp {
        /// In the header, milliseconds since 1970.
        declared: i64,
        /// Of the records, milliseconds since 1970.
        greatest: i64,
    },
    /// The batch, or what a builder would make of it, is larger than allowed.
    #[error("the batch has {found} bytes, at most {most} are allowed")]
    TooLarge {
        /// Bytes of the batch.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// Part of a record is larger than allowed.
    #[error("record {record} of the batch has {found} in {limit}, at most {most} are allowed")]
    RecordLimit {
        /// Which record, from 0.
        record: u32,
        /// Name of the limit.
        limit: &'static str,
        /// Bytes or pieces found.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// The bytes of a record make no sense.
    #[error("record {record} of the batch is malformed: {problem}")]
    Record {
        /// Which record, from 0.
        record: u32,
        /// What is wrong with it.
        problem: RecordProblem,
    },
    /// There are bytes behind the last record.
    #[error("{bytes} bytes follow the last record of the batch")]
    BytesAfterRecords {
        /// How many.
        bytes: u64,
    },
    /// The compressed records cannot be decompressed.
    #[error("the {codec} data of the batch cannot be decompressed")]
    Decompress {
        /// The codec.
        codec: Compression,
        /// What the decompressor said.
        source: std::io::Error,
    },
    /// Decompressed, the records take more than the caller allows.
    #[error("the {codec} data of the batch takes more than {most} bytes when decompressed")]
    DecompressedTooLarge {
        /// The codec.
        codec: Compression,
        /// The limit in bytes.
        most: u64,
    },
    /// The records cannot be compressed.
    #[error("the batch cannot be compressed with {codec}")]
    Compress {
        /// The codec.
        codec: Compression,
        /// What the compressor said.
        source: std::io::Error,
    },
}

impl Error {
    /// The reason to answer a client that sent such a batch.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Cut { .. }
            | Self::Length { .. }
            | Self::TrailingBytes { .. }
            | Self::Checksum { .. }
            | Self::Decompress { .. } => Reason::CorruptMessage,
            Self::TooLarge { .. }
            | Self::RecordLimit { .. }
            | Self::DecompressedTooLarge { .. } => Reason::MessageTooLarge,
            Self::TimestampType | Self::MaxTimestamp { .. } => Reason::InvalidTimestamp,
            Self::Transactional => Reason::Unsupported,
            Self::Magic { .. }
            | Self::Attributes { .. }
            | Self::Codec { .. }
            | Self::Empty { .. }
            | Self::RecordCount { .. }
            | Self::LastOffsetDelta { .. }
            | Self::BaseOffset { .. }
            | Self::LeaderEpoch { .. }
            | Self::Producer { .. }
            | Self::Control
            | Self::DeleteHorizon
            | Self::Record { .. }
            | Self::BytesAfterRecords { .. } => Reason::InvalidRecord,
            Self::Compress { .. } => Reason::UnknownServerError,
        }
    }
}
