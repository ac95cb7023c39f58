//! Reads that must see everything acknowledged before they began.
//!
//! A leader may have been deposed without knowing. So it notes its commit index, hears from a majority that it still
//! leads, and answers when it has applied up to there (Ongaro: "Consensus: Bridging Theory and Practice", 6.4). All
//! reads that came in one turn share one such round. A lost round is repeated with the next heartbeat.

use std::collections::VecDeque;

use highwater_storage::RaftIndex;

use super::Replica;
use crate::raft::Error;
use crate::raft::effects::ReadNumber;
use crate::raft::event::Event;
use crate::raft::machine::{Machine, Refusal, Role};
use crate::raft::request::Answer;

/// Reads of one group that may wait at once. They wait for a round trip, or until leadership is lost.
const MAX_READS: usize = 16 << 10;

type ReadAnswer = Answer<Result<RaftIndex, Error>>;

/// Who reads, and what each waits for.
///
/// Invariant: nobody waits in it unless its replica leads and serves.
#[derive(Debug, Default)]
pub(super) struct Reads {
    count: usize,
    /// For the next round to begin.
    unasked: Vec<ReadAnswer>,
    /// For a majority, in order of number.
    asked: VecDeque<(ReadNumber, Vec<ReadAnswer>)>,
    /// For their index to be applied, in order of index.
    confirmed: VecDeque<(RaftIndex, Vec<ReadAnswer>)>,
    last_number: ReadNumber,
}

impl Reads {
    /// A majority confirmed the round `number`, and with it all before it.
    fn confirm(&mut self, number: ReadNumber, index: RaftIndex) {
        while let Some((_, answers)) = self.asked.pop_front_if(|(asked, _)| *asked <= number) {
            self.confirmed.push_back((index, answers));
        }
    }

    /// Answers all whose index is applied.
    pub(super) fn applied(&mut self, applied: RaftIndex) {
        while let Some((index, answers)) =
            self.confirmed.pop_front_if(|(index, _)| *index <= applied)
        {
            self.count -= answers.len();
            for answer in answers {
                // Who asked may have gone.
                drop(answer.send(Ok(index)));
            }
        }
    }

    /// Turns all away.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.count = 0;
        let asked = self.asked.drain(..).flat_map(|(_, answers)| answers);
        let confirmed = self.confirmed.drain(..).flat_map(|(_, answers)| answers);
        for answer in self.unasked.drain(..).chain(asked).chain(confirmed) {
            drop(answer.send(Err(refusal.clone().into())));
        }
    }
}

impl<M: Machine> Replica<M> {
    /// Answers up to where a read that begins now must see.
    pub(in crate::raft) fn read_index(&mut self, answer: ReadAnswer) {
        let refusal = match self.role {
            Role::Leader { serving: true, .. } if self.reads.count < MAX_READS => {
                self.reads.count += 1;
                self.reads.unasked.push(answer);
                return;
            }
            Role::Leader { serving: true, .. } => Refusal::Busy {
                limit: "the limit of reads that wait for a majority",
            },
            Role::Leader { .. } => Refusal::NotLeader { leader: None },
            Role::Follower { leader, .. } => Refusal::NotLeader { leader },
            Role::Quarantined => self.failed(),
        };
        drop(answer.send(Err(refusal.into())));
    }

    /// Begins a round for those who came. True when Raft has something to do because of it.
    pub(super) fn ask_reads(&mut self) -> Result<bool, Error> {
        if self.reads.unasked.is_empty() {
            return Ok(false);
        }
        let number = ReadNumber(self.reads.last_number.0 + 1);
        self.reads.last_number = number;
        let answers = std::mem::take(&mut self.reads.unasked);
        self.reads.asked.push_back((number, answers));
        // Raft drops it silently before the first commit of the term: a leader that serves is beyond that.
        self.handle(Event::ReadIndex(number), |_| {})?;
        Ok(true)
    }

    pub(super) fn reads_confirmed(&mut self, confirmed: Vec<(ReadNumber, RaftIndex)>) {
        if confirmed.is_empty() {
            return;
        }
        for (number, index) in confirmed {
            self.reads.confirm(number, index);
        }
        self.reads.applied(self.applied_index());
    }
}
