//! What Raft reads: one log, plus the entries that are on their way into it.
//!
//! Entries that Raft handed over stay in memory, in the *tail*, until they are applied. So the hot path (append,
//! replicate, commit, apply) never reads the log, and the driver stays free of writes: the shard puts the same entries
//! into the log right after. Everything older is read from the log, which may have to wait for the disk. Raft is told
//! to wait only where its context allows that; then the wanted range stands in [`LogStorage::take_fetches`].
//!
//! A snapshot is made by those who know the machine: Raft hears that there is none at the moment, who wants one stands
//! in [`LogStorage::take_wanted`], and Raft asks again while one is on [`LogStorage::offer`].

use std::cell::RefCell;
use std::collections::VecDeque;

use highwater_storage::{HardState, Log, Offset, RaftIndex, Term};
use raft::eraftpb::{ConfState, Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, StorageError};

use super::{ReplicaId, entry};

/// Memory of an entry besides its data, as counted against size limits.
const ENTRY_OVERHEAD_BYTES: u64 = 32;

/// What a group reads from.
pub(super) struct LogStorage {
    log: Log,
    /// The last index that Raft handed over. The log may already hold what the leader is about to propose.
    last: u64,
    /// Contiguous entries up to `last`; empty when the log holds all there is.
    tail: VecDeque<Entry>,
    /// The hard state of the start.
    hard_state: HardState,
    /// The members of the start.
    conf_state: ConfState,
    fetches: RefCell<Vec<Fetch>>,
    /// What the log could not give. Raft takes an error for the end of the world and panics, so it hears of none.
    failure: RefCell<Option<highwater_storage::Error>>,
    /// Cold entries that were read for Raft, while it asks for them again.
    fetched: Vec<Entry>,
    /// The last snapshot that was taken: its index and term. The log itself may not begin after it yet.
    base: Option<(u64, u64)>,
    /// Who needs a snapshot.
    wanted: RefCell<Vec<ReplicaId>>,
    /// The snapshot that was made for one of them.
    offered: Option<Snapshot>,
    /// Followers that lack entries below are sent a snapshot, though the log has them.
    seed_below: RaftIndex,
    /// Whether that holds, for the moment, for a follower that has nothing at all.
    seeds_newcomer: bool,
}

/// A range of cold entries that Raft waits for.
#[derive(Debug)]
pub(super) struct Fetch {
    /// The first index wanted.
    pub(super) from: RaftIndex,
    /// One past the last index wanted.
    pub(super) to: RaftIndex,
    /// Payload bytes wanted at most.
    pub(super) max_bytes: u64,
    /// What Raft wants back.
    pub(super) context: GetEntriesContext,
}

