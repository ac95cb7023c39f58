//! The shell around a partition's rules that a shard runs.

use std::sync::Arc;

use bytes::Bytes;
use highwater_storage::{Offset, RaftIndex};

use super::error::Error;
use super::machine::{Command, Limits, PartitionMachine, Response};
use super::shared::PartitionShared;
use super::state::BadSnapshot;
use crate::raft::machine::{
    CommittedEntry, Decision, Machine, NewEntry, Role, Timestamp, Unlawful,
};

/// A partition's machine and what its readers see: decides with the configuration in force, and publishes.
#[derive(Debug)]
pub struct PartitionReplica {
    machine: PartitionMachine,
    shared: Arc<PartitionShared>,
}

impl PartitionReplica {
    /// The replica whose applied state is `snapshot`. Readers see that state at once.
    ///
    /// # Errors
    /// [`BadSnapshot`] when no known version wrote the snapshot.
    pub fn new(
        snapshot: &[u8],
        limits: Limits,
        shared: Arc<PartitionShared>,
    ) -> Result<Self, BadSnapshot> {
        let machine = PartitionMachine::new(snapshot, limits)?;
        let mut replica = Self { machine, shared };
        replica.publish();
        Ok(replica)
    }

    /// What readers see.
    pub fn shared(&self) -> &Arc<PartitionShared> {
        &self.shared
    }
}

impl Machine for PartitionReplica {
    type Command = Command;
    type Response = Response;
    type Error = Error;

    fn decide(
        &self,
        command: Command,
        _next_index: RaftIndex,
        now: Timestamp,
    ) -> Result<Decision<Response>, Error> {
        self.machine.decide(&self.shared.config(), command, now)
    }

    fn proposed(&mut self, index: RaftIndex, entry: &NewEntry) {
        self.machine.proposed(index, entry);
        self.shared.set_log_end(self.machine.log_end());
    }

    fn retract(&mut self, from: RaftIndex) {
        self.machine.retract(from);
        self.shared.set_log_end(self.machine.log_end());
    }

    fn apply(&mut self, entry: &CommittedEntry) -> Result<(), Unlawful> {
        self.machine.apply(entry)
    }

    fn apply_lost(
        &mut self,
        index: RaftIndex,
        base_offset: Offset,
        record_count: u32,
    ) -> Result<(), Unlawful> {
        self.machine.apply_lost(index, base_offset, record_count)
    }

    fn snapshot(&self) -> Bytes {
        self.machine.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.machine.restore(snapshot)
    }

    fn log_start(&self) -> Offset {
        self.machine.state().log_start
    }

    fn role_changed(&mut self, role: Role) {
        // Readers look at the standing first. What a new leader has applied must be there when they hear that it
        // serves: after a restart they would otherwise find the log of the last checkpoint.
        self.publish();
        self.shared.set_role(role);
    }

    fn publish(&mut self) {
        let state = self.machine.state();
        self.shared.set_log_end(self.machine.log_end());
        self.shared.publish(state.log_start, state.next_offset);
    }
}

#[cfg(test)]
mod tests {
    use highwater_storage::Term;

    use super::*;
    use crate::partition::Standing;
    use crate::partition::testing::{config, produce};
    use crate::raft::machine::EntryKind;
    use crate::topic::TopicConfig;

    const NOW: Timestamp = Timestamp(5);

    fn replica() -> PartitionReplica {
        let shared = Arc::new(PartitionShared::new(Arc::new(config()), Arc::default()));
        PartitionReplica::new(&[], Limits::default(), shared).unwrap()
    }

    fn propose(replica: &mut PartitionReplica, index: u64, records: u32) -> CommittedEntry {
        let index = RaftIndex(index);
        let base_offset = replica.machine.log_end();
        let decision = replica.decide(produce(None, records), index, NOW).unwrap();
        let Decision::Propose { mut entries, .. } = decision else {
            panic!("not proposed: {decision:?}");
        };
        let entry = entries.remove(0);
        replica.proposed(index, &entry);
        CommittedEntry {
            index,
            term: Term(1),
            kind: EntryKind::Batch,
            base_offset,
            record_count: entry.record_count,
            max_timestamp_ms: entry.max_timestamp_ms,
            data: entry.data,
        }
    }

    #[test]
    fn readers_see_what_is_applied_once_it_is_published() {
        let mut replica = replica();
        let shared = Arc::clone(replica.shared());
        let first = propose(&mut replica, 1, 3);
        propose(&mut replica, 2, 2);
        assert_eq!(
            (shared.high_watermark(), shared.log_end()),
            (Offset(0), Offset(5))
        );
        replica.apply(&first).unwrap();
        assert_eq!(shared.high_watermark(), Offset(0));
        replica.publish();
        assert_eq!(
            (shared.high_watermark(), shared.log_end()),
            (Offset(3), Offset(5))
        );
        replica.retract(RaftIndex(2));
        replica.role_changed(Role::Follower {
            term: Term(2),
            leader: None,
        });
        assert_eq!(
            (shared.high_watermark(), shared.log_end()),
            (Offset(3), Offset(3))
        );
        assert_eq!(
            shared.standing(),
            Standing::Following {
                term: Term(2),
                leader: None
            }
        );
    }

    #[test]
    fn readers_who_hear_that_a_leader_serves_see_all_that_it_applied() {
        let mut replica = replica();
        let shared = Arc::clone(replica.shared());
        let entry = propose(&mut replica, 1, 3);
        replica.apply(&entry).unwrap();
        replica.role_changed(Role::Leader {
            term: Term(2),
            serving: true,
        });
        assert_eq!(shared.standing(), Standing::Serving { term: Term(2) });
        assert_eq!(shared.high_watermark(), Offset(3));
    }

    #[test]
    fn a_restored_replica_shows_its_snapshot_at_once() {
        let mut replica = replica();
        let entry = propose(&mut replica, 1, 3);
        replica.apply(&entry).unwrap();
        let shared = Arc::new(PartitionShared::new(Arc::new(config()), Arc::default()));
        let limits = Limits::default();
        let restored = PartitionReplica::new(&replica.snapshot(), limits, Arc::clone(&shared));
        assert_eq!(shared.high_watermark(), Offset(3));
        assert_eq!(restored.unwrap().snapshot(), replica.snapshot());
    }

    #[test]
    fn a_new_configuration_rules_the_next_decision() {
        let mut replica = replica();
        propose(&mut replica, 1, 1);
        let strict = TopicConfig {
            max_message_bytes: 1,
            ..config()
        };
        replica.shared().set_config(Arc::new(strict));
        let refused = replica.decide(produce(None, 1), RaftIndex(2), NOW);
        assert!(matches!(refused, Err(Error::MessageTooLarge { .. })));
    }
}
