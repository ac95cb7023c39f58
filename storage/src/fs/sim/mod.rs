//! A disk in memory that forgets and fails, for tests.
//!
//! It models what a file system promises and no more:
//!
//! - Written bytes are in the page cache until the file is synced. At power loss each unsynced write is kept, dropped, or torn at
//!   sectors of 512 bytes, independently of the others. The length given at creation is lost likewise, which leaves an empty file.
//! - Names are durable when their directory is synced. At power loss each directory keeps a first part of its unsynced changes,
//!   independently of other directories; a rename is whole even between two.
//! - A sync that fails leaves the pages clean and not durable: later syncs say nothing of them.
//! - A crash of the process alone keeps the cache, and leaves it as unsynced as it was.
//! - Files keep the bytes of their former life when they are renamed.
//!
//! Every operation that changes something is a **step**. A test runs its workload once with [`SimFs::record_images`] and gets the disk
//! after each step, or stops the world with [`SimFs::crash_at`]. All chance comes from seeds. Besides, the model panics when bytes change
//! below a living slice of a map, which would be undefined behaviour on a real disk.

mod disk;
mod fault;
mod handle;
mod inode;
mod names;
mod random;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::disk::Disk;
use self::handle::{Handle, Slices};
use self::inode::{Inode, to_usize};
use self::names::{Change, FileId, Name, Node, parent};
use super::{DirEntry, Error, File, Fs, LockGuard, Operation, Result};

pub use self::fault::Fault;

/// How the world ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrashMode {
    /// The process dies and the kernel lives: nothing is lost, and nothing more is durable than before.
    Process,
    /// Power is lost just after the kernel wrote everything.
    PowerKept,
    /// Power is lost and with it everything that was not synced.
    PowerDropped,
    /// Power is lost and chance decides about each unsynced write and name.
    PowerTorn,
}

/// A simulated file system. Clones are the same one.
#[derive(Clone, Debug)]
pub struct SimFs {
    machine: Arc<Mutex<Machine>>,
    slices: Arc<Mutex<Slices>>,
}

/// The disk after one step.
#[derive(Clone)]
pub struct Image {
    /// How many steps were done.
    pub step: u64,
    /// The last of them.
    pub operation: Operation,
    /// The path it was done on.
    pub path: String,
    disk: Disk,
}

/// The disk and the process that runs on it.
#[derive(Debug)]
struct Machine {
    disk: Disk,
    locks: BTreeSet<Name>,
    handles: HashMap<FileId, usize>,
    steps: u64,
    dies_at: Option<u64>,
    images: Option<Vec<Image>>,
}

impl Image {
    /// The file system that a new process finds after a crash here. The same seed gives the same one.
    pub fn crash(&self, mode: CrashMode, seed: u64) -> SimFs {
        SimFs::with_disk(self.disk.crash(mode, seed))
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "after step {}, {} {}",
            self.step, self.operation, self.path
        )
    }
}

impl SimFs {
    /// An empty disk of 1 TiB. `seed` decides what a failed sync leaves behind.
    pub fn new(seed: u64) -> Self {
        Self::with_disk(Disk::new(seed))
    }

    fn with_disk(disk: Disk) -> Self {
        let machine = Machine {
            disk,
            locks: BTreeSet::new(),
            handles: HashMap::new(),
            steps: 0,
            dies_at: None,
            images: None,
        };
        Self {
            machine: Arc::new(Mutex::new(machine)),
            slices: Arc::default(),
        }
    }

    /// The file system that a new process finds after a crash now. This one is left as it is.
    pub fn crash(&self, mode: CrashMode, seed: u64) -> Self {
        Self::with_disk(self.machine().disk.crash(mode, seed))
    }

    /// How many steps were done.
    pub fn steps(&self) -> u64 {
        self.machine().steps
    }

    /// The process dies when `step` steps are done: every operation after them fails.
    pub fn crash_at(&self, step: u64) {
        self.machine().dies_at = Some(step);
    }

    /// Keeps the disk as it is after each step from now on.
    pub fn record_images(&self) {
        self.machine().images.get_or_insert_default();
    }

