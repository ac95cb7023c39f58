//! What is remembered of idempotent producers, so that each batch is stored once however often it is sent.
//!
//! A producer numbers its records per partition: 0, 1, ... [`i32::MAX`], 0 (KIP-98). The partition remembers per
//! producer its newest epoch, how far that epoch's unbroken sequence goes, and where the last
//! [`REMEMBERED_BATCHES`] batches stand; a producer must not have more than that in flight.
//!
//! A batch of a producer that is not remembered is taken only when it begins with sequence 0. Kafka takes any sequence
//! then (its table could lose producers to retention); here the table is part of the replicated state, and an unknown
//! producer with a later sequence is one whose first batch is still on its way or was refused. Taking the later batch
//! first would store the two in the wrong order. The same rule makes "stored before" provable: everything from the
//! start of the epoch to the last sequence is in the log.
//!
//! How long a producer was silent is measured by times that leaders note in the log ([`ProducerTable::note_time`]),
//! not by its records' timestamps: a producer may replay events that are years old.

use std::collections::{HashMap, VecDeque};

use highwater_proto::batch::ProducerStamp;
use highwater_proto::internal::v1 as wire;
use highwater_proto::{ProducerEpoch, ProducerId, REMEMBERED_BATCHES, Sequence};
use highwater_storage::Offset;

use crate::raft::machine::Timestamp;

/// A sequence at least this far behind the last one is taken for one that lies ahead: half of the circle.
const HALF_CIRCLE: u64 = 1 << 30;
const CIRCLE: u64 = 1 << 31;

/// How far a producer got in its newest epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Its newest epoch.
    pub(super) epoch: ProducerEpoch,
    /// The sequence that comes next.
    pub(super) next: Sequence,
    /// Records stored in this epoch, up to `next`, without a gap.
    pub(super) records: u64,
}

/// Where a batch lies, seen from its producer's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Right behind the last one, or first of a newer epoch: append it.
    Next,
    /// All of its records are stored.
    Stored,
    /// Records before it, or between it and its epoch's first, are missing; or it overlaps the end of what is stored.
    OutOfOrder,
    /// Its epoch is older than the newest.
    Fenced,
}

impl Progress {
    /// The progress of a producer that begins with this batch.
    pub(super) fn begin(stamp: &ProducerStamp, record_count: u32) -> Self {
        Self {
            epoch: stamp.epoch,
            next: stamp.sequence.plus(record_count),
            records: u64::from(record_count),
        }
    }

    /// The progress after this batch. A batch that does not follow begins anew: that happens with a new epoch and
    /// behind a hole whose loss an operator accepted.
    pub(super) fn after(self, stamp: &ProducerStamp, record_count: u32) -> Self {
        if stamp.epoch != self.epoch || stamp.sequence != self.next {
            return Self::begin(stamp, record_count);
        }
        Self {
            epoch: self.epoch,
            next: self.next.plus(record_count),
            records: self.records.saturating_add(u64::from(record_count)),
        }
    }

    /// Where a batch with this stamp lies.
    pub(super) fn place(&self, stamp: &ProducerStamp, record_count: u32) -> Place {
        if stamp.epoch < self.epoch {
            return Place::Fenced;
        }
        if stamp.epoch > self.epoch {
            return if stamp.sequence == Sequence(0) {
                Place::Next
            } else {
                Place::OutOfOrder
            };
        }
        if stamp.sequence == self.next {
            return Place::Next;
        }
        // Records from the batch's first to the last stored one, around the circle.
        let reach = distance(stamp.sequence, self.next);
        let count = u64::from(record_count);
        if reach <= self.records && reach < HALF_CIRCLE && reach >= count {
            Place::Stored
        } else {
            Place::OutOfOrder
        }
    }
}

/// Steps from `from` up to `to` on the circle of sequences.
fn distance(from: Sequence, to: Sequence) -> u64 {
    let steps = i64::from(to.0) - i64::from(from.0);
    steps.rem_euclid(CIRCLE.cast_signed()).unsigned_abs()
}

