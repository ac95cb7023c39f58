//! What was fetched and not yet taken out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::{BrokerId, Offset};

use super::plan::Cursor;
use crate::Error;

/// Something for the consumer: a batch, or the failure that ends the reading of its partition.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) cursor: Cursor,
    pub(crate) content: Result<Batch, Error>,
}

/// A batch that was fetched.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    /// The first offset wanted: a batch may begin below it.
    pub(crate) from: Offset,
    pub(crate) bytes: Bytes,
    /// Who sent it.
    pub(crate) broker: BrokerId,
}

/// Invariants: `bytes` is the sum of the batches in `queues`, and `bytes_of` splits it by broker; batches of a partition
/// stand in offset order; `turns` names each place with something in its queue once; nothing is held back, nor wanted
/// in vain, where nothing is here.
#[derive(Debug, Default)]
pub(super) struct Prefetched {
    /// By place among the assigned partitions.
    queues: Vec<Queue>,
    /// Whose turn it is: partitions give out one batch each, so that what is much of one does not keep the others waiting.
    turns: VecDeque<usize>,
    bytes: u64,
    bytes_of: HashMap<BrokerId, u64>,
    /// Something was wanted in vain since the last time at which nothing was here: some of what is here may stay for long.
    is_held_back: bool,
    /// What was wanted last was not here, and something else was.
    is_wanting: bool,
}

/// What was fetched of one partition. `bytes` is the sum of its batches.
#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: u64,
}

impl Prefetched {
    /// Bytes of all batches.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the batches that one broker sent.
    pub(super) fn bytes_of(&self, broker: BrokerId) -> u64 {
        self.bytes_of.get(&broker).copied().unwrap_or_default()
    }

    /// Whether something was wanted in vain since the last time at which nothing was here.
    pub(super) fn is_held_back(&self) -> bool {
        self.is_held_back
    }

    /// Whether what was wanted last was not here, and something else was.
    pub(super) fn is_wanting(&self) -> bool {
        self.is_wanting
    }

    /// Something is wanted of which nothing is here.
    pub(super) fn want(&mut self) {
        self.is_wanting = !self.turns.is_empty();
        self.is_held_back |= self.is_wanting;
    }

    /// Bytes of the batches of one partition.
    pub(super) fn bytes_at(&self, place: usize) -> u64 {
        self.queues.get(place).map_or(0, |queue| queue.bytes)
    }

    pub(super) fn push(&mut self, item: Item) {
        let place = item.cursor.place;
        if self.queues.len() <= place {
            self.queues.resize_with(place + 1, Queue::default);
        }
        let queue = &mut self.queues[place];
        if let Ok(batch) = &item.content {
            let bytes = batch.bytes.len() as u64;
            queue.bytes += bytes;
            self.bytes += bytes;
            *self.bytes_of.entry(batch.broker).or_default() += bytes;
        }
        if queue.items.is_empty() {
            self.turns.push_back(place);
        }
        queue.items.push_back(item);
    }

