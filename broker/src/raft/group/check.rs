//! Whether a log and an applied state make a replica.

use highwater_storage::{AppliedState, HardState, Log, RaftIndex};
use raft::eraftpb::ConfState;

use crate::raft::config::TERM_LIMIT;
use crate::raft::membership;
use crate::raft::{Error, ReplicaId};

/// The hard state and the members that Raft starts with; an error where log and applied state do not fit together,
/// which inside Raft would be a panic.
pub(super) fn check_log(
    replica: ReplicaId,
    log: &Log,
    applied: &AppliedState,
) -> Result<(HardState, ConfState), Error> {
    let damaged = |reason: String| Error::Damaged { replica, reason };
    let conf_state = membership::decode(&applied.conf_state)?;
    let mut hard_state = log.hard_state();
    let (first, last) = (log.first_index(), log.last_index());
    if log.id().0 != replica.0 {
        return Err(damaged(format!("its log belongs to replica {}", log.id())));
    }
    if hard_state.term.0 >= TERM_LIMIT {
        return Err(damaged(format!("its term is {}", hard_state.term)));
    }
    if hard_state.commit > last || applied.index > last || applied.index.next() < first {
        return Err(damaged(format!(
            "its log holds entries {first} to {last}, its state is applied up to {}, committed up to {}",
            applied.index, hard_state.commit
        )));
    }
    if conf_state.voters.is_empty() && last > RaftIndex(0) {
        return Err(damaged("it holds entries, and knows no member".to_owned()));
    }
    if log.term_at(applied.index)? != Some(applied.term) {
        return Err(damaged(format!(
            "entry {} is not of the term {} in which it was applied",
            applied.index, applied.term
        )));
    }
    if log.term_at(last)?.is_none_or(|term| term > hard_state.term) {
        return Err(damaged(format!(
            "its last entry {last} is of a later term than the hard state's {}",
            hard_state.term
        )));
    }
    hard_state.commit = hard_state.commit.max(applied.index);
    Ok((hard_state, conf_state))
}
