//! The replicas of one shard, found by group or by replica id.

use std::collections::HashMap;

use super::machine::Machine;
use super::replica::Replica;
use super::{GroupId, ReplicaId};

/// The replicas of one shard. A slot keeps its number while its replica is here.
///
/// Invariant: a replica id stands in it at most once, and a group has at most one replica that is not laid aside.
pub(super) struct Registry<M: Machine> {
    slots: Vec<Option<Box<Replica<M>>>>,
    free: Vec<Slot>,
    by_group: HashMap<GroupId, Slot>,
    by_replica: HashMap<ReplicaId, Slot>,
}

/// A replica's place in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(usize);

impl<M: Machine> Registry<M> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_group: HashMap::new(),
            by_replica: HashMap::new(),
        }
    }

    /// Whether the group, or the replica id, is taken.
    pub(super) fn is_taken(&self, group: GroupId, replica: ReplicaId) -> bool {
        self.by_group.contains_key(&group) || self.by_replica.contains_key(&replica)
    }

    /// Adds a replica whose group and id are not taken.
    pub(super) fn insert(&mut self, replica: Replica<M>) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot(self.slots.len() - 1)
        });
        self.by_group.insert(replica.group_id(), slot);
        self.by_replica.insert(replica.id(), slot);
        self.slots[slot.0] = Some(Box::new(replica));
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Box<Replica<M>>> {
        let replica = self.slots[slot.0].take()?;
        self.release_group(replica.group_id(), slot);
        self.by_replica.remove(&replica.id());
        self.free.push(slot);
        Some(replica)
    }

    /// Makes room for another replica of the same group. This one keeps its slot, and checkpoints still count it.
    pub(super) fn lay_aside(&mut self, slot: Slot) {
        if let Some(group) = self.get(slot).map(Replica::group_id) {
            self.release_group(group, slot);
        }
    }

    /// Makes a replica that was laid aside the one of its group again. False where another one is that.
    pub(super) fn take_up(&mut self, slot: Slot) -> bool {
        let Some(group) = self.get(slot).map(Replica::group_id) else {
            return false;
        };
        *self.by_group.entry(group).or_insert(slot) == slot
    }

    fn release_group(&mut self, group: GroupId, slot: Slot) {
        if self.by_group.get(&group) == Some(&slot) {
            self.by_group.remove(&group);
        }
    }

    pub(super) fn slot(&self, group: GroupId) -> Option<Slot> {
        self.by_group.get(&group).copied()
    }

    pub(super) fn slot_of_replica(&self, replica: ReplicaId) -> Option<Slot> {
        self.by_replica.get(&replica).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Replica<M>> {
        self.slots.get(slot.0)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Replica<M>> {
        self.slots.get_mut(slot.0)?.as_deref_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Replica<M>)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(place, replica)| Some((Slot(place), replica.as_deref()?)))
    }

    /// All slots in use, in order.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.iter().map(|(slot, _)| slot).collect()
    }
}
