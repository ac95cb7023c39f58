//! The operating system's files.

use std::fs;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use super::mmap::FileMap;
use super::{DirEntry, Error, File, Fs, LockGuard, Map, Operation, Result};

/// Slices per `pwritev`; the kernel's own limit.
const MAX_SLICES_PER_WRITE: usize = 1024;

/// Bytes written at a time where the file system cannot allocate.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A directory of the operating system.
#[derive(Debug)]
pub struct RealFs {
    root: PathBuf,
}

impl RealFs {
    /// The directory `root`, created with those above it when it is missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let named = root.ancestors().filter(|path| !path.as_os_str().is_empty());
        let missing: Vec<_> = named.take_while(|path| !path.exists()).collect();
        fs::create_dir_all(&root)
            .map_err(|source| Error::new(Operation::CreateDir, &root, source))?;
        // A synced file in a directory that is lost is lost as well.
        for path in missing {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            let above = above.unwrap_or(Path::new("."));
            let synced = fs::File::open(above).and_then(|directory| directory.sync_all());
            synced.map_err(|source| Error::new(Operation::SyncDir, above, source))?;
        }
        Ok(Self { root })
    }

    fn full(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        }
    }

    fn run<T>(
        &self,
        operation: Operation,
        path: &Path,
        body: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<T> {
        let full = self.full(path);
        body(&full).map_err(|source| Error::new(operation, full, source))
    }
}

impl Fs for RealFs {
    fn create(&self, path: &Path, len: u64) -> Result<Arc<dyn File>> {
        let file = self.run(Operation::Create, path, |full| {
            fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(full)
        })?;
        let path = self.full(path);
        if let Err(source) = allocate(&file, len) {
            // The name is ours and holds nothing: that it goes away is all that is left to do.
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a file for which there is no space");
            }
            return Err(Error::new(Operation::Allocate, path, source));
        }
        Ok(Arc::new(RealFile {
            file: Arc::new(file),
            len,
            path,
        }))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        let (file, len) = self.run(Operation::Open, path, |full| {
            let file = fs::OpenOptions::new().read(true).write(true).open(full)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        })?;
        Ok(Arc::new(RealFile {
            file: Arc::new(file),
            len,
            path: self.full(path),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.run(Operation::Rename, from, |full| {
            fs::rename(full, self.full(to))
        })
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.run(Operation::RemoveFile, path, |full| fs::remove_file(full))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.run(Operation::RemoveDir, path, |full| fs::remove_dir(full))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.run(Operation::CreateDir, path, |full| fs::create_dir_all(full))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.run(Operation::SyncDir, path, |full| {
            fs::File::open(full)?.sync_all()
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.run(Operation::List, path, |full| {
            let mut entries = Vec::new();
            for entry in fs::read_dir(full)? {
                let entry = entry?;
                let is_dir = entry.file_type()?.is_dir();
                if let Ok(name) = entry.file_name().into_string() {
                    entries.push(DirEntry { name, is_dir });
                }
            }
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        })
    }

    fn len(&self, path: &Path) -> Result<Option<u64>> {
        self.run(Operation::Stat, path, |full| match fs::metadata(full) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn free_bytes(&self) -> Result<u64> {
        self.run(Operation::Stat, Path::new(""), |full| {
            let stat = rustix::fs::statvfs(full)?;
            Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
        })
    }

    fn lock(&self, path: &Path) -> Result<LockGuard> {
        self.run(Operation::Lock, path, |full| {
            let file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(full)?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(LockGuard::new(file))
        })
    }

    fn boot_id(&self) -> Option<String> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let id = id.trim();
        (!id.is_empty()).then(|| id.to_owned())
    }

    fn filesystem_id(&self) -> Result<u64> {
        self.run(Operation::Stat, Path::new(""), |full| {
            Ok(rustix::fs::statvfs(full)?.f_fsid)
        })
    }
}

/// Allocates the space of a new file, so that no later write into it meets a full disk.
fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        // The file system has no such operation: write the zeros.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, len)?,
        result => result?,
    }
    // Some systems allocate without changing the size.
    if file.metadata()?.len() != len {
        file.set_len(len)?;
    }
    Ok(())
}

fn write_zeros(file: &fs::File, len: u64) -> io::Result<()> {
    let mut position = 0;
    while position < len {
        let wanted = usize::try_from(len - position)
            .unwrap_or(usize::MAX)
            .min(ZEROS.len());
        file.write_all_at(&ZEROS[..wanted], position)?;
        position += wanted as u64;
    }
    Ok(())
}

/// An open file of the operating system.
#[derive(Debug)]
struct RealFile {
    file: Arc<fs::File>,
    len: u64,
    path: PathBuf,
}

impl RealFile {
    fn error(&self, operation: Operation, source: impl Into<io::Error>) -> Error {
        Error::new(operation, &self.path, source)
    }

    fn check_range(&self, operation: Operation, position: u64, len: usize) -> Result<()> {
        match position.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(self.error(operation, io::Error::from(io::ErrorKind::UnexpectedEof))),
        }
    }
}

impl File for RealFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn write_vectored_all_at(&self, buffers: &mut [IoSlice<'_>], position: u64) -> Result<()> {
        let total = buffers.iter().map(|buffer| buffer.len()).sum();
        self.check_range(Operation::Write, position, total)?;
        let mut buffers = buffers;
        let mut position = position;
        IoSlice::advance_slices(&mut buffers, 0); // Leading empty slices would read as "nothing written".
        while !buffers.is_empty() {
            let count = buffers.len().min(MAX_SLICES_PER_WRITE);
            match rustix::io::pwritev(&self.file, &buffers[..count], position) {
                Ok(0) => return Err(self.error(Operation::Write, io::ErrorKind::WriteZero)),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut buffers, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.error(Operation::Write, error)),
            }
        }
        Ok(())
    }

    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> Result<()> {
        self.check_range(Operation::Read, position, buffer.len())?;
        self.file
            .read_exact_at(buffer, position)
            .map_err(|source| self.error(Operation::Read, source))
    }

    fn sync_data(&self) -> Result<()> {
        // A failed sync is never tried again here: the second would answer well for pages that the first one lost.
        self.file
            .sync_data()
            .map_err(|source| self.error(Operation::SyncData, source))
    }

    fn release(&self, range: Range<u64>) -> Result<()> {
        #[cfg(target_os = "linux")]
        {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let len = range.end.saturating_sub(range.start);
            match rustix::fs::fallocate(&self.file, flags, range.start, len) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                result => result.map_err(|source| self.error(Operation::Release, source))?,
            }
        }
        Ok(())
    }

