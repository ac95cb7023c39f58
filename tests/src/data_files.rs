//! The files of a stopped broker: copied, found by kind, damaged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::stamp::Place;

/// A kind of file in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Segments of one partition, the oldest first.
    Segment(Place),
    /// Files of the journal, the oldest first.
    Journal,
    /// Checkpoints, the oldest first.
    Checkpoint,
    /// Segments of the controller's log, the oldest first.
    Controller,
    /// Whose directory it is.
    Identity,
}

/// The files of a kind, in the order of their names.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(data_dir: &Path, kind: FileKind) -> io::Result<Vec<PathBuf>> {
    let (folders, extension) = match kind {
        FileKind::Segment(place) => {
            let topic = data_dir.join("topics").join(place.topic.to_string());
            let prefix = format!("{}-", place.partition);
            let mut folders = entries(&topic)?;
            folders.retain(|path| name_of(path).starts_with(&prefix));
            (folders, "segment")
        }
        FileKind::Controller => (entries(&data_dir.join("controller"))?, "segment"),
        FileKind::Journal => (vec![data_dir.join("journal")], "journal"),
        FileKind::Checkpoint => (vec![data_dir.join("checkpoint")], "checkpoint"),
        FileKind::Identity => return Ok(vec![data_dir.join("identity")]),
    };
    let mut found = Vec::new();
    for folder in folders {
        found.extend(entries(&folder)?);
    }
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    found.sort();
    Ok(found)
}

/// Copies a folder and all that is in it.
///
/// # Errors
/// When something cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for path in entries(from)? {
        let target = to.join(name_of(&path));
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Flips one bit of the byte that stands at `share` (0 to 1) of those that are not zero. Returns its position.
///
/// # Errors
/// When the file cannot be read or written, or has zeros only.
pub fn flip_bit(path: &Path, share: f64) -> io::Result<usize> {
    let mut bytes = fs::read(path)?;
    let written: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "any byte near that share will do"
    )]
    let at = (share.clamp(0.0, 1.0) * written.len() as f64) as usize;
    let position = *written
        .get(at.min(written.len().saturating_sub(1)))
        .ok_or_else(|| io::Error::other(format!("{} has zeros only", path.display())))?;
    bytes[position] ^= 0x10;
    fs::write(path, bytes)?;
    Ok(position)
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_a_copy_changes_and_the_original_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (original, copy) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(original.join("journal")).unwrap();
        let name = Path::new("journal").join("000000000001.journal");
        fs::write(original.join(&name), [0, 1, 2, 3, 0, 0]).unwrap();
        copy_folder(&original, &copy).unwrap();
        let found = files(&copy, FileKind::Journal).unwrap();
        assert_eq!(found, [copy.join(&name)]);
        assert_eq!(flip_bit(&found[0], 0.5).unwrap(), 2);
        assert_eq!(fs::read(copy.join(&name)).unwrap(), [0, 1, 0x12, 3, 0, 0]);
        assert_eq!(fs::read(original.join(&name)).unwrap(), [0, 1, 2, 3, 0, 0]);
        assert_eq!(flip_bit(&found[0], 1.0).unwrap(), 3);
    }
}
