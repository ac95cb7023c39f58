//! What is in a data directory, for a person to read. Nothing is changed.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::LogId;
use crate::checkpoint::{self, LogEntry, SegmentEntry};
use crate::error::{Error, Result};
use crate::frame::{self, Decoded, FrameHeader, HEADER_BYTES};
use crate::fs::{File, Fs};
use crate::identity::Identity;
use crate::journal::{self, Record, Start};
use crate::run_mark::RunMark;
use crate::segment::{SegmentSpec, header};

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Files and what they hold, in numbers.
    Summary,
    /// Every record of the journal and every frame, too.
    Everything,
}

/// Writes what is in a stopped data directory: identity, checkpoints, journal and segments. What cannot be read is said where it would
/// stand. Blocks for as long as reading takes.
///
/// # Errors
/// [`Error::Locked`] while a broker runs; [`Error::Io`] when a directory cannot be listed; [`Error::Invalid`] when `out` takes no more.
pub fn inspect(fs: &dyn Fs, detail: Detail, out: &mut dyn Write) -> Result<()> {
    let _lock = crate::store::take_lock(fs)?;
    let mut report = Report { fs, detail, out };
    report.identity()?;
    report.checkpoints()?;
    report.journal()?;
    report.segments()
}

/// A report being written.
struct Report<'a> {
    fs: &'a dyn Fs,
    detail: Detail,
    out: &'a mut dyn Write,
}

