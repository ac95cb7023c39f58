//! How a leader sends a snapshot, and how a follower takes one.
//!
//! Raft asks for a snapshot where a follower needs entries that are compacted away, or are too many. The caller makes one of the machine
//! as of [`Group::applied`] and gives it with [`Event::Snapshot`](super::Event::Snapshot): only then does it leave. Nothing else is sent to
//! that follower until it answers; a snapshot that is not answered for long counts as lost.
//!
//! A follower begins anew after it: its log and its machine are replaced by the caller, and the answer leaves when that
//! is durable. Until then it starts no election, because Raft could not look at what it did not apply.
//!
//! Where the log is the data, more has to come before Raft sees the snapshot: `seeding` is about that.

use bytes::Bytes;
use highwater_storage::Offset;
use raft::StateRole;
use raft::eraftpb::Snapshot;

use super::Group;
use crate::raft::effects::{Effects, WriteNumber};
use crate::raft::membership::Members;
use crate::raft::{Error, ReplicaId, snapshot};

impl Group {
    /// Sends `machine`, the machine as of [`Group::applied`], to a follower that lacks what is compacted.
    pub(super) fn send_snapshot(&mut self, to: ReplicaId, machine: &Bytes, log_start: Offset) {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader || raft.prs().get(to.0).is_none() {
            return;
        }
        let data = snapshot::encode(self.next_offset, log_start, machine);
        if data.len() > self.config.snapshot_bytes {
            tracing::error!(
                replica = self.replica.0,
                to = to.0,
                bytes = data.len(),
                "a snapshot is larger than snapshot_bytes and cannot be sent"
            );
            return;
        }
        let mut made = Snapshot {
            data,
            ..Snapshot::default()
        };
        let metadata = made.mut_metadata();
        metadata.index = self.applied.0.0;
        metadata.term = self.applied.1.0;
        metadata.set_conf_state(self.conf_state.clone());
        self.node.mut_store().offer(Some(made));
        self.node.raft.send_append(to.0);
        self.node.mut_store().offer(None);
        self.snapshot_sent(to, self.applied.0);
    }

    /// Takes what Raft was sent in place of its log.
    pub(super) fn take_snapshot(
        &mut self,
        number: WriteNumber,
        taken: &Snapshot,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let installable = snapshot::open(taken)?;
        let applied = (installable.applied.index, installable.applied.term);
        self.node.mut_store().begin_after(applied.0, applied.1);
        // Completions of earlier writes speak of what is gone.
        self.truncated_by = number;
        self.restoring = Some(number);
        self.conf_state = taken.get_metadata().get_conf_state().clone();
        self.members = Members::from_raft(&self.conf_state);
        self.members_since = self.applied.0;
        self.applied = applied;
        self.next_offset = installable.next_offset;
        self.written.commit = self.written.commit.max(applied.0);
        effects.write.snapshot = Some(installable);
        Ok(())
    }

    /// The write `number` is durable: the snapshot with it, if there was one.
    pub(super) fn snapshot_synced(&mut self, number: WriteNumber) {
        if self
            .restoring
            .take_if(|restoring| *restoring <= number)
            .is_some()
        {
            self.advance_applied();
        }
    }

    /// Whether the last snapshot that was taken is durable.
    pub(super) fn is_restored(&self) -> bool {
        self.restoring.is_none()
    }
}
