//! Asking for the facts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use highwater_client::protocol::{
    Broker, CommittedOffset, DescribeClusterResponse, DescribeTopicResponse, DescribedGroup,
    FencedMember, GroupMember, HealthFinding, MemberState, Move, PartitionDescription,
    PartitionMetadata, PausedPartition, RemovalReason, ReplicaStanding, TopicMetadata,
    TopicPartitions,
};
use highwater_client::{Admin, Error, Offset, Reason};

use crate::context::PATIENCE;

use super::facts::{
    CommittedFacts, FencedFacts, Finding, GroupFacts, Leaderless, MemberFacts, Moving,
    PartitionFacts, Place, Replica, RequestMemory, Standing,
};

/// The brokers of the cluster, and what is going on among them.
pub(crate) struct Brokers {
    /// Each with what it says of itself, or how its replicas stand where it says nothing.
    brokers: Vec<(Broker, Result<DescribeClusterResponse, Standing>)>,
    /// The topics, as one of them knows them.
    topics: Vec<TopicMetadata>,
    moves: Vec<Move>,
}

/// What brokers say of a topic: each its partitions, or how its replicas stand where it says nothing.
type Said = BTreeMap<u32, Result<DescribeTopicResponse, Standing>>;

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.map_or(0, |since| since.as_millis());
    i64::try_from(since).unwrap_or(i64::MAX)
}

impl Brokers {
    /// Asks all brokers.
    ///
    /// # Errors
    /// None answers.
    pub(crate) async fn ask(admin: &Admin) -> Result<Self, Error> {
        let metadata = admin.metadata(&[]).await?;
        let brokers = admin.describe_brokers(metadata.brokers).await;
        let brokers: Vec<_> = brokers
            .into_iter()
            .map(|(broker, said)| (broker, said.map_err(|error| unanswered(&error))))
            .collect();
        let mut answers = brokers.iter().filter_map(|(_, said)| said.as_ref().ok());
        let mut moves = Vec::new();
        if answers.any(|answer| answer.controller_broker_id.is_some()) {
            // Whether replicas move is a detail that is left out where nobody says it soon.
            let asked = tokio::time::timeout(PATIENCE, admin.moves(None)).await;
            moves = asked.ok().and_then(Result::ok).unwrap_or_default();
        }
        Ok(Self {
            brokers,
            topics: metadata.topics,
            moves,
        })
    }

    /// The partitions of a topic; `None` where no broker knows the topic.
    pub(crate) async fn topic(&self, admin: &Admin, name: &str) -> Option<Vec<PartitionFacts>> {
        let answering = self.brokers.iter().filter(|(_, said)| said.is_ok());
        let asked = answering.map(|(broker, _)| async move {
            let described = admin.describe_topic_on(broker, name).await;
            let said = match described {
                Ok(described) => Ok(described),
                Err(error) if error.reason() == Reason::UnknownTopicOrPartition => return None,
                Err(error) => Err(unanswered(&error)),
            };
            Some((broker.broker_id, said))
        });
        let said = join_all(asked).await.into_iter().flatten().collect();
        self.combine(name, &said)
    }

    fn combine(&self, name: &str, said: &Said) -> Option<Vec<PartitionFacts>> {
        let answers: Vec<_> = said
            .iter()
            .filter_map(|(broker, said)| Some((*broker, said.as_ref().ok()?)))
            .collect();
        let most = answers
            .iter()
            .max_by_key(|(_, answer)| answer.partitions.len());
        let Some((_, any)) = most else {
            return self.without_answers(name, said);
        };
        let min_in_sync = any
            .configs
            .iter()
            .find(|config| config.name == "min.insync.replicas")
            .and_then(|config| config.value.parse().ok());
        let one = |partition: &PartitionDescription| {
            let number = partition.partition;
            let views = answers.iter().filter_map(|(broker, answer)| {
                let mut partitions = answer.partitions.iter();
                let seen = partitions.find(|seen| seen.partition == number)?;
                Some((*broker, seen))
            });
            let mut facts = self.partition(name, partition, &views.collect::<Vec<_>>(), said);
            facts.min_in_sync = min_in_sync.unwrap_or(1);
            facts
        };
        Some(any.partitions.iter().map(one).collect())
    }

    /// The partitions as the metadata names them, where nobody says more; `None` where one who would says that there is no such topic.
    fn without_answers(&self, name: &str, said: &Said) -> Option<Vec<PartitionFacts>> {
        let answering = self.brokers.iter().filter(|(_, said)| said.is_ok());
        if answering.count() > said.len() {
            return None;
        }
        let topic = self.topics.iter().find(|topic| topic.name == name)?;
        let one = |partition: &PartitionMetadata| {
            let partition = PartitionDescription {
                partition: partition.partition,
                leader_broker_id: partition.leader_broker_id,
                leader_epoch: partition.leader_epoch,
                replica_broker_ids: partition.replica_broker_ids.clone(),
                ..Default::default()
            };
            self.partition(name, &partition, &[], said)
        };
        Some(topic.partitions.iter().map(one).collect())
    }

