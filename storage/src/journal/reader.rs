//! Reading the journal back.
//!
//! The reader walks all files from a checkpoint's position on and finds every group that is whole. Where one is not, it looks for the
//! next at each following block: what was lost is told by the group numbers, which have no gaps. What that means (a torn tail or
//! damage) is said by [`Scan::damaged`] when all is read, because only later groups tell what had been synced.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::file::{DIRECTORY, FILES, Location};
use super::group::{
    FILE_HEADER_BYTES, FileHeader, GROUP_HEADER_BYTES, GroupHeader, second_header_position,
};
use super::record::Record;
use super::writer::Start;
use crate::config::BLOCK_LEN;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::fs::{self, File, Fs};

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;
const BLOCK: usize = BLOCK_LEN;

/// What the journal holds, but for the records themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Groups that are missing before a later one, by number.
    pub(crate) missing: Vec<Range<u64>>,
    /// The number after the last group found.
    pub(crate) next_group: u64,
    /// The last group that some group says was synced.
    pub(crate) synced_through: u64,
    /// The number after the last file found.
    pub(crate) next_file: u64,
    /// The files found, from oldest to newest, with their bytes.
    pub(crate) files: Vec<(u64, u64)>,
}

impl Scan {
    /// The last group that was synced once and is not there; `known_synced` is what else is known to have been synced.
    pub(crate) fn damaged(&self, known_synced: u64) -> Option<u64> {
        let synced = self.synced_through.max(known_synced);
        if self.next_group <= synced {
            return Some(synced);
        }
        let lost = self.missing.iter().filter(|range| range.start <= synced);
        lost.map(|range| synced.min(range.end - 1)).max()
    }

    /// Makes durable what was found from `start` on. A crash of the process alone leaves groups that no sync covered.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn sync(&self, fs: &dyn Fs, start: Start) -> fs::Result<()> {
        let numbers = self.files.iter().map(|(number, _)| *number);
        for number in numbers.filter(|number| *number >= start.file) {
            fs.open(&FILES.path(number))?.sync_data()?;
        }
        fs.sync_dir(Path::new(DIRECTORY))
    }
}

/// One group as found.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its number.
    pub(crate) number: u64,
    /// The file it is in.
    pub(crate) file: u64,
    /// Its position there.
    pub(crate) position: u64,
    records: Cursor,
    record_bytes: usize,
}

impl Group {
    /// The records, and where the last bytes of each stand: of a frames record, the frames.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: the group is whole, and this version does not know what is in it.
    pub(crate) fn next_record(&mut self) -> Result<Option<(Record, Location)>> {
        if self.records.remaining() == 0 {
            return Ok(None);
        }
        let start = self.record_bytes - self.records.remaining();
        let record = Record::decode(&mut self.records).ok_or_else(|| Error::Corrupt {
            path: FILES.path(self.file).display().to_string(),
            reason: format!(
                "group {} holds a record that this version does not know",
                self.number
            ),
        })?;
        let bytes = match &record {
            Record::FramesWritten { frames, .. } => frames.len(),
            _ => 0,
        };
        // Frames are multiples of 8 bytes, so no filling follows them.
        let end = self.record_bytes - self.records.remaining();
        debug_assert!(start < end);
        let location = Location {
            file: self.file,
            position: self.position + (GROUP_HEADER_BYTES + end - bytes) as u64,
            bytes: u32::try_from(bytes).expect("inside of a group"),
        };
        Ok(Some((record, location)))
    }
}

/// Reads all groups from `start` on, in order.
///
/// # Errors
/// What `visit` returns; [`Error::Io`] when a file cannot be opened. Unreadable blocks are groups that are missing.
pub(crate) fn scan(
    fs: &dyn Fs,
    start: Start,
    visit: &mut dyn FnMut(Group) -> Result<()>,
) -> Result<Scan> {
    scan_files(fs, start, u64::MAX, visit)
}

/// Reads the groups from `start` up to, not including, those in `end`: of a journal that is in use, only what is closed.
///
/// # Errors
/// As [`scan`]; [`Error::Corrupt`] when a group is missing: all of them were synced.
pub(crate) fn scan_closed(
    fs: &dyn Fs,
    start: Start,
    end: Start,
    visit: &mut dyn FnMut(Group) -> Result<()>,
) -> Result<()> {
    let scan = scan_files(fs, start, end.file, visit)?;
    let missing = scan.missing.first().map(|range| range.start);
    match missing.or((scan.next_group < end.group).then_some(scan.next_group)) {
        None => Ok(()),
        Some(group) => Err(Error::Corrupt {
            path: DIRECTORY.to_owned(),
            reason: format!("group {group} cannot be read"),
        }),
    }
}