/// Where a batch of a producer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredBatch {
    /// Sequence of its first record.
    pub(super) sequence: Sequence,
    /// Its records.
    pub(super) record_count: u32,
    /// Offset of its first record.
    pub(super) base_offset: Offset,
    /// The time that the leader gave it; `None` where its producer dated it.
    pub(super) log_append_time: Option<Timestamp>,
}

impl StoredBatch {
    /// Whether a batch with this stamp (and the same epoch) is this one, sent again.
    pub(super) fn is(&self, stamp: &ProducerStamp, record_count: u32) -> bool {
        self.sequence == stamp.sequence && self.record_count == record_count
    }
}

/// What is remembered of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    progress: Progress,
    /// Newest batches of the epoch, oldest first; one at least.
    batches: VecDeque<StoredBatch>,
    /// `None`: since the last noted time.
    last_seen: Option<Timestamp>,
}

/// The producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerTable {
    producers: HashMap<ProducerId, Producer>,
}

impl ProducerTable {
    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    pub(super) fn contains(&self, id: ProducerId) -> bool {
        self.producers.contains_key(&id)
    }

    pub(super) fn progress(&self, id: ProducerId) -> Option<Progress> {
        self.producers.get(&id).map(|producer| producer.progress)
    }

    /// The remembered batch that a batch with this stamp repeats.
    pub(super) fn duplicate(
        &self,
        stamp: &ProducerStamp,
        record_count: u32,
    ) -> Option<StoredBatch> {
        let producer = self.producers.get(&stamp.id)?;
        if producer.progress.epoch != stamp.epoch {
            return None;
        }
        let found = |batch: &&StoredBatch| batch.is(stamp, record_count);
        producer.batches.iter().find(found).copied()
    }

    /// Remembers a batch that is in the log. One that does not follow its producer's last one, which happens with a new
    /// epoch and behind a hole whose loss an operator accepted, is where the producer begins anew.
    pub(super) fn store(&mut self, stamp: &ProducerStamp, batch: StoredBatch) {
        let count = batch.record_count;
        let producer = self.producers.entry(stamp.id).or_insert_with(|| Producer {
            progress: Progress {
                epoch: stamp.epoch,
                next: stamp.sequence,
                records: 0,
            },
            batches: VecDeque::with_capacity(1),
            last_seen: None,
        });
        let follows =
            producer.progress.epoch == stamp.epoch && producer.progress.next == stamp.sequence;
        if !follows {
            producer.batches.clear();
        }
        producer.progress = producer.progress.after(stamp, count);
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
        producer.last_seen = None;
    }

    /// Forgets producers; ids that are not remembered are passed over.
    pub(super) fn forget(&mut self, ids: impl IntoIterator<Item = ProducerId>) {
        for id in ids {
            self.producers.remove(&id);
        }
    }

    /// A leader noted the time: producers that wrote since the last note were last seen now.
    pub(super) fn note_time(&mut self, now: Timestamp) {
        for producer in self.producers.values_mut() {
            producer.last_seen.get_or_insert(now);
        }
    }

    /// Whether a producer wrote since the last noted time.
    pub(super) fn wants_time(&self) -> bool {
        self.producers
            .values()
            .any(|producer| producer.last_seen.is_none())
    }

