//! Appending frames to a log.
//!
//! An append that needs new files gets all of them before it writes a byte, so that a full disk leaves no trace. After that, what fails is
//! final for the log.

use std::ops::Range;
use std::sync::Arc;

use super::head::Head;
use super::log::{Active, Log};
use super::shared::Frontier;
use crate::error::{Error, Result};
use crate::frame::{self, EncodedFrame, FrameHeader, NewFrame};
use crate::journal::{Record, Turn};
use crate::segment::{ActiveSegment, SegmentSpec, next_file_bytes};
use crate::{Offset, RaftIndex};

/// A run of frames for one segment file.
struct Run {
    /// The segment, when it is a new one; otherwise the active one.
    opened: Option<ActiveSegment>,
    frames: Range<usize>,
}

impl Log {
    /// Appends frames with contiguous indexes from [`Log::last_index`] + 1 on. They can be read at once, and are durable when the turn's
    /// ticket is done (see [`Log::ticket`] for `write.caching`).
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing changed. [`Error::Invalid`]: a frame breaks a rule, nothing changed. Any other poisons the log.
    pub fn append(&mut self, turn: &mut Turn, frames: &[NewFrame]) -> Result<()> {
        self.check_writable()?;
        let headers = self.check_frames(frames)?;
        if frames.is_empty() {
            return Ok(());
        }
        let bytes: u64 = headers.iter().map(FrameHeader::frame_bytes).sum();
        let fits_head = self.head_bytes() + bytes <= self.directory.config.head_bytes;
        if self.active.is_none() && fits_head && frames.iter().all(Head::takes) {
            self.append_to_head(turn, frames);
        } else if self.heads.is_empty() {
            self.append_to_files(turn, frames, &headers)?;
        } else {
            self.append_after_heads(turn, frames)?;
        }
        for frame in frames {
            if frame.term > self.last_term() {
                self.terms.push((frame.index, frame.term));
            }
        }
        self.next_index = RaftIndex(self.next_index.0 + frames.len() as u64);
        self.next_offset = headers
            .last()
            .map_or(self.next_offset, FrameHeader::next_offset);
        self.shared.note_change();
        Ok(())
    }

    /// The headers that the frames will have, each checked to follow the one before.
    fn check_frames(&self, frames: &[NewFrame]) -> Result<Vec<FrameHeader>> {
        let (mut index, mut offset, mut term) =
            (self.next_index, self.next_offset, self.last_term());
        let mut headers = Vec::with_capacity(frames.len());
        for frame in frames {
            if frame.index != index || frame.term < term {
                return Err(Error::invalid(format!(
                    "frame {} of term {} does not follow index {} of term {term}",
                    frame.index,
                    frame.term,
                    index.previous()
                )));
            }
            if frame.payload.len() as u64 > self.directory.config.max_payload_bytes {
                return Err(Error::invalid(format!(
                    "frame {index} has {} bytes of payload",
                    frame.payload.len()
                )));
            }
            let header = FrameHeader::new(frame, offset)
                .map_err(|error| Error::invalid(format!("frame {index}: {error}")))?;
            (index, offset, term) = (index.next(), header.next_offset(), frame.term);
            headers.push(header);
        }
        Ok(headers)
    }

    fn append_to_head(&mut self, turn: &mut Turn, frames: &[NewFrame]) {
        // After a truncation the positions of the last head would be written twice.
        let goes_on = self
            .heads
            .last()
            .is_some_and(|head| head.spec().generation.next() == self.next_generation);
        if !goes_on {
            let segment = self.next_spec(self.next_index, self.next_offset, 0);
            turn.add(&Record::SegmentOpened {
                log: self.shared.id(),
                segment,
            });
            self.heads.push(Head::new(segment));
        }
        let (log, offset) = (self.shared.id(), self.next_offset);
        let head = self.heads.last_mut().expect("pushed when there was none");
        let encoded = encode(frames, offset, head.spec().salt);
        let position = head.append(&encoded, frames);
        turn.add_frames(log, head.spec().generation, position, &encoded);
        self.wrote_journal = true;
    }

    /// Opens a file that begins with the frames that were in memory until now.
    fn append_after_heads(&mut self, turn: &mut Turn, frames: &[NewFrame]) -> Result<()> {
        let mut all = self.head_frames();
        all.extend_from_slice(frames);
        let mut headers = Vec::with_capacity(all.len());
        let mut offset = self.next_offset; // Heads hold no records.
        for frame in &all {
            let header = FrameHeader::new(frame, offset).expect("checked when it came");
            offset = header.next_offset();
            headers.push(header);
        }
        self.append_to_files(turn, &all, &headers)?;
        self.heads.clear();
        // A checkpoint that is on its way finds the frames of the heads in no segment that it synced, and calls none of them
        // committed. The journal that goes with it has them from here on, and so it must have the commit index.
        turn.add_lazily(&Record::HardStateSet {
            log: self.shared.id(),
            hard_state: self.durable_hard_state(),
        });
        Ok(())
    }

