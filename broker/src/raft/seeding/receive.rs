//! What comes in by a pull, and what of it is taken.

use highwater_storage::{
    Error as StorageError, NewFrame, Offset, RaftIndex, Staged, StagedFrom, Staging, Term, Unsynced,
};
use raft::eraftpb::Entry;

use super::Pull;
use crate::raft::GroupId;
use crate::raft::entry::{self, BadEntry};

/// A pull that is carried out. Pieces come from one source after another; what is written stays.
///
/// Invariant: what is staged is a run of frames that are all needed, from where a source's log began on.
#[derive(Debug)]
pub struct Receiving {
    pull: Pull,
    entry_bytes: usize,
    staging: Option<Staging>,
    total_bytes: u64,
}

/// Why what came is refused: no correct source sends it. Nothing of it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPiece {
    /// The log begins where it cannot.
    #[error(
        "the source's log begins at index {index} and offset {offset}, which does not lead to index {upto}"
    )]
    Beginning {
        /// Its first index.
        index: RaftIndex,
        /// The offset there.
        offset: Offset,
        /// What is wanted.
        upto: RaftIndex,
    },
    /// Entries before anything was said of the log, or not the next ones, or beyond the last.
    #[error("entries from index {first} on are not those that come next")]
    Order {
        /// The first of them.
        first: RaftIndex,
    },
    /// The term of an entry is later than that of the last one.
    #[error("entry {index} is of a term that is later than that of the last one")]
    Term {
        /// Which.
        index: RaftIndex,
    },
    /// An entry is none that a leader writes.
    #[error("an entry is none that a leader writes: {0}")]
    Entry(String),
    /// All frames are there, and end at another offset than the offer's.
    #[error("the frames end at offset {found}, the snapshot at {wanted}")]
    End {
        /// Of the frames.
        found: Offset,
        /// Of the offer.
        wanted: Offset,
    },
}

impl Receiving {
    /// Nothing is there yet. `entry_bytes` is the largest payload that is taken.
    pub fn new(pull: Pull, entry_bytes: usize) -> Self {
        Self {
            pull,
            entry_bytes,
            staging: None,
            total_bytes: 0,
        }
    }

    /// What is pulled.
    pub fn pull(&self) -> &Pull {
        &self.pull
    }

    /// The first index that is wanted next; `None`: from the beginning of the source's log.
    pub fn next_index(&self) -> Option<RaftIndex> {
        self.staging.as_ref().map(Staging::next_index)
    }

    /// Bytes that are there.
    pub fn bytes(&self) -> u64 {
        self.staging.as_ref().map_or(0, Staging::bytes)
    }

    /// The source says where its log begins. Answers whether staging has to begin there, too, in which case
    /// [`Receiving::staged`] has to follow: what was there before is of no use any more.
    ///
    /// # Errors
    /// [`BadPiece::Beginning`].
    pub fn begin(&mut self, begins: StagedFrom, total_bytes: u64) -> Result<bool, BadPiece> {
        check_beginning(&self.pull, &begins)?;
        self.total_bytes = total_bytes;
        if self.next_index().is_some_and(|next| begins.index <= next) {
            return Ok(false);
        }
        self.staging = None;
        Ok(true)
    }

    /// The log of the replica is ready for frames from where the source's log begins.
    pub fn staged(&mut self, staging: Staging) {
        self.staging = Some(staging);
        self.note_progress();
    }

