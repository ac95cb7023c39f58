use super::*;

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A disk with one synced file of two pages.
fn with_file() -> (SimFs, Arc<dyn File>) {
    let fs = SimFs::new(1);
    let file = fs.create(path("file"), 8192).unwrap();
    file.write_all_at(b"old", 0).unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(path("")).unwrap();
    (fs, file)
}

fn bytes_of(fs: &SimFs, name: &str) -> Vec<u8> {
    fs.files().remove(name).unwrap()
}

#[test]
fn power_loss_drops_what_was_not_synced() {
    let (fs, file) = with_file();
    file.write_all_at(b"new", 0).unwrap();
    assert_eq!(
        bytes_of(&fs.crash(CrashMode::PowerDropped, 0), "file")[..3],
        *b"old"
    );
    assert_eq!(
        bytes_of(&fs.crash(CrashMode::PowerKept, 0), "file")[..3],
        *b"new"
    );
    file.sync_data().unwrap();
    assert_eq!(
        bytes_of(&fs.crash(CrashMode::PowerDropped, 0), "file")[..3],
        *b"new"
    );
}

#[test]
fn process_crash_leaves_the_cache_unsynced() {
    let (fs, file) = with_file();
    file.write_all_at(b"new", 0).unwrap();
    let survived = fs.crash(CrashMode::Process, 0);
    assert_eq!(bytes_of(&survived, "file")[..3], *b"new");
    assert_eq!(survived.boot_id(), fs.boot_id());
    let lost = survived.crash(CrashMode::PowerDropped, 0);
    assert_eq!(bytes_of(&lost, "file")[..3], *b"old");
    assert_ne!(lost.boot_id(), fs.boot_id());
}

#[test]
fn torn_writes_are_torn_at_sectors_and_apart_from_each_other() {
    let (fs, file) = with_file();
    file.write_all_at(&[1; 1024], 0).unwrap();
    file.write_all_at(&[2; 1024], 4096).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..2000 {
        let bytes = bytes_of(&fs.crash(CrashMode::PowerTorn, seed), "file");
        for sector in bytes[512..].chunks(512) {
            assert!(
                sector.iter().all(|byte| *byte == sector[0]),
                "a sector is written as one"
            );
        }
        seen.insert([bytes[0], bytes[512], bytes[4096], bytes[4608]]);
    }
    assert_eq!(seen.len(), 16, "each of the four sectors is lost or kept");
}

#[test]
fn later_write_to_a_sector_carries_the_earlier_one() {
    let (fs, file) = with_file();
    file.write_all_at(b"A", 100).unwrap();
    file.write_all_at(b"B", 101).unwrap();
    for seed in 0..100 {
        let bytes = bytes_of(&fs.crash(CrashMode::PowerTorn, seed), "file");
        assert!([&[0, 0], b"A\0", b"AB"].contains(&bytes[100..102].try_into().unwrap()));
    }
}

#[test]
fn name_is_lost_until_its_directory_is_synced() {
    let (fs, _) = with_file();
    fs.create_dir_all(path("dir")).unwrap();
    fs.rename(path("file"), path("dir/file")).unwrap();
    assert_eq!(
        fs.crash(CrashMode::PowerDropped, 0)
            .files()
            .into_keys()
            .collect::<Vec<_>>(),
        ["file"]
    );
    fs.sync_dir(path("")).unwrap();
    assert_eq!(
        fs.crash(CrashMode::PowerDropped, 0)
            .files()
            .into_keys()
            .collect::<Vec<_>>(),
        ["dir/file"]
    );
}

#[test]
fn file_in_a_lost_directory_is_lost() {
    let fs = SimFs::new(1);
    fs.create_dir_all(path("dir")).unwrap();
    fs.create(path("dir/file"), 1).unwrap();
    fs.sync_dir(path("dir")).unwrap();
    assert!(fs.crash(CrashMode::PowerDropped, 0).files().is_empty());
}

#[test]
fn torn_renames_are_whole_and_in_the_order_of_their_directory() {
    let (fs, _) = with_file();
    fs.create_dir_all(path("dir")).unwrap();
    fs.sync_dir(path("")).unwrap();
    fs.rename(path("file"), path("dir/file")).unwrap();
    fs.create(path("dir/later"), 1).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let names = fs
            .crash(CrashMode::PowerTorn, seed)
            .files()
            .into_keys()
            .collect::<Vec<_>>();
        seen.insert(names.join(" "));
    }
    let lawful = ["dir/file", "dir/file dir/later", "file"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(lawful));
}