    /// Writes frames to the active segment and to those that have to follow it.
    fn append_to_files(
        &mut self,
        turn: &mut Turn,
        frames: &[NewFrame],
        headers: &[FrameHeader],
    ) -> Result<()> {
        if self.spec.write_caching {
            self.directory.note_cached_write()?;
        }
        let runs = self.open_runs(headers, frames.iter().any(|frame| !Head::takes(frame)))?;
        let mark = turn.mark();
        for run in runs {
            if let Err(error) = self.write_run(turn, run, frames, headers) {
                turn.rewind(mark);
                return Err(self.shared.poison(&error));
            }
        }
        Ok(())
    }

    /// Spreads frames over the active segment and as many new ones as they need, and opens those.
    fn open_runs(&mut self, headers: &[FrameHeader], is_produce: bool) -> Result<Vec<Run>> {
        let generation = self.next_generation;
        let mut runs: Vec<Run> = vec![];
        let mut last_bytes = self.last_file_bytes();
        let mut left = 0;
        if let Some(active) = &self.active {
            let spec = active.segment.spec();
            last_bytes = Some(spec.file_bytes);
            left = spec.file_bytes - active.segment.end().position;
            runs.push(Run {
                opened: None,
                frames: 0..0,
            });
        }
        for (at, header) in headers.iter().enumerate() {
            let bytes = header.frame_bytes();
            if bytes > left {
                let config = &self.directory.config;
                let wanted = next_file_bytes(
                    last_bytes,
                    config.first_segment_bytes,
                    self.spec.max_segment_bytes,
                    bytes,
                );
                let spec = self.next_spec(header.index, header.base_offset, wanted);
                let opened = match self.directory.create_segment(
                    self.shared.id(),
                    &self.directory_path(),
                    spec,
                    is_produce,
                ) {
                    Ok(opened) => opened,
                    Err(error) => {
                        self.next_generation = generation;
                        self.directory
                            .discard(runs.into_iter().filter_map(|run| Some(run.opened?.seal())));
                        return Err(match error {
                            Error::NoSpace { .. } => error,
                            error => self.shared.poison(&error),
                        });
                    }
                };
                left = wanted - opened.end().position;
                last_bytes = Some(wanted);
                runs.push(Run {
                    opened: Some(opened),
                    frames: at..at,
                });
            }
            left -= bytes;
            runs.last_mut()
                .expect("the first frame opened one")
                .frames
                .end = at + 1;
        }
        Ok(runs)
    }

    fn write_run(
        &mut self,
        turn: &mut Turn,
        run: Run,
        frames: &[NewFrame],
        headers: &[FrameHeader],
    ) -> Result<()> {
        if let Some(segment) = run.opened {
            self.seal_active();
            turn.add(&Record::SegmentOpened {
                log: self.shared.id(),
                segment: *segment.spec(),
            });
            self.wrote_journal = true;
            self.active = Some(self.track(segment));
            self.show();
        }
        let Some(first) = headers
            .get(run.frames.start)
            .filter(|_| !run.frames.is_empty())
        else {
            return Ok(());
        };
        let log = self.shared.id();
        let active = self.active.as_mut().expect("the run's segment");
        let spec = *active.segment.spec();
        let encoded = encode(&frames[run.frames.clone()], first.base_offset, spec.salt);
        let position = active
            .segment
            .append(&encoded)
            .map_err(|error| self.shared.read_error(error))?;
        if self.spec.write_caching {
            turn.count_cached(active.segment.end().position - position);
        } else {
            turn.add_frames(log, spec.generation, position, &encoded);
        }
        Ok(())
    }

    /// Puts a new segment under the eyes of the checkpoint.
    fn track(&self, segment: ActiveSegment) -> Active {
        let frontier = Arc::new(Frontier::new(
            Arc::clone(segment.segment()),
            self.directory_path(),
            Arc::clone(&self.shared),
            segment.spec().start(),
            false,
        ));
        self.directory.frontiers.add(Arc::clone(&frontier));
        Active { segment, frontier }
    }

    fn next_spec(
        &mut self,
        first_index: RaftIndex,
        base_offset: Offset,
        file_bytes: u64,
    ) -> SegmentSpec {
        let generation = self.next_generation;
        self.next_generation = generation.next();
        SegmentSpec {
            generation,
            salt: self.directory.random(),
            first_index,
            base_offset,
            file_bytes,
        }
    }
}

pub(super) fn encode(frames: &[NewFrame], base_offset: Offset, salt: u64) -> Vec<EncodedFrame> {
    let mut offset = base_offset;
    let mut encoded = Vec::with_capacity(frames.len());
    for frame in frames {
        encoded.push(frame::encode(frame, offset, salt).expect("its header was checked"));
        offset = offset.plus(frame.record_count);
    }
    encoded
}
