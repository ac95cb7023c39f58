//! Replicas that begin again as the only ones of new groups: see [`crate::raft`] for what makes that safe.

use std::time::Duration;

use highwater_storage::LogId;
use tracing::{error, info, warn};

use super::{Reconciler, Running};
use crate::controller::reconcile::{Location, StartReplica};
use crate::controller::{Command, RecoveryReport};
use crate::node::{operate, status};
use crate::raft::{self, GroupId, Operation, Origin};

/// How long a checkpoint is waited for that holds the new members. Later the next attempt waits again.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(30);

impl Reconciler {
    /// Starts a replica as the only one of a new group, from the group that it runs in or from what was found. One that
    /// did so already goes on.
    pub(super) async fn refound(&mut self, start: StartReplica) -> Result<(), raft::Error> {
        let (location, group) = (start.location, start.group);
        let running = self.running.get(&location).map(|running| running.group);
        if running == Some(group) {
            return Ok(());
        }
        let log = LogId(location.replica.0);
        if let Some(old) = running {
            self.release(location, old).await?;
        }
        let found = self.parts.recovered.get(&log).cloned();
        let found = found.ok_or_else(|| raft::Error::Damaged {
            replica: location.replica,
            reason: "its partition is to begin again with it, and its log is not here".to_owned(),
        })?;
        let starting = self.start_from(start, Origin::Refounded(found));
        let (location, running) = starting.await.map_err(|(_, error)| error)?;
        self.note_running(location, running);
        let failure = status(&self.parts.shards, group).await?;
        if let Some(failure) = failure.and_then(|status| status.failure) {
            let replica = location.replica;
            let reason = failure.reason;
            return Err(raft::Error::Damaged { replica, reason });
        }
        self.parts
            .shards
            .operate(group, Operation::CampaignIfCold { group })?;
        warn!(topic = %location.topic_id, partition = %location.partition, "a partition begins again with one replica: the others were given up");
        Ok(())
    }

    /// Takes the log of a replica out of the group that it runs in.
    async fn release(&mut self, location: Location, old: GroupId) -> Result<(), raft::Error> {
        let shards = self.parts.shards.clone();
        let releasing = operate(&shards, old, |answer| Operation::Release {
            group: old,
            replica: location.replica,
            answer,
        });
        let found = releasing.await?;
        self.running.remove(&location);
        // The turn in which it left is over when the shard answers again: what it wrote comes before what the new group writes.
        status(&shards, old).await?;
        self.parts
            .recovered
            .insert(LogId(location.replica.0), found);
        Ok(())
    }

    /// Reports partitions that began again, once a checkpoint holds that they did. Whether all of it succeeded.
    pub(super) async fn report_refounded(&self, begun: &[(Location, GroupId)]) -> bool {
        if begun.is_empty() {
            return true;
        }
        let checkpointed = self.parts.shards.checkpointed();
        let checkpointed = tokio::time::timeout(CHECKPOINT_PATIENCE, checkpointed).await;
        if checkpointed != Ok(true) {
            error!("partitions began again, and no checkpoint holds that yet");
            return false;
        }
        let mut is_done = true;
        for (location, group) in begun {
            let report = RecoveryReport {
                topic_id: location.topic_id,
                partition: location.partition,
                group: *group,
            };
            let reported = self
                .parts
                .controller
                .ask(Command::ReportRecovery(report))
                .await;
            match reported {
                Ok(_) => {
                    info!(topic = %location.topic_id, partition = %location.partition, "a partition has begun again");
                }
                Err(error) => {
                    warn!(topic = %location.topic_id, %error, "that a partition began again could not be reported");
                    is_done = false;
                }
            }
        }
        is_done
    }

    /// Whether a replica runs in this group.
    pub(super) fn runs_in(&self, location: Location, group: GroupId) -> bool {
        let running: Option<&Running> = self.running.get(&location);
        running.is_some_and(|running| running.group == group)
    }
}
