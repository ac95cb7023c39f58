//! The contents of one file: what the page cache shows, what the disk holds, and the writes between the two.

use std::ops::Range;
use std::sync::Arc;

use super::random::Random;

const PAGE_BYTES: usize = 4096;
/// What a disk writes as one: after power loss a sector holds its old or its new bytes, never a mixture.
const SECTOR_BYTES: u64 = 512;

/// File contents in shared pages, so that a copy of a whole disk costs next to nothing. A missing page is zero.
#[derive(Clone, Debug)]
struct Pages(Arc<Vec<Option<Arc<[u8; PAGE_BYTES]>>>>);

impl Pages {
    fn zero(len: u64) -> Self {
        Self(Arc::new(vec![None; to_usize(len).div_ceil(PAGE_BYTES)]))
    }

    fn read(&self, buffer: &mut [u8], position: u64) {
        for (page, within, part) in pieces(position, buffer.len()) {
            match &self.0[page] {
                Some(bytes) => buffer[part].copy_from_slice(&bytes[within]),
                None => buffer[part].fill(0),
            }
        }
    }

    fn write(&mut self, bytes: &[u8], position: u64) {
        let pages = Arc::make_mut(&mut self.0);
        for (page, within, part) in pieces(position, bytes.len()) {
            let page = pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[within].copy_from_slice(&bytes[part]);
        }
    }
}

/// The pages that `len` bytes from `position` on fall into: the page, the range within it, the range within the buffer.
fn pieces(position: u64, len: usize) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
    let start = to_usize(position);
    let mut done = 0;
    std::iter::from_fn(move || {
        let from = (start + done) % PAGE_BYTES;
        let count = (PAGE_BYTES - from).min(len - done);
        let piece = (
            (start + done) / PAGE_BYTES,
            from..from + count,
            done..done + count,
        );
        done += count;
        (count > 0).then_some(piece)
    })
}

/// A write that no sync has made durable: whole sectors as they were after it.
#[derive(Clone, Debug)]
struct Unsynced {
    position: u64,
    sectors: Arc<[u8]>,
}

/// One file, whatever its names.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    len: u64,
    cached: Pages,
    durable: Pages,
    unsynced: Vec<Unsynced>,
    /// Whether the length is on the disk; until then the file may come back empty.
    is_len_durable: bool,
    /// Whether a failed sync threw writes away, so that what the cache shows is not what a sync would make durable.
    has_lost_writes: bool,
}

impl Inode {
    pub(super) fn new(len: u64) -> Self {
        let pages = Pages::zero(len);
        Self {
            len,
            cached: pages.clone(),
            durable: pages,
            unsynced: Vec::new(),
            is_len_durable: false,
            has_lost_writes: false,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, buffer: &mut [u8], position: u64) {
        self.cached.read(buffer, position);
    }

    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        if bytes.is_empty() {
            return;
        }
        self.cached.write(bytes, position);
        let start = position - position % SECTOR_BYTES;
        let end = (position + bytes.len() as u64).next_multiple_of(SECTOR_BYTES);
        let mut sectors = vec![0; to_usize(end - start)];
        self.cached.read(&mut sectors, start);
        self.unsynced.push(Unsynced {
            position: start,
            sectors: sectors.into(),
        });
    }

    pub(super) fn sync(&mut self) {
        if self.has_lost_writes {
            for write in self.unsynced.drain(..) {
                self.durable.write(&write.sectors, write.position);
            }
        } else {
            self.unsynced.clear();
            self.durable = self.cached.clone();
        }
        self.is_len_durable = true;
    }

    /// A sync that fails: the pages count as clean from now on, yet which of them reached the disk is chance.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        for write in self.unsynced.drain(..) {
            if random.one_in(2) {
                self.durable.write(&write.sectors, write.position);
            }
        }
        self.has_lost_writes = true;
    }

    /// Changes bytes behind everyone's back, in the cache and on the disk.
    pub(super) fn corrupt(&mut self, change: impl FnOnce(&mut [u8])) {
        let mut bytes = vec![0; to_usize(self.len)];
        self.cached.read(&mut bytes, 0);
        change(&mut bytes);
        self.cached.write(&bytes, 0);
        self.durable.write(&bytes, 0);
    }

    /// Power loss that the cache survived by luck: all of it was written just before.
    pub(super) fn keep_all(&mut self) {
        self.sync();
        self.cached = self.durable.clone();
    }

    /// Power loss: nothing unsynced is left.
    pub(super) fn drop_unsynced(&mut self) {
        self.unsynced.clear();
        self.settle(self.is_len_durable);
    }

    /// Power loss: of each unsynced write all, nothing, or some sectors are left.
    pub(super) fn tear(&mut self, random: &mut Random) {
        let mut has_len = self.is_len_durable || random.one_in(2);
        for write in std::mem::take(&mut self.unsynced) {
            let is_torn = random.one_in(3);
            let is_kept = random.one_in(2);
            let mut position = write.position;
            for sector in write.sectors.chunks(to_usize(SECTOR_BYTES)) {
                if if is_torn { random.one_in(2) } else { is_kept } {
                    self.durable.write(sector, position);
                    has_len = true;
                }
                position += SECTOR_BYTES;
            }
        }
        self.settle(has_len);
    }

    fn settle(&mut self, has_len: bool) {
        if !has_len {
            *self = Self::new(0);
        }
        self.cached = self.durable.clone();
        self.is_len_durable = true;
        self.has_lost_writes = false;
    }
}

pub(super) fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("simulated files fit in memory")
}
