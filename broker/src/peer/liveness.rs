//! Which of the other brokers are up: rules only.
//!
//! Each broker sends each other one a heartbeat, with what it last heard from there. A broker is up when it is heard, when it
//! hears this one, and when its disk and its shards go on: one that cannot acknowledge must not be waited for. A link that
//! works in one direction only is down on both ends.
//!
//! A broker that restarted is first down and then up again, however fast it was: its leaders have forgotten that they led.

use std::collections::BTreeMap;

use highwater_proto::BrokerId;
use highwater_proto::internal::v1::{Heartbeat, ShardPulse};

/// Shards of one broker that are looked at. More than a broker can be configured to have.
const MAX_SHARDS: usize = 1024;

/// When a broker counts as down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Milliseconds between two heartbeats.
    pub(super) interval_ms: u64,
    /// Heartbeats that may be missed before a broker is down.
    pub(super) missed: u32,
    /// Milliseconds for which a sync or a shard may stand still.
    pub(super) stall_ms: u64,
}

/// Whether a broker goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// Its shards, in order.
    pub(crate) shards: Vec<ShardPulse>,
    /// For how many milliseconds the oldest sync has been under way; 0: none is.
    pub(crate) sync_age_ms: u64,
    /// Whether it is about to stop.
    pub(crate) is_leaving: bool,
}

/// Why a broker is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cause {
    #[error("its heartbeats are missing")]
    Silent,
    #[error("it does not hear this broker")]
    Deaf,
    #[error("it restarted")]
    Restarted,
    #[error("its disk finishes no sync")]
    DiskStalled,
    #[error("one of its shards stands still")]
    ShardStalled,
    #[error("the cluster does not know it any more")]
    Gone,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The broker is up.
    Up(BrokerId),
    /// It was up and is not any more.
    Down(BrokerId, Cause),
}

/// What one broker knows of the others.
#[derive(Debug)]
pub(super) struct Liveness {
    run_id: u64,
    limits: Limits,
    others: BTreeMap<BrokerId, Other>,
    last_tick_ms: Option<u64>,
}

/// What is known of another broker.
#[derive(Debug, Default)]
struct Other {
    /// Heartbeats sent to it.
    sent: u64,
    /// The last of them that it heard.
    answered: u64,
    heard: Option<Heard>,
    is_up: bool,
}

/// What its heartbeats say.
#[derive(Debug)]
struct Heard {
    run_id: u64,
    count: u64,
    at_ms: u64,
    sync_age_ms: u64,
    is_leaving: bool,
    shards: Vec<Shard>,
}

/// A shard of another broker.
#[derive(Debug)]
struct Shard {
    turns: u64,
    /// Since when it has made no turn though it needs the time.
    still_since_ms: u64,
}

impl Liveness {
    /// What the broker whose process drew `run_id` knows: nobody.
    pub(super) fn new(run_id: u64, limits: Limits) -> Self {
        Self {
            run_id,
            limits,
            others: BTreeMap::new(),
            last_tick_ms: None,
        }
    }

    /// From here on these are the others.
    pub(super) fn set_others(&mut self, others: &[BrokerId]) -> Vec<Change> {
        let mut changes = Vec::new();
        self.others.retain(|broker, other| {
            let stays = others.contains(broker);
            if !stays && other.is_up {
                changes.push(Change::Down(*broker, Cause::Gone));
            }
            stays
        });
        for broker in others {
            self.others.entry(*broker).or_default();
        }
        changes
    }

    /// Milliseconds between two ticks.
    pub(super) fn interval_ms(&self) -> u64 {
        self.limits.interval_ms
    }

    /// The brokers that are up.
    pub(super) fn up(&self) -> impl Iterator<Item = BrokerId> {
        let up = self.others.iter().filter(|(_, other)| other.is_up);
        up.map(|(broker, _)| *broker)
    }

    /// Whether a broker is about to stop, as it said last.
    pub(super) fn is_leaving(&self, broker: BrokerId) -> bool {
        let heard = self
            .others
            .get(&broker)
            .and_then(|other| other.heard.as_ref());
        heard.is_some_and(|heard| heard.is_leaving)
    }

    /// Takes a heartbeat of broker `from`, whose process drew `run_id`.
    pub(super) fn heard(
        &mut self,
        from: BrokerId,
        run_id: u64,
        beat: Heartbeat,
        now_ms: u64,
    ) -> Option<Change> {
        let other = self.others.get_mut(&from)?;
        let has_restarted = other
            .heard
            .as_ref()
            .is_some_and(|heard| heard.run_id != run_id);
        if has_restarted {
            other.heard = None;
            other.answered = 0;
        }
        let before = other.heard.take();
        if before
            .as_ref()
            .is_some_and(|before| before.count >= beat.count)
        {
            // Overtaken by a later one.
            other.heard = before;
            return None;
        }
        if beat.heard_run_id == self.run_id && beat.heard_count <= other.sent {
            other.answered = other.answered.max(beat.heard_count);
        }
        let shards_before = before.map(|heard| heard.shards).unwrap_or_default();
        other.heard = Some(Heard {
            run_id,
            count: beat.count,
            at_ms: now_ms,
            sync_age_ms: u64::from(beat.sync_age_ms),
            is_leaving: beat.is_leaving,
            shards: follow(&shards_before, &beat.shards, now_ms),
        });
        (has_restarted && std::mem::take(&mut other.is_up))
            .then_some(Change::Down(from, Cause::Restarted))
    }

