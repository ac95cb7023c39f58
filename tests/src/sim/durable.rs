//! What a disk would still have if the power went now.

use std::sync::Arc;

use highwater_broker::raft::{Members, ReplicaId};
use highwater_storage::fs::SimFs;
use highwater_storage::{Config, LogId, Offset, Store};

use super::ledger::SENT_FROM;

/// Whether a start from this image finds `batch` at `offset` in the log of `replica`.
pub(super) fn holds(
    image: SimFs,
    config: &Config,
    replica: ReplicaId,
    offset: Offset,
    batch: &[u8],
) -> bool {
    let mut draws = 0;
    let random = Box::new(move || {
        draws += 1;
        draws
    });
    let Ok(opened) = Store::open(Arc::new(image), random, config.clone()) else {
        return false;
    };
    let found = opened
        .logs
        .iter()
        .find(|found| found.log.id() == LogId(replica.0) && found.damage.is_none());
    let Some(found) = found else {
        return false;
    };
    let read = found.log.reader().read(offset, offset.plus(1), 1);
    read.is_ok_and(|read| {
        read.frames.first().is_some_and(|frame| {
            frame.base_offset == offset && frame.payload[SENT_FROM..] == batch[SENT_FROM..]
        })
    })
}

/// Whether `holders` are a majority of each of the configurations in force.
pub(super) fn is_majority(members: &Members, holders: &[ReplicaId]) -> bool {
    let has_majority = |voters: &[ReplicaId]| {
        let count = voters
            .iter()
            .filter(|voter| holders.contains(voter))
            .count();
        voters.is_empty() || 2 * count > voters.len()
    };
    has_majority(&members.voters) && has_majority(&members.outgoing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_members_change_both_majorities_count() {
        let ids = |ids: &[u64]| ids.iter().copied().map(ReplicaId).collect::<Vec<_>>();
        let mut members = Members::of_voters(ids(&[1, 2, 3]));
        assert!(is_majority(&members, &ids(&[1, 3, 9])));
        assert!(!is_majority(&members, &ids(&[1, 9])));
        members.outgoing = ids(&[3, 4, 5]);
        assert!(!is_majority(&members, &ids(&[1, 3])));
        assert!(is_majority(&members, &ids(&[1, 3, 5])));
    }
}