    /// Producers last seen `silence_ms` ago or earlier, by id.
    pub(super) fn silent(&self, now: Timestamp, silence_ms: u64) -> Vec<ProducerId> {
        let is_silent = |producer: &Producer| {
            producer.last_seen.is_some_and(|seen| {
                u64::try_from(now.0.saturating_sub(seen.0)).is_ok_and(|silent| silent >= silence_ms)
            })
        };
        let mut ids: Vec<_> = self
            .producers
            .iter()
            .filter(|(_, producer)| is_silent(producer))
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The table for a snapshot, by id.
    pub(super) fn encode(&self) -> Vec<wire::ProducerState> {
        let mut states: Vec<_> = self
            .producers
            .iter()
            .map(|(id, producer)| producer.encode(*id))
            .collect();
        states.sort_unstable_by_key(|state| state.producer_id);
        states
    }

    /// The table of a snapshot; the error says which producer makes no sense.
    pub(super) fn decode(states: Vec<wire::ProducerState>) -> Result<Self, String> {
        let mut producers = HashMap::with_capacity(states.len());
        for state in states {
            let id = ProducerId(state.producer_id);
            let producer = Producer::decode(state)
                .ok_or_else(|| format!("the state of producer {id} makes no sense"))?;
            if producers.insert(id, producer).is_some() {
                return Err(format!("producer {id} stands twice"));
            }
        }
        Ok(Self { producers })
    }
}

impl Producer {
    fn encode(&self, id: ProducerId) -> wire::ProducerState {
        wire::ProducerState {
            producer_id: id.0,
            epoch: u32::from(self.progress.epoch.0.cast_unsigned()),
            records: self.progress.records,
            last_seen_ms: self.last_seen.map(|seen| seen.0),
            batches: self.batches.iter().map(StoredBatch::encode).collect(),
        }
    }

    fn decode(state: wire::ProducerState) -> Option<Self> {
        if state.batches.len() > REMEMBERED_BATCHES {
            return None;
        }
        let batches: VecDeque<_> = state
            .batches
            .into_iter()
            .map(StoredBatch::decode)
            .collect::<Option<_>>()?;
        let last = batches.back()?;
        let progress = Progress {
            epoch: ProducerEpoch(i16::try_from(state.epoch).ok()?),
            next: last.sequence.plus(last.record_count),
            records: state.records,
        };
        Some(Self {
            progress,
            batches,
            last_seen: state.last_seen_ms.map(Timestamp),
        })
    }
}

impl StoredBatch {
    fn encode(&self) -> wire::StoredBatch {
        wire::StoredBatch {
            sequence: self.sequence.0.cast_unsigned(),
            record_count: self.record_count,
            base_offset: self.base_offset.0,
            log_append_time_ms: self.log_append_time.map(|time| time.0),
        }
    }