impl Report<'_> {
    fn line(&mut self, indent: usize, text: impl fmt::Display) -> Result<()> {
        let written = writeln!(self.out, "{:1$}{text}", "", 2 * indent);
        written.map_err(|_| Error::invalid("the report cannot be written"))
    }

    fn identity(&mut self) -> Result<()> {
        match Identity::read(self.fs) {
            Ok(None) => self.line(0, "identity: none"),
            Err(error) => self.line(0, format_args!("identity: {error}")),
            Ok(Some(identity)) => {
                let cluster = identity
                    .cluster
                    .map_or("none yet".to_owned(), |cluster| cluster.to_string());
                let broker = identity
                    .broker_id
                    .map_or("none yet".to_owned(), |broker| broker.to_string());
                self.line(0, "identity")?;
                self.line(
                    1,
                    format_args!("format version {}", identity.format_version),
                )?;
                self.line(1, format_args!("cluster {cluster}, broker {broker}"))?;
                self.line(1, format_args!("incarnation {}", identity.incarnation))
            }
        }?;
        let last_run = RunMark::read(self.fs)?;
        self.line(0, format_args!("cached frames of the last run: {last_run}"))
    }

    fn checkpoints(&mut self) -> Result<()> {
        for number in checkpoint::FILES.list(self.fs)? {
            let contents = match checkpoint::read(self.fs, number) {
                Ok(contents) => contents,
                Err(error) => {
                    self.line(0, format_args!("checkpoint {number}: {error}"))?;
                    continue;
                }
            };
            let Start { file, group } = contents.journal;
            self.line(
                0,
                format_args!(
                    "checkpoint {number}: journal from file {file}, group {group}; {} logs",
                    contents.logs.len()
                ),
            )?;
            for bytes in contents.logs {
                match LogEntry::decode(bytes) {
                    Some(entry) => self.log_entry(&entry)?,
                    None => self.line(1, "an entry that is none")?,
                }
            }
            for (log, directory) in contents.deleted {
                self.line(1, format_args!("log {log} in {directory}: deleted"))?;
            }
        }
        Ok(())
    }

    fn log_entry(&mut self, entry: &LogEntry) -> Result<()> {
        let LogEntry {
            log,
            spec,
            hard_state,
            applied,
            start,
            ..
        } = entry;
        let caching = if spec.write_caching {
            ", write.caching"
        } else {
            ""
        };
        self.line(
            1,
            format_args!(
                "log {log} in {}: segments up to {} bytes{caching}",
                spec.directory, spec.max_segment_bytes
            ),
        )?;
        let (term, vote, commit) = (hard_state.term, hard_state.vote, hard_state.commit);
        self.line(
            2,
            format_args!(
                "term {term}, vote {vote}, commit {commit}; applied {} of term {}",
                applied.index, applied.term
            ),
        )?;
        self.line(
            2,
            format_args!(
                "first index {}, log start offset {}",
                start.index, entry.log_start
            ),
        )?;
        if let Some(damage) = &entry.damage {
            self.line(2, format_args!("damaged: {}", damage.reason))?;
        }
        for segment in &entry.segments {
            self.segment_entry(segment)?;
        }
        Ok(())
    }

    fn segment_entry(&mut self, segment: &SegmentEntry) -> Result<()> {
        let SegmentEntry { spec, end, .. } = segment;
        let place = if spec.is_head() {
            "in memory".to_owned()
        } else {
            format!("{} bytes", spec.file_bytes)
        };
        self.line(
            2,
            format_args!(
                "segment {} ({place}): indexes {} to {}, offsets {} to {}, durable to {}",
                spec.generation.0,
                spec.first_index,
                end.next_index,
                spec.base_offset,
                end.next_offset,
                end.position
            ),
        )
    }

    fn journal(&mut self) -> Result<()> {
        let mut groups: Vec<(u64, u64, u64, Vec<Record>)> = vec![];
        let scan = journal::scan(self.fs, Start { file: 0, group: 0 }, &mut |mut group| {
            let mut records = vec![];
            while let Some((record, _)) = group.next_record()? {
                records.push(without_frames(record));
            }
            groups.push((group.file, group.number, group.position, records));
            Ok(())
        })?;
        for (file, bytes) in &scan.files {
            let own: Vec<_> = groups.iter().filter(|(of, ..)| of == file).collect();
            let numbers = match (own.first(), own.last()) {
                (Some(first), Some(last)) => format!("groups {} to {}", first.1, last.1),
                _ => "no group".to_owned(),
            };
            self.line(
                0,
                format_args!("journal file {file}: {bytes} bytes, {numbers}"),
            )?;
            for (_, number, position, records) in own {
                if self.detail == Detail::Everything {
                    self.line(1, format_args!("group {number} at {position}"))?;
                    for record in records {
                        self.line(2, describe(record))?;
                    }
                }
            }
        }
        self.line(
            0,
            format_args!(
                "the journal says that groups up to {} were synced",
                scan.synced_through
            ),
        )?;
        let oldest = groups.first().map_or(0, |first| first.1);
        for missing in scan.missing.iter().filter(|missing| missing.end > oldest) {
            self.line(
                0,
                format_args!(
                    "groups {} to {} are missing",
                    missing.start,
                    missing.end - 1
                ),
            )?;
        }
        Ok(())
    }

    fn segments(&mut self) -> Result<()> {
        let mut found = BTreeMap::new();
        find_segments(self.fs, Path::new(""), &mut found)?;
        for (path, len) in found {
            let file = match self.fs.open(&path) {
                Ok(file) => file,
                Err(error) => {
                    self.line(0, format_args!("{error}"))?;
                    continue;
                }
            };
            let mut block = [0; header::FIELD_BYTES];
            let read = file.read_exact_at(&mut block, 0);
            match read.ok().and_then(|()| header::decode(&block)) {
                None => self.line(
                    0,
                    format_args!("{}: {len} bytes, no header of a segment", path.display()),
                )?,
                Some((log, spec)) => self.segment(&path, &*file, log, &spec)?,
            }
        }
        Ok(())
    }

    /// Walks over the frames of a segment as far as they go; what is durable is for the checkpoint and the journal to say.
    fn segment(
        &mut self,
        path: &Path,
        file: &dyn File,
        log: LogId,
        spec: &SegmentSpec,
    ) -> Result<()> {
        self.line(
            0,
            format_args!(
                "{}: log {log}, segment {}, from index {}, offset {}",
                path.display(),
                spec.generation.0,
                spec.first_index,
                spec.base_offset
            ),
        )?;
        let mut end = spec.start();
        while let Some(header) =
            header_at(file, end.position, spec.salt).filter(|header| end.continues_with(header))
        {
            if self.detail == Detail::Everything {
                self.line(1, format_args!("{} at {}", Frame(&header), end.position))?;
            }
            end = end.after(&header);
        }
        let used = end.position - spec.start().position;
        let frames = end.next_index.0 - spec.first_index.0;
        self.line(
            1,
            format_args!(
                "{frames} frames in {used} bytes, up to offset {}",
                end.next_offset
            ),
        )
    }
}

