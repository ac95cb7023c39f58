//! How replicas and brokers come and go.

mod cancelling;

use super::*;
use crate::controller::command::{
    CancelMoves, Decommission, MembersReport, MoveReplicas, PartitionMove, PlannedMove,
    SetReplicationFactor,
};

const FIRST: PartitionIndex = PartitionIndex(0);

pub(super) fn move_to(topic: &str, partition: u32, brokers: &[u32]) -> Command {
    Command::MoveReplicas(MoveReplicas {
        moves: vec![PartitionMove {
            topic: topic.to_owned(),
            topic_id: None,
            partition: PartitionIndex(partition),
            brokers: brokers.iter().copied().map(BrokerId).collect(),
        }],
        validate_only: false,
    })
}

pub(super) fn factor(topic: &str, replication_factor: u32) -> Command {
    Command::SetReplicationFactor(SetReplicationFactor {
        topic: topic.to_owned(),
        topic_id: None,
        replication_factor,
        avoid: BTreeSet::new(),
        validate_only: false,
    })
}

pub(super) fn decommission(id: u32) -> Command {
    Command::Decommission(Decommission {
        broker: BrokerId(id),
        avoid: BTreeSet::new(),
        validate_only: false,
    })
}

fn continue_moves() -> Command {
    Command::ContinueMoves {
        avoid: BTreeSet::new(),
    }
}

fn cancel(topic: Option<&str>, partition: Option<u32>) -> Command {
    Command::CancelMoves(CancelMoves {
        topic: topic.map(str::to_owned),
        partition: partition.map(PartitionIndex),
        down: BTreeSet::new(),
    })
}

/// A cluster with a topic `a` of so many partitions and replicas.
fn with_topic(brokers: u32, partitions: u32, replication_factor: u32) -> Controller {
    let mut controller = Controller::of(brokers);
    let command = CreateTopic {
        partitions: Some(partitions),
        replication_factor: Some(replication_factor),
        ..new_topic("a", 1)
    };
    controller.done(Command::CreateTopic(command));
    controller
}

impl Controller {
    fn partition(&self, index: u32) -> &Partition {
        let partition = self.image().partition(topic_id(1), PartitionIndex(index));
        partition.unwrap()
    }

    fn brokers(&self, index: u32) -> Vec<u32> {
        let replicas = self.partition(index).replicas.iter();
        replicas.map(|replica| replica.broker.0).collect()
    }

    /// What the leader of a partition says, whose group has these voters.
    fn report(&self, index: u32, voters: &[Replica]) -> MembersReport {
        MembersReport {
            topic_id: topic_id(1),
            partition: PartitionIndex(index),
            epoch: self.partition(index).epoch,
            voters: voters.iter().map(|replica| replica.id).collect(),
            learners: BTreeSet::new(),
        }
    }

    fn target(&self, index: u32) -> Vec<Replica> {
        let moving = self.partition(index).reassignment.clone();
        moving.unwrap().target
    }

    fn is_nothing(&mut self, report: MembersReport) -> bool {
        let decision = self.handle(Command::ReportMembers(report)).unwrap();
        matches!(decision, Decision::Answer { .. })
    }

    fn removed(&self) -> Vec<(ReplicaId, BrokerId)> {
        let removed = self.image().removed_replicas();
        removed.map(|(id, removed)| (id, removed.broker)).collect()
    }
}

/// The leaders of all partitions that are moved carry it out, those with an even number undo it where they may.
pub(super) fn end_all(controller: &mut Controller) {
    let image = controller.machine.view().clone();
    for (topic, index, partition) in image.reassigned() {
        let moving = partition.reassignment.as_ref().unwrap();
        let is_undone = moving.is_cancelled && index.0 % 2 == 0;
        let voters = if is_undone {
            &partition.replicas
        } else {
            &moving.target
        };
        let report = MembersReport {
            topic_id: topic.id,
            partition: index,
            epoch: partition.epoch,
            voters: voters.iter().map(|replica| replica.id).collect(),
            learners: BTreeSet::new(),
        };
        let decision = controller.handle(Command::ReportMembers(report)).unwrap();
        assert!(matches!(decision, Decision::Propose { .. }));
    }
}

