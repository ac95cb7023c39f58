//! Consumer groups over gRPC: members share partitions out, commits are kept, and what makes no sense is refused.

use highwater_broker::Config;
use highwater_proto::{ApiError, Reason, v1};
use tonic::Code;
use v1::groups_service_client::GroupsServiceClient;

use crate::test_broker::{TestBroker, config, named};

fn small() -> Config {
    let mut config = config();
    config.groups.max_items = 10;
    config.groups.max_topics = 3;
    config.groups.max_members = 3;
    config.groups.min_session_timeout_ms = 100;
    config.groups.heartbeat_interval_ms = 200;
    config
}

/// A member that follows the protocol.
struct Member<'a> {
    broker: &'a TestBroker,
    group: &'static str,
    id: String,
    epoch: i64,
    owned: Vec<v1::TopicPartitions>,
}

impl<'a> Member<'a> {
    async fn join(broker: &'a TestBroker, group: &'static str, id: &str) -> Self {
        let mut member = Self {
            broker,
            group,
            id: id.to_owned(),
            epoch: 0,
            owned: Vec::new(),
        };
        member.beat().await.unwrap();
        member
    }

    fn request(&self) -> v1::HeartbeatRequest {
        let joins = self.epoch == 0;
        v1::HeartbeatRequest {
            group_id: self.group.to_owned(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            session_timeout_ms: 5_000,
            owned: self.owned.clone(),
            subscription: joins.then(|| v1::Subscription {
                topics: vec!["t".to_owned()],
                topic_regex: String::new(),
            }),
            ..Default::default()
        }
    }

    async fn beat(&mut self) -> Result<(), ApiError> {
        self.beat_with(self.request()).await
    }

    async fn beat_with(&mut self, request: v1::HeartbeatRequest) -> Result<(), ApiError> {
        let answer = groups(self.broker).heartbeat(request).await?.into_inner();
        self.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            self.owned = assignment.partitions;
        }
        Ok(())
    }

    fn partitions(&self) -> Vec<u32> {
        self.owned
            .iter()
            .flat_map(|of_topic| of_topic.partitions.clone())
            .collect()
    }

    async fn commit(&self, partition: u32, offset: u64) -> Result<(), ApiError> {
        let request = v1::CommitOffsetsRequest {
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            ..commit(self.group, partition, offset)
        };
        commit_one(self.broker, request).await
    }
}

fn groups(broker: &TestBroker) -> GroupsServiceClient<tonic::transport::Channel> {
    GroupsServiceClient::new(broker.channel.clone())
}

fn commit(group: &str, partition: u32, offset: u64) -> v1::CommitOffsetsRequest {
    v1::CommitOffsetsRequest {
        group_id: group.to_owned(),
        offsets: vec![to_commit(partition, offset)],
        ..Default::default()
    }
}

fn to_commit(partition: u32, offset: u64) -> v1::OffsetToCommit {
    v1::OffsetToCommit {
        partition: Some(named("t", partition)),
        offset,
        leader_epoch: Some(1),
        metadata: "by hand".to_owned(),
    }
}

async fn commit_one(
    broker: &TestBroker,
    request: v1::CommitOffsetsRequest,
) -> Result<(), ApiError> {
    let answer = groups(broker).commit_offsets(request).await?.into_inner();
    let error = answer.results.into_iter().find_map(|result| result.error);
    error.map_or(Ok(()), |error| Err(error.into()))
}

/// Partition and offset of everything that is committed.
async fn committed(broker: &TestBroker, group: &str) -> Vec<(u32, Option<u64>)> {
    let request = v1::FetchOffsetsRequest {
        group_id: group.to_owned(),
        ..Default::default()
    };
    let answer = groups(broker)
        .fetch_offsets(request)
        .await
        .unwrap()
        .into_inner();
    let offset = |offset: v1::CommittedOffset| (offset.partition.unwrap().partition, offset.offset);
    answer.offsets.into_iter().map(offset).collect()
}

