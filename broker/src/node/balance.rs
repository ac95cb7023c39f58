//! Gives leadership back to the broker that should have it.
//!
//! Each partition has a preferred leader, its first replica, so that what clients do is spread over the brokers. After a
//! broker was away its partitions are led elsewhere. Whoever leads one hands it over once the preferred leader's broker has been up
//! for a while and the replica keeps up: a few at a time, because requests of a partition wait meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::BrokerId;
use highwater_storage::Term;
use tokio::time::Instant;
use tracing::{debug, info};

use super::tasks::every;
use crate::controller::ClusterView;
use crate::hosted::Hosted;
use crate::partition::Standing;
use crate::peer::Peers;
use crate::raft::{GroupId, Operation, ReplicaId, Shards};
use crate::replica::Replica;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a broker must have been up. Whoever just started has work enough.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// How long a partition is led here at least, and the wait before one that was not taken over is tried again. Longer than
/// a stop takes: a broker that hands over before it stops must not get its partitions back.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Leaderships that one look hands over at most.
const AT_ONCE: usize = 16;

/// Hands leaderships over.
pub(super) struct Balance {
    pub(super) shards: Shards<Replica>,
    pub(super) cluster: Arc<ClusterView>,
    pub(super) hosted: Arc<Hosted>,
    pub(super) peers: Peers,
}

impl Balance {
    /// Works until it is dropped.
    pub(super) async fn run(self) {
        let mut looks = every(INTERVAL);
        let mut presence = Presence::default();
        let mut kept = Kept::default();
        loop {
            looks.tick().await;
            let now = Instant::now();
            presence.observe(&self.peers.liveness().borrow(), now);
            if !presence.is_empty() {
                let mut settled = presence.settled(now);
                settled.retain(|broker| !self.peers.is_leaving(*broker));
                let misplaced = self.misplaced(&settled);
                self.hand_over(kept.due(&misplaced, now));
            }
        }
    }

    /// What is led here and should be led by one of the `settled` brokers.
    fn misplaced(&self, settled: &BTreeSet<BrokerId>) -> Vec<Misplaced> {
        let image = self.cluster.image();
        let partitions = self.hosted.load();
        let coordinators = partitions
            .coordinators()
            .map(|coordinator| &coordinator.partition);
        let misplaced = partitions
            .iter()
            .chain(coordinators)
            .filter_map(|partition| {
                let Standing::Serving { term } = partition.shared.standing() else {
                    return None;
                };
                let group = partition.group;
                let placed = image
                    .topic(partition.topic.id)?
                    .partition(partition.index)?;
                let preferred = placed.replicas.first()?;
                let to = preferred.id;
                let is_misplaced = settled.contains(&preferred.broker) && self.keeps_up(group, to);
                is_misplaced.then_some(Misplaced { group, term, to })
            });
        misplaced.collect()
    }

    fn hand_over(&self, due: Vec<Misplaced>) {
        let mut count = 0;
        for Misplaced { group, to, .. } in due {
            let handover = Operation::TransferLeader { group, to };
            match self.shards.operate(group, handover) {
                Ok(()) => count += 1,
                Err(error) => {
                    debug!(group = group.0, %error, "a partition is led from here for now")
                }
            }
        }
        if count > 0 {
            info!(
                count,
                "leaderships are given back to their preferred brokers"
            );
        }
    }

    /// Whether another replica of a group that is led here keeps up.
    fn keeps_up(&self, group: GroupId, replica: ReplicaId) -> bool {
        let leader = self.peers.leaders().get(group);
        leader.is_some_and(|leader| leader.replica != replica && leader.in_sync.contains(&replica))
    }
}

/// A partition that is led here and should be led elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Misplaced {
    group: GroupId,
    term: Term,
    /// Who should lead it.
    to: ReplicaId,
}

/// Since when misplaced partitions are led here, or were last tried.
#[derive(Debug, Default)]
struct Kept {
    since: BTreeMap<GroupId, (Term, Instant)>,
}

impl Kept {
    /// Those to be handed over now.
    fn due(&mut self, misplaced: &[Misplaced], now: Instant) -> Vec<Misplaced> {
        let mut since = BTreeMap::new();
        let mut due = Vec::new();
        for partition in misplaced {
            let known = self.since.get(&partition.group);
            let known = known.filter(|(term, _)| *term == partition.term);
            let mut kept = known.map_or(now, |(_, since)| *since);
            if now - kept >= KEPT_FOR && due.len() < AT_ONCE {
                due.push(*partition);
                kept = now;
            }
            since.insert(partition.group, (partition.term, kept));
        }
        self.since = since;
        due
    }
}

/// Since when the other brokers have been up.
#[derive(Debug, Default)]
struct Presence {
    since: BTreeMap<BrokerId, Instant>,
}

impl Presence {
    fn observe(&mut self, up: &BTreeSet<BrokerId>, now: Instant) {
        self.since.retain(|broker, _| up.contains(broker));
        for broker in up {
            self.since.entry(*broker).or_insert(now);
        }
    }

    fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// Brokers that have been up for a while.
    fn settled(&self, now: Instant) -> BTreeSet<BrokerId> {
        let is_settled = |(_, since): &(&BrokerId, &Instant)| now - **since >= SETTLED_AFTER;
        let settled = self.since.iter().filter(is_settled);
        settled.map(|(broker, _)| *broker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_kept_for_a_while_in_each_term() {
        let partition = |term| Misplaced {
            group: GroupId(7),
            term: Term(term),
            to: ReplicaId(1),
        };
        let start = Instant::now();
        let mut kept = Kept::default();
        assert_eq!(kept.due(&[partition(1)], start), []);
        let later = start + KEPT_FOR;
        assert_eq!(kept.due(&[partition(1)], later), [partition(1)]);
        assert_eq!(kept.due(&[partition(1)], later), [], "it was just tried");
        assert_eq!(
            kept.due(&[partition(2)], later + KEPT_FOR),
            [],
            "a new term"
        );
        assert_eq!(kept.due(&[], later + KEPT_FOR), []);
        assert_eq!(kept.due(&[partition(2)], later + KEPT_FOR * 2), []);
    }

    #[test]
    fn a_broker_settles_anew_after_each_absence() {
        let brokers = |ids: &[u32]| ids.iter().copied().map(BrokerId).collect::<BTreeSet<_>>();
        let start = Instant::now();
        let mut presence = Presence::default();
        presence.observe(&brokers(&[1, 2]), start);
        presence.observe(&brokers(&[1]), start + SETTLED_AFTER / 2);
        presence.observe(&brokers(&[1, 2]), start + SETTLED_AFTER);
        assert_eq!(presence.settled(start + SETTLED_AFTER), brokers(&[1]));
        let later = start + SETTLED_AFTER * 2;
        presence.observe(&brokers(&[1, 2]), later);
        assert_eq!(presence.settled(later), brokers(&[1, 2]));
    }
}