#[test]
fn unsynced_length_can_be_lost_with_the_name_kept() {
    let fs = SimFs::new(1);
    fs.create(path("file"), 4096).unwrap();
    fs.sync_dir(path("")).unwrap();
    assert_eq!(
        bytes_of(&fs.crash(CrashMode::PowerDropped, 0), "file").len(),
        0
    );
    assert_eq!(
        bytes_of(&fs.crash(CrashMode::PowerKept, 0), "file").len(),
        4096
    );
}

#[test]
fn sync_after_a_failed_one_does_not_make_the_lost_bytes_durable() {
    let mut lost = 0;
    for seed in 0..20 {
        let fs = SimFs::new(seed);
        let file = fs.create(path("file"), 4096).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir(path("")).unwrap();
        file.write_all_at(b"new", 0).unwrap();
        fs.inject(Fault::new(Operation::SyncData, "file"));
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        assert_eq!(
            bytes_of(&fs, "file")[..3],
            *b"new",
            "the cache still shows them"
        );
        lost += usize::from(bytes_of(&fs.crash(CrashMode::PowerDropped, 0), "file")[..3] == [0; 3]);
    }
    assert!((1..20).contains(&lost));
}

#[test]
fn faults_strike_when_and_where_they_were_asked_for() {
    let (fs, file) = with_file();
    fs.inject(Fault::new(Operation::Write, "other"));
    fs.inject(Fault::new(Operation::Write, "fil").after(1).no_space());
    file.write_all_at(b"1", 0).unwrap();
    assert!(file.write_all_at(b"2", 0).unwrap_err().is_no_space());
    file.write_all_at(b"3", 0).unwrap();
    fs.inject(Fault::new(Operation::Read, "file").lasting());
    file.read_exact_at(&mut [0], 0).unwrap_err();
    file.read_exact_at(&mut [0], 0).unwrap_err();
    fs.clear_faults();
    file.read_exact_at(&mut [0], 0).unwrap();
}

#[test]
fn capacity_counts_named_and_open_files() {
    let (fs, file) = with_file();
    fs.set_capacity_bytes(10_000);
    assert!(fs.create(path("more"), 4096).unwrap_err().is_no_space());
    fs.remove_file(path("file")).unwrap();
    assert_eq!(fs.free_bytes().unwrap(), 10_000 - 8192);
    drop(file);
    assert_eq!(fs.free_bytes().unwrap(), 10_000);
}

#[test]
fn dead_process_does_nothing_more() {
    let (fs, file) = with_file();
    fs.crash_at(fs.steps() + 1);
    file.write_all_at(b"last", 0).unwrap();
    file.sync_data().unwrap_err();
    fs.create(path("other"), 1).unwrap_err();
    assert_eq!(
        bytes_of(&fs.crash(CrashMode::PowerDropped, 0), "file")[..3],
        *b"old"
    );
}

#[test]
fn images_are_the_disk_after_each_step() {
    let (fs, file) = with_file();
    fs.record_images();
    file.write_all_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    let images = fs.take_images();
    assert_eq!(
        images
            .iter()
            .map(|image| image.operation)
            .collect::<Vec<_>>(),
        [Operation::Write, Operation::SyncData]
    );
    assert_eq!(
        bytes_of(&images[0].crash(CrashMode::PowerDropped, 0), "file")[..3],
        *b"old"
    );
    assert_eq!(
        bytes_of(&images[1].crash(CrashMode::PowerDropped, 0), "file")[..3],
        *b"new"
    );
}

#[test]
#[should_panic(expected = "change below a slice")]
fn writing_below_a_slice_is_caught() {
    let (_fs, file) = with_file();
    let _slice = file.map().unwrap().slice(0..3);
    file.write_all_at(b"old", 0).unwrap();
    file.write_all_at(b"new", 0).unwrap();
}

#[test]
fn corruption_is_durable_and_silent() {
    let (fs, _) = with_file();
    fs.corrupt("file", |bytes| bytes[1] ^= 4);
    assert_eq!(bytes_of(&fs, "file")[..3], *b"ohd");
    assert_eq!(
        bytes_of(&fs.crash(CrashMode::PowerDropped, 0), "file")[..3],
        *b"ohd"
    );
}
