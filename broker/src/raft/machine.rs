//! What a replicated state machine is to the Raft layer.
//!
//! A machine holds rules only. It has two verbs: [`Machine::decide`] checks a command against the applied state plus
//! this term's proposals and changes nothing; [`Machine::apply`] is the only mutator of the applied state and cannot
//! fail for a lawful entry. The shard does the rest: it gives proposals their Raft indexes, writes and replicates
//! them, keeps the callers waiting, and answers them when what they wait for is applied.
//!
//! A machine reads no clock, draws no random number and does no input or output: time comes in as an argument and
//! entries go out as values. The same log gives the same applied state on every replica.

use bytes::Bytes;
use highwater_proto::Reason;
use highwater_storage::{Offset, RaftIndex, Term};

/// Milliseconds since the Unix epoch, as the shard's clock saw it when the turn began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// What an entry carries; stands as one byte in `Entry.context` and in the frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// One Kafka record batch v2; takes `record_count` offsets.
    Batch,
    /// Versioned events of the machine; takes no offset.
    Events,
}

/// An entry that a leader's machine wants in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// What `data` is.
    pub kind: EntryKind,
    /// The batch or the encoded events. Cloning it copies no bytes.
    pub data: Bytes,
    /// Offsets the entry takes: the batch's record count, 0 for events.
    pub record_count: u32,
    /// The batch's max timestamp in milliseconds; -1 for events.
    pub max_timestamp_ms: i64,
}

/// An entry that a majority holds durably, on its way into the applied state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEntry {
    /// Its place in the Raft log.
    pub index: RaftIndex,
    /// The term whose leader proposed it.
    pub term: Term,
    /// What `data` is. No-ops and configuration changes never reach a machine.
    pub kind: EntryKind,
    /// The offset of its first record, or of the next record where it has none.
    pub base_offset: Offset,
    /// Offsets it takes.
    pub record_count: u32,
    /// The batch's max timestamp in milliseconds; -1 for events.
    pub max_timestamp_ms: i64,
    /// The batch or the encoded events. Of a batch, the first 21 bytes (base offset, length, leader epoch, magic, CRC)
    /// may be as the producer sent them or as the log wrote them: take offset and epoch from the fields above.
    pub data: Bytes,
}

/// What a machine decided about a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<R> {
    /// Propose these entries (at least one); answer `response` once the last of them is applied.
    Propose {
        /// In log order. The first gets the index that [`Machine::decide`] was given.
        entries: Vec<NewEntry>,
        /// The answer, complete already: it must hold if exactly these entries commit.
        response: R,
    },
    /// Nothing to write.
    Answer {
        /// The answer.
        response: R,
        /// Answer only when this index is applied: a duplicate of a batch that is still on its way joins its
        /// waiter. `None`: at once.
        after: Option<RaftIndex>,
    },
}

/// Why the Raft layer, not the machine, turned a command away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This replica does not lead the group, or leads it but has not applied its own no-op yet. Definite.
    #[error("this replica does not lead the group")]
    NotLeader {
        /// The replica that leads as far as this one knows.
        leader: Option<crate::raft::ReplicaId>,
    },
    /// The group is not on this broker. Definite.
    #[error("the group has no replica here")]
    UnknownGroup,
    /// Proposed, then leadership was lost or the broker stopped: it may commit yet. Indefinite.
    #[error("leadership was lost before the outcome was known")]
    Indefinite,
    /// A queue or the group's uncommitted bytes are at their limit. Nothing was written; retry later. Definite.
    #[error("{limit} is reached")]
    Busy {
        /// The configured limit that was hit.
        limit: &'static str,
    },
    /// The disk is full or below its floor. Nothing was written; clears by itself. Definite.
    #[error("the disk has no room for more records")]
    DiskFull,
    /// Fewer voters keep up with the leader than the caller wants to have the entries. Definite unless `appended`.
    #[error("{in_sync} replicas are in sync, {needed} are needed")]
    NotEnoughReplicas {
        /// How many the caller wants.
        needed: usize,
        /// How many there are, the leader among them.
        in_sync: usize,
        /// Whether the entries are in the log: they may be committed, or be so yet.
        appended: bool,
    },
    /// The log or its data directory had an I/O error; this replica writes no more. Definite for what was not yet proposed.
    #[error("the log failed and takes no more writes: {reason}")]
    Failed {
        /// What happened, for a person.
        reason: String,
    },
}