    /// The disks kept since the last call.
    pub fn take_images(&self) -> Vec<Image> {
        self.machine()
            .images
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Adds a fault. Of several that fit an operation the first counts.
    pub fn inject(&self, fault: Fault) {
        self.machine().disk.faults.push(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.machine().disk.faults.clear();
    }

    /// Sets the size of the disk. Files that are there stay, even when it is less.
    pub fn set_capacity_bytes(&self, capacity_bytes: u64) {
        self.machine().disk.capacity_bytes = capacity_bytes;
    }

    /// Sets what [`Fs::filesystem_id`] answers, as if the files had been copied to another disk.
    pub fn set_filesystem_id(&self, id: u64) {
        self.machine().disk.filesystem_id = id;
    }

    /// All files with their bytes, as the running system sees them.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let machine = self.machine();
        let files = machine
            .disk
            .names
            .iter()
            .filter_map(|(name, node)| match node {
                Node::Dir => None,
                Node::File(id) => {
                    let inode = machine.disk.inode(id);
                    let mut bytes = vec![0; to_usize(inode.len())];
                    inode.read(&mut bytes, 0);
                    Some((name.clone(), bytes))
                }
            });
        files.collect()
    }

    /// How many file handles and maps are open.
    pub fn open_handles(&self) -> usize {
        self.machine().handles.values().sum()
    }

    /// Changes the bytes of a file as a failing disk does: at once, durably, and without telling.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn corrupt(&self, path: impl AsRef<Path>, change: impl FnOnce(&mut [u8])) {
        let name = name_of(path.as_ref());
        let mut machine = self.machine();
        let id = machine
            .file_id(&name)
            .unwrap_or_else(|_| panic!("no file {name} to corrupt"));
        machine.disk.inode_mut(id).corrupt(change);
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an operation that changes nothing.
    fn look<T>(
        &self,
        operation: Operation,
        path: &str,
        body: impl FnOnce(&mut Machine) -> io::Result<T>,
    ) -> Result<T> {
        let mut machine = self.machine();
        let result = machine
            .begin(operation, path)
            .and_then(|()| body(&mut machine));
        result.map_err(|source| Error::new(operation, path, source))
    }

    /// Runs an operation that is a step when it succeeds.
    fn step<T>(
        &self,
        operation: Operation,
        path: &str,
        body: impl FnOnce(&mut Machine) -> io::Result<T>,
    ) -> Result<T> {
        let mut machine = self.machine();
        let result = machine
            .begin(operation, path)
            .and_then(|()| body(&mut machine));
        if result.is_ok() {
            machine.end_step(operation, path);
        }
        result.map_err(|source| Error::new(operation, path, source))
    }
}

impl Machine {
    /// What every operation meets first: death, and the faults that were asked for.
    fn begin(&mut self, operation: Operation, name: &str) -> io::Result<()> {
        if self.dies_at.is_some_and(|step| self.steps >= step) {
            return Err(io::Error::other("the simulated process is dead"));
        }
        self.disk.faults.strike(operation, name).map_or(Ok(()), Err)
    }

    fn end_step(&mut self, operation: Operation, name: &str) {
        self.steps += 1;
        if let Some(images) = &mut self.images {
            images.push(Image {
                step: self.steps,
                operation,
                path: name.to_owned(),
                disk: self.disk.clone(),
            });
        }
    }

