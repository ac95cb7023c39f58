//! The writer of one log.

use std::path::PathBuf;
use std::sync::Arc;

use super::head::Head;
use super::shared::{Frontier, LogShared, View};
use super::{AppliedState, Damage, HardState, LogReader, LogSpec, SegmentInfo};
use crate::checkpoint::{CapturedLog, LogStart};
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::journal::{Record, Ticket, Turn};
use crate::segment::{ActiveSegment, Generation, SealedSegment, Segment, SegmentSpec};
use crate::{LogId, NewFrame, Offset, RaftIndex, Term};

/// The writer of one log. It belongs to one shard thread.
///
/// - Indexes are contiguous from the first to the last but for known damage, terms never fall, offsets are dense.
/// - Segments are in the order of their indexes, which but around a hole is that of their generations. Only the last can be
///   active, and heads follow all files.
/// - What is written to a segment is in the turn's journal record too, unless `write.caching` is on.
#[derive(Debug)]
pub struct Log {
    pub(super) shared: Arc<LogShared>,
    pub(super) directory: Arc<Directory>,
    pub(super) spec: LogSpec,
    pub(super) hard_state: HardState,
    pub(super) log_start: Offset,
    /// Frames below may leave, when the checkpointed applied state has them.
    pub(super) compact_below: RaftIndex,
    pub(super) start: LogStart,
    pub(super) next_index: RaftIndex,
    pub(super) next_offset: Offset,
    pub(super) next_generation: Generation,
    /// Where each term begins, from the first index on.
    pub(super) terms: Vec<(RaftIndex, Term)>,
    pub(super) sealed: Vec<Sealed>,
    pub(super) active: Option<Active>,
    pub(super) heads: Vec<Head>,
    /// What left the log since the last capture.
    pub(super) retired: Vec<Sealed>,
    pub(super) damage: Option<Damage>,
    /// Whether this turn wrote something that cached frames need, too.
    pub(super) wrote_journal: bool,
    /// The last ticket that cached frames wait for.
    pub(super) cached_after: Ticket,
}

/// A segment that takes no more frames, and how far it is durable.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) segment: SealedSegment,
    pub(crate) frontier: Arc<Frontier>,
}

/// The segment that is written, and how far it is durable.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: ActiveSegment,
    pub(crate) frontier: Arc<Frontier>,
}

/// A log as creation or recovery hands it over.
#[derive(Debug)]
pub(crate) struct LogParts {
    pub(crate) spec: LogSpec,
    pub(crate) hard_state: HardState,
    pub(crate) log_start: Offset,
    pub(crate) start: LogStart,
    pub(crate) next_index: RaftIndex,
    pub(crate) next_offset: Offset,
    pub(crate) next_generation: Generation,
    pub(crate) terms: Vec<(RaftIndex, Term)>,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) heads: Vec<Head>,
    pub(crate) damage: Option<Damage>,
}

impl Log {
    pub(crate) fn new(directory: Arc<Directory>, shared: Arc<LogShared>, parts: LogParts) -> Self {
        let log = Self {
            shared,
            directory,
            spec: parts.spec,
            hard_state: parts.hard_state,
            log_start: parts.log_start,
            compact_below: RaftIndex(0),
            start: parts.start,
            next_index: parts.next_index,
            next_offset: parts.next_offset,
            next_generation: parts.next_generation,
            terms: parts.terms,
            sealed: parts.sealed,
            active: None,
            heads: parts.heads,
            retired: vec![],
            damage: parts.damage,
            wrote_journal: false,
            cached_after: Ticket::default(),
        };
        log.show();
        log
    }

    /// The log's id, which is the replica's.
    pub fn id(&self) -> LogId {
        self.shared.id()
    }

    /// The first index that is still there; one after [`Log::last_index`] when there is none.
    pub fn first_index(&self) -> RaftIndex {
        self.start.index
    }

    /// The last index; one before [`Log::first_index`] when there is none.
    pub fn last_index(&self) -> RaftIndex {
        self.next_index.previous()
    }

