//! What a seed makes of the cluster: its shape, its limits, and what may befall it.

use std::fmt;

use highwater_broker::raft::{self, GroupId, ReplicaId};
use highwater_storage as storage;

use super::chance::Chance;
use super::schedule::{MS, SECOND};

/// Batches that the producers of a run make, about, at most.
const MOST_BATCHES: u64 = 2_500;

/// A broker: its place among the simulated ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(pub(super) usize);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0 + 1)
    }
}

/// A group and where its first replicas are.
#[derive(Clone, Debug)]
pub(super) struct GroupPlan {
    pub(super) group: GroupId,
    pub(super) replicas: Vec<(ReplicaId, NodeId)>,
    pub(super) segment_bytes: u64,
}

/// What may happen. Each is on or off for a whole run, so that some runs see much of little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peril {
    ProcessCrash,
    PowerLoss,
    PowerLossOfAll,
    Partition,
    OneWayPartition,
    Pause,
    SlowDisk,
    DiskError,
    DiskFull,
    LeaderLost,
    TransferLeader,
    ReplicaMove,
    /// Drawn apart from the others.
    Damage,
}

impl Peril {
    /// Those that are drawn together.
    const ALL: [Self; 12] = [
        Self::ProcessCrash,
        Self::PowerLoss,
        Self::PowerLossOfAll,
        Self::Partition,
        Self::OneWayPartition,
        Self::Pause,
        Self::SlowDisk,
        Self::DiskError,
        Self::DiskFull,
        Self::LeaderLost,
        Self::TransferLeader,
        Self::ReplicaMove,
    ];
}

/// How the network behaves between two brokers that are not cut off from each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetworkPlan {
    /// Longest delay of an ordinary message in microseconds.
    pub(super) delay: u64,
    /// Messages in a thousand that are lost.
    pub(super) lost_per_mille: u64,
    /// Messages in a thousand that come twice.
    pub(super) doubled_per_mille: u64,
    /// Messages in a thousand that take up to a hundred times as long.
    pub(super) late_per_mille: u64,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) groups: Vec<GroupPlan>,
    pub(super) producers_per_group: usize,
    pub(super) readers: usize,
    /// Longest pause between two batches of a producer in microseconds.
    pub(super) think_time: u64,
    pub(super) max_value_bytes: u64,
    pub(super) network: NetworkPlan,
    /// Longest sync of a journal in microseconds, while the disk is not slow.
    pub(super) sync_time: u64,
    pub(super) perils: Vec<Peril>,
    /// Longest time between two perils in microseconds.
    pub(super) peril_gap: u64,
    /// How long perils last, in microseconds.
    pub(super) trouble: u64,
    pub(super) trims: bool,
    pub(super) raft: raft::Config,
    pub(super) storage: storage::Config,
}

impl Plan {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let nodes = *chance.pick(&[3, 3, 3, 4, 5]);
        let group_count = chance.within(1..=4);
        let mut plan = Self {
            nodes,
            groups: Vec::new(),
            producers_per_group: chance.place(3) + 1,
            readers: chance.place(3) + 1,
            think_time: chance.within(10..=400) * MS,
            max_value_bytes: *chance.pick(&[16, 100, 1000, 6000]),
            network: Self::draw_network(chance),
            sync_time: *chance.pick(&[300, 2 * MS, 20 * MS]),
            perils: Peril::ALL
                .into_iter()
                .filter(|_| chance.percent(40))
                .collect(),
            peril_gap: chance.within(300..=4_000) * MS,
            trouble: chance.within(8..=25) * SECOND,
            trims: chance.percent(40),
            raft: Self::draw_raft(chance),
            storage: Self::draw_storage(chance),
        };
        for group in 1..=group_count {
            plan.groups.push(Self::draw_group(chance, nodes, group));
        }
        // With a generator of its own, so that runs without damage are what they were before there was any.
        if chance.clone().split().percent(40) {
            plan.perils.push(Peril::Damage);
        }
        let producers = (plan.groups.len() * plan.producers_per_group) as u64;
        let least = 2 * plan.trouble * producers / MOST_BATCHES;
        plan.think_time = plan.think_time.max(least);
        plan
    }

    fn draw_group(chance: &mut Chance, nodes: usize, group: u64) -> GroupPlan {
        let most = if nodes == 5 && chance.percent(40) {
            5
        } else {
            3
        };
        let first = chance.place(nodes);
        let voters = if chance.percent(10) { 1 } else { most };
        let replicas = (0..voters).map(|at| {
            let node = NodeId((first + at) % nodes);
            (ReplicaId(group * 100 + at as u64 + 1), node)
        });
        GroupPlan {
            group: GroupId(group),
            replicas: replicas.collect(),
            segment_bytes: *chance.pick(&[8 << 10, 16 << 10, 64 << 10]),
        }
    }

    fn draw_network(chance: &mut Chance) -> NetworkPlan {
        NetworkPlan {
            delay: *chance.pick(&[300, 2 * MS, 20 * MS]),
            lost_per_mille: *chance.pick(&[0, 0, 10, 50]),
            doubled_per_mille: *chance.pick(&[0, 10, 50]),
            late_per_mille: *chance.pick(&[0, 5, 30]),
        }
    }

    fn draw_raft(chance: &mut Chance) -> raft::Config {
        let append_message_bytes = *chance.pick(&[128, 2 << 10, 1 << 20]);
        raft::Config {
            append_message_bytes,
            inflight_messages: *chance.pick(&[2, 8, 64]),
            uncommitted_bytes: append_message_bytes.max(*chance.pick(&[8 << 10, 1 << 20])),
            apply_bytes: *chance.pick(&[256, 16 << 20]),
            // Groups sleep only where somebody watches over the brokers, and nobody does here.
            sleep_ticks: 0,
            seeding_ticks: 20,
            seeding_bytes: *chance.pick(&[16 << 10, 256 << 20]),
            ..raft::Config::default()
        }
    }

    fn draw_storage(chance: &mut Chance) -> storage::Config {
        storage::Config {
            journal_file_bytes: *chance.pick(&[32 << 10, 128 << 10, 512 << 10]),
            checkpoint_interval_bytes: *chance.pick(&[32 << 10, 128 << 10, 1 << 20]),
            min_free_bytes: 4 << 10,
            reserve_bytes: *chance.pick(&[0, 64 << 10]),
            first_segment_bytes: 8 << 10,
            head_bytes: *chance.pick(&[0, 512, 4 << 10]),
            open_segments: *chance.pick(&[2, 64]),
            pool_bytes: *chance.pick(&[0, 256 << 10]),
            inline_snapshot_bytes: *chance.pick(&[64, 4 << 10]),
            max_payload_bytes: 1 << 20,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} brokers, perils {:?}", self.nodes, self.perils)?;
        for group in &self.groups {
            let replicas: Vec<_> = group
                .replicas
                .iter()
                .map(|(replica, node)| format!("{} on {node}", replica.0))
                .collect();
            let group = group.group.0;
            writeln!(f, "group {group}: {}", replicas.join(", "))?;
        }
        write!(
            f,
            "{:?}, trims {}, {:?}",
            self.network, self.trims, self.storage
        )
    }
}
