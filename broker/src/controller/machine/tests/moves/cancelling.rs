//! How changes of replicas are undone, and when not.

use super::*;

/// Cancels the move of a partition while these brokers are down.
fn cancel_with_down(topic: &str, partition: u32, down: &[u32]) -> Command {
    Command::CancelMoves(CancelMoves {
        topic: Some(topic.to_owned()),
        partition: Some(PartitionIndex(partition)),
        down: down.iter().copied().map(BrokerId).collect(),
    })
}

#[test]
fn what_is_rebuilt_is_not_cancelled_unless_its_broker_is_down() {
    let mut controller = with_topic(3, 1, 3);
    let before = controller.partition(0).replicas.clone();
    controller.done(replacement(before[1].id));
    let broker = before[1].broker;
    let refused = controller.refusal_of(cancel(Some("a"), Some(0)));
    assert!(
        matches!(&refused, Error::Rebuilt { broker: on, .. } if *on == broker),
        "{refused}"
    );
    let none = controller.refusal_of(cancel(None, None));
    assert_eq!(none, Error::NothingToCancel);

    let new = controller.target(0)[1];
    controller.done(cancel_with_down("a", 0, &[broker.0]));
    let report = controller.report(0, &before);
    controller.done(Command::ReportMembers(report));
    assert_eq!(controller.partition(0).replicas, before);
    assert_eq!(controller.removed(), [(new.id, broker)]);
}

#[test]
fn what_is_rebuilt_on_a_broker_that_is_down_and_to_go_moves_to_another_one() {
    let mut controller = with_topic(4, 1, 3);
    let before = controller.partition(0).replicas.clone();
    controller.done(replacement(before[1].id));
    let broker = before[1].broker;
    controller.done(decommission(broker.0));
    assert!(controller.image().wants_moves());
    let continued = controller.handle(continue_moves()).unwrap();
    assert!(
        matches!(continued, Decision::Answer { .. }),
        "it may come to an end while the broker is up"
    );
    let without = |down: BrokerId| Command::ContinueMoves {
        avoid: BTreeSet::from([down]),
    };
    controller.done(without(broker));
    let report = controller.report(0, &before);
    controller.done(Command::ReportMembers(report));
    controller.done(without(broker));
    let target = controller.target(0);
    assert!(target.iter().all(|new| new.broker != broker), "{target:?}");
    assert_eq!(target.len(), 3);
}

#[test]
fn a_number_of_replicas_that_is_cancelled_is_the_old_one_again() {
    let is = |controller: &Controller| {
        let topic = controller.image().topic_named("a").unwrap();
        topic.replication_factor
    };
    for is_made in [false, true] {
        let mut controller = with_topic(5, 1, 3);
        let before = controller.partition(0).replicas.clone();
        controller.done(factor("a", 5));
        assert_eq!(is(&controller), 5);
        controller.done(cancel(Some("a"), None));
        assert_eq!(is(&controller), 3);
        let target = controller.target(0);
        let voters = if is_made { &target } else { &before };
        let report = controller.report(0, voters);
        controller.done(Command::ReportMembers(report));
        let count = u32::try_from(voters.len()).unwrap();
        assert_eq!(is(&controller), count, "as many as it has");
    }

    let mut controller = with_topic(5, 2, 3);
    controller.done(factor("a", 5));
    controller.done(cancel(Some("a"), Some(0)));
    assert_eq!(is(&controller), 5, "the other partition goes on");
    controller.done(cancel(Some("a"), None));
    assert_eq!(is(&controller), 3);

    let mut controller = with_topic(5, 1, 3);
    controller.done(factor("a", 5));
    let four = alter("a", &[("min.insync.replicas", "4")], &[]);
    controller.done(Command::AlterTopic(four));
    assert!(matches!(
        controller.refusal_of(cancel(Some("a"), None)),
        Error::MinInsyncReplicas { .. }
    ));
}
