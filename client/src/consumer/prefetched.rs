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

/// Invariants: `bytes` is the sum of the batches in `items`, and `bytes_of` splits it by broker; batches of a partition
/// stand in offset order.
#[derive(Debug, Default)]
pub(super) struct Prefetched {
    items: VecDeque<Item>,
    bytes: u64,
    bytes_of: HashMap<BrokerId, u64>,
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

    pub(super) fn push(&mut self, item: Item) {
        if let Ok(batch) = &item.content {
            let bytes = batch.bytes.len() as u64;
            self.bytes += bytes;
            *self.bytes_of.entry(batch.broker).or_default() += bytes;
        }
        self.items.push_back(item);
    }

    pub(super) fn take(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        if let Ok(batch) = &item.content {
            let bytes = batch.bytes.len() as u64;
            self.bytes -= bytes;
            if let Some(of_broker) = self.bytes_of.get_mut(&batch.broker) {
                *of_broker -= bytes;
            }
        }
        Some(item)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Drops what was fetched of one partition.
    pub(super) fn drop_place(&mut self, place: usize) {
        if self.items.iter().any(|item| item.cursor.place == place) {
            for item in std::mem::take(self).items {
                if item.cursor.place != place {
                    self.push(item);
                }
            }
        }
    }
}
