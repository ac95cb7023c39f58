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
/// stand in offset order; `turns` names each place with something in its queue once.
#[derive(Debug, Default)]
pub(super) struct Prefetched {
    /// By place among the assigned partitions.
    queues: Vec<Queue>,
    /// Whose turn it is: partitions give out one batch each, so that what is much of one does not keep the others waiting.
    turns: VecDeque<usize>,
    bytes: u64,
    bytes_of: HashMap<BrokerId, u64>,
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

    pub(super) fn take(&mut self) -> Option<Item> {
        let place = self.turns.pop_front()?;
        let queue = &mut self.queues[place];
        let item = queue.items.pop_front()?;
        if !queue.items.is_empty() {
            self.turns.push_back(place);
        }
        self.forget(&item);
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
    }

    /// Takes an item out of the sums.
    fn forget(&mut self, item: &Item) {
        if let Ok(batch) = &item.content {
            let bytes = batch.bytes.len() as u64;
            self.queues[item.cursor.place].bytes -= bytes;
            self.bytes -= bytes;
            if let Some(of_broker) = self.bytes_of.get_mut(&batch.broker) {
                *of_broker -= bytes;
            }
        }
    }
}
