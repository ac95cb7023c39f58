//! What can be asked of a shard.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use highwater_storage::{
    AppliedState, CapturedLog, LogId, LogReader, LogSpec, Offset, RaftIndex, RecoveredLog,
    StagedFrom, Staging, Term,
};
use tokio::sync::oneshot;

use super::ailment::Ailment;
use super::cold_read::FinishedRead;
use super::machine::{Machine, Role};
use super::membership::{MemberChange, Members};
use super::reply::Reply;
use super::seeding::{Pulled, SeedingProgress, Source, SourceRefusal};
use super::{Error, GroupId, ReplicaId};

/// When the caller of a command that writes is told that it is done. What stands in the log and how it is replicated
/// is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// At once. Nobody hears when the entries are lost, not even that the disk was full.
    None,
    /// When the leader has the entries on its own disk: another leader may never have seen them.
    Leader,
    /// When the entries are committed, which is when a majority of the voters has them on disk, and applied.
    Quorum {
        /// Voters, the leader among them, that must have the entries on disk; with no more than a majority nothing
        /// is added. In a joint configuration the number counts in both halves. Where fewer voters are in sync the
        /// command is refused as [`Refusal::NotEnoughReplicas`](super::machine::Refusal::NotEnoughReplicas), before
        /// it wrote anything, or afterwards. An answer that repeats an earlier one, which is applied already, waits
        /// for nobody.
        min_in_sync: usize,
    },
}

impl Default for Acks {
    /// A majority is enough.
    fn default() -> Self {
        Self::Quorum { min_in_sync: 1 }
    }
}

/// A command for the leader of a group.
pub struct Request<M: Machine> {
    /// Whose machine decides.
    pub group: GroupId,
    /// What it decides about.
    pub command: M::Command,
    /// Memory the command holds, counted against the mailbox until it is decided.
    pub bytes: usize,
    /// When it counts as done, where it writes.
    pub acks: Acks,
    /// Who waits for the answer.
    pub reply: Reply<M>,
}

impl<M: Machine> fmt::Debug for Request<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("group", &self.group)
            .field("bytes", &self.bytes)
            .field("acks", &self.acks)
            .field("reply", &self.reply)
            .finish_non_exhaustive()
    }
}

/// Where an operation's result goes. Dropped unanswered when the shard stops.
pub type Answer<T> = oneshot::Sender<T>;

/// Builds a replica's machine from the state its log was left with. Runs on the shard's thread. The error says what is
/// wrong with the snapshot.
pub type BuildMachine<M> = Box<dyn FnOnce(LogReader, &AppliedState) -> Result<M, String> + Send>;

/// A log that was found at start. The replica that starts takes it; a start that fails leaves it for the next try.
#[derive(Clone, Debug)]
pub struct FoundLog(Arc<Mutex<Option<Box<RecoveredLog>>>>);

impl FoundLog {
    /// Puts it where a start finds it.
    pub fn new(log: RecoveredLog) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(log)))))
    }

    /// Takes it; `None` when a replica has it.
    pub(super) fn take(&self) -> Option<Box<RecoveredLog>> {
        self.slot().take()
    }

    /// Puts back what was taken.
    pub(super) fn put_back(&self, log: RecoveredLog) {
        *self.slot() = Some(Box::new(log));
    }

    fn slot(&self) -> MutexGuard<'_, Option<Box<RecoveredLog>>> {
        // A panic elsewhere leaves the log where it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a replica's log comes from.
#[derive(Debug)]
pub enum Origin {
    /// Found at start.
    Recovered(FoundLog),
    /// Found at start, or given away by another start. The majority of its group is lost for good, and it begins again as the
    /// only member of another group.
    Refounded(FoundLog),
    /// Created now.
    New {
        /// How the log is kept.
        spec: LogSpec,
        /// The group's first members, the same on each replica that begins with the group. Nobody for a replica that joins
        /// later: it is told the members of one index with everything else, by a snapshot, and takes no entries before.
        members: Members,
        /// The machine's state before the first entry.
        snapshot: Bytes,
    },
}

