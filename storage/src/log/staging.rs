//! Taking over a log from elsewhere: frames first, then the state that makes them valid.
//!
//! A replica that lacks frames which no other sends one by one any more gets them in bulk. They are written to segments that
//! nothing names yet, past the journal, by any thread, while the log goes on as it was. When all are there and synced, one
//! record of the journal makes them, and the state of the group after the last of them, take the place of what the log
//! held. A crash before that leaves files that the next start removes.
//!
//! The segments have generations that were set aside for them, so that they meet no others.

use std::path::PathBuf;
use std::sync::Arc;

use super::append::encode;
use super::log::{Log, Sealed};
use super::shared::{Frontier, LogShared};
use super::{AppliedState, LogSpec};
use crate::checkpoint::LogStart;
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::frame::{FrameHeader, FrameKind, NewFrame};
use crate::journal::{Record, Turn};
use crate::segment::{
    ActiveSegment, Generation, SealedSegment, Segment, SegmentEnd, SegmentSpec, next_file_bytes,
};
use crate::{Offset, RaftIndex, Term};

/// Segments of one take-over at most. So many generations are used up by each, whether it comes to its end or not.
const MAX_SEGMENTS: u32 = 1 << 14;
/// Bytes after which what was written is due to be synced.
const SYNC_BYTES: u64 = 32 << 20;
/// Where a batch has its own checksum, and from where on that covers it.
const BATCH_CHECKSUM: std::ops::Range<usize> = 17..21;

/// Where frames that are taken over begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedFrom {
    /// The index of the first frame.
    pub index: RaftIndex,
    /// The offset of the first record at or after it.
    pub offset: Offset,
    /// The term of the entry before; 0 where there was none.
    pub term_before: Term,
}

/// Frames on their way into a log. What is not installed is removed when it is dropped, or by the next start.
#[derive(Debug)]
pub struct Staging {
    directory: Arc<Directory>,
    shared: Arc<LogShared>,
    spec: LogSpec,
    start: LogStart,
    next_index: RaftIndex,
    next_offset: Offset,
    next_generation: Generation,
    generations: std::ops::Range<u32>,
    terms: Vec<(RaftIndex, Term)>,
    sealed: Vec<SealedSegment>,
    active: Option<ActiveSegment>,
    unsynced_bytes: u64,
}

/// Frames that are all there, and durable.
#[derive(Debug)]
pub struct Staged(Staging);

/// Segments with frames that the disk should have soon.
#[derive(Debug)]
pub struct Unsynced {
    segments: Vec<Arc<Segment>>,
    shared: Arc<LogShared>,
}

impl Log {
    /// Begins to take over frames, the first of which stands at `from`. Other threads may write them. What the log appends meanwhile
    /// goes to new segments.
    ///
    /// # Errors
    /// [`Error::Invalid`] when that was begun too often, [`Error::Damaged`], [`Error::Poisoned`].
    pub fn stage(&mut self, from: StagedFrom) -> Result<Staging> {
        self.check_writable()?;
        if self.next_generation.0 > u32::MAX / 2 {
            return Err(Error::invalid(format!(
                "log {} has used up its generations",
                self.id()
            )));
        }
        // Nothing follows in the segment that is written now: its generation is not the last one any more.
        self.seal_active();
        let first = self.next_generation;
        let last = first.0 + MAX_SEGMENTS;
        self.next_generation = Generation(last);
        let start = LogStart {
            index: from.index,
            offset: from.offset,
            term_before: from.term_before,
        };
        Ok(Staging {
            directory: Arc::clone(&self.directory),
            shared: Arc::clone(&self.shared),
            spec: self.spec.clone(),
            start,
            next_index: start.index,
            next_offset: start.offset,
            next_generation: first,
            generations: first.0..last,
            terms: vec![],
            sealed: vec![],
            active: None,
            unsynced_bytes: 0,
        })
    }

