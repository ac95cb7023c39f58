//! Leaderships that are to go elsewhere.

use super::Shard;
use crate::raft::machine::Machine;
use crate::raft::registry::Slot;
use crate::raft::replica::Replica;
use crate::raft::request::Answer;

/// Leaderships that one caller wants elsewhere.
pub(super) struct Leaving {
    /// The replicas that are known to lead still.
    slots: Vec<Slot>,
    /// Of those that were asked for, the ones that nobody can take over.
    staying: usize,
    /// Until it is given up.
    ticks_left: u32,
    answer: Answer<usize>,
}

impl<M: Machine> Shard<M> {
    /// Has the leaders of `slots` hand over.
    pub(super) fn transfer_away(&mut self, slots: Vec<Slot>, answer: Answer<usize>) {
        let mut leaving = Leaving {
            slots,
            staying: 0,
            ticks_left: 2 * self.config.election_ticks,
            answer,
        };
        self.push_away(&mut leaving);
        self.leaving.push(leaving);
    }

    /// A tick went by: what was not taken over is offered again.
    pub(super) fn tick_leaving(&mut self) {
        for mut leaving in std::mem::take(&mut self.leaving) {
            leaving.ticks_left = leaving.ticks_left.saturating_sub(1);
            self.push_away(&mut leaving);
            self.leaving.push(leaving);
        }
    }

    /// Answers those whose wait is over.
    pub(super) fn answer_leaving(&mut self) {
        for mut leaving in std::mem::take(&mut self.leaving) {
            leaving
                .slots
                .retain(|slot| self.replicas.get(*slot).is_some_and(Replica::leads));
            if leaving.slots.is_empty() || leaving.ticks_left == 0 {
                if leaving
                    .answer
                    .send(leaving.slots.len() + leaving.staying)
                    .is_err()
                {
                    tracing::debug!("who wanted leaderships elsewhere has gone");
                }
            } else {
                self.leaving.push(leaving);
            }
        }
    }

    fn push_away(&mut self, leaving: &mut Leaving) {
        for slot in std::mem::take(&mut leaving.slots) {
            if !self.replicas.get(slot).is_some_and(Replica::leads) {
                continue;
            }
            let mut is_leaving = false;
            self.with(slot, |replica| {
                is_leaving = replica.transfer_away()?;
                Ok(())
            });
            if is_leaving {
                leaving.slots.push(slot);
            } else {
                leaving.staying += usize::from(self.replicas.get(slot).is_some_and(Replica::leads));
            }
        }
    }
}
