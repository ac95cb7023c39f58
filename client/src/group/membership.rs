//! What a member of a consumer group tells the coordinator, and what follows from the answers.
//!
//! Pure. The shell sends [`Membership::request`], reports the answer or the failure, and does what comes back. A partition
//! counts as owned from the answer that gives it until the consumer has let it go: what a heartbeat says to own is what
//! nobody else may read.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_proto::{ApiError, Reason, TopicId, v1};

/// The epoch of who is no member yet.
const JOINING: i64 = 0;
/// The epoch that says: I leave.
const LEAVING: i64 = -1;
/// The epoch that says: I leave, and will be back under my instance id.
const LEAVING_FOR_A_WHILE: i64 = -2;

/// What a member says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) group: String,
    pub(crate) member_id: String,
    pub(crate) instance_id: String,
    pub(crate) rack: String,
    pub(crate) client_id: String,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) session_timeout: Duration,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) topic_regex: String,
    pub(crate) assignor: String,
}

/// A partition by the id of its topic.
pub(crate) type Key = (TopicId, u32);

/// A partition that a member owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owned {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: u32,
}

impl Owned {
    pub(crate) fn key(&self) -> Key {
        (self.topic_id, self.partition)
    }

    pub(crate) fn is(&self, topic: &str, partition: u32) -> bool {
        *self.topic == *topic && self.partition == partition
    }
}

/// What an answer changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// It is a member from now on. What is to be its share others may have to let go first: the next heartbeat waits for that.
    pub(crate) has_joined: bool,
    /// Owned from now on.
    pub(crate) taken: Vec<Owned>,
    /// To be let go.
    pub(crate) leaving: Vec<Owned>,
}

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// It passes: the next heartbeat is tried after a wait.
    Passing,
    /// The member is none any more: it joins again, and owns nothing of this.
    Fenced { lost: Vec<Owned> },
    /// It does not pass.
    Final,
}

/// A member.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    settings: Settings,
    epoch: i64,
    owned: BTreeMap<Key, Owned>,
    leaving: BTreeSet<Key>,
    /// What of it is not read at the moment because the caller does not want it.
    paused: BTreeSet<Key>,
    interval: Duration,
    session: Duration,
}

impl Membership {
    pub(crate) fn new(settings: Settings) -> Self {
        let session = settings.session_timeout;
        Self {
            settings,
            epoch: JOINING,
            owned: BTreeMap::new(),
            leaving: BTreeSet::new(),
            paused: BTreeSet::new(),
            interval: Duration::ZERO,
            session,
        }
    }

    pub(crate) fn group(&self) -> &str {
        &self.settings.group
    }

    /// The member and its epoch, for commits; `None` before it has joined.
    pub(crate) fn identity(&self) -> Option<(String, i64)> {
        (self.epoch > JOINING).then(|| (self.settings.member_id.clone(), self.epoch))
    }

    /// How long to wait between two heartbeats.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// How long a member may be without an answer before it must take itself for removed.
    pub(crate) fn session(&self) -> Duration {
        self.session
    }

    /// Whether it is a member.
    pub(crate) fn has_joined(&self) -> bool {
        self.epoch > JOINING
    }

