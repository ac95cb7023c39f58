//! A log being put together, piece by piece, in the order of its indexes.

use std::path::PathBuf;

use super::replay::LogReplay;
use crate::checkpoint::LogStart;
use crate::frame::FrameHeader;
use crate::log::{Head, MissingFrames};
use crate::segment::{Generation, SealedSegment, SegmentEnd};
use crate::{LogId, Offset, RaftIndex, Term};

/// A log being put together.
pub(super) struct Build {
    pub(super) log: LogId,
    pub(super) directory: PathBuf,
    pub(super) was_cached: bool,
    pub(super) known_terms: Vec<(RaftIndex, Term)>,
    pub(super) start: LogStart,
    pub(super) next_generation: Generation,
    pub(super) next_index: RaftIndex,
    pub(super) next_offset: Offset,
    pub(super) terms: Vec<(RaftIndex, Term)>,
    pub(super) sealed: Vec<SealedSegment>,
    pub(super) heads: Vec<Head>,
    pub(super) missing: Vec<MissingFrames>,
    /// Where frames that are known to be lost end.
    pub(super) lost_until: Option<(RaftIndex, Offset)>,
    pub(super) reasons: Vec<String>,
}

impl Build {
    pub(super) fn new(replay: &LogReplay) -> Self {
        Self {
            log: replay.log,
            directory: PathBuf::from(&replay.spec.directory),
            was_cached: replay.was_cached,
            known_terms: replay.terms.clone(),
            start: replay.start,
            next_generation: replay.next_generation,
            next_index: replay.start.index,
            next_offset: replay.start.offset,
            terms: vec![],
            sealed: vec![],
            heads: vec![],
            missing: vec![],
            lost_until: None,
            reasons: vec![],
        }
    }

    pub(super) fn take_generation(&mut self) -> Generation {
        let generation = self.next_generation;
        self.next_generation = generation.next();
        generation
    }

    /// Adds a closed segment: its frames below `durable` are known by their terms, the rest by `headers`.
    pub(super) fn add_sealed(
        &mut self,
        mut sealed: SealedSegment,
        durable: SegmentEnd,
        headers: Vec<FrameHeader>,
        limit: RaftIndex,
    ) {
        if sealed.end().next_index > limit
            && let Err(error) = sealed.truncate(limit)
        {
            let end = sealed.end();
            self.reasons.push(error.to_string());
            self.lose_until(limit, end.next_offset);
            return;
        }
        let end = sealed.end();
        let first = sealed.spec().first_index;
        if end.next_index == first {
            return; // Nothing is in it, so nothing names it any more.
        }
        self.add_known_terms(first, durable.next_index.min(end.next_index));
        for header in headers.iter().filter(|header| header.index < limit) {
            self.add_term(header.index, header.term);
        }
        (self.next_index, self.next_offset) = (end.next_index, end.next_offset);
        self.sealed.push(sealed);
    }

    pub(super) fn add_head(&mut self, mut head: Head, limit: RaftIndex) {
        head.truncate(limit);
        if head.frames().is_empty() {
            return;
        }
        for frame in head.frames() {
            self.add_term(frame.index, frame.term);
        }
        (self.next_index, self.next_offset) = (head.end().next_index, head.end().next_offset);
        self.heads.push(head);
    }

    /// A file begins where the heads before it did. Where it does not, its opening is lost, and with it what it held of theirs.
    pub(super) fn give_up_heads(&mut self) {
        if let Some(first) = self.heads.first() {
            let (index, offset) = (first.spec().first_index, first.spec().base_offset);
            self.lose_until(self.next_index, self.next_offset);
            (self.next_index, self.next_offset) = (index, offset);
            self.terms.retain(|(first, _)| *first < index);
            self.heads.clear();
        }
    }

    pub(super) fn add_known_terms(&mut self, from: RaftIndex, to: RaftIndex) {
        if from >= to {
            return;
        }
        let count = self
            .known_terms
            .partition_point(|(first, _)| *first <= from);
        let before = count.checked_sub(1).map(|at| self.known_terms[at].1);
        let later: Vec<_> = self.known_terms[count..]
            .iter()
            .take_while(|(first, _)| *first < to)
            .copied()
            .collect();
        if let Some(term) = before {
            self.add_term(from, term);
        }
        later
            .into_iter()
            .for_each(|(first, term)| self.add_term(first, term));
    }

    pub(super) fn add_term(&mut self, index: RaftIndex, term: Term) {
        let last = self
            .terms
            .last()
            .map_or(self.start.term_before, |(_, term)| *term);
        if term > last || self.terms.is_empty() {
            self.terms.push((index, term));
        }
    }

    /// Notes that frames up to there were written once and are gone.
    pub(super) fn lose_until(&mut self, index: RaftIndex, offset: Offset) {
        if index > self.next_index && self.lost_until.is_none_or(|(until, _)| index > until) {
            self.lost_until = Some((index, offset));
        }
    }

    pub(super) fn miss_until(&mut self, index: RaftIndex, offset: Offset) {
        self.missing.push(MissingFrames {
            from: self.next_index,
            to: index,
            from_offset: self.next_offset,
            to_offset: offset,
        });
        (self.next_index, self.next_offset) = (index, offset);
    }

    pub(super) fn close_last_hole(&mut self) {
        if let Some((index, offset)) = self
            .lost_until
            .filter(|(until, _)| *until > self.next_index)
        {
            self.miss_until(index, offset.max(self.next_offset));
        }
    }
}
