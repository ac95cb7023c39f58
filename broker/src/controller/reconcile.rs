//! What a broker must do so that its replicas are those that the cluster's image says.
//!
//! Data is deleted only when a committed deletion names the topic's UUID and the image says that this broker holds a
//! replica of it, or when a committed decision names the replica: it is a member of its group no more. A replica that the
//! image does not know at all is kept and reported.
//!
//! Where a new replica takes the place of one on the same broker, only the new one runs: the old one is laid aside with its
//! data until the change is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_proto::{BrokerId, PartitionIndex, TopicId};

use super::image::{ClusterImage, DeletedTopic, Topic};
use super::partition::Partition;
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
    /// It was laid aside by this process: its log is open, but it takes no part in its group.
    LaidAside,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a replica; create its log when it is not there.
    StartReplica(StartReplica),
    /// Let a replica that was laid aside take its place again: the one that was to take it did not come to be.
    TakeUp(StartReplica),
    /// Start a replica as the only one of a new group, whether it runs in another one or was only found, and report when that
    /// is durable.
    Refound(StartReplica),
    /// Put a topic's new configuration in force on a running replica.
    Reconfigure {
        /// The replica.
        location: Location,
        /// Its Raft group.
        group: GroupId,
        /// The configuration.
        config: Arc<TopicConfig>,
    },
    /// Stop a replica and keep its log: another one takes its place.
    LayAside {
        /// The replica.
        location: Location,
        /// Its Raft group.
        group: GroupId,
    },
    /// Tell the controller that nothing of a removed replica is here any more.
    ReportRemoval {
        /// The replica.
        replica: ReplicaId,
    },
    /// Stop a replica and delete its log: its topic was deleted, or it was removed.
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
    /// The group's first voters.
    pub founders: Vec<ReplicaId>,
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
    plan.delete_removed(new, me, present);
    for topic in new.topics() {
        plan.keep(old, topic, me, present);
    }
    for location in present.keys() {
        let deleted = new.deleted_topic(location.topic_id);
        let is_known = has_replica(new.topic(location.topic_id), location, me)
            || has_replica(deleted.map(|deleted| &deleted.topic), location, me)
            || new.removed_replica(location.replica).is_some();
        if !is_known {
            plan.unknown.push(*location);
            plan.leave_given_up(new, location, present);
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
        for (index, partition) in topic.numbered() {
            let Some(replica) = partition.replica_on(me) else {
                continue;
            };
            let location = Location {
                topic_id: topic.id,
                partition: index,
                replica: replica.id,
            };
            let group = partition.group;
            for (other, _) in everybody_on(topic.id, index, partition, me) {
                if other != location && present.get(&other) == Some(&Presence::Running) {
                    let location = other;
                    self.actions.push(Action::LayAside { location, group });
                }
            }
            let start = || StartReplica {
                location,
                topic_name: topic.name.clone(),
                is_coordinator: topic.is_internal(),
                group,
                founders: partition.founders.clone(),
                config: Arc::clone(&topic.config),
            };
            if partition.is_refounding() {
                self.actions.push(Action::Refound(start()));
                continue;
            }
            match present.get(&location) {
                Some(Presence::LaidAside) => self.actions.push(Action::TakeUp(start())),
                Some(Presence::Running) if is_in_force => {}
                Some(Presence::Running) => self.actions.push(Action::Reconfigure {
                    location,
                    group,
                    config: Arc::clone(&topic.config),
                }),
                Some(Presence::Stopped) | None => {
                    self.actions.push(Action::StartReplica(start()));
                }
            }
        }
    }

    /// A replica that was given up when its partition began again elsewhere: whoever still runs it must not elect with others
    /// like it. What it holds is kept.
    fn leave_given_up(
        &mut self,
        new: &ClusterImage,
        location: &Location,
        present: &BTreeMap<Location, Presence>,
    ) {
        let partition = new.partition(location.topic_id, location.partition);
        let is_running = present.get(location) == Some(&Presence::Running);
        if let Some(partition) = partition.filter(|_| is_running) {
            self.actions.push(Action::LayAside {
                location: *location,
                group: partition.group,
            });
        }
    }

    /// Removed replicas: delete what is here, and report what is not.
    fn delete_removed(
        &mut self,
        new: &ClusterImage,
        me: BrokerId,
        present: &BTreeMap<Location, Presence>,
    ) {
        for (id, removed) in new.removed_replicas() {
            if removed.broker != me {
                continue;
            }
            let location = Location {
                topic_id: removed.topic_id,
                partition: removed.partition,
                replica: id,
            };
            let action = if present.contains_key(&location) {
                let group = removed.group;
                Action::DeleteReplica { location, group }
            } else {
                Action::ReportRemoval { replica: id }
            };
            self.actions.push(action);
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

/// The replicas of a topic that `broker` holds or will hold.
fn replicas_on(topic: &Topic, broker: BrokerId) -> impl Iterator<Item = (Location, &Partition)> {
    let numbered = topic.numbered();
    numbered.flat_map(move |(index, at)| everybody_on(topic.id, index, at, broker))
}

/// The replicas of a partition that `broker` holds or will hold: two where one takes the place of the other.
fn everybody_on(
    topic_id: TopicId,
    index: PartitionIndex,
    partition: &Partition,
    broker: BrokerId,
) -> impl Iterator<Item = (Location, &Partition)> {
    let there = partition.everybody().filter(move |at| at.broker == broker);
    there.map(move |replica| {
        let location = Location {
            topic_id,
            partition: index,
            replica: replica.id,
        };
        (location, partition)
    })
}

fn has_replica(topic: Option<&Arc<Topic>>, location: &Location, broker: BrokerId) -> bool {
    let partition = topic.and_then(|topic| topic.partition(location.partition));
    partition.is_some_and(|partition| {
        let mut everybody = partition.everybody();
        everybody.any(|at| at.broker == broker && at.id == location.replica)
    })
}

#[cfg(test)]
mod tests {
    use highwater_storage::RaftIndex;
    use uuid::Uuid;

    use super::*;
    use crate::controller::event::Event;
    use crate::controller::partition::{Recovery, Replica};
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
                Partition::new(
                    GroupId(group),
                    vec![replica(group, ME), replica(group + 1, OTHER)],
                ),
                Partition::new(GroupId(group + 1), vec![replica(group + 2, OTHER)]),
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
            founders: topic.partitions[0].founders.clone(),
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

    /// The partition here begins again without the other broker.
    fn recovered(number: u64) -> Event {
        Event::PartitionRecovered {
            topic_id: topic_id(u128::from(number)),
            partition: PartitionIndex(0),
            group: GroupId(900),
            survivor: ReplicaId(100 + number * 10),
            recovery: Recovery {
                lost: BTreeSet::from([OTHER]),
                log_end_offset: 7,
                has_begun: false,
            },
        }
    }

    #[test]
    fn what_is_left_of_a_partition_begins_a_new_group_however_it_is_found_and_until_that_is_reported()
     {
        let mut image = image(&[created(1), recovered(1)]);
        let refound = Action::Refound(StartReplica {
            location: here(1),
            topic_name: topic(1).name,
            is_coordinator: false,
            group: GroupId(900),
            founders: vec![here(1).replica],
            config: topic(1).config,
        });
        for presence in [Presence::Running, Presence::Stopped] {
            let present = [(here(1), presence)];
            assert_eq!(
                actions(None, &image, &present),
                std::slice::from_ref(&refound)
            );
        }
        let reported = Event::RecoveryReported {
            topic_id: topic_id(1),
            partition: PartitionIndex(0),
        };
        image.apply(RaftIndex(2), &[reported]).unwrap();
        let running = [(here(1), Presence::Running)];
        assert_eq!(actions(Some(&image), &image, &running), []);
    }

    #[test]
    fn a_replica_that_was_given_up_is_left_alone_and_takes_no_part() {
        let image = image(&[created(1), recovered(1)]);
        let given_up = Location {
            replica: ReplicaId(111),
            ..here(1)
        };
        let present = |presence| BTreeMap::from([(given_up, presence)]);
        let plan = reconcile(None, &image, OTHER, &present(Presence::Running));
        let lay_aside = Action::LayAside {
            location: given_up,
            group: GroupId(900),
        };
        let others = plan.actions.iter().filter(|action| **action != lay_aside);
        assert!(
            others
                .clone()
                .all(|action| matches!(action, Action::StartReplica(_)))
        );
        assert_eq!(
            others.count(),
            1,
            "partition 1 is there: {:?}",
            plan.actions
        );
        assert_eq!(plan.actions.len(), 2);
        assert_eq!(plan.unknown, [given_up]);
        let plan = reconcile(None, &image, OTHER, &present(Presence::Stopped));
        assert_eq!((plan.actions.len(), plan.unknown), (1, vec![given_up]));
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

    /// Replica `id` of partition 0 of topic 1, on this broker.
    fn at(id: u64) -> Location {
        Location {
            replica: ReplicaId(id),
            ..here(1)
        }
    }

    /// Topic 1, whose partition 0 is to have these replicas.
    fn moving(target: &[(u64, BrokerId)]) -> Vec<Event> {
        let replica = |(id, broker): &(u64, BrokerId)| Replica {
            id: ReplicaId(*id),
            broker: *broker,
        };
        let started = Event::ReassignmentStarted {
            topic_id: topic_id(1),
            partition: PartitionIndex(0),
            target: target.iter().map(replica).collect(),
        };
        vec![created(1), started]
    }

    fn ended(is_done: bool) -> Event {
        Event::ReassignmentEnded {
            topic_id: topic_id(1),
            partition: PartitionIndex(0),
            is_done,
        }
    }

    fn start_at(id: u64) -> Action {
        let Action::StartReplica(mut start) = start(1) else {
            unreachable!("it starts a replica")
        };
        start.location = at(id);
        Action::StartReplica(start)
    }

    const GROUP: GroupId = GroupId(110);

    #[test]
    fn a_new_replica_runs_in_place_of_the_old_one_which_is_kept_until_that_is_over() {
        let mut image = image(&moving(&[(500, ME), (111, OTHER)]));
        let location = at(110);
        let aside = Action::LayAside {
            location,
            group: GROUP,
        };
        let running = [(location, Presence::Running)];
        assert_eq!(
            actions(Some(&image), &image, &running),
            [aside, start_at(500)]
        );
        // After a restart the old one is not started.
        let found = [(location, Presence::Stopped)];
        assert_eq!(actions(None, &image, &found), [start_at(500)]);
        let both = [
            (location, Presence::LaidAside),
            (at(500), Presence::Running),
        ];
        assert_eq!(actions(Some(&image), &image, &both), []);

        image.apply(RaftIndex(2), &[ended(true)]).unwrap();
        let delete = Action::DeleteReplica {
            location,
            group: GROUP,
        };
        assert_eq!(actions(Some(&image), &image, &both), [delete]);
        let new = [(at(500), Presence::Running)];
        let report = Action::ReportRemoval {
            replica: ReplicaId(110),
        };
        assert_eq!(actions(Some(&image), &image, &new), [report]);
        let reported = Event::ReplicaRemovalReported {
            replica: ReplicaId(110),
        };
        image.apply(RaftIndex(3), &[reported]).unwrap();
        assert_eq!(actions(Some(&image), &image, &new), []);
    }

    #[test]
    fn a_replica_takes_its_place_again_where_the_new_one_came_for_nothing() {
        let mut image = image(&moving(&[(500, ME), (111, OTHER)]));
        let both = [(at(110), Presence::LaidAside), (at(500), Presence::Running)];
        image.apply(RaftIndex(2), &[ended(false)]).unwrap();
        let Action::StartReplica(start) = start(1) else {
            unreachable!("it starts a replica")
        };
        let delete = Action::DeleteReplica {
            location: at(500),
            group: GROUP,
        };
        assert_eq!(
            actions(Some(&image), &image, &both),
            [delete, Action::TakeUp(start)]
        );
    }

    #[test]
    fn a_replica_that_came_for_nothing_is_deleted() {
        let mut image = image(&moving(&[(110, ME), (500, OTHER)]));
        let other = |image: &ClusterImage, present: &[(Location, Presence)]| {
            reconcile(None, image, OTHER, &present.iter().copied().collect()).actions
        };
        // On the other broker the new one runs, beside its replica of partition 1.
        let present = [(at(111), Presence::Running)];
        let started = other(&image, &present);
        assert!(started.contains(&start_at(500)), "{started:?}");
        image.apply(RaftIndex(2), &[ended(false)]).unwrap();
        let left = other(&image, &[(at(500), Presence::Running)]);
        let delete = Action::DeleteReplica {
            location: at(500),
            group: GROUP,
        };
        assert!(left.contains(&delete), "{left:?}");
        assert!(left.contains(&start_at(111)), "{left:?}");
    }

    #[test]
    fn what_was_on_a_lost_disk_is_never_started_again() {
        let mut image = image(&[created(1)]);
        let registered = |directory| {
            let mut broker = crate::controller::Registration {
                id: ME,
                incarnation_id: Uuid::from_u128(directory),
                listeners: Vec::new(),
                rack: None,
                start: crate::controller::Start::default(),
                lost_controller_replica: None,
                is_set_back: false,
            }
            .with_replica(ReplicaId(1));
            broker.controller_replica = ReplicaId(700 + u64::try_from(directory).unwrap());
            Event::BrokerRegistered(broker)
        };
        image.apply(RaftIndex(2), &[registered(1)]).unwrap();
        assert_eq!(actions(None, &image, &[]), [start(1)]);
        image.apply(RaftIndex(3), &[registered(2)]).unwrap();
        assert_eq!(actions(None, &image, &[]), []);
    }

    #[test]
    fn an_empty_image_deletes_nothing() {
        let present = BTreeMap::from([(here(1), Presence::Running)]);
        let plan = reconcile(None, &ClusterImage::default(), ME, &present);
        assert_eq!((plan.actions, plan.unknown), (vec![], vec![here(1)]));
    }
}
