//! What a broker must do so that its replicas are those that the cluster's image says.
//!
//! Data is deleted only when a committed deletion names the topic's UUID and the image says that this broker holds a
//! replica of it. A replica that the image does not know at all is kept and reported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_proto::{BrokerId, PartitionIndex, TopicId};

use super::image::{ClusterImage, DeletedTopic, Partition, Replica, Topic};
use crate::raft::{GroupId, ReplicaId};
use crate::topic::TopicConfig;

/// Which replica of which partition: what the name of its directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The replica.
    pub replica: ReplicaId,
}

/// How a replica that is on this broker fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its group runs.
    Running,
    /// Its directory is there, but nothing runs in it.
    Stopped,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a replica; create its log when it is not there.
    StartReplica(StartReplica),
    /// Put a topic's new configuration in force on a running replica.
    Reconfigure {
        /// The replica.
        location: Location,
        /// Its Raft group.
        group: GroupId,
        /// The configuration.
        config: Arc<TopicConfig>,
    },
    /// Stop a replica and delete its log: its topic was deleted.
    DeleteReplica {
        /// The replica.
        location: Location,
        /// Its Raft group.
        group: GroupId,
    },
    /// Tell the controller that nothing of a deleted topic is here any more.
    ReportDeletion {
        /// The deleted topic.
        topic_id: TopicId,
    },
}

/// What is needed to start a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartReplica {
    /// The replica.
    pub location: Location,
    /// Name of the topic, for people.
    pub topic_name: String,
    /// Whether it is that of a coordinator of consumer groups.
    pub is_coordinator: bool,
    /// Its Raft group.
    pub group: GroupId,
    /// The group's first voters, this one among them.
    pub replicas: Vec<Replica>,
    /// The configuration in force.
    pub config: Arc<TopicConfig>,
}

/// What to do, and what to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// Replicas that are here and that the image does not place here. They are kept: `cluster health` shows them.
    pub unknown: Vec<Location>,
}

/// Compares what `new` says with what is here. `old` is the image that was reconciled last, `None` at the start; it
/// only says which configurations are in force already.
pub fn reconcile(
    old: Option<&ClusterImage>,
    new: &ClusterImage,
    me: BrokerId,
    present: &BTreeMap<Location, Presence>,
) -> Plan {
    let mut plan = Plan::default();
    for deleted in new.deleted_topics() {
        plan.delete(deleted, me, present);
    }
    for topic in new.topics() {
        plan.keep(old, topic, me, present);
    }
    for location in present.keys() {
        let is_known = has_replica(new.topic(location.topic_id), location, me)
            || has_replica(
                new.deleted_topic(location.topic_id)
                    .map(|deleted| &deleted.topic),
                location,
                me,
            );
        if !is_known {
            plan.unknown.push(*location);
        }
    }
    plan
}

impl Plan {
    /// A live topic: start what is not running, and bring new configuration to what is.
    fn keep(
        &mut self,
        old: Option<&ClusterImage>,
        topic: &Topic,
        me: BrokerId,
        present: &BTreeMap<Location, Presence>,
    ) {
        let before = old.and_then(|old| old.topic(topic.id));
        let is_in_force = before.is_some_and(|before| before.config == topic.config);
        for (location, partition) in replicas_on(topic, me) {
            if present.get(&location) != Some(&Presence::Running) {
                self.actions.push(Action::StartReplica(StartReplica {
                    location,
                    topic_name: topic.name.clone(),
                    is_coordinator: topic.is_internal(),
                    group: partition.group,
                    replicas: partition.replicas.clone(),
                    config: Arc::clone(&topic.config),
                }));
            } else if !is_in_force {
                self.actions.push(Action::Reconfigure {
                    location,
                    group: partition.group,
                    config: Arc::clone(&topic.config),
                });
            }
        }
    }

    /// A deleted topic: delete what is here, and report when nothing is.
    fn delete(
        &mut self,
        deleted: &DeletedTopic,
        me: BrokerId,
        present: &BTreeMap<Location, Presence>,
    ) {
        let here: BTreeSet<_> = replicas_on(&deleted.topic, me)
            .filter(|(location, _)| present.contains_key(location))
            .map(|(location, partition)| (location, partition.group))
            .collect();
        if here.is_empty() && deleted.waiting.contains(&me) {
            let topic_id = deleted.topic.id;
            self.actions.push(Action::ReportDeletion { topic_id });
        }
        let delete = |(location, group)| Action::DeleteReplica { location, group };
        self.actions.extend(here.into_iter().map(delete));
    }
}

/// The replicas of a topic that `broker` holds.
fn replicas_on(topic: &Topic, broker: BrokerId) -> impl Iterator<Item = (Location, &Partition)> {
    topic.numbered().filter_map(move |(index, partition)| {
        let replica = partition.replica_on(broker)?;
        let location = Location {
            topic_id: topic.id,
            partition: index,
            replica: replica.id,
        };
        Some((location, partition))
    })
}

fn has_replica(topic: Option<&Arc<Topic>>, location: &Location, broker: BrokerId) -> bool {
    topic
        .and_then(|topic| topic.partition(location.partition))
        .and_then(|partition| partition.replica_on(broker))
        .is_some_and(|replica| replica.id == location.replica)
}

#[cfg(test)]
mod tests {
    use highwater_storage::RaftIndex;
    use uuid::Uuid;

    use super::*;
    use crate::controller::event::Event;
    use crate::topic::config_keys::{Overrides, resolve};

    const ME: BrokerId = BrokerId(1);
    const OTHER: BrokerId = BrokerId(2);

