//! What the journal adds to the checkpoint, log by log. Nothing here reads or writes: records come in, facts come out.
//!
//! Each record may be known already, because a checkpoint captures a log later than the position from which the journal is replayed. So
//! applying one twice changes nothing: terms only rise, positions below the durable end are skipped, and a generation below the log's
//! next one that the checkpoint does not name has left the log.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::checkpoint::{Applied, LogEntry, LogStart, NO_LIMIT, Snapshot};
use crate::cursor::Cursor;
use crate::frame::{self, Decoded, FrameHeader, HEADER_BYTES};
use crate::journal::{Location, Record};
use crate::log::{AppliedState, Damage, HardState, Head, LogSpec};
use crate::segment::{Generation, SegmentEnd, SegmentSpec};
use crate::{LogId, Offset, RaftIndex, Term};

/// One log, as far as checkpoint and journal tell.
#[derive(Debug)]
pub(crate) struct LogReplay {
    pub(crate) log: LogId,
    pub(crate) spec: LogSpec,
    pub(crate) hard_state: HardState,
    pub(crate) log_start: Offset,
    pub(crate) start: LogStart,
    pub(crate) next_generation: Generation,
    pub(crate) applied: Applied,
    pub(crate) damage: Option<Damage>,
    /// Where terms begin, for the frames that are durable in their segments.
    pub(crate) terms: Vec<(RaftIndex, Term)>,
    pub(crate) segments: BTreeMap<Generation, SegmentReplay>,
    /// Whether frames may stand in segments that the journal does not have.
    pub(crate) was_cached: bool,
    /// Whether frames came for a segment that nothing opened: the record that did is lost.
    pub(crate) has_strays: bool,
    /// What a record said that contradicts those before it.
    pub(crate) misfit: Option<String>,
    /// The last group with frames of this log, and the last with its hard state.
    pub(crate) last_frames_group: u64,
    pub(crate) last_hard_state_group: u64,
}

/// One segment, as far as checkpoint and journal tell.
#[derive(Debug)]
pub(crate) struct SegmentReplay {
    pub(crate) spec: SegmentSpec,
    /// The smallest first index of all later generations.
    pub(crate) limit: RaftIndex,
    /// How far its file is durable by itself.
    pub(crate) durable: SegmentEnd,
    /// How far a sync of a cached segment had come.
    pub(crate) synced: Option<SegmentEnd>,
    /// Of a head, what the checkpoint has.
    pub(crate) head: Option<Head>,
    /// Frames in the journal beyond `durable`, by position. Between two chains frames are missing.
    pub(crate) chains: Vec<Chain>,
}

/// Frames that follow each other.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) position: u64,
    pub(crate) first_index: RaftIndex,
    pub(crate) base_offset: Offset,
    pub(crate) end: SegmentEnd,
    /// Where they are in the journal.
    pub(crate) pieces: Vec<Location>,
}

/// What does not fit what came before it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misfit(&'static str);

impl LogReplay {
    /// A log as a checkpoint has it; `None` when a head in it is not what a head holds.
    pub(crate) fn from_entry(entry: LogEntry) -> Option<Self> {
        let mut segments = BTreeMap::new();
        for segment in entry.segments {
            let head = if segment.spec.is_head() {
                Some(Head::decode(segment.spec, segment.head)?)
            } else {
                None
            };
            let mut replay = SegmentReplay::new(segment.spec, head);
            replay.limit = segment.limit;
            replay.durable = segment.end;
            segments.insert(segment.spec.generation, replay);
        }
        Some(Self {
            log: entry.log,
            was_cached: entry.spec.write_caching,
            spec: entry.spec,
            hard_state: entry.hard_state,
            log_start: entry.log_start,
            start: entry.start,
            next_generation: entry.next_generation,
            applied: entry.applied,
            damage: entry.damage,
            terms: entry.terms,
            segments,
            has_strays: false,
            misfit: None,
            last_frames_group: 0,
            last_hard_state_group: 0,
        })
    }

    /// An empty log as the journal opened it.
    pub(crate) fn opened(log: LogId, spec: LogSpec, applied: AppliedState) -> Self {
        let start = LogStart {
            index: applied.index.next(),
            offset: Offset(0),
            term_before: applied.term,
        };
        Self {
            log,
            was_cached: spec.write_caching,
            spec,
            hard_state: HardState::default(),
            log_start: Offset(0),
            start,
            next_generation: Generation(1),
            applied: inline(applied),
            damage: None,
            terms: vec![],
            segments: BTreeMap::new(),
            has_strays: false,
            misfit: None,
            last_frames_group: 0,
            last_hard_state_group: 0,
        }
    }

