mod moves;
mod recovery;

use std::collections::BTreeSet;

use highwater_proto::{PartitionIndex, ProducerId};
use highwater_storage::{Offset, Term};
use proptest::prelude::*;

use super::*;
use crate::controller::{CancelMoves, Delta, FIRST_PARTITION_GROUP, Listener, Start};
use crate::topic::config_keys::{ConfigError, Overrides};

const LIMITS: Limits = Limits {
    max_partitions_per_topic: 8,
    max_partitions: 20,
    default_partitions: 2,
    default_replication_factor: 1,
};

/// The active controller with its log: what is committed comes first, what is proposed after it.
struct Controller {
    machine: ControllerMachine,
    log: Vec<CommittedEntry>,
    applied: usize,
}

impl Controller {
    fn empty() -> Self {
        Self {
            machine: ControllerMachine::new(&[], LIMITS).unwrap(),
            log: Vec::new(),
            applied: 0,
        }
    }

    /// A founded cluster of some brokers, numbered from 1.
    fn of(brokers: u32) -> Self {
        let mut controller = Self::empty();
        controller.handle(found()).unwrap();
        for id in 1..=brokers {
            controller
                .handle(Command::RegisterBroker(broker(id)))
                .unwrap();
        }
        controller.commit_all();
        controller
    }

    fn handle(&mut self, command: Command) -> Result<Decision<Response>, Error> {
        let decision = self.machine.decide(command)?;
        if let Decision::Propose { entries, .. } = &decision {
            for entry in entries {
                let index = RaftIndex(self.log.len() as u64 + 1);
                self.machine.proposed(index, entry);
                self.log.push(CommittedEntry {
                    index,
                    term: Term(1),
                    kind: entry.kind,
                    base_offset: Offset(0),
                    record_count: 0,
                    max_timestamp_ms: -1,
                    data: entry.data.clone(),
                });
            }
        }
        Ok(decision)
    }

    /// Handles a command that changes something, commits it, and returns the answer.
    fn done(&mut self, command: Command) -> Response {
        let decision = self.handle(command).unwrap();
        self.commit_all();
        match decision {
            Decision::Propose { response, .. } => response,
            Decision::Answer { .. } => panic!("nothing was changed: {decision:?}"),
        }
    }

    fn refusal_of(&mut self, command: Command) -> Error {
        let before = self.log.len();
        let error = self.handle(command).unwrap_err();
        assert_eq!(self.log.len(), before);
        error
    }

    fn commit(&mut self, entries: usize) {
        let upto = self.log.len().min(self.applied.saturating_add(entries));
        for entry in &self.log[self.applied..upto] {
            self.machine.apply(entry).unwrap();
        }
        self.applied = upto;
    }

    fn commit_all(&mut self) {
        self.commit(usize::MAX);
    }

    /// Another controller comes that has `kept` of the proposals, and they are then committed.
    fn change_leader(&mut self, kept: usize) {
        self.machine.retract(RaftIndex(self.applied as u64 + 1));
        assert!(self.machine.projected.is_none());
        self.log.truncate(self.applied.saturating_add(kept));
        self.commit_all();
    }

    fn image(&self) -> &ClusterImage {
        self.machine.image()
    }
}

fn found() -> Command {
    Command::Found {
        cluster_id: Uuid::from_u128(99),
        feature_level: 1,
        founder: broker(1),
    }
}

fn broker(id: u32) -> Registration {
    Registration {
        id: BrokerId(id),
        incarnation_id: Uuid::from_u128(u128::from(id)),
        listeners: vec![Listener {
            name: "clients".to_owned(),
            host: format!("broker-{id}"),
            port: 7410,
        }],
        rack: None,
        start: Start::default(),
        lost_controller_replica: None,
        is_set_back: false,
    }
}

fn topic_id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(1_000 + number))
}

fn new_topic(name: &str, id: u128) -> CreateTopic {
    CreateTopic {
        topic_id: topic_id(id),
        name: name.to_owned(),
        partitions: None,
        replication_factor: None,
        configs: Overrides::new(),
        avoid: BTreeSet::new(),
        validate_only: false,
    }
}

fn create(name: &str, id: u128) -> Command {
    Command::CreateTopic(new_topic(name, id))
}

fn delete(name: &str, id: Option<u128>) -> Command {
    Command::DeleteTopic(DeleteTopic {
        name: name.to_owned(),
        topic_id: id.map(topic_id),
    })
}

fn add(name: &str, total: u32) -> AddPartitions {
    AddPartitions {
        name: name.to_owned(),
        topic_id: None,
        total,
        avoid: BTreeSet::new(),
        validate_only: false,
    }
}

