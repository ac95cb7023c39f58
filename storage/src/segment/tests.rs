use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::frame::{self, EncodedFrame, Frame, FrameKind, NewFrame};
use crate::fs::{CrashMode, Fault, Fs, Operation, RealFs, SimFs};
use crate::{LogId, Offset, RaftIndex, Term};

const LOG: LogId = LogId(7);
const LIMITS: Limits = Limits {
    open_files: 4,
    pool_bytes: 1 << 20,
};

fn directory() -> &'static Path {
    Path::new("topics/a")
}

fn spec(generation: u32, first_index: u64, base_offset: u64, file_bytes: u64) -> SegmentSpec {
    SegmentSpec {
        generation: Generation(generation),
        salt: 1000 + u64::from(generation),
        first_index: RaftIndex(first_index),
        base_offset: Offset(base_offset),
        file_bytes,
    }
}

fn files(fs: &SimFs) -> Arc<SegmentFiles> {
    SegmentFiles::open(Arc::new(fs.clone()), LIMITS).unwrap()
}

/// A batch of `records` records and `bytes` bytes that says where it stands.
fn batch(index: u64, records: u32, bytes: usize) -> NewFrame {
    let mut payload = vec![u8::try_from(index % 251).unwrap(); bytes.max(frame::MIN_BATCH_BYTES)];
    let crc = crc32c::crc32c(&payload[frame::BATCH_PREFIX_BYTES..]);
    payload[17..21].copy_from_slice(&crc.to_be_bytes());
    new_frame(index, FrameKind::Batch, records, payload.into())
}

fn new_frame(index: u64, kind: FrameKind, record_count: u32, payload: Bytes) -> NewFrame {
    let max_timestamp_ms = 1000 * i64::try_from(index).unwrap();
    NewFrame {
        index: RaftIndex(index),
        term: Term(3),
        kind,
        record_count,
        max_timestamp_ms,
        payload,
    }
}

fn encode(active: &ActiveSegment, frames: &[NewFrame]) -> Vec<EncodedFrame> {
    let mut next_offset = active.end().next_offset;
    let mut encoded = Vec::new();
    for new in frames {
        encoded.push(frame::encode(new, next_offset, active.spec().salt).unwrap());
        next_offset = next_offset.plus(new.record_count);
    }
    encoded
}

fn append(active: &mut ActiveSegment, frames: &[NewFrame]) {
    let encoded = encode(active, frames);
    active.append(&encoded).unwrap();
}

/// A segment with `count` batches of two records and `bytes` bytes each, from index 1 and offset 0.
fn written(files: &Arc<SegmentFiles>, file_bytes: u64, count: u64, bytes: usize) -> ActiveSegment {
    let mut active = files
        .create(LOG, directory(), spec(1, 1, 0, file_bytes))
        .unwrap();
    append(
        &mut active,
        &(1..=count)
            .map(|index| batch(index, 2, bytes))
            .collect::<Vec<_>>(),
    );
    active
}

fn indexes(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.index.0).collect()
}

fn all(segment: &Arc<Segment>) -> super::Result<Vec<Frame>> {
    segment.read_entries(
        segment.spec().first_index,
        segment.end().next_index,
        u64::MAX,
    )
}

#[test]
fn frames_are_read_by_index_and_by_offset() {
    let files = files(&SimFs::new(1));
    let mut active = written(&files, 65536, 3, 100);
    append(
        &mut active,
        &[
            new_frame(4, FrameKind::NoOp, 0, Bytes::new()),
            batch(5, 2, 100),
        ],
    );
    let segment = active.segment();
    assert_eq!(
        indexes(
            &segment
                .read_entries(RaftIndex(2), RaftIndex(5), u64::MAX)
                .unwrap()
        ),
        [2, 3, 4]
    );
    assert_eq!(
        indexes(
            &segment
                .read_records(Offset(3), Offset(8), u64::MAX)
                .unwrap()
        ),
        [2, 3, 5],
        "whole batches only"
    );
    assert_eq!(
        indexes(&segment.read_records(Offset(0), Offset(6), 250).unwrap()),
        [1, 2]
    );
    assert_eq!(
        indexes(&segment.read_records(Offset(4), Offset(8), 1).unwrap()),
        [3],
        "at least one"
    );
    assert!(
        segment
            .read_records(Offset(8), Offset(8), 1)
            .unwrap()
            .is_empty()
    );
    let batch = segment
        .read_records(Offset(2), Offset(4), 1)
        .unwrap()
        .remove(0);
    assert_eq!(
        (batch.base_offset, batch.next_offset()),
        (Offset(2), Offset(4))
    );
    assert_eq!(batch.payload[..8], 2u64.to_be_bytes());
}