    fn topic_id(number: u128) -> TopicId {
        TopicId(Uuid::from_u128(number))
    }

    /// A topic whose partition 0 is here and on the other broker, and whose partition 1 is not here.
    fn topic(number: u64) -> Topic {
        let group = 100 + number * 10;
        let replica = |id, broker| Replica {
            id: ReplicaId(id),
            broker,
        };
        Topic {
            id: topic_id(u128::from(number)),
            name: format!("topic-{number}"),
            replication_factor: 2,
            partitions: vec![
                Partition {
                    group: GroupId(group),
                    replicas: vec![replica(group, ME), replica(group + 1, OTHER)],
                },
                Partition {
                    group: GroupId(group + 1),
                    replicas: vec![replica(group + 2, OTHER)],
                },
            ],
            overrides: Overrides::new(),
            config: Arc::new(TopicConfig::default()),
        }
    }

    fn here(number: u64) -> Location {
        Location {
            topic_id: topic_id(u128::from(number)),
            partition: PartitionIndex(0),
            replica: ReplicaId(100 + number * 10),
        }
    }

    fn image(events: &[Event]) -> ClusterImage {
        let mut image = ClusterImage::default();
        image.apply(RaftIndex(1), events).unwrap();
        image
    }

    fn created(number: u64) -> Event {
        Event::TopicCreated(Arc::new(topic(number)))
    }

    fn deleted(number: u128) -> Event {
        Event::TopicDeleted {
            topic_id: topic_id(number),
        }
    }

    fn start(number: u64) -> Action {
        let topic = topic(number);
        Action::StartReplica(StartReplica {
            location: here(number),
            topic_name: topic.name,
            is_coordinator: false,
            group: topic.partitions[0].group,
            replicas: topic.partitions[0].replicas.clone(),
            config: topic.config,
        })
    }

    fn actions(
        old: Option<&ClusterImage>,
        new: &ClusterImage,
        present: &[(Location, Presence)],
    ) -> Vec<Action> {
        let plan = reconcile(old, new, ME, &present.iter().copied().collect());
        assert_eq!(plan.unknown, []);
        plan.actions
    }

    #[test]
    fn what_is_placed_here_is_started() {
        let image = image(&[created(1), created(2)]);
        assert_eq!(actions(None, &image, &[]), [start(1), start(2)]);
        let one = [(here(1), Presence::Running), (here(2), Presence::Stopped)];
        assert_eq!(actions(Some(&image), &image, &one), [start(2)]);
    }

    #[test]
    fn a_running_replica_gets_new_configuration_once() {
        let overrides = Overrides::from([("retention.ms".to_owned(), "5".to_owned())]);
        let altered = Event::TopicConfigsAltered {
            topic_id: topic_id(1),
            overrides: overrides.clone(),
        };
        let old = image(&[created(1), created(2)]);
        let mut new = old.clone();
        new.apply(RaftIndex(2), &[altered]).unwrap();
        let running = [(here(1), Presence::Running), (here(2), Presence::Running)];
        let reconfigure = Action::Reconfigure {
            location: here(1),
            group: GroupId(110),
            config: Arc::new(resolve(&overrides)),
        };
        assert_eq!(actions(Some(&old), &new, &running), [reconfigure]);
        assert_eq!(actions(Some(&new), &new, &running), []);
    }

    #[test]
    fn a_deleted_topic_is_deleted_here_and_then_reported() {
        let image = image(&[created(1), deleted(1)]);
        let delete = Action::DeleteReplica {
            location: here(1),
            group: GroupId(110),
        };
        for presence in [Presence::Running, Presence::Stopped] {
            let present = [(here(1), presence)];
            assert_eq!(
                actions(None, &image, &present),
                std::slice::from_ref(&delete)
            );
        }
        let report = Action::ReportDeletion {
            topic_id: topic_id(1),
        };
        assert_eq!(actions(None, &image, &[]), [report]);
        let mut reported = image.clone();
        let event = Event::TopicDeletionReported {
            topic_id: topic_id(1),
            broker: ME,
        };
        reported.apply(RaftIndex(2), &[event]).unwrap();
        assert_eq!(actions(None, &reported, &[]), []);
    }

    #[test]
    fn what_the_image_does_not_place_here_is_kept_and_shown() {
        let deleted_elsewhere = Location {
            replica: ReplicaId(121),
            ..here(2)
        };
        let other_partition = Location {
            partition: PartitionIndex(1),
            ..here(1)
        };
        let other_replica = Location {
            replica: ReplicaId(7),
            ..here(1)
        };
        let image = image(&[created(1), created(2), deleted(2)]);
        let strangers = [here(9), other_partition, other_replica, deleted_elsewhere];
        let mut present: BTreeMap<_, _> = strangers
            .iter()
            .map(|location| (*location, Presence::Stopped))
            .collect();
        present.insert(here(1), Presence::Running);
        let plan = reconcile(Some(&image), &image, ME, &present);
        assert_eq!(
            plan.actions,
            [Action::ReportDeletion {
                topic_id: topic_id(2)
            }]
        );
        assert_eq!(
            plan.unknown.iter().collect::<BTreeSet<_>>(),
            strangers.iter().collect::<BTreeSet<_>>()
        );
    }

    #[test]
    fn an_empty_image_deletes_nothing() {
        let present = BTreeMap::from([(here(1), Presence::Running)]);
        let plan = reconcile(None, &ClusterImage::default(), ME, &present);
        assert_eq!((plan.actions, plan.unknown), (vec![], vec![here(1)]));
    }
}
