//! The state of a simulated disk and its page cache, and what a crash makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::CrashMode;
use super::fault::Faults;
use super::inode::Inode;
use super::names::{FileId, Names};
use super::random::Random;

/// Everything but the handles of the running process.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) names: Names,
    pub(super) inodes: BTreeMap<FileId, Arc<Inode>>,
    pub(super) next_file_id: FileId,
    pub(super) capacity_bytes: u64,
    pub(super) boot: u64,
    pub(super) filesystem_id: u64,
    pub(super) faults: Faults,
    pub(super) random: Random,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            names: Names::default(),
            inodes: BTreeMap::new(),
            next_file_id: 1,
            capacity_bytes: 1 << 40,
            boot: 1,
            filesystem_id: 1,
            faults: Faults::default(),
            random: Random::new(seed),
        }
    }

    pub(super) fn inode(&self, id: FileId) -> &Inode {
        self.inodes
            .get(&id)
            .expect("an inode lives as long as a handle or a name of it")
    }

    pub(super) fn inode_mut(&mut self, id: FileId) -> &mut Inode {
        Arc::make_mut(
            self.inodes
                .get_mut(&id)
                .expect("an inode lives as long as a handle or a name of it"),
        )
    }

    /// What is there after a crash now. The same seed gives the same disk.
    pub(super) fn crash(&self, mode: CrashMode, seed: u64) -> Self {
        let mut disk = self.clone();
        disk.faults.clear();
        disk.random = Random::new(seed);
        let random = &mut Random::new(seed);
        match mode {
            CrashMode::Process => {}
            CrashMode::PowerKept => disk.names.keep_all(),
            CrashMode::PowerDropped => disk.names.drop_unsynced(),
            CrashMode::PowerTorn => disk.names.tear(random),
        }
        let named = disk.names.inodes();
        disk.inodes.retain(|id, _| named.contains(id));
        if mode != CrashMode::Process {
            disk.boot += 1;
            for inode in disk.inodes.values_mut() {
                let inode = Arc::make_mut(inode);
                match mode {
                    CrashMode::Process | CrashMode::PowerKept => inode.keep_all(),
                    CrashMode::PowerDropped => inode.drop_unsynced(),
                    CrashMode::PowerTorn => inode.tear(random),
                }
            }
        }
        disk
    }
}