#[test]
fn earliest_batch_at_or_after_a_time_is_found() {
    let files = files(&SimFs::new(1));
    let active = written(&files, 1 << 20, 100, 5000);
    let find = |timestamp, upto| {
        active
            .segment()
            .find_timestamp(timestamp, Offset(upto))
            .unwrap()
    };
    assert_eq!(find(0, 200), Some((Offset(0), 1000)));
    assert_eq!(find(50_000, 200), Some((Offset(98), 50_000)));
    assert_eq!(find(50_001, 200), Some((Offset(100), 51_000)));
    assert_eq!(find(50_001, 100), None, "beyond what may be seen");
    assert_eq!(find(100_001, 200), None);
}

#[test]
fn written_frames_are_cached_until_the_segment_is_sealed() {
    let files = files(&SimFs::new(1));
    let active = written(&files, 65536, 3, 100);
    let segment = Arc::clone(active.segment());
    let cached = || {
        segment
            .read_records_cached(Offset(2), Offset(6), u64::MAX)
            .unwrap()
    };
    assert_eq!(indexes(&cached().unwrap()), [2, 3]);
    let _sealed = active.seal();
    assert!(cached().is_none());
    assert_eq!(
        indexes(
            &segment
                .read_records(Offset(2), Offset(6), u64::MAX)
                .unwrap()
        ),
        [2, 3]
    );
}

#[test]
fn reopened_segment_is_cached_once_it_was_checked() {
    let fs = SimFs::new(1);
    let end = written(&files(&fs), 65536, 3, 100).end();
    let mut active = files(&fs)
        .reopen(LOG, directory(), spec(1, 1, 0, 65536), end)
        .unwrap();
    append(&mut active, &[batch(4, 2, 100)]);
    let segment = active.segment();
    assert!(
        segment
            .read_records_cached(Offset(2), Offset(8), u64::MAX)
            .unwrap()
            .is_none()
    );
    assert_eq!(
        indexes(
            &segment
                .read_records_cached(Offset(6), Offset(8), u64::MAX)
                .unwrap()
                .unwrap()
        ),
        [4]
    );
    segment
        .read_records(Offset(0), Offset(6), u64::MAX)
        .unwrap();
    assert_eq!(
        indexes(
            &segment
                .read_records_cached(Offset(2), Offset(8), u64::MAX)
                .unwrap()
                .unwrap()
        ),
        [2, 3, 4]
    );
}

#[test]
fn payloads_are_slices_of_the_map() {
    let directory = tempfile::tempdir().unwrap();
    let fs = Arc::new(RealFs::new(directory.path()).unwrap());
    let files = SegmentFiles::open(fs, LIMITS).unwrap();
    let active = written(&files, 1 << 20, 10, 5000);
    let one = active
        .segment()
        .read_records(Offset(4), Offset(20), 1)
        .unwrap()
        .remove(0)
        .payload;
    let again = active
        .segment()
        .read_records(Offset(0), Offset(20), u64::MAX)
        .unwrap()
        .remove(2)
        .payload;
    assert_eq!(one.as_ptr(), again.as_ptr(), "no copy");
    let sealed = active.seal();
    assert_eq!(all(sealed.segment()).unwrap().len(), 10);
}

#[test]
fn cut_segment_ends_before_the_first_removed_frame() {
    let files = files(&SimFs::new(1));
    for first_removed in 1..=11 {
        let mut sealed = written(&files, 65536, 10, 100).seal();
        let end = sealed.truncate(RaftIndex(first_removed)).unwrap();
        assert_eq!(end.next_index, RaftIndex(first_removed));
        assert_eq!(end.next_offset, Offset(2 * (first_removed - 1)));
        assert_eq!(
            all(sealed.segment()).unwrap().len() as u64,
            first_removed - 1
        );
    }
}