impl Refusal {
    /// The reason that clients are told, where `not_leader` and `unknown_group` say the first two in the words of what they asked.
    pub fn reason(&self, not_leader: Reason, unknown_group: Reason) -> Reason {
        match self {
            Self::NotLeader { .. } => not_leader,
            Self::UnknownGroup => unknown_group,
            // Proposed, and not known to have failed: the client must take it for a request without an answer.
            Self::Indefinite => Reason::RequestTimedOut,
            Self::Busy { .. } => Reason::Throttled,
            Self::NotEnoughReplicas {
                appended: false, ..
            } => Reason::NotEnoughReplicas,
            Self::NotEnoughReplicas { appended: true, .. } => Reason::NotEnoughReplicasAfterAppend,
            Self::DiskFull => Reason::DiskFull,
            Self::Failed { .. } => Reason::StorageError,
        }
    }
}

/// Where a replica stands in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leads `term`. `serving` turns true when the leader's own no-op of this term is applied; until then it answers
    /// no produce, fetch or offset query.
    Leader {
        /// The term it leads.
        term: Term,
        /// Whether commands are decided.
        serving: bool,
    },
    /// Follows, or looks for a leader.
    Follower {
        /// The newest term it knows.
        term: Term,
        /// The leader of that term where known.
        leader: Option<crate::raft::ReplicaId>,
    },
    /// The log failed or is damaged: nothing is decided and nothing is acknowledged.
    Quarantined,
}

/// A replicated state machine. See the module's documentation.
pub trait Machine: Send + 'static {
    /// A request to this group's leader.
    type Command: Send + 'static;
    /// The answer to a command that was carried out.
    type Response: Send + 'static;
    /// The machine's own reasons to refuse, plus the Raft layer's.
    type Error: From<Refusal> + Send + 'static;

    /// Checks `command` against applied state plus this term's proposals. Called on a serving leader only. Every
    /// error is definite: nothing was written. `next_index` is where the first proposed entry will stand.
    fn decide(
        &self,
        command: Self::Command,
        next_index: RaftIndex,
        now: Timestamp,
    ) -> Result<Decision<Self::Response>, Self::Error>;

    /// `entry` was proposed at `index` in this term: from now on [`Machine::decide`] must count with it.
    fn proposed(&mut self, index: RaftIndex, entry: &NewEntry);

    /// Proposals at `from` and above are off: dropped before they reached the log, or leadership ended
    /// (`from` is then the first index that is not applied).
    fn retract(&mut self, from: RaftIndex);

    /// Applies a committed entry; entries come in index order, each once. An error means that the entry is unlawful
    /// or of an unknown version: the replica stops (it would otherwise differ from the others).
    fn apply(&mut self, entry: &CommittedEntry) -> Result<(), Unlawful>;

    /// Applies what stands where records were lost and a repair gave up on them: the offsets are taken, the records are
    /// gone. A machine whose state is made of its entries cannot go on, which is what happens unless it says otherwise.
    fn apply_lost(
        &mut self,
        index: RaftIndex,
        _base_offset: Offset,
        _record_count: u32,
    ) -> Result<(), Unlawful> {
        Err(Unlawful {
            index,
            reason: "it stands for lost entries".to_owned(),
        })
    }

    /// The whole applied state; feeding it to the machine's constructor gives an equal machine.
    fn snapshot(&self) -> Bytes;

    /// Takes a snapshot that another replica's machine made for the whole applied state. Nothing is proposed then. Called
    /// only where [`Machine::snapshot_replaces_log`] holds. An error says why the snapshot is of no use, and ends the
    /// replica.
    fn restore(&mut self, _snapshot: &[u8]) -> Result<(), String> {
        Err("its log is needed, too".to_owned())
    }

    /// First offset that must be kept; whole segments below it may leave. Machines without records return 0.
    fn log_start(&self) -> Offset {
        Offset(0)
    }

    /// Whether entries at or below the checkpointed applied index may leave the log. True for machines whose snapshot
    /// is all that matters (controller, coordinator); false for partitions, whose log is the data.
    fn snapshot_replaces_log(&self) -> bool {
        false
    }

    /// The role changed. Called in the turn in which it did, after [`Machine::retract`] where that applies.
    fn role_changed(&mut self, _role: Role) {}

    /// Called after anything was applied or the role changed, and before those who waited for it are answered: the
    /// place to publish what readers may see now.
    fn publish(&mut self) {}
}

/// An entry that no correct leader of a known version writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index:?} cannot be applied: {reason}")]
pub struct Unlawful {
    /// Where it stands.
    pub index: RaftIndex,
    /// What is wrong with it.
    pub reason: String,
}
