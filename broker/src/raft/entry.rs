//! The four forms of a log entry: as a machine proposes it, as Raft carries it, as a frame on disk, as a machine
//! applies it.
//!
//! Raft's `Entry.context` is one byte, the frame's kind. The record count and the max timestamp of a batch stand in
//! the batch itself; a lost frame carries its own as the entry's data, since it has no other.

use bytes::Bytes;
use highwater_proto::batch::BatchHeader;
use highwater_storage::{Frame, FrameKind, NewFrame, Offset, RaftIndex, Term};
use raft::eraftpb::{Entry, EntryType};

use super::config::TERM_LIMIT;
use super::machine::{CommittedEntry, EntryKind, NewEntry};

/// The longest membership change that is taken from a peer, in bytes. A parser's recursion is bounded by it.
const MAX_CHANGE_BYTES: usize = 4096;

/// Bytes of a lost frame's data: record count (u32) and max timestamp (i64), little-endian.
const LOST_BYTES: usize = 12;

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index}: {rule}")]
pub(super) struct BadEntry {
    pub(super) index: u64,
    pub(super) rule: &'static str,
}

/// What an entry takes in the log besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    record_count: u32,
    max_timestamp_ms: i64,
}

const NO_RECORDS: Extent = Extent {
    record_count: 0,
    max_timestamp_ms: -1,
};

/// The entry that carries a proposal; Raft gives it its index and term.
pub(super) fn from_proposal(new: &NewEntry) -> Entry {
    let kind = match new.kind {
        EntryKind::Batch => FrameKind::Batch,
        EntryKind::Events => FrameKind::Events,
    };
    Entry {
        context: context(kind),
        data: new.data.clone(),
        ..Entry::default()
    }
}

/// The entry that a frame holds.
pub(super) fn from_frame(frame: Frame) -> Entry {
    let mut entry = Entry {
        index: frame.index.0,
        term: frame.term.0,
        ..Entry::default()
    };
    match frame.kind {
        FrameKind::NoOp => {}
        FrameKind::ConfChange => {
            entry.set_entry_type(EntryType::EntryConfChangeV2);
            entry.data = frame.payload;
        }
        FrameKind::Batch | FrameKind::Events => {
            entry.context = context(frame.kind);
            entry.data = frame.payload;
        }
        FrameKind::Lost => {
            let mut data = [0; LOST_BYTES];
            data[..4].copy_from_slice(&frame.record_count.to_le_bytes());
            data[4..].copy_from_slice(&frame.max_timestamp_ms.to_le_bytes());
            entry.context = context(frame.kind);
            entry.data = Bytes::copy_from_slice(&data);
        }
    }
    entry
}

/// The entry of this kind and with this data that a peer sent.
pub(crate) fn from_peer(kind: FrameKind, index: u64, term: u64, data: Bytes) -> Entry {
    let mut entry = Entry {
        index,
        term,
        data,
        ..Entry::default()
    };
    match kind {
        FrameKind::NoOp => {}
        FrameKind::ConfChange => entry.set_entry_type(EntryType::EntryConfChangeV2),
        FrameKind::Batch | FrameKind::Events | FrameKind::Lost => entry.context = context(kind),
    }
    entry
}

/// Which kind an entry of ours is; `None` for what no replica of ours writes.
pub(crate) fn kind_of(entry: &Entry) -> Option<FrameKind> {
    kind(entry).ok()
}

/// The frame that keeps an entry.
pub(super) fn to_frame(entry: &Entry) -> Result<NewFrame, BadEntry> {
    let kind = kind(entry)?;
    let extent = extent(kind, entry)?;
    Ok(NewFrame {
        index: RaftIndex(entry.index),
        term: Term(entry.term),
        kind,
        record_count: extent.record_count,
        max_timestamp_ms: extent.max_timestamp_ms,
        payload: match kind {
            FrameKind::NoOp | FrameKind::Lost => Bytes::new(),
            FrameKind::Batch | FrameKind::ConfChange | FrameKind::Events => entry.data.clone(),
        },
    })
}

