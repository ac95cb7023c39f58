//! What was asked of a store, in which order, and what was promised when.
//!
//! Time is counted in steps of the simulated disk. An operation can show in an image of the disk only if it was asked for before that
//! step, and has to show if its ticket was done by then.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use highwater_storage::{
    AppliedState, Frame, FrameKind, HardState, LogId, NewFrame, Offset, RaftIndex, Term, Ticket,
};

/// Everything asked of one store.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) logs: BTreeMap<LogId, LogModel>,
    /// Logs that said they take no more writes because the disk failed under them.
    pub(crate) poisoned: BTreeSet<LogId>,
    /// Up to which ticket all was done, from which step on.
    done: Vec<(u64, Ticket)>,
}

/// Everything asked of one log.
#[derive(Debug)]
pub(crate) struct LogModel {
    pub(crate) created_caching: bool,
    pub(crate) created: Stamp,
    pub(crate) deleted: Option<Stamp>,
    pub(crate) initial: AppliedState,
    pub(crate) changes: Vec<(Stamp, Change)>,
    /// What checkpoints were given, from which step on they may show, and from which on they must.
    pub(crate) captures: Vec<Capture>,
    /// Since which step frames below an offset, or below an index, may be gone.
    pub(crate) may_leave: Vec<(u64, Offset, RaftIndex)>,
}

/// When something was asked for, when its answer came, and the ticket that promises it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) step: u64,
    pub(crate) answered: u64,
    pub(crate) ticket: Ticket,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Append(Vec<Frame>),
    Truncate(RaftIndex),
    /// A state takes the place of all before, with these frames, which lead to it from the base on.
    Install(AppliedState, Base, Vec<Frame>),
    /// The hard state, and the commit index that must not be lost with it.
    HardState(HardState, RaftIndex),
    /// Whether appends are cached from here on. Turning it off makes all before it durable.
    Caching(bool),
}

#[derive(Clone, Debug)]
pub(crate) struct Capture {
    pub(crate) begun: u64,
    pub(crate) finished: Option<u64>,
    pub(crate) applied: AppliedState,
}

/// The contents of a log after some of its changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Contents {
    /// What the frames follow.
    pub(crate) base: Base,
    pub(crate) frames: Vec<Frame>,
    pub(crate) hard_state: HardState,
    pub(crate) commit_floor: RaftIndex,
}

/// Where a log begins: the index and the term of the entry before, and the first offset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Base {
    pub(crate) index: RaftIndex,
    pub(crate) term: Term,
    pub(crate) offset: Offset,
}

impl Model {
    pub(crate) fn note_done(&mut self, step: u64, ticket: Ticket) {
        self.done.push((step, ticket));
    }

    /// The ticket up to which all was promised when `step` was done.
    pub(crate) fn done_at(&self, step: u64) -> Ticket {
        let count = self.done.partition_point(|(at, _)| *at <= step);
        count
            .checked_sub(1)
            .map_or(Ticket(0), |last| self.done[last].1)
    }
}

impl LogModel {
    /// Every frame that was ever appended, also those that were truncated later.
    pub(crate) fn appended(&self) -> Vec<Frame> {
        let appended = self.changes.iter().filter_map(|(_, change)| match change {
            Change::Append(frames) | Change::Install(_, _, frames) => Some(frames.clone()),
            Change::Truncate(_) | Change::HardState(..) | Change::Caching(_) => None,
        });
        appended.flatten().collect()
    }

    /// How many of the changes must show, and how many may, in an image after `step`.
    pub(crate) fn window(&self, step: u64, done: Ticket) -> (usize, usize) {
        let may = self.changes.partition_point(|(stamp, _)| stamp.step < step);
        let promised = |(stamp, _): &&(Stamp, Change)| stamp.is_promised(step, done);
        (self.changes[..may].iter().take_while(promised).count(), may)
    }

    /// Whether frames may be in memory only when the first `must` of `may` changes show.
    pub(crate) fn is_cached(&self, must: usize, may: usize) -> bool {
        let caching = |changes: &[(Stamp, Change)]| {
            changes.iter().rev().find_map(|(_, change)| match change {
                Change::Caching(caching) => Some(*caching),
                _ => None,
            })
        };
        let turns_on = |(_, change): &(Stamp, Change)| matches!(change, Change::Caching(true));
        caching(&self.changes[..must]).unwrap_or(self.created_caching)
            || self.changes[must..may].iter().any(turns_on)
    }

