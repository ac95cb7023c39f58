use bytes::Bytes;
use highwater_storage::{Offset, RaftIndex, Term};
use uuid::Uuid;

use super::*;
use crate::controller::{Command, DeleteTopic, Limits, Registration};
use crate::raft::machine::{CommittedEntry, Decision, EntryKind};

fn registration(id: u32) -> Registration {
    Registration {
        id: BrokerId(id),
        incarnation_id: Uuid::from_u128(u128::from(id)),
        listeners: Vec::new(),
        rack: None,
        start: crate::controller::Start::default(),
        lost_controller_replica: None,
        is_set_back: false,
    }
}

struct Cluster {
    machine: ControllerMachine,
    index: u64,
}

impl Cluster {
    fn new(brokers: u32) -> Self {
        let machine = ControllerMachine::new(&[], Limits::default()).unwrap();
        let mut cluster = Self { machine, index: 0 };
        let found = Command::Found {
            cluster_id: Uuid::from_u128(1),
            feature_level: 1,
            founder: registration(1),
        };
        cluster.ask(found).unwrap();
        (2..=brokers).for_each(|id| cluster.register(id));
        cluster
    }

    fn register(&mut self, id: u32) {
        let register = Command::RegisterBroker(registration(id));
        self.ask(register).unwrap();
    }

    fn ask(&mut self, command: Command) -> Result<Response, Error> {
        match self.machine.decide(command)? {
            Decision::Answer { response, .. } => Ok(response),
            Decision::Propose { entries, response } => {
                self.index += 1;
                self.machine
                    .apply(&committed(self.index, entries[0].data.clone()))
                    .unwrap();
                Ok(response)
            }
        }
    }

    fn create(&mut self, id: u128, count: u32) -> Result<Response, Error> {
        self.ask(Command::CreateCoordinators {
            topic_id: TopicId(Uuid::from_u128(id)),
            count,
            avoid: BTreeSet::new(),
        })
    }
}

fn committed(index: u64, data: Bytes) -> CommittedEntry {
    CommittedEntry {
        index: RaftIndex(index),
        term: Term(1),
        kind: EntryKind::Events,
        base_offset: Offset(0),
        record_count: 0,
        max_timestamp_ms: -1,
        data,
    }
}

#[test]
fn coordinators_are_made_once_and_replicated_as_far_as_there_are_brokers() {
    for (brokers, replicas) in [(1, 1), (2, 2), (5, 3)] {
        let mut cluster = Cluster::new(brokers);
        cluster.create(7, 4).unwrap();
        cluster.create(8, 9).unwrap();
        let topic = Arc::clone(cluster.machine.image().coordinators().unwrap());
        assert_eq!(
            (topic.id, topic.partitions.len()),
            (TopicId(Uuid::from_u128(7)), 4)
        );
        assert!(
            topic
                .partitions
                .iter()
                .all(|partition| partition.replicas.len() == replicas)
        );
        assert_eq!(topic.config.segment_bytes, SEGMENT_BYTES);
    }
}

#[test]
fn coordinators_are_replicated_more_when_there_are_enough_brokers() {
    let mut cluster = Cluster::new(1);
    cluster.create(7, 4).unwrap();
    let go_on = || Command::ContinueMoves {
        avoid: BTreeSet::new(),
    };
    cluster.register(2);
    assert!(!cluster.machine.image().wants_moves(), "two are not better");
    cluster.register(3);
    assert!(cluster.machine.image().wants_moves());
    cluster.ask(go_on()).unwrap();
    let topic = Arc::clone(cluster.machine.image().coordinators().unwrap());
    assert_eq!(topic.replication_factor, 3);
    let mut preferred = BTreeSet::new();
    for partition in &topic.partitions {
        let coming = partition.coming();
        let brokers: BTreeSet<_> = coming.iter().map(|replica| replica.broker).collect();
        assert_eq!(brokers.len(), 3);
        assert_eq!(coming[0], partition.replicas[0], "who leads stays");
        preferred.insert(coming[0].broker);
    }
    assert!(!cluster.machine.image().wants_moves(), "once");
    assert_eq!(preferred, BTreeSet::from([BrokerId(1)]));
}

#[test]
fn clients_cannot_name_the_coordinators() {
    let mut cluster = Cluster::new(1);
    cluster.create(7, 4).unwrap();
    assert_eq!(cluster.machine.image().topic_named(COORDINATOR_TOPIC), None);
    let delete = Command::DeleteTopic(DeleteTopic {
        name: COORDINATOR_TOPIC.to_owned(),
        topic_id: None,
    });
    let refused = cluster.ask(delete).unwrap_err();
    assert!(matches!(refused, Error::UnknownTopic { .. }), "{refused}");
}

#[test]
fn as_many_as_asked_for_must_be_lawful() {
    let mut cluster = Cluster::new(1);
    cluster.create(7, 0).unwrap_err();
    cluster.create(0, 1).unwrap_err();
}