    /// One partition, as these brokers see it; `any` is what one of them said.
    fn partition(
        &self,
        topic: &str,
        any: &PartitionDescription,
        views: &[(u32, &PartitionDescription)],
        said: &Said,
    ) -> PartitionFacts {
        // Whoever knows of the newest term knows the placement best, and who leads beyond doubt.
        let newest = views.iter().max_by_key(|(broker, seen)| {
            let leads = seen.leader_broker_id == Some(*broker);
            (seen.leader_epoch, leads, seen.leader_broker_id.is_some())
        });
        // Wherever a topic is known, so are the replicas of each of its partitions, of which there is one at least.
        let newest = newest.map_or(any, |(_, newest)| *newest);
        let view_of = |broker| {
            let mut views = views.iter();
            views.find(|(of, _)| *of == broker).map(|(_, seen)| *seen)
        };
        let replicas: Vec<_> = newest
            .replica_broker_ids
            .iter()
            .map(|broker| Replica {
                broker: *broker,
                standing: self.standing(*broker, view_of(*broker), said),
            })
            .collect();
        let leader = newest.leader_broker_id;
        // Offsets are those of the leader, or of the replica that knows most.
        let by_leader = leader.and_then(view_of);
        let told: Vec<_> = match by_leader {
            Some(seen) => vec![seen],
            None => views.iter().map(|(_, seen)| *seen).collect(),
        };
        let newest_ms = told.iter().filter_map(|seen| seen.replica.as_ref());
        let leaderless = views.iter().filter_map(|(broker, seen)| {
            let for_ms = seen.replica.as_ref()?.leaderless_ms?;
            let broker = *broker;
            Some(Leaderless { broker, for_ms })
        });
        let leading = leader.and_then(|leader| self.described(leader));
        PartitionFacts {
            topic: topic.to_owned(),
            partition: newest.partition,
            leader,
            epoch: newest.leader_epoch,
            leaderless: leaderless.max_by_key(|one| one.for_ms),
            replicas,
            in_sync: newest.in_sync_broker_ids.clone(),
            min_in_sync: 1,
            start: told
                .iter()
                .map(|seen| seen.log_start_offset)
                .max()
                .unwrap_or(0),
            end: told
                .iter()
                .map(|seen| seen.high_watermark)
                .max()
                .unwrap_or(0),
            newest_ms: newest_ms.filter_map(|one| one.newest_timestamp_ms).max(),
            leader_findings: leading.map_or_else(Vec::new, |described| {
                described.findings.iter().map(Finding::from).collect()
            }),
            leader_memory: leading.map_or_else(RequestMemory::default, |described| RequestMemory {
                held: described.request_memory_bytes,
                limit: described.request_memory_limit_bytes,
            }),
            moving: self.moving(topic, newest.partition),
        }
    }

    fn described(&self, broker: u32) -> Option<&DescribeClusterResponse> {
        let mut brokers = self.brokers.iter();
        let (_, said) = brokers.find(|(one, _)| one.broker_id == broker)?;
        said.as_ref().ok()
    }

    fn standing(&self, broker: u32, seen: Option<&PartitionDescription>, said: &Said) -> Standing {
        let of_broker = self.brokers.iter().find(|(one, _)| one.broker_id == broker);
        match of_broker {
            None => return Standing::Down,
            Some((one, Err(Standing::Silent(_)))) if !one.alive => return Standing::Down,
            Some((_, Err(unanswered))) => return unanswered.clone(),
            Some((_, Ok(_))) => {}
        }
        if let Some(Err(unanswered)) = said.get(&broker) {
            return unanswered.clone();
        }
        let Some(replica) = seen.and_then(|seen| seen.replica.as_ref()) else {
            return Standing::Starting;
        };
        // What is damaged and goes on being read takes no records all the same.
        let takes_none = |finding: &&HealthFinding| {
            matches!(finding.reason.as_str(), "LOG_DAMAGED" | "LOG_FAILED")
        };
        if let Some(finding) = replica.finding.as_ref().filter(takes_none) {
            return Standing::Failed(Finding::from(finding));
        }
        match replica.standing() {
            ReplicaStanding::Leading => Standing::Leads,
            ReplicaStanding::Opening | ReplicaStanding::Following | ReplicaStanding::Leaderless => {
                Standing::Votes
            }
            ReplicaStanding::Failed => {
                let finding = replica.finding.as_ref();
                Standing::Failed(finding.map(Finding::from).unwrap_or_default())
            }
            ReplicaStanding::Starting | ReplicaStanding::Unspecified => Standing::Starting,
        }
    }