fn overrides(pairs: &[(&str, &str)]) -> Overrides {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn alter(name: &str, set: &[(&str, &str)], unset: &[&str]) -> AlterTopic {
    AlterTopic {
        name: name.to_owned(),
        topic_id: None,
        set: overrides(set),
        unset: unset.iter().map(|name| (*name).to_owned()).collect(),
        validate_only: false,
    }
}

#[test]
fn a_cluster_is_founded_once() {
    let mut controller = Controller::empty();
    assert_eq!(controller.refusal_of(create("a", 1)), Error::NotFounded);
    controller.done(found());
    assert_eq!(controller.image().cluster_id(), Some(Uuid::from_u128(99)));
    assert_eq!(controller.image().feature_level(), 1);
    let again = controller.handle(found());
    assert_eq!(
        again,
        Ok(Decision::Answer {
            response: Response::Done,
            after: None
        })
    );
    let other = Command::Found {
        cluster_id: Uuid::from_u128(98),
        feature_level: 1,
        founder: broker(2),
    };
    assert!(matches!(
        controller.refusal_of(other),
        Error::OtherCluster { .. }
    ));
    let level = |feature_level| Command::Found {
        cluster_id: Uuid::from_u128(99),
        feature_level,
        founder: broker(2),
    };
    controller.done(level(3));
    let lowered = Error::FeatureLevelLowered {
        asked: 2,
        current: 3,
    };
    assert_eq!(controller.refusal_of(level(2)), lowered);
}

#[test]
fn a_broker_id_stays_with_its_data_directory() {
    let mut controller = Controller::of(1);
    let register = Command::RegisterBroker;
    let again = controller.handle(register(broker(1)));
    assert!(matches!(again, Ok(Decision::Answer { .. })));
    let moved = Registration {
        rack: Some("b".to_owned()),
        ..broker(1)
    };
    controller.done(register(moved.clone()));
    let moved = moved.with_replica(FOUNDING_REPLICA);
    assert_eq!(**controller.image().broker(BrokerId(1)).unwrap(), moved);
    let other = Registration {
        incarnation_id: Uuid::from_u128(7),
        ..broker(1)
    };
    assert!(matches!(
        controller.refusal_of(register(other)),
        Error::BrokerIdTaken { .. }
    ));
}

#[test]
fn each_broker_has_a_replica_of_the_controller_group_for_good() {
    let mut controller = Controller::empty();
    controller.done(found());
    let register = Command::RegisterBroker;
    let registered = |id| Response::Registered {
        controller_replica: ReplicaId(id),
    };
    assert_eq!(controller.done(register(broker(3))), registered(2));
    // Two in one turn, and one that asks again before the first answer.
    controller.handle(register(broker(2))).unwrap();
    let again = controller.handle(register(broker(2)));
    assert!(
        matches!(again, Ok(Decision::Answer { ref response, after: Some(_) }) if *response == registered(3))
    );
    controller.commit_all();
    controller.done(create("a", 1));
    assert_eq!(controller.done(register(broker(4))), registered(6));
    let moved = Registration {
        listeners: Vec::new(),
        ..broker(3)
    };
    assert_eq!(controller.done(register(moved)), registered(2));
    let replicas: Vec<_> = controller
        .image()
        .controller_replicas()
        .map(|replica| (replica.broker.0, replica.id.0))
        .collect();
    assert_eq!(replicas, [(1, 1), (2, 3), (3, 2), (4, 6)]);
}

#[test]
fn nobody_takes_the_founders_place() {
    let mut controller = Controller::empty();
    let register = |id| Command::RegisterBroker(broker(id));
    assert_eq!(controller.refusal_of(register(2)), Error::NotFounded);
    // An old controller founded a cluster and stopped before it registered its broker.
    controller.machine = ControllerMachine::new(
        &snapshot::encode(&{
            let mut image = ClusterImage::default();
            let cluster_id = Uuid::from_u128(99);
            image
                .apply(RaftIndex(1), &[Event::ClusterFounded { cluster_id }])
                .unwrap();
            image
        }),
        LIMITS,
    )
    .unwrap();
    assert_eq!(controller.refusal_of(register(2)), Error::NotFounded);
    controller.handle(found()).unwrap();
    let decision = controller.handle(register(2)).unwrap();
    let Decision::Propose { response, .. } = decision else {
        panic!("not proposed: {decision:?}");
    };
    let controller_replica = ReplicaId(2);
    assert_eq!(response, Response::Registered { controller_replica });
}

#[test]
fn what_a_cluster_of_one_broker_wrote_before_there_were_more_is_read() {
    let registered = |id| {
        let broker = broker(id).with_replica(ReplicaId(0));
        event::encode(&[Event::BrokerRegistered(broker)])
    };
    let events = event::decode(&registered(1)).unwrap();
    let mut image = ClusterImage::default();
    image.apply(RaftIndex(1), &events).unwrap();
    image.apply(RaftIndex(2), &events).unwrap();
    let one = image.broker(BrokerId(1)).unwrap();
    assert_eq!(one.controller_replica, FOUNDING_REPLICA);
    let second = event::decode(&registered(2)).unwrap();
    image.apply(RaftIndex(3), &second).unwrap_err();
}

#[test]
fn a_topic_that_does_not_say_has_three_replicas_or_one_on_each_broker() {
    for (brokers, expected) in [(1, 1), (2, 2), (3, 3), (5, 3)] {
        let mut controller = Controller::of(brokers);
        controller.machine.limits.default_replication_factor = 0;
        controller.done(create("a", 1));
        let topic = controller.image().topic_named("a").unwrap();
        assert_eq!(topic.replication_factor, expected, "{brokers} brokers");
    }
}

#[test]
fn new_replicas_go_where_brokers_are_up() {
    let mut controller = Controller::of(3);
    let avoid = BTreeSet::from([BrokerId(1)]);
    let command = CreateTopic {
        replication_factor: Some(2),
        avoid: avoid.clone(),
        ..new_topic("a", 1)
    };
    controller.done(Command::CreateTopic(command));
    let more = AddPartitions {
        avoid,
        ..add("a", 4)
    };
    controller.done(Command::AddPartitions(more));
    let topic = controller.image().topic_named("a").unwrap();
    let mut replicas = topic
        .partitions
        .iter()
        .flat_map(|partition| &partition.replicas);
    assert!(replicas.all(|replica| replica.broker != BrokerId(1)));
}

#[test]
fn a_created_topic_has_ids_of_its_own_and_its_configuration() {
    let mut controller = Controller::of(1);
    let command = CreateTopic {
        configs: overrides(&[("retention.ms", " 5 ")]),
        ..new_topic("flights", 1)
    };
    let response = controller.done(Command::CreateTopic(command));
    let created = Response::TopicCreated {
        topic_id: Some(topic_id(1)),
        partitions: 2,
        replication_factor: 1,
    };
    assert_eq!(response, created);
    controller.done(create("trains", 2));
    let topic = controller.image().topic_named("flights").unwrap();
    assert_eq!(topic.overrides, overrides(&[("retention.ms", "5")]));
    assert_eq!(topic.config.retention_ms, Some(5));
    let groups: Vec<_> = controller
        .image()
        .topics()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| {
            (
                partition.group.0 - FIRST_PARTITION_GROUP.0,
                partition.replicas[0].id.0,
            )
        })
        .collect();
    assert_eq!(groups, [(0, 2), (1, 3), (2, 4), (3, 5)]);
    assert_eq!(controller.image().partition_count(), 4);
}