#[test]
fn second_cut_above_the_first_changes_nothing() {
    let files = files(&SimFs::new(1));
    let mut sealed = written(&files, 1 << 20, 100, 5000).seal();
    let end = sealed.truncate(RaftIndex(10)).unwrap();
    assert_eq!(sealed.truncate(RaftIndex(90)).unwrap(), end);
    assert_eq!(sealed.end(), end);
}

#[test]
fn frames_of_a_file_in_its_former_life_are_no_frames() {
    let fs = SimFs::new(1);
    let files = files(&fs);
    files
        .retire(written(&files, 65536, 10, 100).seal())
        .unwrap();
    assert_eq!(files.pool_bytes(), 65536);
    let created_before = fs.steps();
    let mut active = files
        .create(LOG, directory(), spec(2, 1, 0, 65536))
        .unwrap();
    assert_eq!(files.pool_bytes(), 0);
    assert_eq!(
        fs.steps() - created_before,
        2,
        "renamed and given a header, not created"
    );
    append(&mut active, &[batch(1, 2, 100)]);
    let end = active.end();
    drop(active);
    let mut active = files
        .reopen(
            LOG,
            directory(),
            spec(2, 1, 0, 65536),
            spec(2, 1, 0, 65536).start(),
        )
        .unwrap();
    assert_eq!(
        active.recover_tail().unwrap().len(),
        1,
        "the old file had ten"
    );
    assert_eq!(active.end(), end);
}

#[test]
fn file_is_not_given_out_while_a_slice_of_it_lives() {
    let fs = SimFs::new(1);
    let files = files(&fs);
    let sealed = written(&files, 65536, 10, 100).seal();
    let reader = Arc::clone(sealed.segment());
    let slice = reader
        .read_records(Offset(4), Offset(6), 1)
        .unwrap()
        .remove(0)
        .payload;
    let kept = slice.to_vec();
    files.retire(sealed).unwrap();
    assert_eq!(
        indexes(&reader.read_records(Offset(6), Offset(8), 1).unwrap()),
        [4],
        "a reader that came before"
    );
    drop(reader);
    files.collect().unwrap();
    assert_eq!(files.pool_bytes(), 0);
    let _other = written(&files, 65536, 10, 200);
    assert_eq!(slice, kept);
    drop(slice);
    files.collect().unwrap();
    assert_eq!(files.pool_bytes(), 65536);
}

#[test]
fn pool_is_bounded_and_gives_way_when_the_disk_is_full() {
    let fs = SimFs::new(1);
    let files = files(&fs);
    for generation in 1..=20 {
        let active = files
            .create(
                LOG,
                directory(),
                spec(generation + 100, 1, 0, 65536 * u64::from(generation)),
            )
            .unwrap();
        files.retire(active.seal()).unwrap();
    }
    assert!(files.pool_bytes() <= LIMITS.pool_bytes && files.pool_bytes() > LIMITS.pool_bytes / 2);
    fs.set_capacity_bytes(2 << 20);
    let active = files
        .create(LOG, directory(), spec(1, 1, 0, 2 << 20))
        .unwrap();
    assert_eq!(files.pool_bytes(), 0);
    let error = files
        .create(LOG, directory(), spec(2, 1, 0, 65536))
        .unwrap_err();
    assert!(error.is_no_space());
    files.retire(active.seal()).unwrap();
    files
        .create(LOG, directory(), spec(2, 1, 0, 65536))
        .map(drop)
        .unwrap();
}

#[test]
fn pool_is_found_again_at_start() {
    let fs = SimFs::new(1);
    let before = files(&fs);
    before
        .retire(written(&before, 65536, 1, 100).seal())
        .unwrap();
    let after = files(&fs);
    assert_eq!(after.pool_bytes(), 65536);
    let again = after
        .create(LOG, directory(), spec(2, 1, 0, 65536))
        .unwrap();
    after.retire(again.seal()).unwrap();
    assert_eq!(fs.files().len(), 1);
}

