//! Segments: the files that hold the frames of a log.
//!
//! A segment file has a fixed size. Its first 4 KiB are a header block ([`header`]); frames follow one after the other. A log writes one
//! [`ActiveSegment`] and reads many [`SealedSegment`]s; both share their [`Segment`] with readers.
//!
//! - **Positions are written once.** Frames go to the end of the active segment only, and nothing ever goes back: cutting a suffix
//!   seals the segment at its new end. So a reader's slice never changes, and no scan meets frames of another past.
//! - **A file in a new life has a new salt**, and frames of an old life do not decode under it. So recycled files are not cleaned.
//! - What is known of a segment comes from the checkpoint and the journal ([`SegmentSpec`], [`SegmentEnd`]); the sparse index is derived
//!   and built when a read first needs it. Nothing is opened, mapped or scanned before that, and at most a fixed number of files is open.
//!
//! Left out: what makes a segment durable, and when it may leave. The owner of the log decides both.

mod active;
mod error;
mod file;
mod files;
pub(crate) mod header;
mod index;
mod read;
mod repair;
mod sealed;
mod spec;
#[cfg(test)]
mod tests;
mod verified;
mod walk;

pub(crate) use active::ActiveSegment;
pub(crate) use error::{Error, Hole, Result};
pub(crate) use file::Segment;
pub(crate) use files::{Limits, SegmentFiles, next_file_bytes, path_of};
pub(crate) use repair::lost_frames;
pub(crate) use sealed::SealedSegment;
pub(crate) use spec::{Generation, SegmentEnd, SegmentSpec};
