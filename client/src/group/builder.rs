//! Making a member of a consumer group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;

use super::commits::{Asking, Requested};
use super::membership::{Membership, Settings};
use super::task::{Shared, Task};
use super::{Commits, GroupConsumer, Listener, Rebalance};
use crate::cluster::Cluster;
use crate::{ConsumerBuilder, Error, OffsetReset};

/// Makes a [`GroupConsumer`]. Comes from [`ConsumerBuilder::group`].
#[must_use]
pub struct GroupConsumerBuilder {
    consumer: ConsumerBuilder,
    cluster: Arc<Cluster>,
    settings: Settings,
    reset: OffsetReset,
    auto_commit: Option<Duration>,
    listener: Option<Listener>,
}

impl std::fmt::Debug for GroupConsumerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupConsumerBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl GroupConsumerBuilder {
    pub(crate) fn new(
        consumer: ConsumerBuilder,
        cluster: Arc<Cluster>,
        group: &str,
        rack: Option<&str>,
        reset: OffsetReset,
    ) -> Self {
        Self {
            consumer,
            cluster,
            settings: Settings {
                group: group.to_owned(),
                member_id: uuid::Uuid::new_v4().to_string(),
                client_id: env!("CARGO_PKG_NAME").to_owned(),
                rack: rack.unwrap_or_default().to_owned(),
                ..Settings::default()
            },
            reset,
            auto_commit: Some(Duration::from_secs(5)),
            listener: None,
        }
    }

    /// Topics to read. May be called again for more.
    pub fn topics<T: AsRef<str>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        let topics = topics.into_iter().map(|topic| topic.as_ref().to_owned());
        self.settings.topics.extend(topics);
        self
    }

    /// Reads all topics whose whole name matches an expression, also those that come later.
    pub fn topic_regex(mut self, expression: &str) -> Self {
        expression.clone_into(&mut self.settings.topic_regex);
        self
    }

    /// Makes it a static member: another process with this id, at another time, goes on with its partitions.
    pub fn instance_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.settings.instance_id);
        self
    }

    /// The name that `group describe` shows; `highwater-client` unless set.
    pub fn client_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.settings.client_id);
        self
    }

    /// How partitions are shared out: `uniform` or `range`. Unless set, the group decides.
    pub fn assignor(mut self, name: &str) -> Self {
        name.clone_into(&mut self.settings.assignor);
        self
    }

    /// How long the coordinator waits for a sign of life before it gives the partitions to others. The broker's default
    /// unless set.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.settings.session_timeout = timeout;
        self
    }

    /// How long the caller may stay away from [`GroupConsumer::recv`] while partitions are to be given away; the member is
    /// removed then, and all that it had goes to others. The broker's default, a minute, unless set. This is what
    /// `max.poll.interval.ms` is elsewhere, with one difference: as long as nothing is to be given away a handler may take any
    /// time, because heartbeats are sent beside it and say nothing of the caller. A caller that hangs for good thus keeps its
    /// partitions, and their lag grows, until another member comes.
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.settings.rebalance_timeout = timeout;
        self
    }

    /// Commits what was received, this often and before partitions are given away; every five seconds unless set. A record
    /// counts as processed when [`GroupConsumer::recv`] is called after the call that returned it.
    pub fn auto_commit(mut self, interval: Duration) -> Self {
        self.auto_commit = Some(interval);
        self
    }

    /// Commits nothing by itself: see [`GroupConsumer::commit`], and [`GroupConsumerBuilder::on_rebalance`] for what is
    /// revoked.
    pub fn no_auto_commit(mut self) -> Self {
        self.auto_commit = None;
        self
    }

    /// Is told of changes, inside of [`GroupConsumer::recv`] and [`GroupConsumer::close`], and may commit: what it commits of partitions that are revoked is
    /// where their next owner goes on.
    ///
    /// ```no_run
    /// # use std::collections::HashMap;
    /// # use std::sync::{Arc, Mutex};
    /// # use highwater_client::{Client, Error, GroupConsumer, GroupPartition, Offset, Rebalance};
    /// # async fn join(client: &Client) -> Result<GroupConsumer, Error> {
    /// // Offsets behind what was processed; kept by whoever handles the records.
    /// let processed: Arc<Mutex<HashMap<GroupPartition, Offset>>> = Arc::default();
    /// client
    ///     .consumer()
    ///     .group("billing")
    ///     .topics(["orders"])
    ///     .no_auto_commit()
    ///     .on_rebalance(move |rebalance, commits| {
    ///         let mut processed = processed.lock().expect("nobody panicked with it");
    ///         match rebalance {
    ///             Rebalance::Assigned(_) => {}
    ///             Rebalance::Revoked(partitions) => {
    ///                 let offsets = partitions.iter().filter_map(|p| processed.remove_entry(p));
    ///                 let committed = commits.commit(offsets).expect("they are still this member's");
    ///                 tokio::spawn(async move {
    ///                     if let Err(error) = committed.await {
    ///                         eprintln!("the next owner repeats some records: {error}");
    ///                     }
    ///                 });
    ///             }
    ///             Rebalance::Lost(partitions) => processed.retain(|p, _| !partitions.contains(p)),
    ///         }
    ///     })
    ///     .build()
    ///     .await
    /// # }
    /// ```
    pub fn on_rebalance(
        mut self,
        listener: impl FnMut(&Rebalance, &mut Commits<'_>) + Send + 'static,
    ) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Makes the consumer and begins to join. Must be called inside a Tokio runtime, on which it runs.
    ///
    /// # Errors
    /// [`Error::Config`] where no topic is named.
    pub async fn build(self) -> Result<GroupConsumer, Error> {
        if self.settings.topics.is_empty() && self.settings.topic_regex.is_empty() {
            return Err(Error::config(
                "topics",
                "name at least one, or an expression",
            ));
        }
        let consumer = self.consumer.build().await?;
        let shared = Arc::new(Shared::new(Membership::new(self.settings)));
        let task = Task {
            shared: Arc::clone(&shared),
            cluster: Arc::clone(&self.cluster),
            reset: self.reset,
        };
        Ok(GroupConsumer {
            consumer,
            cluster: self.cluster,
            shared,
            owned: BTreeMap::new(),
            auto_commit: self.auto_commit,
            committed_at: Instant::now(),
            listener: self.listener,
            committing: None,
            asking: Asking::default(),
            requested: Requested::default(),
            leaving: Vec::new(),
            departing: Vec::new(),
            _task: AbortOnDropHandle::new(tokio::spawn(task.run())),
        })
    }
}