    /// The term of the entry at `index`; known from one before the first index to the last, `None` above it. Never reads the disk.
    ///
    /// # Errors
    /// [`Error::Compacted`] below that.
    pub fn term_at(&self, index: RaftIndex) -> Result<Option<Term>> {
        if index >= self.next_index {
            return Ok(None);
        }
        if index >= self.start.index {
            return Ok(Some(self.term_of(index)));
        }
        if index.next() == self.start.index {
            return Ok(Some(self.start.term_before));
        }
        Err(Error::Compacted {
            index,
            first: self.start.index,
        })
    }

    /// The offset the next record gets.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The log start offset, as last set.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The hard state as last set.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Whether frames skip the journal.
    pub fn write_caching(&self) -> bool {
        self.spec.write_caching
    }

    /// How the log is kept.
    pub fn spec(&self) -> &LogSpec {
        &self.spec
    }

    /// What recovery could not give back, and, since the last checkpoint, what readers could not get. Such a log takes no appends.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// What a reader of this log could not get, if one met damage since the start. Such a log takes no appends.
    pub fn damage_met(&self) -> Option<&str> {
        self.shared.damage_met().map(|met| &*met.reason)
    }

    /// Sets the hard state. A change of term or vote must be durable before anything is sent in that term; a change of the commit index
    /// alone goes to disk with whatever goes next.
    ///
    /// # Panics
    /// In debug builds, when the term goes back or the commit index is above the last index.
    pub fn set_hard_state(&mut self, turn: &mut Turn, hard_state: HardState) {
        debug_assert!(
            hard_state.term >= self.hard_state.term,
            "terms never go back"
        );
        debug_assert!(
            hard_state.commit <= self.last_index(),
            "what is not there is not committed"
        );
        let before = std::mem::replace(&mut self.hard_state, hard_state);
        if before == hard_state {
            return;
        }
        let record = Record::HardStateSet {
            log: self.id(),
            hard_state: self.durable_hard_state(),
        };
        if (before.term, before.vote) == (hard_state.term, hard_state.vote) {
            turn.add_lazily(&record);
        } else {
            turn.add(&record);
            self.wrote_journal = true;
        }
        self.shared.note_change();
    }

    /// The ticket that this log's writes up to now wait for, when its last turn was submitted as `submitted`. The same, but for
    /// `write.caching` logs: what they cached waits for nothing but the records that say where it is.
    pub fn ticket(&mut self, submitted: Ticket) -> Ticket {
        if std::mem::take(&mut self.wrote_journal) || !self.spec.write_caching {
            self.cached_after = submitted;
        }
        self.cached_after
    }

    /// Records below `offset` may leave: whole sealed segments, at the next checkpoints. Never goes back.
    pub fn set_log_start(&mut self, offset: Offset) {
        if offset > self.log_start {
            self.log_start = offset;
            self.shared.note_change();
        }
    }

    /// Frames below `below` may leave when a checkpoint holds an applied state at or above them: whole segments.
    pub fn compact(&mut self, below: RaftIndex) {
        if below <= self.compact_below {
            return;
        }
        self.compact_below = below;
        self.shared.note_change();
        // A segment in use never leaves; one that would be worth a file gives way to the next.
        let is_worth_it = |active: &Active| {
            let end = active.segment.end();
            end.next_index <= below && end.position >= active.segment.spec().file_bytes / 2
        };
        if self.active.as_ref().is_some_and(is_worth_it) {
            self.roll();
        }
    }