    /// Whether something is still to be let go: the coordinator waits for that, and has nothing to wait for itself.
    pub(crate) fn is_leaving_some(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Whether the member owns the partition and may keep it.
    pub(crate) fn keeps(&self, key: Key) -> bool {
        self.owned.contains_key(&key) && !self.leaving.contains(&key)
    }

    /// The next heartbeat. The coordinator may wait for news up to an interval, unless it waits for this member.
    pub(crate) fn request(&self) -> v1::HeartbeatRequest {
        let joins = self.epoch == JOINING;
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let settings = &self.settings;
        let waits = !joins && !self.is_leaving_some();
        v1::HeartbeatRequest {
            group_id: settings.group.clone(),
            member_id: settings.member_id.clone(),
            member_epoch: self.epoch,
            instance_id: settings.instance_id.clone(),
            rack: settings.rack.clone(),
            client_id: settings.client_id.clone(),
            rebalance_timeout_ms: millis(settings.rebalance_timeout),
            session_timeout_ms: millis(settings.session_timeout),
            subscription: joins.then(|| v1::Subscription {
                topics: settings.topics.iter().cloned().collect(),
                topic_regex: settings.topic_regex.clone(),
            }),
            assignor: settings.assignor.clone(),
            owned: by_topic(self.owned.values()),
            paused: by_topic(self.paused.iter().filter_map(|key| self.owned.get(key))),
            max_wait_ms: if waits { millis(self.interval) } else { 0 },
        }
    }

    /// The heartbeat that says that the member leaves.
    pub(crate) fn farewell(&self) -> v1::HeartbeatRequest {
        let returns = !self.settings.instance_id.is_empty();
        v1::HeartbeatRequest {
            member_epoch: if returns {
                LEAVING_FOR_A_WHILE
            } else {
                LEAVING
            },
            owned: Vec::new(),
            paused: Vec::new(),
            subscription: None,
            max_wait_ms: 0,
            ..self.request()
        }
    }

    /// The caller has paused a partition, or reads it again. The coordinator is told so with the next heartbeat.
    pub(crate) fn pause(&mut self, topic: &str, partition: u32, is_paused: bool) {
        let is_it = |owned: &&Owned| *owned.topic == *topic && owned.partition == partition;
        for key in self.owned.values().filter(is_it).map(Owned::key) {
            if is_paused {
                self.paused.insert(key);
            } else {
                self.paused.remove(&key);
            }
        }
    }

    /// The coordinator answered.
    pub(crate) fn answered(&mut self, answer: v1::HeartbeatResponse) -> News {
        let was_member = self.has_joined();
        self.epoch = answer.member_epoch;
        let mut news = News {
            has_joined: !was_member && self.has_joined(),
            ..News::default()
        };
        self.interval = Duration::from_millis(u64::from(answer.heartbeat_interval_ms));
        self.session = Duration::from_millis(u64::from(answer.session_timeout_ms));
        let Some(assignment) = answer.assignment else {
            return news;
        };
        let mut assigned = BTreeSet::new();
        for of_topic in assignment.partitions {
            let Some(topic_id) = TopicId::from_slice(&of_topic.topic_id) else {
                continue;
            };
            let topic: Arc<str> = of_topic.topic.into();
            for partition in of_topic.partitions {
                let owned = Owned {
                    topic: Arc::clone(&topic),
                    topic_id,
                    partition,
                };
                assigned.insert(owned.key());
                if let Entry::Vacant(vacant) = self.owned.entry(owned.key()) {
                    vacant.insert(owned.clone());
                    news.taken.push(owned);
                }
            }
        }
        for (key, owned) in &self.owned {
            if !assigned.contains(key) && self.leaving.insert(*key) {
                news.leaving.push(owned.clone());
            }
        }
        news
    }

    /// The consumer reads these no longer.
    pub(crate) fn let_go(&mut self, partitions: &[Owned]) {
        for partition in partitions {
            self.owned.remove(&partition.key());
            self.leaving.remove(&partition.key());
            self.paused.remove(&partition.key());
        }
    }

    /// The heartbeat failed.
    pub(crate) fn failed(&mut self, error: &ApiError) -> Setback {
        match error.reason {
            reason if is_removal(reason) => Setback::Fenced {
                lost: self.give_up(),
            },
            Reason::UnreleasedInstanceId => Setback::Passing,
            _ if error.is_retriable() => Setback::Passing,
            _ => Setback::Final,
        }
    }

    /// The member takes itself for removed: its partitions may be others' by now. What it owned.
    pub(crate) fn give_up(&mut self) -> Vec<Owned> {
        self.epoch = JOINING;
        self.leaving.clear();
        self.paused.clear();
        std::mem::take(&mut self.owned).into_values().collect()
    }
}

/// Whether a refusal says that the member is none any more.
pub(super) fn is_removal(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UnknownMemberId | Reason::FencedMemberEpoch | Reason::GroupIdNotFound
    )
}