#[test]
fn few_files_are_open_and_dirty_ones_stay_open() {
    let fs = SimFs::new(1);
    let files = files(&fs);
    let actives: Vec<_> = (1..=20)
        .map(|generation| {
            let mut active = files
                .create(LOG, directory(), spec(generation, 1, 0, 65536))
                .unwrap();
            append(&mut active, &[batch(1, 2, 100)]);
            active
        })
        .collect();
    assert_eq!(fs.open_handles(), 20);
    for active in &actives {
        active.segment().sync().unwrap();
        assert_eq!(
            active
                .segment()
                .read_records(Offset(0), Offset(2), 1)
                .unwrap()
                .len(),
            1
        );
    }
    files
        .create(LOG, directory(), spec(21, 1, 0, 65536))
        .map(drop)
        .unwrap();
    assert!(
        fs.open_handles() <= 2 * LIMITS.open_files,
        "handle and map: {}",
        fs.open_handles()
    );
    for active in &actives {
        assert_eq!(
            active
                .segment()
                .read_records(Offset(0), Offset(2), 1)
                .unwrap()
                .len(),
            1
        );
    }
    assert!(fs.open_handles() <= 2 * LIMITS.open_files);
}

#[test]
fn durable_frames_survive_power_loss_with_their_names() {
    let fs = SimFs::new(1);
    let files_before = files(&fs);
    let mut active = written(&files_before, 65536, 3, 100);
    let durable = active.segment().sync().unwrap();
    files_before.sync_directory(directory()).unwrap();
    append(&mut active, &[batch(4, 2, 100)]);
    let lost = fs.crash(CrashMode::PowerDropped, 0);
    let mut active = files(&lost)
        .reopen(LOG, directory(), *active.spec(), durable)
        .unwrap();
    assert_eq!(active.recover_tail().unwrap(), []);
    assert_eq!(indexes(&all(active.segment()).unwrap()), [1, 2, 3]);
    append(&mut active, &[batch(4, 2, 100)]);
    assert_eq!(all(active.segment()).unwrap().len(), 4);
}

#[test]
fn journaled_bytes_are_written_again_only_where_they_belong() {
    let fs = SimFs::new(1);
    let active = written(&files(&fs), 65536, 2, 100);
    let encoded = encode(&active, &[batch(3, 2, 100), batch(4, 1, 70)]);
    let bytes: Vec<u8> = encoded.iter().flat_map(EncodedFrame::to_vec).collect();
    let mut again = files(&fs)
        .reopen(LOG, directory(), *active.spec(), active.end())
        .unwrap();
    assert_eq!(again.rewrite(&bytes[8..]).unwrap(), None);
    assert_eq!(
        again.rewrite(&bytes[..bytes.len() - 8]).unwrap(),
        None,
        "half a frame"
    );
    assert_eq!(again.rewrite(&bytes).unwrap().unwrap().len(), 2);
    assert_eq!(again.rewrite(&bytes).unwrap(), None, "they came already");
    assert_eq!(indexes(&all(again.segment()).unwrap()), [1, 2, 3, 4]);
}

#[test]
fn segment_without_durable_frames_is_created_again_in_any_state_of_its_file() {
    let spec = spec(1, 1, 0, 65536);
    for (name, crash) in [
        ("lost", CrashMode::PowerDropped),
        ("kept", CrashMode::PowerKept),
    ] {
        let fs = SimFs::new(1);
        drop(written(&files(&fs), 65536, 3, 100));
        let after = fs.crash(crash, 0);
        let mut active = files(&after)
            .reopen(LOG, directory(), spec, spec.start())
            .unwrap();
        append(&mut active, &[batch(1, 2, 100)]);
        assert_eq!(all(active.segment()).unwrap().len(), 1, "{name}");
    }
    let fs = SimFs::new(1);
    fs.create_dir_all(directory()).unwrap();
    fs.create(&path_of(directory(), spec.generation), 0)
        .unwrap();
    let mut active = files(&fs)
        .reopen(LOG, directory(), spec, spec.start())
        .unwrap();
    append(&mut active, &[batch(1, 2, 100)]);
}

fn hole_of(error: Error) -> Hole {
    match error {
        Error::Damaged { hole, .. } => hole,
        Error::Io(error) => panic!("{error}"),
    }
}