    fn file_id(&self, name: &str) -> io::Result<FileId> {
        match self.disk.names.get(name) {
            Some(Node::File(id)) => Ok(id),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn expect_directory(&self, name: &str) -> io::Result<()> {
        match self.disk.names.get(name) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Space is taken by every file that has a name or a handle.
    fn free_bytes(&self) -> u64 {
        let named = self.disk.names.iter().filter_map(|(_, node)| match node {
            Node::File(id) => Some(id),
            Node::Dir => None,
        });
        let living: BTreeSet<FileId> = named.chain(self.handles.keys().copied()).collect();
        let used = living.iter().map(|id| self.disk.inode(*id).len()).sum();
        self.disk.capacity_bytes.saturating_sub(used)
    }

    fn create(&mut self, name: &str, len: u64) -> io::Result<FileId> {
        self.expect_directory(parent(name))?;
        if self.disk.names.get(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if let Some(error) = self.disk.faults.strike(Operation::Allocate, name) {
            return Err(error);
        }
        if len > self.free_bytes() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = self.disk.next_file_id;
        self.disk.next_file_id += 1;
        self.disk.inodes.insert(id, Arc::new(Inode::new(len)));
        self.disk
            .names
            .change(Change::Add(name.to_owned(), Node::File(id)));
        Ok(id)
    }
}

impl Fs for SimFs {
    fn create(&self, path: &Path, len: u64) -> Result<Arc<dyn File>> {
        let name = name_of(path);
        self.step(Operation::Create, &name, |machine| {
            let id = machine.create(&name, len)?;
            Ok(Arc::new(Handle::new(self, machine, id, &name)) as Arc<dyn File>)
        })
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        let name = name_of(path);
        self.look(Operation::Open, &name, |machine| {
            let id = machine.file_id(&name)?;
            Ok(Arc::new(Handle::new(self, machine, id, &name)) as Arc<dyn File>)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (from, to) = (name_of(from), name_of(to));
        self.step(Operation::Rename, &from, |machine| {
            machine.file_id(&from)?;
            machine.expect_directory(parent(&to))?;
            if machine.disk.names.get(&to) == Some(Node::Dir) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            machine
                .disk
                .names
                .change(Change::Rename(from.clone(), to.clone()));
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let name = name_of(path);
        self.step(Operation::RemoveFile, &name, |machine| {
            machine.file_id(&name)?;
            machine.disk.names.change(Change::Remove(name.clone()));
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        let name = name_of(path);
        self.step(Operation::RemoveDir, &name, |machine| {
            machine.expect_directory(&name)?;
            if machine.disk.names.children(&name).next().is_some() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            machine.disk.names.change(Change::Remove(name.clone()));
            Ok(())
        })
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let name = name_of(path);
        if name.is_empty() {
            return Ok(());
        }
        self.create_dir_all(Path::new(parent(&name)))?;
        if self.machine().disk.names.get(&name) == Some(Node::Dir) {
            return Ok(());
        }
        self.step(Operation::CreateDir, &name, |machine| {
            if machine.disk.names.get(&name).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            machine
                .disk
                .names
                .change(Change::Add(name.clone(), Node::Dir));
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let name = name_of(path);
        self.step(Operation::SyncDir, &name, |machine| {
            machine.expect_directory(&name)?;
            machine.disk.names.sync(&name);
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let name = name_of(path);
        self.look(Operation::List, &name, |machine| {
            machine.expect_directory(&name)?;
            let children = machine.disk.names.children(&name);
            Ok(children
                .map(|(name, node)| DirEntry {
                    name: name.to_owned(),
                    is_dir: node == Node::Dir,
                })
                .collect())
        })
    }

    fn len(&self, path: &Path) -> Result<Option<u64>> {
        let name = name_of(path);
        self.look(Operation::Stat, &name, |machine| {
            Ok(machine
                .file_id(&name)
                .ok()
                .map(|id| machine.disk.inode(id).len()))
        })
    }

    fn free_bytes(&self) -> Result<u64> {
        self.look(Operation::Stat, "", |machine| Ok(machine.free_bytes()))
    }

    fn lock(&self, path: &Path) -> Result<LockGuard> {
        let name = name_of(path);
        if self.machine().disk.names.get(&name).is_none() {
            self.create(path, 0)?;
        }
        self.look(Operation::Lock, &name, |machine| {
            if !machine.locks.insert(name.clone()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(LockGuard::new(Lock {
                fs: self.clone(),
                name: name.clone(),
            }))
        })
    }

    fn boot_id(&self) -> Option<String> {
        Some(format!("boot {}", self.machine().disk.boot))
    }

    fn filesystem_id(&self) -> Result<u64> {
        self.look(Operation::Stat, "", |machine| {
            Ok(machine.disk.filesystem_id)
        })
    }
}

struct Lock {
    fs: SimFs,
    name: Name,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.fs.machine().locks.remove(&self.name);
    }
}

/// The path in the model's form.
fn name_of(path: &Path) -> Name {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => {
            Some(part.to_str().expect("storage gives its files plain names"))
        }
        Component::CurDir => None,
        other => panic!(
            "{other:?} in {}: paths go down from the root",
            path.display()
        ),
    });
    parts.collect::<Vec<_>>().join("/")
}
