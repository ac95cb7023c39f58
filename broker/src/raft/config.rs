//! The limits of a Raft group and of a shard.

use super::Error;

/// Terms from here on are refused: a term stands as an `i32` leader epoch in record batches.
pub const TERM_LIMIT: u64 = 1 << 31;

/// Configuration of every group, mailbox and shard of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Ticks without a word from the leader before a follower campaigns, before jitter.
    pub election_ticks: u32,
    /// Ticks between two heartbeats of a leader.
    pub heartbeat_ticks: u32,
    /// Largest number of ticks by which a group's random draw prolongs its election timeout (exclusive).
    pub election_jitter_ticks: u32,
    /// Ticks without anything to do after which a leader puts its group to sleep; with 0 no group sleeps.
    pub sleep_ticks: u32,
    /// Ticks without an end of the oldest sync after which the disk counts as stuck: leaders then step down.
    pub sync_stall_ticks: u32,
    /// Milliseconds of one tick.
    pub tick_interval_ms: u64,
    /// Entry bytes in one append message; a larger entry goes alone.
    pub append_message_bytes: u64,
    /// Append messages to one follower that may be unanswered.
    pub inflight_messages: usize,
    /// Bytes of entries a leader holds that are not committed; a proposal beyond it is refused as busy.
    pub uncommitted_bytes: u64,
    /// Entry bytes given to a machine at once.
    pub apply_bytes: u64,
    /// Leaderships that a shard hands over at once where all are to go. A partition takes no proposals from when its handover
    /// begins until the successor serves: with all of them at once, each would wait for the elections of all.
    pub handovers: usize,
    /// Groups of a shard whose followers are sent at once what they lack, where nobody waits for them.
    pub catch_ups: usize,
    /// The largest snapshot of a machine that is sent or taken, in bytes.
    pub snapshot_bytes: usize,
    /// Ticks after which a snapshot that was not answered is taken for lost.
    pub snapshot_ticks: u32,
    /// Ticks without a sign of a follower that is seeded after which its seeding is taken for lost.
    pub seeding_ticks: u32,
    /// Bytes that a follower may lack and is sent entry after entry, where its leader has them. One that lacks more than this,
    /// and more than half of the log, is seeded.
    pub seeding_bytes: u64,
    /// Bytes of applied entries that a log keeps for followers that are a little behind, where a snapshot would do:
    /// sending entries again is cheaper.
    pub catchup_bytes: u64,
    /// Threads that read entries from the disk for followers that are behind.
    pub reader_threads: usize,
    /// How far a peer's term may be ahead of ours. A larger jump is taken for garbage: it would use up the terms.
    pub term_jump: u64,
    /// The largest payload of one entry, from a command or from a peer.
    pub entry_bytes: usize,
    /// Requests and peer messages that wait for one shard; beyond it they are refused as busy.
    pub mailbox_messages: usize,
    /// Bytes of requests and peer messages that wait for one shard; beyond it they are refused as busy.
    pub mailbox_bytes: usize,
    /// Operations (start, stop, capture ...) that wait for one shard.
    pub mailbox_operations: usize,
}

impl Default for Config {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            election_ticks: 10,
            heartbeat_ticks: 2,
            election_jitter_ticks: 10,
            sleep_ticks: 20,
            sync_stall_ticks: 50,
            tick_interval_ms: 100,
            append_message_bytes: MIB,
            inflight_messages: 64,
            uncommitted_bytes: 64 * MIB,
            apply_bytes: 16 * MIB,
            handovers: 32,
            catch_ups: 4,
            snapshot_bytes: 32 << 20,
            snapshot_ticks: 30,
            seeding_ticks: 100,
            seeding_bytes: 256 * MIB,
            catchup_bytes: MIB,
            reader_threads: 2,
            term_jump: 1 << 20,
            entry_bytes: 64 << 20,
            mailbox_messages: 64 << 10,
            mailbox_bytes: 128 << 20,
            mailbox_operations: 16 << 10,
        }
    }
}

