//! Leaderships that are to go elsewhere.

use super::Shard;
use crate::raft::machine::Machine;
use crate::raft::registry::Slot;
use crate::raft::replica::Replica;
use crate::raft::request::Answer;

/// Leaderships that one caller wants elsewhere.
pub(super) struct Leaving {
    /// The replicas that lead still, or led and know of no successor yet. The first few of them are handing over.
    slots: Vec<Slot>,
    /// Of those that were asked for, the ones that nobody can take over.
    staying: usize,
    /// Whether one has gone since the last was offered.
    has_room: bool,
    /// Until it is given up, unless another one goes before.
    ticks_left: u32,
    answer: Answer<usize>,
}

impl<M: Machine> Shard<M> {
    /// Has the leaders of `slots` hand over, a few at a time.
    pub(super) fn transfer_away(&mut self, mut slots: Vec<Slot>, answer: Answer<usize>) {
        slots.retain(|slot| self.leads(*slot));
        let mut leaving = Leaving {
            slots,
            staying: 0,
            has_room: false,
            ticks_left: self.patience(),
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

    /// Offers the next ones in place of those that have gone.
    pub(super) fn go_on_leaving(&mut self) {
        for mut leaving in std::mem::take(&mut self.leaving) {
            if leaving.has_room {
                self.push_away(&mut leaving);
            }
            self.leaving.push(leaving);
        }
    }

    /// Answers those whose wait is over.
    pub(super) fn answer_leaving(&mut self) {
        let patience = self.patience();
        for mut leaving in std::mem::take(&mut self.leaving) {
            let before = leaving.slots.len();
            leaving.slots.retain(|slot| self.awaits_successor(*slot));
            if leaving.slots.len() < before {
                leaving.has_room = true;
                leaving.ticks_left = patience;
            }
            if !leaving.slots.is_empty() && leaving.ticks_left > 0 {
                self.leaving.push(leaving);
                continue;
            }
            let leading = leaving.slots.iter().filter(|slot| self.leads(**slot));
            let staying = leaving.staying + leading.count();
            if leaving.answer.send(staying).is_err() {
                tracing::debug!("who wanted leaderships elsewhere has gone");
            }
        }
    }

    /// Ticks for which a leadership is offered: two election timeouts.
    fn patience(&self) -> u32 {
        2 * self.config.election_ticks
    }

    fn leads(&self, slot: Slot) -> bool {
        self.replicas.get(slot).is_some_and(Replica::leads)
    }

    /// Whether a replica that led leads still, or knows of nobody who does: its vote may be needed.
    fn awaits_successor(&self, slot: Slot) -> bool {
        let replica = self.replicas.get(slot);
        replica.is_some_and(|replica| replica.leads() || replica.is_leaderless())
    }

    /// Offers the first few.
    fn push_away(&mut self, leaving: &mut Leaving) {
        leaving.has_room = false;
        let mut under_way = 0;
        for slot in std::mem::take(&mut leaving.slots) {
            if under_way < self.config.handovers && self.leads(slot) && !self.offer(slot) {
                leaving.staying += usize::from(self.leads(slot));
                continue;
            }
            under_way += 1;
            leaving.slots.push(slot);
        }
    }

    /// Offers a leadership to whoever is best prepared. False where nobody is.
    fn offer(&mut self, slot: Slot) -> bool {
        let mut is_leaving = false;
        self.with(slot, |replica| {
            is_leaving = replica.transfer_away()?;
            Ok(())
        });
        is_leaving
    }
}
