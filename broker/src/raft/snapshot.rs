//! What a replica tells another that lacks entries which are in no log any more.
//!
//! A snapshot is one applied index: its term, the members as of it, and as its data the machine's state with the place
//! of the next record:
//!
//! ```text
//!   0             8           16
//!   +-------------+-----------+------------------+
//!   | next offset | log start | machine snapshot |
//!   | u64         | u64       |                  |
//!   +-------------+-----------+------------------+
//! ```
//!
//! Numbers are little-endian. Only for groups whose machine is everything: of the others, the records are missing here.

use bytes::{BufMut, Bytes, BytesMut};
use highwater_storage::{AppliedState, Offset, RaftIndex, Term};
use raft::eraftpb::{ConfState, Snapshot};

use super::config::{Config, TERM_LIMIT};
use super::{Error, membership};

/// Bytes of the data before the machine's.
const PREFIX_BYTES: usize = 16;

/// The most members that a group is believed to have.
const MAX_MEMBERS: usize = 64;

/// An index that no log reaches.
const INDEX_LIMIT: u64 = 1 << 62;

/// A group's state at one index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Installable {
    /// Index, term, members and the machine's state.
    pub(super) applied: AppliedState,
    /// The offset of the next record.
    pub(super) next_offset: Offset,
    /// The first offset held.
    pub(super) log_start: Offset,
}

/// The data of a snapshot.
pub(super) fn encode(next_offset: Offset, log_start: Offset, machine: &[u8]) -> Bytes {
    let mut data = BytesMut::with_capacity(PREFIX_BYTES + machine.len());
    data.put_u64_le(next_offset.0);
    data.put_u64_le(log_start.0);
    data.put_slice(machine);
    data.freeze()
}

/// What a snapshot says, once it is checked.
///
/// # Errors
/// [`Error::Members`] when the members cannot be encoded.
pub(super) fn open(snapshot: &Snapshot) -> Result<Installable, Error> {
    let metadata = snapshot.get_metadata();
    let word = |at: usize| {
        let bytes = snapshot.data.get(at..at + 8)?;
        Some(Offset(u64::from_le_bytes(bytes.try_into().ok()?)))
    };
    let short = Error::Members {
        reason: "the snapshot is too short",
    };
    let (Some(next_offset), Some(log_start)) = (word(0), word(8)) else {
        return Err(short);
    };
    Ok(Installable {
        applied: AppliedState {
            index: RaftIndex(metadata.index),
            term: Term(metadata.term),
            conf_state: membership::encode(metadata.get_conf_state())?,
            snapshot: snapshot.data.slice(PREFIX_BYTES..),
        },
        next_offset,
        log_start,
    })
}

/// Checks a snapshot that a peer sent in `term`. The rule that it breaks, if it does.
pub(super) fn check(snapshot: &Snapshot, term: u64, config: &Config) -> Result<(), &'static str> {
    let metadata = snapshot.get_metadata();
    if metadata.index == 0 || metadata.index >= INDEX_LIMIT {
        return Err("its index is 0 or beyond any log");
    }
    if metadata.term == 0 || metadata.term > term || metadata.term >= TERM_LIMIT {
        return Err("its term is 0 or later than its sender's");
    }
    if snapshot.data.len() > config.snapshot_bytes {
        return Err("it is larger than snapshot_bytes");
    }
    if snapshot.data.len() < PREFIX_BYTES {
        return Err("it is too short");
    }
    if !is_lawful(metadata.get_conf_state()) {
        return Err("its members make no group");
    }
    Ok(())
}

/// Whether Raft takes these members: anything else would be the end of the replica.
fn is_lawful(members: &ConfState) -> bool {
    let (voters, learners) = (&members.voters, &members.learners);
    let (outgoing, next) = (&members.voters_outgoing, &members.learners_next);
    let lists = [voters, learners, outgoing, next];
    let is_joint = !outgoing.is_empty();
    !voters.is_empty()
        && lists.iter().all(|list| is_plain(list))
        && learners
            .iter()
            .all(|id| !voters.contains(id) && !outgoing.contains(id))
        && next
            .iter()
            .all(|id| outgoing.contains(id) && !voters.contains(id))
        && (is_joint || !members.auto_leave)
}

/// Whether nobody is named twice, and nobody is 0.
fn is_plain(ids: &[u64]) -> bool {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    ids.len() <= MAX_MEMBERS
        && sorted.first() != Some(&raft::INVALID_ID)
        && sorted.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (7, 2);
        metadata.set_conf_state(ConfState::from((vec![1, 2], vec![3])));
        snapshot.data = encode(Offset(40), Offset(30), b"state");
        snapshot
    }

    fn checked(change: impl FnOnce(&mut Snapshot)) -> Result<(), &'static str> {
        let mut snapshot = snapshot();
        change(&mut snapshot);
        check(&snapshot, 3, &Config::default())
    }

    #[test]
    fn data_is_drawn_as_written() {
        let mut bytes = vec![40, 0, 0, 0, 0, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(b"state");
        assert_eq!(snapshot().data, bytes);
    }

    #[test]
    fn honest_snapshot_is_taken() {
        checked(|_| {}).unwrap();
        let opened = open(&snapshot()).unwrap();
        assert_eq!(opened.next_offset, Offset(40));
        assert_eq!(opened.log_start, Offset(30));
        assert_eq!(opened.applied.snapshot, "state");
        assert_eq!(
            (opened.applied.index, opened.applied.term),
            (RaftIndex(7), Term(2))
        );
        let members = membership::decode(&opened.applied.conf_state).unwrap();
        assert_eq!(members, ConfState::from((vec![1, 2], vec![3])));
    }

    #[test]
    fn snapshot_that_no_leader_makes_is_refused() {
        for change in [
            (|s: &mut Snapshot| s.mut_metadata().index = 0) as fn(&mut Snapshot),
            |s| s.mut_metadata().index = u64::MAX,
            |s| s.mut_metadata().term = 0,
            |s| s.mut_metadata().term = 4,
            |s| s.data = Bytes::from_static(&[0; 15]),
            |s| s.data = vec![0; Config::default().snapshot_bytes + 1].into(),
            |s| s.mut_metadata().mut_conf_state().voters.clear(),
            |s| s.mut_metadata().mut_conf_state().voters.push(1),
            |s| s.mut_metadata().mut_conf_state().voters.push(3),
            |s| s.mut_metadata().mut_conf_state().learners.push(0),
            |s| s.mut_metadata().mut_conf_state().learners_next.push(5),
            |s| s.mut_metadata().mut_conf_state().auto_leave = true,
        ] {
            checked(change).unwrap_err();
        }
    }
}