pub(super) fn assert_consistent(image: &ClusterImage) {
    let moving = image
        .topics()
        .flat_map(|topic| topic.numbered().map(|(index, at)| (topic.id, index, at)));
    let moving: Vec<_> = moving
        .filter(|(_, _, at)| at.reassignment.is_some())
        .collect();
    let listed: Vec<_> = image.reassigned().collect();
    assert_eq!(moving.len(), listed.len());
    for topic in image.topics() {
        for partition in &topic.partitions {
            let unique = |replicas: &[Replica]| {
                let brokers: BTreeSet<_> = replicas.iter().map(|at| at.broker).collect();
                brokers.len() == replicas.len()
            };
            assert!(!partition.replicas.is_empty() && unique(&partition.replicas));
            assert!(unique(partition.coming()));
            let is_here = |lost: &ReplicaId| partition.everybody().any(|at| at.id == *lost);
            assert!(partition.lost.iter().all(is_here));
            // A broker that is not in the cluster has nothing of it.
            let mut everybody = partition.everybody();
            assert!(everybody.all(|at| image.broker(at.broker).is_some()));
        }
    }
    for (id, removed) in image.removed_replicas() {
        assert!(image.broker(removed.broker).is_some());
        let partition = image.partition(removed.topic_id, removed.partition);
        assert!(partition.is_none_or(|at| at.everybody().all(|replica| replica.id != id)));
    }
}

#[test]
fn a_partition_moves_when_its_group_has_moved_and_the_old_replica_is_then_deleted() {
    let mut controller = with_topic(4, 1, 3);
    let before = controller.partition(0).clone();
    assert_eq!(controller.brokers(0), [1, 2, 3]);
    assert_eq!(before.founders.len(), 3);
    let planned = Response::Moves(vec![PlannedMove {
        topic: "a".to_owned(),
        partition: FIRST,
        from: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
        to: vec![BrokerId(4), BrokerId(1), BrokerId(2)],
    }]);
    assert_eq!(controller.done(move_to("a", 0, &[4, 1, 2])), planned);
    let target = controller.target(0);
    assert_eq!(target[1..], before.replicas[..2], "who stays keeps its id");
    assert!(target[0].id > before.replicas[2].id, "a new id");
    assert_eq!(controller.brokers(0), [1, 2, 3], "nothing has moved yet");
    assert_eq!(controller.partition(0).adding().count(), 1);

    let learning = MembersReport {
        learners: [target[0].id].into(),
        ..controller.report(0, &before.replicas)
    };
    assert!(controller.is_nothing(learning));
    assert!(controller.is_nothing(controller.report(0, &before.replicas)));
    let report = controller.report(0, &target);
    controller.done(Command::ReportMembers(report.clone()));
    assert_eq!(controller.partition(0).replicas, target);
    assert_eq!(controller.partition(0).reassignment, None);
    assert_eq!(controller.partition(0).founders, before.founders);
    assert_eq!(controller.removed(), [(before.replicas[2].id, BrokerId(3))]);
    assert!(controller.is_nothing(report), "said twice");

    let reported = |broker| Command::ReportRemoval {
        replica: before.replicas[2].id,
        broker: BrokerId(broker),
    };
    assert!(matches!(
        controller.handle(reported(2)),
        Ok(Decision::Answer { .. })
    ));
    controller.done(reported(3));
    assert_eq!(controller.removed(), []);
    assert!(matches!(
        controller.handle(reported(3)),
        Ok(Decision::Answer { .. })
    ));
}

#[test]
fn another_preferred_leader_needs_no_move() {
    let mut controller = with_topic(3, 1, 3);
    let before = controller.partition(0).clone();
    controller.done(move_to("a", 0, &[3, 1, 2]));
    assert_eq!(controller.brokers(0), [3, 1, 2]);
    let after = controller.partition(0);
    assert_eq!(after.reassignment, None);
    assert_eq!(
        after.replicas.iter().collect::<BTreeSet<_>>(),
        before.replicas.iter().collect::<BTreeSet<_>>()
    );
    assert_eq!(controller.removed(), []);
    let again = controller.handle(move_to("a", 0, &[3, 1, 2]));
    assert!(matches!(again, Ok(Decision::Answer { .. })));
}