#[test]
fn the_second_of_two_creations_in_one_turn_is_refused() {
    let mut controller = Controller::of(1);
    controller.handle(create("a.b", 1)).unwrap();
    for name in ["a.b", "a_b"] {
        let error = controller.refusal_of(create(name, 2));
        let existing = "a.b".to_owned();
        assert_eq!(
            error,
            Error::TopicAlreadyExists {
                name: name.to_owned(),
                existing
            }
        );
    }
    controller.change_leader(0);
    controller.done(create("a_b", 2));
    assert!(controller.image().topic_named("a.b").is_none());
    assert!(controller.image().topic_named("a_b").is_some());
}

#[test]
fn what_two_commands_of_one_turn_need_is_counted_together() {
    let mut controller = Controller::of(1);
    controller.handle(create("a", 1)).unwrap();
    controller
        .handle(Command::AddPartitions(add("a", 8)))
        .unwrap();
    let more = CreateTopic {
        partitions: Some(8),
        ..new_topic("b", 2)
    };
    controller.handle(Command::CreateTopic(more)).unwrap();
    let full = Error::TooManyPartitions {
        asked: 5,
        limit: 20,
    };
    let more = CreateTopic {
        partitions: Some(5),
        ..new_topic("c", 3)
    };
    assert_eq!(controller.refusal_of(Command::CreateTopic(more)), full);
    controller.handle(delete("a", None)).unwrap();
    assert!(matches!(
        controller.refusal_of(delete("a", None)),
        Error::UnknownTopic { .. }
    ));
    controller.handle(create("a", 4)).unwrap();
    controller.commit_all();
    let ids: BTreeSet<_> = controller
        .image()
        .topics()
        .map(|topic| &topic.partitions)
        .chain(
            controller
                .image()
                .deleted_topics()
                .map(|deleted| &deleted.topic.partitions),
        )
        .flatten()
        .map(|partition| partition.group)
        .collect();
    assert_eq!(ids.len(), 8 + 8 + 2);
}

