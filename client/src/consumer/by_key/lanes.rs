//! Which record may be processed next, so that those of one key stay in order; and below which offset all are done.
//!
//! Records of one key and partition form a lane: one of them runs at a time, the others wait behind it. A record without a
//! key is a lane of its own. Pure.
//!
//! - At most `concurrency` records run, at most `room` are here altogether: what waits behind a slow key is bounded.
//! - `finished` of a partition never goes back, and nothing at or above it was reported done unless everything below was.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::Offset;

use crate::ConsumedRecord;

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
}

impl Place {
    pub(super) fn of(record: &ConsumedRecord) -> Self {
        Self {
            topic: Arc::clone(&record.topic),
            partition: record.partition,
        }
    }
}

/// What is known of a record whose processing began.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) place: Place,
    pub(super) offset: u64,
    key: Option<Bytes>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lanes {
    concurrency: usize,
    room: usize,
    running: usize,
    held: usize,
    /// What may run now, in the order in which it came.
    ready: VecDeque<ConsumedRecord>,
    /// What waits behind the record of its key that is ready or runs. A lane that is here has such a record.
    lanes: HashMap<(Place, Bytes), VecDeque<ConsumedRecord>>,
    places: HashMap<Place, Progress>,
}

/// How far a partition is.
#[derive(Debug, Default)]
struct Progress {
    unfinished: BTreeSet<u64>,
    /// Behind the last record that came.
    next: u64,
    /// All below are finished; as it was reported last.
    reported: u64,
}

impl Progress {
    fn finished(&self) -> u64 {
        self.unfinished.first().copied().unwrap_or(self.next)
    }
}

impl Lanes {
    pub(super) fn new(concurrency: usize, room: usize) -> Self {
        Self {
            concurrency,
            room: room.max(concurrency),
            running: 0,
            held: 0,
            ready: VecDeque::new(),
            lanes: HashMap::new(),
            places: HashMap::new(),
        }
    }

    /// Whether another record can be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.held < self.room
    }

    /// Takes a record in. Those of a partition come in order, unless it was read again from elsewhere: then it begins
    /// anew there.
    pub(super) fn push(&mut self, record: ConsumedRecord) {
        let place = Place::of(&record);
        let progress = self.places.entry(place.clone()).or_default();
        if progress.next != record.offset && progress.unfinished.is_empty() {
            progress.reported = record.offset;
        }
        progress.next = record.offset + 1;
        progress.unfinished.insert(record.offset);
        self.held += 1;
        let Some(key) = record.key.clone() else {
            self.ready.push_back(record);
            return;
        };
        match self.lanes.get_mut(&(place.clone(), key.clone())) {
            Some(waiting) => waiting.push_back(record),
            None => {
                self.lanes.insert((place, key), VecDeque::new());
                self.ready.push_back(record);
            }
        }
    }

    /// The next record to process, if one may begin now.
    pub(super) fn begin(&mut self) -> Option<(Ticket, ConsumedRecord)> {
        if self.running >= self.concurrency {
            return None;
        }
        let record = self.ready.pop_front()?;
        self.running += 1;
        let ticket = Ticket {
            place: Place::of(&record),
            offset: record.offset,
            key: record.key.clone(),
        };
        Some((ticket, record))
    }

    /// A record that began will never be done, nor what waits behind it.
    pub(super) fn fail(&mut self) {
        self.running -= 1;
    }

    /// A record is done. The offset below which all of its partition are, where that has moved.
    pub(super) fn finish(&mut self, ticket: Ticket) -> Option<Offset> {
        self.running -= 1;
        self.held -= 1;
        if let Some(key) = ticket.key {
            let lane = (ticket.place.clone(), key);
            match self.lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                Some(next) => self.ready.push_back(next),
                None => drop(self.lanes.remove(&lane)),
            }
        }
        let progress = self.places.get_mut(&ticket.place)?;
        progress.unfinished.remove(&ticket.offset);
        let finished = progress.finished();
        if finished <= progress.reported {
            return None;
        }
        progress.reported = finished;
        Some(Offset(finished))
    }
}

#[cfg(test)]
mod tests {
    use highwater_proto::batch::Headers;
    use proptest::prelude::*;

    use super::*;

    fn record(partition: u32, offset: u64, key: Option<&str>) -> ConsumedRecord {
        ConsumedRecord {
            topic: "t".into(),
            partition,
            offset,
            timestamp_ms: 0,
            key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
            value: None,
            headers: Headers::default(),
        }
    }