/// A frame's header in words.
struct Frame<'a>(&'a FrameHeader);

impl fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(header) = self;
        write!(
            f,
            "index {}, term {}, {:?}, offset {}, {} records, {} bytes",
            header.index,
            header.term,
            header.kind,
            header.base_offset,
            header.record_count,
            header.payload_len
        )
    }
}

fn header_at(file: &dyn File, position: u64, salt: u64) -> Option<FrameHeader> {
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, position).ok()?;
    match frame::decode_header(&bytes, salt) {
        Ok(Decoded::Header(header)) if position + header.frame_bytes() <= file.len() => {
            Some(header)
        }
        _ => None,
    }
}

/// Keeps a record without the frames in it.
fn without_frames(record: Record) -> Record {
    match record {
        Record::FramesWritten {
            log,
            generation,
            position,
            ..
        } => Record::FramesWritten {
            log,
            generation,
            position,
            frames: Bytes::new(),
        },
        record => record,
    }
}

fn describe(record: &Record) -> String {
    let log = record.log();
    match record {
        Record::LogOpened { spec, .. } => format!("log {log} opened in {}", spec.directory),
        Record::LogDeleted { .. } => format!("log {log} deleted"),
        Record::SegmentOpened { segment, .. } => format!(
            "log {log}: segment {} opened at index {}, offset {}, {} bytes",
            segment.generation.0, segment.first_index, segment.base_offset, segment.file_bytes
        ),
        Record::Truncated { first_removed, .. } => {
            format!("log {log}: truncated from index {first_removed} on")
        }
        Record::HardStateSet { hard_state, .. } => format!(
            "log {log}: term {}, vote {}, commit {}",
            hard_state.term, hard_state.vote, hard_state.commit
        ),
        Record::FramesWritten {
            generation,
            position,
            ..
        } => {
            format!(
                "log {log}: frames of segment {} from position {position} on",
                generation.0
            )
        }
        Record::SnapshotInstalled { applied, .. } => {
            format!(
                "log {log}: starts anew after a snapshot at index {}",
                applied.index
            )
        }
        Record::LogSeeded {
            applied,
            start,
            segments,
            ..
        } => {
            format!(
                "log {log}: starts anew with frames {} to {} in {} segments",
                start.index,
                applied.index,
                segments.len()
            )
        }
        Record::SpecChanged {
            max_segment_bytes,
            write_caching,
            ..
        } => {
            format!(
                "log {log}: segments up to {max_segment_bytes} bytes, write.caching {write_caching}"
            )
        }
        Record::SegmentSynced {
            generation, end, ..
        } => {
            format!(
                "log {log}: segment {} is durable up to index {}",
                generation.0, end.next_index
            )
        }
    }
}

/// Finds all segment files and their lengths.
fn find_segments(fs: &dyn Fs, path: &Path, found: &mut BTreeMap<PathBuf, u64>) -> Result<()> {
    for entry in fs.list(path)? {
        let path = path.join(&entry.name);
        if entry.is_dir {
            if entry.name != "recycled" {
                find_segments(fs, &path, found)?;
            }
        } else if entry.name.ends_with(".segment") {
            let len = fs.len(&path)?.unwrap_or(0);
            found.insert(path, len);
        }
    }
    Ok(())
}
