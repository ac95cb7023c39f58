//! What the brokers said, as the rules want it.

use std::collections::{BTreeMap, BTreeSet};

/// A partition of a topic.
pub(crate) type Place = (String, u32);

/// What is wrong, by the broker's own name for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Name, such as `LOG_DAMAGED`.
    pub(crate) reason: String,
    /// What, where, and what to do.
    pub(crate) message: String,
    /// When the broker first found it, in milliseconds since the Unix epoch.
    pub(crate) since_ms: Option<i64>,
}

/// A replica, as its broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It leads and serves.
    Leads,
    /// It votes and does not lead.
    Votes,
    /// It is about to be there.
    Starting,
    /// It takes no records and does not vote.
    Failed(Finding),
    /// Its broker is down, as the others see it.
    Down,
    /// Its broker is up as the others see it, and does not answer here.
    Silent(String),
    /// Its broker answers that it has no memory left for requests.
    Refusing(String),
}

/// A replica on a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) broker: u32,
    pub(crate) standing: Standing,
}

/// A change of replicas that is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Moving {
    pub(crate) to: Vec<u32>,
    /// Log entries copied, and to be copied.
    pub(crate) copied: Option<(u64, u64)>,
    pub(crate) is_cancelled: bool,
}

/// That a replica knows no leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaderless {
    /// The broker that holds the replica.
    pub(crate) broker: u32,
    /// For how long, in milliseconds.
    pub(crate) for_ms: u64,
}

/// Memory for requests of a broker, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RequestMemory {
    pub(crate) held: u64,
    pub(crate) limit: u64,
}

/// A partition, as its brokers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PartitionFacts {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// The broker that leads it, by what the newest term says.
    pub(crate) leader: Option<u32>,
    /// That term.
    pub(crate) epoch: u64,
    /// Of the replicas that know no leader, the one that has known none for longest.
    pub(crate) leaderless: Option<Leaderless>,
    pub(crate) replicas: Vec<Replica>,
    /// Brokers whose replica keeps up, as the leader said last.
    pub(crate) in_sync: Vec<u32>,
    /// How many of them `acks=quorum` needs (`min.insync.replicas`).
    pub(crate) min_in_sync: usize,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The newest timestamp of its records, in milliseconds since the Unix epoch.
    pub(crate) newest_ms: Option<i64>,
    /// What is wrong with the broker that leads it.
    pub(crate) leader_findings: Vec<Finding>,
    pub(crate) leader_memory: RequestMemory,
    pub(crate) moving: Option<Moving>,
}

/// A member of a group. Times are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MemberFacts {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) client: String,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) regex: Option<String>,
    /// It left and may be back.
    pub(crate) is_away: bool,
    pub(crate) assigned: BTreeSet<Place>,
    pub(crate) revoking: BTreeSet<Place>,
    pub(crate) target: BTreeSet<Place>,
    /// With for how long the coordinator has been told so, where it says that.
    pub(crate) paused: BTreeMap<Place, Option<u64>>,
    pub(crate) session_timeout_ms: u64,
    pub(crate) rebalance_timeout_ms: u64,
    pub(crate) heard_ms_ago: Option<u64>,
    pub(crate) session_ends_in_ms: Option<u64>,
    pub(crate) revoke_ends_in_ms: Option<u64>,
}

/// A member that was removed against its will.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FencedFacts {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) client: String,
    /// It was slow to let partitions go; otherwise it was silent.
    pub(crate) was_slow: bool,
    pub(crate) at_ms: i64,
    pub(crate) had: BTreeSet<Place>,
}

/// A committed offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CommittedFacts {
    pub(crate) offset: u64,
    pub(crate) at_ms: i64,
    /// Timestamp of the record there, where there is one and it is known.
    pub(crate) next_record_ms: Option<i64>,
}

/// A group, as its coordinator sees it. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupFacts {
    pub(crate) group: String,
    pub(crate) now_ms: i64,
    /// Records that wait for longer, while nothing was committed for longer either, are not about to be committed. In
    /// milliseconds.
    pub(crate) commits_within_ms: u64,
    pub(crate) members: Vec<MemberFacts>,
    pub(crate) empty_since_ms: Option<i64>,
    /// The last one first.
    pub(crate) fenced: Vec<FencedFacts>,
    pub(crate) committed: BTreeMap<Place, CommittedFacts>,
}
