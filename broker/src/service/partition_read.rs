//! Reading one partition: where a reader may read, and what is there. Shards are not asked.

use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::{ApiError, Reason};
use highwater_storage::{Batches, FrameKind, Offset, Term};

use super::fetch_plan::PlannedRead;
use super::read_pool::ReadPool;
use super::refusals;
use crate::hosted::HostedPartition;
use crate::partition::{PartitionShared, Standing};

/// One look at a partition. An answer is made of one look, so that what it says and what it carries belong together.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) standing: Standing,
    pub(super) log_start: Offset,
    pub(super) high_watermark: Offset,
}

impl View {
    /// Looks. The log start comes before the high watermark, so that it never passes it.
    pub(super) fn of(shared: &PartitionShared) -> Self {
        Self {
            standing: shared.standing(),
            log_start: shared.log_start(),
            high_watermark: shared.high_watermark(),
        }
    }
}

/// What a reader may do at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Records are there, up to the high watermark.
    Data,
    /// Nothing is there yet: the offset is the high watermark.
    End,
    /// The offset is in the log but not committed: wait, then `OFFSET_NOT_AVAILABLE`.
    Uncommitted,
    /// The partition has no serving leader here yet, but is about to: wait, then this error.
    Opening,
}

/// The epoch of a leader that serves here.
///
/// # Errors
/// `NOT_LEADER_OR_FOLLOWER`, also where the reader knows a newer leader; `FENCED_LEADER_EPOCH` where it knows an older
/// one; `STORAGE_ERROR` where the log failed. `Ok(None)`: about to lead.
pub(super) fn leader_term(
    partition: &HostedPartition,
    standing: Standing,
    known_epoch: Option<u64>,
) -> Result<Option<Term>, ApiError> {
    let term = match standing {
        Standing::Serving { term } => term,
        Standing::Opening { .. } | Standing::Following { leader: None, .. } => return Ok(None),
        Standing::Following {
            leader: Some(leader),
            ..
        } => {
            return Err(ApiError::new(
                Reason::NotLeaderOrFollower,
                "this broker does not lead the partition: refresh the metadata and ask its leader",
            )
            .with("leader_replica_id", leader.0));
        }
        // Its log takes no more records, but what it holds is read here or nowhere.
        Standing::Quarantined if partition.is_sole_replica => return Ok(Some(Term(0))),
        Standing::Quarantined => {
            return Err(ApiError::new(
                Reason::NotLeaderOrFollower,
                "the partition's log failed or is damaged, so it has no leader here: see the broker's health",
            ));
        }
    };
    match known_epoch {
        Some(known) if known > term.0 => Err(ApiError::new(
            Reason::NotLeaderOrFollower,
            format!(
                "the request names leader epoch {known}, this broker leads in {}: it is behind",
                term.0
            ),
        )),
        Some(known) if known < term.0 => Err(ApiError::new(
            Reason::FencedLeaderEpoch,
            format!(
                "the request names leader epoch {known}, the partition is in {}: refresh the metadata",
                term.0
            ),
        )
        .with("leader_epoch", term.0)),
        _ => Ok(Some(term)),
    }
}

/// What a reader may do at its offset, in a view of the partition.
///
/// # Errors
/// As [`leader_term`]; `OFFSET_OUT_OF_RANGE` below the log start or above the log end.
pub(super) fn position(
    partition: &HostedPartition,
    view: &View,
    planned: &PlannedRead,
) -> Result<Position, ApiError> {
    let offset = planned.offset;
    // What is committed is so whoever leads: a follower need not know.
    if planned.allow_follower
        && matches!(view.standing, Standing::Following { .. })
        && offset >= view.log_start
    {
        return Ok(committed(offset, view.high_watermark));
    }
    if leader_term(partition, view.standing, planned.known_epoch)?.is_none() {
        return Ok(Position::Opening);
    }
    let View {
        log_start,
        high_watermark,
        ..
    } = *view;
    if offset < log_start || offset > partition.shared.log_end() {
        return Err(ApiError::new(
            Reason::OffsetOutOfRange,
            format!("offset {offset} is outside of what the partition holds, {log_start} to {high_watermark}"),
        )
        .with("log_start_offset", log_start)
        .with("high_watermark", high_watermark));
    }
    Ok(committed(offset, high_watermark))
}

