//! A partition: its replicas, and their change to others.

use std::collections::BTreeSet;

use highwater_proto::{BrokerId, PartitionIndex, TopicId};

use crate::raft::{GroupId, ReplicaId};

/// One replica of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// Its id, never used again.
    pub id: ReplicaId,
    /// The broker that holds it.
    pub broker: BrokerId,
}

/// A partition of a topic.
///
/// Invariants: no two of `replicas` are on one broker, and no two of the replicas that a reassignment leads to. A broker may
/// hold one of each: then the second takes the place of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its Raft group, never used again.
    pub group: GroupId,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<Replica>,
    /// The voters that its group began with. Whoever begins with the first entry of the log begins with them.
    pub founders: Vec<ReplicaId>,
    /// Counts the changes of its replicas and of their reassignment: who reports says which of them it saw.
    pub epoch: u64,
    /// Those of its replicas whose data is lost for good. They are never started again.
    pub lost: BTreeSet<ReplicaId>,
    /// What its replicas are changed to.
    pub reassignment: Option<Reassignment>,
    /// What was given up when it began again with one replica, until it has all of its replicas again.
    pub recovery: Option<Recovery>,
}

/// A change of replicas that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// The replicas at its end, the preferred leader first. Those that are not replicas of the partition yet have new ids.
    pub target: Vec<Replica>,
    /// Whether it is to be undone. It still ends with `target` where the group's voters are that already.
    pub is_cancelled: bool,
}

/// The majority of a partition's replicas was gone for good, and it began again with the one that held most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The brokers whose replicas were given up.
    pub lost: BTreeSet<BrokerId>,
    /// Where the log ended that is left: what was acknowledged behind it is lost.
    pub log_end_offset: u64,
    /// Whether the replica has durably begun again. Its members are not changed before.
    pub has_begun: bool,
}

/// A replica that is no member of its group any more, while its broker may still hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovedReplica {
    /// Its topic.
    pub topic_id: TopicId,
    /// Its partition.
    pub partition: PartitionIndex,
    /// Its group.
    pub group: GroupId,
    /// The broker that holds it.
    pub broker: BrokerId,
}

impl Partition {
    /// A new partition with these replicas.
    pub fn new(group: GroupId, replicas: Vec<Replica>) -> Self {
        Self {
            group,
            founders: replicas.iter().map(|replica| replica.id).collect(),
            replicas,
            epoch: 0,
            lost: BTreeSet::new(),
            reassignment: None,
            recovery: None,
        }
    }

    /// The replica that `broker` runs, or should: of two the new one, and none whose data is lost.
    pub fn replica_on(&self, broker: BrokerId) -> Option<&Replica> {
        let is_there =
            |replica: &&Replica| replica.broker == broker && !self.lost.contains(&replica.id);
        let old = self.replicas.iter().filter(is_there);
        self.adding().filter(is_there).chain(old).next()
    }

    /// The replicas that a reassignment adds.
    pub fn adding(&self) -> impl Iterator<Item = &Replica> {
        let target = self.reassignment.iter().flat_map(|moving| &moving.target);
        target.filter(|replica| !self.replicas.contains(replica))
    }

    /// The replicas that a reassignment takes away.
    pub fn removing(&self) -> impl Iterator<Item = &Replica> {
        let target = self.reassignment.as_ref().map(|moving| &moving.target);
        let leaves =
            move |replica: &&Replica| target.is_some_and(|target| !target.contains(replica));
        self.replicas.iter().filter(leaves)
    }

    /// The replicas that a reassignment which is not cancelled adds on one of these brokers.
    pub fn leads_to(&self, brokers: &BTreeSet<BrokerId>) -> impl Iterator<Item = &Replica> {
        let moving = self.reassignment.as_ref();
        let is_meant = moving.is_some_and(|moving| !moving.is_cancelled);
        let new = self.adding().filter(move |_| is_meant);
        new.filter(|new| brokers.contains(&new.broker))
    }

    /// Whether its replicas are being changed, or it has not yet begun again.
    pub fn is_changing(&self) -> bool {
        self.reassignment.is_some() || self.is_refounding()
    }

    /// Whether its replica is to begin a new group.
    pub fn is_refounding(&self) -> bool {
        let recovery = self.recovery.as_ref();
        recovery.is_some_and(|recovery| !recovery.has_begun)
    }

    /// Its replicas and those that a reassignment adds.
    pub fn everybody(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().chain(self.adding())
    }

    /// The replicas that it has or will have.
    pub fn coming(&self) -> &[Replica] {
        match &self.reassignment {
            Some(moving) if !moving.is_cancelled => &moving.target,
            _ => &self.replicas,
        }
    }
}
