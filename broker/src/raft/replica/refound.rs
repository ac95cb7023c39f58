//! A group that begins again with one replica, because the majority of its voters is gone for good.
//!
//! That is never decided here, and never by a replica alone: a person accepts the loss, and the controller's log says so. What
//! makes it safe afterwards:
//! - The replica goes on under **another group id**. Messages name their group, so that nothing which an old voter says
//!   reaches it, and nothing that it says reaches an old voter. Old voters that come back after all find a group that nobody
//!   places on them any more.
//! - It keeps its id and its log. Nobody else ever had that id, and in the new group nobody has voted yet.
//! - Everything in its log counts as committed. What the old majority acknowledged was either here, then it stays, or it is
//!   what the person gave up. Keeping too much loses nothing: whoever wrote it was told that its outcome is unknown.
//! - Its term is far above what the old group can have reached meanwhile, so that clients believe its leader.
//! - It is repeated at each start until a checkpoint holds the new members, and nobody else becomes a member before: so a
//!   repetition finds the same members, and a log that has grown at its end.

use highwater_storage::{AppliedState, HardState, Log, RaftIndex, Turn};

use crate::raft::config::TERM_LIMIT;
use crate::raft::entry::{self, Committed};
use crate::raft::machine::Machine;
use crate::raft::membership::Members;
use crate::raft::{Error, ReplicaId};

/// Terms that are left out: more than elections while the old group was falling apart.
const TERM_STEP: u64 = 1_000;
/// Bytes of frames read at once.
const READ_BYTES: u64 = 1 << 20;

/// Applies everything in the log, whoever knew it to be committed, and makes `replica` the only member of its group. The state
/// with which the group begins again.
///
/// # Errors
/// When the log cannot be read, or its machine refuses an entry: then nothing was changed on disk.
pub(super) fn refound<M: Machine>(
    machine: &mut M,
    log: &mut Log,
    applied: &AppliedState,
    replica: ReplicaId,
    turn: &mut Turn,
) -> Result<AppliedState, Error> {
    let last = log.last_index();
    let mut next = applied.index.next();
    while next <= last {
        for frame in log.read(next, last.next(), READ_BYTES)? {
            next = frame.index.next();
            apply(machine, replica, frame)?;
        }
    }
    let term = log.term_at(last)?.unwrap_or(applied.term);
    let before = log.hard_state();
    let mut stepped = before.term;
    stepped.0 = (before.term.0 + TERM_STEP).min(TERM_LIMIT - 1);
    let hard_state = HardState {
        term: stepped,
        vote: 0,
        commit: last,
    };
    log.set_hard_state(turn, hard_state);
    Ok(AppliedState {
        index: last,
        term,
        conf_state: Members::of_voters([replica]).encode()?,
        snapshot: machine.snapshot(),
    })
}

/// Who were members before counts no more.
fn apply<M: Machine>(
    machine: &mut M,
    replica: ReplicaId,
    frame: highwater_storage::Frame,
) -> Result<(), Error> {
    let (index, base_offset): (RaftIndex, _) = (frame.index, frame.base_offset);
    let committed = entry::to_committed(entry::from_frame(frame), base_offset)
        .map_err(|bad| damaged(replica, bad.to_string()))?;
    let applied = match committed {
        Committed::NoOp | Committed::MembersChanged => Ok(()),
        Committed::Lost {
            base_offset,
            record_count,
        } => machine.apply_lost(index, base_offset, record_count),
        Committed::ForMachine(entry) => machine.apply(&entry),
    };
    applied.map_err(|unlawful| Error::Machine {
        replica,
        reason: unlawful.to_string(),
    })
}

fn damaged(replica: ReplicaId, reason: String) -> Error {
    Error::Damaged { replica, reason }
}
