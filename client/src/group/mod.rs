//! Reading topics together with the other members of a consumer group.

mod membership;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, Stream};
use highwater_proto::{ApiError, Offset, Reason, v1};
use tokio_util::task::AbortOnDropHandle;
use v1::groups_service_client::GroupsServiceClient;

use self::membership::{Key, Membership, Owned, Settings};
use self::task::{Event, Shared, Task, named};
use crate::cluster::{Cluster, Repeat};
use crate::offsets;
use crate::{ConsumedRecord, Consumer, ConsumerBuilder, Error, OffsetReset, Start};

/// How long leaving may take when a consumer is closed.
const FAREWELL_TIME: Duration = Duration::from_secs(5);

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupPartition {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
}

impl From<&Owned> for GroupPartition {
    fn from(owned: &Owned) -> Self {
        Self {
            topic: Arc::clone(&owned.topic),
            partition: owned.partition,
        }
    }
}

/// What happens to the partitions of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// The member reads these from now on, beside what it had.
    Assigned(Vec<GroupPartition>),
    /// The member is about to give these away. What was received of them is committed right after, where the consumer commits
    /// by itself; nobody else reads them before.
    Revoked(Vec<GroupPartition>),
    /// The member was removed from its group, and others may read these by now. What was received and not committed is read
    /// again by them.
    Lost(Vec<GroupPartition>),
}

/// Offsets behind what was received.
type Offsets = Vec<(Owned, Offset)>;
type Listener = Box<dyn FnMut(&Rebalance) + Send>;

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
    /// removed then. The broker's default, a minute, unless set. This is what `max.poll.interval.ms` is elsewhere, with one
    /// difference: as long as nothing is to be given away a handler may take any time, because heartbeats are sent beside it.
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

    /// Commits nothing by itself: see [`GroupConsumer::commit`].
    pub fn no_auto_commit(mut self) -> Self {
        self.auto_commit = None;
        self
    }

    /// Is told of changes, inside of [`GroupConsumer::recv`].
    pub fn on_rebalance(mut self, listener: impl FnMut(&Rebalance) + Send + 'static) -> Self {
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
            leaving: Vec::new(),
            _task: AbortOnDropHandle::new(tokio::spawn(task.run())),
        })
    }
}

/// What is known of an owned partition.
#[derive(Clone, Debug)]
struct Progress {
    owned: Owned,
    /// The offset committed last by this member.
    committed: Option<Offset>,
}

/// Reads its share of the topics of a consumer group: each partition has one reader in the group, and goes on where the group
/// committed last.
///
/// Heartbeats are sent in the background. Partitions come and go inside of [`GroupConsumer::recv`], so they never do
/// while a record is being handled. What others of the group are given or lose does not stop the reading of the rest.
///
/// Delivery is at least once: what was received and not committed when a member dies or is removed is read again by others.
///
/// [`GroupConsumer::close`] leaves at once; a consumer that is dropped is missed when its session ends.
pub struct GroupConsumer {
    consumer: Consumer,
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    owned: BTreeMap<Key, Progress>,
    auto_commit: Option<Duration>,
    committed_at: Instant,
    listener: Option<Listener>,
    /// A commit in the background.
    committing: Option<AbortOnDropHandle<Option<Offsets>>>,
    /// What is being given away: others wait for it.
    leaving: Vec<Owned>,
    _task: AbortOnDropHandle<()>,
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupConsumer").finish_non_exhaustive()
    }
}

impl GroupConsumer {
    /// Waits for the next record. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Consumer::recv`]; why the member cannot go on, after which it is none any more.
    pub async fn recv(&mut self) -> Result<ConsumedRecord, Error> {
        self.commit_if_due();
        loop {
            self.give_away().await;
            if let Some(event) = self.shared.next_event() {
                self.handle(event)?;
                continue;
            }
            let shared = Arc::clone(&self.shared);
            let due = self.next_commit();
            tokio::select! {
                biased;
                () = shared.news.notified() => {}
                record = self.consumer.recv() => return record,
                () = sleep_until(due) => self.commit_if_due(),
            }
        }
    }