    /// Takes entries. Blocks.
    ///
    /// # Errors
    /// What is wrong with them, or what the disk says; [`StorageError::NoSpace`]: the same again when there is some.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), ReceiveError> {
        let next = self.next_index();
        let frames = check_entries(&self.pull, next, entries, self.entry_bytes)?;
        if let Some(staging) = &mut self.staging {
            // Room may have run out amid them: what is there already is not written again.
            let next = staging.next_index();
            let done = frames.partition_point(|frame| frame.index < next);
            staging.append(&frames[done..])?;
        }
        self.note_progress();
        Ok(())
    }

    /// What should be synced while more comes; see [`Staging::unsynced`].
    pub fn unsynced(&mut self) -> Option<Unsynced> {
        self.staging.as_mut().and_then(Staging::unsynced)
    }

    /// Whether all frames are there.
    pub fn is_complete(&self) -> bool {
        self.next_index() == Some(self.pull.upto.next())
    }

    /// Makes all of it durable: [`Operation::Seeded`] tells the replica's shard. To be called when all frames are there. Blocks.
    ///
    /// # Errors
    /// [`BadPiece::End`], or what the disk says.
    ///
    /// [`Operation::Seeded`]: crate::raft::Operation::Seeded
    pub fn finish(mut self) -> Result<Pulled, ReceiveError> {
        let first = self.pull.upto.next();
        let staging = self.staging.take().ok_or(BadPiece::Order { first })?;
        let (found, wanted) = (staging.next_offset(), self.pull.next_offset);
        if found != wanted {
            return Err(BadPiece::End { found, wanted }.into());
        }
        let staged = staging.finish()?;
        Ok(Pulled {
            pull: self.pull,
            staged,
        })
    }

    fn note_progress(&self) {
        let done_bytes = self.bytes();
        let total_bytes = self.total_bytes.max(done_bytes);
        self.pull.board.set_progress(done_bytes, total_bytes);
    }
}

/// A pull that came to its end.
#[derive(Debug)]
pub struct Pulled {
    pub(in crate::raft) pull: Pull,
    pub(in crate::raft) staged: Staged,
}

impl Pulled {
    /// The group of the replica that is seeded.
    pub fn group(&self) -> GroupId {
        self.pull.group
    }
}

