//! How replicas of partitions, and brokers, come and go.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_proto::{BrokerId, PartitionIndex, TopicId};
use uuid::Uuid;

use super::{Broker, BrokerState, ClusterImage, Topic, no_topic};
use crate::controller::partition::{Partition, Reassignment, RemovedReplica, Replica};
use crate::raft::ReplicaId;

impl ClusterImage {
    /// The partitions whose replicas are being changed, by topic and number.
    pub fn reassigned(
        &self,
    ) -> impl ExactSizeIterator<Item = (&Arc<Topic>, PartitionIndex, &Partition)> {
        self.reassigned.iter().map(|(id, index)| {
            let topic = &self.topics.by_id[id];
            (topic, *index, &topic.partitions[index.0 as usize])
        })
    }

    /// Replicas that are members of no group any more and that their brokers may still hold, by id.
    pub fn removed_replicas(&self) -> impl ExactSizeIterator<Item = (ReplicaId, &RemovedReplica)> {
        self.removed.iter().map(|(id, removed)| (*id, removed))
    }

    /// The removed replica of this id, while its broker may still hold it.
    pub fn removed_replica(&self, id: ReplicaId) -> Option<&RemovedReplica> {
        self.removed.get(&id)
    }

    /// Data directories of brokers that were removed, and the ids that they had.
    pub fn retired(&self) -> impl ExactSizeIterator<Item = (Uuid, BrokerId)> {
        self.retired
            .iter()
            .map(|(incarnation, id)| (*incarnation, *id))
    }

    /// Whether a broker with this data directory was removed from the cluster.
    pub fn is_retired(&self, incarnation_id: Uuid) -> bool {
        self.retired.contains_key(&incarnation_id)
    }

    /// Whether a replica of a live topic is or will be on `broker`.
    pub fn holds_replicas(&self, broker: BrokerId) -> bool {
        let mut partitions = self.topics().flat_map(|topic| &topic.partitions);
        partitions.any(|partition| partition.everybody().any(|at| at.broker == broker))
    }

    /// Brokers that are being decommissioned.
    pub fn draining(&self) -> BTreeSet<BrokerId> {
        let draining = |broker: &&Arc<Broker>| broker.state == BrokerState::Draining;
        self.brokers()
            .filter(draining)
            .map(|broker| broker.id)
            .collect()
    }

    /// Whether draining brokers, lost replicas or coordinators with too few call for changes of replicas that did not begin yet, or
    /// are to be undone.
    pub fn wants_moves(&self) -> bool {
        let draining = self.draining();
        let mut partitions = self.topics().flat_map(|topic| &topic.partitions);
        let is_called_for = partitions.any(|partition| {
            let mut replicas = partition.replicas.iter();
            partition.leads_to(&draining).next().is_some()
                || !partition.is_changing()
                    && (!partition.lost.is_empty()
                        || replicas.any(|at| draining.contains(&at.broker)))
        });
        is_called_for || self.small_coordinators().next().is_some()
    }

    /// Brokers that are being decommissioned and hold no replica of a topic any more.
    pub fn drained(&self) -> impl Iterator<Item = &Arc<Broker>> {
        let is_drained = |broker: &&Arc<Broker>| {
            broker.state == BrokerState::Draining && !self.holds_replicas(broker.id)
        };
        self.brokers().filter(is_drained)
    }

    /// The partition of this topic and number.
    pub fn partition(&self, topic: TopicId, index: PartitionIndex) -> Option<&Partition> {
        self.topic(topic)?.partition(index)
    }

    pub(super) fn start_reassignment(
        &mut self,
        topic_id: TopicId,
        index: PartitionIndex,
        target: &[Replica],
    ) -> Result<(), String> {
        let partition = self
            .partition(topic_id, index)
            .ok_or_else(|| no_topic(topic_id))?;
        if partition.is_changing() {
            return Err(format!("partition {index} of {topic_id} is moved already"));
        }
        if target.is_empty() {
            return Err(format!("partition {index} of {topic_id} is moved nowhere"));
        }
        let new: Vec<_> = target
            .iter()
            .filter(|replica| !partition.replicas.contains(replica))
            .map(|replica| replica.id)
            .collect();
        for id in new {
            self.use_replica(id)?;
        }
        let target = target.to_vec();
        self.change_partition(topic_id, index, |partition| {
            partition.reassignment = Some(Reassignment {
                target,
                is_cancelled: false,
            });
        })?;
        Arc::make_mut(&mut self.reassigned).insert((topic_id, index));
        Ok(())
    }

    pub(super) fn cancel_reassignment(
        &mut self,
        topic_id: TopicId,
        index: PartitionIndex,
    ) -> Result<(), String> {
        self.check_reassigned(topic_id, index)?;
        self.change_partition(topic_id, index, |partition| {
            if let Some(moving) = &mut partition.reassignment {
                moving.is_cancelled = true;
            }
        })
    }