/// An entry on its way into the applied state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    /// The empty entry of a new leader, or of a membership change that its leader ignored.
    NoOp,
    /// A membership change. Raft has it in force already.
    MembersChanged,
    /// What stands where records were lost.
    Lost {
        base_offset: Offset,
        record_count: u32,
    },
    /// An entry for the machine.
    ForMachine(CommittedEntry),
}

impl Committed {
    /// The offset after this entry, which stands at `base_offset`.
    pub(super) fn next_offset(&self, base_offset: Offset) -> Offset {
        match self {
            Self::NoOp | Self::MembersChanged => base_offset,
            Self::Lost { record_count, .. } => base_offset.plus(*record_count),
            Self::ForMachine(entry) => base_offset.plus(entry.record_count),
        }
    }
}

/// What a committed entry at `base_offset` means.
pub(super) fn to_committed(entry: Entry, base_offset: Offset) -> Result<Committed, BadEntry> {
    let frame_kind = kind(&entry)?;
    let extent = extent(frame_kind, &entry)?;
    let kind = match frame_kind {
        FrameKind::NoOp => return Ok(Committed::NoOp),
        FrameKind::ConfChange => return Ok(Committed::MembersChanged),
        FrameKind::Batch => EntryKind::Batch,
        FrameKind::Events => EntryKind::Events,
        FrameKind::Lost => {
            return Ok(Committed::Lost {
                base_offset,
                record_count: extent.record_count,
            });
        }
    };
    Ok(Committed::ForMachine(CommittedEntry {
        index: RaftIndex(entry.index),
        term: Term(entry.term),
        kind,
        base_offset,
        record_count: extent.record_count,
        max_timestamp_ms: extent.max_timestamp_ms,
        data: entry.data,
    }))
}

/// Checks an entry that a peer sent.
pub(super) fn check(entry: &Entry, max_bytes: usize) -> Result<(), BadEntry> {
    let kind = kind(entry)?;
    let bad = |rule| BadEntry {
        index: entry.index,
        rule,
    };
    if entry.term == 0 || entry.term >= TERM_LIMIT {
        return Err(bad("its term is 0, or 2^31 or more"));
    }
    let limit = match kind {
        FrameKind::ConfChange => MAX_CHANGE_BYTES,
        _ => max_bytes,
    };
    if entry.data.len() > limit {
        return Err(bad("it is longer than the limit"));
    }
    extent(kind, entry).map(drop)
}

/// Which kind an entry is.
pub(super) fn kind(entry: &Entry) -> Result<FrameKind, BadEntry> {
    let bad = |rule| BadEntry {
        index: entry.index,
        rule,
    };
    match entry.get_entry_type() {
        EntryType::EntryConfChangeV2 => Ok(FrameKind::ConfChange),
        EntryType::EntryConfChange => Err(bad("it is a membership change of the old form")),
        EntryType::EntryNormal if entry.data.is_empty() && entry.context.is_empty() => {
            Ok(FrameKind::NoOp)
        }
        EntryType::EntryNormal => {
            let [code] = entry.context[..] else {
                return Err(bad("its context is not one byte"));
            };
            match FrameKind::from_code(code) {
                Some(kind @ (FrameKind::Batch | FrameKind::Events | FrameKind::Lost)) => Ok(kind),
                _ => Err(bad("its context names no kind of entry")),
            }
        }
    }
}

