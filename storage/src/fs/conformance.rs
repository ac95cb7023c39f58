//! What every implementation of [`Fs`] keeps to.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::{DirEntry, Fs, MemoryFs, RealFs, SimFs};

fn on_each(check: impl Fn(&dyn Fs)) {
    let directory = tempfile::tempdir().unwrap();
    check(&RealFs::new(directory.path()).unwrap());
    check(&SimFs::new(1));
    check(&MemoryFs::new(1 << 20));
}

fn path(name: &str) -> &Path {
    Path::new(name)
}

#[test]
fn created_file_is_zero_and_has_its_length_at_once() {
    on_each(|fs| {
        let file = fs.create(path("file"), 10_000).unwrap();
        assert_eq!(file.len(), 10_000);
        assert_eq!(fs.len(path("file")).unwrap(), Some(10_000));
        let mut bytes = vec![1; 10_000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert!(fs.create(path("file"), 1).unwrap_err().is_already_exists());
        assert!(fs.create(path("empty"), 0).unwrap().is_empty());
    });
}

#[test]
fn missing_names_are_told_apart_from_other_errors() {
    on_each(|fs| {
        assert!(fs.open(path("none")).unwrap_err().is_not_found());
        assert!(fs.remove_file(path("none")).unwrap_err().is_not_found());
        assert!(
            fs.rename(path("none"), path("other"))
                .unwrap_err()
                .is_not_found()
        );
        assert!(fs.create(path("none/file"), 1).unwrap_err().is_not_found());
        assert!(fs.sync_dir(path("none")).unwrap_err().is_not_found());
        assert_eq!(fs.len(path("none")).unwrap(), None);
    });
}

#[test]
fn writes_outside_of_the_file_are_refused() {
    on_each(|fs| {
        let file = fs.create(path("file"), 100).unwrap();
        assert!(file.write_all_at(&[1; 51], 50).is_err());
        assert!(file.write_all_at(&[1], u64::MAX).is_err());
        assert!(file.read_exact_at(&mut [0; 51], 50).is_err());
        assert_eq!(fs.len(path("file")).unwrap(), Some(100));
    });
}

#[test]
fn map_shows_what_is_written_after_it_was_made() {
    on_each(|fs| {
        let file = fs.create(path("file"), 8192).unwrap();
        let map = file.map().unwrap();
        file.write_vectored_all_at(&mut [IoSlice::new(b"one "), IoSlice::new(b"two")], 4094)
            .unwrap();
        map.populate(4094..4101).unwrap();
        assert_eq!(Arc::clone(&map).slice(4094..4101), "one two");
        assert_eq!(map.len(), 8192);
    });
}

#[test]
fn slice_outlives_file_name_handle_and_map() {
    on_each(|fs| {
        let file = fs.create(path("file"), 100).unwrap();
        file.write_all_at(b"kept", 0).unwrap();
        let slice = file.map().unwrap().slice(0..4);
        drop(file);
        fs.remove_file(path("file")).unwrap();
        assert_eq!(slice, "kept");
    });
}

#[test]
fn renamed_file_keeps_bytes_and_handles() {
    on_each(|fs| {
        fs.create_dir_all(path("a/b")).unwrap();
        fs.create_dir_all(path("a/b")).unwrap();
        let file = fs.create(path("file"), 4).unwrap();
        fs.rename(path("file"), path("a/b/other")).unwrap();
        file.write_all_at(b"same", 0).unwrap();
        let mut bytes = [0; 4];
        fs.open(path("a/b/other"))
            .unwrap()
            .read_exact_at(&mut bytes, 0)
            .unwrap();
        assert_eq!(&bytes, b"same");
        fs.sync_dir(path("a/b")).unwrap();
        fs.sync_dir(path("")).unwrap();
        let entry = |name: &str, is_dir| DirEntry {
            name: name.to_owned(),
            is_dir,
        };
        assert_eq!(fs.list(path("")).unwrap(), [entry("a", true)]);
        assert_eq!(fs.list(path("a/b")).unwrap(), [entry("other", false)]);
    });
}

#[test]
fn directory_is_removed_only_when_it_is_empty() {
    on_each(|fs| {
        fs.create_dir_all(path("a")).unwrap();
        fs.create(path("a/file"), 1).unwrap();
        assert!(fs.remove_dir(path("a")).is_err());
        fs.remove_file(path("a/file")).unwrap();
        fs.remove_dir(path("a")).unwrap();
        assert_eq!(fs.list(path("")).unwrap(), []);
    });
}

#[test]
fn lock_is_held_once() {
    on_each(|fs| {
        let held = fs.lock(path("lock")).unwrap();
        assert!(fs.lock(path("lock")).unwrap_err().is_locked());
        drop(held);
        fs.lock(path("lock")).map(drop).unwrap();
    });
}
