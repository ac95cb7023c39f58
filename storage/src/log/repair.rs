//! Giving up on what a log has lost. Only for a log that nobody else uses.

use std::path::Path;
use std::sync::Arc;

use super::log::{Log, Sealed};
use super::shared::Frontier;
use super::{HardState, MissingFrames};
use crate::error::Result;
use crate::frame::{EncodedFrame, FrameHeader};
use crate::segment::{ActiveSegment, Hole, SealedSegment, SegmentSpec, lost_frames};
use crate::{RaftIndex, Term};

/// How far the term is raised where votes may be lost: no replica goes through that many elections between two checkpoints.
const TERMS_LOST_AT_MOST: u64 = 1024;

impl Log {
    /// Reads all of the log, and says which frames are missing or not what was written.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk cannot read.
    pub(crate) fn find_missing(&self) -> Result<Vec<MissingFrames>> {
        let mut missing = self.holes();
        for sealed in &self.sealed {
            let lost = sealed.segment.segment().find_lost();
            for lost in lost.map_err(|error| self.shared.read_error(error))? {
                missing.push(MissingFrames::from(lost.hole));
            }
        }
        missing.sort_by_key(|hole| hole.from);
        Ok(missing)
    }

    /// Puts a lost frame in the place of each that is missing, up to the last that is committed or applied, and ends the damage. The
    /// next checkpoint makes that durable.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`]: the log is as damaged as before.
    pub(crate) fn accept_loss(&mut self, applied: RaftIndex) -> Result<()> {
        for sealed in &self.sealed {
            let segment = sealed.segment.segment();
            let lost = segment
                .find_lost()
                .map_err(|error| self.shared.read_error(error))?;
            for lost in lost {
                let put = segment.put_lost(&lost, |index| self.term_of(index));
                put.map_err(|error| self.shared.read_error(error))?;
            }
        }
        let damage = self.damage.clone();
        for hole in self.holes() {
            self.fill(&hole)?;
        }
        let known = self.hard_state.commit.max(applied);
        if known >= self.next_index {
            let hole = MissingFrames {
                from: self.next_index,
                to: known.next(),
                from_offset: self.next_offset,
                to_offset: self.next_offset,
            };
            self.fill(&hole)?;
            self.next_index = hole.to;
        }
        if damage.is_some_and(|damage| damage.hard_state_in_doubt) {
            let term = Term(self.hard_state.term.max(self.last_term()).0 + TERMS_LOST_AT_MOST);
            self.hard_state = HardState {
                term,
                vote: 0,
                ..self.hard_state
            };
        }
        self.damage = None;
        self.shared.note_change();
        self.show();
        Ok(())
    }

    /// The holes between segments. Those inside of one are found by reading it.
    fn holes(&self) -> Vec<MissingFrames> {
        let is_inside = |hole: &MissingFrames| {
            self.sealed.iter().any(|sealed| {
                let segment = sealed.segment.segment();
                segment.spec().first_index <= hole.from && hole.to <= segment.end().next_index
            })
        };
        let missing = self.damage.iter().flat_map(|damage| &damage.missing);
        missing.filter(|hole| !is_inside(hole)).copied().collect()
    }

    /// Fills a hole between what is there.
    fn fill(&mut self, hole: &MissingFrames) -> Result<()> {
        let terms: Vec<Term> = (hole.from.0..hole.to.0)
            .map(|index| self.term_of(RaftIndex(index)))
            .collect();
        let term = |index: RaftIndex| {
            usize::try_from(index.0 - hole.from.0).map_or(Term(0), |at| terms[at])
        };
        if let Some(head) = self
            .heads
            .iter_mut()
            .find(|head| head.end().next_index == hole.from)
        {
            for encoded in lost_frames(&as_hole(hole), head.spec().salt, 0, term) {
                head.push(&encoded.header().with_payload(bytes::Bytes::new()));
            }
            return Ok(());
        }
        let at = self
            .sealed
            .partition_point(|sealed| sealed.segment.spec().first_index < hole.from);
        let frames = |salt| lost_frames(&as_hole(hole), salt, 0, term);
        let bytes: u64 = frames(0)
            .iter()
            .map(EncodedFrame::header)
            .map(FrameHeader::frame_bytes)
            .sum();
        let before = at.checked_sub(1).map(|before| &self.sealed[before].segment);
        let directory = self.directory_path();
        if let Some(before) = before.filter(|before| has_room(before, hole, bytes)) {
            let (spec, end) = (*before.spec(), before.end());
            let reopened = self
                .directory
                .files
                .reopen(self.shared.id(), &directory, spec, end);
            let segment = reopened.map_err(|error| self.shared.read_error(error))?;
            self.sealed[at - 1] = self.write_lost(segment, &directory, &frames(spec.salt))?;
            return Ok(());
        }
        let generation = self.next_generation;
        self.next_generation = generation.next();
        let salt = self.directory.random();
        let start = SegmentSpec {
            generation,
            salt,
            first_index: hole.from,
            base_offset: hole.from_offset,
            file_bytes: 0,
        };
        let block = start.start().position;
        let spec = SegmentSpec {
            file_bytes: (block + bytes).next_multiple_of(block),
            ..start
        };
        let segment = self
            .directory
            .create_segment(self.shared.id(), &directory, spec, false)?;
        let sealed = self.write_lost(segment, &directory, &frames(salt))?;
        self.sealed.insert(at, sealed);
        Ok(())
    }

    fn write_lost(
        &self,
        mut segment: ActiveSegment,
        directory: &Path,
        frames: &[EncodedFrame],
    ) -> Result<Sealed> {
        segment
            .append(frames)
            .map_err(|error| self.shared.read_error(error))?;
        segment
            .segment()
            .sync()
            .map_err(|error| self.shared.read_error(error))?;
        self.directory.files.sync_directory(directory)?;
        let segment = segment.seal();
        let (inner, end) = (Arc::clone(segment.segment()), segment.end());
        let frontier = Frontier::new(
            inner,
            directory.to_owned(),
            Arc::clone(&self.shared),
            end,
            true,
        );
        Ok(Sealed {
            segment,
            frontier: Arc::new(frontier),
        })
    }
}

fn has_room(before: &SealedSegment, hole: &MissingFrames, bytes: u64) -> bool {
    let end = before.end();
    end.next_index == hole.from && end.position + bytes <= before.spec().file_bytes
}

fn as_hole(hole: &MissingFrames) -> Hole {
    Hole {
        from: hole.from,
        to: hole.to,
        from_offset: hole.from_offset,
        to_offset: hole.to_offset,
    }
}
