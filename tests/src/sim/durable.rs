//! What a disk would still have if the power went now.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_broker::raft::{Members, ReplicaId};
use highwater_storage::fs::SimFs;
use highwater_storage::{Config, LogId, Offset, Opened, RecoveredLog, Store};

use super::ledger::SENT_FROM;

/// What is read of a log at once, in bytes.
pub(super) const READ_BYTES: u64 = 64 << 10;

/// Whether a start from this image finds `batch` at `offset` in the log of `replica`.
pub(super) fn holds(
    image: SimFs,
    config: &Config,
    replica: ReplicaId,
    offset: Offset,
    batch: &[u8],
) -> bool {
    let Some(opened) = open(image, config) else {
        return false;
    };
    let mut logs = opened.logs.iter();
    let found = logs.find(|found| found.log.id() == LogId(replica.0) && found.damage.is_none());
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

/// What a start from an image would find.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Whether it notices that the journal is damaged.
    pub(super) is_journal_damaged: bool,
    /// The replicas whose logs are there and can be read from end to end.
    pub(super) whole: BTreeSet<ReplicaId>,
}

/// Looks through an image; what cannot be opened has nothing.
pub(super) fn survey(image: SimFs, config: &Config) -> Survey {
    let Some(opened) = open(image, config) else {
        return Survey::default();
    };
    let whole = opened.logs.iter().filter(|found| is_whole(found));
    Survey {
        is_journal_damaged: opened.damage.is_some(),
        whole: whole.map(|found| ReplicaId(found.log.id().0)).collect(),
    }
}

fn is_whole(found: &RecoveredLog) -> bool {
    let log = &found.log;
    let (mut next, end) = (log.first_index(), log.last_index().next());
    while next < end {
        match log.read(next, end, READ_BYTES) {
            Ok(frames) => next = frames.last().map_or(end, |last| last.index.next()),
            Err(_) => return false,
        }
    }
    found.damage.is_none()
}

fn open(image: SimFs, config: &Config) -> Option<Opened> {
    let mut draws = 0;
    let random = Box::new(move || {
        draws += 1;
        draws
    });
    Store::open(Arc::new(image), random, config.clone()).ok()
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
