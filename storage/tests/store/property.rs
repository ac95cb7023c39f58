//! A log agrees with a list of frames, whatever is done to it.

use std::sync::Arc;

use highwater_storage::fs::{CrashMode, SimFs};
use highwater_storage::{
    AppliedState, Error, Frame, FrameKind, Log, LogId, LogSpec, Offset, RaftIndex, Store, Term,
};
use proptest::prelude::*;

use crate::model::{expected, new_batch, new_frame};
use crate::recovery::{frames_of, open, records_of};

#[derive(Clone, Debug)]
enum Op {
    /// Batches of so many records and bytes.
    Append(Vec<(u32, usize)>),
    Events(usize),
    /// Removes a part of the log, in 256ths.
    Truncate(u8),
    Roll,
    /// Begins anew so many indexes and records further on.
    Install(u64, u32),
    Checkpoint,
    /// The process ends, by itself or not.
    Reopen(CrashMode),
    ReadEntries(u8, u8, u64),
    ReadRecords(u8, u8, u64),
    FindTime(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let mode = prop_oneof![
        Just(CrashMode::Process),
        Just(CrashMode::PowerDropped),
        Just(CrashMode::PowerTorn)
    ];
    let op = prop_oneof![
        6 => prop::collection::vec((1..5u32, 61..4000usize), 1..4).prop_map(Op::Append),
        1 => (0..600usize).prop_map(Op::Events),
        1 => any::<u8>().prop_map(Op::Truncate),
        1 => Just(Op::Roll),
        1 => (0..9u64, 0..9u32).prop_map(|(indexes, records)| Op::Install(indexes, records)),
        1 => Just(Op::Checkpoint),
        1 => mode.prop_map(Op::Reopen),
        3 => (any::<u8>(), any::<u8>(), 0..20_000u64).prop_map(|(from, to, max)| Op::ReadEntries(from, to, max)),
        3 => (any::<u8>(), any::<u8>(), 0..20_000u64).prop_map(|(from, to, max)| Op::ReadRecords(from, to, max)),
        2 => any::<u8>().prop_map(Op::FindTime),
    ];
    prop::collection::vec(op, 1..40)
}

/// A log, and the list of its frames.
struct Pair {
    fs: SimFs,
    store: Arc<Store>,
    log: Log,
    list: Vec<Frame>,
    /// The state that the log follows, and its first offset.
    base: AppliedState,
    base_offset: Offset,
}

impl Pair {
    fn new() -> Self {
        let fs = SimFs::new(1);
        let store = open(&fs, 1).unwrap().store;
        let mut turn = store.turn();
        let spec = LogSpec {
            directory: "topics/t/1".to_owned(),
            max_segment_bytes: 16384,
            write_caching: false,
        };
        let log = store
            .create_log(&mut turn, LogId(1), spec, AppliedState::default())
            .unwrap();
        store.submit(turn);
        store.sync().unwrap();
        Self {
            fs,
            store,
            log,
            list: Vec::new(),
            base: AppliedState::default(),
            base_offset: Offset(0),
        }
    }

    fn next_index(&self) -> RaftIndex {
        RaftIndex(self.base.index.0 + self.list.len() as u64 + 1)
    }

    fn next_offset(&self) -> Offset {
        let last = self.list.last();
        last.map_or(self.base_offset, Frame::next_offset)
    }

    fn records(&self) -> u64 {
        self.next_offset().0 - self.base_offset.0
    }

    /// The position in 256ths of a count of things.
    fn part(&self, of: u8, count: u64) -> u64 {
        count * u64::from(of) / 256
    }

    fn append(&mut self, new: Vec<highwater_storage::NewFrame>) {
        let mut turn = self.store.turn();
        self.log.append(&mut turn, &new).unwrap();
        self.store.submit(turn);
        for new in new {
            self.list.push(expected(&new, self.next_offset()));
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(shapes) => {
                let first = self.next_index().0;
                let new = shapes.iter().zip(first..).map(|((records, len), index)| {
                    new_batch(RaftIndex(index), Term(1), *records, *len, index)
                });
                self.append(new.collect());
            }
            Op::Events(len) => {
                let new = new_frame(
                    self.next_index(),
                    Term(1),
                    FrameKind::Events,
                    0,
                    vec![3; *len],
                );
                self.append(vec![new]);
            }
            Op::Truncate(part) => {
                let kept = self.part(*part, self.list.len() as u64);
                let first_removed = RaftIndex(self.base.index.0 + kept + 1);
                if first_removed < self.next_index() {
                    let mut turn = self.store.turn();
                    self.log.truncate_suffix(&mut turn, first_removed).unwrap();
                    self.store.submit(turn);
                    self.list.retain(|frame| frame.index < first_removed);
                }
            }
            Op::Roll => self.log.roll(),
            Op::Install(indexes, records) => self.install(*indexes, *records),
            Op::Checkpoint => {
                let mut checkpoint = self.store.begin_checkpoint().unwrap();
                checkpoint.sync_segments().unwrap();
                checkpoint
                    .finish(vec![self.log.capture(self.base.clone())])
                    .unwrap();
            }
            Op::Reopen(mode) => self.reopen(*mode),
            Op::ReadEntries(from, to, max_bytes) => self.read_entries(*from, *to, *max_bytes),
            Op::ReadRecords(from, to, max_bytes) => self.read_records(*from, *to, *max_bytes),
            Op::FindTime(at) => self.find_time(*at),
        }
    }

