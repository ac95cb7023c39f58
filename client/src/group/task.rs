//! The task behind a member: it sends heartbeats, whatever the consumer's caller does meanwhile, and tells the consumer
//! what came of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use highwater_proto::{ApiError, Offset, Reason, v1};
use tokio::sync::Notify;
use v1::groups_service_client::GroupsServiceClient;

use super::membership::{Membership, News, Owned, Setback};
use crate::cluster::{Cluster, MAX_RESPONSE_BYTES, Repeat};
use crate::{Error, OffsetReset, Start};

/// Time for an answer beside what the coordinator may wait.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// A heartbeat that takes longer than what is left of the session has at least this long.
const SHORTEST_TIME: Duration = Duration::from_millis(100);

/// Something for the consumer to do.
#[derive(Debug)]
pub(super) enum Event {
    /// Read these, from there.
    Taken(Vec<(Owned, Start)>),
    /// Commit, stop reading these, and say so.
    Leaving(Vec<Owned>),
    /// Stop reading these at once: others may read them.
    Lost(Vec<Owned>),
    /// It cannot go on as a member.
    Failed(Error),
}

/// What the consumer and its task share.
pub(super) struct Shared {
    membership: Mutex<Membership>,
    events: Mutex<VecDeque<Event>>,
    /// There is an event.
    pub(super) news: Notify,
    /// The next heartbeat is not to wait: the member has let something go, or is told that it is none.
    pub(super) wants_heartbeat: Notify,
}

impl Shared {
    pub(super) fn new(membership: Membership) -> Self {
        Self {
            membership: Mutex::new(membership),
            events: Mutex::default(),
            news: Notify::new(),
            wants_heartbeat: Notify::new(),
        }
    }

    pub(super) fn membership(&self) -> MutexGuard<'_, Membership> {
        // Each of its methods leaves it whole.
        self.membership
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_event(&self) -> Option<Event> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    fn tell(&self, event: Event) {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(event);
        self.news.notify_one();
    }
}

/// See the module.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) reset: OffsetReset,
}

