//! Which of its replicas a partition can begin again with, when the majority of them is gone for good, and what that loses.
//!
//! A rule: what the brokers that answer know goes in, a plan comes out. The replica with the highest term, and in it the highest
//! index, holds everything that any majority acknowledged as far as the replicas that are left can tell: nobody else of
//! them could have led with less.

use std::collections::{BTreeMap, BTreeSet};

use highwater_proto::v1;

/// A partition that cannot go on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostPartition {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Brokers that should hold its replicas, the preferred leader first.
    pub replicas: Vec<u32>,
    /// Those of them that are gone, or whose replica is of no use.
    pub lost: Vec<u32>,
    /// What it can begin again with; `None` where nothing is left.
    pub survivor: Option<Survivor>,
    /// What is sent to have it begin again.
    pub(crate) request: v1::RecoverPartitionRequest,
}

/// A replica that a partition can begin again with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Its broker.
    pub broker: u32,
    /// The first offset that it holds.
    pub log_start_offset: u64,
    /// The offset behind the last that it holds: whatever was acknowledged from there on is lost.
    pub log_end_offset: u64,
    /// The offset behind the last that it knows to be committed: what lies between that and its end is kept.
    pub high_watermark: u64,
}

/// What a broker answered, and its number.
pub(crate) type Answer = (u32, v1::DescribeLeaderlessResponse);

type Key = (String, u32);

/// The partitions that need a decision. Those that a majority of their replicas can still lead are left out: they elect. So are
/// those that a broker which holds a replica of them knows to be led.
pub(crate) fn plan(answers: &[Answer]) -> Vec<LostPartition> {
    let mut partitions: BTreeMap<Key, Vec<(u32, &v1::LeaderlessPartition)>> = BTreeMap::new();
    for (broker, answer) in answers {
        for described in &answer.partitions {
            if let Some(named) = &described.partition {
                let key = (named.topic.clone(), named.partition);
                partitions
                    .entry(key)
                    .or_default()
                    .push((*broker, described));
            }
        }
    }
    let lost = partitions.into_iter().filter_map(|(key, described)| {
        let newest = described.iter().map(|(_, at)| at.epoch).max()?;
        let known: Vec<_> = described
            .into_iter()
            .filter(|(_, at)| at.epoch == newest)
            .collect();
        let placed = &known.first()?.1.replica_broker_ids;
        let mut holders = answers.iter().filter(|(broker, _)| placed.contains(broker));
        let says_so = |(broker, _): &Answer| known.iter().any(|(by, _)| by == broker);
        if !holders.all(says_so) {
            return None;
        }
        of_partition(key, &known)
    });
    lost.collect()
}

