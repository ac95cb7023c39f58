//! Replicas that make room for others of their group on this broker, and that take their places again where the others do not
//! come to be.

use highwater_storage::LogId;
use tracing::info;

use super::Reconciler;
use crate::controller::reconcile::{Location, StartReplica};
use crate::node::operate;
use crate::raft::{self, GroupId, Operation};

impl Reconciler {
    /// Stops a replica whose place another one takes, or that was given up, and keeps its data. Of a group that is no more it is
    /// the one that it runs in.
    pub(super) async fn lay_aside(
        &mut self,
        location: Location,
        group: GroupId,
    ) -> Result<(), raft::Error> {
        let running = self.running.get(&location);
        let group = running.map_or(group, |running| running.group);
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.parts.shards.operate(
            group,
            Operation::LayAside {
                group,
                replica: location.replica,
                answer,
            },
        )?;
        answered.await.map_err(|_| raft::Error::ShardBusy)?;
        if let Some(running) = self.running.remove(&location) {
            self.laid_aside.insert(location, running);
        }
        info!(topic = %location.topic_id, partition = %location.partition, replica = location.replica.0, "replica laid aside for a new one");
        Ok(())
    }

    /// Puts a replica back that was laid aside: the one that was to take its place did not come to be. One that had failed is back
    /// as it was, and seen to like any other that failed; one that was well is to be started.
    pub(super) async fn take_up(
        &mut self,
        start: StartReplica,
    ) -> Result<Option<StartReplica>, raft::Error> {
        let (location, group) = (start.location, start.group);
        let taken_up = operate(&self.parts.shards, group, |answer| Operation::TakeUp {
            group,
            replica: location.replica,
            answer,
        });
        let well = taken_up.await?;
        let running = self.laid_aside.remove(&location);
        info!(topic = %location.topic_id, partition = %location.partition, replica = location.replica.0, "replica is back in its place");
        match well {
            Some(found) => {
                let log = LogId(location.replica.0);
                self.parts.recovered.insert(log, found);
                Ok(Some(start))
            }
            None => {
                self.running
                    .extend(running.map(|running| (location, running)));
                Ok(None)
            }
        }
    }
}