    /// The first index of a whole segment from which on there are `bytes` bytes of frames; the first index of all where there are not.
    pub fn tail_start(&self, bytes: u64) -> RaftIndex {
        let (mut first, mut held) = (self.next_index, 0);
        for (spec, end) in self.extents().iter().rev() {
            if held >= bytes {
                return first;
            }
            held += end - spec.start().position;
            first = spec.first_index;
        }
        if held >= bytes {
            first
        } else {
            self.start.index
        }
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> u64 {
        let extents = self.extents().into_iter();
        extents.map(|(spec, end)| end - spec.start().position).sum()
    }

    /// The segments and heads from oldest to newest, each with the position at which it ends.
    fn extents(&self) -> Vec<(SegmentSpec, u64)> {
        let active = self.active.iter().map(|active| active.segment.segment());
        let sealed = self.sealed.iter().map(|sealed| sealed.segment.segment());
        let files = sealed
            .chain(active)
            .map(|segment| (*segment.spec(), segment.end().position));
        let heads = self
            .heads
            .iter()
            .map(|head| (*head.spec(), head.end().position));
        files.chain(heads).collect()
    }

    /// Has the next checkpoint capture this log, though nothing was written: its group has applied more.
    pub fn note_applied(&self) {
        self.shared.note_change();
    }

    /// A reader of this log for other threads.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// What a checkpoint has to say of this log, with the state of its group as of one index, at or below the last durable one.
    pub fn capture(&mut self, applied: AppliedState) -> CapturedLog {
        super::capture::capture(self, applied)
    }

    /// The largest segment from now on, in bytes. Checkpoints keep it, the journal does not: set it again after a start.
    pub fn set_max_segment_bytes(&mut self, bytes: u64) {
        if bytes != self.spec.max_segment_bytes {
            self.spec.max_segment_bytes = bytes;
            self.shared.note_change();
        }
    }

    /// Turns `write.caching` on or off. Turning it off syncs what is only cached. Blocks.
    ///
    /// # Errors
    /// A failed sync poisons the log.
    pub fn set_write_caching(&mut self, turn: &mut Turn, caching: bool) -> Result<()> {
        if caching == self.spec.write_caching {
            return Ok(());
        }
        self.check_writable()?;
        if !caching {
            // From here on the journal vouches for frames again; for those before it, the segments do.
            self.seal_active();
            let frontiers: Vec<_> = self
                .sealed
                .iter()
                .map(|sealed| Arc::clone(&sealed.frontier))
                .collect();
            self.directory.frontiers.sync(&frontiers)?;
            for sealed in &self.sealed {
                let (generation, end) = (sealed.segment.spec().generation, sealed.segment.end());
                turn.add(&Record::SegmentSynced {
                    log: self.id(),
                    generation,
                    end,
                });
            }
        }
        self.spec.write_caching = caching;
        self.note_spec(turn);
        Ok(())
    }

    /// Closes the active segment, so that retention can remove it; the next append opens another.
    pub fn roll(&mut self) {
        self.seal_active();
    }

    /// The segments from oldest to newest.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.reader().segments()
    }