    fn begun(lanes: &mut Lanes) -> Vec<(Ticket, u64)> {
        std::iter::from_fn(|| lanes.begin())
            .map(|(ticket, record)| (ticket, record.offset))
            .collect()
    }

    #[test]
    fn records_of_one_key_wait_for_each_other_and_others_do_not() {
        let mut lanes = Lanes::new(10, 10);
        for (offset, key) in [(0, "a"), (1, "a"), (2, "b"), (3, "a")] {
            lanes.push(record(0, offset, Some(key)));
        }
        let mut first = begun(&mut lanes);
        let offsets: Vec<_> = first.iter().map(|(_, offset)| *offset).collect();
        assert_eq!(offsets, [0, 2]);
        let (b, _) = first.pop().unwrap();
        assert_eq!(lanes.finish(b), None, "offset 0 is not done yet");
        let (a, _) = first.pop().unwrap();
        assert_eq!(lanes.finish(a), Some(Offset(1)));
        let (next, offset) = begun(&mut lanes).pop().unwrap();
        assert_eq!(offset, 1);
        assert_eq!(lanes.finish(next), Some(Offset(3)));
    }

    #[test]
    fn records_without_a_key_wait_for_nobody() {
        let mut lanes = Lanes::new(2, 10);
        (0..3).for_each(|offset| lanes.push(record(0, offset, None)));
        let first = begun(&mut lanes);
        assert_eq!(first.len(), 2, "no more than two run");
    }

    #[test]
    fn one_slow_key_fills_no_memory() {
        let mut lanes = Lanes::new(2, 3);
        for offset in 0..3 {
            assert!(lanes.has_room());
            lanes.push(record(0, offset, Some("slow")));
        }
        assert!(!lanes.has_room());
        let (ticket, _) = begun(&mut lanes).pop().unwrap();
        lanes.finish(ticket);
        assert!(lanes.has_room());
    }

    #[test]
    fn a_partition_that_is_read_from_elsewhere_begins_anew() {
        let mut lanes = Lanes::new(2, 10);
        lanes.push(record(0, 7, None));
        let (ticket, _) = begun(&mut lanes).pop().unwrap();
        assert_eq!(lanes.finish(ticket), Some(Offset(8)));
        lanes.push(record(0, 2, None));
        let (ticket, _) = begun(&mut lanes).pop().unwrap();
        assert_eq!(lanes.finish(ticket), Some(Offset(3)));
    }

    proptest! {
        #[test]
        fn every_schedule_keeps_keys_in_order_and_reports_only_what_is_done(
            keys in prop::collection::vec((0..2u32, prop::option::of(0..4u8)), 1..60),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 60),
            concurrency in 1..6usize,
        ) {
            let mut lanes = Lanes::new(concurrency, 8);
            let mut offsets = [0_u64; 2];
            let mut input: VecDeque<_> = keys
                .iter()
                .map(|(partition, key)| {
                    let offset = &mut offsets[*partition as usize];
                    *offset += 1;
                    let key = key.map(|key| key.to_string());
                    record(*partition, *offset - 1, key.as_deref())
                })
                .collect();
            let mut running: Vec<Ticket> = Vec::new();
            let mut done: Vec<Ticket> = Vec::new();
            for choice in choices {
                while lanes.has_room() && let Some(next) = input.pop_front() {
                    lanes.push(next);
                }
                running.extend(begun(&mut lanes).into_iter().map(|(ticket, _)| ticket));
                prop_assert!(running.len() <= concurrency);
                prop_assert!(!running.is_empty() || done.len() == keys.len());
                if running.is_empty() {
                    break;
                }
                let ticket = running.swap_remove(choice.index(running.len()));
                let before = done.iter().rev().find(|earlier| {
                    earlier.place == ticket.place && earlier.key == ticket.key && ticket.key.is_some()
                });
                prop_assert!(before.is_none_or(|earlier| earlier.offset < ticket.offset));
                let place = ticket.place.clone();
                done.push(ticket.clone());
                if let Some(finished) = lanes.finish(ticket) {
                    let below = done.iter().filter(|one| one.place == place && one.offset < finished.0);
                    prop_assert_eq!(below.count() as u64, finished.0);
                }
            }
        }
    }
}