#[test]
fn what_the_group_says_decides_whether_a_cancelled_move_was_made() {
    for is_made in [false, true] {
        let mut controller = with_topic(4, 1, 3);
        let before = controller.partition(0).replicas.clone();
        controller.done(move_to("a", 0, &[1, 2, 4]));
        let early = controller.report(0, &before);
        controller.done(cancel(Some("a"), Some(0)));
        assert!(
            controller.is_nothing(early),
            "it was about the move, not about its end"
        );
        let target = controller.target(0);
        let voters = if is_made { &target } else { &before };
        let report = controller.report(0, voters);
        controller.done(Command::ReportMembers(report));
        assert_eq!(controller.partition(0).replicas, *voters);
        let leaving = if is_made { before[2] } else { target[2] };
        assert_eq!(controller.removed(), [(leaving.id, leaving.broker)]);
        assert_eq!(
            controller.refusal_of(cancel(None, None)),
            Error::NothingToCancel
        );
    }
}

#[test]
fn moves_that_cannot_be_are_refused_and_none_of_a_request_begins() {
    let mut controller = with_topic(4, 2, 3);
    let problem = |controller: &mut Controller, partition, brokers: &[u32]| match controller
        .refusal_of(move_to("a", partition, brokers))
    {
        Error::InvalidReplicas { problem, .. } => problem,
        other => other.to_string(),
    };
    assert!(problem(&mut controller, 0, &[1, 2]).contains("2 brokers are named"));
    assert!(problem(&mut controller, 0, &[]).contains("0 brokers are named"));
    assert!(problem(&mut controller, 0, &[1, 2, 2]).contains("twice"));
    assert!(problem(&mut controller, 0, &[1, 2, 9]).contains("broker 9 is not registered"));
    assert!(problem(&mut controller, 2, &[1, 2, 4]).contains("has no partition 2"));
    let (Command::MoveReplicas(mut both), Command::MoveReplicas(bad)) =
        (move_to("a", 0, &[1, 2, 4]), move_to("a", 0, &[1, 3, 4]))
    else {
        unreachable!("both are moves")
    };
    both.moves.extend(bad.moves);
    let refused = controller.refusal_of(Command::MoveReplicas(both));
    assert!(matches!(refused, Error::InvalidReplicas { .. }));
    assert_eq!(controller.image().reassigned().len(), 0);

    controller.handle(move_to("a", 0, &[1, 2, 4])).unwrap();
    let again = controller.refusal_of(move_to("a", 0, &[1, 3, 4]));
    assert!(
        matches!(again, Error::AlreadyMoving { .. }),
        "also in the same turn"
    );
}

#[test]
fn replicas_become_more_and_fewer() {
    let mut controller = with_topic(5, 1, 1);
    controller.done(factor("a", 3));
    let topic = controller.image().topic_named("a").unwrap();
    assert_eq!(topic.replication_factor, 3);
    assert_eq!(controller.partition(0).adding().count(), 2);
    assert!(matches!(
        controller.refusal_of(factor("a", 5)),
        Error::AlreadyMoving { .. }
    ));
    end_all(&mut controller);
    controller.commit_all();
    assert_eq!(controller.brokers(0), [1, 2, 3]);
    controller.done(factor("a", 1));
    end_all(&mut controller);
    controller.commit_all();
    assert_eq!(controller.brokers(0), [1], "who leads stays");
    assert_eq!(controller.removed().len(), 2);
    assert!(matches!(
        controller.refusal_of(factor("a", 6)),
        Error::InvalidReplicationFactor { brokers: 5, .. }
    ));
    controller.done(Command::AlterTopic(alter(
        "a",
        &[("min.insync.replicas", "1")],
        &[],
    )));
    assert!(matches!(
        controller.refusal_of(factor("a", 0)),
        Error::InvalidReplicationFactor { .. }
    ));
}

#[test]
fn fewer_replicas_than_must_be_in_sync_are_refused() {
    let mut controller = with_topic(3, 1, 3);
    let two = alter("a", &[("min.insync.replicas", "2")], &[]);
    controller.done(Command::AlterTopic(two));
    assert!(matches!(
        controller.refusal_of(factor("a", 1)),
        Error::MinInsyncReplicas { .. }
    ));
}