fn of_partition(
    (topic, partition): Key,
    known: &[(u32, &v1::LeaderlessPartition)],
) -> Option<LostPartition> {
    let (_, placed) = known.first()?;
    let replicas = placed.replica_broker_ids.clone();
    let is_well = |state: &&v1::ReplicaState| state.failure.is_empty() && state.is_voter;
    let mut well: Vec<_> = known
        .iter()
        .filter(|(broker, _)| replicas.contains(broker))
        .filter_map(|(broker, at)| Some((*broker, at.replica.as_ref().filter(is_well)?)))
        .collect();
    if well.len() * 2 > replicas.len() {
        return None;
    }
    // Of equal ones the broker that was preferred.
    well.sort_by_key(|(broker, _)| replicas.iter().position(|placed| placed == broker));
    let best = well
        .iter()
        .rev()
        .max_by_key(|(_, state)| (state.last_term, state.last_index));
    let well: BTreeSet<u32> = well.iter().map(|(broker, _)| *broker).collect();
    let mut lost: Vec<u32> = replicas.clone();
    lost.retain(|broker| !well.contains(broker));
    let request = v1::RecoverPartitionRequest {
        partition: placed.partition.clone(),
        epoch: placed.epoch,
        replica_id: best.map_or(0, |(_, state)| state.replica_id),
        lost_broker_ids: lost.clone(),
        log_end_offset: best.map_or(0, |(_, state)| state.log_end_offset),
    };
    Some(LostPartition {
        topic,
        partition,
        replicas,
        lost,
        survivor: best.map(|(broker, state)| Survivor {
            broker: *broker,
            log_start_offset: state.log_start_offset,
            log_end_offset: state.log_end_offset,
            high_watermark: state.high_watermark,
        }),
        request,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What brokers say of partition 0 of topic `t` on these brokers.
    fn answers(placed: &[u32], states: &[(u32, Option<v1::ReplicaState>)]) -> Vec<Answer> {
        let described = |replica| v1::LeaderlessPartition {
            partition: Some(v1::TopicPartition {
                topic: "t".to_owned(),
                ..v1::TopicPartition::default()
            }),
            epoch: 3,
            replica_broker_ids: placed.to_vec(),
            replica,
        };
        let answer = |(broker, replica): &(u32, Option<v1::ReplicaState>)| {
            let partitions = vec![described(replica.clone())];
            (*broker, v1::DescribeLeaderlessResponse { partitions })
        };
        states.iter().map(answer).collect()
    }

    fn holds(last_term: u64, last_index: u64) -> Option<v1::ReplicaState> {
        Some(v1::ReplicaState {
            replica_id: 10 * last_term + last_index,
            is_voter: true,
            last_term,
            last_index,
            log_end_offset: last_index * 100,
            high_watermark: last_index * 90,
            ..v1::ReplicaState::default()
        })
    }

    fn survivor(answers: &[Answer]) -> Option<(u32, Vec<u32>)> {
        let mut planned = plan(answers);
        assert!(planned.len() <= 1);
        let lost = planned.pop()?;
        Some((lost.survivor.map_or(0, |at| at.broker), lost.lost))
    }

    #[test]
    fn the_highest_term_and_then_the_highest_index_wins() {
        let placed = [1, 2, 3, 4, 5];
        let states = [(1, holds(3, 90)), (2, holds(4, 20))];
        assert_eq!(
            survivor(&answers(&placed, &states)),
            Some((2, vec![3, 4, 5]))
        );
        let states = [(1, holds(4, 21)), (2, holds(4, 20))];
        assert_eq!(
            survivor(&answers(&placed, &states)),
            Some((1, vec![3, 4, 5]))
        );
        let states = [(4, holds(4, 20)), (2, holds(4, 20))];
        assert_eq!(
            survivor(&answers(&placed, &states)),
            Some((2, vec![1, 3, 5]))
        );
    }

    #[test]
    fn a_majority_that_is_left_gives_up_nothing() {
        let states = [(1, holds(3, 9)), (2, holds(3, 8))];
        assert_eq!(survivor(&answers(&[1, 2, 3], &states)), None);
    }

    #[test]
    fn what_one_holder_knows_to_be_led_is_led() {
        let mut known = answers(&[1, 2, 3], &[(1, holds(3, 9))]);
        known.push((2, v1::DescribeLeaderlessResponse::default()));
        assert_eq!(survivor(&known), None);
        known[1].0 = 4;
        assert_eq!(survivor(&known), Some((1, vec![2, 3])));
    }

    #[test]
    fn a_replica_of_no_use_is_lost_though_its_broker_answers() {
        let damaged = holds(9, 9).map(|state| v1::ReplicaState {
            failure: "a bit flipped".to_owned(),
            ..state
        });
        let learner = holds(9, 9).map(|state| v1::ReplicaState {
            is_voter: false,
            ..state
        });
        let states = [(1, damaged), (2, holds(3, 8)), (3, learner)];
        assert_eq!(
            survivor(&answers(&[1, 2, 3], &states)),
            Some((2, vec![1, 3]))
        );
    }

    #[test]
    fn where_nothing_is_left_there_is_nothing_to_begin_with() {
        let states = [(9, None)];
        assert_eq!(survivor(&answers(&[1, 2], &states)), Some((0, vec![1, 2])));
    }

    #[test]
    fn a_broker_that_knows_older_replicas_is_not_asked() {
        let mut known = answers(&[1, 2, 3], &[(1, holds(3, 8)), (2, holds(9, 9))]);
        known[1].1.partitions[0].epoch = 2;
        known[1].0 = 9;
        assert_eq!(survivor(&known), Some((1, vec![2, 3])));
        let planned = plan(&known);
        assert_eq!(planned[0].request.epoch, 3);
        assert_eq!(planned[0].request.log_end_offset, 800);
    }
}