fn committed(offset: Offset, high_watermark: Offset) -> Position {
    match offset.cmp(&high_watermark) {
        std::cmp::Ordering::Less => Position::Data,
        std::cmp::Ordering::Equal => Position::End,
        std::cmp::Ordering::Greater => Position::Uncommitted,
    }
}

/// The answer of a partition that did not get ready while the reader waited.
pub(super) fn still_opening() -> ApiError {
    ApiError::new(
        Reason::LeaderNotAvailable,
        "the partition has no serving leader yet: an election is under way, try again shortly",
    )
}

/// The answer to an offset that did not get committed while the reader waited.
pub(super) fn still_uncommitted(offset: Offset, shared: &PartitionShared) -> ApiError {
    ApiError::new(
        Reason::OffsetNotAvailable,
        format!(
            "offset {offset} is not committed yet, the high watermark is {}: try again",
            shared.high_watermark()
        ),
    )
    .with("high_watermark", shared.high_watermark())
}

/// What was read of a partition.
#[derive(Debug, Default)]
pub(super) struct ReadBatches {
    /// Whole batches; the first may begin below the offset asked for.
    pub(super) batches: Vec<Bytes>,
    /// The offset after them.
    pub(super) next_offset: Offset,
    /// Bytes of them.
    pub(super) bytes: u64,
}

/// Reads whole batches from `offset` on, below `high_watermark`: from memory where that is possible, otherwise on a
/// thread that may wait for the disk.
///
/// # Errors
/// `DATA_LOSS` for damage, `OFFSET_OUT_OF_RANGE` when the records left meanwhile.
pub(super) async fn read(
    partition: &Arc<HostedPartition>,
    reads: &ReadPool,
    offset: Offset,
    high_watermark: Offset,
    max_bytes: u64,
) -> Result<ReadBatches, ApiError> {
    let reader = &partition.reader;
    let found = match reader.read_cached(offset, high_watermark, max_bytes) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => {
            let reader = reader.clone();
            reads
                .run(move || reader.read(offset, high_watermark, max_bytes))
                .await?
        }
        Err(error) => Err(error),
    };
    found
        .map(|found| collect(found, offset))
        .map_err(|error| refusals::of_read(&error))
}

/// Takes the batches out of the frames. Where a repair gave records up, there is nothing to return: readers go on
/// behind them.
fn collect(found: Batches, offset: Offset) -> ReadBatches {
    let mut read = ReadBatches {
        next_offset: offset,
        ..ReadBatches::default()
    };
    for frame in found.frames {
        let next = Offset(frame.base_offset.0 + u64::from(frame.record_count));
        read.next_offset = read.next_offset.max(next);
        if frame.kind == FrameKind::Batch {
            read.bytes += frame.payload.len() as u64;
            read.batches.push(frame.payload);
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use highwater_storage::{Frame, RaftIndex};

    use super::*;

    fn frame(kind: FrameKind, base_offset: u64, record_count: u32) -> Frame {
        Frame {
            index: RaftIndex(base_offset + 1),
            term: Term(1),
            kind,
            base_offset: Offset(base_offset),
            record_count,
            max_timestamp_ms: 0,
            payload: Bytes::from_static(b"batch"),
        }
    }

    #[test]
    fn lost_records_are_passed_over() {
        let frames = vec![
            frame(FrameKind::Batch, 0, 3),
            frame(FrameKind::Lost, 3, 4),
            frame(FrameKind::Batch, 7, 1),
        ];
        let read = collect(Batches { frames }, Offset(1));
        assert_eq!((read.batches.len(), read.bytes), (2, 10));
        assert_eq!(read.next_offset, Offset(8));
        let read = collect(
            Batches {
                frames: vec![frame(FrameKind::Lost, 3, 4)],
            },
            Offset(3),
        );
        assert_eq!((read.batches.len(), read.next_offset), (0, Offset(7)));
    }

    #[test]
    fn an_empty_read_stays_where_it_is() {
        let read = collect(Batches::default(), Offset(5));
        assert_eq!(read.next_offset, Offset(5));
    }
}
