//! Who leads the partitions of the cluster, as far as this broker knows: by its own replicas, and by what leaders on other
//! brokers announced.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_proto::{ApiError, BrokerId, PartitionIndex, Reason, TopicId, v1};
use highwater_storage::Term;
use tokio::sync::watch;

use super::Context;
use crate::controller::{ClusterImage, Partition};
use crate::controller_client::CONTROLLER_GROUP;
use crate::hosted::{HostedPartition, parse_topic_id};
use crate::partition::Standing;
use crate::peer::LeaderTable;
use crate::raft::ReplicaId;
use crate::raft::machine::Role;

/// Where leaders are known from.
pub(crate) struct Leaders {
    pub(crate) me: BrokerId,
    /// What leaders announced.
    pub(crate) table: Arc<LeaderTable>,
    /// The other brokers that are up.
    pub(crate) up: watch::Receiver<Arc<BTreeSet<BrokerId>>>,
}

/// A leader that somebody told of; `None`: of that term none is known.
type Told = (Option<BrokerId>, Term);

impl Leaders {
    /// Whether a broker is up, as this one sees it.
    pub(crate) fn is_up(&self, broker: BrokerId) -> bool {
        broker == self.me || self.up.borrow().contains(&broker)
    }

    /// The leader of a partition and its term. One that is not up is none. A partition with one replica names that one
    /// also before it is elected: it will be, at the first request that needs it.
    pub(crate) fn of(
        &self,
        partition: &Partition,
        hosted: Option<&HostedPartition>,
    ) -> (Option<BrokerId>, Term) {
        let on = |replica: ReplicaId| {
            let mut replicas = partition.everybody();
            let found = replicas.find(|candidate| candidate.id == replica);
            found.map(|replica| replica.broker)
        };
        let seen_here = match hosted.map(|hosted| hosted.shared.standing()) {
            Some(Standing::Serving { term } | Standing::Opening { term }) => (Some(self.me), term),
            Some(Standing::Following { term, leader }) => (leader.and_then(on), term),
            Some(Standing::Quarantined) | None => (None, Term(0)),
        };
        let announced = self.table.get(partition.group);
        let announced =
            announced.map_or((None, Term(0)), |leader| (on(leader.replica), leader.term));
        let (leader, term) = newer(seen_here, announced);
        let sole = match &partition.replicas[..] {
            [sole] => Some(sole.broker),
            _ => None,
        };
        let leader = leader.filter(|leader| self.is_up(*leader)).or(sole);
        (leader, term)
    }

    /// The brokers whose replica keeps up with the leader of a partition, as that said last, in order.
    pub(crate) fn in_sync(&self, partition: &Partition) -> Vec<BrokerId> {
        if let [sole] = &partition.replicas[..] {
            return vec![sole.broker];
        }
        let leader = self.table.get(partition.group);
        let in_sync = leader.map_or_else(Default::default, |leader| leader.in_sync);
        let replicas = partition.everybody();
        let mut brokers: Vec<_> = replicas
            .filter(|replica| in_sync.contains(&replica.id))
            .map(|replica| replica.broker)
            .collect();
        brokers.sort_unstable();
        brokers.dedup();
        brokers
    }

    /// The broker that leads the controller group, given where this one's replica of it stands.
    pub(crate) fn controller(&self, image: &ClusterImage, role: Option<Role>) -> Option<BrokerId> {
        let on = |replica: ReplicaId| {
            let mut replicas = image.controller_replicas();
            let found = replicas.find(|candidate| candidate.id == replica);
            found.map(|replica| replica.broker)
        };
        let seen_here = match role {
            Some(Role::Leader { term, .. }) => (Some(self.me), term),
            Some(Role::Follower { term, leader }) => (leader.and_then(on), term),
            Some(Role::Quarantined) | None => (None, Term(0)),
        };
        let announced = self.table.get(CONTROLLER_GROUP);
        let announced =
            announced.map_or((None, Term(0)), |leader| (on(leader.replica), leader.term));
        let (leader, _) = newer(seen_here, announced);
        leader.filter(|leader| self.is_up(*leader))
    }
}

/// What is known of the higher term; of one term, whoever knows its leader.
fn newer(one: Told, other: Told) -> Told {
    match one.1.cmp(&other.1) {
        std::cmp::Ordering::Less => other,
        std::cmp::Ordering::Greater => one,
        std::cmp::Ordering::Equal => (one.0.or(other.0), one.1),
    }
}

/// A partition that is led here, and the brokers whose replicas do not keep up with it.
pub(crate) struct UnderReplicated {
    pub(crate) partition: Arc<HostedPartition>,
    pub(crate) behind: Vec<BrokerId>,
}

impl Context {
    /// The partitions that are led here and have replicas that do not keep up.
    pub(crate) fn under_replicated(&self) -> Vec<UnderReplicated> {
        let image = self.cluster.image();
        let hosted = self.hosted.load();
        let led = hosted
            .iter()
            .filter(|partition| partition.shared.standing().is_serving());
        let under_replicated = led.filter_map(|partition| {
            let topic = image.topic(partition.topic.id)?;
            let placed = topic.partition(partition.index)?;
            let in_sync = self.leaders.in_sync(placed);
            let replicas = placed.replicas.iter().map(|replica| replica.broker);
            let behind: Vec<_> = replicas.filter(|on| !in_sync.contains(on)).collect();
            (!behind.is_empty()).then(|| UnderReplicated {
                partition: Arc::clone(partition),
                behind,
            })
        });
        under_replicated.collect()
    }

