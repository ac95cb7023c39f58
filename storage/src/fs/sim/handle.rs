//! Handles of simulated files, and the slices that maps give out.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;

use super::inode::{Inode, to_usize};
use super::names::{FileId, Name};
use super::{Machine, SimFs};
use crate::fs::{File, Map, Operation, Result};

/// The ranges of files that living slices show.
#[derive(Debug, Default)]
pub(super) struct Slices {
    next: u64,
    ranges: HashMap<FileId, BTreeMap<u64, Range<u64>>>,
}

/// An open file, or a map of it.
#[derive(Debug)]
pub(super) struct Handle {
    fs: SimFs,
    id: FileId,
    len: u64,
    name: Name,
}

impl Handle {
    pub(super) fn new(fs: &SimFs, machine: &mut Machine, id: FileId, name: &str) -> Self {
        *machine.handles.entry(id).or_default() += 1;
        Self {
            fs: fs.clone(),
            id,
            len: machine.disk.inode(id).len(),
            name: name.to_owned(),
        }
    }

    fn check_range(&self, position: u64, len: usize) -> io::Result<()> {
        match position.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// A slice shows bytes that nobody may change: on a real disk they would change under a `&[u8]`.
    fn check_slices(&self, inode: &Inode, bytes: &[u8], position: u64) {
        let slices = slices_of(&self.fs);
        for shown in slices
            .ranges
            .get(&self.id)
            .into_iter()
            .flat_map(BTreeMap::values)
        {
            let start = shown.start.max(position);
            let end = shown.end.min(position + bytes.len() as u64);
            if start < end {
                let mut present = vec![0; to_usize(end - start)];
                inode.read(&mut present, start);
                let new = &bytes[to_usize(start - position)..to_usize(end - position)];
                assert!(
                    present == new,
                    "bytes {start}..{end} of {} change below a slice of {shown:?}",
                    self.name
                );
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut machine = self.fs.machine();
        if let Some(count) = machine.handles.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                machine.handles.remove(&self.id);
            }
        }
    }
}

impl File for Handle {
    fn len(&self) -> u64 {
        self.len
    }

    fn write_vectored_all_at(&self, buffers: &mut [IoSlice<'_>], position: u64) -> Result<()> {
        let bytes = buffers
            .iter()
            .flat_map(|buffer| buffer.iter().copied())
            .collect::<Vec<_>>();
        self.fs.step(Operation::Write, &self.name, |machine| {
            self.check_range(position, bytes.len())?;
            self.check_slices(machine.disk.inode(self.id), &bytes, position);
            machine.disk.inode_mut(self.id).write(&bytes, position);
            Ok(())
        })
    }

    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> Result<()> {
        self.fs.look(Operation::Read, &self.name, |machine| {
            self.check_range(position, buffer.len())?;
            machine.disk.inode(self.id).read(buffer, position);
            Ok(())
        })
    }

    fn sync_data(&self) -> Result<()> {
        let result = self.fs.step(Operation::SyncData, &self.name, |machine| {
            machine.disk.inode_mut(self.id).sync();
            Ok(())
        });
        if result.is_err() {
            let mut machine = self.fs.machine();
            if machine.dies_at.is_none_or(|step| machine.steps < step) {
                let disk = &mut machine.disk;
                let mut random = disk.random.clone();
                disk.inode_mut(self.id).fail_sync(&mut random);
                disk.random = random;
            }
        }
        result
    }

    fn map(&self) -> Result<Arc<dyn Map>> {
        self.fs.look(Operation::Map, &self.name, |machine| {
            Ok(Arc::new(Handle::new(&self.fs, machine, self.id, &self.name)) as Arc<dyn Map>)
        })
    }
}

impl Map for Handle {
    fn len(&self) -> u64 {
        self.len
    }

    fn slice(self: Arc<Self>, range: Range<u64>) -> Bytes {
        let mut bytes =
            vec![0; to_usize(range.end.checked_sub(range.start).expect("a range goes up"))];
        self.check_range(range.start, bytes.len())
            .expect("a slice is inside the file");
        self.fs
            .machine()
            .disk
            .inode(self.id)
            .read(&mut bytes, range.start);
        let number = {
            let mut slices = slices_of(&self.fs);
            slices.next += 1;
            let number = slices.next;
            slices
                .ranges
                .entry(self.id)
                .or_default()
                .insert(number, range);
            number
        };
        Bytes::from_owner(Slice {
            map: self,
            number,
            bytes,
        })
    }

    fn populate(&self, range: Range<u64>) -> Result<()> {
        self.fs.look(Operation::Populate, &self.name, |_| {
            self.check_range(range.start, to_usize(range.end.saturating_sub(range.start)))
        })
    }
}

/// What the bytes of a slice own.
struct Slice {
    map: Arc<Handle>,
    number: u64,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        let mut slices = slices_of(&self.map.fs);
        if let Some(ranges) = slices.ranges.get_mut(&self.map.id) {
            ranges.remove(&self.number);
            if ranges.is_empty() {
                slices.ranges.remove(&self.map.id);
            }
        }
    }
}

fn slices_of(fs: &SimFs) -> MutexGuard<'_, Slices> {
    fs.slices.lock().unwrap_or_else(PoisonError::into_inner)
}