#[test]
fn a_replica_of_no_use_is_replaced_where_it_is() {
    let mut controller = with_topic(3, 1, 3);
    let old = controller.partition(0).replicas[1];
    assert!(matches!(
        controller.refusal_of(replacement(ReplicaId(99))),
        Error::InvalidReplicas { .. }
    ));
    controller.done(replacement(old.id));
    let new = controller.target(0)[1];
    assert_eq!(new.broker, old.broker);
    assert_eq!(controller.partition(0).replica_on(old.broker), Some(&new));
    end_all(&mut controller);
    controller.commit_all();
    assert_eq!(controller.partition(0).replicas[1], new);
    assert_eq!(controller.removed(), [(old.id, old.broker)]);
}

fn replacement(replica: ReplicaId) -> Command {
    Command::ReplaceReplica {
        topic_id: topic_id(1),
        partition: FIRST,
        replica,
    }
}

#[test]
fn a_decommissioned_broker_gives_everything_away_and_goes() {
    let mut controller = with_topic(4, 8, 3);
    let holds = |controller: &Controller| controller.image().holds_replicas(BrokerId(2));
    let Response::Moves(planned) = controller.done(decommission(2)) else {
        panic!("no moves");
    };
    assert_eq!(planned.len(), 6);
    let remove = || Command::RemoveBroker {
        broker: BrokerId(2),
    };
    assert!(matches!(
        controller.refusal_of(remove()),
        Error::StillHolds { .. }
    ));
    // It gets nothing new, and what it has is moved.
    let other = CreateTopic {
        partitions: Some(4),
        replication_factor: Some(3),
        ..new_topic("b", 2)
    };
    controller.done(Command::CreateTopic(other));
    let other = controller.image().topic_named("b").unwrap();
    let mut replicas = other.partitions.iter().flat_map(|at| &at.replicas);
    assert!(replicas.all(|replica| replica.broker != BrokerId(2)));
    assert!(matches!(
        controller.refusal_of(move_to("a", 0, &[2, 3, 4])),
        Error::InvalidReplicas { .. }
    ));
    controller.done(continue_moves());
    assert_eq!(controller.image().reassigned().len(), 6);
    let again = controller.handle(continue_moves());
    assert!(matches!(again, Ok(Decision::Answer { .. })));
    end_all(&mut controller);
    controller.commit_all();
    assert!(!holds(&controller));
    assert_eq!(controller.removed().len(), 6);
    controller.done(remove());
    assert!(controller.image().broker(BrokerId(2)).is_none());
    assert_eq!(controller.removed(), [], "it reports nothing any more");
    let back = controller.refusal_of(Command::RegisterBroker(broker(2)));
    assert_eq!(back, Error::DirectoryRetired { id: BrokerId(2) });
    let fresh = Registration {
        incarnation_id: Uuid::from_u128(77),
        ..broker(2)
    };
    controller.done(Command::RegisterBroker(fresh));
}

#[test]
fn a_broker_that_is_needed_is_not_decommissioned() {
    let mut controller = with_topic(3, 1, 3);
    let refused = controller.refusal_of(decommission(1));
    assert!(refused.to_string().contains("alter a -r 2"), "{refused}");
    let mut alone = Controller::of(1);
    assert!(matches!(
        alone.refusal_of(decommission(1)),
        Error::CannotDrain { .. }
    ));
    assert!(matches!(
        alone.refusal_of(decommission(7)),
        Error::UnknownBroker { .. }
    ));
}

#[test]
fn a_decommissioning_is_undone_with_the_moves_that_it_began() {
    let mut controller = with_topic(4, 4, 3);
    controller.done(decommission(2));
    controller.done(continue_moves());
    assert_eq!(controller.image().reassigned().len(), 3);
    // One by one it would only begin again.
    let moving = controller.image().reassigned().next().unwrap().1;
    assert!(matches!(
        controller.refusal_of(cancel(Some("a"), Some(moving.0))),
        Error::MovedByDraining { .. }
    ));
    assert_eq!(
        controller.refusal_of(cancel(None, None)),
        Error::NothingToCancel
    );
    let undo = || Command::CancelDecommission {
        broker: BrokerId(2),
    };
    controller.done(undo());
    let is_cancelled = |at: &Partition| at.reassignment.as_ref().unwrap().is_cancelled;
    assert!(
        controller
            .image()
            .reassigned()
            .all(|(_, _, at)| is_cancelled(at))
    );
    assert!(matches!(
        controller.refusal_of(undo()),
        Error::NotDraining { .. }
    ));
    let nothing = controller.handle(continue_moves());
    assert!(matches!(nothing, Ok(Decision::Answer { .. })));
}