    /// To be called once per interval. What to send, and what changed.
    pub(super) fn tick(
        &mut self,
        pulse: &Pulse,
        now_ms: u64,
    ) -> (Vec<(BrokerId, Heartbeat)>, Vec<Change>) {
        let last_ms = self.last_tick_ms.replace(now_ms).unwrap_or(now_ms);
        // While this process stood still it heard nobody: that says nothing of them.
        let pause_ms = now_ms
            .saturating_sub(last_ms)
            .saturating_sub(self.limits.interval_ms);
        let mut beats = Vec::with_capacity(self.others.len());
        let mut changes = Vec::new();
        for (broker, other) in &mut self.others {
            if let Some(heard) = &mut other.heard {
                heard.at_ms += pause_ms;
            }
            let judged = other.judge(&self.limits, now_ms);
            match (other.is_up, judged) {
                (true, Err(cause)) => changes.push(Change::Down(*broker, cause)),
                (false, Ok(())) => changes.push(Change::Up(*broker)),
                _ => {}
            }
            other.is_up = judged.is_ok();
            other.sent += 1;
            beats.push((*broker, other.beat(pulse)));
        }
        (beats, changes)
    }
}

impl Other {
    fn judge(&self, limits: &Limits, now_ms: u64) -> Result<(), Cause> {
        let heard = self.heard.as_ref().ok_or(Cause::Silent)?;
        let missed = u64::from(limits.missed);
        // Half an interval on top: a heartbeat that is due is not missing yet.
        let patience_ms = missed * limits.interval_ms + limits.interval_ms / 2;
        if now_ms.saturating_sub(heard.at_ms) > patience_ms {
            return Err(Cause::Silent);
        }
        // The last of them may be on its way there, or its answer back.
        if self.answered == 0 || self.sent - self.answered > missed {
            return Err(Cause::Deaf);
        }
        if heard.sync_age_ms > limits.stall_ms {
            return Err(Cause::DiskStalled);
        }
        let is_still =
            |shard: &Shard| heard.at_ms.saturating_sub(shard.still_since_ms) > limits.stall_ms;
        if heard.shards.iter().any(is_still) {
            return Err(Cause::ShardStalled);
        }
        Ok(())
    }

    fn beat(&self, pulse: &Pulse) -> Heartbeat {
        let heard = self.heard.as_ref();
        Heartbeat {
            count: self.sent,
            heard_run_id: heard.map_or(0, |heard| heard.run_id),
            heard_count: heard.map_or(0, |heard| heard.count),
            shards: pulse.shards.clone(),
            sync_age_ms: u32::try_from(pulse.sync_age_ms).unwrap_or(u32::MAX),
            is_leaving: pulse.is_leaving,
        }
    }
}