#[test]
fn bad_topics_are_refused() {
    let mut controller = Controller::of(2);
    let new = || new_topic("a", 1);
    let mut refusal = |command: CreateTopic| controller.refusal_of(Command::CreateTopic(command));
    for name in ["", ".", "..", "__offsets", "a/b"] {
        let command = CreateTopic {
            name: name.to_owned(),
            ..new()
        };
        assert!(matches!(refusal(command), Error::InvalidName { .. }));
    }
    for count in [0, 9, u32::MAX] {
        let command = CreateTopic {
            partitions: Some(count),
            ..new()
        };
        assert!(matches!(refusal(command), Error::InvalidPartitions { .. }));
    }
    for factor in [0, 3, u32::MAX] {
        let command = CreateTopic {
            replication_factor: Some(factor),
            ..new()
        };
        let error = Error::InvalidReplicationFactor {
            asked: factor,
            brokers: 2,
        };
        assert_eq!(refusal(command), error);
    }
    let with = |pairs: &[(&str, &str)]| CreateTopic {
        configs: overrides(pairs),
        ..new()
    };
    assert!(matches!(
        refusal(with(&[("retention.mss", "1")])),
        Error::Config(ConfigError::Unknown {
            suggestion: Some("retention.ms"),
            ..
        })
    ));
    assert!(matches!(
        refusal(with(&[("cleanup.policy", "compact")])),
        Error::Config(ConfigError::Unsupported { .. })
    ));
    assert!(matches!(
        refusal(with(&[("min.insync.replicas", "2")])),
        Error::MinInsyncReplicas { .. }
    ));
    let command = CreateTopic {
        topic_id: TopicId(Uuid::nil()),
        ..new()
    };
    assert!(matches!(refusal(command), Error::TopicIdUsed { .. }));
}

#[test]
fn a_check_changes_nothing() {
    let mut controller = Controller::of(1);
    controller.done(create("a", 1));
    let entries = controller.log.len();
    let checks = [
        Command::CreateTopic(CreateTopic {
            validate_only: true,
            ..new_topic("b", 2)
        }),
        Command::AlterTopic(AlterTopic {
            validate_only: true,
            ..alter("a", &[("retention.ms", "1")], &[])
        }),
        Command::AddPartitions(AddPartitions {
            validate_only: true,
            ..add("a", 3)
        }),
    ];
    for command in checks {
        let decision = controller.handle(command);
        assert!(
            matches!(decision, Ok(Decision::Answer { after: None, .. })),
            "{decision:?}"
        );
    }
    assert_eq!(controller.log.len(), entries);
}

#[test]
fn an_answer_waits_for_what_it_was_decided_on() {
    let mut controller = Controller::of(1);
    controller.handle(create("a", 1)).unwrap();
    let pending = RaftIndex(controller.log.len() as u64);
    let answer = |after| {
        Ok(Decision::Answer {
            response: Response::Done,
            after,
        })
    };
    let nothing = Command::AlterTopic(alter("a", &[], &["retention.ms"]));
    assert_eq!(controller.handle(nothing.clone()), answer(Some(pending)));
    controller.commit_all();
    assert_eq!(controller.handle(nothing), answer(None));
}

#[test]
fn configs_are_set_and_unset() {
    let mut controller = Controller::of(1);
    controller.done(create("a", 1));
    let set = alter(
        "a",
        &[("retention.ms", "5"), ("write.caching", "true")],
        &[],
    );
    controller.done(Command::AlterTopic(set));
    let change = alter(
        "a",
        &[("retention.bytes", "7")],
        &["retention.ms", "segment.ms"],
    );
    controller.done(Command::AlterTopic(change));
    let topic = controller.image().topic_named("a").unwrap();
    let expected = overrides(&[("retention.bytes", "7"), ("write.caching", "true")]);
    assert_eq!(topic.overrides, expected);
    assert_eq!(*topic.config, config_keys::resolve(&expected));

    let mut refusal = |command| controller.refusal_of(Command::AlterTopic(command));
    let both = alter("a", &[("retention.ms", "1")], &["retention.ms"]);
    assert!(matches!(refusal(both), Error::SetAndUnset { .. }));
    assert!(matches!(
        refusal(alter("a", &[], &["retention"])),
        Error::Config(_)
    ));
    assert!(matches!(
        refusal(alter("a", &[("segment.ms", "0")], &[])),
        Error::Config(_)
    ));
    assert!(matches!(
        refusal(alter("b", &[], &[])),
        Error::UnknownTopic { .. }
    ));
    let factor = alter("a", &[("min.insync.replicas", "2")], &[]);
    assert!(matches!(refusal(factor), Error::MinInsyncReplicas { .. }));
    let other = AlterTopic {
        topic_id: Some(topic_id(9)),
        ..alter("a", &[], &[])
    };
    assert!(matches!(refusal(other), Error::OtherTopicId { .. }));
}