/// Why pieces are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// No correct source sends them.
    #[error(transparent)]
    Piece(#[from] BadPiece),
    /// The disk does not take them.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Whether a log that begins so leads to what is pulled.
fn check_beginning(pull: &Pull, begins: &StagedFrom) -> Result<(), BadPiece> {
    let has_frames = begins.index <= pull.upto;
    let is_lawful = if has_frames {
        begins.index > RaftIndex(0)
            && begins.offset <= pull.next_offset
            && begins.term_before <= pull.term
    } else {
        // All before it has gone: only the state is taken.
        begins.index == pull.upto.next()
            && begins.offset == pull.next_offset
            && begins.term_before == pull.term
    };
    if is_lawful {
        return Ok(());
    }
    Err(BadPiece::Beginning {
        index: begins.index,
        offset: begins.offset,
        upto: pull.upto,
    })
}

/// The frames of entries that come next.
fn check_entries(
    pull: &Pull,
    next: Option<RaftIndex>,
    entries: &[Entry],
    entry_bytes: usize,
) -> Result<Vec<NewFrame>, BadPiece> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Ok(Vec::new());
    };
    let order = BadPiece::Order {
        first: RaftIndex(first.index),
    };
    // A piece that was written in part comes again as it was.
    if next.is_none_or(|next| first.index > next.0) || last.index > pull.upto.0 {
        return Err(order);
    }
    let mut frames = Vec::with_capacity(entries.len());
    for (entry, index) in entries.iter().zip(first.index..) {
        if entry.index != index {
            return Err(order);
        }
        if Term(entry.term) > pull.term {
            let index = RaftIndex(index);
            return Err(BadPiece::Term { index });
        }
        let bad = |bad: BadEntry| BadPiece::Entry(bad.to_string());
        entry::check(entry, entry_bytes).map_err(bad)?;
        frames.push(entry::to_frame(entry).map_err(bad)?);
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use highwater_proto::batch::{BatchBuilder, NewRecord};
    use highwater_storage::fs::SimFs;
    use highwater_storage::{AppliedState, FrameKind, Log, LogId, LogSpec, Store};
    use proptest::prelude::*;

    use super::*;
    use crate::raft::{ReplicaId, seeding::Board};

    const BEGINS: StagedFrom = StagedFrom {
        index: RaftIndex(11),
        offset: Offset(5),
        term_before: Term(2),
    };
    const ENTRY_BYTES: usize = 1 << 10;

    /// Entries 11 to 20 are wanted: ten batches of one record each.
    fn pull() -> Pull {
        Pull {
            group: GroupId(1),
            replica: ReplicaId(7),
            upto: RaftIndex(20),
            term: Term(3),
            next_offset: Offset(15),
            board: Arc::new(Board::default()),
        }
    }

    fn batch(index: u64, term: u64) -> Entry {
        let mut builder = BatchBuilder::new();
        let record = NewRecord {
            value: Some(b"value"),
            ..NewRecord::default()
        };
        builder.append(&record).unwrap();
        let data = builder.finish(Default::default(), None).unwrap();
        entry::from_peer(FrameKind::Batch, index, term, data)
    }

    fn batches(indexes: impl IntoIterator<Item = u64>) -> Vec<Entry> {
        indexes.into_iter().map(|index| batch(index, 3)).collect()
    }

    /// The log of the replica that is seeded, which is empty.
    fn log() -> (Arc<Store>, Log) {
        let mut draws = 0;
        let random = Box::new(move || {
            draws += 1;
            draws
        });
        let config = highwater_storage::Config {
            min_free_bytes: 0,
            reserve_bytes: 0,
            ..highwater_storage::Config::default()
        };
        let opened = Store::open(Arc::new(SimFs::new(1)), random, config).unwrap();
        let mut turn = opened.store.turn();
        let spec = LogSpec {
            directory: "topics/t/0".to_owned(),
            max_segment_bytes: 64 << 10,
            write_caching: false,
        };
        let applied = AppliedState::default();
        let log = opened.store.create_log(&mut turn, LogId(7), spec, applied);
        opened.store.submit(turn);
        (opened.store, log.unwrap())
    }

    fn begun(log: &mut Log, begins: StagedFrom) -> Receiving {
        let mut receiving = Receiving::new(pull(), ENTRY_BYTES);
        assert!(receiving.begin(begins, 1000).unwrap());
        receiving.staged(log.stage(begins).unwrap());
        receiving
    }

    #[test]
    fn what_comes_in_order_is_taken_to_the_end() {
        let (_store, mut log) = log();
        let mut receiving = begun(&mut log, BEGINS);
        receiving.append(&batches(11..=14)).unwrap();
        // The source changes, and says where its log begins.
        let earlier = StagedFrom {
            index: RaftIndex(3),
            offset: Offset(0),
            ..BEGINS
        };
        assert!(!receiving.begin(earlier, 2000).unwrap());
        assert_eq!(receiving.next_index(), Some(RaftIndex(15)));
        // A piece that was written in part is repeated.
        receiving.append(&batches(13..=20)).unwrap();
        assert!(receiving.is_complete());
        let progress = receiving.pull().board.progress();
        assert_eq!(progress.done_bytes, receiving.bytes());
        assert_eq!(progress.total_bytes, 2000);
        let pulled = receiving.finish().unwrap();
        assert_eq!(pulled.staged.begins(), BEGINS);
        assert_eq!(pulled.staged.next_offset(), Offset(15));
    }

    #[test]
    fn where_records_went_meanwhile_it_begins_again_later() {
        let (_store, mut log) = log();
        let mut receiving = begun(&mut log, BEGINS);
        receiving.append(&batches(11..=12)).unwrap();
        let later = StagedFrom {
            index: RaftIndex(15),
            offset: Offset(9),
            term_before: Term(3),
        };
        assert!(receiving.begin(later, 500).unwrap());
        assert_eq!(receiving.next_index(), None);
        receiving.staged(log.stage(later).unwrap());
        assert_eq!(receiving.next_index(), Some(RaftIndex(15)));
    }

    #[test]
    fn pieces_that_no_correct_source_sends_are_refused_and_nothing_of_them_is_written() {
        let (_store, mut log) = log();
        let mut receiving = begun(&mut log, BEGINS);
        receiving.append(&batches(11..=12)).unwrap();
        let mut forged = batch(13, 3);
        let mut bytes = forged.data.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        forged.data = bytes.into();
        let large = entry::from_peer(FrameKind::Events, 13, 3, vec![0; ENTRY_BYTES + 1].into());
        let no_batch = entry::from_peer(FrameKind::Batch, 13, 3, Bytes::from_static(b"records"));
        let pieces = [
            vec![batch(14, 3)],
            vec![batch(13, 3), batch(15, 3)],
            batches(13..=21),
            vec![batch(13, 4)],
            vec![batch(13, 3), batch(14, 2), batch(15, 3)],
            vec![forged],
            vec![large],
            vec![no_batch],
        ];
        for piece in pieces {
            let refused = receiving.append(&piece);
            assert!(refused.is_err(), "{piece:?}");
            assert_eq!(receiving.next_index(), Some(RaftIndex(13)));
        }
        receiving.append(&batches(13..=20)).unwrap();
    }

    #[test]
    fn frames_that_end_at_another_offset_than_the_snapshot_are_refused() {
        let (_store, mut log) = log();
        let mut receiving = begun(&mut log, BEGINS);
        let mut entries = batches(11..=19);
        entries.push(entry::from_peer(FrameKind::NoOp, 20, 3, Bytes::new()));
        receiving.append(&entries).unwrap();
        let refused = receiving.finish().unwrap_err();
        assert!(matches!(
            refused,
            ReceiveError::Piece(BadPiece::End {
                found: Offset(14),
                wanted: Offset(15)
            })
        ));
    }

    #[test]
    fn log_that_does_not_lead_to_the_snapshot_is_refused() {
        let mut receiving = Receiving::new(pull(), ENTRY_BYTES);
        for (index, offset, term_before) in [
            (0, 5, 2),
            (11, 16, 2),
            (11, 5, 4),
            (21, 14, 3),
            (21, 15, 2),
            (22, 15, 3),
        ] {
            let begins = StagedFrom {
                index: RaftIndex(index),
                offset: Offset(offset),
                term_before: Term(term_before),
            };
            receiving.begin(begins, 0).unwrap_err();
        }
        // Where all before the snapshot has gone, the state alone is left.
        let state_only = StagedFrom {
            index: RaftIndex(21),
            offset: Offset(15),
            term_before: Term(3),
        };
        assert!(receiving.begin(state_only, 0).unwrap());
        let (_store, mut log) = log();
        receiving.staged(log.stage(state_only).unwrap());
        assert!(receiving.is_complete());
        receiving.finish().unwrap();
    }

    #[test]
    fn entries_before_anything_is_said_of_the_log_are_refused() {
        let mut receiving = Receiving::new(pull(), ENTRY_BYTES);
        receiving.append(&batches(11..=12)).unwrap_err();
    }

    proptest! {
        #[test]
        fn frames_are_taken_exactly_when_they_follow_and_end_in_time(
            next in 1..25_u64,
            first in 0..25_u64,
            count in 0..8_u64,
            term in 1..6_u64,
        ) {
            let entries: Vec<_> = (first..first + count)
                .map(|index| entry::from_peer(FrameKind::NoOp, index, term, Bytes::new()))
                .collect();
            let taken = check_entries(&pull(), Some(RaftIndex(next)), &entries, ENTRY_BYTES);
            let is_lawful = count == 0 || first <= next && first + count <= 21 && term <= 3;
            prop_assert_eq!(taken.is_ok(), is_lawful);
            if let Ok(frames) = taken {
                prop_assert_eq!(frames.len() as u64, count);
            }
        }
    }
}