    /// # Errors
    /// [`Error::Poisoned`], or [`Error::Damaged`] for a log that recovery could not give back whole.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.directory.check()?;
        self.shared.check()?;
        if let Some(met) = self.shared.damage_met() {
            return Err(Error::Damaged {
                log: self.id(),
                from: met.missing.from,
                from_offset: met.missing.from_offset,
                reason: met.reason.to_string(),
            });
        }
        match &self.damage {
            None => Ok(()),
            Some(damage) => Err(Error::Damaged {
                log: self.id(),
                from: damage
                    .missing
                    .first()
                    .map_or(self.next_index, |hole| hole.from),
                from_offset: damage
                    .missing
                    .first()
                    .map_or(self.next_offset, |hole| hole.from_offset),
                reason: damage.reason.clone(),
            }),
        }
    }

    /// The hard state as it may be written down: no more is called committed than is durable when this is.
    pub(super) fn durable_hard_state(&self) -> HardState {
        let commit = if self.spec.write_caching {
            self.hard_state.commit.min(self.synced_index())
        } else {
            // Groups are durable in order, so the frames up to the commit index are when the record is.
            self.hard_state.commit
        };
        HardState {
            commit,
            ..self.hard_state
        }
    }

    /// The last index that is durable in its segment.
    pub(super) fn synced_index(&self) -> RaftIndex {
        let active = self.active.iter().map(|active| &active.frontier);
        let newest_first = active.chain(self.sealed.iter().rev().map(|sealed| &sealed.frontier));
        let mut reached = newest_first.filter_map(|frontier| frontier.durable_next_index());
        reached.next().unwrap_or(self.start.index).previous()
    }

    pub(super) fn last_term(&self) -> Term {
        self.terms
            .last()
            .map_or(self.start.term_before, |(_, term)| *term)
    }

    pub(super) fn term_of(&self, index: RaftIndex) -> Term {
        let count = self.terms.partition_point(|(first, _)| *first <= index);
        count
            .checked_sub(1)
            .map_or(self.start.term_before, |at| self.terms[at].1)
    }

    /// Shows readers the segments as they are now.
    pub(super) fn show(&self) {
        let sealed = self.sealed.iter().map(|sealed| sealed.segment.segment());
        let active = self.active.iter().map(|active| active.segment.segment());
        let segments: Vec<Arc<Segment>> = sealed.chain(active).map(Arc::clone).collect();
        let holes = self
            .damage
            .as_ref()
            .map_or(vec![], |damage| damage.missing.clone());
        self.shared.show(View {
            segments,
            holes,
            next_offset: self.next_offset,
        });
    }

    pub(super) fn seal_active(&mut self) {
        if let Some(Active { segment, frontier }) = self.active.take() {
            self.sealed.push(Sealed {
                segment: segment.seal(),
                frontier,
            });
        }
    }

    pub(super) fn directory_path(&self) -> PathBuf {
        PathBuf::from(&self.spec.directory)
    }

    fn note_spec(&mut self, turn: &mut Turn) {
        let LogSpec {
            max_segment_bytes,
            write_caching,
            ..
        } = self.spec;
        turn.add(&Record::SpecChanged {
            log: self.id(),
            max_segment_bytes,
            write_caching,
        });
        self.wrote_journal = true;
        self.shared.note_change();
    }

    /// Gives back the space that the last segment was closed with. Only after a start: before, a truncation could still be undone.
    pub(crate) fn release_tail(&self) {
        if let Some(last) = self.sealed.last()
            && let Err(error) = last.segment.segment().release_tail()
        {
            tracing::warn!(log = %self.id(), %error, "the space after the last segment could not be given back");
        }
    }

    /// The files of the log's segments.
    pub(crate) fn segment_paths(&self) -> Vec<PathBuf> {
        self.shared
            .view()
            .segments
            .iter()
            .map(|segment| segment.path())
            .collect()
    }

    /// Takes the log apart: its id, its directory and its segments.
    pub(crate) fn into_deleted(mut self) -> (LogId, String, Vec<Sealed>) {
        self.seal_active();
        let mut segments = std::mem::take(&mut self.sealed);
        segments.append(&mut self.retired);
        segments.iter().for_each(|sealed| sealed.frontier.retire());
        self.shared.show(View {
            next_offset: self.next_offset,
            ..View::default()
        });
        (
            self.id(),
            std::mem::take(&mut self.spec.directory),
            segments,
        )
    }

    pub(super) fn last_file_bytes(&self) -> Option<u64> {
        let last = self.sealed.last()?;
        let (spec, end) = (last.segment.spec(), last.segment.end());
        // One that was closed early says nothing about how much the next one will get.
        let was_filled = end.position >= spec.file_bytes / 2;
        Some(if was_filled {
            spec.file_bytes
        } else {
            spec.file_bytes / 2
        })
    }

    /// The frames of all heads, as they came.
    pub(super) fn head_frames(&self) -> Vec<NewFrame> {
        self.heads
            .iter()
            .flat_map(Head::frames)
            .map(super::head::to_new)
            .collect()
    }

    pub(super) fn head_bytes(&self) -> u64 {
        self.heads.iter().map(Head::bytes).sum()
    }
}