#[test]
fn partitions_are_only_added() {
    let mut controller = Controller::of(1);
    controller.done(create("a", 1));
    let before = controller
        .image()
        .topic_named("a")
        .unwrap()
        .partitions
        .clone();
    controller.done(Command::AddPartitions(add("a", 5)));
    let after = &controller.image().topic_named("a").unwrap().partitions;
    assert_eq!((&after[..2], after.len()), (&before[..], 5));
    for total in [0, 1, 5, 9] {
        let error = controller.refusal_of(Command::AddPartitions(add("a", total)));
        assert!(matches!(error, Error::InvalidPartitions { .. }), "{total}");
    }
    let other = AddPartitions {
        topic_id: Some(topic_id(9)),
        ..add("a", 6)
    };
    let error = controller.refusal_of(Command::AddPartitions(other));
    assert!(matches!(error, Error::OtherTopicId { .. }));
}

#[test]
fn a_deleted_topic_is_remembered_until_every_broker_reported() {
    let mut controller = Controller::of(2);
    let command = CreateTopic {
        replication_factor: Some(2),
        ..new_topic("a", 1)
    };
    controller.done(Command::CreateTopic(command));
    assert!(matches!(
        controller.refusal_of(delete("a", Some(2))),
        Error::OtherTopicId { .. }
    ));
    assert!(matches!(
        controller.refusal_of(delete("b", None)),
        Error::UnknownTopic { .. }
    ));
    let response = controller.done(delete("a", Some(1)));
    assert_eq!(
        response,
        Response::TopicDeleted {
            topic_id: topic_id(1)
        }
    );
    assert_eq!(controller.image().partition_count(), 0);
    assert!(matches!(
        controller.refusal_of(create("b", 1)),
        Error::TopicIdUsed { .. }
    ));

    controller.done(create("a", 2));
    let report = |id| Command::ReportDeletion {
        topic_id: topic_id(1),
        broker: BrokerId(id),
    };
    controller.done(report(1));
    assert!(controller.image().deleted_topic(topic_id(1)).is_some());
    let again = controller.handle(report(1));
    assert!(matches!(again, Ok(Decision::Answer { .. })));
    controller.done(report(2));
    assert!(controller.image().deleted_topic(topic_id(1)).is_none());
    let late = controller.handle(report(2));
    assert!(matches!(late, Ok(Decision::Answer { .. })));
    assert!(controller.image().topic_named("a").is_some());
}

#[test]
fn producer_ids_are_granted_once() {
    let mut controller = Controller::of(1);
    let version = controller.image().version();
    let grant = |id| Command::GrantProducerIds {
        broker: BrokerId(id),
    };
    let block = |first| Response::ProducerIds {
        first: ProducerId(first),
        count: 1_000,
    };
    assert_eq!(controller.done(grant(1)), block(0));
    assert_eq!(controller.done(grant(1)), block(1_000));
    assert_eq!(
        controller.image().version(),
        version,
        "clients see nothing of it"
    );
    let unknown = Error::UnknownBroker { id: BrokerId(2) };
    assert_eq!(controller.refusal_of(grant(2)), unknown);
    controller.handle(grant(1)).unwrap();
    controller.change_leader(0);
    assert_eq!(controller.done(grant(1)), block(2_000));
}