async fn described(broker: &TestBroker, group: &str) -> Result<v1::DescribedGroup, ApiError> {
    let request = v1::DescribeGroupsRequest {
        group_ids: vec![group.to_owned()],
    };
    let mut answer = groups(broker).describe_groups(request).await?.into_inner();
    let mut described = answer.groups.remove(0);
    match described.error.take() {
        Some(error) => Err(error.into()),
        None => Ok(described),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_partitions_and_commits_survive_a_restart() {
    let broker = TestBroker::start_with(small()).await;
    broker.create("t", 4).await;
    for partition in 0..4 {
        broker.append_values("t", partition, &["a", "b", "c"]).await;
    }
    let mut a = Member::join(&broker, "g", "a").await;
    assert_eq!(a.partitions(), [0, 1, 2, 3]);
    a.commit(3, 2).await.unwrap();
    let mut b = Member::join(&broker, "g", "b").await;
    assert!(b.partitions().is_empty());
    a.beat().await.unwrap();
    a.beat().await.unwrap();
    b.beat().await.unwrap();
    assert_eq!((a.partitions(), b.partitions()), (vec![0, 1], vec![2, 3]));

    // What belongs to the other cannot be committed, nor what is not there.
    assert_eq!(
        a.commit(3, 3).await.unwrap_err().reason,
        Reason::FencedMemberEpoch
    );
    b.commit(3, 3).await.unwrap();
    let refused = b.commit(2, 4).await.unwrap_err();
    assert_eq!(refused.reason, Reason::OffsetOutOfRange);
    assert_eq!(refused.metadata["high_watermark"], "3");

    let group = described(&broker, "g").await.unwrap();
    assert_eq!(group.state(), v1::GroupState::Stable);
    assert_eq!(group.members.len(), 2);
    assert_eq!(group.members[1].assigned[0].partitions, [2, 3]);

    // Members, epochs and commits are as they were, also after a restart.
    let (epoch, owned) = (b.epoch, b.owned.clone());
    let broker = broker.restart().await;
    assert_eq!(committed(&broker, "g").await, [(3, Some(3))]);
    let mut b = Member {
        broker: &broker,
        group: "g",
        id: "b".to_owned(),
        epoch,
        owned: owned.clone(),
    };
    b.beat().await.unwrap();
    assert_eq!((b.epoch, &b.owned), (epoch, &owned));
    b.commit(2, 1).await.unwrap();
    assert_eq!(committed(&broker, "g").await, [(2, Some(1)), (3, Some(3))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_waits_hears_of_a_change_at_once() {
    let mut config = small();
    config.groups.heartbeat_interval_ms = 60_000;
    config.groups.session_timeout_ms = 600_000;
    let broker = TestBroker::start_with(config).await;
    broker.create("t", 2).await;
    let mut a = Member::join(&broker, "g", "a").await;
    let waiting = v1::HeartbeatRequest {
        session_timeout_ms: 0,
        max_wait_ms: 60_000,
        ..a.request()
    };
    let (answered, _) = tokio::join!(a.beat_with(waiting), Member::join(&broker, "g", "b"));
    answered.unwrap();
    assert_eq!(a.partitions(), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_member_loses_its_place_and_nothing_else() {
    let broker = TestBroker::start_with(small()).await;
    broker.create("t", 2).await;
    let mut a = Member::join(&broker, "g", "a").await;
    let mut b = Member::join(&broker, "g", "b").await;
    let short = v1::HeartbeatRequest {
        session_timeout_ms: 100,
        member_id: "silent".to_owned(),
        ..Member {
            broker: &broker,
            group: "g",
            id: String::new(),
            epoch: 0,
            owned: Vec::new(),
        }
        .request()
    };
    let silent = groups(&broker)
        .heartbeat(short.clone())
        .await
        .unwrap()
        .into_inner();
    let gone = async {
        while described(&broker, "g").await.unwrap().members.len() == 3 {
            a.beat().await.unwrap();
            b.beat().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone)
        .await
        .unwrap();
    let late = v1::HeartbeatRequest {
        member_epoch: silent.member_epoch,
        ..short
    };
    let refused = groups(&broker).heartbeat(late).await.unwrap_err();
    assert_eq!(
        ApiError::from_status(&refused).reason,
        Reason::UnknownMemberId
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_and_deleted_when_nobody_is_in_them() {
    let broker = TestBroker::start_with(small()).await;
    broker.create("t", 2).await;
    broker.append_values("t", 0, &["a"]).await;
    for group in ["f", "g", "h"] {
        commit_one(&broker, commit(group, 0, 1)).await.unwrap();
    }
    let member = Member::join(&broker, "g", "a").await;
    let listed = groups(&broker)
        .list_groups(v1::ListGroupsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.elsewhere, []);
    let names: Vec<_> = listed
        .groups
        .iter()
        .map(|group| (&group.group_id[..], group.members))
        .collect();
    assert_eq!(names, [("f", 0), ("g", 1), ("h", 0)]);

    let delete = |group: &str| v1::DeleteGroupRequest {
        group_id: group.to_owned(),
    };
    let refused = groups(&broker).delete_group(delete("g")).await.unwrap_err();
    assert_eq!(
        ApiError::from_status(&refused).reason,
        Reason::NonEmptyGroup
    );
    let refused = commit_one(&broker, commit("g", 0, 0)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NonEmptyGroup);
    let leave = v1::HeartbeatRequest {
        member_epoch: -1,
        owned: Vec::new(),
        ..member.request()
    };
    groups(&broker).heartbeat(leave).await.unwrap();
    groups(&broker).delete_group(delete("g")).await.unwrap();
    assert_eq!(
        described(&broker, "g").await.unwrap_err().reason,
        Reason::GroupIdNotFound
    );

    let forget = v1::DeleteOffsetsRequest {
        group_id: "f".to_owned(),
        partitions: vec![named("t", 0), named("t", 9)],
    };
    let answer = groups(&broker)
        .delete_offsets(forget)
        .await
        .unwrap()
        .into_inner();
    let reasons: Vec<_> = answer
        .results
        .into_iter()
        .map(|result| result.error.map(|error| error.reason))
        .collect();
    assert_eq!(
        reasons,
        [None, Some("UNKNOWN_TOPIC_OR_PARTITION".to_owned())]
    );
    assert_eq!(committed(&broker, "f").await, []);
    assert_eq!(committed(&broker, "h").await, [(0, Some(1))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_do_not_see_where_groups_are_kept() {
    let broker = TestBroker::start_with(small()).await;
    broker.create("t", 1).await;
    commit_one(&broker, commit("g", 0, 0)).await.unwrap();
    let topics: Vec<_> = broker
        .metadata()
        .await
        .topics
        .into_iter()
        .map(|topic| topic.name)
        .collect();
    assert_eq!(topics, ["t"]);
    let hidden = "__consumer_groups";
    let describe = v1::DescribeTopicRequest {
        name: hidden.to_owned(),
        ..Default::default()
    };
    let refused = broker.admin().describe_topic(describe).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let delete = v1::DeleteTopicRequest {
        name: hidden.to_owned(),
        ..Default::default()
    };
    let refused = broker.admin().delete_topic(delete).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let fetched = broker.fetch(v1::FetchRequest {
        partitions: vec![crate::test_broker::fetch_from(hidden, 0, 0)],
        max_bytes: 1,
        ..Default::default()
    });
    let error = fetched.await.unwrap().remove(0).error.unwrap();
    assert_eq!(error.reason, "UNKNOWN_TOPIC_OR_PARTITION");
}

/// Heartbeats that make no sense, each with the reason for which it is refused.
fn bad_heartbeats() -> Vec<(&'static str, Reason, v1::HeartbeatRequest)> {
    let good = || v1::HeartbeatRequest {
        group_id: "g".to_owned(),
        member_id: "m".to_owned(),
        subscription: Some(v1::Subscription {
            topics: vec!["t".to_owned()],
            topic_regex: String::new(),
        }),
        ..Default::default()
    };
    let with = |change: &dyn Fn(&mut v1::HeartbeatRequest)| {
        let mut request = good();
        change(&mut request);
        request
    };
    let regex = |text: &str| {
        let topic_regex = text.to_owned();
        with(&|all| {
            all.subscription
                .as_mut()
                .unwrap()
                .topic_regex
                .clone_from(&topic_regex)
        })
    };
    let owned = |topic_id: &[u8], partitions: Vec<u32>| v1::TopicPartitions {
        topic: String::new(),
        topic_id: bytes::Bytes::copy_from_slice(topic_id),
        partitions,
    };
    use Reason::{
        InvalidGroupId, InvalidRequest, InvalidSessionTimeout, LimitExceeded, UnknownMemberId,
        UnsupportedAssignor,
    };
    vec![
        (
            "no group",
            InvalidGroupId,
            with(&|all| all.group_id.clear()),
        ),
        (
            "a group with a line break",
            InvalidGroupId,
            with(&|all| all.group_id = "a\nb".to_owned()),
        ),
        (
            "a long group",
            InvalidGroupId,
            with(&|all| all.group_id = "g".repeat(250)),
        ),
        (
            "no member",
            InvalidRequest,
            with(&|all| all.member_id.clear()),
        ),
        (
            "a long member",
            InvalidRequest,
            with(&|all| all.member_id = "m".repeat(250)),
        ),
        (
            "a long instance",
            InvalidRequest,
            with(&|all| all.instance_id = "i".repeat(250)),
        ),
        (
            "a long client",
            InvalidRequest,
            with(&|all| all.client_id = "c".repeat(257)),
        ),
        (
            "a long rack",
            InvalidRequest,
            with(&|all| all.rack = "r".repeat(257)),
        ),
        (
            "an unlawful epoch",
            InvalidRequest,
            with(&|all| all.member_epoch = -3),
        ),
        (
            "a stranger's epoch",
            UnknownMemberId,
            with(&|all| all.member_epoch = 7),
        ),
        (
            "a stranger that leaves",
            UnknownMemberId,
            with(&|all| all.member_epoch = -1),
        ),
        (
            "no subscription",
            InvalidRequest,
            with(&|all| all.subscription = None),
        ),
        (
            "an empty subscription",
            InvalidRequest,
            with(&|all| all.subscription = Some(v1::Subscription::default())),
        ),
        (
            "too many topics",
            LimitExceeded,
            with(&|all| {
                all.subscription.as_mut().unwrap().topics = (0..4).map(|n| n.to_string()).collect();
            }),
        ),
        (
            "a topic without a name",
            InvalidRequest,
            with(&|all| {
                all.subscription
                    .as_mut()
                    .unwrap()
                    .topics
                    .push(String::new());
            }),
        ),
        ("an expression that is none", InvalidRequest, regex("(")),
        (
            "an expression that grows",
            InvalidRequest,
            regex("(((a{100}){100}){100})"),
        ),
        (
            "a long expression",
            InvalidRequest,
            regex(&"a".repeat(1_025)),
        ),
        (
            "an unknown assignor",
            UnsupportedAssignor,
            with(&|all| all.assignor = "sticky".to_owned()),
        ),
        (
            "a short session",
            InvalidSessionTimeout,
            with(&|all| all.session_timeout_ms = 99),
        ),
        (
            "a long session",
            InvalidSessionTimeout,
            with(&|all| all.session_timeout_ms = 1_800_001),
        ),
        (
            "a long rebalance",
            InvalidRequest,
            with(&|all| all.rebalance_timeout_ms = 3_600_001),
        ),
        (
            "owning when it joins",
            InvalidRequest,
            with(&|all| all.owned = vec![owned(&[1; 16], vec![0])]),
        ),
        (
            "owning what has no id",
            InvalidRequest,
            with(&|all| all.owned = vec![owned(&[1; 3], vec![0])]),
        ),
        (
            "owning twice",
            InvalidRequest,
            with(&|all| all.owned = vec![owned(&[1; 16], vec![0, 0])]),
        ),
        (
            "owning too much",
            LimitExceeded,
            with(&|all| all.owned = vec![owned(&[1; 16], (0..11).collect())]),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_that_make_no_sense_are_refused() {
    let broker = TestBroker::start_with(small()).await;
    broker.create("t", 1).await;
    for (name, reason, request) in bad_heartbeats() {
        let refused = groups(&broker).heartbeat(request).await.expect_err(name);
        assert_eq!(
            ApiError::from_status(&refused).reason,
            reason,
            "{name}: {}",
            refused.message()
        );
    }
    assert_eq!(
        described(&broker, "g").await.unwrap_err().reason,
        Reason::GroupIdNotFound
    );
    for number in 0..3 {
        Member::join(&broker, "g", &number.to_string()).await;
    }
    let one_more = Member {
        broker: &broker,
        group: "g",
        id: "4".to_owned(),
        epoch: 0,
        owned: Vec::new(),
    };
    let refused = groups(&broker)
        .heartbeat(one_more.request())
        .await
        .unwrap_err();
    assert_eq!(
        ApiError::from_status(&refused).reason,
        Reason::GroupMaxSizeReached
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_make_no_sense_are_refused() {
    let broker = TestBroker::start_with(small()).await;
    broker.create("t", 2).await;
    broker.append_values("t", 0, &["a"]).await;
    let of = |offset: v1::OffsetToCommit| v1::CommitOffsetsRequest {
        group_id: "g".to_owned(),
        offsets: vec![offset],
        ..Default::default()
    };
    let with_member = |member: &str, epoch| v1::CommitOffsetsRequest {
        member_id: member.to_owned(),
        member_epoch: epoch,
        ..commit("g", 0, 0)
    };
    let many = |count| v1::CommitOffsetsRequest {
        offsets: vec![to_commit(0, 0); count],
        ..commit("g", 0, 0)
    };
    let named_by_id = v1::TopicPartition {
        topic_id: bytes::Bytes::from_static(&[9; 16]),
        ..named("t", 0)
    };
    use Reason::{
        InvalidGroupId, InvalidRequest, LimitExceeded, OffsetMetadataTooLarge, OffsetOutOfRange,
        UnknownMemberId, UnknownTopicId, UnknownTopicOrPartition,
    };
    let rows = [
        ("no group", InvalidGroupId, commit("", 0, 0)),
        ("a stranger", UnknownMemberId, with_member("m", 1)),
        ("a negative epoch", InvalidRequest, with_member("m", -1)),
        ("too many", LimitExceeded, many(11)),
        ("one twice", InvalidRequest, many(2)),
        (
            "no partition",
            InvalidRequest,
            of(v1::OffsetToCommit {
                partition: None,
                ..to_commit(0, 0)
            }),
        ),
        (
            "no such partition",
            UnknownTopicOrPartition,
            of(to_commit(2, 0)),
        ),
        (
            "no such topic",
            UnknownTopicId,
            of(v1::OffsetToCommit {
                partition: Some(named_by_id),
                ..to_commit(0, 0)
            }),
        ),
        ("beyond the end", OffsetOutOfRange, of(to_commit(0, 2))),
        (
            "beyond the end of nothing",
            OffsetOutOfRange,
            of(to_commit(1, 1)),
        ),
        (
            "beyond all ends",
            InvalidRequest,
            of(to_commit(0, u64::MAX)),
        ),
        (
            "a long text",
            OffsetMetadataTooLarge,
            of(v1::OffsetToCommit {
                metadata: "x".repeat(4_097),
                ..to_commit(0, 0)
            }),
        ),
    ];
    for (name, reason, request) in rows {
        let refused = commit_one(&broker, request).await.expect_err(name);
        assert_eq!(refused.reason, reason, "{name}: {refused}");
    }
    assert_eq!(committed(&broker, "g").await, []);
    // A bad item fails alone.
    let mixed = v1::CommitOffsetsRequest {
        offsets: vec![to_commit(1, 1), to_commit(0, 1)],
        ..commit("g", 0, 0)
    };
    commit_one(&broker, mixed).await.unwrap_err();
    assert_eq!(committed(&broker, "g").await, [(0, Some(1))]);
}
