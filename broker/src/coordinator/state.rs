//! All groups of one coordinator.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Change, Event};
use super::group::Group;
use super::offsets::Offsets;

/// A group and its offsets. The members can be looked at and changed apart from the offsets, which are many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) group: Arc<Group>,
    pub(super) offsets: Offsets,
}

/// What the log of a coordinator says up to some index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) groups: BTreeMap<Arc<str>, Entry>,
    /// Members of all groups.
    pub(super) members: usize,
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
                }
                Ok(())
            }
            Change::OffsetsExpired { committed_until_ms } => {
                self.expire(&event.group, *committed_until_ms);
                Ok(())
            }
            Change::OffsetsCommitted { at_ms, offsets } => {
                self.entry(&event.group, *at_ms)
                    .offsets
                    .commit(*at_ms, offsets);
                Ok(())
            }
            Change::OffsetsRemoved(partitions) => {
                if let Some(entry) = self.groups.get_mut(&event.group) {
                    entry.offsets.remove(partitions);
                }
                Ok(())
            }
            change => {
                // A group that begins with a member was never without one.
                let entry = self.entry(&event.group, 0);
                let before = entry.group.seats.len();
                let applied = Arc::make_mut(&mut entry.group).apply(change);
                let after = entry.group.seats.len();
                self.members = self.members + after - before;
                applied.map_err(|problem| format!("group {}: {problem}", event.group))
            }
        }
    }

    fn entry(&mut self, group: &Arc<str>, at_ms: i64) -> &mut Entry {
        self.groups
            .entry(Arc::clone(group))
            .or_insert_with(|| Entry {
                group: Arc::new(Group::new(at_ms)),
                offsets: Offsets::default(),
            })
    }

    fn expire(&mut self, group: &str, committed_until_ms: i64) {
        let Some(entry) = self.groups.get_mut(group) else {
            return;
        };
        if !entry.group.is_empty() {
            return;
        }
        entry.offsets.expire(committed_until_ms);
        if entry.offsets.is_empty() {
            self.groups.remove(group);
        }
    }
}