/// The shards as they are now, given what they were.
fn follow(before: &[Shard], now: &[ShardPulse], now_ms: u64) -> Vec<Shard> {
    let mut before = before.iter();
    let shards = now.iter().take(MAX_SHARDS).map(|pulse| {
        let before = before.next();
        let stands = before.filter(|before| before.turns == pulse.turns && pulse.is_ticking);
        Shard {
            turns: pulse.turns,
            still_since_ms: stands.map_or(now_ms, |before| before.still_since_ms),
        }
    });
    shards.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BrokerId = BrokerId(1);
    const B: BrokerId = BrokerId(2);
    const LIMITS: Limits = Limits {
        interval_ms: 100,
        missed: 3,
        stall_ms: 5000,
    };

    /// Two brokers and the time; heartbeats arrive at once unless the way is cut.
    struct Pair {
        a: Liveness,
        b: Liveness,
        b_run: u64,
        b_pulse: Pulse,
        now_ms: u64,
        a_to_b: bool,
        b_to_a: bool,
    }

    impl Pair {
        fn new() -> Self {
            let mut pair = Self {
                a: Liveness::new(10, LIMITS),
                b: Liveness::new(20, LIMITS),
                b_run: 20,
                b_pulse: Pulse::default(),
                now_ms: 0,
                a_to_b: true,
                b_to_a: true,
            };
            pair.a.set_others(&[B]);
            pair.b.set_others(&[A]);
            pair
        }

        /// One that is up.
        fn up() -> Self {
            let mut pair = Self::new();
            assert_eq!(pair.intervals(3), [Change::Up(B)]);
            pair
        }

        /// What A sees change in so many intervals.
        fn intervals(&mut self, count: u32) -> Vec<Change> {
            let mut changes = Vec::new();
            for _ in 0..count {
                self.now_ms += 100;
                let (beats, changed) = self.a.tick(&Pulse::default(), self.now_ms);
                changes.extend(changed);
                for (_, beat) in beats {
                    if self.a_to_b {
                        self.b.heard(A, 10, beat, self.now_ms);
                    }
                }
                for (_, beat) in self.b.tick(&self.b_pulse, self.now_ms).0 {
                    if self.b_to_a {
                        changes.extend(self.a.heard(B, self.b_run, beat, self.now_ms));
                    }
                }
            }
            changes
        }
    }

    #[test]
    fn two_brokers_that_hear_each_other_are_up_within_three_intervals_and_stay_so() {
        let mut pair = Pair::up();
        assert_eq!(pair.intervals(1000), []);
        assert_eq!(pair.a.up().collect::<Vec<_>>(), [B]);
    }

    #[test]
    fn a_broker_that_is_about_to_stop_is_up_and_says_so() {
        let mut pair = Pair::up();
        assert!(!pair.a.is_leaving(B));
        pair.b_pulse.is_leaving = true;
        assert_eq!(pair.intervals(1), []);
        assert!(pair.a.is_leaving(B));
        // Another run of it stays.
        pair.b_pulse.is_leaving = false;
        pair.b_run += 1;
        pair.intervals(3);
        assert!(!pair.a.is_leaving(B));
    }

    #[test]
    fn a_broker_is_down_after_three_heartbeats_are_missed() {
        let mut pair = Pair::up();
        pair.b_to_a = false;
        assert_eq!(pair.intervals(3), []);
        assert_eq!(pair.intervals(1), [Change::Down(B, Cause::Silent)]);
        assert_eq!(pair.intervals(100), []);
        pair.b_to_a = true;
        assert_eq!(pair.intervals(2), [Change::Up(B)]);
    }

    #[test]
    fn a_broker_that_does_not_hear_us_is_down_though_it_is_heard() {
        let mut pair = Pair::up();
        pair.a_to_b = false;
        assert_eq!(pair.intervals(3), []);
        assert_eq!(pair.intervals(2), [Change::Down(B, Cause::Deaf)]);
        pair.a_to_b = true;
        assert_eq!(pair.intervals(3), [Change::Up(B)]);
    }

    #[test]
    fn a_link_that_never_worked_in_one_direction_is_never_up() {
        let mut pair = Pair::new();
        pair.a_to_b = false;
        assert_eq!(pair.intervals(100), []);
    }

    #[test]
    fn a_restart_is_noticed_however_fast_it_was() {
        let mut pair = Pair::up();
        pair.b = Liveness::new(21, LIMITS);
        pair.b.set_others(&[A]);
        pair.b_run = 21;
        let down = Change::Down(B, Cause::Restarted);
        assert_eq!(pair.intervals(4), [down, Change::Up(B)]);
    }

    #[test]
    fn what_was_said_to_an_earlier_run_of_ours_is_no_answer() {
        let mut a = Liveness::new(11, LIMITS);
        a.set_others(&[B]);
        let beat = |count| Heartbeat {
            count,
            heard_run_id: 10,
            heard_count: 1,
            ..Heartbeat::default()
        };
        for count in 1..10 {
            assert_eq!(a.tick(&Pulse::default(), count * 100).1, []);
            assert_eq!(a.heard(B, 20, beat(count), count * 100), None);
        }
    }

    #[test]
    fn a_disk_that_finishes_no_sync_takes_its_broker_down() {
        let mut pair = Pair::up();
        pair.b_pulse.sync_age_ms = 5000;
        assert_eq!(pair.intervals(2), []);
        pair.b_pulse.sync_age_ms = 5001;
        assert_eq!(pair.intervals(2), [Change::Down(B, Cause::DiskStalled)]);
        pair.b_pulse.sync_age_ms = 0;
        assert_eq!(pair.intervals(2), [Change::Up(B)]);
    }

    #[test]
    fn a_shard_that_stands_still_takes_its_broker_down_unless_it_rests() {
        let mut pair = Pair::up();
        let shard = |turns, is_ticking| ShardPulse { turns, is_ticking };
        pair.b_pulse.shards = vec![shard(9, true), shard(5, false)];
        assert_eq!(pair.intervals(51), []);
        assert_eq!(pair.intervals(2), [Change::Down(B, Cause::ShardStalled)]);
        pair.b_pulse.shards = vec![shard(10, true), shard(5, false)];
        assert_eq!(pair.intervals(2), [Change::Up(B)]);
    }

    #[test]
    fn a_pause_of_our_own_takes_nobody_down() {
        let mut pair = Pair::up();
        pair.now_ms += 60_000;
        assert_eq!(pair.intervals(10), []);
    }

    #[test]
    fn heartbeats_that_were_overtaken_or_of_nobody_change_nothing() {
        let mut pair = Pair::up();
        let old = Heartbeat::default();
        assert_eq!(pair.a.heard(B, 20, old.clone(), pair.now_ms), None);
        assert_eq!(pair.a.heard(BrokerId(9), 1, old, pair.now_ms), None);
        assert_eq!(pair.intervals(10), []);
    }

    #[test]
    fn a_broker_that_is_removed_is_down() {
        let mut pair = Pair::up();
        assert_eq!(pair.a.set_others(&[]), [Change::Down(B, Cause::Gone)]);
        assert_eq!(pair.a.tick(&Pulse::default(), 0).0, []);
    }
}