    /// Takes out what is first of a place that is wanted. The others keep their turns.
    pub(super) fn take(&mut self, wants: impl Fn(usize) -> bool) -> Option<Item> {
        let turn = self.turns.iter().position(|place| wants(*place))?;
        let place = self.turns.remove(turn)?;
        let queue = &mut self.queues[place];
        let item = queue.items.pop_front()?;
        if !queue.items.is_empty() {
            self.turns.push_back(place);
        }
        self.forget(&item);
        self.is_wanting = false;
        self.is_held_back &= !self.turns.is_empty();
        Some(item)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Drops what was fetched of one partition.
    pub(super) fn drop_place(&mut self, place: usize) {
        let Some(queue) = self.queues.get_mut(place) else {
            return;
        };
        let items = std::mem::take(&mut queue.items);
        if !items.is_empty() {
            self.turns.retain(|of| *of != place);
        }
        items.iter().for_each(|item| self.forget(item));
        let is_empty = self.turns.is_empty();
        self.is_held_back &= !is_empty;
        self.is_wanting &= !is_empty;
    }

    /// Takes an item out of the sums.
    fn forget(&mut self, item: &Item) {
        if let Ok(batch) = &item.content {
            let bytes = batch.bytes.len() as u64;
            self.queues[item.cursor.place].bytes -= bytes;
            self.bytes -= bytes;
            if let Some(of_broker) = self.bytes_of.get_mut(&batch.broker) {
                *of_broker -= bytes;
                if *of_broker == 0 {
                    self.bytes_of.remove(&batch.broker);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BROKERS: u32 = 2;

    /// A batch of as many bytes, which the broker of its place sent.
    fn item(place: usize, from: u64, bytes: usize) -> Item {
        let batch = Batch {
            topic: "t".into(),
            partition: 0,
            from: Offset(from),
            bytes: vec![0; bytes].into(),
            broker: broker(place),
        };
        Item {
            cursor: Cursor {
                place,
                generation: 0,
            },
            content: Ok(batch),
        }
    }

    fn broker(place: usize) -> BrokerId {
        BrokerId(u32::try_from(place).unwrap() % BROKERS)
    }

    fn filled(places: &[usize]) -> Prefetched {
        let mut prefetched = Prefetched::default();
        let items = places.iter().zip(0..);
        items.for_each(|(place, from)| prefetched.push(item(*place, from, 10)));
        prefetched
    }

    fn taken(prefetched: &mut Prefetched, wants: impl Fn(usize) -> bool) -> Vec<usize> {
        let items = std::iter::from_fn(|| prefetched.take(&wants));
        items.map(|item| item.cursor.place).collect()
    }

    #[test]
    fn what_is_not_wanted_stays_and_keeps_its_turn() {
        let mut prefetched = filled(&[0, 0, 1, 2, 1]);
        assert_eq!(taken(&mut prefetched, |place| place != 0), [1, 2, 1]);
        assert_eq!((prefetched.bytes(), prefetched.bytes_at(0)), (20, 20));
        prefetched.push(item(1, 5, 10));
        assert_eq!(taken(&mut prefetched, |_| true), [0, 1, 0]);
    }

    #[test]
    fn what_is_wanted_in_vain_is_remembered_until_it_comes_and_that_there_was_such_until_all_is_taken()
     {
        let mut prefetched = filled(&[0, 0]);
        assert!(prefetched.take(|place| place == 1).is_none());
        prefetched.want();
        assert!(prefetched.is_wanting() && prefetched.is_held_back());
        prefetched.push(item(1, 0, 30));
        assert!(prefetched.take(|place| place == 1).is_some());
        assert!(!prefetched.is_wanting() && prefetched.is_held_back());
        assert_eq!(taken(&mut prefetched, |_| true), [0, 0]);
        assert!(!prefetched.is_held_back());
        prefetched.want();
        assert!(!prefetched.is_wanting() && !prefetched.is_held_back());
        let mut prefetched = filled(&[0]);
        prefetched.want();
        prefetched.drop_place(0);
        assert!(!prefetched.is_wanting() && !prefetched.is_held_back());
    }

    proptest! {
        #[test]
        fn each_place_gives_out_all_of_its_own_in_order_and_the_sums_are_right(
            steps in prop::collection::vec((0..4usize, 1..50usize, any::<bool>(), 0..16u8), 1..200),
        ) {
            let mut prefetched = Prefetched::default();
            let mut here: [VecDeque<(u64, usize)>; 4] = Default::default();
            for ((place, bytes, is_push, wanted), number) in steps.into_iter().zip(0..) {
                let wants = |place: usize| wanted & (1 << place) != 0;
                if is_push {
                    prefetched.push(item(place, number, bytes));
                    here[place].push_back((number, bytes));
                } else if let Some(item) = prefetched.take(wants) {
                    prop_assert!(wants(item.cursor.place));
                    let (from, _) = here[item.cursor.place].pop_front().unwrap();
                    prop_assert_eq!(item.content.unwrap().from, Offset(from));
                } else {
                    prop_assert!((0..4).all(|place| !wants(place) || here[place].is_empty()));
                }
                let bytes_at = |place: usize| here[place].iter().map(|(_, bytes)| *bytes as u64).sum::<u64>();
                for place in 0..4 {
                    prop_assert_eq!(prefetched.bytes_at(place), bytes_at(place));
                    let of_broker = (place % 2..4).step_by(2).map(bytes_at).sum::<u64>();
                    prop_assert_eq!(prefetched.bytes_of(broker(place)), of_broker);
                }
            }
        }
    }
}
