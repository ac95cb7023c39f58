//! The segment that a log writes.

use std::io::IoSlice;
use std::sync::Arc;

use super::error::Result;
use super::file::Segment;
use super::sealed::SealedSegment;
use super::{SegmentEnd, SegmentSpec};
use crate::frame::{self, Decoded, EncodedFrame, FrameHeader};

/// A segment that takes frames at its end. There is one writer.
#[derive(Debug)]
pub(crate) struct ActiveSegment {
    segment: Arc<Segment>,
}

impl ActiveSegment {
    pub(super) fn new(segment: Arc<Segment>) -> Self {
        Self { segment }
    }

    /// What readers share.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// What the segment was opened with.
    pub(crate) fn spec(&self) -> &SegmentSpec {
        self.segment.spec()
    }

    /// Where the next frame goes.
    pub(crate) fn end(&self) -> SegmentEnd {
        self.segment.end()
    }

    /// Whether `bytes` bytes of frames fit.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        bytes <= self.spec().file_bytes - self.end().position
    }

    /// Writes frames, encoded with the segment's salt, into the page cache, and says at which position they begin.
    ///
    /// # Errors
    /// What was written is then unknown, and the segment takes nothing more.
    ///
    /// # Panics
    /// When the frames do not continue the segment or do not fit: the caller asks [`ActiveSegment::fits`] first.
    pub(crate) fn append(&mut self, frames: &[EncodedFrame]) -> Result<u64> {
        let ends = self.ends_after(frames.iter().map(EncodedFrame::header));
        let parts = frames
            .iter()
            .flat_map(EncodedFrame::parts)
            .filter(|part| !part.is_empty());
        let mut parts: Vec<_> = parts.map(IoSlice::new).collect();
        self.segment.write(&ends, |file, position| {
            file.write_vectored_all_at(&mut parts, position)
        })
    }

    /// Writes frames that were written at this position before, byte for byte: what recovery found in the journal. `None` when they are
    /// not the frames that come here, and then nothing is written.
    ///
    /// # Errors
    /// As [`ActiveSegment::append`].
    pub(crate) fn rewrite(&mut self, bytes: &[u8]) -> Result<Option<Vec<FrameHeader>>> {
        if !self.fits(bytes.len() as u64) {
            return Ok(None);
        }
        let mut headers = Vec::new();
        let mut end = self.end();
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((header, after)) = take_frame(rest, self.spec().salt) else {
                return Ok(None);
            };
            if !end.continues_with(&header) {
                return Ok(None);
            }
            end = end.after(&header);
            headers.push(header);
            rest = after;
        }
        let ends = self.ends_after(&headers);
        self.segment
            .write(&ends, |file, position| file.write_all_at(bytes, position))?;
        Ok(Some(headers))
    }

    /// Finds the frames that stand beyond the end, and writes them again, so that a sync covers them. Only for frames that no journal
    /// holds; the first bytes that are no frame of this segment end it.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub(crate) fn recover_tail(&mut self) -> Result<Vec<FrameHeader>> {
        let file = Arc::clone(&self.segment.open()?.file);
        let mut found = Vec::new();
        loop {
            let position = self.end().position;
            let mut bytes = vec![0; frame::HEADER_BYTES];
            if !self.fits(bytes.len() as u64) {
                return Ok(found);
            }
            file.read_exact_at(&mut bytes, position)?;
            let Ok(Decoded::Header(header)) = frame::decode_header(&bytes, self.spec().salt) else {
                return Ok(found);
            };
            if !self.fits(header.frame_bytes()) {
                return Ok(found);
            }
            bytes.resize(
                usize::try_from(header.frame_bytes()).expect("fits into the file"),
                0,
            );
            file.read_exact_at(&mut bytes, position)?;
            match self.rewrite(&bytes)? {
                Some(headers) => found.extend(headers),
                None => return Ok(found),
            }
        }
    }

    /// Takes no more frames.
    pub(crate) fn seal(self) -> SealedSegment {
        SealedSegment::new(self.segment)
    }

    fn ends_after<'a>(
        &self,
        headers: impl IntoIterator<Item = &'a FrameHeader>,
    ) -> Vec<SegmentEnd> {
        let mut end = self.end();
        let ends: Vec<_> = headers
            .into_iter()
            .map(|header| {
                assert!(
                    end.continues_with(header),
                    "frame {} does not follow {end:?}",
                    header.index
                );
                end = end.after(header);
                end
            })
            .collect();
        assert!(
            end.position <= self.spec().file_bytes,
            "frames do not fit into segment {:?}",
            self.spec()
        );
        ends
    }
}

/// The first frame of `bytes`, checked, and what follows it.
fn take_frame(bytes: &[u8], salt: u64) -> Option<(FrameHeader, &[u8])> {
    let Ok(Decoded::Header(header)) = frame::decode_header(bytes, salt) else {
        return None;
    };
    let frame_bytes = usize::try_from(header.frame_bytes()).ok()?;
    let (frame, rest) = bytes.split_at_checked(frame_bytes)?;
    let payload = frame[frame::HEADER_BYTES..].get(..header.payload_len as usize)?;
    header.verify_payload(payload).ok()?;
    Some((header, rest))
}