    fn moving(&self, topic: &str, partition: u32) -> Option<Moving> {
        let mut moves = self.moves.iter();
        let found = moves.find(|one| one.topic == topic && one.partition == partition)?;
        let progress = found.progress;
        Some(Moving {
            to: found.to_broker_ids.clone(),
            copied: progress.map(|progress| (progress.entries_copied, progress.entries)),
            is_cancelled: found.is_cancelled,
        })
    }
}

/// How the replicas of a broker stand that does not say what it was asked.
fn unanswered(error: &Error) -> Standing {
    match error.reason() {
        Reason::Throttled => Standing::Refusing(error.to_string()),
        _ => Standing::Silent(error.to_string()),
    }
}

impl From<&HealthFinding> for Finding {
    fn from(finding: &HealthFinding) -> Self {
        Self {
            reason: finding.reason.clone(),
            message: finding.message.clone(),
            since_ms: finding.since_ms,
        }
    }
}

impl GroupFacts {
    /// What the coordinator says, at `now_ms`. Members that have something to read are taken to commit within this many
    /// milliseconds. Second, the number of partitions with offsets whose topic is gone.
    pub(crate) fn new(
        described: DescribedGroup,
        offsets: Vec<CommittedOffset>,
        now_ms: i64,
        commits_within_ms: u64,
    ) -> (Self, usize) {
        let mut committed = BTreeMap::new();
        let mut gone = 0;
        for offset in offsets {
            let (Some(named), Some(at)) = (offset.partition, offset.offset) else {
                continue;
            };
            if named.topic.is_empty() {
                gone += 1;
                continue;
            }
            let facts = CommittedFacts {
                offset: at,
                at_ms: offset.committed_at_ms,
                next_record_ms: None,
            };
            committed.insert((named.topic, named.partition), facts);
        }
        let facts = Self {
            group: described.group_id,
            now_ms,
            commits_within_ms,
            members: described.members.into_iter().map(Into::into).collect(),
            empty_since_ms: described.empty_since_ms,
            fenced: described.fenced.into_iter().map(Into::into).collect(),
            committed,
        };
        (facts, gone)
    }

    /// Topics that the group has to do with, by name.
    pub(crate) fn topics(&self) -> BTreeSet<String> {
        let committed = self.committed.keys().map(|(topic, _)| topic);
        let members = self.members.iter().flat_map(|member| {
            let places = member.assigned.iter().chain(&member.target);
            let places = places.chain(&member.revoking);
            member.topics.iter().chain(places.map(|(topic, _)| topic))
        });
        let fenced = self.fenced.iter().flat_map(|fenced| &fenced.had);
        let fenced = fenced.map(|(topic, _)| topic);
        let mut topics: BTreeSet<_> = committed.chain(members).chain(fenced).cloned().collect();
        // What members had of topics that were deleted since.
        topics.remove("");
        topics
    }

    /// Finds out how old the records are that the group is to read next, where there are some.
    pub(crate) async fn look_at_next_records(&mut self, admin: &Admin, of: &[PartitionFacts]) {
        let lagging = self.committed.iter_mut().filter_map(|(place, committed)| {
            let mut partitions = of.iter();
            let facts =
                partitions.find(|facts| (&facts.topic, facts.partition) == (&place.0, place.1))?;
            let leads = |replica: &Replica| replica.standing == Standing::Leads;
            let is_readable = facts.replicas.iter().any(leads);
            (is_readable && committed.offset < facts.end).then_some((place, committed))
        });
        let asked = lagging.map(|(place, committed)| async move {
            let (topic, partition) = place;
            let offset = Offset(committed.offset);
            let found = admin.record_at(topic, *partition, offset).await;
            committed.next_record_ms = found.ok().flatten().and_then(|found| found.timestamp_ms);
        });
        join_all(asked).await;
    }
}

impl From<GroupMember> for MemberFacts {
    fn from(member: GroupMember) -> Self {
        let clock = member.clock;
        let is_away = member.state() == MemberState::Away;
        let subscription = member.subscription.unwrap_or_default();
        Self {
            id: member.member_id,
            instance: some(member.instance_id),
            client: member.client_id,
            topics: subscription.topics.into_iter().collect(),
            regex: some(subscription.topic_regex),
            is_away,
            assigned: places(&member.assigned),
            revoking: places(&member.revoking),
            target: places(&member.target),
            paused: paused(&member.paused, &member.paused_for),
            session_timeout_ms: u64::from(member.session_timeout_ms),
            rebalance_timeout_ms: u64::from(member.rebalance_timeout_ms),
            heard_ms_ago: clock.map(|clock| clock.heard_ms_ago),
            session_ends_in_ms: clock.map(|clock| clock.session_ends_in_ms),
            revoke_ends_in_ms: clock.and_then(|clock| clock.revoke_ends_in_ms),
        }
    }
}

