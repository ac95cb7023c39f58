//! When a follower loses patience.

use raft::{Raft, StateRole};

use super::config::Config;
use super::storage::LogStorage;

/// A leader's broker that is known to be gone is mourned for less than this many ticks.
const LEADER_LOST_JITTER_TICKS: u32 = 2;

/// Counts a replica's ticks up to its election timeout plus a jitter of its own.
///
/// Raft's own count (`election_elapsed`) goes on past the timeout while the jitter lasts, so that a replica that
/// waits a little longer still grants its vote to the one that did not.
pub(super) struct ElectionClock {
    election_ticks: u32,
    jitter_ticks: u32,
    limit_ticks: u32,
    random: SplitMix64,
    /// The term, role and leader that the present limit was drawn for.
    seen: (u64, StateRole, u64),
}

impl ElectionClock {
    pub(super) fn new(config: &Config, seed: u64) -> Self {
        let mut clock = Self {
            election_ticks: config.election_ticks,
            jitter_ticks: config.election_jitter_ticks,
            limit_ticks: 0,
            random: SplitMix64(seed),
            seen: (0, StateRole::Follower, raft::INVALID_ID),
        };
        clock.draw();
        clock
    }

    /// One tick of a replica that does not lead. True when Raft itself is to see it: the time is over.
    pub(super) fn tick(&mut self, raft: &mut Raft<LogStorage>) -> bool {
        if raft.election_elapsed + 1 < self.limit_ticks as usize {
            raft.election_elapsed += 1;
            return false;
        }
        self.draw();
        true
    }

    /// Draws anew when term, role or leader changed.
    pub(super) fn observe(&mut self, raft: &Raft<LogStorage>) {
        let now = (raft.term, raft.state, raft.leader_id);
        if self.seen != now {
            self.seen = now;
            self.draw();
        }
    }

    /// Lets a replica without a leader campaign after a short jitter.
    pub(super) fn hurry(&mut self, raft: &mut Raft<LogStorage>) {
        self.seen = (raft.term, raft.state, raft.leader_id);
        let jitter = self.random.below(LEADER_LOST_JITTER_TICKS);
        self.limit_ticks = self.election_ticks + jitter;
        raft.election_elapsed = self.election_ticks as usize - 1;
    }

    fn draw(&mut self) {
        self.limit_ticks = self.election_ticks + self.random.below(self.jitter_ticks);
    }
}

/// A generator of 64 bits of state (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: u32) -> u32 {
        let below = self.next() % u64::from(limit);
        u32::try_from(below).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_stays_in_range() {
        let (mut a, mut b) = (SplitMix64(7), SplitMix64(7));
        let draws: Vec<_> = (0..100).map(|_| a.below(10)).collect();
        assert!(draws.iter().all(|draw| *draw < 10));
        assert!((0..10).all(|value| draws.contains(&value)));
        assert_eq!(draws, (0..100).map(|_| b.below(10)).collect::<Vec<_>>());
    }
}
