//! What Raft hands out, and what becomes of it: writes, messages, entries to apply.

use highwater_storage::{HardState, RaftIndex, Term};
use raft::Ready;
use raft::eraftpb::{Entry, EntryType, Message};

use super::{Group, Unsynced};
use crate::raft::Error;
use crate::raft::effects::{Applicable, Effects, ReadNumber, WriteNumber};
use crate::raft::entry;
use crate::raft::membership::{self, Members};

impl Group {
    pub(super) fn take(&mut self, mut ready: Ready, effects: &mut Effects) -> Result<(), Error> {
        let number = WriteNumber(ready.number());
        if !ready.snapshot().is_empty() {
            self.take_snapshot(number, ready.snapshot(), effects)?;
        }
        let entries = ready.take_entries();
        for entry in &entries {
            let frame = entry::to_frame(entry).map_err(|bad| self.damaged(&bad))?;
            effects.write.frames.push(frame);
        }
        effects.write.truncate_from = self.node.mut_store().push(&entries);
        if effects.write.truncate_from.is_some() {
            self.truncated_by = number;
        }
        let may_leave = self.durable_term >= self.node.raft.term;
        let mut held = ready.take_persisted_messages();
        if may_leave {
            let mut messages = ready.take_messages();
            self.lull(&mut messages);
            effects.send.extend(messages);
        } else {
            held.extend(ready.take_messages());
        }
        effects.reads = ready
            .take_read_states()
            .into_iter()
            .filter_map(|read| {
                let number = ReadNumber::decode(&read.request_ctx)?;
                Some((number, RaftIndex(read.index)))
            })
            .collect();
        let committed = ready.take_committed_entries();
        let must_sync = ready.must_sync();
        self.node.advance_append_async(ready);
        self.wait_for_sync(number, must_sync, held, effects);
        for entry in committed {
            let applicable = self.commit_entry(entry)?;
            effects.apply.push(applicable);
        }
        Ok(())
    }

    fn wait_for_sync(
        &mut self,
        number: WriteNumber,
        must_sync: bool,
        messages: Vec<Message>,
        effects: &mut Effects,
    ) {
        if must_sync || !(self.unsynced.is_empty() || messages.is_empty()) {
            let term = self.node.raft.term;
            self.unsynced.push_back(Unsynced {
                number,
                term,
                messages,
            });
            effects.number = Some(number);
        } else if self.unsynced.is_empty() {
            self.node.on_persist_ready(number.0);
            effects.send.extend(messages);
        }
    }

    fn commit_entry(&mut self, entry: Entry) -> Result<Applicable, Error> {
        let index = RaftIndex(entry.index);
        let term = Term(entry.term);
        if entry.get_entry_type() == EntryType::EntryConfChangeV2 {
            self.apply_change(&entry)?;
        }
        let committed =
            entry::to_committed(entry, self.next_offset).map_err(|bad| self.damaged(&bad))?;
        self.next_offset = committed.next_offset(self.next_offset);
        self.applied = (index, term);
        Ok(Applicable { index, committed })
    }

    fn apply_change(&mut self, entry: &Entry) -> Result<(), Error> {
        let change = membership::decode_change(&entry.data)?;
        match self.node.apply_conf_change(&change) {
            Ok(state) => {
                self.members = Members::from_raft(&state);
                self.conf_state = state;
                self.members_since = RaftIndex(entry.index);
            }
            // Every replica refuses it alike: the members stay.
            Err(error) => {
                tracing::error!(replica = self.replica.0, index = entry.index, %error, "a membership change cannot be applied");
            }
        }
        Ok(())
    }

    pub(super) fn hard_state_to_write(&mut self) -> Option<HardState> {
        let raft = &self.node.raft;
        let durable_commit = raft.raft_log.committed.min(raft.raft_log.persisted);
        let hard_state = HardState {
            term: Term(raft.term),
            vote: raft.vote,
            commit: RaftIndex(durable_commit).max(self.written.commit),
        };
        let is_new = hard_state != self.written;
        self.written = hard_state;
        is_new.then_some(hard_state)
    }
}
