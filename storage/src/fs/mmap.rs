//! The read-only mapping of a file: the only `unsafe` of the workspace.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{Error, Map, Operation, Result};

/// Bytes read at a time where the kernel cannot populate a mapping by itself.
const FALLBACK_READ_BYTES: usize = 64 * 1024;

/// A whole file, mapped for reading.
#[derive(Debug)]
pub(super) struct FileMap {
    map: memmap2::Mmap,
    file: Arc<fs::File>,
    path: PathBuf,
}

impl FileMap {
    /// Maps `file`, of which `path` is the name for errors.
    pub(super) fn new(file: Arc<fs::File>, path: &Path) -> Result<Self> {
        // SAFETY: The mapping is read only and shared. Its file never changes its size (`File` has no way to), so no access faults for
        // lack of ground. Bytes change below a `&[u8]` only where somebody writes to a range while a slice of it lives; `Map::slice`
        // forbids that, and storage keeps to it by writing each position of a segment once: slices are given out of written frames
        // only, and a file is recycled when its last slice has dropped. Other processes are kept out by the directory lock.
        let map = unsafe { memmap2::Mmap::map(&*file) }
            .map_err(|source| Error::new(Operation::Map, path, source))?;
        Ok(Self {
            map,
            file,
            path: path.to_owned(),
        })
    }

    fn bounds(&self, range: &Range<u64>) -> Range<usize> {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "range {range:?} is outside of {} ({} bytes)",
            self.path.display(),
            self.len()
        );
        usize::try_from(range.start).expect("inside the map")
            ..usize::try_from(range.end).expect("inside the map")
    }

    /// Reads `range` through the file, which fails where a touch of the mapping would have been a signal.
    fn populate_by_reading(&self, range: Range<u64>) -> io::Result<()> {
        let mut buffer = vec![0; FALLBACK_READ_BYTES];
        let mut position = range.start;
        while position < range.end {
            let wanted = usize::try_from(range.end - position)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            self.file.read_exact_at(&mut buffer[..wanted], position)?;
            position += wanted as u64;
        }
        Ok(())
    }
}

impl Map for FileMap {
    fn len(&self) -> u64 {
        self.map.len() as u64
    }

    fn slice(self: Arc<Self>, range: Range<u64>) -> Bytes {
        let range = self.bounds(&range);
        Bytes::from_owner(SharedMap(self)).slice(range)
    }

    fn populate(&self, range: Range<u64>) -> Result<()> {
        let bounds = self.bounds(&range);
        if bounds.is_empty() {
            return Ok(());
        }
        #[cfg(target_os = "linux")]
        match self
            .map
            .advise_range(memmap2::Advice::PopulateRead, bounds.start, bounds.len())
        {
            // Kernels before 5.14 do not know the advice.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            result => {
                return result
                    .map_err(|source| Error::new(Operation::Populate, &self.path, source));
            }
        }
        self.populate_by_reading(range)
            .map_err(|source| Error::new(Operation::Populate, &self.path, source))
    }
}

/// What the slices own.
struct SharedMap(Arc<FileMap>);

impl AsRef<[u8]> for SharedMap {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}