#[test]
fn flipped_bits_are_never_served_and_the_rest_can_be_read() {
    let fs = SimFs::new(1);
    let sealed = written(&files(&fs), 65536, 10, 100).seal();
    let (spec, end) = (*sealed.spec(), sealed.end());
    let whole = all(sealed.segment()).unwrap();
    let frame_bytes = frame::frame_bytes(100);
    for position in header::BLOCK_BYTES..end.position {
        let within = position - header::BLOCK_BYTES;
        let index = 1 + within / frame_bytes;
        if within % frame_bytes >= 56 + 100 {
            continue; // Padding means nothing.
        }
        let damaged = fs.crash(CrashMode::Process, 0);
        damaged.corrupt(sealed.segment().path(), |bytes| {
            bytes[usize::try_from(position).unwrap()] ^= 0x10
        });
        let sealed = files(&damaged).sealed(LOG, directory(), spec, end);
        let hole = hole_of(
            sealed
                .segment()
                .read_entries(RaftIndex(index), end.next_index, u64::MAX)
                .unwrap_err(),
        );
        assert_eq!(
            (hole.from, hole.to),
            (RaftIndex(index), RaftIndex(index + 1)),
            "position {position}"
        );
        assert_eq!(
            (hole.from_offset, hole.to_offset),
            (Offset(2 * (index - 1)), Offset(2 * index))
        );
        let mut frames = Vec::new();
        if index > 1 {
            frames.extend(all(sealed.segment()).unwrap());
        }
        frames.extend(
            sealed
                .segment()
                .read_records(hole.to_offset, end.next_offset, u64::MAX)
                .unwrap(),
        );
        let expected: Vec<_> = whole
            .iter()
            .filter(|frame| frame.index.0 != index)
            .cloned()
            .collect();
        assert_eq!(frames, expected, "position {position}");
    }
}

#[test]
fn frame_in_the_place_of_another_is_damage() {
    let fs = SimFs::new(1);
    let sealed = written(&files(&fs), 65536, 10, 100).seal();
    let (spec, end) = (*sealed.spec(), sealed.end());
    let frame_bytes = usize::try_from(frame::frame_bytes(100)).unwrap();
    fs.corrupt(sealed.segment().path(), |bytes| {
        let at = |index: usize| 4096 + (index - 1) * frame_bytes;
        bytes.copy_within(at(3)..at(4), at(5));
    });
    let sealed = files(&fs).sealed(LOG, directory(), spec, end);
    assert_eq!(indexes(&all(sealed.segment()).unwrap()), [1, 2, 3, 4]);
    let damaged = sealed
        .segment()
        .read_entries(RaftIndex(5), end.next_index, u64::MAX);
    assert_eq!(hole_of(damaged.unwrap_err()).to, RaftIndex(6));
}

#[test]
fn frames_that_were_cut_off_are_not_read_where_a_copy_of_them_lies() {
    let fs = SimFs::new(1);
    let mut sealed = written(&files(&fs), 65536, 10, 100).seal();
    let end = sealed.truncate(RaftIndex(8)).unwrap();
    let spec = *sealed.spec();
    let frame_bytes = usize::try_from(frame::frame_bytes(100)).unwrap();
    fs.corrupt(sealed.segment().path(), |bytes| {
        let at = |index: usize| 4096 + (index - 1) * frame_bytes;
        bytes.copy_within(at(7)..at(10), at(4));
    });
    let sealed = files(&fs).sealed(LOG, directory(), spec, end);
    let damaged = sealed
        .segment()
        .read_entries(RaftIndex(4), end.next_index, u64::MAX);
    assert_eq!(hole_of(damaged.unwrap_err()).to, RaftIndex(7));
    for index in 7..=10 {
        let read = sealed
            .segment()
            .read_entries(RaftIndex(index), RaftIndex(11), u64::MAX);
        assert_eq!(
            indexes(&read.unwrap()),
            if index == 7 { vec![7] } else { vec![] }
        );
    }
}

