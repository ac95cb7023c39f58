//! When a follower loses patience.

use raft::{Raft, StateRole};

use super::config::Config;
use super::storage::LogStorage;

/// Where the leader is known to be gone its voters campaign in turn, so many ticks one after the other: two that campaigned at once would
/// split the votes, and lose an election timeout.
const TURN_TICKS: u32 = 3;
/// Attempts in turn before patience is as usual again. One may be lost on a voter that has not heard of the loss yet.
const HURRIED_ATTEMPTS: u32 = 4;

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
    seen: Option<(u64, StateRole, u64)>,
    /// Since the leader was lost, until there is another.
    hurry: Option<Hurry>,
}

/// The leader is known to be gone.
#[derive(Clone, Copy)]
struct Hurry {
    /// How many other voters campaign before.
    turn: u32,
    attempts_left: u32,
}

impl ElectionClock {
    pub(super) fn new(config: &Config, seed: u64) -> Self {
        let mut clock = Self {
            election_ticks: config.election_ticks,
            jitter_ticks: config.election_jitter_ticks,
            limit_ticks: 0,
            random: SplitMix64(seed),
            seen: None,
            hurry: None,
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
        // Whatever becomes of it, the next limit is drawn for that.
        self.seen = None;
        true
    }

    /// Draws anew when term, role or leader changed, or an attempt was made.
    pub(super) fn observe(&mut self, raft: &mut Raft<LogStorage>) {
        let now = (raft.term, raft.state, raft.leader_id);
        if self.seen.replace(now) == Some(now) {
            return;
        }
        if raft.leader_id != raft::INVALID_ID {
            self.hurry = None;
        }
        self.draw();
        let campaigns = matches!(raft.state, StateRole::PreCandidate | StateRole::Candidate);
        if let Some(hurry) = &mut self.hurry
            && campaigns
            && hurry.attempts_left > 0
        {
            hurry.attempts_left -= 1;
            let ticks = (hurry.turn + 1) * TURN_TICKS;
            self.wait(raft, ticks);
        }
    }

    /// The leader is gone: lets a replica campaign at its turn, the first one at the next tick.
    pub(super) fn hurry(&mut self, raft: &mut Raft<LogStorage>, turn: u32) {
        self.seen = Some((raft.term, raft.state, raft.leader_id));
        self.hurry = Some(Hurry {
            turn,
            attempts_left: HURRIED_ATTEMPTS,
        });
        self.wait(raft, 1 + turn * TURN_TICKS);
    }

    /// Another voter asked whether it would be elected. One that has all that this one has is given time. Another one will not be: it is
    /// this one's turn then.
    pub(super) fn asked(&mut self, raft: &mut Raft<LogStorage>, has_all: bool) {
        if self.hurry.is_some() && raft.state == StateRole::Follower {
            self.wait(raft, if has_all { TURN_TICKS } else { 1 });
        }
    }

    /// Has Raft see the tick that is `ticks` from now.
    fn wait(&mut self, raft: &mut Raft<LogStorage>, ticks: u32) {
        raft.election_elapsed = self.election_ticks as usize - 1;
        self.limit_ticks = self.election_ticks - 1 + ticks;
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
