//! A disk without room. Needs the right to mount a small file system; without it the tests say so and do nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_proto::Reason;
use highwater_tests::checker::FinalLog;
use highwater_tests::history::SendOutcome;
use highwater_tests::process::Setup;
use highwater_tests::workload::{Load, Sizes, WriterKind, read_all};

use crate::scene::{Scene, setup};

const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 48 * MIB;
/// Free bytes below which the broker must refuse to store more.
const FLOOR_BYTES: u64 = 8 * MIB;

/// A file system of its own, unmounted in the end.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={DISK_BYTES}"))
            .arg("highwater-test")
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { folder }),
            Ok(output) => {
                let reason = String::from_utf8_lossy(&output.stderr).into_owned();
                println!("skipped: cannot mount a small file system: {reason}");
                None
            }
            Err(error) => {
                println!("skipped: cannot run mount: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Takes space until `left_bytes` are free.
    fn fill(&self, left_bytes: u64) -> Ballast {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).unwrap();
        let block = vec![0_u8; 64 << 10];
        while self.free_bytes() > left_bytes {
            let wanted = (self.free_bytes() - left_bytes).min(block.len() as u64);
            let wanted = usize::try_from(wanted).unwrap();
            if file.write_all(&block[..wanted]).is_err() {
                break;
            }
        }
        Ballast { path }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whatever still has files open there keeps them until it ends.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Something that takes space until it is dropped.
struct Ballast {
    path: PathBuf,
}

impl Drop for Ballast {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

fn setup_on(disk: &SmallDisk) -> Setup {
    setup()
        .data_dir(disk.path().join("data"))
        .set("storage.min_free_bytes", FLOOR_BYTES)
        .set("storage.reserve_bytes", MIB)
        .set("storage.journal_file_bytes", 256 << 10)
        .set("storage.checkpoint_interval_bytes", MIB)
        .set("storage.pool_bytes", MIB)
        .set("upkeep.disk_check_ms", 20)
        .set("upkeep.retention_check_ms", 50)
}

/// Waits until a writer that sends everything once was refused for want of space.
fn wait_for_refusal(load: &Load) {
    load.wait_for("a batch that the disk has no room for", |ledger| {
        ledger.sends.iter().any(|send| {
            matches!(&send.outcome, Some((_, SendOutcome::Refused { reason }))
                if reason == Reason::DiskFull.name())
        })
    })
    .unwrap();
}

#[test]
fn a_full_disk_refuses_records_until_there_is_room_and_keeps_its_promises() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let scene = Scene::new(setup_on(&disk));
    let places = scene.topic("events", 2, &[("segment.bytes", "262144")]);
    let load = scene.load(places.clone()).everything();
    load.wait_for_acks(300).unwrap();
    for left_bytes in [FLOOR_BYTES / 2, 0] {
        let ballast = disk.fill(left_bytes);
        wait_for_refusal(&load);
        // Nothing more is stored, and everything that is can be read.
        let acked = load.history().note(|ledger| ledger.acked_records());
        let read = |at: usize| -> FinalLog {
            let mut router = scene.router();
            let reading = read_all(&mut router, places[at], load.history());
            scene.runtime.block_on(reading).unwrap()
        };
        let held: u64 = (0..places.len())
            .map(|at| read(at).records.len() as u64)
            .sum();
        assert!(held >= acked, "{held} of {acked} records can be read");
        drop(ballast);
        load.wait_for_acks(200).unwrap();
    }
    let (summary, _) = Scene::judge(load, &[]);
    assert!(summary.refused > 0, "{summary}");
}

#[test]
fn deleting_a_topic_makes_room_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let scene = Scene::new(setup_on(&disk));
    let segments = ("segment.bytes", "1048576");
    let kept = scene.topic("kept", 1, &[segments]);
    let doomed = scene.topic("doomed", 1, &[segments]);
    let sizes = Sizes {
        max_batch_records: 8,
        max_filler_bytes: 20_000,
    };
    let filler = Load::new(
        scene.runtime.handle(),
        vec![scene.broker.address()],
        doomed,
        sizes,
    )
    .writer(WriterKind::UnaryPlain)
    .writer(WriterKind::UnaryPlain);
    wait_for_refusal(&filler);
    drop(filler);
    let load = scene.load(kept).everything();
    load.wait_for("a refusal of the other topic too", |ledger| {
        ledger
            .sends
            .iter()
            .any(|send| matches!(send.outcome, Some((_, SendOutcome::Refused { .. }))))
    })
    .unwrap();
    // To the last byte: what a delete needs is set aside.
    let _ballast = disk.fill(0);
    scene.call(|| scene.api.delete_topic("doomed")).unwrap();
    load.wait_for_acks(300).unwrap();
    Scene::judge(load, &[]);
}