    /// Replaces all that the log holds by `staged` and the state of its group after the last of those frames. Durable with the turn's
    /// ticket, together with what else the turn writes; until then a crash leaves the log as it was. The hard state rises with it.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is not above the commit index, the frames do not lead to `applied` or begin above `log_start`, or they were
    /// staged for another log; nothing changed. [`Error::Damaged`], [`Error::Poisoned`].
    pub fn install_staged(
        &mut self,
        turn: &mut Turn,
        staged: Staged,
        applied: AppliedState,
        log_start: Offset,
    ) -> Result<()> {
        self.check_writable()?;
        let next_offset = staged.0.next_offset;
        self.check_snapshot(&applied, next_offset, log_start)?;
        staged.check(self, &applied, log_start)?;
        let mut staging = staged.0;
        let (start, terms) = (staging.start, std::mem::take(&mut staging.terms));
        let sealed = std::mem::take(&mut staging.sealed);
        let segments = sealed
            .iter()
            .map(|segment| (*segment.spec(), segment.end()));
        let (index, term) = (applied.index, applied.term);
        turn.add(&Record::LogSeeded {
            log: self.id(),
            applied,
            log_start,
            start,
            terms: terms.clone(),
            segments: segments.collect(),
        });
        self.wrote_journal = true;
        self.begin_after(index, term, next_offset);
        (self.start, self.terms) = (start, terms);
        self.sealed = sealed
            .into_iter()
            .map(|segment| self.durable(segment))
            .collect();
        self.log_start = log_start;
        self.raise_hard_state(turn, index, term);
        self.note_applied();
        self.show();
        Ok(())
    }

    /// A segment of which nothing is left to be synced.
    fn durable(&self, segment: SealedSegment) -> Sealed {
        let (inner, end) = (Arc::clone(segment.segment()), segment.end());
        let path = self.directory_path();
        let frontier = Frontier::new(inner, path, Arc::clone(&self.shared), end, true);
        Sealed {
            segment,
            frontier: Arc::new(frontier),
        }
    }
}

impl Staging {
    /// The index of the next frame.
    pub fn next_index(&self) -> RaftIndex {
        self.next_index
    }

    /// The offset of the next record.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Writes the next frames. Blocks.
    ///
    /// # Errors
    /// [`Error::Invalid`] for frames that do not follow or whose checksum is wrong: none is written. [`Error::NoSpace`]: go on from
    /// [`Staging::next_index`] when there is some. [`Error::Io`]: what is staged is of no use.
    pub fn append(&mut self, frames: &[NewFrame]) -> Result<()> {
        let headers = self.check_frames(frames)?;
        for (frame, header) in frames.iter().zip(&headers) {
            self.make_room(header)?;
            let active = self.active.as_mut().expect("there is room in it");
            let salt = active.spec().salt;
            let encoded = encode(std::slice::from_ref(frame), header.base_offset, salt);
            active
                .append(&encoded)
                .map_err(|error| self.shared.read_error(error))?;
            if frame.term > self.last_term() || self.terms.is_empty() {
                self.terms.push((frame.index, frame.term));
            }
            self.next_index = frame.index.next();
            self.next_offset = header.next_offset();
            self.unsynced_bytes += header.frame_bytes();
        }
        Ok(())
    }

    /// What was written since the last time, once it is so much that it should be synced. More may be written meanwhile, until there is
    /// so much again: then whoever writes waits for the disk. What is never synced so is by [`Staging::finish`].
    pub fn unsynced(&mut self) -> Option<Unsynced> {
        if self.unsynced_bytes < SYNC_BYTES {
            return None;
        }
        self.unsynced_bytes = 0;
        let sealed = self.sealed.iter().map(SealedSegment::segment);
        let active = self.active.iter().map(ActiveSegment::segment);
        let dirty = sealed.chain(active).filter(|segment| segment.is_dirty());
        Some(Unsynced {
            segments: dirty.cloned().collect(),
            shared: Arc::clone(&self.shared),
        })
    }

    /// Bytes of the frames so far.
    pub fn bytes(&self) -> u64 {
        let held = |spec: &SegmentSpec, end: SegmentEnd| end.position - spec.start().position;
        let sealed = self.sealed.iter();
        let sealed = sealed.map(|segment| held(segment.spec(), segment.end()));
        let active = self.active.iter();
        let active = active.map(|active| held(active.spec(), active.segment().end()));
        sealed.chain(active).sum()
    }

    /// Makes all of it durable. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`]: what is staged is of no use.
    pub fn finish(mut self) -> Result<Staged> {
        self.seal_active();
        for sealed in &self.sealed {
            sync(sealed.segment(), &self.shared)?;
        }
        // Without a frame there may be no directory either.
        if !self.sealed.is_empty() {
            self.directory.files.sync_directory(&self.path())?;
        }
        Ok(Staged(self))
    }