/// Partitions by their topics.
fn by_topic<'a>(partitions: impl Iterator<Item = &'a Owned>) -> Vec<v1::TopicPartitions> {
    let mut topics: BTreeMap<TopicId, v1::TopicPartitions> = BTreeMap::new();
    for owned in partitions {
        let of_topic = topics
            .entry(owned.topic_id)
            .or_insert_with(|| v1::TopicPartitions {
                topic: owned.topic.to_string(),
                topic_id: Bytes::copy_from_slice(owned.topic_id.as_bytes()),
                partitions: Vec::new(),
            });
        of_topic.partitions.push(owned.partition);
    }
    topics.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> TopicId {
        TopicId::from_slice(&[7; 16]).unwrap()
    }

    fn answer(epoch: i64, partitions: Option<&[u32]>) -> v1::HeartbeatResponse {
        v1::HeartbeatResponse {
            member_epoch: epoch,
            heartbeat_interval_ms: 3_000,
            session_timeout_ms: 30_000,
            assignment: partitions.map(|partitions| v1::Assignment {
                partitions: vec![v1::TopicPartitions {
                    topic: "t".to_owned(),
                    topic_id: Bytes::copy_from_slice(id().as_bytes()),
                    partitions: partitions.to_vec(),
                }],
            }),
        }
    }

    fn numbers(owned: &[Owned]) -> Vec<u32> {
        owned.iter().map(|owned| owned.partition).collect()
    }

    fn owned(membership: &Membership) -> Vec<u32> {
        let topics = membership.request().owned.into_iter();
        topics.flat_map(|of_topic| of_topic.partitions).collect()
    }

    fn member() -> Membership {
        Membership::new(Settings {
            group: "g".to_owned(),
            member_id: "m".to_owned(),
            topics: BTreeSet::from(["t".to_owned()]),
            ..Settings::default()
        })
    }

    #[test]
    fn having_joined_is_news_once_whatever_is_assigned() {
        let mut member = member();
        assert!(member.answered(answer(2, Some(&[]))).has_joined);
        assert_eq!(member.answered(answer(2, None)), News::default());
        member.give_up();
        assert!(member.answered(answer(3, None)).has_joined);
    }

    #[test]
    fn what_is_given_is_owned_until_it_is_let_go() {
        let mut member = member();
        assert_eq!(member.request().member_epoch, 0);
        assert_eq!(member.request().max_wait_ms, 0);
        assert_eq!(member.identity(), None);
        let news = member.answered(answer(2, Some(&[0, 1, 2])));
        assert_eq!(
            (numbers(&news.taken), numbers(&news.leaving)),
            (vec![0, 1, 2], vec![])
        );
        assert_eq!(
            (member.request().member_epoch, owned(&member)),
            (2, vec![0, 1, 2])
        );
        assert_eq!(member.request().max_wait_ms, 3_000);
        assert_eq!(member.request().subscription, None);

        let news = member.answered(answer(2, Some(&[0])));
        assert_eq!(
            (numbers(&news.taken), numbers(&news.leaving)),
            (vec![], vec![1, 2])
        );
        assert_eq!(owned(&member), [0, 1, 2], "the consumer still reads them");
        assert_eq!(
            member.request().max_wait_ms,
            0,
            "the coordinator waits for this member"
        );
        assert!(member.keeps((id(), 0)) && !member.keeps((id(), 1)));
        let again = member.answered(answer(2, Some(&[0])));
        assert_eq!(again, News::default(), "it is told once");
        member.let_go(&news.leaving);
        assert_eq!(owned(&member), [0]);
        assert_eq!(member.answered(answer(2, None)), News::default());
    }

    #[test]
    fn who_is_fenced_owns_nothing_and_joins_again() {
        let mut member = member();
        member.answered(answer(2, Some(&[0, 1])));
        for reason in [Reason::UnknownMemberId, Reason::FencedMemberEpoch] {
            let Setback::Fenced { lost } = member.failed(&ApiError::new(reason, "gone")) else {
                panic!("{reason} is not taken for what it is");
            };
            assert_eq!(numbers(&lost), [0, 1]);
            assert_eq!((member.request().member_epoch, owned(&member)), (0, vec![]));
            assert!(member.request().subscription.is_some());
            member.answered(answer(5, Some(&[0, 1])));
        }
    }

    #[test]
    fn what_is_paused_is_told_while_it_is_owned() {
        let paused = |member: &Membership| {
            let topics = member.request().paused.into_iter();
            topics
                .flat_map(|topic| topic.partitions)
                .collect::<Vec<_>>()
        };
        let mut member = member();
        let news = member.answered(answer(2, Some(&[0, 1])));
        member.pause("t", 0, true);
        member.pause("t", 1, true);
        member.pause("t", 7, true);
        member.pause("other", 0, true);
        assert_eq!(paused(&member), [0, 1]);
        member.pause("t", 1, false);
        assert_eq!(paused(&member), [0]);
        member.let_go(&news.taken);
        assert_eq!(paused(&member), []);
    }

    #[test]
    fn what_passes_is_waited_for() {
        let mut member = member();
        for reason in [
            Reason::NotCoordinator,
            Reason::RequestTimedOut,
            Reason::UnreleasedInstanceId,
        ] {
            assert_eq!(
                member.failed(&ApiError::new(reason, "wait")),
                Setback::Passing
            );
        }
        for reason in [
            Reason::InvalidRequest,
            Reason::GroupMaxSizeReached,
            Reason::FencedInstanceId,
        ] {
            assert_eq!(member.failed(&ApiError::new(reason, "no")), Setback::Final);
        }
    }

    #[test]
    fn a_static_member_says_that_it_will_be_back() {
        let mut settings = member().settings;
        assert_eq!(
            Membership::new(settings.clone()).farewell().member_epoch,
            LEAVING
        );
        settings.instance_id = "i".to_owned();
        assert_eq!(
            Membership::new(settings).farewell().member_epoch,
            LEAVING_FOR_A_WHILE
        );
    }
}