    /// The partition that a request names, on this broker.
    ///
    /// # Errors
    /// As [`HostedPartitions::find`](crate::hosted::HostedPartitions::find); `NOT_LEADER_OR_FOLLOWER` where only other
    /// brokers have replicas of it, with the one that leads it.
    pub(super) fn find(
        &self,
        named: Option<&v1::TopicPartition>,
    ) -> Result<Arc<HostedPartition>, ApiError> {
        self.hosted.find(named).map_err(|error| {
            let elsewhere = named.filter(|_| error.reason == Reason::LeaderNotAvailable);
            elsewhere
                .and_then(|named| self.is_elsewhere(named))
                .unwrap_or(error)
        })
    }

    fn is_elsewhere(&self, named: &v1::TopicPartition) -> Option<ApiError> {
        let image = self.cluster.image();
        let topic = match parse_topic_id(&named.topic_id) {
            Ok(id) => image.topic(id)?,
            Err(_) => image.topic_named(&named.topic)?,
        };
        let partition = topic.partitions.get(named.partition as usize)?;
        if partition.replica_on(self.broker).is_some() {
            return None;
        }
        let error = ApiError::new(
            Reason::NotLeaderOrFollower,
            format!(
                "no replica of partition {} of topic {} is on this broker: refresh the metadata and ask its leader",
                named.partition, topic.name
            ),
        );
        Some(with_leader(error, self.leaders.of(partition, None)))
    }

    /// The error with the partition's leader, where it says that this broker is not the one to ask.
    pub(super) fn with_leader_of(&self, partition: &HostedPartition, error: ApiError) -> ApiError {
        if error.reason != Reason::NotLeaderOrFollower {
            return error;
        }
        match self.leader_of(partition.topic.id, partition.index, partition) {
            Some((Some(leader), term)) if leader != self.broker => {
                with_leader(error, (Some(leader), term))
            }
            _ => error,
        }
    }

    fn leader_of(
        &self,
        topic: TopicId,
        index: PartitionIndex,
        hosted: &HostedPartition,
    ) -> Option<(Option<BrokerId>, Term)> {
        let image = self.cluster.image();
        let partition = image.topic(topic)?.partitions.get(index.0 as usize)?;
        Some(self.leaders.of(partition, Some(hosted)))
    }
}

fn with_leader(error: ApiError, (leader, term): (Option<BrokerId>, Term)) -> ApiError {
    match leader {
        Some(leader) => error
            .with("leader_broker_id", leader)
            .with("leader_epoch", term),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Replica;
    use crate::raft::{GroupId, Leadership};

    const GROUP: GroupId = GroupId(7);

    fn partition(replicas: &[(u64, u32)]) -> Partition {
        let replicas = replicas.iter().map(|(id, broker)| Replica {
            id: ReplicaId(*id),
            broker: BrokerId(*broker),
        });
        Partition::new(GROUP, replicas.collect())
    }

    /// What broker 1 knows when broker 2 is up and these leaders, by term and replica, were announced.
    fn leaders(announced: &[(u64, u64)]) -> Leaders {
        let table = LeaderTable::new(Arc::default());
        for (term, replica) in announced {
            table.learn(&[Leadership {
                group: GROUP,
                term: Term(*term),
                replica: ReplicaId(*replica),
                in_sync: vec![ReplicaId(30), ReplicaId(*replica)],
            }]);
        }
        Leaders {
            me: BrokerId(1),
            table: Arc::new(table),
            up: watch::Sender::new(Arc::new(BTreeSet::from([BrokerId(2)]))).subscribe(),
        }
    }

    #[test]
    fn a_leader_that_was_announced_leads_as_long_as_it_is_up() {
        let replicated = partition(&[(20, 2), (30, 3)]);
        let of = |announced| leaders(announced).of(&replicated, None);
        assert_eq!(of(&[]), (None, Term(0)));
        assert_eq!(of(&[(4, 20)]), (Some(BrokerId(2)), Term(4)));
        assert_eq!(of(&[(4, 20), (5, 30)]), (None, Term(5)), "broker 3 is down");
        assert_eq!(of(&[(6, 99)]), (None, Term(6)), "a replica of no broker");
    }

    #[test]
    fn whoever_leads_says_who_keeps_up() {
        let replicated = partition(&[(30, 3), (20, 2), (10, 1)]);
        let in_sync = |announced| leaders(announced).in_sync(&replicated);
        assert_eq!(in_sync(&[]), []);
        assert_eq!(in_sync(&[(4, 20)]), [BrokerId(2), BrokerId(3)]);
        let sole = partition(&[(30, 3)]);
        assert_eq!(leaders(&[]).in_sync(&sole), [BrokerId(3)]);
    }

    #[test]
    fn the_only_replica_leads_before_it_is_elected() {
        let sole = partition(&[(30, 3)]);
        assert_eq!(leaders(&[]).of(&sole, None), (Some(BrokerId(3)), Term(0)));
    }

    #[test]
    fn the_higher_term_is_believed_and_of_one_term_who_knows_its_leader() {
        let broker = |id| Some(BrokerId(id));
        assert_eq!(
            newer((broker(1), Term(3)), (broker(2), Term(2))),
            (broker(1), Term(3))
        );
        assert_eq!(
            newer((broker(1), Term(3)), (None, Term(4))),
            (None, Term(4))
        );
        assert_eq!(
            newer((None, Term(3)), (broker(2), Term(3))),
            (broker(2), Term(3))
        );
    }
}