    /// The records as a stream. It ends with the first failure that ends the membership.
    pub fn stream(&mut self) -> impl Stream<Item = Result<ConsumedRecord, Error>> + '_ {
        futures::stream::unfold(self, |consumer| async move {
            let record = consumer.recv().await;
            Some((record, consumer))
        })
    }

    /// Commits what was received of all partitions: the offset behind the last record each. Returns when it is durable on a
    /// majority.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` or `FENCED_MEMBER_EPOCH` when the member was removed: others read on from the last commit.
    pub async fn commit(&mut self) -> Result<(), Error> {
        // Two at a time could arrive in the other order.
        if let Some(committing) = &mut self.committing {
            let committed = committing.await.ok().flatten();
            self.committing = None;
            self.note_committed(&committed.unwrap_or_default());
        }
        let offsets = self.uncommitted();
        commit(&self.cluster, &self.shared, &offsets).await?;
        self.note_committed(&offsets);
        Ok(())
    }

    /// The same in the background. One that fails is made up for by the next.
    pub fn commit_async(&mut self) {
        if let Some(committing) = &mut self.committing {
            let Some(ended) = committing.now_or_never() else {
                return;
            };
            self.committing = None;
            self.note_committed(&ended.ok().flatten().unwrap_or_default());
        }
        let offsets = self.uncommitted();
        self.committed_at = Instant::now();
        if offsets.is_empty() {
            return;
        }
        let (cluster, shared) = (Arc::clone(&self.cluster), Arc::clone(&self.shared));
        let committing = async move {
            match commit(&cluster, &shared, &offsets).await {
                Ok(()) => Some(offsets),
                Err(error) => {
                    tracing::debug!(%error, "a commit failed");
                    None
                }
            }
        };
        self.committing = Some(AbortOnDropHandle::new(tokio::spawn(committing)));
    }

    /// The partitions that are read at the moment.
    #[must_use]
    pub fn assignment(&self) -> BTreeSet<GroupPartition> {
        self.owned
            .values()
            .map(|progress| GroupPartition::from(&progress.owned))
            .collect()
    }

    /// The offset of the next record to receive; see [`Consumer::position`].
    #[must_use]
    pub fn position(&self, topic: &str, partition: u32) -> Option<Offset> {
        self.consumer.position(topic, partition)
    }

    /// Reads a partition from elsewhere; the next commit says so.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn seek(&mut self, topic: &str, partition: u32, start: Start) -> Result<(), Error> {
        self.consumer.seek(topic, partition, start)
    }

    /// Stops reading a partition until [`GroupConsumer::resume`]. It stays this member's.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<(), Error> {
        self.consumer.pause(topic, partition)
    }

    /// Reads a paused partition again.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<(), Error> {
        self.consumer.resume(topic, partition)
    }

    /// How many records of each partition are still to be received.
    ///
    /// # Errors
    /// A partition's leader cannot be reached.
    pub async fn lag(&self) -> Result<BTreeMap<GroupPartition, u64>, Error> {
        let mut lags = BTreeMap::new();
        for progress in self.owned.values() {
            let (topic, partition) = (&progress.owned.topic, progress.owned.partition);
            let Some(position) = self.consumer.position(topic, partition) else {
                continue;
            };
            let end = offsets::find(&self.cluster, topic, partition, Start::Latest).await?;
            let lag = end.offset.0.saturating_sub(position.0);
            lags.insert(GroupPartition::from(&progress.owned), lag);
        }
        Ok(lags)
    }

    /// Commits, where the consumer commits by itself, and leaves the group, so that others go on at once. A static member
    /// leaves for a while.
    ///
    /// # Errors
    /// The commit failed. The group is left in any case, as far as the coordinator can be reached.
    pub async fn close(mut self) -> Result<(), Error> {
        let committed = match self.auto_commit {
            Some(_) => self.commit().await,
            None => Ok(()),
        };
        let (farewell, group, has_joined) = {
            let membership = self.shared.membership();
            (
                membership.farewell(),
                membership.group().to_owned(),
                membership.has_joined(),
            )
        };
        // No heartbeat may follow.
        drop(self._task);
        if has_joined {
            let left =
                self.cluster
                    .ask_coordinator(&group, Repeat::Safe, FAREWELL_TIME, |channel| {
                        task::send(channel, farewell.clone(), FAREWELL_TIME)
                    });
            if let Err(error) = left.await {
                tracing::debug!(%error, "the group hears of the member's end when its session ends");
            }
        }
        committed
    }

    fn handle(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Taken(taken) => {
                let mut assigned = Vec::new();
                for (owned, start) in taken {
                    // It may have been lost, or asked back, meanwhile.
                    if !self.shared.membership().keeps(owned.key()) {
                        continue;
                    }
                    self.consumer
                        .add(&owned.topic, owned.topic_id, owned.partition, start);
                    assigned.push(GroupPartition::from(&owned));
                    let committed = match start {
                        Start::Offset(offset) => Some(offset),
                        _ => None,
                    };
                    self.owned
                        .insert(owned.key(), Progress { owned, committed });
                }
                self.tell(&Rebalance::Assigned(assigned));
            }
            Event::Leaving(leaving) => {
                let named = leaving.iter().map(GroupPartition::from).collect();
                self.tell(&Rebalance::Revoked(named));
                self.leaving = leaving;
            }
            Event::Lost(lost) => {
                self.release(&lost);
                if !lost.is_empty() {
                    let named = lost.iter().map(GroupPartition::from).collect();
                    self.tell(&Rebalance::Lost(named));
                }
            }
            Event::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Commits what is being given away and lets it go. Dropping the future leaves that to the next call.
    async fn give_away(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        if self.auto_commit.is_some()
            && let Err(error) = self.commit().await
        {
            tracing::warn!(%error, "what was received last could not be committed before it is given away: it is read again");
        }
        let leaving = std::mem::take(&mut self.leaving);
        self.release(&leaving);
        self.shared.membership().let_go(&leaving);
        self.shared.has_let_go.notify_one();
    }

    fn release(&mut self, partitions: &[Owned]) {
        for owned in partitions {
            self.consumer.release(&owned.topic, owned.partition);
            self.owned.remove(&owned.key());
        }
    }

    fn tell(&mut self, rebalance: &Rebalance) {
        if let Some(listener) = &mut self.listener {
            listener(rebalance);
        }
    }

    fn commit_if_due(&mut self) {
        if self.next_commit().is_some_and(|due| due <= Instant::now()) {
            self.commit_async();
        }
    }

    fn next_commit(&self) -> Option<Instant> {
        self.auto_commit
            .map(|interval| self.committed_at + interval)
    }

    /// Offsets behind what was received, where they are not committed yet.
    fn uncommitted(&self) -> Offsets {
        let mut offsets = Vec::new();
        for progress in self.owned.values() {
            let (topic, partition) = (&progress.owned.topic, progress.owned.partition);
            let position = self.consumer.received(topic, partition);
            if let Some(position) =
                position.filter(|position| progress.committed != Some(*position))
            {
                offsets.push((progress.owned.clone(), position));
            }
        }
        offsets
    }

    fn note_committed(&mut self, offsets: &[(Owned, Offset)]) {
        for (owned, offset) in offsets {
            if let Some(progress) = self.owned.get_mut(&owned.key()) {
                progress.committed = Some(*offset);
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Commits as the member in its newest epoch.
async fn commit(
    cluster: &Cluster,
    shared: &Shared,
    offsets: &[(Owned, Offset)],
) -> Result<(), Error> {
    if offsets.is_empty() {
        return Ok(());
    }
    let (group, identity) = {
        let membership = shared.membership();
        (membership.group().to_owned(), membership.identity())
    };
    let Some((member_id, member_epoch)) = identity else {
        let problem = "the member was removed from its group";
        return Err(Error::Api(ApiError::new(Reason::UnknownMemberId, problem)));
    };
    let to_commit = |(owned, offset): &(Owned, Offset)| v1::OffsetToCommit {
        partition: Some(named(owned)),
        offset: offset.0,
        leader_epoch: None,
        metadata: String::new(),
    };
    let request = v1::CommitOffsetsRequest {
        group_id: group.clone(),
        member_id,
        member_epoch,
        offsets: offsets.iter().map(to_commit).collect(),
    };
    let time = cluster.settings.request_timeout;
    let asked = cluster.ask_coordinator(&group, Repeat::Safe, time, |channel| {
        let request = cluster.request(request.clone());
        async move {
            let answer = GroupsServiceClient::new(channel)
                .commit_offsets(request)
                .await;
            Ok(answer.map_err(ApiError::from)?.into_inner())
        }
    });
    let results = asked.await?.results.into_iter().zip(offsets);
    for (result, (owned, _)) in results {
        if let Some(error) = result.error {
            return Err(Error::Partition {
                topic: Arc::clone(&owned.topic),
                partition: owned.partition,
                source: error.into(),
            });
        }
    }
    Ok(())
}