    /// The last index that must show of a log that is cached, when its process dies: what is cached is promised before what else was
    /// asked of the log.
    pub(crate) fn cached_floor(&self, step: u64, done: Ticket) -> RaftIndex {
        let (_, may) = self.window(step, done);
        self.changes[..may]
            .iter()
            .fold(RaftIndex(0), |floor, (stamp, change)| match change {
                Change::Append(frames) if stamp.is_promised(step, done) => {
                    frames.last().expect("not empty").index
                }
                Change::Truncate(first_removed) => floor.min(first_removed.previous()),
                Change::Install(applied, ..) if stamp.is_promised(step, done) => applied.index,
                // One that may show takes away what was cached, and then it is what shows.
                Change::Install(applied, ..) => floor.min(applied.index),
                Change::Append(_) | Change::HardState(..) | Change::Caching(_) => floor,
            })
    }

    /// The contents after the first `count` changes.
    pub(crate) fn contents(&self, count: usize) -> Contents {
        let mut contents = Contents::default();
        self.changes[..count]
            .iter()
            .for_each(|(_, change)| contents.apply(change));
        contents
    }

    /// The offset and the index below which frames may be gone in an image after `step`.
    pub(crate) fn leaving(&self, step: u64) -> (Offset, RaftIndex) {
        let before = self.may_leave.iter().filter(|(at, ..)| *at < step);
        before.fold((Offset(0), RaftIndex(0)), |(offset, index), (_, o, i)| {
            (offset.max(*o), index.max(*i))
        })
    }
}

impl Stamp {
    /// Whether the promise was given when `step` was done and all tickets up to `done`.
    pub(crate) fn is_promised(&self, step: u64, done: Ticket) -> bool {
        self.answered <= step && self.ticket <= done
    }
}

impl Contents {
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Append(frames) => self.frames.extend(frames.iter().cloned()),
            Change::Truncate(first_removed) => {
                self.frames.retain(|frame| frame.index < *first_removed)
            }
            Change::Install(applied, base, frames) => {
                self.frames.clone_from(frames);
                self.base = *base;
                self.hard_state.commit = applied.index;
                self.commit_floor = applied.index;
            }
            Change::HardState(hard_state, commit_floor) => {
                self.hard_state = *hard_state;
                self.commit_floor = self.commit_floor.max(*commit_floor);
            }
            Change::Caching(_) => {}
        }
    }

    pub(crate) fn last_index(&self) -> RaftIndex {
        self.frames
            .last()
            .map_or(self.base.index, |frame| frame.index)
    }

    pub(crate) fn last_term(&self) -> Term {
        self.frames
            .last()
            .map_or(self.base.term, |frame| frame.term)
    }

    pub(crate) fn next_offset(&self) -> Offset {
        self.frames
            .last()
            .map_or(self.base.offset, Frame::next_offset)
    }
}

/// A batch of `records` records in `len` bytes, filled with something that depends on `seed`.
pub(crate) fn new_batch(
    index: RaftIndex,
    term: Term,
    records: u32,
    len: usize,
    seed: u64,
) -> NewFrame {
    let mut payload: Vec<u8> = seed
        .to_le_bytes()
        .into_iter()
        .cycle()
        .take(len.max(61))
        .collect();
    let crc = crc32c::crc32c(&payload[21..]);
    payload[17..21].copy_from_slice(&crc.to_be_bytes());
    new_frame(index, term, FrameKind::Batch, records, payload)
}

pub(crate) fn new_frame(
    index: RaftIndex,
    term: Term,
    kind: FrameKind,
    record_count: u32,
    payload: impl Into<Bytes>,
) -> NewFrame {
    let max_timestamp_ms = 10 * i64::try_from(index.0).expect("small");
    NewFrame {
        index,
        term,
        kind,
        record_count,
        max_timestamp_ms,
        payload: payload.into(),
    }
}

/// The frame as it has to come back.
pub(crate) fn expected(new: &NewFrame, base_offset: Offset) -> Frame {
    let mut payload = new.payload.to_vec();
    if new.kind == FrameKind::Batch {
        let batch_length = u32::try_from(payload.len() - 12).expect("small");
        payload[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
        payload[8..12].copy_from_slice(&batch_length.to_be_bytes());
        payload[12..16].copy_from_slice(&u32::try_from(new.term.0).expect("small").to_be_bytes());
        payload[16] = 2;
    }
    Frame {
        index: new.index,
        term: new.term,
        kind: new.kind,
        base_offset,
        record_count: new.record_count,
        max_timestamp_ms: new.max_timestamp_ms,
        payload: payload.into(),
    }
}