impl LogStorage {
    /// `hard_state` and `conf_state` are those that Raft starts with.
    pub(super) fn new(log: Log, hard_state: HardState, conf_state: ConfState) -> Self {
        Self {
            last: log.last_index().0,
            log,
            tail: VecDeque::new(),
            hard_state,
            conf_state,
            fetches: RefCell::default(),
            failure: RefCell::default(),
            fetched: Vec::new(),
            base: None,
            wanted: RefCell::default(),
            offered: None,
            seed_below: RaftIndex(0),
            seeds_newcomer: false,
        }
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    pub(super) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    pub(super) fn into_log(self) -> Log {
        self.log
    }

    /// Takes entries that Raft wants in the log. Answers the first index that they replace, where they do.
    pub(super) fn push(&mut self, entries: &[Entry]) -> Option<RaftIndex> {
        let (first, last) = (entries.first()?.index, entries.last()?.index);
        let replaces = first <= self.last;
        self.last = last;
        let kept = self.tail.partition_point(|entry| entry.index < first);
        self.tail.truncate(kept);
        self.tail.extend(entries.iter().cloned());
        replaces.then_some(RaftIndex(first))
    }

    /// Begins anew after a snapshot. The log follows.
    pub(super) fn begin_after(&mut self, index: RaftIndex, term: Term) {
        self.base = Some((index.0, term.0));
        self.last = index.0;
        self.tail.clear();
    }

    /// Who needs a snapshot since the last call.
    pub(super) fn take_wanted(&mut self) -> Vec<ReplicaId> {
        self.wanted.take()
    }

    /// Holds a snapshot that was made, while Raft asks for it again.
    pub(super) fn offer(&mut self, snapshot: Option<Snapshot>) {
        self.offered = snapshot;
    }

    /// From now on followers that lack entries below `index` are sent a snapshot in their place.
    pub(super) fn set_seed_below(&mut self, index: RaftIndex) {
        self.seed_below = index;
    }

    /// Whether, until this is said again, a follower that lacks the first entry is sent a snapshot in its place.
    pub(super) fn set_seeds_newcomer(&mut self, seeds_newcomer: bool) {
        self.seeds_newcomer = seeds_newcomer;
    }

    /// Whether a follower that lacks the entry at `low` is not to be sent it.
    fn is_for_snapshot(&self, low: u64) -> bool {
        self.offered.is_some() || low < self.seed_below.0 || self.seeds_newcomer && low == 1
    }

    /// Forgets entries up to `applied`: the log has them, and nobody needs them soon.
    pub(super) fn trim(&mut self, applied: u64) {
        while self
            .tail
            .front()
            .is_some_and(|entry| entry.index <= applied)
        {
            self.tail.pop_front();
        }
        if self.tail.is_empty() {
            // An idle group keeps no room for its busiest hour.
            self.tail.shrink_to(16);
        }
    }

    /// The ranges that Raft was told to wait for since the last call.
    pub(super) fn take_fetches(&mut self) -> Vec<Fetch> {
        self.fetches.take()
    }

    /// The first error of a read since the last call. Raft was given nothing in place of the entries: whatever it made of that must
    /// neither be written nor be sent.
    pub(super) fn take_failure(&mut self) -> Option<highwater_storage::Error> {
        self.failure.take()
    }

    /// Holds what was read for a [`Fetch`]; an empty vector lets it go.
    pub(super) fn set_fetched(&mut self, entries: Vec<Entry>) {
        self.fetched = entries;
    }

    /// The offset of the first record at or after `index`, for an index up to one past the last in the log.
    pub(super) fn offset_at(&self, index: RaftIndex) -> highwater_storage::Result<Offset> {
        if index > self.log.last_index() {
            return Ok(self.log.next_offset());
        }
        let frames = self.log.read(index, index.next(), 0)?;
        Ok(frames
            .first()
            .map_or(self.log.next_offset(), |frame| frame.base_offset))
    }

    /// The first index that is there.
    fn first(&self) -> u64 {
        let after_base = self.base.map_or(0, |(index, _)| index + 1);
        self.log.first_index().0.max(after_base)
    }

    fn tail_first(&self) -> u64 {
        self.tail.front().map_or(u64::MAX, |entry| entry.index)
    }

    fn fetched(&self, low: u64, high: u64, budget: &mut Budget) -> Option<Vec<Entry>> {
        let first = self.fetched.first()?.index;
        let skip = usize::try_from(low.checked_sub(first)?).ok()?;
        let entries: Vec<_> = self.fetched[skip.min(self.fetched.len())..]
            .iter()
            .take_while(|entry| entry.index < high && budget.take(entry))
            .cloned()
            .collect();
        (!entries.is_empty()).then_some(entries)
    }

    /// Reads `from..to` from the log, at least one entry, until `budget` is used up.
    fn read_log(
        &self,
        from: u64,
        to: u64,
        budget: &mut Budget,
    ) -> highwater_storage::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut next = from;
        while next < to && !budget.is_spent() {
            let frames = self.log.read(RaftIndex(next), RaftIndex(to), budget.left)?;
            for frame in frames {
                let entry = entry::from_frame(frame);
                if !budget.take(&entry) {
                    return Ok(entries);
                }
                next = entry.index + 1;
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

impl raft::Storage for LogStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let mut hard_state = raft::eraftpb::HardState::default();
        hard_state.term = self.hard_state.term.0;
        hard_state.vote = self.hard_state.vote;
        hard_state.commit = self.hard_state.commit.0;
        Ok(RaftState::new(hard_state, self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        // Only what goes to a follower may be read later, so that is what this asks about.
        let is_for_follower = context.can_async();
        if low < self.first() || is_for_follower && self.is_for_snapshot(low) {
            return Err(StorageError::Compacted.into());
        }
        let mut budget = Budget::new(max_size.into());
        let tail_first = self.tail_first();
        let mut entries = Vec::new();
        if low < tail_first {
            if is_for_follower {
                if let Some(fetched) = self.fetched(low, high, &mut budget) {
                    return Ok(fetched);
                }
                self.fetches.borrow_mut().push(Fetch {
                    from: RaftIndex(low),
                    to: RaftIndex(high.min(tail_first)),
                    max_bytes: budget.left,
                    context,
                });
                return Err(StorageError::LogTemporarilyUnavailable.into());
            }
            match self.read_log(low, high.min(tail_first), &mut budget) {
                Ok(read) => entries = read,
                Err(error) => {
                    self.failure.borrow_mut().get_or_insert(error);
                    return Ok(vec![]);
                }
            }
        }
        let reached = low + entries.len() as u64;
        if let Some(skip) = reached.checked_sub(tail_first) {
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            for entry in self.tail.iter().skip(skip) {
                if entry.index >= high || !budget.take(entry) {
                    break;
                }
                entries.push(entry.clone());
            }
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let tail_first = self.tail_first();
        if index >= tail_first {
            let place = usize::try_from(index - tail_first).unwrap_or(usize::MAX);
            return self
                .tail
                .get(place)
                .map(|entry| entry.term)
                .ok_or_else(|| StorageError::Unavailable.into());
        }
        if index > self.last {
            return Err(StorageError::Unavailable.into());
        }
        if let Some((base, term)) = self.base
            && index <= base
        {
            return if index == base {
                Ok(term)
            } else {
                Err(StorageError::Compacted.into())
            };
        }
        match self.log.term_at(RaftIndex(index)) {
            Ok(Some(Term(term))) => Ok(term),
            Ok(None) => Err(StorageError::Unavailable.into()),
            Err(_) => Err(StorageError::Compacted.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, _request_index: u64, to: u64) -> raft::Result<Snapshot> {
        if let Some(offered) = &self.offered {
            return Ok(offered.clone());
        }
        let mut wanted = self.wanted.borrow_mut();
        if !wanted.contains(&ReplicaId(to)) {
            wanted.push(ReplicaId(to));
        }
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

/// How many more bytes of entries an answer may hold. The first entry always fits.
struct Budget {
    left: u64,
    is_untouched: bool,
}

impl Budget {
    fn new(max_bytes: Option<u64>) -> Self {
        Self {
            left: max_bytes.unwrap_or(u64::MAX),
            is_untouched: true,
        }
    }

    fn is_spent(&self) -> bool {
        self.left == 0 && !self.is_untouched
    }

    fn take(&mut self, entry: &Entry) -> bool {
        let bytes = entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES;
        if bytes > self.left && !self.is_untouched {
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        self.is_untouched = false;
        true
    }
}