#[test]
fn replicas_and_preferred_leaders_spread_over_brokers() {
    let mut controller = Controller::of(3);
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let command = CreateTopic {
            partitions: Some(4),
            replication_factor: Some(2),
            ..new_topic(name, number as u128)
        };
        controller.done(Command::CreateTopic(command));
    }
    let mut replicas = [0; 4];
    let mut leaders = [0; 4];
    for partition in controller
        .image()
        .topics()
        .flat_map(|topic| &topic.partitions)
    {
        let brokers: BTreeSet<_> = partition
            .replicas
            .iter()
            .map(|replica| replica.broker)
            .collect();
        assert_eq!(
            brokers.len(),
            2,
            "a broker holds one replica of a partition"
        );
        leaders[partition.replicas[0].broker.0 as usize] += 1;
        for broker in brokers {
            replicas[broker.0 as usize] += 1;
        }
    }
    assert_eq!(replicas, [0, 8, 8, 8]);
    assert_eq!(leaders, [0, 4, 4, 4]);
}

#[test]
fn images_share_what_did_not_change() {
    let mut controller = Controller::of(1);
    controller.done(create("a", 1));
    controller.done(create("b", 2));
    let before = Arc::clone(controller.machine.image());
    controller.done(Command::AddPartitions(add("b", 3)));
    let after = controller.machine.image();
    let same = |id| {
        Arc::ptr_eq(
            before.topic(topic_id(id)).unwrap(),
            after.topic(topic_id(id)).unwrap(),
        )
    };
    assert!(same(1));
    assert!(!same(2));
    assert_eq!(before.topic_named("b").unwrap().partitions.len(), 2);
    assert!(after.shares_brokers(&before));
    let delta = Delta::between(&before, after);
    let expected = Delta {
        changed: vec![Arc::clone(after.topic(topic_id(2)).unwrap())],
        ..Delta::default()
    };
    assert_eq!(delta, expected);
    assert!(Delta::between(after, after).is_empty());
}

#[test]
fn a_delta_names_what_came_changed_and_went() {
    let mut controller = Controller::empty();
    let nothing = Arc::clone(controller.machine.image());
    controller.done(found());
    controller.done(create("a", 1));
    let one = Arc::clone(controller.machine.image());
    let delta = Delta::between(&nothing, &one);
    assert!(delta.cluster_changed && delta.brokers_changed);
    assert_eq!(delta.changed.len(), 1);
    controller.done(delete("a", None));
    let delta = Delta::between(&one, controller.machine.image());
    assert_eq!(
        delta,
        Delta {
            gone: vec![topic_id(1)],
            ..Delta::default()
        }
    );
}

#[test]
fn an_unlawful_entry_is_refused() {
    let mut controller = Controller::of(1);
    controller.done(create("a", 1));
    let topic = Arc::clone(controller.image().topic_named("a").unwrap());
    let renamed = |id, name: &str, partitions: Vec<Partition>| {
        let name = name.to_owned();
        let topic = Topic {
            id,
            name,
            partitions,
            ..topic.as_ref().clone()
        };
        event::encode(&[Event::TopicCreated(Arc::new(topic))])
    };
    let used = topic.partitions.clone();
    let endless = vec![Partition::new(GroupId(u64::MAX), vec![])];
    let unknown = TopicId(Uuid::from_u128(5));
    let reported = Event::TopicDeletionReported {
        topic_id: topic.id,
        broker: BrokerId(1),
    };
    let grant = |first| Event::ProducerIdsGranted {
        first: ProducerId(first),
        count: 1,
        broker: BrokerId(1),
    };
    let registered = |id, replica| {
        let broker = broker(id).with_replica(ReplicaId(replica));
        event::encode(&[Event::BrokerRegistered(broker)])
    };
    let index = RaftIndex(controller.log.len() as u64 + 1);
    for (what, data) in [
        ("a name used twice", renamed(unknown, "a", vec![])),
        ("an id used twice", renamed(topic.id, "b", vec![])),
        ("group ids used twice", renamed(unknown, "b", used)),
        ("group ids at their end", renamed(unknown, "b", endless)),
        (
            "no such topic",
            event::encode(&[Event::TopicDeleted { topic_id: unknown }]),
        ),
        ("not deleted", event::encode(&[reported])),
        ("ids left out", event::encode(&[grant(1)])),
        ("a controller replica used twice", registered(2, 1)),
        ("a controller replica of another's past", registered(1, 2)),
        (
            "a lower level",
            event::encode(&[Event::FeatureLevelSet { level: 0 }]),
        ),
        ("version 2", Bytes::from_static(&[0x08, 2])),
        ("no version", Bytes::new()),
        (
            "an event of kind 99",
            Bytes::from_static(&[0x08, 1, 0x12, 3, 0x9a, 0x06, 0]),
        ),
        (
            "a short id",
            Bytes::from_static(&[0x08, 1, 0x12, 5, 0x3a, 3, 0x0a, 1, 7]),
        ),
    ] {
        let mut machine = ControllerMachine::new(&controller.machine.snapshot(), LIMITS).unwrap();
        let entry = |kind, data| CommittedEntry {
            index,
            term: Term(1),
            kind,
            base_offset: Offset(0),
            record_count: 0,
            max_timestamp_ms: -1,
            data,
        };
        machine
            .apply(&entry(EntryKind::Events, data))
            .expect_err(what);
        machine
            .apply(&entry(EntryKind::Batch, Bytes::new()))
            .expect_err("a batch");
    }
}

