//! How a partition begins again with one of its replicas.

use std::sync::Arc;

use highwater_proto::{PartitionIndex, TopicId};

use super::{ClusterImage, Topic, after};
use crate::controller::partition::{Recovery, Replica};
use crate::raft::{GroupId, ReplicaId};

impl ClusterImage {
    /// Partitions that began again with less than they had, and have not all of their replicas again.
    pub fn recovered(&self) -> impl Iterator<Item = (&Arc<Topic>, PartitionIndex, &Recovery)> {
        self.topics().flat_map(|topic| {
            let numbered = topic.numbered();
            numbered.filter_map(move |(index, at)| Some((topic, index, at.recovery.as_ref()?)))
        })
    }

    pub(super) fn recover_partition(
        &mut self,
        topic_id: TopicId,
        index: PartitionIndex,
        group: GroupId,
        survivor: ReplicaId,
        recovery: &Recovery,
    ) -> Result<(), String> {
        let partition = self.partition(topic_id, index);
        let mut replicas = partition.iter().flat_map(|at| &at.replicas);
        let survivor: Replica = *replicas
            .find(|replica| replica.id == survivor)
            .ok_or_else(|| format!("no replica {} is left of {topic_id}", survivor.0))?;
        if group < self.next.group {
            return Err(format!("group id {} is used again", group.0));
        }
        self.next.group = GroupId(after(group.0)?);
        Arc::make_mut(&mut self.reassigned).remove(&(topic_id, index));
        self.change_partition(topic_id, index, |partition| {
            partition.group = group;
            partition.founders = vec![survivor.id];
            partition.replicas = vec![survivor];
            partition.lost.clear();
            partition.reassignment = None;
            partition.recovery = Some(recovery.clone());
        })
    }

    pub(super) fn report_recovery(
        &mut self,
        topic_id: TopicId,
        index: PartitionIndex,
    ) -> Result<(), String> {
        self.change_partition(topic_id, index, |partition| {
            if let Some(recovery) = &mut partition.recovery {
                recovery.has_begun = true;
            }
        })?;
        self.settle_recoveries(topic_id)
    }

    /// A recovery is over when the partition has as many replicas as it should have.
    pub(super) fn settle_recoveries(&mut self, topic_id: TopicId) -> Result<(), String> {
        let is_over = |topic: &Topic, index: usize| {
            let partition = &topic.partitions[index];
            let begun = partition.recovery.as_ref().is_some_and(|at| at.has_begun);
            begun
                && u32::try_from(partition.replicas.len())
                    .is_ok_and(|count| count >= topic.replication_factor)
        };
        let Some(topic) = self.topic(topic_id) else {
            return Ok(());
        };
        let over: Vec<_> = (0..topic.partitions.len())
            .filter(|index| is_over(topic, *index))
            .collect();
        if over.is_empty() {
            return Ok(());
        }
        self.change_topic(topic_id, |topic| {
            for index in over {
                topic.partitions[index].recovery = None;
            }
        })
    }
}
