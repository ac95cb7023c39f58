//! The sparse index of a segment: places where a walk over its frames may start.
//!
//! One list serves indexes, offsets and timestamps, because all three only grow along the frames: a place knows what stands before it
//! ([`SegmentEnd`] holds the next index, the next offset and the largest timestamp so far). All of it is derived from the frames.

use super::SegmentEnd;

/// Bytes of frames between two places.
pub(super) const INTERVAL_BYTES: u64 = 32 * 1024;

/// Known places, in their order; the first is the segment's start.
#[derive(Debug)]
pub(super) struct SparseIndex {
    places: Vec<SegmentEnd>,
}

impl SparseIndex {
    pub(super) fn new(start: SegmentEnd) -> Self {
        Self {
            places: vec![start],
        }
    }

    /// Notes the end of the segment when it is far enough from the last place.
    pub(super) fn note_end(&mut self, end: &SegmentEnd) {
        if self
            .places
            .last()
            .is_none_or(|last| end.position >= last.position + INTERVAL_BYTES)
        {
            self.places.push(*end);
        }
    }

    /// Adds places that were found on a walk.
    pub(super) fn add(&mut self, found: Vec<SegmentEnd>) {
        if !found.is_empty() {
            self.places.extend(found);
            self.places.sort_by_key(|place| place.position);
            self.places.dedup_by_key(|place| place.position);
        }
    }

    /// Forgets the places after `end`.
    pub(super) fn cut(&mut self, end: &SegmentEnd) {
        self.places.retain(|place| place.position <= end.position);
    }

    /// The last place of which `is_before` holds; it holds of a first part of all places.
    pub(super) fn last_before(&self, is_before: impl Fn(&SegmentEnd) -> bool) -> SegmentEnd {
        let count = self.places.partition_point(is_before);
        self.places[count.saturating_sub(1)]
    }
}