#[test]
fn a_snapshot_of_another_version_is_refused() {
    let mut snapshot = Controller::of(1).machine.snapshot().to_vec();
    assert_eq!(snapshot[..2], [0x08, 1]);
    snapshot[1] = 2;
    assert!(ControllerMachine::new(&snapshot, LIMITS).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Run(Command),
    /// Every change of replicas is carried out, or undone.
    EndMoves,
    Commit {
        entries: usize,
    },
    Drop {
        proposals: usize,
    },
    ChangeLeader {
        kept: usize,
    },
    Restart,
    Publish,
}

fn command() -> impl Strategy<Value = Command> {
    let name = proptest::sample::select(vec!["a", "b", "a.b", "a_b", "c-1", "..", "__x"]);
    let value = proptest::sample::select(vec!["1", "5", "-1", "x"]);
    let key = proptest::sample::select(vec!["retention.ms", "segment.ms", "retention.msx"]);
    let id = 1..12_u128;
    let broker_id = 1..4_u32;
    prop_oneof![
        4 => (name.clone(), id.clone(), 0..6_u32, 1..4_u32, any::<bool>()).prop_map(
            |(name, id, partitions, factor, validate_only)| {
                Command::CreateTopic(CreateTopic {
                    partitions: (partitions > 0).then_some(partitions),
                    replication_factor: Some(factor),
                    validate_only: validate_only && id == 1,
                    ..new_topic(name, id)
                })
            }
        ),
        2 => (name.clone(), key.clone(), value, any::<bool>()).prop_map(|(name, key, value, unset)| {
            let change = if unset { alter(name, &[], &[key]) } else { alter(name, &[(key, value)], &[]) };
            Command::AlterTopic(change)
        }),
        2 => (name.clone(), 1..9_u32).prop_map(|(name, total)| Command::AddPartitions(add(name, total))),
        2 => (name.clone(), proptest::option::of(id.clone())).prop_map(|(name, id)| delete(name, id)),
        2 => (id, broker_id.clone()).prop_map(|(id, broker)| Command::ReportDeletion {
            topic_id: topic_id(id),
            broker: BrokerId(broker),
        }),
        1 => broker_id.clone().prop_map(|id| Command::GrantProducerIds { broker: BrokerId(id) }),
        1 => (broker_id.clone(), any::<bool>()).prop_map(|(id, moved)| {
            let rack = moved.then(|| "rack".to_owned());
            Command::RegisterBroker(Registration { rack, ..broker(id) })
        }),
        4 => (name.clone(), 0..3_u32, proptest::collection::vec(1..4_u32, 1..4)).prop_map(
            |(name, partition, brokers)| moves::move_to(name, partition, &brokers)
        ),
        2 => (name.clone(), 1..4_u32).prop_map(|(name, factor)| moves::factor(name, factor)),
        1 => (name, any::<bool>()).prop_map(|(name, all)| Command::CancelMoves(CancelMoves {
            topic: (!all).then(|| name.to_owned()),
            partition: None,
            down: BTreeSet::new(),
        })),
        2 => (2..40_u64, broker_id.clone()).prop_map(|(replica, broker)| Command::ReportRemoval {
            replica: ReplicaId(replica),
            broker: BrokerId(broker),
        }),
        1 => broker_id.clone().prop_map(moves::decommission),
        1 => broker_id.clone().prop_map(|id| Command::CancelDecommission { broker: BrokerId(id) }),
        1 => broker_id.clone().prop_map(|id| Command::RemoveBroker { broker: BrokerId(id) }),
        1 => Just(Command::ContinueMoves { avoid: BTreeSet::new() }),
        1 => broker_id.clone().prop_map(|id| Command::AllowReplacement {
            broker: BrokerId(id),
            avoid: [BrokerId(id)].into(),
            validate_only: false,
        }),
        1 => (broker_id, 10..13_u128).prop_map(|(id, directory)| {
            let incarnation_id = Uuid::from_u128(directory);
            Command::RegisterBroker(Registration { incarnation_id, ..broker(id) })
        }),
        1 => (1..3_u32).prop_map(|feature_level| Command::Found {
            cluster_id: Uuid::from_u128(99),
            feature_level,
            founder: broker(1),
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        16 => command().prop_map(Step::Run),
        2 => Just(Step::EndMoves),
        6 => (1..4_usize).prop_map(|entries| Step::Commit { entries }),
        1 => (1..3_usize).prop_map(|proposals| Step::Drop { proposals }),
        1 => (0..3_usize).prop_map(|kept| Step::ChangeLeader { kept }),
        1 => Just(Step::Restart),
        2 => Just(Step::Publish),
    ]
}

/// Ids of groups and replicas that the image names.
fn ids(image: &ClusterImage) -> Vec<(GroupId, Vec<ReplicaId>)> {
    let deleted = image.deleted_topics().map(|deleted| &deleted.topic);
    image
        .topics()
        .chain(deleted)
        .flat_map(|topic| &topic.partitions)
        .map(|partition| {
            (
                partition.group,
                partition.everybody().map(|at| at.id).collect(),
            )
        })
        .collect()
}

fn assert_consistent(image: &ClusterImage) {
    let groups = ids(image);
    let distinct: BTreeSet<_> = groups.iter().map(|(group, _)| group).collect();
    assert_eq!(distinct.len(), groups.len());
    let replicas: Vec<_> = groups.iter().flat_map(|(_, replicas)| replicas).collect();
    let distinct: BTreeSet<_> = replicas.iter().collect();
    assert_eq!(distinct.len(), replicas.len());
    let count: usize = image.topics().map(|topic| topic.partitions.len()).sum();
    assert_eq!(image.partition_count(), count);
    moves::assert_consistent(image);
    for topic in image.topics() {
        assert_eq!(image.topic_named(&topic.name), Some(topic));
        assert_eq!(*topic.config, config_keys::resolve(&topic.overrides));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn live_image_equals_replayed_image_and_one_built_from_scratch(
        steps in proptest::collection::vec(step(), 1..100),
        cut in 0..100_usize,
    ) {
        let mut controller = Controller::empty();
        controller.handle(found()).unwrap();
        let mut published = Vec::new();
        for step in steps {
            match step {
                Step::Run(command) => drop(controller.handle(command)),
                Step::EndMoves => moves::end_all(&mut controller),
                Step::Commit { entries } => controller.commit(entries),
                Step::Drop { proposals } => {
                    let kept = controller.log.len().saturating_sub(proposals).max(controller.applied);
                    controller.machine.retract(RaftIndex(kept as u64 + 1));
                    controller.log.truncate(kept);
                }
                Step::ChangeLeader { kept } => controller.change_leader(kept),
                Step::Restart => {
                    let snapshot = controller.machine.snapshot();
                    controller.machine = ControllerMachine::new(&snapshot, LIMITS).unwrap();
                    controller.change_leader(usize::MAX);
                }
                Step::Publish => {
                    let image = Arc::clone(controller.machine.image());
                    published.push((snapshot::encode(&image), image));
                }
            }
        }
        controller.commit_all();
        assert_consistent(controller.image());
        for (bytes, image) in published {
            prop_assert_eq!(bytes, snapshot::encode(&image), "a published image never changes");
        }

        let cut = controller.log.len() * cut / 100;
        let mut replayed = ControllerMachine::new(&[], LIMITS).unwrap();
        let mut restored = None;
        for (number, entry) in controller.log.iter().enumerate() {
            if number == cut {
                restored = Some(ControllerMachine::new(&replayed.snapshot(), LIMITS).unwrap());
            }
            replayed.apply(entry).unwrap();
            if let Some(restored) = &mut restored {
                restored.apply(entry).unwrap();
            }
        }
        prop_assert_eq!(replayed.image(), controller.machine.image());
        prop_assert_eq!(replayed.snapshot(), controller.machine.snapshot());
        if let Some(restored) = restored {
            prop_assert_eq!(restored.image(), controller.machine.image());
        }
        let scratch = snapshot::decode(&controller.machine.snapshot()).unwrap();
        prop_assert_eq!(&scratch, controller.image());
        prop_assert!(Delta::between(&scratch, controller.image()).is_empty());
    }

    #[test]
    fn no_bytes_make_apply_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = ControllerMachine::new(&bytes, LIMITS);
        let mut data = vec![0x08, 1];
        data.extend(bytes);
        let _ = Controller::of(1).machine.apply(&CommittedEntry {
            index: RaftIndex(9),
            term: Term(1),
            kind: EntryKind::Events,
            base_offset: Offset(0),
            record_count: 0,
            max_timestamp_ms: -1,
            data: data.into(),
        });
    }
}