    /// Applies one record of this log, found in `group`; the frames of a frames record are at `location`.
    pub(crate) fn apply(&mut self, record: Record, location: Location, group: u64) {
        match record {
            // Known already; whoever keeps the map of logs handles these.
            Record::LogOpened { .. } | Record::LogDeleted { .. } => {}
            Record::SegmentOpened { segment, .. } => self.open_segment(segment),
            Record::Truncated {
                next,
                first_removed,
                ..
            } => {
                self.limit_before(next, first_removed);
                self.next_generation = self.next_generation.max(next.next());
            }
            Record::HardStateSet { hard_state, .. } => {
                self.raise_hard_state(hard_state);
                self.last_hard_state_group = group;
            }
            Record::FramesWritten {
                generation,
                position,
                frames,
                ..
            } => {
                self.last_frames_group = group;
                if let Err(misfit) = self.add_frames(generation, position, frames, location) {
                    self.misfit = Some(format!("group {group} of the journal holds {misfit}"));
                }
            }
            Record::SnapshotInstalled {
                applied,
                next_offset,
                log_start,
                ..
            } => {
                let start = LogStart {
                    index: applied.index.next(),
                    offset: next_offset,
                    term_before: applied.term,
                };
                self.begin_anew(applied, start, log_start, group);
            }
            Record::LogSeeded {
                applied,
                log_start,
                start,
                terms,
                segments,
                ..
            } => {
                if self.begin_anew(applied, start, log_start, group) {
                    self.terms = terms;
                    self.add_seeded(segments);
                }
            }
            Record::SpecChanged {
                max_segment_bytes,
                write_caching,
                ..
            } => {
                self.spec.max_segment_bytes = max_segment_bytes;
                self.spec.write_caching = write_caching;
                // Turning it off comes after a sync of all that was cached: `SegmentSynced` says how far.
                self.was_cached = write_caching;
            }
            Record::SegmentSynced {
                generation, end, ..
            } => {
                if let Some(segment) = self.segments.get_mut(&generation) {
                    segment.synced = Some(end);
                }
            }
        }
    }

    fn open_segment(&mut self, spec: SegmentSpec) {
        self.limit_before(spec.generation, spec.first_index);
        if spec.generation >= self.next_generation {
            self.next_generation = spec.generation.next();
            let head = spec.is_head().then(|| Head::new(spec));
            self.segments
                .insert(spec.generation, SegmentReplay::new(spec, head));
        }
    }

    fn limit_before(&mut self, generation: Generation, first_index: RaftIndex) {
        for (_, segment) in self.segments.range_mut(..generation) {
            segment.limit = segment.limit.min(first_index);
        }
    }

    /// The higher term wins; within a term a vote stands. The commit index only rises.
    fn raise_hard_state(&mut self, replayed: HardState) {
        let known = &mut self.hard_state;
        if replayed.term > known.term || (replayed.term == known.term && known.vote == 0) {
            known.term = replayed.term;
            known.vote = replayed.vote;
        }
        known.commit = known.commit.max(replayed.commit);
    }

    fn add_frames(
        &mut self,
        generation: Generation,
        position: u64,
        frames: Bytes,
        location: Location,
    ) -> Result<(), Misfit> {
        let Some(segment) = self.segments.get_mut(&generation) else {
            // Of a segment that has left the log, or of one whose opening was lost.
            self.has_strays |= generation >= self.next_generation;
            return Ok(());
        };
        segment.add_frames(position, frames, location)
    }

    /// Takes segments that are durable as far as they go.
    fn add_seeded(&mut self, segments: Vec<(SegmentSpec, SegmentEnd)>) {
        for (spec, end) in segments {
            self.next_generation = self.next_generation.max(spec.generation.next());
            let mut replay = SegmentReplay::new(spec, None);
            replay.durable = end;
            self.segments.insert(spec.generation, replay);
        }
    }

    /// Begins anew: what the log held, and what was not known of it, counts for nothing any more. Generations go on. Not for a state
    /// at or below the applied one: that was captured later.
    fn begin_anew(
        &mut self,
        applied: AppliedState,
        start: LogStart,
        log_start: Offset,
        group: u64,
    ) -> bool {
        if applied.index <= self.applied.index {
            return false;
        }
        self.segments.clear();
        self.terms.clear();
        self.has_strays = false;
        self.misfit = None;
        self.last_frames_group = group;
        self.start = start;
        self.log_start = log_start;
        self.applied = inline(applied);
        true
    }
}

fn inline(applied: AppliedState) -> Applied {
    Applied {
        index: applied.index,
        term: applied.term,
        conf_state: applied.conf_state,
        snapshot: Snapshot::Inline(applied.snapshot),
    }
}