impl From<FencedMember> for FencedFacts {
    fn from(fenced: FencedMember) -> Self {
        Self {
            was_slow: fenced.reason() == RemovalReason::Rebalance,
            had: places(&fenced.had),
            id: fenced.member_id,
            instance: some(fenced.instance_id),
            client: fenced.client_id,
            at_ms: fenced.fenced_at_ms,
        }
    }
}

fn paused(
    partitions: &[TopicPartitions],
    told: &[PausedPartition],
) -> BTreeMap<Place, Option<u64>> {
    let partitions = places(partitions).into_iter();
    let mut paused: BTreeMap<_, _> = partitions.map(|place| (place, None)).collect();
    for one in told {
        let Some(named) = &one.partition else {
            continue;
        };
        let place = (named.topic.clone(), named.partition);
        paused.insert(place, Some(one.told_ms_ago));
    }
    paused
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn places(topics: &[TopicPartitions]) -> BTreeSet<Place> {
    let of_topic = |topic: &TopicPartitions| {
        let name = topic.topic.clone();
        let partitions = topic.partitions.clone().into_iter();
        partitions.map(move |partition| (name.clone(), partition))
    };
    topics.iter().flat_map(of_topic).collect()
}

#[cfg(test)]
mod tests {
    use highwater_proto::ApiError;

    use super::*;
    use crate::diagnosis::{Cause, Verdict, explain_topic_partition};

    fn error(reason: Reason) -> Error {
        Error::Api(ApiError::new(reason, "as the broker says"))
    }

    /// Two brokers, of which the second says this of itself; it leads the only partition of `t`.
    fn brokers(second: Result<DescribeClusterResponse, Standing>) -> Brokers {
        let broker = |broker_id| Broker {
            broker_id,
            alive: true,
            ..Default::default()
        };
        let partition = PartitionMetadata {
            leader_broker_id: Some(2),
            replica_broker_ids: vec![1, 2],
            ..Default::default()
        };
        Brokers {
            brokers: vec![
                (broker(1), Ok(DescribeClusterResponse::default())),
                (broker(2), second),
            ],
            topics: vec![TopicMetadata {
                name: "t".to_owned(),
                partitions: vec![partition],
                ..Default::default()
            }],
            moves: Vec::new(),
        }
    }

    /// What the first broker says of `t`.
    fn described() -> DescribeTopicResponse {
        let partition = PartitionDescription {
            leader_broker_id: Some(2),
            replica_broker_ids: vec![1, 2],
            ..Default::default()
        };
        DescribeTopicResponse {
            partitions: vec![partition],
            ..Default::default()
        }
    }

    fn verdict(brokers: &Brokers, said: Said) -> Verdict {
        let facts = brokers.combine("t", &said).unwrap();
        explain_topic_partition(&facts[0], 0)
    }

    #[test]
    fn a_leader_that_refuses_the_question_is_not_taken_for_one_that_is_silent() {
        for (reason, cause) in [
            (Reason::Throttled, Cause::Throttled),
            (Reason::BrokerNotAvailable, Cause::LeaderUnreachable),
        ] {
            let unanswered = || unanswered(&error(reason));
            // It says nothing of itself, or nothing of the topic, or nobody does.
            let of_itself = verdict(
                &brokers(Err(unanswered())),
                Said::from([(1, Ok(described()))]),
            );
            let well = brokers(Ok(DescribeClusterResponse::default()));
            let of_topic = [(1, Ok(described())), (2, Err(unanswered()))];
            let of_topic = verdict(&well, Said::from(of_topic));
            let nobody = [(1, Err(unanswered())), (2, Err(unanswered()))];
            let nobody = verdict(&well, Said::from(nobody));
            for verdict in [of_itself, of_topic, nobody] {
                assert_eq!(verdict.cause, cause, "{}", verdict.explanation);
                assert!(verdict.explanation.contains("as the broker says"));
            }
        }
    }

    #[test]
    fn a_topic_that_a_broker_does_not_know_is_unknown_where_nobody_else_does() {
        let well = brokers(Ok(DescribeClusterResponse::default()));
        let refused = unanswered(&error(Reason::Throttled));
        assert_eq!(well.combine("t", &Said::from([(2, Err(refused))])), None);
    }
}