impl Task {
    /// Runs until it is dropped with the consumer, or the member cannot go on.
    pub(super) async fn run(self) {
        let mut heard_at = Instant::now();
        let mut failures = 0;
        loop {
            let asked_at = Instant::now();
            let outcome = tokio::select! {
                outcome = self.beat(heard_at) => outcome,
                // The coordinator has news to hear, or to tell, before it is done waiting.
                () = self.shared.wants_heartbeat.notified() => continue,
            };
            match outcome.and_then(|answer| not_outdated(asked_at, answer)) {
                Ok(answer) => {
                    heard_at = asked_at;
                    failures = 0;
                    let news = self.shared.membership().answered(answer);
                    let is_news = news != News::default();
                    if let Err(error) = self.follow(news).await {
                        let lost = self.shared.membership().give_up();
                        self.shared.tell(Event::Lost(lost));
                        if !error.is_retriable() {
                            self.shared.tell(Event::Failed(error));
                            return;
                        }
                        // It joins again, and asks again where to begin.
                        tracing::debug!(%error, "committed offsets could not be read");
                    }
                    if !is_news {
                        self.pause(asked_at).await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    if self.set_back(&error, heard_at) {
                        return;
                    }
                    let backoff = self.cluster.settings.backoff;
                    let wait = backoff.wait_after(&error, failures, rand::random());
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// One heartbeat. It takes no longer than until the member, heard last then, must take itself for removed.
    async fn beat(&self, heard_at: Instant) -> Result<v1::HeartbeatResponse, ApiError> {
        let (request, group, session) = {
            let membership = self.shared.membership();
            let has_joined = membership.has_joined();
            (
                membership.request(),
                membership.group().to_owned(),
                has_joined.then(|| membership.session()),
            )
        };
        let wait = Duration::from_millis(u64::from(request.max_wait_ms));
        // Who joins has no session to lose.
        let limit = session.map_or(ANSWER_TIME, |session| {
            session
                .saturating_sub(heard_at.elapsed())
                .max(SHORTEST_TIME)
        });
        let time = (wait + ANSWER_TIME).min(limit);
        let asked = self
            .cluster
            .ask_coordinator(&group, Repeat::Safe, time, |channel| {
                send(channel, request.clone(), time)
            });
        asked.await.map_err(|error| match error {
            Error::Api(error) => error,
            error => ApiError::new(error.reason(), error.to_string()),
        })
    }

    /// What a failure means. Whether it is the end.
    fn set_back(&self, error: &ApiError, heard_at: Instant) -> bool {
        let mut membership = self.shared.membership();
        let is_silent_for_too_long =
            membership.has_joined() && heard_at.elapsed() >= membership.session();
        let setback = match membership.failed(error) {
            Setback::Passing if is_silent_for_too_long => Setback::Fenced {
                lost: membership.give_up(),
            },
            setback => setback,
        };
        drop(membership);
        match setback {
            Setback::Passing => false,
            Setback::Fenced { lost } => {
                tracing::debug!(%error, "the member was removed from its group and joins again");
                self.shared.tell(Event::Lost(lost));
                false
            }
            Setback::Final => {
                let lost = self.shared.membership().give_up();
                self.shared.tell(Event::Lost(lost));
                self.shared.tell(Event::Failed(Error::Api(error.clone())));
                true
            }
        }
    }

    /// Tells the consumer what to do about an answer.
    async fn follow(&self, news: News) -> Result<(), Error> {
        if !news.leaving.is_empty() {
            self.shared.tell(Event::Leaving(news.leaving));
        }
        if news.taken.is_empty() {
            return Ok(());
        }
        let starts = committed(&self.cluster, &self.shared, &news.taken).await?;
        let mut taken = Vec::with_capacity(starts.len());
        for (owned, committed) in news.taken.into_iter().zip(starts) {
            let start = match (committed, self.reset) {
                (Some(offset), _) => Start::Offset(Offset(offset)),
                (None, OffsetReset::Earliest) => Start::Earliest,
                (None, OffsetReset::Latest) => Start::Latest,
                (None, OffsetReset::Ago(age)) => Start::Timestamp(milliseconds_ago(age)),
                (None, OffsetReset::Timestamp(timestamp_ms)) => Start::Timestamp(timestamp_ms),
                (None, OffsetReset::Fail) => {
                    let problem = "nothing is committed there and offset_reset says to fail";
                    return Err(Error::Partition {
                        topic: owned.topic,
                        partition: owned.partition,
                        source: ApiError::new(Reason::OffsetOutOfRange, problem),
                    });
                }
            };
            taken.push((owned, start));
        }
        self.shared.tell(Event::Taken(taken));
        Ok(())
    }

    /// Waits until the next heartbeat is due, where the coordinator did not wait for it.
    async fn pause(&self, asked_at: Instant) {
        let (interval, is_leaving_some) = {
            let membership = self.shared.membership();
            (membership.interval(), membership.is_leaving_some())
        };
        let spent = asked_at.elapsed();
        // A coordinator that waited gives the next one at once.
        if spent >= interval / 2 && !is_leaving_some {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(interval.saturating_sub(spent)) => {}
            () = self.shared.wants_heartbeat.notified() => {}
        }
    }
}

/// Refuses an answer that a process takes up so late that the member may have been removed since: it was frozen meanwhile.
fn not_outdated(
    asked_at: Instant,
    answer: v1::HeartbeatResponse,
) -> Result<v1::HeartbeatResponse, ApiError> {
    let session = Duration::from_millis(u64::from(answer.session_timeout_ms));
    if asked_at.elapsed() < session {
        return Ok(answer);
    }
    let problem = "the answer to a heartbeat was taken up after the member's session";
    Err(ApiError::new(Reason::RequestTimedOut, problem))
}

/// Sends a heartbeat to one broker.
pub(super) async fn send(
    channel: tonic::transport::Channel,
    request: v1::HeartbeatRequest,
    time: Duration,
) -> Result<v1::HeartbeatResponse, ApiError> {
    let mut request = tonic::Request::new(request);
    request.set_timeout(time);
    let answer = GroupsServiceClient::new(channel).heartbeat(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(ApiError::from)
}

/// The time so long ago, in milliseconds since 1970; 1970 at the earliest.
fn milliseconds_ago(age: Duration) -> i64 {
    let time = SystemTime::now().checked_sub(age);
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// The committed offsets of these partitions.
async fn committed(
    cluster: &Cluster,
    shared: &Shared,
    partitions: &[Owned],
) -> Result<Vec<Option<u64>>, Error> {
    let group = shared.membership().group().to_owned();
    let request = v1::FetchOffsetsRequest {
        group_id: group.clone(),
        partitions: partitions.iter().map(named).collect(),
        ..Default::default()
    };
    let time = cluster.settings.request_timeout;
    let answer = cluster.ask_coordinator(&group, Repeat::Safe, time, |channel| {
        let request = cluster.request(request.clone());
        async move {
            let mut client =
                GroupsServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
            let answer = client
                .fetch_offsets(request)
                .await
                .map_err(ApiError::from)?;
            Ok(answer.into_inner())
        }
    });
    let offsets = answer.await?.offsets.into_iter().zip(partitions);
    let offset = |(found, owned): (v1::CommittedOffset, &Owned)| match found.error {
        None => Ok(found.offset),
        Some(error) => Err(Error::Partition {
            topic: Arc::clone(&owned.topic),
            partition: owned.partition,
            source: error.into(),
        }),
    };
    offsets.map(offset).collect()
}

/// A partition by the id of its topic: one that was made again under the name has no committed offset.
pub(super) fn named(owned: &Owned) -> v1::TopicPartition {
    v1::TopicPartition {
        topic: owned.topic.to_string(),
        topic_id: Bytes::copy_from_slice(owned.topic_id.as_bytes()),
        partition: owned.partition,
    }
}