#[test]
fn zeroed_page_is_a_hole_up_to_the_next_frame() {
    let fs = SimFs::new(1);
    let sealed = written(&files(&fs), 65536, 30, 1000).seal();
    let (spec, end) = (*sealed.spec(), sealed.end());
    fs.corrupt(sealed.segment().path(), |bytes| bytes[8192..12288].fill(0));
    let sealed = files(&fs).sealed(LOG, directory(), spec, end);
    let before = all(sealed.segment()).unwrap();
    let hole = hole_of(
        sealed
            .segment()
            .read_entries(before.last().unwrap().index.next(), end.next_index, 1)
            .unwrap_err(),
    );
    let after = sealed
        .segment()
        .read_entries(hole.to, end.next_index, u64::MAX);
    // The first hole may be the payload's alone; walk on until frames come.
    let mut to = hole.to;
    let mut after = after;
    while let Err(error) = after {
        to = hole_of(error).to;
        after = sealed.segment().read_entries(to, end.next_index, u64::MAX);
    }
    let after = after.unwrap();
    assert_eq!(
        indexes(&before),
        (1..=before.len() as u64).collect::<Vec<_>>()
    );
    assert_eq!(indexes(&after), (to.0..=30).collect::<Vec<_>>());
    assert!(
        to.0 - before.len() as u64 <= 7,
        "four of the frames are gone, and those they reached into"
    );
}

#[test]
fn missing_or_short_file_is_damage_of_all_of_it() {
    let fs = SimFs::new(1);
    let sealed = written(&files(&fs), 65536, 10, 100).seal();
    let (spec, end, path) = (*sealed.spec(), sealed.end(), sealed.segment().path());
    fs.remove_file(&path).unwrap();
    let whole = Hole {
        from: RaftIndex(1),
        to: RaftIndex(11),
        from_offset: Offset(0),
        to_offset: Offset(20),
    };
    let read = || all(files(&fs).sealed(LOG, directory(), spec, end).segment());
    assert_eq!(hole_of(read().unwrap_err()), whole);
    fs.create(&path, 4096).unwrap();
    assert_eq!(hole_of(read().unwrap_err()), whole);
    assert!(files(&fs).reopen(LOG, directory(), spec, end).is_err());
}

#[test]
fn failed_sync_is_final() {
    let fs = SimFs::new(1);
    let mut active = written(&files(&fs), 65536, 3, 100);
    fs.inject(Fault::new(Operation::SyncData, "segment"));
    assert!(active.segment().sync().is_err());
    assert!(
        active.segment().sync().is_err(),
        "though the disk would answer well now"
    );
    let more = encode(&active, &[batch(4, 2, 100)]);
    assert!(active.append(&more).is_err());
    assert_eq!(
        active
            .segment()
            .read_records(Offset(0), Offset(6), u64::MAX)
            .unwrap()
            .len(),
        3,
        "reads go on"
    );
}

#[test]
fn failed_write_is_final_and_shows_nothing() {
    let fs = SimFs::new(1);
    let mut active = written(&files(&fs), 65536, 3, 100);
    fs.inject(Fault::new(Operation::Write, "segment").no_space());
    let more = encode(&active, &[batch(4, 2, 100)]);
    assert!(active.append(&more).is_err());
    assert!(active.append(&more).is_err());
    assert!(active.segment().sync().is_err());
    assert_eq!(all(active.segment()).unwrap().len(), 3);
}

#[test]
fn disk_that_cannot_read_damages_what_was_wanted_and_not_what_stands_beside_it() {
    let fs = SimFs::new(1);
    let sealed = written(&files(&fs), 65536, 3, 100).seal();
    fs.inject(Fault::new(Operation::Populate, "segment"));
    assert_eq!(all(sealed.segment()).unwrap().len(), 3);
    fs.inject(Fault::new(Operation::Populate, "segment").lasting());
    let Err(Error::Damaged { hole, .. }) = all(sealed.segment()) else {
        panic!("it was not read")
    };
    assert_eq!((hole.from, hole.to), (RaftIndex(1), RaftIndex(4)));
    fs.clear_faults();
    assert_eq!(all(sealed.segment()).unwrap().len(), 3);
}