    fn install(&mut self, indexes: u64, records: u32) {
        let index = RaftIndex(self.next_index().0 + indexes);
        let applied = AppliedState {
            index,
            term: Term(1),
            conf_state: vec![1; 9].into(),
            snapshot: vec![2; usize::try_from(index.0).unwrap()].into(),
        };
        let next_offset = self.next_offset().plus(records);
        let mut turn = self.store.turn();
        self.log
            .install_snapshot(&mut turn, applied.clone(), next_offset, Offset(0))
            .unwrap();
        self.store.submit(turn);
        self.list.clear();
        (self.base, self.base_offset) = (applied, next_offset);
    }

    fn reopen(&mut self, mode: CrashMode) {
        self.store.sync().unwrap();
        self.fs = self.fs.crash(mode, self.list.len() as u64);
        let mut opened = open(&self.fs, self.list.len() as u64).unwrap();
        self.store = opened.store;
        let recovered = opened.logs.remove(0);
        assert_eq!(recovered.damage, None);
        assert_eq!(recovered.applied, self.base);
        self.log = recovered.log;
    }

    fn read_entries(&self, from: u8, to: u8, max_bytes: u64) {
        let count = self.list.len() as u64;
        let (from, to) = (self.part(from, count), self.part(to, count) + 1);
        if from >= to || from >= count {
            return;
        }
        let first = self.base.index.0 + 1;
        let (from, to) = (first + from, RaftIndex(first + to.min(count)));
        let read = self.log.read(RaftIndex(from), to, max_bytes).unwrap();
        let wanted = self
            .list
            .iter()
            .filter(|frame| frame.index.0 >= from && frame.index < to);
        let wanted: Vec<_> = wanted.collect();
        assert_begins(&wanted, &read, max_bytes);
        // What is not at hand is in a file.
        let from = RaftIndex(from);
        let again = match self.log.read_cached(from, to, max_bytes).unwrap() {
            Some(cached) => cached,
            None => self.log.reader().entries(from, to, max_bytes).unwrap(),
        };
        assert_begins(&wanted, &again, max_bytes);
    }

    fn read_records(&self, from: u8, to: u8, max_bytes: u64) {
        let (first, count) = (self.base_offset.0, self.records());
        let from = Offset(first + self.part(from, count));
        let to = Offset(first + self.part(to, count + 1));
        // A reader sees up to a high watermark, which is between two batches.
        let upto = self
            .list
            .iter()
            .map(Frame::next_offset)
            .filter(|next| *next <= to)
            .max();
        let upto = upto.unwrap_or(self.base_offset);
        if from >= upto {
            return;
        }
        let wanted: Vec<_> = self
            .list
            .iter()
            .filter(|frame| {
                frame.record_count > 0 && frame.next_offset() > from && frame.base_offset < upto
            })
            .collect();
        let reader = self.log.reader();
        let read = reader.read(from, upto, max_bytes).unwrap().frames;
        assert_begins(&wanted, &read, max_bytes);
        if let Some(cached) = reader.read_cached(from, upto, max_bytes).unwrap() {
            assert_begins(&wanted, &cached.frames, max_bytes);
        }
    }

    fn find_time(&self, at: u8) {
        let timestamp_ms = i64::try_from(self.part(at, 10 * self.next_index().0 + 20)).unwrap();
        let found = self
            .log
            .reader()
            .offset_for_timestamp(timestamp_ms, self.next_offset())
            .unwrap();
        let wanted = self
            .list
            .iter()
            .find(|frame| frame.record_count > 0 && frame.max_timestamp_ms >= timestamp_ms);
        assert_eq!(
            found,
            wanted.map(|frame| (frame.base_offset, frame.max_timestamp_ms))
        );
    }

    fn compare(&self) {
        assert_eq!(self.log.last_index().next(), self.next_index());
        assert_eq!(self.log.next_offset(), self.next_offset());
        assert_eq!(frames_of(&self.log), self.list);
        let records: Vec<_> = self
            .list
            .iter()
            .filter(|frame| frame.record_count > 0)
            .cloned()
            .collect();
        assert_eq!(records_of(&self.log, self.base_offset), records);
        for frame in &self.list {
            assert_eq!(self.log.term_at(frame.index).unwrap(), Some(frame.term));
        }
        assert_eq!(self.log.term_at(self.next_index()).unwrap(), None);
        let outside =
            self.log
                .reader()
                .read(self.next_offset().plus(1), self.next_offset().plus(2), 1);
        assert!(
            matches!(outside, Err(Error::OffsetOutOfRange { .. })),
            "{outside:?}"
        );
    }
}

/// `read` is a first part of `wanted`, at least one frame, within `max_bytes` but for the first.
fn assert_begins(wanted: &[&Frame], read: &[Frame], max_bytes: u64) {
    assert_eq!(read.is_empty(), wanted.is_empty());
    assert!(
        read.len() <= wanted.len()
            && read
                .iter()
                .zip(wanted)
                .all(|(read, wanted)| read == *wanted)
    );
    let bytes: usize = read.iter().map(|frame| frame.payload.len()).sum();
    assert!(
        read.len() <= 1 || bytes as u64 <= max_bytes,
        "{bytes} bytes instead of {max_bytes}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn log_agrees_with_a_list_of_frames(ops in ops()) {
        let mut pair = Pair::new();
        for op in &ops {
            pair.apply(op);
        }
        pair.compare();
        pair.reopen(CrashMode::PowerDropped);
        pair.compare();
    }
}
