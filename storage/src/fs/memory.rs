//! A disk in memory, for brokers whose data may end with their process: in tests, and to try things.
//!
//! It is bounded: a file takes all of its size from the disk when it is created, as on a real disk, and gives it back when
//! the last name, handle, map and slice is gone. The memory itself is taken when bytes are first written.
//!
//! What it leaves out: there is no page cache, so a sync has nothing to do, and nothing fails but for want of space.
//! [`SimFs`](super::SimFs) models failures. A slice of a map is a copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;

use super::{DirEntry, Error, File, Fs, LockGuard, Map, Operation, Result};

/// A file system in memory. Clones are the same one; it ends with the last of them.
#[derive(Clone)]
pub struct MemoryFs {
    names: Arc<Mutex<Names>>,
    space: Arc<Space>,
}

impl fmt::Debug for MemoryFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFs")
            .field("capacity_bytes", &self.space.capacity_bytes)
            .field("used_bytes", &*self.space.used_bytes())
            .finish()
    }
}

/// What there is. Invariant: the directory of each name is there.
#[derive(Default)]
struct Names {
    /// All but the root, which is always there.
    nodes: BTreeMap<PathBuf, Node>,
    locks: BTreeSet<PathBuf>,
}

#[derive(Clone)]
enum Node {
    Directory,
    File(Arc<Contents>),
}

impl MemoryFs {
    /// An empty disk of so many bytes.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        Self {
            names: Arc::default(),
            space: Arc::new(Space {
                capacity_bytes,
                used_bytes: Mutex::new(0),
            }),
        }
    }

    fn run<T>(
        &self,
        operation: Operation,
        path: &Path,
        body: impl FnOnce(&mut Names) -> io::Result<T>,
    ) -> Result<T> {
        body(&mut lock(&self.names)).map_err(|source| Error::new(operation, path, source))
    }
}

