//! Which record may be processed next, so that those of one key stay in order; and below which offset all are done.
//!
//! Records of one key and partition form a lane: one of them runs at a time, the others wait behind it. A record without a
//! key is a lane of its own. Pure.
//!
//! - At most `concurrency` records run. What waits behind a slow key is bounded: as many as the [`Room`] says wait altogether, and
//!   a partition that has its part of them lets others in.
//! - `finished` of a partition never goes back, and nothing at or above it was reported done unless everything below was.
//! - What is abandoned of a partition stays unfinished, so that nothing behind it counts, until the partition is forgotten.

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
    /// Which reading of the partition it belongs to.
    reading: u64,
}

/// How many records may wait: `each` for every handler, of whichever partition; and as many again, of partitions of which
/// fewer than `each` wait.
///
/// So there is room for partitions in which no key is stuck as long as one handler is left to them: a stuck key has a handler
/// of its own, so that the `n` partitions that have some fill no more than `each` for every handler and `n * each`, with `n` less
/// than there are handlers.
#[derive(Clone, Copy, Debug)]
struct Room {
    each: usize,
    common: usize,
}

impl Room {
    fn is_there(self, waiting: usize, of_partition: impl FnOnce() -> usize) -> bool {
        let most = self.common.saturating_mul(2);
        waiting < self.common || (waiting < most && of_partition() < self.each)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lanes {
    concurrency: usize,
    room: Room,
    running: usize,
    waiting: usize,
    next_reading: u64,
    /// What may run now, in the order in which it came.
    ready: VecDeque<ConsumedRecord>,
    /// What waits behind the record of its key that is ready or runs. A lane that is here has such a record.
    lanes: HashMap<(Place, Bytes), VecDeque<ConsumedRecord>>,
    places: HashMap<Place, Progress>,
}

/// How far a partition is.
#[derive(Debug, Default)]
struct Progress {
    /// Tells this reading of the partition from those before it was forgotten.
    reading: u64,
    unfinished: BTreeSet<u64>,
    running: usize,
    /// Records that are here and do not run: those that wait or have failed.
    waiting: usize,
    is_abandoned: bool,
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
    /// `each`: how many records may wait for each that may run.
    pub(super) fn new(concurrency: usize, each: usize) -> Self {
        let common = concurrency.saturating_mul(each);
        Self {
            concurrency,
            room: Room { each, common },
            running: 0,
            waiting: 0,
            next_reading: 0,
            ready: VecDeque::new(),
            lanes: HashMap::new(),
            places: HashMap::new(),
        }
    }

    /// Whether another record of the partition can be taken in.
    pub(super) fn has_room(&self, topic: &Arc<str>, partition: u32) -> bool {
        let of_partition = || {
            let topic = Arc::clone(topic);
            let progress = self.places.get(&Place { topic, partition });
            progress.map_or(0, |progress| progress.waiting)
        };
        self.room.is_there(self.waiting, of_partition)
    }

    /// Takes a record in. Those of a partition come in order, unless it was read again from elsewhere: then it begins
    /// anew there.
    pub(super) fn push(&mut self, record: ConsumedRecord) {
        let place = Place::of(&record);
        let progress = self.places.entry(place.clone()).or_insert_with(|| {
            self.next_reading += 1;
            Progress {
                reading: self.next_reading,
                ..Progress::default()
            }
        });
        if progress.next != record.offset && progress.unfinished.is_empty() {
            progress.reported = record.offset;
        }
        progress.next = record.offset + 1;
        progress.unfinished.insert(record.offset);
        progress.waiting += 1;
        self.waiting += 1;
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
        let place = Place::of(&record);
        let progress = self.places.get_mut(&place)?;
        progress.running += 1;
        progress.waiting -= 1;
        self.running += 1;
        self.waiting -= 1;
        let ticket = Ticket {
            offset: record.offset,
            key: record.key.clone(),
            reading: progress.reading,
            place,
        };
        Some((ticket, record))
    }

    /// A record that began will never be done, nor what waits behind it. Whether anybody still waits for it.
    pub(super) fn fail(&mut self, ticket: &Ticket) -> bool {
        self.running -= 1;
        let Some(progress) = self.reading(ticket) else {
            return false;
        };
        progress.running -= 1;
        progress.waiting += 1;
        self.waiting += 1;
        true
    }

    /// How far the partition of a record is, unless it was forgotten since the record began.
    fn reading(&mut self, ticket: &Ticket) -> Option<&mut Progress> {
        let progress = self.places.get_mut(&ticket.place);
        progress.filter(|progress| progress.reading == ticket.reading)
    }

    /// A record is done. The offset below which all of its partition are, where that has moved.
    pub(super) fn finish(&mut self, ticket: Ticket) -> Option<Offset> {
        self.running -= 1;
        let progress = self.reading(&ticket)?;
        progress.running -= 1;
        progress.unfinished.remove(&ticket.offset);
        let finished = progress.finished();
        let has_moved = finished > progress.reported;
        if has_moved {
            progress.reported = finished;
        }
        if let Some(key) = ticket.key {
            let lane = (ticket.place.clone(), key);
            match self.lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                Some(next) => self.ready.push_back(next),
                None => drop(self.lanes.remove(&lane)),
            }
        }
        has_moved.then_some(Offset(finished))
    }

    /// Begins none of the partition's records that wait. They stay unfinished.
    pub(super) fn abandon(&mut self, place: &Place) {
        let Some(progress) = self.places.get_mut(place) else {
            return;
        };
        let before = self.ready.len();
        self.ready.retain(|record| Place::of(record) != *place);
        let mut waiting = before - self.ready.len();
        self.lanes.retain(|(of, _), lane| {
            if of == place {
                waiting += lane.len();
            }
            of != place
        });
        progress.is_abandoned = true;
        progress.waiting -= waiting;
        self.waiting -= waiting;
    }

    /// Partitions that were abandoned and not yet forgotten.
    pub(super) fn abandoned(&self) -> impl Iterator<Item = &Place> {
        let places = self.places.iter();
        places.filter_map(|(place, progress)| progress.is_abandoned.then_some(place))
    }

    /// Whether a record of the partition is being processed.
    pub(super) fn is_running(&self, place: &Place) -> bool {
        self.places
            .get(place)
            .is_some_and(|progress| progress.running > 0)
    }

    /// The first of the partition's records that is not done, if any is not.
    pub(super) fn lowest_unfinished(&self, place: &Place) -> Option<Offset> {
        let first = self.places.get(place)?.unfinished.first();
        first.map(|offset| Offset(*offset))
    }

    /// Where each partition is to be read again, for what is not done.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = (&Place, Offset)> {
        let places = self.places.keys();
        places.filter_map(|place| Some((place, self.lowest_unfinished(place)?)))
    }

