//! A controller whose majority was lost for good, and that begins again with one broker as another cluster.
//!
//! A person decided that, with the brokers stopped (see `offline`). What makes it safe is that nobody of the old cluster is listened to: each
//! connection between brokers begins with the cluster, and from the start on that is the new one. The replica begins again as
//! [`raft`](crate::raft) says of partitions. That is repeated at each start until a checkpoint holds the new members and the directory
//! says that it belongs to the new cluster; before, nobody else becomes a member.

use std::sync::Arc;
use std::time::Duration;

use highwater_storage::{Part, Succession};
use tracing::warn;

use super::ControllerStart;
use crate::controller::{Command, ControllerLogs};
use crate::controller_client::CONTROLLER_GROUP;
use crate::node::{Error, blocking, status};
use crate::raft::{FoundLog, Origin, ReplicaId};

/// How long a checkpoint may take.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(60);

impl ControllerStart<'_> {
    /// Has the controller begin again with the replica of this broker, where that was decided. Its id.
    pub(in crate::node) async fn begin_again(
        &mut self,
        logs: &mut ControllerLogs,
    ) -> Result<Option<ReplicaId>, Error> {
        let begins = |succession: &Succession| succession.part == Part::Begins;
        let Some(succession) = self.succession.filter(begins) else {
            return Ok(None);
        };
        self.check_id()?;
        if let Some(reason) = logs.damage.take() {
            let data_dir = self.data_dir();
            return Err(Error::ControllerDamaged { data_dir, reason });
        }
        let newest = logs.newest.take();
        let newest = newest.ok_or_else(|| self.unusable("it is not there to begin again with"))?;
        let replica = ReplicaId(newest.log.id().0);
        warn!(
            cluster_id = %succession.cluster,
            last_index = %newest.log.last_index(),
            "the controller begins again with this broker alone, as another cluster: what others acknowledged after its last entry is given up"
        );
        let origin = Origin::Refounded(FoundLog::new(newest));
        self.start_from(replica, origin).await?;
        let failure = status(self.shards, CONTROLLER_GROUP).await?;
        if let Some(failure) = failure.and_then(|status| status.failure) {
            return Err(self.unusable(&failure.reason));
        }
        self.await_leadership().await?;
        let cluster_id = succession.cluster;
        let succeeded = self
            .controller
            .execute_here(Command::Succeed { cluster_id });
        succeeded.await.map_err(Error::Join)?;
        let checkpointed = self.shards.checkpointed();
        let checkpointed = tokio::time::timeout(CHECKPOINT_PATIENCE, checkpointed).await;
        if checkpointed != Ok(true) {
            return Err(
                self.unusable("no checkpoint holds yet that it begins again: start once more")
            );
        }
        self.succeed(succession).await?;
        Ok(Some(replica))
    }

    /// The data directory belongs to the new cluster from here on.
    pub(super) async fn succeed(&self, succession: Succession) -> Result<(), Error> {
        let store = Arc::clone(self.store);
        blocking("writing the identity", move || store.succeed(succession)).await?;
        warn!(cluster_id = %succession.cluster, "the data directory belongs to another cluster now");
        Ok(())
    }
}