impl Names {
    fn file(&self, path: &Path) -> io::Result<&Arc<Contents>> {
        match self.nodes.get(path) {
            Some(Node::File(contents)) => Ok(contents),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn expect_directory(&self, path: &Path) -> io::Result<()> {
        match self.nodes.get(path) {
            _ if path.as_os_str().is_empty() => Ok(()),
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Checks that a file may be created at `path`, or renamed to it.
    fn expect_place(&self, path: &Path) -> io::Result<()> {
        self.expect_directory(path.parent().unwrap_or(Path::new("")))
    }

    /// What stands in a directory, sorted by name.
    fn inside<'a>(&'a self, directory: &'a Path) -> impl Iterator<Item = (&'a Path, &'a Node)> {
        self.nodes
            .range::<Path, _>((Bound::Excluded(directory), Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(directory))
            .filter(move |(path, _)| path.parent() == Some(directory))
            .map(|(path, node)| (path.as_path(), node))
    }
}

impl Fs for MemoryFs {
    fn create(&self, path: &Path, len: u64) -> Result<Arc<dyn File>> {
        let contents = self.run(Operation::Create, path, |names| {
            names.expect_place(path)?;
            if names.nodes.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let contents = Arc::new(Contents::new(&self.space, len)?);
            let node = Node::File(Arc::clone(&contents));
            names.nodes.insert(path.to_owned(), node);
            Ok(contents)
        });
        Ok(Arc::new(MemoryFile::new(path, contents?)))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        let contents = self.run(Operation::Open, path, |names| names.file(path).cloned());
        Ok(Arc::new(MemoryFile::new(path, contents?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.run(Operation::Rename, from, |names| {
            let contents = Arc::clone(names.file(from)?);
            names.expect_place(to)?;
            if let Some(Node::Directory) = names.nodes.get(to) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            names.nodes.remove(from);
            names.nodes.insert(to.to_owned(), Node::File(contents));
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.run(Operation::RemoveFile, path, |names| {
            names.file(path)?;
            names.nodes.remove(path);
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.run(Operation::RemoveDir, path, |names| {
            names.expect_directory(path)?;
            if path.as_os_str().is_empty() || names.inside(path).next().is_some() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            names.nodes.remove(path);
            Ok(())
        })
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.run(Operation::CreateDir, path, |names| {
            let above: Vec<_> = path
                .ancestors()
                .filter(|path| !path.as_os_str().is_empty())
                .collect();
            for directory in above.into_iter().rev() {
                if let Node::File(_) = names
                    .nodes
                    .entry(directory.to_owned())
                    .or_insert(Node::Directory)
                {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
            }
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.run(Operation::SyncDir, path, |names| {
            names.expect_directory(path)
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.run(Operation::List, path, |names| {
            names.expect_directory(path)?;
            let entries = names.inside(path).filter_map(|(path, node)| {
                Some(DirEntry {
                    name: path.file_name()?.to_str()?.to_owned(),
                    is_dir: matches!(node, Node::Directory),
                })
            });
            Ok(entries.collect())
        })
    }

    fn len(&self, path: &Path) -> Result<Option<u64>> {
        self.run(Operation::Stat, path, |names| {
            Ok(names.nodes.get(path).map(|node| match node {
                Node::Directory => 0,
                Node::File(contents) => contents.len,
            }))
        })
    }

    fn free_bytes(&self) -> Result<u64> {
        let used_bytes = *self.space.used_bytes();
        Ok(self.space.capacity_bytes.saturating_sub(used_bytes))
    }

    fn lock(&self, path: &Path) -> Result<LockGuard> {
        self.run(Operation::Lock, path, |names| {
            names.expect_place(path)?;
            if !names.locks.insert(path.to_owned()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(LockGuard::new(Held {
                names: Arc::clone(&self.names),
                path: path.to_owned(),
            }))
        })
    }

    /// The disk does not outlive the process, let alone the kernel: any name of it will do.
    fn boot_id(&self) -> Option<String> {
        Some("memory".to_owned())
    }

    fn filesystem_id(&self) -> Result<u64> {
        Ok(0)
    }
}

/// A lock that is held.
struct Held {
    names: Arc<Mutex<Names>>,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.names).locks.remove(&self.path);
    }
}

/// The space of one disk.
struct Space {
    capacity_bytes: u64,
    used_bytes: Mutex<u64>,
}

impl Space {
    fn used_bytes(&self) -> MutexGuard<'_, u64> {
        lock(&self.used_bytes)
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let mut used_bytes = self.used_bytes();
        match used_bytes.checked_add(bytes) {
            Some(sum) if sum <= self.capacity_bytes => {
                *used_bytes = sum;
                Ok(())
            }
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

/// The bytes of a file, under whatever name.
struct Contents {
    len: u64,
    bytes: RwLock<Box<[u8]>>,
    space: Arc<Space>,
}

impl Contents {
    fn new(space: &Arc<Space>, len: u64) -> io::Result<Self> {
        let size = usize::try_from(len).map_err(|_| io::ErrorKind::StorageFull)?;
        space.take(len)?;
        Ok(Self {
            len,
            // Zeros come from the system untouched: memory is taken page by page when they are written over.
            bytes: RwLock::new(vec![0; size].into_boxed_slice()),
            space: Arc::clone(space),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Box<[u8]>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The range of so many bytes from `position`, if it is inside.
    fn range(&self, position: u64, len: usize) -> io::Result<Range<usize>> {
        let start = usize::try_from(position).ok();
        start
            .and_then(|start| Some(start..start.checked_add(len)?))
            .filter(|range| range.end as u64 <= self.len)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        *self.space.used_bytes() -= self.len;
    }
}

/// A handle, or a map, of a file.
struct MemoryFile {
    path: PathBuf,
    contents: Arc<Contents>,
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile")
            .field("path", &self.path)
            .field("len", &self.contents.len)
            .finish()
    }
}

impl MemoryFile {
    fn new(path: &Path, contents: Arc<Contents>) -> Self {
        Self {
            path: path.to_owned(),
            contents,
        }
    }

    fn error(&self, operation: Operation, source: io::Error) -> Error {
        Error::new(operation, &self.path, source)
    }
}

impl File for MemoryFile {
    fn len(&self) -> u64 {
        self.contents.len
    }

    fn write_vectored_all_at(&self, buffers: &mut [IoSlice<'_>], position: u64) -> Result<()> {
        let total = buffers.iter().map(|buffer| buffer.len()).sum();
        let range = self.contents.range(position, total);
        let range = range.map_err(|source| self.error(Operation::Write, source))?;
        let bytes = self.contents.bytes.write();
        let mut bytes = bytes.unwrap_or_else(PoisonError::into_inner);
        let mut place = &mut bytes[range];
        for buffer in buffers {
            let (written, rest) = place.split_at_mut(buffer.len());
            written.copy_from_slice(buffer);
            place = rest;
        }
        Ok(())
    }

    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> Result<()> {
        let range = self.contents.range(position, buffer.len());
        let range = range.map_err(|source| self.error(Operation::Read, source))?;
        buffer.copy_from_slice(&self.contents.read()[range]);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn map(&self) -> Result<Arc<dyn Map>> {
        Ok(Arc::new(Self::new(&self.path, Arc::clone(&self.contents))))
    }
}

impl Map for MemoryFile {
    fn len(&self) -> u64 {
        self.contents.len
    }

    fn slice(self: Arc<Self>, range: Range<u64>) -> Bytes {
        let len = range.end.checked_sub(range.start);
        let inside = len
            .and_then(|len| usize::try_from(len).ok())
            .and_then(|len| self.contents.range(range.start, len).ok())
            .unwrap_or_else(|| panic!("range {range:?} is outside of {self:?}"));
        Bytes::copy_from_slice(&self.contents.read()[inside])
    }

    fn populate(&self, range: Range<u64>) -> Result<()> {
        debug_assert!(range.end <= self.contents.len, "{range:?} of {self:?}");
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_for_which_there_is_no_space_is_not_created() {
        let fs = MemoryFs::new(100);
        let _first = fs.create(Path::new("first"), 60).unwrap();
        let error = fs.create(Path::new("second"), 41).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        assert_eq!(Fs::len(&fs, Path::new("second")).unwrap(), None);
        assert_eq!(fs.free_bytes().unwrap(), 40);
        assert!(
            fs.create(Path::new("huge"), u64::MAX)
                .unwrap_err()
                .is_no_space()
        );
    }

    #[test]
    fn space_comes_back_when_nobody_can_reach_the_bytes_any_more() {
        let fs = MemoryFs::new(100);
        let file = fs.create(Path::new("file"), 60).unwrap();
        let map = file.map().unwrap();
        fs.remove_file(Path::new("file")).unwrap();
        drop(file);
        assert_eq!(fs.free_bytes().unwrap(), 40);
        drop(map);
        assert_eq!(fs.free_bytes().unwrap(), 100);
    }

    #[test]
    fn space_comes_back_when_another_file_takes_the_name() {
        let fs = MemoryFs::new(100);
        fs.create(Path::new("a"), 60).unwrap();
        fs.create(Path::new("b"), 30).unwrap();
        fs.rename(Path::new("b"), Path::new("a")).unwrap();
        assert_eq!(fs.free_bytes().unwrap(), 70);
        assert_eq!(Fs::len(&fs, Path::new("a")).unwrap(), Some(30));
    }

    #[test]
    fn directories_list_what_stands_in_them_and_nothing_deeper() {
        let fs = MemoryFs::new(100);
        fs.create_dir_all(Path::new("a/b")).unwrap();
        fs.create_dir_all(Path::new("ab")).unwrap();
        fs.create(Path::new("a/b/deep"), 1).unwrap();
        fs.create(Path::new("a/c"), 1).unwrap();
        let names = |path: &str| -> Vec<_> {
            let entries = fs.list(Path::new(path)).unwrap();
            entries.into_iter().map(|entry| entry.name).collect()
        };
        assert_eq!(names(""), ["a", "ab"]);
        assert_eq!(names("a"), ["b", "c"]);
        assert_eq!(names("ab"), [""; 0]);
    }
}
