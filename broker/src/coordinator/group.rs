//! The members of one group, and what has been decided for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_proto::TopicId;

use super::event::Change;
use super::member::{Epoch, Held, Seat, TopicPartition};

/// The membership of one group.
///
/// Invariants: `owners` says exactly who holds what; `instances` names exactly the members that have an instance id;
/// `empty_since_ms` is there exactly when there are no members; no epoch in it is above `epoch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) epoch: Epoch,
    /// Version of the metadata by which the members' topics were found.
    pub(super) catalog_version: u64,
    /// The topics that some member reads, with their numbers of partitions.
    pub(super) topics: Arc<BTreeMap<TopicId, u32>>,
    pub(super) seats: BTreeMap<Arc<str>, Seat>,
    pub(super) instances: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) owners: BTreeMap<TopicPartition, Arc<str>>,
    pub(super) empty_since_ms: Option<i64>,
}

impl Group {
    /// A group without members since this time.
    pub(super) fn new(at_ms: i64) -> Self {
        Self {
            epoch: Epoch(0),
            catalog_version: 0,
            topics: Arc::default(),
            seats: BTreeMap::new(),
            instances: BTreeMap::new(),
            owners: BTreeMap::new(),
            empty_since_ms: Some(at_ms),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.seats.values().all(Seat::is_settled)
    }

    /// Applies a change of members. The error says why no correct coordinator wrote it.
    pub(super) fn apply(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::EpochSet {
                epoch,
                catalog_version,
                topics,
            } => {
                if *epoch <= self.epoch {
                    return Err(format!("epoch {epoch} follows {}", self.epoch));
                }
                self.epoch = *epoch;
                self.catalog_version = *catalog_version;
                self.topics = Arc::new(topics.clone());
            }
            Change::MemberSet(member) => {
                self.empty_since_ms = None;
                let seat = self
                    .seats
                    .entry(Arc::clone(&member.id))
                    .or_insert_with(|| Seat {
                        member: Arc::clone(member),
                        held: Arc::default(),
                        target: Arc::default(),
                    });
                seat.member = Arc::clone(member);
                if let Some(instance) = &member.instance {
                    let before = self
                        .instances
                        .insert(Arc::clone(instance), Arc::clone(&member.id));
                    if before.is_some_and(|before| before != member.id) {
                        return Err(format!("instance {instance} has two members"));
                    }
                }
            }
            Change::MemberRemoved { member, at_ms } => self.remove(member, *at_ms)?,
            Change::TargetSet { member, target } => {
                self.seat_mut(member)?.target = Arc::clone(target);
            }
            Change::HeldSet { member, held } => self.set_held(member, held)?,
            Change::OffsetsCommitted { .. }
            | Change::OffsetsRemoved(_)
            | Change::OffsetsExpired { .. }
            | Change::Removed => {}
        }
        Ok(())
    }

    fn seat_mut(&mut self, member: &str) -> Result<&mut Seat, String> {
        self.seats
            .get_mut(member)
            .ok_or_else(|| format!("there is no member {member}"))
    }

    fn remove(&mut self, member: &str, at_ms: i64) -> Result<(), String> {
        let seat = self
            .seats
            .remove(member)
            .ok_or_else(|| format!("there is no member {member}"))?;
        for partition in seat.held.partitions() {
            self.owners.remove(&partition);
        }
        if let Some(instance) = &seat.member.instance {
            self.instances.remove(instance);
        }
        if self.seats.is_empty() {
            self.empty_since_ms = Some(at_ms);
        }
        Ok(())
    }

    fn set_held(&mut self, member: &Arc<str>, held: &Arc<Held>) -> Result<(), String> {
        let seat = self.seat_mut(member)?;
        let before = std::mem::replace(&mut seat.held, Arc::clone(held));
        for partition in before
            .partitions()
            .filter(|partition| held.since(*partition).is_none())
        {
            self.owners.remove(&partition);
        }
        for partition in held.partitions() {
            let owner = self
                .owners
                .entry(partition)
                .or_insert_with(|| Arc::clone(member));
            if owner != member {
                return Err(format!(
                    "{partition:?} is given to {member} and belongs to {owner}"
                ));
            }
        }
        self.epoch = self.epoch.max(held.epoch);
        Ok(())
    }

    /// The seat of a member.
    pub(super) fn seat(&self, member: &str) -> Option<&Seat> {
        self.seats.get(member)
    }
}