#[test]
fn another_directory_takes_a_brokers_place_only_where_that_was_allowed() {
    let mut controller = with_topic(3, 2, 3);
    let before = controller.partition(0).clone();
    let other = |directory: u128| {
        Command::RegisterBroker(Registration {
            incarnation_id: Uuid::from_u128(directory),
            ..broker(2)
        })
    };
    let refused = controller.refusal_of(other(77));
    assert!(
        refused.to_string().contains("highwater cluster replace 2"),
        "{refused}"
    );
    let allow = |avoid: &[u32]| Command::AllowReplacement {
        broker: BrokerId(2),
        avoid: avoid.iter().copied().map(BrokerId).collect(),
        validate_only: false,
    };
    let up = Error::BrokerIsUp { id: BrokerId(2) };
    assert_eq!(controller.refusal_of(allow(&[3])), up);
    controller.done(allow(&[2]));
    let registered = controller.done(other(77));
    let controller_replica = controller
        .image()
        .broker(BrokerId(2))
        .unwrap()
        .controller_replica;
    assert_eq!(registered, Response::Registered { controller_replica });
    assert!(controller_replica > before.replicas[2].id, "a new id");

    // What it had is never started again.
    let lost = before
        .replicas
        .iter()
        .find(|at| at.broker == BrokerId(2))
        .unwrap();
    assert_eq!(controller.partition(0).lost, [lost.id].into());
    assert_eq!(controller.partition(0).replica_on(BrokerId(2)), None);
    controller.done(continue_moves());
    assert_eq!(controller.image().reassigned().len(), 2);
    let started = controller.partition(0).replica_on(BrokerId(2)).copied();
    assert!(started.is_some_and(|new| new.id != lost.id));

    // The old directory was found again, a third one comes, the second loses its data, too.
    assert_eq!(
        controller.refusal_of(other(2)),
        Error::DirectoryRetired { id: BrokerId(2) }
    );
    assert!(matches!(
        controller.refusal_of(other(78)),
        Error::BrokerIdTaken { .. }
    ));
    controller.done(allow(&[2]));
    controller.done(other(78));
    assert_eq!(controller.partition(0).replica_on(BrokerId(2)), None);
    end_all(&mut controller);
    controller.commit_all();
    assert_eq!(controller.partition(0).replica_on(BrokerId(2)), None);
    controller.done(continue_moves());
    end_all(&mut controller);
    controller.commit_all();
    assert!(controller.partition(0).replica_on(BrokerId(2)).is_some());
    assert_eq!(controller.partition(0).lost, BTreeSet::new());
}

#[test]
fn a_directory_that_comes_back_was_not_lost() {
    let mut controller = with_topic(3, 1, 3);
    controller.done(Command::AllowReplacement {
        broker: BrokerId(2),
        avoid: [BrokerId(2)].into(),
        validate_only: false,
    });
    controller.done(Command::RegisterBroker(broker(2)));
    let state = controller.image().broker(BrokerId(2)).unwrap().state;
    assert_eq!(state, BrokerState::Active);
    assert_eq!(controller.partition(0).lost, BTreeSet::new());
}

#[test]
fn the_only_replica_of_a_partition_that_is_lost_is_not_replaced_by_an_empty_one() {
    let mut controller = with_topic(3, 3, 1);
    controller.done(Command::AllowReplacement {
        broker: BrokerId(2),
        avoid: [BrokerId(2)].into(),
        validate_only: false,
    });
    controller.done(Command::RegisterBroker(Registration {
        incarnation_id: Uuid::from_u128(77),
        ..broker(2)
    }));
    let nothing = controller.handle(continue_moves());
    assert!(matches!(nothing, Ok(Decision::Answer { .. })));
}

#[test]
fn a_deleted_topic_is_deleted_wherever_it_was_moving_to() {
    let mut controller = with_topic(4, 1, 3);
    controller.done(move_to("a", 0, &[1, 2, 4]));
    controller.done(delete("a", None));
    let deleted = controller.image().deleted_topic(topic_id(1)).unwrap();
    assert_eq!(deleted.waiting.len(), 4);
    assert_eq!(controller.image().reassigned().len(), 0);
}

fn started(id: u32, number: u64, run_id: u64) -> Registration {
    Registration {
        start: Start { number, run_id },
        ..broker(id)
    }
}