fn extent(kind: FrameKind, entry: &Entry) -> Result<Extent, BadEntry> {
    let bad = |rule| BadEntry {
        index: entry.index,
        rule,
    };
    match kind {
        FrameKind::NoOp | FrameKind::ConfChange | FrameKind::Events => Ok(NO_RECORDS),
        FrameKind::Batch => {
            let header =
                BatchHeader::parse(&entry.data).map_err(|_| bad("it is no record batch"))?;
            Ok(Extent {
                record_count: header.record_count,
                max_timestamp_ms: header.max_timestamp_ms,
            })
        }
        FrameKind::Lost => {
            let data: &[u8; LOST_BYTES] = entry.data[..]
                .try_into()
                .map_err(|_| bad("a lost entry has 12 bytes"))?;
            let [c0, c1, c2, c3, time @ ..] = *data;
            Ok(Extent {
                record_count: u32::from_le_bytes([c0, c1, c2, c3]),
                max_timestamp_ms: i64::from_le_bytes(time),
            })
        }
    }
}

fn context(kind: FrameKind) -> Bytes {
    const CODES: &[u8] = &[0, 1, 2, 3, 4, 5];
    let code = usize::from(kind.code());
    Bytes::from_static(&CODES[code..=code])
}

#[cfg(test)]
mod tests {
    use highwater_proto::batch::{BatchBuilder, NewRecord};

    use super::*;

    fn batch() -> Bytes {
        let mut builder = BatchBuilder::new();
        builder.append(&NewRecord::default()).unwrap();
        builder.finish(Default::default(), None).unwrap()
    }

    fn frame(kind: FrameKind, payload: Bytes) -> Frame {
        Frame {
            index: RaftIndex(7),
            term: Term(3),
            kind,
            base_offset: Offset(40),
            record_count: u32::from(matches!(kind, FrameKind::Lost | FrameKind::Batch)),
            max_timestamp_ms: if kind == FrameKind::Lost { 99 } else { -1 },
            payload,
        }
    }

    #[test]
    fn every_kind_survives_the_way_from_frame_to_entry_and_back() {
        for (kind, payload) in [
            (FrameKind::NoOp, Bytes::new()),
            (FrameKind::ConfChange, Bytes::new()),
            (FrameKind::ConfChange, Bytes::from_static(b"\x08\x01")),
            (FrameKind::Events, Bytes::from_static(b"events")),
            (FrameKind::Lost, Bytes::new()),
        ] {
            let frame = frame(kind, payload);
            let entry = from_frame(frame.clone());
            check(&entry, 1 << 20).unwrap();
            let again = to_frame(&entry).unwrap();
            assert_eq!(again.kind, kind);
            assert_eq!(again.payload, frame.payload);
            assert_eq!(again.record_count, frame.record_count);
            assert_eq!(again.max_timestamp_ms, frame.max_timestamp_ms);
        }
    }

    #[test]
    fn a_batch_says_itself_how_many_offsets_it_takes() {
        let entry = from_frame(frame(FrameKind::Batch, batch()));
        let frame = to_frame(&entry).unwrap();
        assert_eq!((frame.kind, frame.record_count), (FrameKind::Batch, 1));
        let Committed::ForMachine(committed) = to_committed(entry, Offset(40)).unwrap() else {
            panic!("a batch is for the machine");
        };
        assert_eq!(
            (committed.base_offset, committed.record_count),
            (Offset(40), 1)
        );
    }

    #[test]
    fn what_is_no_entry_of_ours_is_refused() {
        let good = from_frame(frame(FrameKind::Events, Bytes::from_static(b"events")));
        let with = |change: &dyn Fn(&mut Entry)| {
            let mut entry = good.clone();
            change(&mut entry);
            check(&entry, 16)
        };
        with(&|_| {}).unwrap();
        with(&|e| e.term = TERM_LIMIT).unwrap_err();
        with(&|e| e.term = 0).unwrap_err();
        with(&|e| e.data = Bytes::from_static(&[0; 17])).unwrap_err();
        with(&|e| e.context = Bytes::new()).unwrap_err();
        with(&|e| e.context = Bytes::from_static(&[9])).unwrap_err();
        with(&|e| e.context = Bytes::from_static(&[1])).unwrap_err();
        with(&|e| e.set_entry_type(EntryType::EntryConfChange)).unwrap_err();
    }
}
