//! What a coordinator refuses because its snapshot would be too large.

use std::collections::BTreeSet;

use highwater_proto::{PartitionIndex, TopicId};
use uuid::Uuid;

use super::stage::Coordinator;
use crate::coordinator::{
    Command, Commit, CommitItem, Error, Limits, Presence, Response, Subscription, TopicPartition,
};

fn commit(group: &str, index: u32, offset: u64, metadata_bytes: usize) -> Command {
    let partition = TopicPartition {
        topic: TopicId(Uuid::from_u128(1)),
        index: PartitionIndex(index),
    };
    Command::Commit(Commit {
        group: group.into(),
        member: None,
        items: vec![CommitItem {
            partition,
            offset,
            leader_epoch: None,
            metadata: "x".repeat(metadata_bytes),
        }],
    })
}

/// A coordinator that takes no more commits, and how many partitions it took.
fn full() -> (Coordinator, u32) {
    let limits = Limits {
        max_bytes: 8 << 10,
        ..Limits::default()
    };
    let mut coordinator = Coordinator::new(limits);
    coordinator.grow("t", TopicId(Uuid::from_u128(1)));
    for index in 0.. {
        match coordinator.decide(commit("g", index, 5, 100)) {
            Ok(_) => {}
            Err(Error::NoRoom { bytes, limit }) => {
                assert!(bytes <= limit);
                return (coordinator, index);
            }
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("there are fewer numbers");
}

#[test]
fn new_offsets_are_refused_before_the_snapshot_is_too_large_and_old_ones_move_on() {
    let (mut coordinator, partitions) = full();
    assert!(partitions > 10);
    for index in 0..partitions {
        coordinator.decide(commit("g", index, 6, 100)).unwrap();
    }
    let larger = coordinator.decide(commit("g", 0, 7, 1_000));
    assert!(matches!(larger, Err(Error::NoRoom { .. })), "{larger:?}");
    let new = coordinator.decide(commit("h", 0, 1, 100));
    assert!(matches!(new, Err(Error::NoRoom { .. })), "{new:?}");
    let group = "g".into();
    coordinator.decide(Command::DeleteGroup { group }).unwrap();
    coordinator.decide(commit("h", 0, 1, 100)).unwrap();
}

#[test]
fn who_joins_is_refused_where_there_is_no_room() {
    let (mut coordinator, _) = full();
    let mut join = coordinator.heartbeat("g", "m", Presence::Join);
    join.subscription = Some(Subscription {
        names: BTreeSet::from(["t".to_owned()]),
        regex: None,
    });
    let refused = coordinator.decide(Command::Heartbeat(Box::new(join.clone())));
    assert!(matches!(refused, Err(Error::NoRoom { .. })), "{refused:?}");
    let group = "g".into();
    coordinator.decide(Command::DeleteGroup { group }).unwrap();
    let joined = coordinator.decide(Command::Heartbeat(Box::new(join)));
    assert!(matches!(joined, Ok(Response::Member { .. })), "{joined:?}");
    coordinator.fail_over().unwrap();
}

#[test]
fn what_is_proposed_takes_room_before_it_is_applied() {
    let limits = Limits {
        max_bytes: 8 << 10,
        ..Limits::default()
    };
    let mut coordinator = Coordinator::new(limits);
    coordinator.set_holds(true);
    let refused = (0..1_000).find(|index| coordinator.decide(commit("g", *index, 1, 100)).is_err());
    assert!(refused.is_some_and(|index| index < 82), "{refused:?}");
}
