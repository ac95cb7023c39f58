//! Why a partition refuses a command.

use highwater_proto::{ProducerEpoch, ProducerId, Reason, Sequence};
use highwater_storage::Offset;

use crate::raft::machine::Refusal;

/// Why a partition refused a command. All but [`Refusal::Indefinite`] and a [`Refusal::NotEnoughReplicas`] after the
/// append are definite: the command wrote nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The batch is larger than `max.message.bytes`.
    #[error("the batch has {bytes} bytes, the topic's max.message.bytes is {limit_bytes}")]
    MessageTooLarge {
        /// Its size.
        bytes: u64,
        /// The topic's limit.
        limit_bytes: u64,
    },
    /// A timestamp is too far from the broker's clock.
    #[error(
        "a record is dated {timestamp_ms} ms, which is more than {limit_name} ({limit_ms} ms) from the broker's \
         clock ({now_ms} ms)"
    )]
    InvalidTimestamp {
        /// The timestamp, in milliseconds since the Unix epoch.
        timestamp_ms: i64,
        /// The broker's clock, in milliseconds since the Unix epoch.
        now_ms: i64,
        /// The topic config that was violated.
        limit_name: &'static str,
        /// Its value in milliseconds.
        limit_ms: u64,
    },
    /// The sequence neither follows the producer's last one nor was stored before.
    #[error(
        "producer {producer_id} sent sequence {found} in epoch {epoch} where {expected} comes next: batches in \
         between are missing"
    )]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the batch.
        epoch: ProducerEpoch,
        /// The sequence that would be appended.
        expected: Sequence,
        /// The batch's sequence.
        found: Sequence,
    },
    /// The batch is in the log already, but so long ago that its offset is not remembered.
    #[error(
        "sequence {sequence} of producer {producer_id} is stored already; its offset is no longer remembered"
    )]
    DuplicateSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's sequence.
        sequence: Sequence,
    },
    /// A newer epoch of this producer has written: the sender is fenced.
    #[error("producer {producer_id} sent epoch {found}, its epoch {current} has written already")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's epoch.
        found: ProducerEpoch,
        /// The newest epoch known.
        current: ProducerEpoch,
    },
    /// Nothing is remembered of the producer, and its batch is not its first.
    #[error(
        "nothing is known of producer {producer_id}, so sequence {sequence} cannot be placed: it expired, or an \
         earlier batch did not arrive"
    )]
    UnknownProducerId {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's sequence.
        sequence: Sequence,
    },
    /// The partition remembers as many producers as it may.
    #[error(
        "the partition remembers {limit} idempotent producers already (partition.max.producers)"
    )]
    TooManyProducers {
        /// The limit.
        limit: usize,
    },
    /// A trim beyond the high watermark.
    #[error("{}", describe_out_of_range(*offset, *log_start, *high_watermark))]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// First offset held.
        log_start: Offset,
        /// First offset not committed.
        high_watermark: Offset,
    },
    /// The batch has no valid header: the caller did not check it.
    #[error("the batch is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The Raft layer turned the command away.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

fn describe_out_of_range(offset: Offset, log_start: Offset, high_watermark: Offset) -> String {
    if log_start == high_watermark {
        return format!(
            "the partition holds no records and goes on at offset {high_watermark}: it cannot be trimmed to {offset}"
        );
    }
    format!(
        "the partition goes from offset {log_start} up to {high_watermark}, the next to be written: it cannot be \
         trimmed to {offset}, choose an offset between the two"
    )
}

impl Error {
    /// The reason that clients are told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::MessageTooLarge { .. } => Reason::MessageTooLarge,
            Self::InvalidTimestamp { .. } => Reason::InvalidTimestamp,
            Self::OutOfOrderSequence { .. } => Reason::OutOfOrderSequenceNumber,
            Self::DuplicateSequence { .. } => Reason::DuplicateSequenceNumber,
            Self::InvalidProducerEpoch { .. } => Reason::InvalidProducerEpoch,
            Self::UnknownProducerId { .. } => Reason::UnknownProducerId,
            Self::TooManyProducers { .. } => Reason::Throttled,
            Self::OffsetOutOfRange { .. } => Reason::OffsetOutOfRange,
            Self::Malformed { .. } => Reason::InvalidRecord,
            Self::Refused(refusal) => {
                refusal.reason(Reason::NotLeaderOrFollower, Reason::UnknownTopicOrPartition)
            }
        }
    }
}
