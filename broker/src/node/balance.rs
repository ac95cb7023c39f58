//! Gives leadership back to the broker that should have it.
//!
//! Each partition has a preferred leader, its first replica, so that what clients do is spread over the brokers. After a
//! broker was away its partitions are led elsewhere. Whoever leads one hands it over once the preferred leader's broker has been up
//! for a while and the replica keeps up: a few at a time, because requests of a partition wait meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::BrokerId;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::controller::ClusterView;
use crate::hosted::{Hosted, HostedPartition};
use crate::partition::Standing;
use crate::peer::Peers;
use crate::raft::{GroupId, Operation, ReplicaId, Shards};
use crate::replica::Replica;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a broker must have been up. Whoever just started has work enough.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// Wait before a partition whose preferred leader did not take over is tried again: each try holds up its requests.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);
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
    /// Works until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut presence = Presence::default();
        let mut tried = BTreeMap::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            let now = Instant::now();
            presence.observe(&self.peers.liveness().borrow(), now);
            tried.retain(|_, at| now - *at < TRY_AGAIN_AFTER);
            if !presence.is_empty() {
                for group in self.look(&presence.settled(now), &tried) {
                    tried.insert(group, now);
                }
            }
        }
    }

    /// Hands over what `settled` brokers should lead, but for what was `tried` lately, and returns it.
    fn look(
        &self,
        settled: &BTreeSet<BrokerId>,
        tried: &BTreeMap<GroupId, Instant>,
    ) -> Vec<GroupId> {
        let image = self.cluster.image();
        let partitions = self.hosted.load();
        let due = partitions.iter().filter_map(|partition| {
            let placed = image
                .topic(partition.topic.id)?
                .partition(partition.index)?;
            let preferred = placed.replicas.first()?;
            let is_due = settled.contains(&preferred.broker)
                && !tried.contains_key(&partition.group)
                && self.leads(partition, preferred.id);
            is_due.then_some((partition.group, preferred.id))
        });
        let mut handed_over = Vec::new();
        for (group, to) in due.take(AT_ONCE) {
            let handover = Operation::TransferLeader { group, to };
            match self.shards.operate(group, handover) {
                Ok(()) => handed_over.push(group),
                Err(error) => {
                    debug!(group = group.0, %error, "a partition is led from here for now")
                }
            }
        }
        if !handed_over.is_empty() {
            let count = handed_over.len();
            info!(
                count,
                "leaderships are given back to their preferred brokers"
            );
        }
        handed_over
    }

    /// Whether this broker leads a partition whose replica `preferred` is elsewhere and keeps up.
    fn leads(&self, partition: &HostedPartition, preferred: ReplicaId) -> bool {
        matches!(partition.shared.standing(), Standing::Serving { .. })
            && self.keeps_up(partition.group, preferred)
    }

    fn keeps_up(&self, group: GroupId, replica: ReplicaId) -> bool {
        let leader = self.peers.leaders().get(group);
        leader.is_some_and(|leader| leader.replica != replica && leader.in_sync.contains(&replica))
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