impl SegmentReplay {
    fn new(spec: SegmentSpec, head: Option<Head>) -> Self {
        Self {
            spec,
            limit: NO_LIMIT,
            durable: spec.start(),
            synced: None,
            head,
            chains: vec![],
        }
    }

    /// Whether nothing of it is part of the log.
    pub(crate) fn is_dead(&self) -> bool {
        self.spec.first_index >= self.limit
    }

    fn add_frames(
        &mut self,
        position: u64,
        frames: Bytes,
        location: Location,
    ) -> Result<(), Misfit> {
        let mut at = position;
        let mut cursor = Cursor::new(frames);
        while cursor.remaining() > 0 {
            let header = take_header(&mut cursor, self.spec.salt)
                .ok_or(Misfit("frames that are none of the segment"))?;
            let bytes = header.frame_bytes();
            let piece = Location {
                position: location.position + (at - position),
                bytes: u32::try_from(bytes).map_err(|_| Misfit("a frame that is too long"))?,
                ..location
            };
            if at >= self.durable.position {
                self.add_frame(at, &header, piece)?;
            }
            at += bytes;
        }
        Ok(())
    }

    fn add_frame(
        &mut self,
        position: u64,
        header: &FrameHeader,
        piece: Location,
    ) -> Result<(), Misfit> {
        if position == self.durable.position && !self.durable.continues_with(header) {
            return Err(Misfit("a frame that does not follow the durable end"));
        }
        // Mostly at the end; what a checkpoint wrote down again may come after what follows it.
        let at = self
            .chains
            .partition_point(|chain| chain.position <= position);
        let before = at.checked_sub(1).map(|before| &mut self.chains[before]);
        match before {
            Some(chain) if position < chain.end.position => return Ok(()), // Written down twice.
            Some(chain) if position == chain.end.position => {
                if !chain.end.continues_with(header) {
                    return Err(Misfit("a frame that does not follow the one before it"));
                }
                chain.end = chain.end.after(header);
                add_piece(&mut chain.pieces, piece);
                return self.join_chains(at);
            }
            _ => {}
        }
        let before = SegmentEnd {
            position,
            next_index: header.index,
            term: Term(0),
            next_offset: header.base_offset,
            max_timestamp_ms: i64::MIN,
        };
        let chain = Chain {
            position,
            first_index: header.index,
            base_offset: header.base_offset,
            end: before.after(header),
            pieces: vec![piece],
        };
        self.chains.insert(at, chain);
        self.join_chains(at + 1)
    }

    /// Makes one of chain `at` and the one before it, if they meet.
    fn join_chains(&mut self, at: usize) -> Result<(), Misfit> {
        let (Some(last), Some(chain)) = (
            at.checked_sub(1).and_then(|last| self.chains.get(last)),
            self.chains.get(at),
        ) else {
            return Ok(());
        };
        let (end, start) = (last.end, chain.position);
        if end.position < start {
            return Ok(());
        }
        let follows = (end.position, end.next_index, end.next_offset)
            == (start, chain.first_index, chain.base_offset);
        if !follows {
            return Err(Misfit("frames that do not follow those before them"));
        }
        let chain = self.chains.remove(at);
        let last = &mut self.chains[at - 1];
        last.end = SegmentEnd {
            max_timestamp_ms: end.max_timestamp_ms.max(chain.end.max_timestamp_ms),
            ..chain.end
        };
        for piece in chain.pieces {
            add_piece(&mut last.pieces, piece);
        }
        Ok(())
    }
}

/// Joins pieces that follow each other in the journal.
fn add_piece(pieces: &mut Vec<Location>, piece: Location) {
    /// Pieces are read back one by one: none that was joined gets larger than this.
    const PIECE_BYTES: u32 = 1 << 20;
    if let Some(last) = pieces.last_mut() {
        let follows =
            last.file == piece.file && last.position + u64::from(last.bytes) == piece.position;
        if follows && last.bytes.saturating_add(piece.bytes) <= PIECE_BYTES {
            last.bytes += piece.bytes;
            return;
        }
    }
    pieces.push(piece);
}

/// Takes a frame off `cursor` and returns its header.
fn take_header(cursor: &mut Cursor, salt: u64) -> Option<FrameHeader> {
    let Ok(Decoded::Header(header)) = frame::decode_header(&cursor.bytes(HEADER_BYTES)?, salt)
    else {
        return None;
    };
    cursor.bytes(usize::try_from(header.frame_bytes()).ok()? - HEADER_BYTES)?;
    Some(header)
}
