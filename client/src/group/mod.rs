//! Reading topics together with the other members of a consumer group.

mod builder;
mod by_key;
mod commit;
mod commits;
mod membership;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use highwater_proto::Offset;
use tokio_util::task::AbortOnDropHandle;

pub use self::builder::GroupConsumerBuilder;
pub use self::by_key::GroupByKey;
use self::commits::{Asking, Requested};
pub use self::commits::{Commits, Committed};
use self::membership::{Key, Owned};
use self::task::{Event, Shared};
use crate::cluster::{Cluster, Repeat};
use crate::offsets;
use crate::{ConsumedRecord, Consumer, Error, Start};

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
    /// The member is about to give these away, or is closed. What was received of them is committed right after, where the consumer commits
    /// by itself, and what the listener commits, in any case; nobody else reads them before. A member that was removed and has not heard
    /// of it yet is told that they are [`Rebalance::Lost`] too, once that commit is refused.
    Revoked(Vec<GroupPartition>),
    /// The member was removed from its group, and others may read these by now. What was received and not committed is read
    /// again by them.
    Lost(Vec<GroupPartition>),
}

/// Offsets behind what was processed.
type Offsets = Vec<(Owned, Offset)>;
type Listener = Box<dyn FnMut(&Rebalance, &mut Commits<'_>) + Send>;

/// What is known of an owned partition.
#[derive(Clone, Debug)]
struct Progress {
    owned: Owned,
    /// The offset committed last, by this member or before it.
    committed: Option<Offset>,
    /// The start is not where others would begin without a commit: it is committed even where nothing was received since.
    is_chosen: bool,
}

/// What there is to do for a member.
#[derive(Debug)]
enum Turn {
    /// A record to process.
    Received(ConsumedRecord),
    /// The time for the next commit has come.
    CommitIsDue,
    /// A commit has ended.
    CommitEnded,
    /// These are to be given away. They are paused, and the listener was told.
    Revoked(Vec<Owned>),
    /// These are not this member's any more.
    Lost(Vec<Owned>),
}

/// Reads its share of the topics of a consumer group: each partition has one reader in the group, and goes on where the group
/// committed last.
///
/// Heartbeats are sent in the background, so that the handling of a record may take any time. Partitions come and go inside of
/// [`GroupConsumer::recv`], so they never do while a record is being handled; how long the group waits for that is
/// [`GroupConsumerBuilder::rebalance_timeout`]. What comes, goes, or goes to others does not stop the reading of the rest.
///
/// Delivery is at least once: what was received and not committed when a member dies or is removed is read again by others,
/// from the committed offset on. [`GroupConsumer::process_by_key`] processes many records at a time.
///
/// What is fetched ahead is bounded by [`crate::ConsumerBuilder::buffer_bytes`] in total, and by
/// [`crate::ConsumerBuilder::partition_buffer_bytes`] for each partition; a slow handler makes brokers wait, and fills no memory.
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
    /// The commit under way: one at a time, since two could arrive in the other order.
    committing: Option<AbortOnDropHandle<Result<Offsets, Error>>>,
    /// Who in the listener asked for it.
    asking: Asking,
    /// What the listener wants committed next.
    requested: Requested,
    /// What is to be given away, and is read no longer: others wait for it.
    leaving: Vec<Owned>,
    /// What is given away when the commit under way has ended.
    departing: Vec<Owned>,
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
        loop {
            // The caller is done with all that it was given.
            self.depart(|_| true, all_received);
            match self.turn(|_, _| true).await? {
                Turn::Received(record) => return Ok(record),
                Turn::CommitIsDue => self.commit_async(),
                Turn::CommitEnded | Turn::Revoked(_) | Turn::Lost(_) => {}
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
    /// majority. Dropping the future does not undo it.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` or `FENCED_MEMBER_EPOCH` when the member was removed: others read on from the last commit.
    pub async fn commit(&mut self) -> Result<(), Error> {
        self.commit_below(all_received).await
    }

    /// The same in the background. One that fails is made up for by the next.
    pub fn commit_async(&mut self) {
        self.commit_async_below(all_received);
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
        self.consumer.seek(topic, partition, start)?;
        let mut owned = self.owned.values_mut();
        let sought = owned.find(|progress| progress.owned.is(topic, partition));
        sought
            .into_iter()
            .for_each(|progress| progress.is_chosen = true);
        Ok(())
    }

    /// Stops reading a partition until [`GroupConsumer::resume`]. It stays this member's.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<(), Error> {
        self.consumer.pause(topic, partition)?;
        self.shared.membership().pause(topic, partition, true);
        Ok(())
    }

    /// Reads a paused partition again.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<(), Error> {
        self.consumer.resume(topic, partition)?;
        self.shared.membership().pause(topic, partition, false);
        Ok(())
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

    /// Tells the listener that all partitions are revoked, commits what it asks for and, where the consumer commits by itself, what
    /// was received, and leaves the group, so that others go on at once. A static member leaves for a while. Of a member that was
    /// removed the listener is told that they are lost.
    ///
    /// # Errors
    /// The commit failed. The group is left in any case, as far as the coordinator can be reached.
    pub async fn close(mut self) -> Result<(), Error> {
        let committed = self.give_up_all().await;
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

    /// Tells the listener, and commits a last time.
    async fn give_up_all(&mut self) -> Result<(), Error> {
        if let Err(error) = self.settle().await {
            tracing::debug!(%error, "an earlier commit failed");
        }
        // What others may read by now is not revoked, and what the listener was never told of is not taken.
        while let Some(event) = self.shared.next_event() {
            if matches!(event, Event::Leaving(_) | Event::Lost(_)) {
                self.handle(event)?;
            }
        }
        let owned = self.owned.values().map(|progress| &progress.owned);
        let is_told =
            |owned: &Owned| self.leaving.contains(owned) || self.departing.contains(owned);
        let untold = owned.filter(|owned| !is_told(owned));
        let untold: Vec<_> = untold.map(GroupPartition::from).collect();
        if !untold.is_empty() {
            self.tell(&Rebalance::Revoked(untold));
        }
        self.start_last_commit(|_| true, all_received);
        self.settle().await
    }

    /// Whether the partition is this member's, or still is.
    fn owns(&self, topic: &str, partition: u32) -> bool {
        let mut owned = self.owned.values();
        owned.any(|progress| progress.owned.is(topic, partition))
    }

    /// Waits for something to do; `wants` says of which partitions records are. Dropping the future loses nothing.
    async fn turn(&mut self, wants: impl Fn(&Arc<str>, u32) -> bool) -> Result<Turn, Error> {
        loop {
            if let Some(event) = self.shared.next_event() {
                if let Some(turn) = self.handle(event)? {
                    return Ok(turn);
                }
                continue;
            }
            let due = self.next_commit();
            if due.is_some_and(|due| due <= Instant::now()) {
                return Ok(Turn::CommitIsDue);
            }
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                biased;
                () = shared.news.notified() => {}
                ended = ended(&mut self.committing) => {
                    if let Err(error) = self.note(ended) {
                        tracing::debug!(%error, "a commit failed");
                    }
                    return Ok(Turn::CommitEnded);
                }
                record = self.consumer.recv_of(&wants) => return record.map(Turn::Received),
                () = sleep_until(due) => return Ok(Turn::CommitIsDue),
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<Option<Turn>, Error> {
        match event {
            Event::Taken(taken) => {
                self.take(taken);
                Ok(None)
            }
            Event::Leaving(leaving) => {
                let named = leaving.iter().map(GroupPartition::from).collect();
                self.tell(&Rebalance::Revoked(named));
                for owned in &leaving {
                    self.consumer.stop(&owned.topic, owned.partition);
                }
                self.leaving.extend(leaving.iter().cloned());
                Ok(Some(Turn::Revoked(leaving)))
            }
            Event::Lost(lost) => {
                self.leaving.clear();
                self.departing.clear();
                self.release(&lost);
                let removed = Err(commit::removed());
                self.requested.take().1.answer(&removed);
                if !lost.is_empty() {
                    let named = lost.iter().map(GroupPartition::from).collect();
                    self.tell(&Rebalance::Lost(named));
                }
                Ok(Some(Turn::Lost(lost)))
            }
            Event::Failed(error) => Err(error),
        }
    }

    /// Reads these beside what is read.
    fn take(&mut self, taken: Vec<(Owned, Start)>) {
        let mut assigned = Vec::new();
        for (owned, start) in taken {
            // It may have been lost, or asked back, meanwhile.
            if !self.shared.membership().keeps(owned.key()) {
                continue;
            }
            self.consumer
                .add(&owned.topic, owned.topic_id, owned.partition, start);
            assigned.push(GroupPartition::from(&owned));
            let (committed, is_chosen) = match start {
                Start::Offset(offset) => (Some(offset), false),
                Start::Earliest => (None, false),
                Start::Latest | Start::Timestamp(_) => (None, true),
            };
            let progress = Progress {
                owned,
                committed,
                is_chosen,
            };
            self.owned.insert(progress.owned.key(), progress);
        }
        self.tell(&Rebalance::Assigned(assigned));
    }

    /// Gives away what is to be given away and `is_done` with, behind a last commit of what the listener asked for, and of what was
    /// received where the consumer commits by itself. For that it waits in the background.
    fn depart(
        &mut self,
        is_done: impl Fn(&Owned) -> bool,
        unfinished: impl Fn(&Owned) -> Option<Offset>,
    ) {
        let has_something = !(self.leaving.is_empty() && self.requested.is_empty());
        // What departs though nothing is being committed is about to be told to be lost, and all else with it.
        let is_waiting = self.committing.is_some() || !self.departing.is_empty();
        if !has_something || is_waiting {
            return;
        }
        let departing: Vec<_> = self
            .leaving
            .extract_if(.., |owned| is_done(owned))
            .collect();
        let has_begun = self.start_last_commit(|owned| departing.contains(owned), unfinished);
        self.departing = departing;
        if !has_begun {
            self.part();
        }
    }

    /// Begins to commit what the listener asked for and, where the consumer commits by itself, what was received of partitions that
    /// go. Whether there is something to commit.
    fn start_last_commit(
        &mut self,
        goes: impl Fn(&Owned) -> bool,
        unfinished: impl Fn(&Owned) -> Option<Offset>,
    ) -> bool {
        let (mut offsets, asking) = self.requested.take();
        if self.auto_commit.is_some() {
            let mut received = self.uncommitted(unfinished);
            // The listener knows better.
            let is_named = |owned: &Owned| offsets.iter().any(|(named, _)| named == owned);
            received.retain(|(owned, _)| goes(owned) && !is_named(owned));
            offsets.extend(received);
        }
        self.asking = asking;
        if offsets.is_empty() {
            self.asking.answer(&Ok(()));
            return false;
        }
        self.start_commit(offsets);
        true
    }

    /// Lets go of what is departing.
    fn part(&mut self) {
        let departing = std::mem::take(&mut self.departing);
        if departing.is_empty() {
            return;
        }
        self.release(&departing);
        self.shared.membership().let_go(&departing);
        self.shared.wants_heartbeat.notify_one();
    }

    fn release(&mut self, partitions: &[Owned]) {
        for owned in partitions {
            self.consumer.release(&owned.topic, owned.partition);
            self.owned.remove(&owned.key());
        }
    }

    fn tell(&mut self, rebalance: &Rebalance) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        let mut commits = Commits {
            consumer: &self.consumer,
            owned: &self.owned,
            requested: &mut self.requested,
        };
        listener(rebalance, &mut commits);
    }

    /// When to commit next: not while a commit is under way.
    fn next_commit(&self) -> Option<Instant> {
        let interval = self.auto_commit.filter(|_| self.committing.is_none())?;
        Some(self.committed_at + interval)
    }

    /// Commits what was received, or of a partition that has unfinished records what is below the first of them.
    async fn commit_below(
        &mut self,
        unfinished: impl Fn(&Owned) -> Option<Offset>,
    ) -> Result<(), Error> {
        if let Err(error) = self.settle().await {
            tracing::debug!(%error, "an earlier commit failed");
        }
        let offsets = self.uncommitted(unfinished);
        self.start_commit(offsets);
        self.settle().await
    }

    /// The same in the background, unless a commit is under way.
    fn commit_async_below(&mut self, unfinished: impl Fn(&Owned) -> Option<Offset>) {
        if self.committing.is_none() {
            let offsets = self.uncommitted(unfinished);
            self.start_commit(offsets);
        }
    }

    fn start_commit(&mut self, offsets: Offsets) {
        self.committed_at = Instant::now();
        if offsets.is_empty() {
            return;
        }
        let (cluster, shared) = (Arc::clone(&self.cluster), Arc::clone(&self.shared));
        let committing = async move {
            commit::commit(&cluster, &shared, &offsets).await?;
            Ok(offsets)
        };
        self.committing = Some(AbortOnDropHandle::new(tokio::spawn(committing)));
    }

    /// Waits for the commit under way to end, if there is one.
    async fn settle(&mut self) -> Result<(), Error> {
        if self.committing.is_none() {
            return Ok(());
        }
        let ended = ended(&mut self.committing).await;
        self.note(ended)
    }

    /// The commit under way has ended.
    fn note(&mut self, ended: Result<Offsets, Error>) -> Result<(), Error> {
        self.committing = None;
        let result = ended.map(|offsets| self.note_committed(&offsets));
        self.asking.answer(&result);
        if let Err(error) = &result {
            if membership::is_removal(error.reason()) {
                // What departs is not given away but lost: the next heartbeat says so, and is sent at once.
                self.shared.wants_heartbeat.notify_one();
                return result;
            }
            if !self.departing.is_empty() {
                tracing::warn!(%error, "what was received last could not be committed before it is given away: it is read again");
            }
        }
        self.part();
        result
    }

    /// Offsets behind what was received, or of the first unfinished record, where they are not committed yet.
    fn uncommitted(&self, unfinished: impl Fn(&Owned) -> Option<Offset>) -> Offsets {
        let mut offsets = Vec::new();
        for progress in self.owned.values() {
            let owned = &progress.owned;
            let (topic, partition) = (&owned.topic, owned.partition);
            let is_told = progress.committed.is_some()
                || progress.is_chosen
                || self.consumer.has_received(topic, partition);
            let position = match unfinished(owned) {
                Some(first) => Some(first),
                None => self.consumer.position(topic, partition),
            };
            if let Some(position) =
                position.filter(|position| is_told && progress.committed != Some(*position))
            {
                offsets.push((owned.clone(), position));
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

/// Nothing that was received is unfinished.
fn all_received(_: &Owned) -> Option<Offset> {
    None
}

/// Waits for the commit under way; for ever where there is none.
async fn ended(
    committing: &mut Option<AbortOnDropHandle<Result<Offsets, Error>>>,
) -> Result<Offsets, Error> {
    match committing {
        // It is cancelled only when the runtime ends.
        Some(committing) => committing.await.unwrap_or(Err(Error::Closed)),
        None => std::future::pending().await,
    }
}