/// What registering answers, whether it changed anything or not.
fn answer_to(controller: &mut Controller, registration: Registration) -> Response {
    let decision = controller.handle(Command::RegisterBroker(registration));
    controller.commit_all();
    match decision.unwrap() {
        Decision::Propose { response, .. } | Decision::Answer { response, .. } => response,
    }
}

fn replica_of(controller: &Controller, id: u32) -> ReplicaId {
    let broker = controller.image().broker(BrokerId(id)).unwrap();
    broker.controller_replica
}

fn given(replica: ReplicaId) -> Response {
    Response::Registered {
        controller_replica: replica,
    }
}

#[test]
fn a_broker_that_lost_its_replica_of_the_controller_gets_a_new_one_once_in_each_run() {
    let mut controller = with_topic(3, 1, 3);
    let old = replica_of(&controller, 2);
    answer_to(&mut controller, started(2, 1, 71));
    let lost = |number, run_id, replica| Registration {
        lost_controller_replica: Some(replica),
        ..started(2, number, run_id)
    };
    let first = controller.image().next.replica;
    assert_eq!(answer_to(&mut controller, lost(2, 72, old)), given(first));
    assert_eq!(answer_to(&mut controller, lost(2, 72, old)), given(first));
    assert_eq!(replica_of(&controller, 2), first);
    // The next run does not know of it: what that replica promised may be lost with it.
    let second = controller.image().next.replica;
    assert!(second > first);
    assert_eq!(answer_to(&mut controller, lost(3, 73, old)), given(second));
    // In one run it turned out later that the replica is of no use.
    answer_to(&mut controller, started(2, 4, 74));
    let third = controller.image().next.replica;
    assert_eq!(
        answer_to(&mut controller, lost(4, 74, second)),
        given(third)
    );
    assert_eq!(
        answer_to(&mut controller, lost(4, 74, second)),
        given(third)
    );
    assert!(controller.partition(0).lost.is_empty());
}

#[test]
fn a_start_that_is_known_already_is_not_registered_again() {
    let mut controller = with_topic(3, 1, 3);
    let replica = replica_of(&controller, 2);
    let superseded = Response::Superseded { start_number: 5 };
    assert_eq!(
        answer_to(&mut controller, started(2, 5, 71)),
        given(replica)
    );
    assert_eq!(
        answer_to(&mut controller, started(2, 5, 71)),
        given(replica)
    );
    let before = controller.image().clone();
    assert_eq!(answer_to(&mut controller, started(2, 5, 72)), superseded);
    // What an earlier run said may come late, whatever it said.
    let late = Registration {
        is_set_back: true,
        lost_controller_replica: Some(replica),
        ..started(2, 3, 69)
    };
    assert_eq!(answer_to(&mut controller, late), superseded);
    assert_eq!(*controller.image(), before);
}

#[test]
fn what_a_broker_held_that_was_set_back_is_rebuilt_where_others_hold_it() {
    let mut controller = with_topic(3, 1, 3);
    controller.done(create("alone", 3));
    let alone = |controller: &Controller| {
        let topic = controller.image().topic_named("alone").unwrap();
        let mut replicas = topic.partitions.iter().flat_map(|at| &at.replicas);
        assert!(topic.partitions.iter().all(|at| at.lost.is_empty()));
        replicas.any(|at| at.broker == BrokerId(2))
    };
    assert!(alone(&controller));
    answer_to(&mut controller, started(2, 5, 71));
    let set_back = Registration {
        is_set_back: true,
        lost_controller_replica: Some(replica_of(&controller, 2)),
        ..started(2, 6, 72)
    };
    let next = controller.image().next.replica;
    assert_eq!(answer_to(&mut controller, set_back.clone()), given(next));
    let lost = controller.partition(0).lost.clone();
    let here = controller.partition(0).replicas.clone();
    let here = here.iter().find(|at| at.broker == BrokerId(2)).unwrap();
    assert_eq!(lost, [here.id].into());
    assert!(alone(&controller), "nobody else has it");
    controller.done(continue_moves());
    let coming = controller.partition(0).replica_on(BrokerId(2)).copied();
    assert_ne!(coming.unwrap().id, here.id);
    // Said twice by the same run it takes nothing more away.
    assert_eq!(answer_to(&mut controller, set_back), given(next));
    assert_eq!(controller.partition(0).lost, lost);
}
