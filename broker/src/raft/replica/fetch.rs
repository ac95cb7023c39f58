//! Entries that Raft needs again for a follower that is behind.

use std::sync::{Arc, Weak};

use highwater_storage::{Error as StorageError, Frame, RaftIndex};
use raft::GetEntriesContext;

use super::{Consensus, Replica, TurnContext};
use crate::raft::Error;
use crate::raft::cold_read::{ColdRead, FinishedRead};
use crate::raft::event::Event;
use crate::raft::machine::Machine;
use crate::raft::storage::Fetch;

/// Reads of one group that may be on their way at once.
const MAX_READS: usize = 4;
/// Followers that may wait for one of them.
const MAX_WAITERS: usize = 8;

/// Reads that are on their way. What finds no room in it is dropped: Raft asks again.
#[derive(Debug, Default)]
pub(super) struct ColdReads(Vec<Waiting>);

/// A read, and for what Raft wants it.
#[derive(Debug)]
struct Waiting {
    from: RaftIndex,
    /// Dead when the read was lost.
    ticket: Weak<()>,
    contexts: Vec<GetEntriesContext>,
}

impl ColdReads {
    /// Notes what Raft wants from `from` on. The ticket of a read to be made for it, if one has to be.
    fn wait(&mut self, from: RaftIndex, context: GetEntriesContext) -> Option<Arc<()>> {
        self.0.retain(|waiting| waiting.ticket.strong_count() > 0);
        if let Some(waiting) = self.0.iter_mut().find(|waiting| waiting.from == from) {
            if waiting.contexts.len() < MAX_WAITERS {
                waiting.contexts.push(context);
            }
            return None;
        }
        if self.0.len() >= MAX_READS {
            return None;
        }
        let ticket = Arc::new(());
        self.0.push(Waiting {
            from,
            ticket: Arc::downgrade(&ticket),
            contexts: vec![context],
        });
        Some(ticket)
    }

    /// Who waited for a read; nobody for one of another life.
    fn finish(&mut self, ticket: &Arc<()>) -> Vec<GetEntriesContext> {
        let is_it = |waiting: &mut Waiting| waiting.ticket.ptr_eq(&Arc::downgrade(ticket));
        let finished = self.0.extract_if(.., is_it);
        finished.flat_map(|waiting| waiting.contexts).collect()
    }
}

impl<M: Machine> Replica<M> {
    /// Gets Raft what is at hand, and has the rest read elsewhere.
    pub(super) fn fetch(
        &mut self,
        fetch: Fetch,
        context: &mut TurnContext<'_>,
    ) -> Result<(), Error> {
        let Consensus::Running(group) = &self.consensus else {
            return Ok(());
        };
        let reader = group.log().reader();
        let waits_for_nobody = group.moves_without_laggards();
        let ticket = self.cold_reads.wait(fetch.from, fetch.context);
        if !waits_for_nobody {
            // It may have waited for its turn until the group came to need it.
            for read in context.catching_up.withdraw(self.group_id) {
                self.read(read, context)?;
            }
        }
        let Some(ticket) = ticket else {
            return Ok(());
        };
        let read = ColdRead {
            group: self.group_id,
            replica: self.id,
            reader,
            from: fetch.from,
            to: fetch.to,
            max_bytes: fetch.max_bytes,
            ticket,
        };
        let upto = read.to.previous();
        if waits_for_nobody && !context.catching_up.admit(self.group_id, upto) {
            context.catching_up.wait(self.group_id, upto, read);
            return Ok(());
        }
        self.read(read, context)
    }

    /// Reads entries for followers: at once where they are in memory, else elsewhere.
    pub(in crate::raft) fn read(
        &mut self,
        mut read: ColdRead,
        context: &mut TurnContext<'_>,
    ) -> Result<(), Error> {
        let Consensus::Running(group) = &self.consensus else {
            return Ok(());
        };
        // There may be more than when Raft asked, or less where somebody else leads by now.
        read.to = group.log_end();
        if read.from >= read.to {
            return Ok(());
        }
        match or_gone(group.log().read_cached(read.from, read.to, read.max_bytes))? {
            Some(frames) => self.fetched(FinishedRead {
                group: read.group,
                replica: read.replica,
                frames: Ok(frames),
                ticket: read.ticket,
            }),
            None => {
                context.cold_reads.push(read);
                Ok(())
            }
        }
    }

    /// A read is done. Where the log begins later by now, Raft finds that out.
    ///
    /// # Errors
    /// What could not be read ends the replica.
    pub(in crate::raft) fn fetched(&mut self, finished: FinishedRead) -> Result<(), Error> {
        if finished.replica != self.id {
            return Ok(());
        }
        let contexts = self.cold_reads.finish(&finished.ticket);
        if contexts.is_empty() {
            return Ok(());
        }
        let frames = or_gone(finished.frames)?;
        self.handle(Event::Fetched(contexts, frames), |_| {})
    }
}

/// What was read; nothing, where the log begins later since Raft asked.
fn or_gone<T: From<Vec<Frame>>>(read: Result<T, StorageError>) -> Result<T, StorageError> {
    match read {
        Err(StorageError::Compacted { .. }) => Ok(T::from(vec![])),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> GetEntriesContext {
        GetEntriesContext::empty(true)
    }

    #[test]
    fn followers_at_one_place_share_a_read() {
        let mut reads = ColdReads::default();
        let ticket = reads.wait(RaftIndex(5), context()).unwrap();
        assert!(reads.wait(RaftIndex(5), context()).is_none());
        assert_eq!(reads.finish(&ticket).len(), 2);
        assert_eq!(reads.finish(&ticket).len(), 0, "once");
    }

    #[test]
    fn reads_are_bounded_and_a_lost_one_makes_room() {
        let mut reads = ColdReads::default();
        let tickets: Vec<_> = (0..9)
            .filter_map(|from| reads.wait(RaftIndex(from), context()))
            .collect();
        assert_eq!(tickets.len(), MAX_READS);
        for _ in 0..20 {
            reads.wait(RaftIndex(0), context());
        }
        assert_eq!(reads.finish(&tickets[0]).len(), MAX_WAITERS);
        drop(tickets);
        let again = reads.wait(RaftIndex(3), context()).unwrap();
        assert_eq!(reads.finish(&again).len(), 1);
    }
}
