//! Files kept for reuse.
//!
//! A file that was written before is overwritten faster than a new one is filled, and its space is ours already. The pool is empty after
//! each start: what a crash left in its directory is removed, because a rename that was under way may have left a file two names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::{self, File, Fs};

const DIRECTORY: &str = "pool";

/// The files that wait for their next use, by size.
#[derive(Debug)]
pub(crate) struct Pool {
    fs: Arc<dyn Fs>,
    limit_bytes: u64,
    state: Mutex<State>,
}

/// Whether the reserve may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reserve {
    Keep,
    Use,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, Vec<PathBuf>>,
    bytes: u64,
    next_name: u64,
    /// Size and number of the files that are only for those who find no other space.
    reserved: (u64, usize),
}

impl Pool {
    /// An empty pool that keeps up to `limit_bytes`.
    pub(crate) fn open(fs: Arc<dyn Fs>, limit_bytes: u64) -> fs::Result<Self> {
        let directory = Path::new(DIRECTORY);
        fs.create_dir_all(directory)?;
        for entry in fs.list(directory)? {
            if !entry.is_dir {
                fs.remove_file(&directory.join(entry.name))?;
            }
        }
        Ok(Self {
            fs,
            limit_bytes,
            state: Mutex::default(),
        })
    }

    /// A file of `len` bytes at `path`, recycled or new. Of a recycled one the contents are what they were. The reserve is touched only when
    /// a new file cannot be had.
    ///
    /// # Errors
    /// As [`Fs::create`].
    pub(crate) fn take(&self, path: &Path, len: u64) -> fs::Result<Arc<dyn File>> {
        if let Some(spare) = self.pop(len, Reserve::Keep) {
            return self.reuse(&spare, path);
        }
        match self.fs.create(path, len) {
            Err(error) if error.is_no_space() => match self.pop(len, Reserve::Use) {
                Some(reserved) => self.reuse(&reserved, path),
                None => Err(error),
            },
            created => created,
        }
    }

    /// Keeps the file at `path` if there is room for it, and removes it otherwise. Nobody may use it any more.
    pub(crate) fn give(&self, path: &Path, len: u64) -> fs::Result<()> {
        let kept = {
            let mut state = self.state();
            if state.bytes + len > self.limit_bytes {
                None
            } else {
                state.next_name += 1;
                Some(Path::new(DIRECTORY).join(format!("{:012}", state.next_name)))
            }
        };
        let Some(kept) = kept else {
            return self.fs.remove_file(path);
        };
        self.fs.rename(path, &kept)?;
        self.keep(kept, len);
        Ok(())
    }

    /// Makes sure that `count` files of `len` bytes wait, whatever the limit: space for those who may not run out of it.
    ///
    /// # Errors
    /// As [`Fs::create`].
    pub(crate) fn reserve(&self, len: u64, count: u64) -> fs::Result<()> {
        let there = {
            let mut state = self.state();
            state.reserved = (len, usize::try_from(count).unwrap_or(usize::MAX));
            state.files.get(&len).map_or(0, Vec::len) as u64
        };
        for _ in there..count {
            let path = {
                let mut state = self.state();
                state.next_name += 1;
                Path::new(DIRECTORY).join(format!("{:012}", state.next_name))
            };
            self.fs.create(&path, len)?;
            self.keep(path, len);
        }
        Ok(())
    }

    /// Removes the largest file, so that its space can be had; false when there is none.
    pub(crate) fn shrink(&self) -> fs::Result<bool> {
        let largest = {
            let mut state = self.state();
            let State { files, bytes, .. } = &mut *state;
            files
                .iter_mut()
                .rev()
                .find_map(|(len, files)| files.pop().inspect(|_| *bytes -= len))
        };
        match largest {
            Some(path) => self.fs.remove_file(&path).map(|()| true),
            None => Ok(false),
        }
    }

    fn pop(&self, len: u64, reserve: Reserve) -> Option<PathBuf> {
        let mut state = self.state();
        let (reserved_len, reserved_count) = state.reserved;
        let kept = if reserve == Reserve::Keep && len == reserved_len {
            reserved_count
        } else {
            0
        };
        let popped = state
            .files
            .get_mut(&len)
            .filter(|files| files.len() > kept)?
            .pop()?;
        state.bytes -= len;
        Some(popped)
    }

    fn reuse(&self, from: &Path, path: &Path) -> fs::Result<Arc<dyn File>> {
        self.fs.rename(from, path)?;
        self.fs.open(path)
    }

    fn keep(&self, path: PathBuf, len: u64) {
        let mut state = self.state();
        state.bytes += len;
        state.files.entry(len).or_default().push(path);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::SimFs;

    #[test]
    fn file_is_used_again_and_the_limit_holds() {
        let fs: Arc<dyn Fs> = Arc::new(SimFs::new(1));
        let pool = Pool::open(Arc::clone(&fs), 4096).unwrap();
        let (a, b) = (Path::new("a"), Path::new("b"));
        pool.take(a, 4096)
            .unwrap()
            .write_all_at(b"life", 0)
            .unwrap();
        pool.take(b, 4096).unwrap();
        pool.give(a, 4096).unwrap();
        pool.give(b, 4096).unwrap();
        assert_eq!(
            fs.list(Path::new(DIRECTORY)).unwrap().len(),
            1,
            "one was removed"
        );
        let mut bytes = [0; 4];
        pool.take(b, 4096)
            .unwrap()
            .read_exact_at(&mut bytes, 0)
            .unwrap();
        assert_eq!(&bytes, b"life");
        assert_eq!(fs.list(Path::new(DIRECTORY)).unwrap(), []);
    }

    #[test]
    fn the_reserve_is_for_those_who_find_no_other_space() {
        let fs = Arc::new(SimFs::new(1));
        let pool = Pool::open(Arc::<SimFs>::clone(&fs), 1 << 20).unwrap();
        pool.reserve(4096, 2).unwrap();
        let waiting = || fs.list(Path::new(DIRECTORY)).unwrap().len();
        assert_eq!(waiting(), 2);
        // While there is room the reserve stays, and what comes back is used before anything new.
        pool.take(Path::new("a"), 4096).unwrap();
        assert_eq!(waiting(), 2);
        pool.give(Path::new("a"), 4096).unwrap();
        assert_eq!(waiting(), 3);
        pool.take(Path::new("b"), 4096).unwrap();
        assert_eq!(waiting(), 2);
        fs.set_capacity_bytes(0);
        pool.take(Path::new("c"), 4096).unwrap();
        pool.take(Path::new("d"), 4096).unwrap();
        assert_eq!(waiting(), 0);
        assert!(pool.take(Path::new("e"), 4096).is_err());
    }
}