impl Config {
    /// Checks each value against the others.
    ///
    /// # Errors
    /// [`Error::Config`], naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |key, rule| Err(Error::Config { key, rule });
        if self.heartbeat_ticks == 0 {
            return refuse("heartbeat_ticks", "must be at least 1");
        }
        if self.election_ticks <= self.heartbeat_ticks {
            return refuse("election_ticks", "must be above heartbeat_ticks");
        }
        if self.election_jitter_ticks == 0 {
            return refuse("election_jitter_ticks", "must be at least 1");
        }
        if self.sync_stall_ticks == 0 {
            return refuse("sync_stall_ticks", "must be at least 1");
        }
        if self.tick_interval_ms == 0 {
            return refuse("tick_interval_ms", "must be at least 1");
        }
        if self.inflight_messages == 0 {
            return refuse("inflight_messages", "must be at least 1");
        }
        if self.append_message_bytes == 0 || self.append_message_bytes > self.uncommitted_bytes {
            return refuse("append_message_bytes", "must be in 1..=uncommitted_bytes");
        }
        if self.apply_bytes == 0 {
            return refuse("apply_bytes", "must be at least 1");
        }
        if self.term_jump == 0 || self.term_jump >= TERM_LIMIT {
            return refuse("term_jump", "must be in 1..2^31");
        }
        if self.entry_bytes == 0 || self.mailbox_bytes < self.entry_bytes {
            return refuse(
                "mailbox_bytes",
                "must be at least entry_bytes, which must be at least 1",
            );
        }
        if self.snapshot_bytes == 0 || self.mailbox_bytes < self.snapshot_bytes {
            return refuse("snapshot_bytes", "must be in 1..=mailbox_bytes");
        }
        if self.handovers == 0 {
            return refuse("handovers", "must be at least 1");
        }
        if self.catch_ups == 0 {
            return refuse("catch_ups", "must be at least 1");
        }
        if self.reader_threads == 0 {
            return refuse("reader_threads", "must be at least 1");
        }
        if self.snapshot_ticks == 0 {
            return refuse("snapshot_ticks", "must be at least 1");
        }
        if self.seeding_ticks == 0 {
            return refuse("seeding_ticks", "must be at least 1");
        }
        if self.mailbox_messages == 0 {
            return refuse("mailbox_messages", "must be at least 1");
        }
        if self.mailbox_operations == 0 {
            return refuse("mailbox_operations", "must be at least 1");
        }
        Ok(())
    }

    /// The crate's configuration for one replica.
    ///
    /// Its election timeout has no range of its own: the crate would draw it from the thread's generator. The group
    /// adds its jitter itself. Priorities and leases stay off.
    pub(super) fn of_replica(&self, id: u64, applied: u64) -> raft::Config {
        raft::Config {
            id,
            applied,
            election_tick: self.election_ticks as usize,
            min_election_tick: self.election_ticks as usize,
            max_election_tick: self.election_ticks as usize + 1,
            heartbeat_tick: self.heartbeat_ticks as usize,
            pre_vote: true,
            check_quorum: true,
            read_only_option: raft::ReadOnlyOption::Safe,
            max_size_per_msg: self.append_message_bytes,
            max_inflight_msgs: self.inflight_messages,
            max_uncommitted_size: self.uncommitted_bytes,
            max_committed_size_per_ready: self.apply_bytes,
            skip_bcast_commit: false,
            batch_append: false,
            priority: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_lawful() {
        Config::default().validate().unwrap();
        Config::default().of_replica(1, 0).validate().unwrap();
    }

    #[test]
    fn a_bad_value_is_refused_by_its_key() {
        let config = Config {
            election_ticks: 2,
            heartbeat_ticks: 2,
            ..Config::default()
        };
        assert!(matches!(
            config.validate(),
            Err(Error::Config {
                key: "election_ticks",
                ..
            })
        ));
    }
}
