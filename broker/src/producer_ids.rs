//! Producer ids, given out from blocks that the controller grants. What is left of a block at a stop is never used.

use highwater_proto::{ApiError, BrokerId, ProducerId};
use tokio::sync::Mutex;

use crate::controller::{Command, Response};
use crate::controller_client::{ControllerClient, unexpected};

/// Gives each producer an id of its own.
pub(crate) struct ProducerIds {
    controller: ControllerClient,
    broker: BrokerId,
    /// Held while a block is fetched: who comes meanwhile waits for the same block.
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    pub(crate) fn new(controller: ControllerClient, broker: BrokerId) -> Self {
        Self {
            controller,
            broker,
            block: Mutex::new(0..0),
        }
    }

    /// An id that was never given before.
    ///
    /// # Errors
    /// What the controller refuses, when a new block is needed.
    pub(crate) async fn next(&self) -> Result<ProducerId, ApiError> {
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(ProducerId(id));
        }
        let broker = self.broker;
        let granted = self
            .controller
            .ask(Command::GrantProducerIds { broker })
            .await?;
        let Response::ProducerIds { first, count } = granted else {
            return Err(unexpected());
        };
        *block = first.0..first.0.saturating_add(i64::from(count));
        block.next().map(ProducerId).ok_or_else(unexpected)
    }
}