/// Something done to a replica, or asked of it, that is no command of its machine.
pub enum Operation<M: Machine> {
    /// Starts a replica: applies what is known to be committed, then takes part in its group. A one-voter group stays
    /// cold until somebody needs it.
    Start {
        /// The group.
        group: GroupId,
        /// This replica.
        replica: ReplicaId,
        /// Its log.
        origin: Origin,
        /// Makes its machine.
        build: BuildMachine<M>,
        /// Answered when it runs. The start of a damaged replica succeeds: its role says what it is.
        answer: Answer<Result<Started, Error>>,
    },
    /// Ends a replica's part in its group and keeps its log. It starts again with the process.
    Stop {
        /// The group.
        group: GroupId,
        /// Answered when it is stopped.
        answer: Answer<Result<(), Error>>,
    },
    /// Ends a replica's part in its group and keeps its log, so that another replica of the group can start here.
    LayAside {
        /// The group.
        group: GroupId,
        /// The replica.
        replica: ReplicaId,
        /// Answered when it is laid aside, also where it was not here.
        answer: Answer<()>,
    },
    /// Undoes [`LayAside`](Self::LayAside): the replica is the one of its group again, as it failed.
    TakeUp {
        /// The group.
        group: GroupId,
        /// The replica.
        replica: ReplicaId,
        /// Answered with the log of one that had not failed, which is to be started anew.
        answer: Answer<Result<Option<FoundLog>, Error>>,
    },
    /// Stops a replica and gives its log away, to be started again in this process.
    Release {
        /// The group.
        group: GroupId,
        /// The replica.
        replica: ReplicaId,
        /// Answered with the log. What the shard wrote to it is on its way to the journal once the shard has
        /// answered another operation after this.
        answer: Answer<Result<FoundLog, Error>>,
    },
    /// Stops a replica, where it runs, and deletes its log.
    Delete {
        /// The group.
        group: GroupId,
        /// The replica.
        replica: ReplicaId,
        /// Its log, where it was found at start and no replica has it.
        found: Option<FoundLog>,
        /// Answered when the deletion is durable.
        answer: Answer<Result<(), Error>>,
    },
    /// Changes how a log is kept.
    SetLogConfig {
        /// The group.
        group: GroupId,
        /// The largest segment from now on, in bytes.
        max_segment_bytes: u64,
        /// Whether frames skip the journal.
        write_caching: bool,
        /// Answered when it is in force.
        answer: Answer<Result<(), Error>>,
    },
    /// Closes the active segment, so that retention can remove it.
    Roll {
        /// The group.
        group: GroupId,
    },
    /// Makes a cold one-voter group elect its only voter, for a reader that needs what was acknowledged before the
    /// last stop. Does nothing to others.
    CampaignIfCold {
        /// The group.
        group: GroupId,
    },
    /// Makes a replica start an election where it knows of no leader. Does nothing to others.
    Campaign {
        /// The group.
        group: GroupId,
    },
    /// Asks a leader up to where a read that begins now must see: at least everything that was acknowledged before.
    /// The leader makes sure that it still leads by hearing from a majority.
    ReadIndex {
        /// The group.
        group: GroupId,
        /// Answered once that index is applied here;
        /// [`Refusal::NotLeader`](super::machine::Refusal::NotLeader) where this replica does not lead, has not
        /// applied an entry of its own term yet, or loses leadership first: as definite as any refused read.
        answer: Answer<Result<RaftIndex, Error>>,
    },
    /// Asks a leader to change its group's members, all at once. Answered when the change is in force and, where it
    /// went through a joint configuration, that is left.
    ChangeMembers {
        /// The group.
        group: GroupId,
        /// The term that it must lead in, for who decided by what it saw then; `None`: any.
        term: Option<Term>,
        /// What changes.
        changes: Vec<MemberChange>,
        /// Answered once applied; [`Refusal::Indefinite`](super::machine::Refusal::Indefinite) when leadership was
        /// lost first.
        answer: Answer<Result<Members, Error>>,
    },
    /// Asks a leader to hand over to another voter. Requests wait meanwhile: for the end of its leadership, which turns
    /// them away, or for the end of the attempt, after the election timeout.
    TransferLeader {
        /// The group.
        group: GroupId,
        /// The voter to lead next.
        to: ReplicaId,
    },
    /// Has leaders hand over, each to the voter that is most caught up, as before a shutdown. Tries again for two
    /// election timeouts.
    TransferAway {
        /// The group; `None` means all groups of the shard.
        group: Option<GroupId>,
        /// Answered when it is over, with the number of groups that this broker leads still: those without another
        /// voter, and those whose voters did not take over.
        answer: Answer<usize>,
    },
    /// Forgets the leader and campaigns after a jitter: the broker it ran on is gone.
    LeaderLost {
        /// The group.
        group: GroupId,
    },
    /// The same for every group of the shard that follows one of these replicas. Those that these replicas are members
    /// of note that they are gone: they are not in sync, and a leader that sleeps wakes when too few voters are left.
    LeadersLost {
        /// The replicas of a broker that is gone.
        replicas: Arc<HashSet<ReplicaId>>,
    },
    /// The broker of these replicas, of which it was said that they are gone, is back. Leaders say hello to those of
    /// them that are members of their groups.
    MembersBack {
        /// The replicas of the broker.
        replicas: Arc<HashSet<ReplicaId>>,
    },
    /// Captures those of these logs that are here, for a checkpoint.
    Capture {
        /// The logs that changed since the last checkpoint.
        logs: Arc<HashSet<LogId>>,
        /// Answered with what was captured.
        answer: Answer<Vec<CapturedLog>>,
    },
    /// A log failed outside the shard's own turns: its replica does nothing any more.
    Fail {
        /// The replica.
        replica: ReplicaId,
        /// What happened.
        reason: String,
    },
    /// Entries that a follower needs were read from the disk.
    Fetched(FinishedRead),
    /// Begins to take over frames, for a [`Pull`](super::Pull).
    Stage {
        /// The group.
        group: GroupId,
        /// The replica that is seeded.
        replica: ReplicaId,
        /// Where the log begins that they come from.
        from: StagedFrom,
        /// Answered with where to write them.
        answer: Answer<Result<Staging, Error>>,
    },
    /// All frames of a pull are there.
    Seeded(Pulled),
    /// Asks a replica for what another one pulls.
    Source {
        /// The group.
        group: GroupId,
        /// The replica that is asked.
        replica: ReplicaId,
        /// The replica that is seeded.
        to: ReplicaId,
        /// The last index that it needs.
        upto: RaftIndex,
        /// Answered with what reads it.
        answer: Answer<Result<Source, SourceRefusal>>,
    },
    /// Tells a leader that a follower is being seeded.
    SeedingProgress {
        /// The group.
        group: GroupId,
        /// The follower.
        to: ReplicaId,
        /// How far it is.
        progress: SeedingProgress,
    },
    /// Tells a leader that a follower cannot be seeded by the snapshot that it was sent.
    SeedingFailed {
        /// The group.
        group: GroupId,
        /// The follower.
        to: ReplicaId,
    },
    /// Reads how a replica stands.
    Status {
        /// The group.
        group: GroupId,
        /// Answered with `None` when it has no replica here.
        answer: Answer<Option<ReplicaStatus>>,
    },
}