    fn check_frames(&self, frames: &[NewFrame]) -> Result<Vec<FrameHeader>> {
        let (mut index, mut offset) = (self.next_index, self.next_offset);
        let mut term = self.last_term();
        let mut headers = Vec::with_capacity(frames.len());
        for frame in frames {
            let invalid = |rule: &str| Err(Error::invalid(format!("staged frame {index}: {rule}")));
            if frame.index != index || frame.term < term {
                return invalid("another one comes next");
            }
            if frame.payload.len() as u64 > self.directory.config.max_payload_bytes {
                return invalid("its payload is too long");
            }
            let header = match FrameHeader::new(frame, offset) {
                Ok(header) if is_whole(frame) => header,
                Ok(_) => return invalid("its checksum is wrong"),
                Err(error) => return invalid(&error.to_string()),
            };
            (index, offset, term) = (index.next(), header.next_offset(), frame.term);
            headers.push(header);
        }
        Ok(headers)
    }

    /// Opens another segment where the next frame does not fit.
    fn make_room(&mut self, header: &FrameHeader) -> Result<()> {
        let bytes = header.frame_bytes();
        if self
            .active
            .as_ref()
            .is_some_and(|active| active.fits(bytes))
        {
            return Ok(());
        }
        if !self.generations.contains(&self.next_generation.0) {
            return Err(Error::invalid(format!(
                "log {} is too long for {MAX_SEGMENTS} segments",
                self.shared.id()
            )));
        }
        self.seal_active();
        let last = self.sealed.last().map(|sealed| sealed.spec().file_bytes);
        let (first, max) = (
            self.directory.config.first_segment_bytes,
            self.spec.max_segment_bytes,
        );
        let spec = SegmentSpec {
            generation: self.next_generation,
            salt: self.directory.random(),
            first_index: header.index,
            base_offset: header.base_offset,
            file_bytes: next_file_bytes(last, first, max, bytes),
        };
        let id = self.shared.id();
        let opened = self
            .directory
            .create_segment(id, &self.path(), spec, true)?;
        self.next_generation = spec.generation.next();
        self.active = Some(opened);
        Ok(())
    }

    /// Closes the segment that is written.
    fn seal_active(&mut self) {
        self.sealed
            .extend(self.active.take().map(ActiveSegment::seal));
    }

    /// The term of the last frame; of the entry before, where there is none.
    fn last_term(&self) -> Term {
        self.terms
            .last()
            .map_or(self.start.term_before, |(_, term)| *term)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(&self.spec.directory)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.seal_active();
        self.directory.discard(self.sealed.drain(..));
    }
}

impl Unsynced {
    /// Makes durable what was written to them by now. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`]: what is staged is of no use.
    pub fn sync(self) -> Result<()> {
        let mut segments = self.segments.iter();
        segments.try_for_each(|segment| sync(segment, &self.shared))
    }
}

impl Staged {
    /// Where its frames begin.
    pub fn begins(&self) -> StagedFrom {
        let LogStart {
            index,
            offset,
            term_before,
        } = self.0.start;
        StagedFrom {
            index,
            offset,
            term_before,
        }
    }

    /// The index after the last frame.
    pub fn next_index(&self) -> RaftIndex {
        self.0.next_index
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> Offset {
        self.0.next_offset
    }

    /// Whether the frames lead to `applied`, and are all that a log needs which starts at `log_start`.
    fn check(&self, log: &Log, applied: &AppliedState, log_start: Offset) -> Result<()> {
        let Self(staging) = self;
        let last_term = staging.last_term();
        let leads_there = staging.next_index == applied.index.next() && last_term == applied.term;
        let is_ours = Arc::ptr_eq(&staging.shared, &log.shared);
        if leads_there && is_ours && staging.start.offset <= log_start {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "frames {} to {} for log {} do not make log {} as of {}, which starts at offset {log_start}",
            staging.start.index,
            staging.next_index.previous(),
            staging.shared.id(),
            log.id(),
            applied.index
        )))
    }
}

fn sync(segment: &Arc<Segment>, shared: &LogShared) -> Result<()> {
    let synced = segment.sync();
    synced.map(drop).map_err(|error| shared.read_error(error))
}

/// Whether a batch is what its producer sent. Other frames have no checksum before they have a header.
fn is_whole(frame: &NewFrame) -> bool {
    if frame.kind != FrameKind::Batch {
        return true;
    }
    let told = frame.payload.get(BATCH_CHECKSUM).unwrap_or_default();
    let covered = frame.payload.get(BATCH_CHECKSUM.end..).unwrap_or_default();
    told == crc32c::crc32c(covered).to_be_bytes()
}