    /// The partition is read no longer. What still comes of its records does not count.
    pub(super) fn forget(&mut self, place: &Place) {
        self.abandon(place);
        if let Some(progress) = self.places.remove(place) {
            self.waiting -= progress.waiting;
        }
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

    fn place(partition: u32) -> Place {
        Place::of(&record(partition, 0, None))
    }

    fn begun(lanes: &mut Lanes) -> Vec<(Ticket, u64)> {
        std::iter::from_fn(|| lanes.begin())
            .map(|(ticket, record)| (ticket, record.offset))
            .collect()
    }

    /// Takes in records of one key as long as there is room; how many.
    fn fill(lanes: &mut Lanes, partition: u32, from: u64) -> u64 {
        let mut offsets = from..;
        while lanes.has_room(&"t".into(), partition) {
            lanes.push(record(partition, offsets.start, Some("slow")));
            offsets.next();
        }
        offsets.start - from
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
        assert_eq!(fill(&mut lanes, 0, 0), 6);
        let (ticket, _) = begun(&mut lanes).pop().unwrap();
        assert_eq!(fill(&mut lanes, 0, 6), 1, "one runs");
        lanes.finish(ticket);
        assert_eq!(fill(&mut lanes, 0, 7), 0, "the next is ready");
        assert_eq!(begun(&mut lanes).len(), 1);
        assert_eq!(fill(&mut lanes, 0, 7), 1);
    }

    #[test]
    fn one_slow_key_leaves_room_to_other_partitions() {
        let mut lanes = Lanes::new(2, 3);
        assert_eq!(fill(&mut lanes, 0, 0), 6);
        assert_eq!((fill(&mut lanes, 1, 0), fill(&mut lanes, 2, 0)), (3, 3));
        assert_eq!(fill(&mut lanes, 3, 0), 0, "twice as many are the most");
    }

    #[test]
    fn what_has_failed_takes_room_until_it_is_forgotten() {
        let mut lanes = Lanes::new(1, 2);
        assert_eq!(fill(&mut lanes, 0, 0), 2);
        let (ticket, _) = begun(&mut lanes).pop().unwrap();
        assert!(lanes.fail(&ticket));
        assert_eq!(fill(&mut lanes, 0, 2), 0);
        lanes.forget(&ticket.place);
        assert_eq!(fill(&mut lanes, 0, 0), 2);
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

    #[test]
    fn what_is_abandoned_holds_the_progress_and_takes_no_room() {
        let mut lanes = Lanes::new(1, 2);
        for (partition, offset, key) in [(0, 5, "a"), (0, 6, "a"), (0, 7, "b")] {
            lanes.push(record(partition, offset, Some(key)));
        }
        let place = place(0);
        let (a, _) = begun(&mut lanes).pop().unwrap();
        assert!(!lanes.has_room(&place.topic, place.partition));
        lanes.abandon(&place);
        assert!(lanes.has_room(&place.topic, place.partition) && lanes.is_running(&place));
        assert_eq!(lanes.finish(a), Some(Offset(6)));
        assert!(!lanes.is_running(&place));
        assert_eq!(begun(&mut lanes).len(), 0, "nothing of it begins");
        assert_eq!(lanes.lowest_unfinished(&place), Some(Offset(6)));
        lanes.forget(&place);
        assert_eq!(lanes.lowest_unfinished(&place), None);
        assert_eq!((lanes.waiting, lanes.running), (0, 0));
    }

    #[test]
    fn what_ends_after_its_partition_was_forgotten_does_not_count() {
        let mut lanes = Lanes::new(3, 10);
        lanes.push(record(0, 5, Some("a")));
        lanes.push(record(0, 6, Some("b")));
        let place = place(0);
        let mut old = begun(&mut lanes);
        lanes.forget(&place);
        // It is read again, from where it was committed.
        lanes.push(record(0, 5, Some("a")));
        let (new, _) = begun(&mut lanes).pop().unwrap();
        assert_eq!(lanes.finish(old.remove(0).0), None);
        assert!(!lanes.fail(&old.remove(0).0));
        assert_eq!(lanes.lowest_unfinished(&place), Some(Offset(5)));
        assert_eq!(lanes.finish(new), Some(Offset(6)));
        assert_eq!((lanes.waiting, lanes.running), (0, 0));
    }

    proptest! {
        #[test]
        fn every_schedule_keeps_keys_in_order_and_reports_only_what_is_done(
            keys in prop::collection::vec((0..2u32, prop::option::of(0..4u8)), 1..60),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 60),
            concurrency in 1..6usize,
        ) {
            let mut lanes = Lanes::new(concurrency, 2);
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
                while input.front().is_some_and(|next| lanes.has_room(&next.topic, next.partition)) {
                    lanes.push(input.pop_front().unwrap());
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

        #[test]
        fn other_partitions_are_done_as_long_as_a_handler_is_left_to_them(
            stuck in prop::collection::btree_set(0..8u32, 0..6),
            arrivals in prop::collection::vec(0..8u32, 0..200),
            each in 1..4usize,
        ) {
            let mut lanes = Lanes::new(stuck.len() + 1, each);
            let mut queues: Vec<(u32, VecDeque<_>)> = (0..8).map(|p| (p, VecDeque::new())).collect();
            for partition in arrivals {
                let (_, queue) = &mut queues[partition as usize];
                queue.push_back(record(partition, queue.len() as u64, Some("a")));
            }
            // Those that are stuck come first each time.
            queues.sort_by_key(|(partition, _)| !stuck.contains(partition));
            loop {
                for (partition, queue) in &mut queues {
                    while lanes.has_room(&"t".into(), *partition) && let Some(next) = queue.pop_front() {
                        lanes.push(next);
                    }
                }
                let begun = begun(&mut lanes);
                let ends = begun.into_iter().filter(|(ticket, _)| !stuck.contains(&ticket.place.partition));
                let ended: Vec<_> = ends.map(|(ticket, _)| lanes.finish(ticket)).collect();
                if ended.is_empty() {
                    break;
                }
            }
            for (partition, queue) in queues {
                let is_done = queue.is_empty() && lanes.lowest_unfinished(&place(partition)).is_none();
                prop_assert!(is_done || stuck.contains(&partition));
            }
        }
    }
}
