//! How a cluster goes on as another one.

use uuid::Uuid;

use super::{ClusterImage, NextIds};
use crate::raft::{GroupId, ReplicaId};
use highwater_proto::ProducerId;

/// Ids that are left out: more than entries that are lost can have given to somebody.
const LEFT_OUT: u64 = 1_000_000_000;

impl ClusterImage {
    /// The cluster goes on as another one, with what this image knows. Entries after it may be lost.
    /// - Ids that those gave to groups, replicas or producers are in use, and are never given again.
    /// - Replicas may have been moved away and their logs deleted. One that is placed here again must not begin as a founder of its
    ///   group, as if nothing had been in it: it begins without members, and waits for a leader that takes it in.
    pub(super) fn succeed(&mut self, cluster_id: Uuid) -> Result<(), String> {
        if self.cluster_id.is_none() || self.cluster_id == Some(cluster_id) {
            return Err(format!("there is no cluster that {cluster_id} succeeds"));
        }
        let exhausted = || "ids are exhausted".to_owned();
        let after = |id: u64| id.checked_add(LEFT_OUT).ok_or_else(exhausted);
        let producers = i64::try_from(LEFT_OUT).map_err(|_| exhausted())?;
        let producer = self.next.producer.0.checked_add(producers);
        self.next = NextIds {
            group: GroupId(after(self.next.group.0)?),
            replica: ReplicaId(after(self.next.replica.0)?),
            producer: ProducerId(producer.ok_or_else(exhausted)?),
        };
        self.cluster_id = Some(cluster_id);
        let topics: Vec<_> = self.topics().map(|topic| topic.id).collect();
        for topic in topics {
            self.change_topic(topic, |topic| {
                for partition in &mut topic.partitions {
                    partition.founders.clear();
                    partition.epoch = partition.epoch.saturating_add(1);
                }
            })?;
        }
        Ok(())
    }
}