/// Reads all groups from `start` on in the files below `end`, in order.
fn scan_files(
    fs: &dyn Fs,
    start: Start,
    end: u64,
    visit: &mut dyn FnMut(Group) -> Result<()>,
) -> Result<Scan> {
    let mut scan = Scan {
        missing: vec![],
        next_group: start.group,
        synced_through: 0,
        next_file: start.file,
        files: vec![],
    };
    let mut files = vec![];
    let numbers = FILES.list(fs)?;
    for number in numbers.into_iter().filter(|number| *number < end) {
        scan.next_file = scan.next_file.max(number + 1);
        let file = fs.open(&FILES.path(number))?;
        scan.files.push((number, file.len()));
        if number >= start.file {
            files.extend(read_header(&*file, number).map(|header| (file, header)));
        }
    }
    for (at, (file, header)) in files.iter().enumerate() {
        // A later run began where it believed that this file ends: what was found invalid then stays so.
        let end = files[at + 1..]
            .iter()
            .map(|(_, later)| later.first_group)
            .min()
            .unwrap_or(u64::MAX);
        scan_file(&**file, header, end, &mut scan, visit)?;
    }
    Ok(scan)
}

/// The header of a file, or its copy.
fn read_header(file: &dyn File, number: u64) -> Option<FileHeader> {
    [0, second_header_position(file.len())]
        .into_iter()
        .find_map(|position| {
            let mut block = [0; FILE_HEADER_BYTES];
            file.read_exact_at(&mut block, position).ok()?;
            FileHeader::decode(&block).filter(|header| header.number == number)
        })
}

/// Visits the groups of one file below `end`.
fn scan_file(
    file: &dyn File,
    header: &FileHeader,
    end: u64,
    scan: &mut Scan,
    visit: &mut dyn FnMut(Group) -> Result<()>,
) -> Result<()> {
    let bytes = Bytes::from(read_whole(file));
    let mut position = BLOCK;
    while position < bytes.len() {
        let group = whole_group(&bytes[position..], header.salt)
            .filter(|group| scan.next_group <= group.number && group.number < end);
        let Some(group) = group else {
            position += BLOCK;
            continue;
        };
        if group.number > scan.next_group {
            scan.missing.push(scan.next_group..group.number);
        }
        scan.next_group = group.number + 1;
        scan.synced_through = scan.synced_through.max(group.synced_through);
        let records = position + GROUP_HEADER_BYTES;
        let record_bytes = group.record_bytes as usize;
        visit(Group {
            number: group.number,
            file: header.number,
            position: position as u64,
            records: Cursor::new(bytes.slice(records..records + record_bytes)),
            record_bytes,
        })?;
        position += usize::try_from(group.file_bytes()).expect("inside of a file in memory");
    }
    Ok(())
}

/// The header of the group at the start of `bytes`, if a whole one is there.
fn whole_group(bytes: &[u8], salt: u64) -> Option<GroupHeader> {
    let header = GroupHeader::decode(bytes)?;
    let group = bytes.get(..GROUP_HEADER_BYTES.checked_add(header.record_bytes as usize)?)?;
    GroupHeader::verify(salt, group).then_some(header)
}

/// All bytes of a file; zeros for the blocks that the disk cannot read.
fn read_whole(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len()).expect("journal files fit into memory")];
    for (number, chunk) in bytes.chunks_mut(READ_BYTES).enumerate() {
        let position = (number * READ_BYTES) as u64;
        if file.read_exact_at(chunk, position).is_ok() {
            continue;
        }
        for (number, block) in chunk.chunks_mut(BLOCK).enumerate() {
            if let Err(error) = file.read_exact_at(block, position + (number * BLOCK) as u64) {
                tracing::warn!(%error, "a block of the journal cannot be read");
                block.fill(0);
            }
        }
    }
    bytes
}

/// Reads frames that [`scan`] found a second time.
pub(crate) struct FrameSource {
    fs: Arc<dyn Fs>,
    open: Option<(u64, Arc<dyn File>)>,
}

impl FrameSource {
    pub(crate) fn new(fs: Arc<dyn Fs>) -> Self {
        Self { fs, open: None }
    }

    /// The bytes at `location`.
    ///
    /// # Errors
    /// When they cannot be read any more.
    pub(crate) fn read(&mut self, location: Location) -> fs::Result<Vec<u8>> {
        let file = match &self.open {
            Some((number, file)) if *number == location.file => Arc::clone(file),
            _ => {
                let file = self.fs.open(&FILES.path(location.file))?;
                self.open = Some((location.file, Arc::clone(&file)));
                file
            }
        };
        let mut bytes = vec![0; location.bytes as usize];
        file.read_exact_at(&mut bytes, location.position)?;
        Ok(bytes)
    }
}