/// A replica that was started.
#[derive(Clone, Debug)]
pub struct Started {
    /// Reads its log.
    pub reader: LogReader,
}

/// How a replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Which replica.
    pub replica: ReplicaId,
    /// Its role.
    pub role: Role,
    /// Why it is quarantined, when it is.
    pub failure: Option<Failure>,
    /// The newest term it knows.
    pub term: Term,
    /// The last index it knows to be committed.
    pub commit: RaftIndex,
    /// The last index it applied.
    pub applied: RaftIndex,
    /// The first index in its log.
    pub first: RaftIndex,
    /// The last index in its log.
    pub last: RaftIndex,
    /// The term of the entry there.
    pub last_term: Term,
    /// The offset the next record gets.
    pub next_offset: Offset,
    /// The members as of `applied`.
    pub members: Members,
    /// The entry that made them members, or a later one; 0 where that was before the last start.
    pub members_since: RaftIndex,
    /// Whether a change of the members is on its way: proposed or joint.
    pub is_changing: bool,
    /// Whether it sleeps: it is idle, and counts no ticks.
    pub is_asleep: bool,
    /// The other members as a leader sees them, in order; empty where this replica does not lead.
    pub followers: Vec<FollowerStatus>,
    /// How far it is, where it is being seeded.
    pub seeding: Option<SeedingProgress>,
}

/// Why a replica is quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong with it.
    pub ailment: Ailment,
    /// The same for people.
    pub reason: String,
}

/// How a member stands, as the leader of its group sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Which replica.
    pub replica: ReplicaId,
    /// The last index that it is known to hold durably.
    pub matched: RaftIndex,
    /// Whether it answers and holds what was committed an election timeout ago.
    pub is_in_sync: bool,
    /// The last index that it is known to have as committed.
    pub committed: RaftIndex,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// How far it is, where it is being seeded.
    pub seeding: Option<SeedingProgress>,
}

impl<M: Machine> fmt::Debug for Operation<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, group) = match self {
            Self::Start { group, .. } => ("Start", group),
            Self::Stop { group, .. } => ("Stop", group),
            Self::LayAside { group, .. } => ("LayAside", group),
            Self::TakeUp { group, .. } => ("TakeUp", group),
            Self::Release { group, .. } => ("Release", group),
            Self::Delete { group, .. } => ("Delete", group),
            Self::SetLogConfig { group, .. } => ("SetLogConfig", group),
            Self::Roll { group } => ("Roll", group),
            Self::CampaignIfCold { group } => ("CampaignIfCold", group),
            Self::Campaign { group } => ("Campaign", group),
            Self::ReadIndex { group, .. } => ("ReadIndex", group),
            Self::ChangeMembers { group, .. } => ("ChangeMembers", group),
            Self::TransferLeader { group, .. } => ("TransferLeader", group),
            Self::LeaderLost { group } => ("LeaderLost", group),
            Self::Status { group, .. } => ("Status", group),
            Self::Stage { group, .. } => ("Stage", group),
            Self::Source { group, .. } => ("Source", group),
            Self::SeedingProgress { group, .. } => ("SeedingProgress", group),
            Self::SeedingFailed { group, .. } => ("SeedingFailed", group),
            Self::Seeded(pulled) => ("Seeded", &pulled.pull.group),
            Self::TransferAway { .. } => return f.write_str("TransferAway"),
            Self::MembersBack { .. } => return f.write_str("MembersBack"),
            Self::LeadersLost { .. } => return f.write_str("LeadersLost"),
            Self::Capture { .. } => return f.write_str("Capture"),
            Self::Fetched(read) => return write!(f, "Fetched({})", read.group.0),
            Self::Fail { replica, .. } => return write!(f, "Fail({})", replica.0),
        };
        write!(f, "{name}({})", group.0)
    }
}
