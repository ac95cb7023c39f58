//! The cluster as clients see it: the controller's image, and who leads.

use bytes::Bytes;
use highwater_proto::v1;

use super::leaders::Leaders;
use crate::config::CLIENT_LISTENER;
use crate::controller::{BrokerState, ClusterImage, Listener, Partition, Topic};
use crate::hosted::HostedPartitions;
use crate::raft::machine::Role;

/// What metadata is made of.
pub(crate) struct Sources<'a> {
    pub(crate) image: &'a ClusterImage,
    pub(crate) hosted: &'a HostedPartitions,
    /// Where this broker stands in the controller group.
    pub(crate) controller_role: Option<Role>,
    pub(crate) leaders: &'a Leaders,
    /// Counts the changes of who leads. Read before all else, so that what is answered is at least as new.
    pub(crate) leader_changes: u64,
}

impl Sources<'_> {
    /// The cluster with the named topics, or with all, for a client that came in by `listener`. Topics that `may_see` refuses
    /// do not exist for it.
    pub(crate) fn metadata(
        &self,
        listener: &str,
        names: &[String],
        may_see: impl Fn(&str) -> bool,
    ) -> v1::ClusterMetadata {
        let mut topics: Vec<&Topic> = if names.is_empty() {
            self.image.client_topics().map(AsRef::as_ref).collect()
        } else {
            names
                .iter()
                .filter_map(|name| self.image.topic_named(name))
                .map(AsRef::as_ref)
                .collect()
        };
        topics.retain(|topic| may_see(&topic.name));
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics.dedup_by_key(|topic| topic.id);
        v1::ClusterMetadata {
            cluster_id: self.cluster_id(),
            brokers: self.brokers(listener),
            controller_broker_id: self.controller(),
            topics: topics.into_iter().map(|topic| self.topic(topic)).collect(),
            // Neither part ever goes back, so that the sum grows when one of them does.
            version: self.image.version().saturating_add(self.leader_changes),
            image_version: self.image.version(),
        }
    }

    /// UUID of the cluster.
    pub(crate) fn cluster_id(&self) -> Bytes {
        self.image
            .cluster_id()
            .map(|id| Bytes::copy_from_slice(id.as_bytes()))
            .unwrap_or_default()
    }

    /// Brokers, by id, with the addresses for a client that came in by `listener`.
    pub(crate) fn brokers(&self, listener: &str) -> Vec<v1::Broker> {
        self.image
            .brokers()
            .map(|broker| {
                let listener = reached_by(&broker.listeners, listener);
                v1::Broker {
                    broker_id: broker.id.0,
                    host: listener
                        .map(|listener| listener.host.clone())
                        .unwrap_or_default(),
                    port: listener.map_or(0, |listener| u32::from(listener.port)),
                    rack: broker.rack.clone().unwrap_or_default(),
                    alive: self.leaders.is_up(broker.id),
                    state: match broker.state {
                        BrokerState::Active => v1::BrokerState::Active,
                        BrokerState::Draining => v1::BrokerState::Draining,
                        BrokerState::Replaceable => v1::BrokerState::Replaceable,
                    }
                    .into(),
                }
            })
            .collect()
    }

    /// The broker that leads the controller group.
    pub(crate) fn controller(&self) -> Option<u32> {
        let controller = self.leaders.controller(self.image, self.controller_role);
        controller.map(|broker| broker.0)
    }

    fn topic(&self, topic: &Topic) -> v1::TopicMetadata {
        v1::TopicMetadata {
            name: topic.name.clone(),
            topic_id: Bytes::copy_from_slice(topic.id.as_bytes()),
            partitions: topic
                .numbered()
                .map(|(index, partition)| {
                    let hosted = self.hosted.get(topic.id, index).map(AsRef::as_ref);
                    let (leader, term) = self.leaders.of(partition, hosted);
                    v1::PartitionMetadata {
                        partition: index.0,
                        leader_broker_id: leader.map(|broker| broker.0),
                        leader_epoch: term.0,
                        replica_broker_ids: replica_brokers(partition),
                    }
                })
                .collect(),
        }
    }
}

/// How clients that came in by the listener `name`, here, reach a broker with these: by the one of that name there, or else
/// by the one that every broker has.
fn reached_by<'a>(listeners: &'a [Listener], name: &str) -> Option<&'a Listener> {
    let find = |name| listeners.iter().find(|one| one.name == name);
    find(name).or_else(|| find(CLIENT_LISTENER))
}

/// Brokers that hold a replica, the preferred leader first.
pub(crate) fn replica_brokers(partition: &Partition) -> Vec<u32> {
    partition
        .replicas
        .iter()
        .map(|replica| replica.broker.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_the_listener_they_came_in_by_or_the_one_that_all_have() {
        let listener = |name: &str, port| Listener {
            name: name.to_owned(),
            host: "h".to_owned(),
            port,
        };
        let listeners = [listener(CLIENT_LISTENER, 1), listener("host", 2)];
        let port = |name| reached_by(&listeners, name).map(|listener| listener.port);
        assert_eq!(port(CLIENT_LISTENER), Some(1));
        assert_eq!(port("host"), Some(2));
        assert_eq!(port("vpn"), Some(1));
        assert_eq!(reached_by(&[], "host"), None);
    }
}
