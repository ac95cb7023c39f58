//! What the leader of a coordinator sees of members and what is in no log: which partitions they have paused, and whom it
//! has removed lately. Only shown to people; another leader begins without it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::command::Expiry;
use super::member::TopicPartition;
use super::view::PausedPartition;

/// Removed members that are remembered, of all groups together.
const MAX_REMOVED: usize = 1_000;

type Who = (Arc<str>, Arc<str>);

/// A member that was removed because its time was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedMember {
    /// Its id.
    pub id: Arc<str>,
    /// Its instance id.
    pub instance: Option<Arc<str>>,
    /// The name of its client.
    pub client_id: String,
    /// Which time was over.
    pub expiry: Expiry,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What it had then.
    pub had: Vec<TopicPartition>,
}

/// What was seen of members.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Members that have paused something, and what, with when they first said so.
    paused: HashMap<Who, BTreeMap<TopicPartition, Duration>>,
    /// With their groups, the last one last.
    removed: VecDeque<(Arc<str>, RemovedMember)>,
}

impl Observed {
    /// A member says at some time what it has paused, nothing included.
    pub(super) fn heard(
        &mut self,
        group: &Arc<str>,
        member: &Arc<str>,
        at: Duration,
        paused: &BTreeSet<TopicPartition>,
    ) {
        let who = (Arc::clone(group), Arc::clone(member));
        if paused.is_empty() {
            self.paused.remove(&who);
            return;
        }
        let since = self.paused.entry(who).or_default();
        since.retain(|partition, _| paused.contains(partition));
        for partition in paused {
            since.entry(*partition).or_insert(at);
        }
    }

    /// Others led meanwhile: what members said before may have been taken back.
    pub(super) fn forget_paused(&mut self) {
        self.paused.clear();
    }

    /// A member is gone.
    pub(super) fn forget(&mut self, group: &Arc<str>, member: &Arc<str>) {
        self.paused.remove(&(Arc::clone(group), Arc::clone(member)));
    }

    /// A member is being removed because its time is over. Told again, it counts once.
    pub(super) fn remove(&mut self, group: &Arc<str>, removed: RemovedMember) {
        self.forget(group, &removed.id);
        self.removed
            .retain(|(of, before)| (of, &before.id) != (group, &removed.id));
        if self.removed.len() == MAX_REMOVED {
            self.removed.pop_front();
        }
        self.removed.push_back((Arc::clone(group), removed));
    }

    /// What a member has paused of what it has, as of some time.
    pub(super) fn paused(
        &self,
        group: &Arc<str>,
        member: &Arc<str>,
        at: Duration,
        has: &[TopicPartition],
    ) -> Vec<PausedPartition> {
        let Some(since) = self.paused.get(&(Arc::clone(group), Arc::clone(member))) else {
            return Vec::new();
        };
        let paused = has.iter().filter_map(|partition| {
            Some(PausedPartition {
                partition: *partition,
                told_ago: at.saturating_sub(*since.get(partition)?),
            })
        });
        paused.collect()
    }

    /// Members of a group that were removed, the last one first.
    pub(super) fn removed(&self, group: &str) -> impl Iterator<Item = &RemovedMember> {
        let newest_first = self.removed.iter().rev();
        newest_first.filter_map(move |(of, removed)| (**of == *group).then_some(removed))
    }
}

#[cfg(test)]
mod tests {
    use highwater_proto::{PartitionIndex, TopicId};

    use super::*;

    fn partition(index: u32) -> TopicPartition {
        TopicPartition {
            topic: TopicId::from_slice(&[7; 16]).unwrap(),
            index: PartitionIndex(index),
        }
    }

    fn removed(id: &str, at_ms: i64) -> RemovedMember {
        RemovedMember {
            id: id.into(),
            instance: None,
            client_id: String::new(),
            expiry: Expiry::Session,
            at_ms,
            had: Vec::new(),
        }
    }

    fn ids<'a>(observed: &'a Observed, group: &str) -> Vec<(&'a str, i64)> {
        let removed = observed.removed(group);
        removed.map(|one| (&*one.id, one.at_ms)).collect()
    }

    #[test]
    fn paused_is_what_was_said_last_of_what_the_member_has() {
        let mut observed = Observed::default();
        let (group, member) = ("g".into(), "m".into());
        let mut says = |at_s, indexes: &[u32]| {
            let said = indexes.iter().map(|index| partition(*index)).collect();
            observed.heard(&group, &member, Duration::from_secs(at_s), &said);
            let has = [partition(1), partition(2), partition(3)];
            let paused = observed.paused(&group, &member, Duration::from_secs(10), &has);
            let paused = paused.into_iter();
            let told = paused.map(|one| (one.partition.index.0, one.told_ago.as_secs()));
            told.collect::<Vec<_>>()
        };
        assert_eq!(says(1, &[0, 1, 2]), [(1, 9), (2, 9)]);
        assert_eq!(says(4, &[0, 2, 3]), [(2, 9), (3, 6)]);
        assert_eq!(says(5, &[1, 2]), [(1, 5), (2, 9)]);
        assert_eq!(says(6, &[]), []);
        assert_eq!(says(7, &[1]), [(1, 3)]);
    }

    #[test]
    fn who_is_removed_is_remembered_once_and_for_its_group() {
        let mut observed = Observed::default();
        let group: Arc<str> = "g".into();
        observed.remove(&group, removed("a", 1));
        observed.remove(&group, removed("b", 2));
        observed.remove(&"other".into(), removed("c", 3));
        observed.remove(&group, removed("a", 4));
        assert_eq!(ids(&observed, "g"), [("a", 4), ("b", 2)]);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut observed = Observed::default();
        let group: Arc<str> = "g".into();
        for at_ms in 0..=MAX_REMOVED as i64 {
            observed.remove(&group, removed(&at_ms.to_string(), at_ms));
        }
        let remembered = ids(&observed, "g");
        assert_eq!(remembered.len(), MAX_REMOVED);
        assert_eq!(remembered.last(), Some(&("1", 1)));
    }
}
