//! All groups of one coordinator.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Change, Event};
use super::group::Group;
use super::offsets::Offsets;
use super::size;

/// A group and its offsets. The members can be looked at and changed apart from the offsets, which are many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) group: Arc<Group>,
    pub(super) offsets: Offsets,
}

impl Entry {
    /// What it takes in a snapshot at most.
    pub(super) fn bytes(&self, id: &str) -> usize {
        let seats = self.group.seats.values().map(size::of_seat);
        size::of_group(id, &self.group) + seats.sum::<usize>() + self.offsets.bytes()
    }
}

/// What the log of a coordinator says up to some index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) groups: BTreeMap<Arc<str>, Entry>,
    /// Members of all groups.
    pub(super) members: usize,
    /// What all groups take in a snapshot at most.
    pub(super) bytes: usize,
}

impl State {
    pub(super) fn get(&self, group: &str) -> Option<&Entry> {
        self.groups.get(group)
    }

    /// Applies an event. The error says why no correct coordinator wrote it.
    pub(super) fn apply(&mut self, event: &Event) -> Result<(), String> {
        match &event.change {
            Change::Removed => {
                // Its offsets may have expired, and it with them, after this was decided.
                if let Some(removed) = self.groups.remove(&event.group) {
                    self.members -= removed.group.seats.len();
                    self.bytes -= removed.bytes(&event.group);
                }
                Ok(())
            }
            Change::OffsetsExpired { committed_until_ms } => {
                self.expire(&event.group, *committed_until_ms);
                Ok(())
            }
            Change::OffsetsCommitted { at_ms, offsets } => {
                let kept = &mut self.entry(&event.group, *at_ms).offsets;
                let before = kept.bytes();
                kept.commit(*at_ms, offsets);
                let after = kept.bytes();
                self.bytes = self.bytes + after - before;
                Ok(())
            }
            Change::OffsetsRemoved(partitions) => {
                if let Some(entry) = self.groups.get_mut(&event.group) {
                    let before = entry.offsets.bytes();
                    entry.offsets.remove(partitions);
                    self.bytes -= before - entry.offsets.bytes();
                }
                Ok(())
            }
            change => {
                // A group that begins with a member was never without one.
                let entry = self.entry(&event.group, 0);
                let before = (entry.group.seats.len(), touched(event, &entry.group));
                let applied = Arc::make_mut(&mut entry.group).apply(change);
                let after = (entry.group.seats.len(), touched(event, &entry.group));
                self.members = self.members + after.0 - before.0;
                self.bytes = self.bytes + after.1 - before.1;
                applied.map_err(|problem| format!("group {}: {problem}", event.group))
            }
        }
    }

    fn entry(&mut self, group: &Arc<str>, at_ms: i64) -> &mut Entry {
        self.groups.entry(Arc::clone(group)).or_insert_with(|| {
            let entry = Entry {
                group: Arc::new(Group::new(at_ms)),
                offsets: Offsets::default(),
            };
            self.bytes += entry.bytes(group);
            entry
        })
    }

    fn expire(&mut self, group: &str, committed_until_ms: i64) {
        let Some(entry) = self.groups.get_mut(group) else {
            return;
        };
        if !entry.group.is_empty() {
            return;
        }
        let before = entry.bytes(group);
        entry.offsets.expire(committed_until_ms);
        if entry.offsets.is_empty() {
            self.groups.remove(group);
            self.bytes -= before;
        } else {
            self.bytes -= before - entry.bytes(group);
        }
    }
}

/// What the part of a group that an event changes takes in a snapshot at most.
fn touched(event: &Event, group: &Group) -> usize {
    let of_seat = |member: &str| group.seat(member).map_or(0, size::of_seat);
    match &event.change {
        Change::EpochSet { .. } => size::of_group(&event.group, group),
        Change::MemberSet(member) => of_seat(&member.id),
        Change::MemberRemoved { member, .. }
        | Change::TargetSet { member, .. }
        | Change::HeldSet { member, .. } => of_seat(member),
        Change::OffsetsCommitted { .. }
        | Change::OffsetsRemoved(_)
        | Change::OffsetsExpired { .. }
        | Change::Removed => 0,
    }
}
