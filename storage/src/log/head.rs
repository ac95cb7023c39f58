//! Frames without a file.
//!
//! An idle partition has elections and membership changes, but no records. Until its first batch comes, its frames are in memory, in the
//! journal and in the checkpoint, so that ten thousand idle partitions do not need ten thousand files. The first batch opens a segment
//! that begins with the same frames.

use bytes::Bytes;

use crate::RaftIndex;
use crate::cursor::Cursor;
use crate::frame::{
    self, Decoded, EncodedFrame, Frame, FrameHeader, FrameKind, HEADER_BYTES, NewFrame,
};
use crate::segment::{SegmentEnd, SegmentSpec};

/// A segment without a file. Its positions count as if it had one.
#[derive(Debug)]
pub(crate) struct Head {
    spec: SegmentSpec,
    frames: Vec<Frame>,
    end: SegmentEnd,
}

impl Head {
    pub(crate) fn new(spec: SegmentSpec) -> Self {
        Self {
            spec,
            frames: vec![],
            end: spec.start(),
        }
    }

    /// A head out of its frames as they were encoded; `None` when they are not what such a head holds.
    pub(crate) fn decode(spec: SegmentSpec, bytes: Bytes) -> Option<Self> {
        let mut head = Self::new(spec);
        let mut cursor = Cursor::new(bytes);
        while cursor.remaining() > 0 {
            let frame = take_frame(&mut cursor, spec.salt)?;
            if !head.push(&frame) {
                return None;
            }
        }
        Some(head)
    }

    /// Takes one more frame; false when it is not the one that comes next.
    pub(crate) fn push(&mut self, frame: &Frame) -> bool {
        let header = FrameHeader::new(&to_new(frame), frame.base_offset);
        let Some(header) = header.ok().filter(|header| self.end.continues_with(header)) else {
            return false;
        };
        self.end = self.end.after(&header);
        self.frames.push(Frame {
            payload: Bytes::copy_from_slice(&frame.payload),
            ..frame.clone()
        });
        true
    }

    /// Whether frames of this kind can be in a head.
    pub(crate) fn takes(frame: &NewFrame) -> bool {
        frame.kind != FrameKind::Batch && frame.record_count == 0
    }

    pub(crate) fn spec(&self) -> &SegmentSpec {
        &self.spec
    }

    pub(crate) fn end(&self) -> SegmentEnd {
        self.end
    }

    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Bytes of the frames.
    pub(crate) fn bytes(&self) -> u64 {
        self.end.position - self.spec.start().position
    }

    /// Takes frames at the end, and says at which position they begin. The payloads are copied: they may be slices of something large.
    pub(crate) fn append(&mut self, frames: &[EncodedFrame], payloads: &[NewFrame]) -> u64 {
        let position = self.end.position;
        for (encoded, frame) in frames.iter().zip(payloads) {
            let header = encoded.header();
            self.end = self.end.after(header);
            self.frames
                .push(header.with_payload(Bytes::copy_from_slice(&frame.payload)));
        }
        position
    }

    /// Removes the frames from `first_removed` on.
    pub(crate) fn truncate(&mut self, first_removed: RaftIndex) {
        self.frames.retain(|frame| frame.index < first_removed);
        let mut end = self.spec.start();
        for encoded in self.encoded() {
            end = end.after(encoded.header());
        }
        self.end = end;
    }

    /// The frames as the journal and the checkpoint have them.
    pub(crate) fn encode(&self) -> Bytes {
        self.encoded()
            .iter()
            .flat_map(EncodedFrame::to_vec)
            .collect::<Vec<_>>()
            .into()
    }

    fn encoded(&self) -> Vec<EncodedFrame> {
        let encode = |frame: &Frame| {
            frame::encode(&to_new(frame), frame.base_offset, self.spec.salt)
                .expect("it was encoded before")
        };
        self.frames.iter().map(encode).collect()
    }
}

/// The frame as it was given to the log.
pub(crate) fn to_new(frame: &Frame) -> NewFrame {
    NewFrame {
        index: frame.index,
        term: frame.term,
        kind: frame.kind,
        record_count: frame.record_count,
        max_timestamp_ms: frame.max_timestamp_ms,
        payload: frame.payload.clone(),
    }
}

/// Takes the next frame off `cursor`, checked; `None` when there is none.
pub(crate) fn take_frame(cursor: &mut Cursor, salt: u64) -> Option<Frame> {
    let header = cursor.bytes(HEADER_BYTES)?;
    let Ok(Decoded::Header(header)) = frame::decode_header(&header, salt) else {
        return None;
    };
    let payload = cursor.bytes(header.payload_len as usize)?;
    let rest =
        usize::try_from(header.frame_bytes()).ok()? - HEADER_BYTES - header.payload_len as usize;
    cursor.bytes(rest)?;
    header.verify_payload(&payload).ok()?;
    Some(header.with_payload(payload))
}