    fn decode(batch: wire::StoredBatch) -> Option<Self> {
        Some(Self {
            sequence: Sequence(i32::try_from(batch.sequence).ok()?),
            record_count: batch.record_count,
            base_offset: Offset(batch.base_offset),
            log_append_time: batch.log_append_time_ms.map(Timestamp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(epoch: i16, sequence: i32) -> ProducerStamp {
        ProducerStamp {
            id: ProducerId(7),
            epoch: ProducerEpoch(epoch),
            sequence: Sequence(sequence),
        }
    }

    fn progress(next: i32, records: u64) -> Progress {
        Progress {
            epoch: ProducerEpoch(3),
            next: Sequence(next),
            records,
        }
    }

    #[test]
    fn a_batch_is_next_stored_out_of_order_or_fenced() {
        let ten = progress(10, 10);
        for (epoch, sequence, count, place) in [
            (3, 10, 4, Place::Next),
            (3, 6, 4, Place::Stored),
            (3, 0, 1, Place::Stored),
            (3, 0, 10, Place::Stored),
            (3, 0, 11, Place::OutOfOrder),
            (3, 9, 2, Place::OutOfOrder),
            (3, 11, 1, Place::OutOfOrder),
            (3, i32::MAX, 1, Place::OutOfOrder),
            (2, 10, 1, Place::Fenced),
            (4, 0, 1, Place::Next),
            (4, 10, 1, Place::OutOfOrder),
        ] {
            let found = ten.place(&stamp(epoch, sequence), count);
            assert_eq!(
                found, place,
                "epoch {epoch}, sequence {sequence}, {count} records"
            );
        }
    }

    #[test]
    fn sequences_wrap_around_to_zero() {
        let before = progress(i32::MAX - 1, CIRCLE - 2);
        assert_eq!(before.place(&stamp(3, i32::MAX - 1), 4), Place::Next);
        let after = before.after(&stamp(3, i32::MAX - 1), 4);
        assert_eq!(after, progress(2, CIRCLE + 2));
        assert_eq!(after.place(&stamp(3, i32::MAX - 1), 4), Place::Stored);
        assert_eq!(after.place(&stamp(3, 2), 1), Place::Next);
        assert_eq!(after.place(&stamp(3, 3), 1), Place::OutOfOrder);
        assert_eq!(after.place(&stamp(3, 1), 2), Place::OutOfOrder);
    }

    #[test]
    fn what_was_never_stored_is_not_called_stored() {
        // After a hole that an operator accepted, the count begins anew.
        let behind_a_hole = progress(10, 10).after(&stamp(3, 50), 5);
        assert_eq!(behind_a_hole, progress(55, 5));
        assert_eq!(behind_a_hole.place(&stamp(3, 50), 5), Place::Stored);
        assert_eq!(behind_a_hole.place(&stamp(3, 40), 5), Place::OutOfOrder);
    }

    #[test]
    fn the_last_batches_are_remembered() {
        let mut table = ProducerTable::default();
        for number in 0..i32::try_from(REMEMBERED_BATCHES).unwrap() + 2 {
            let batch = StoredBatch {
                sequence: Sequence(number * 2),
                record_count: 2,
                base_offset: Offset(100 + number.unsigned_abs() as u64),
                log_append_time: None,
            };
            table.store(&stamp(0, number * 2), batch);
        }
        let offset = |sequence| {
            table
                .duplicate(&stamp(0, sequence), 2)
                .map(|batch| batch.base_offset)
        };
        assert_eq!(offset(2), None);
        assert_eq!(offset(4), Some(Offset(102)));
        assert_eq!(offset(34), Some(Offset(117)));
        assert_eq!(table.duplicate(&stamp(0, 34), 1), None);
        assert_eq!(table.duplicate(&stamp(1, 34), 2), None);
    }

    #[test]
    fn silence_is_measured_by_noted_times() {
        let mut table = ProducerTable::default();
        let batch = StoredBatch {
            sequence: Sequence(0),
            record_count: 1,
            base_offset: Offset(0),
            log_append_time: None,
        };
        table.store(&stamp(0, 0), batch);
        assert!(table.wants_time());
        assert_eq!(table.silent(Timestamp(i64::MAX), 0), vec![]);
        table.note_time(Timestamp(1_000));
        table.note_time(Timestamp(2_000));
        assert!(!table.wants_time());
        assert_eq!(table.silent(Timestamp(1_499), 500), vec![]);
        assert_eq!(table.silent(Timestamp(1_500), 500), vec![ProducerId(7)]);
        assert_eq!(
            table.silent(Timestamp(0), 500),
            vec![],
            "the clock went back"
        );
        table.store(&stamp(1, 0), batch);
        assert_eq!(table.silent(Timestamp(1_500), 500), vec![]);
    }

    #[test]
    fn a_senseless_snapshot_is_refused() {
        let state = |batches: usize| wire::ProducerState {
            producer_id: 1,
            epoch: 0,
            records: 1,
            last_seen_ms: None,
            batches: vec![
                wire::StoredBatch {
                    record_count: 1,
                    ..Default::default()
                };
                batches
            ],
        };
        assert!(ProducerTable::decode(vec![state(1)]).is_ok());
        assert!(ProducerTable::decode(vec![state(0)]).is_err());
        assert!(ProducerTable::decode(vec![state(REMEMBERED_BATCHES + 1)]).is_err());
        assert!(ProducerTable::decode(vec![state(1), state(1)]).is_err());
        let epoch = wire::ProducerState {
            epoch: 40_000,
            ..state(1)
        };
        assert!(ProducerTable::decode(vec![epoch]).is_err());
    }
}
