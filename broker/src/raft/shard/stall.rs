//! Whether the disk is stuck.
//!
//! A leader whose disk finishes no sync acknowledges nothing, yet its heartbeats keep the followers from electing
//! another. So a shard counts the ticks for which its oldest write has waited for its sync, and beyond a limit all its
//! leaders step down and none of its replicas campaigns, until a sync ends.

use highwater_storage::Ticket;

use super::Shard;
use crate::raft::machine::Machine;

/// The wait of the oldest write.
#[derive(Debug, Default)]
pub(super) struct StallClock {
    oldest: Option<Ticket>,
    ticks: u32,
}

impl StallClock {
    /// A tick went by, and `oldest` is what has waited for a sync for the longest. Answers for how many ticks at least.
    fn tick(&mut self, oldest: Option<Ticket>) -> u32 {
        self.ticks = match (self.oldest, oldest) {
            (Some(before), Some(now)) if before == now => self.ticks + 1,
            _ => 0,
        };
        self.oldest = oldest;
        self.ticks
    }
}

impl<M: Machine> Shard<M> {
    /// A tick went by.
    pub(super) fn tick_stall(&mut self) {
        let oldest = self.unsynced.front().map(|(ticket, _)| *ticket);
        let waited_ticks = self.stall.tick(oldest);
        self.set_stalled(waited_ticks >= self.config.sync_stall_ticks);
    }

    fn set_stalled(&mut self, is_stalled: bool) {
        if self.is_stalled == is_stalled {
            return;
        }
        self.is_stalled = is_stalled;
        if is_stalled {
            tracing::error!("the disk is stuck: this shard's leaders step down");
        } else {
            tracing::warn!("the disk goes on");
        }
        for slot in self.replicas.slots() {
            self.with(slot, |replica| replica.disk_stalled(is_stalled));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_and_the_same_wait_grows_old() {
        let mut clock = StallClock::default();
        let waited = [Some(1), Some(1), Some(1), Some(2), Some(2), None, Some(2)]
            .map(|ticket| clock.tick(ticket.map(Ticket)));
        assert_eq!(waited, [0, 1, 2, 0, 1, 0, 0]);
    }
}