    fn map(&self) -> Result<Arc<dyn Map>> {
        Ok(Arc::new(FileMap::new(Arc::clone(&self.file), &self.path)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> (tempfile::TempDir, RealFs) {
        let directory = tempfile::tempdir().unwrap();
        let fs = RealFs::new(directory.path().join("data")).unwrap();
        (directory, fs)
    }

    #[test]
    fn vectored_write_of_more_slices_than_one_call_takes_arrives_whole() {
        let (_directory, fs) = temporary();
        let file = fs.create(Path::new("file"), 8192).unwrap();
        let bytes: Vec<u8> = (0..2500u32).map(|i| i.to_le_bytes()[0]).collect();
        let mut slices: Vec<_> = bytes
            .chunks(1)
            .flat_map(|chunk| [IoSlice::new(&[]), IoSlice::new(chunk)])
            .collect();
        file.write_vectored_all_at(&mut slices, 100).unwrap();
        let mut read = vec![0; bytes.len()];
        file.read_exact_at(&mut read, 100).unwrap();
        assert_eq!(read, bytes);
    }

    #[test]
    fn system_without_space_is_an_error_that_leaves_no_file() {
        let (_directory, fs) = temporary();
        let error = fs.create(Path::new("file"), 1 << 60).unwrap_err();
        assert_eq!(error.operation(), Operation::Allocate);
        assert_eq!(fs.len(Path::new("file")).unwrap(), None);
    }

    #[test]
    fn system_says_what_it_knows_of_the_disk() {
        let (_directory, fs) = temporary();
        assert!(fs.free_bytes().unwrap() > 0);
        fs.filesystem_id().unwrap();
    }

    #[test]
    fn released_space_goes_back_to_the_disk_and_the_rest_stays() {
        use std::os::unix::fs::MetadataExt;
        let (directory, fs) = temporary();
        let file = fs.create(Path::new("file"), 1 << 20).unwrap();
        file.write_all_at(b"kept", 65532).unwrap();
        file.release(65536..1 << 20).unwrap();
        let metadata = std::fs::metadata(directory.path().join("data/file")).unwrap();
        assert_eq!(metadata.len(), 1 << 20);
        if cfg!(target_os = "linux") {
            let allocated = metadata.blocks() * 512;
            assert!(allocated < 1 << 19, "{allocated} bytes");
        }
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 65532).unwrap();
        assert_eq!(&bytes, b"kept\0\0\0\0");
    }
}