    pub(super) fn end_reassignment(
        &mut self,
        topic_id: TopicId,
        index: PartitionIndex,
        is_done: bool,
    ) -> Result<(), String> {
        let partition = self.check_reassigned(topic_id, index)?;
        let leaving: Vec<_> = if is_done {
            partition.removing().copied().collect()
        } else {
            partition.adding().copied().collect()
        };
        let group = partition.group;
        let removed = Arc::make_mut(&mut self.removed);
        for Replica { id, broker } in leaving {
            let entry = RemovedReplica {
                topic_id,
                partition: index,
                group,
                broker,
            };
            removed.insert(id, entry);
        }
        Arc::make_mut(&mut self.reassigned).remove(&(topic_id, index));
        self.change_partition(topic_id, index, |partition| {
            if let Some(moving) = partition.reassignment.take().filter(|_| is_done) {
                partition.replicas = moving.target;
            }
            let replicas = &partition.replicas;
            partition
                .lost
                .retain(|lost| replicas.iter().any(|replica| replica.id == *lost));
        })?;
        self.settle_recoveries(topic_id)
    }

    pub(super) fn report_removal(&mut self, replica: ReplicaId) -> Result<(), String> {
        let removed = Arc::make_mut(&mut self.removed).remove(&replica);
        removed
            .map(drop)
            .ok_or_else(|| format!("the removal of replica {} is reported again", replica.0))
    }

    pub(super) fn set_broker_state(
        &mut self,
        id: BrokerId,
        state: BrokerState,
    ) -> Result<(), String> {
        let brokers = Arc::make_mut(&mut self.brokers);
        let broker = brokers.get_mut(&id).ok_or_else(|| no_broker(id))?;
        Arc::make_mut(broker).state = state;
        Ok(())
    }

    /// A broker is gone for good. It reports nothing any more.
    pub(super) fn remove_broker(&mut self, id: BrokerId) -> Result<(), String> {
        if self.holds_replicas(id) {
            return Err(format!("broker {id} is removed and holds replicas"));
        }
        let removed = Arc::make_mut(&mut self.brokers).remove(&id);
        let broker = removed.ok_or_else(|| no_broker(id))?;
        Arc::make_mut(&mut self.retired).insert(broker.incarnation_id, id);
        Arc::make_mut(&mut self.removed).retain(|_, removed| removed.broker != id);
        let waits_for_it: Vec<_> = self
            .deleted_topics()
            .filter(|deleted| deleted.waiting.contains(&id))
            .map(|deleted| deleted.topic.id)
            .collect();
        for topic in waits_for_it {
            self.report_deletion(topic, id)?;
        }
        Ok(())
    }

    /// A broker has another data directory: what its replicas had is gone, and so is what it had yet to delete.
    pub(super) fn lose_replicas(&mut self, broker: BrokerId) {
        Arc::make_mut(&mut self.removed).retain(|_, removed| removed.broker != broker);
        self.lose_replicas_where(broker, |_| true);
    }

    /// The data directory of a broker was set back to an old copy: its replicas lack what they acknowledged since. Of what nobody
    /// else holds, the copy is all that is left.
    pub(super) fn set_back_broker(&mut self, broker: BrokerId) -> Result<(), String> {
        if self.broker(broker).is_none() {
            return Err(no_broker(broker));
        }
        let is_held_elsewhere = |partition: &Partition| {
            let mut others = partition.replicas.iter().filter(|at| at.broker != broker);
            others.any(|at| !partition.lost.contains(&at.id))
        };
        self.lose_replicas_where(broker, is_held_elsewhere);
        Ok(())
    }

    /// Marks the replicas on `broker` of such partitions as lost.
    fn lose_replicas_where(&mut self, broker: BrokerId, is_affected: impl Fn(&Partition) -> bool) {
        let affected: Vec<_> = self
            .topics()
            .flat_map(|topic| topic.numbered().map(|(index, at)| (topic.id, index, at)))
            .filter(|(_, _, partition)| partition.everybody().any(|at| at.broker == broker))
            .filter(|(_, _, partition)| is_affected(partition))
            .map(|(topic_id, index, _)| (topic_id, index))
            .collect();
        for (topic_id, index) in affected {
            let changed = self.change_partition(topic_id, index, |partition| {
                let there = partition.everybody().filter(|at| at.broker == broker);
                let lost: Vec<_> = there.map(|replica| replica.id).collect();
                partition.lost.extend(lost);
            });
            debug_assert_eq!(changed, Ok(()), "the partition was just found");
        }
    }

    fn check_reassigned(
        &self,
        topic_id: TopicId,
        index: PartitionIndex,
    ) -> Result<&Partition, String> {
        self.partition(topic_id, index)
            .filter(|partition| partition.reassignment.is_some())
            .ok_or_else(|| format!("partition {index} of {topic_id} is not moved"))
    }

    /// Changes a partition that is there, and counts the change.
    pub(super) fn change_partition(
        &mut self,
        topic_id: TopicId,
        index: PartitionIndex,
        change: impl FnOnce(&mut Partition),
    ) -> Result<(), String> {
        self.change_topic(topic_id, |topic| {
            if let Some(partition) = topic.partitions.get_mut(index.0 as usize) {
                change(partition);
                partition.epoch = partition.epoch.saturating_add(1);
            }
        })
    }
}

fn no_broker(id: BrokerId) -> String {
    format!("there is no broker {id}")
}