#[test]
fn files_grow_from_the_first_size_to_the_limit_and_beyond_it_only_for_one_frame() {
    assert_eq!(next_file_bytes(None, 65536, 1 << 20, 100), 65536);
    assert_eq!(next_file_bytes(Some(65536), 65536, 1 << 20, 100), 131_072);
    assert_eq!(next_file_bytes(Some(1 << 20), 65536, 1 << 20, 100), 1 << 20);
    assert_eq!(next_file_bytes(None, 65536, 1 << 20, 65536), 131_072);
    assert_eq!(
        next_file_bytes(Some(1 << 20), 65536, 1 << 20, 3 << 20),
        4 << 20
    );
    assert_eq!(
        next_file_bytes(None, 65536, 16384, 100),
        16384,
        "a log smaller than the first size"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn segment_agrees_with_a_list_of_frames(
        shapes in prop::collection::vec((0..4u32, 0..9000usize), 1..80),
        reads in prop::collection::vec((0..90u64, 0..90u64, 0..40_000u64), 20),
        reopen_at in 0..80usize,
    ) {
        let fs = SimFs::new(1);
        let mut active = files(&fs).create(LOG, directory(), spec(1, 1, 0, 1 << 20)).unwrap();
        let mut list: Vec<Frame> = Vec::new();
        for (at, (records, bytes)) in shapes.into_iter().enumerate() {
            let index = at as u64 + 1;
            let new = if records == 0 { new_frame(index, FrameKind::Events, 0, vec![1; bytes].into()) } else { batch(index, records, bytes) };
            let encoded = encode(&active, std::slice::from_ref(&new));
            active.append(&encoded).unwrap();
            let payload = encoded[0].to_vec()[frame::HEADER_BYTES..][..new.payload.len()].to_vec();
            list.push(encoded[0].header().with_payload(payload.into()));
            if at == reopen_at {
                active = files(&fs).reopen(LOG, directory(), *active.spec(), active.end()).unwrap();
            }
        }
        prop_assert_eq!(&all(active.segment()).unwrap(), &list);
        for (from, count, max_bytes) in reads {
            let wanted = |frames: Vec<&Frame>| {
                let mut bytes = 0;
                frames.into_iter().enumerate().take_while(|(at, frame)| {
                    bytes += frame.payload.len() as u64;
                    *at == 0 || bytes <= max_bytes
                }).map(|(_, frame)| frame.clone()).collect::<Vec<_>>()
            };
            let by_index = list.iter().filter(|frame| (from..from + count).contains(&frame.index.0)).collect();
            let read = active.segment().read_entries(RaftIndex(from), RaftIndex(from + count), max_bytes).unwrap();
            prop_assert_eq!(read, wanted(by_index));
            let upto = Offset(from + count);
            let by_offset: Vec<&Frame> = list.iter()
                .filter(|frame| frame.record_count > 0 && frame.next_offset() > Offset(from) && frame.base_offset < upto).collect();
            let read = active.segment().read_records(Offset(from), upto, max_bytes).unwrap();
            prop_assert_eq!(&read, &wanted(by_offset.clone()));
            if let Some(cached) = active.segment().read_records_cached(Offset(from), upto, max_bytes).unwrap() {
                prop_assert_eq!(&read[..cached.len()], &cached[..]);
            }
            let timestamp = i64::try_from(from * 1000 + 1).unwrap();
            let by_time = list.iter().find(|frame| frame.record_count > 0 && frame.max_timestamp_ms >= timestamp);
            let found = active.segment().find_timestamp(timestamp, Offset(u64::MAX)).unwrap();
            prop_assert_eq!(found, by_time.map(|frame| (frame.base_offset, frame.max_timestamp_ms)));
        }
    }

    #[test]
    fn any_bytes_after_the_end_are_no_frames(noise in prop::collection::vec(any::<u8>(), 0..500)) {
        let fs = SimFs::new(1);
        let end = written(&files(&fs), 65536, 3, 100).end();
        let path = path_of(directory(), Generation(1));
        fs.corrupt(&path, |bytes| bytes[usize::try_from(end.position).unwrap()..][..noise.len()].copy_from_slice(&noise));
        let mut active = files(&fs).reopen(LOG, directory(), spec(1, 1, 0, 65536), end).unwrap();
        prop_assert_eq!(active.recover_tail().unwrap(), vec![]);
        prop_assert_eq!(active.end(), end);
    }
}
