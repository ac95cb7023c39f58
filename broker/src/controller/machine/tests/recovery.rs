//! How a partition begins again with one replica.

use super::moves::{factor, move_to};
use super::*;
use crate::controller::command::{MembersReport, RecoverPartition, RecoveryReport};
use crate::controller::partition::Partition;

/// Topic `a` with one partition of so many replicas, on as many brokers.
fn with_topic(replicas: u32) -> Controller {
    let mut controller = Controller::of(replicas);
    let command = CreateTopic {
        partitions: Some(1),
        replication_factor: Some(replicas),
        ..new_topic("a", 1)
    };
    controller.done(Command::CreateTopic(command));
    controller
}

fn only(controller: &Controller) -> Partition {
    let view = controller.machine.view();
    let partition = view.partition(topic_id(1), PartitionIndex(0));
    partition.unwrap().clone()
}

/// Gives up the replicas on these brokers.
fn recover(controller: &Controller, lost: &[u32]) -> RecoverPartition {
    let partition = only(controller);
    let mut replicas = partition.replicas.iter();
    let survivor = replicas.find(|at| !lost.contains(&at.broker.0)).unwrap();
    RecoverPartition {
        topic: "a".to_owned(),
        topic_id: None,
        partition: PartitionIndex(0),
        epoch: partition.epoch,
        survivor: survivor.id,
        lost: lost.iter().copied().map(BrokerId).collect(),
        log_end_offset: 70,
    }
}

fn report(controller: &Controller) -> Command {
    Command::ReportRecovery(RecoveryReport {
        topic_id: topic_id(1),
        partition: PartitionIndex(0),
        group: only(controller).group,
    })
}

#[test]
fn it_is_another_group_and_the_others_belong_to_nothing() {
    let mut controller = with_topic(3);
    let before = only(&controller);
    let command = recover(&controller, &[2, 3]);
    let survivor = command.survivor;
    controller.done(Command::RecoverPartition(command));
    let after = only(&controller);
    assert!(after.group > before.group && after.epoch > before.epoch);
    assert_eq!(after.replicas.len(), 1);
    assert_eq!(
        (after.replicas[0].id, &after.founders[..]),
        (survivor, &[survivor][..])
    );
    assert!(after.is_refounding());
    // What the others hold may be all that is left of something: it is not deleted.
    assert_eq!(controller.image().removed_replicas().len(), 0);
    // No topic gets the group again.
    controller.done(Command::CreateTopic(new_topic("b", 2)));
    let other = controller.image().partition(topic_id(2), PartitionIndex(0));
    assert!(other.unwrap().group > after.group);
}

#[test]
fn nothing_is_given_up_where_a_majority_is_left_or_something_changed() {
    let mut controller = with_topic(3);
    let refused = |controller: &mut Controller, command: RecoverPartition| {
        let error = controller
            .handle(Command::RecoverPartition(command))
            .unwrap_err();
        assert!(matches!(error, Error::CannotRecover { .. }), "{error}");
    };
    let command = recover(&controller, &[3]);
    refused(&mut controller, command);
    let command = recover(&controller, &[2, 3]);
    for broken in [
        RecoverPartition {
            epoch: command.epoch + 1,
            ..command.clone()
        },
        RecoverPartition {
            survivor: ReplicaId(9_999),
            ..command.clone()
        },
        RecoverPartition {
            lost: BTreeSet::from([BrokerId(2), BrokerId(9)]),
            ..command.clone()
        },
        RecoverPartition {
            lost: BTreeSet::from([BrokerId(1), BrokerId(2), BrokerId(3)]),
            ..command.clone()
        },
    ] {
        refused(&mut controller, broken);
    }
    controller.done(Command::RecoverPartition(command.clone()));
    refused(&mut controller, command);
}

#[test]
fn its_members_change_only_once_it_has_durably_begun_and_then_it_is_over() {
    let mut controller = with_topic(3);
    let command = recover(&controller, &[2, 3]);
    controller.done(Command::RecoverPartition(command));
    let error = controller.handle(factor("a", 3)).unwrap_err();
    assert!(matches!(error, Error::AlreadyMoving { .. }), "{error}");
    assert!(controller.handle(move_to("a", 0, &[1, 2, 3])).is_err());
    let told = report(&controller);
    controller.done(told.clone());
    assert!(!only(&controller).is_changing());
    let twice = controller.handle(told).unwrap();
    assert!(matches!(twice, Decision::Answer { .. }));
    // It stays visible until all replicas are there again.
    assert!(only(&controller).recovery.is_some());
    controller.handle(factor("a", 3)).unwrap();
    let partition = only(&controller);
    let target = partition.reassignment.unwrap().target;
    let ended = MembersReport {
        topic_id: topic_id(1),
        partition: PartitionIndex(0),
        epoch: partition.epoch,
        voters: target.iter().map(|replica| replica.id).collect(),
        learners: BTreeSet::new(),
    };
    controller.handle(Command::ReportMembers(ended)).unwrap();
    let partition = only(&controller);
    assert_eq!((partition.replicas.len(), partition.recovery), (3, None));
}

#[test]
fn a_report_about_another_group_says_nothing() {
    let mut controller = with_topic(3);
    let old = report(&controller);
    let command = recover(&controller, &[2, 3]);
    controller.done(Command::RecoverPartition(command));
    let answered = controller.handle(old).unwrap();
    assert!(matches!(answered, Decision::Answer { .. }));
    assert!(only(&controller).is_refounding());
}

#[test]
fn a_recovery_survives_a_snapshot() {
    let mut controller = with_topic(3);
    let command = recover(&controller, &[2, 3]);
    controller.done(Command::RecoverPartition(command));
    let bytes = crate::controller::snapshot::encode(controller.image());
    let restored = crate::controller::snapshot::decode(&bytes).unwrap();
    assert_eq!(&restored, controller.image());
}

#[test]
fn a_cluster_that_goes_on_as_another_one_gives_no_id_twice_and_nobody_begins_as_a_founder() {
    let mut controller = Controller::of(3);
    controller.done(create("a", 2));
    let before = controller.image().clone();
    let cluster_id = Uuid::from_u128(77);
    let succeed = || Command::Succeed { cluster_id };
    assert_eq!(controller.done(succeed()), Response::Done);
    let image = controller.image().clone();
    assert_eq!(image.cluster_id(), Some(cluster_id));
    let lost = 1_000_000;
    assert!(image.next.replica.0 > before.next.replica.0 + lost);
    assert!(image.next.group.0 > before.next.group.0 + lost);
    assert!(image.next.producer.0 > before.next.producer.0 + 1_000_000);
    let partitions = |image: &ClusterImage| image.topic_named("a").unwrap().partitions.clone();
    for (now, was) in partitions(&image).iter().zip(partitions(&before)) {
        assert_eq!((now.group, &now.replicas), (was.group, &was.replicas));
        assert_eq!(now.founders, []);
        assert!(now.epoch > was.epoch);
    }
    // Asked again, as after a crash, nothing more happens.
    let again = controller.handle(succeed());
    assert!(matches!(again, Ok(Decision::Answer { .. })));
    controller.done(create("b", 1));
    let fresh = controller.image().topic_named("b").unwrap();
    let fresh = &fresh.partitions[0];
    assert!(fresh.group >= image.next.group && fresh.founders.len() == fresh.replicas.len());
}
