//! Bytes that nobody means: no method panics, each call gets a status, and the connection goes on.

use std::sync::OnceLock;

use highwater_proto::{ApiError, v1};
use proptest::prelude::*;
use prost::Message;
use tokio::runtime::Runtime;

use crate::raw_call::{begin, call, framed};
use crate::test_broker::{TestBroker, batch, fetch_from, named};

/// The method whose answer has no end.
const WATCH: &str = "/highwater.v1.ClusterService/WatchMetadata";

/// Every method, with a request that it carries out.
fn methods() -> Vec<(&'static str, Vec<u8>)> {
    let item = v1::ProduceItem {
        partition: Some(named("fuzzed", 0)),
        payload: Some(v1::produce_item::Payload::RecordBatch(batch(&["a", "b"]))),
    };
    let plain = v1::ProduceItem {
        partition: Some(named("fuzzed", 0)),
        payload: Some(v1::produce_item::Payload::Records(v1::Records {
            records: vec![v1::Record {
                key: Some("k".into()),
                value: Some("v".into()),
                ..Default::default()
            }],
        })),
    };
    let streamed = v1::ProduceStreamItem {
        correlation_id: 1,
        item: Some(item.clone()),
    };
    let fuzzed = || "fuzzed".to_owned();
    vec![
        (
            "/highwater.v1.ProduceService/InitProducerId",
            v1::InitProducerIdRequest::default().encode_to_vec(),
        ),
        (
            "/highwater.v1.ProduceService/Produce",
            v1::ProduceRequest {
                items: vec![item, plain],
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.ProduceService/ProduceStream",
            v1::ProduceStreamRequest {
                items: vec![streamed],
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.FetchService/Fetch",
            v1::FetchRequest {
                partitions: vec![fetch_from("fuzzed", 0, 0)],
                max_bytes: 100,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.FetchService/Subscribe",
            v1::SubscribeRequest {
                request: Some(v1::subscribe_request::Request::Assign(
                    v1::SubscribeAssign {
                        assignment_id: 1,
                        partitions: vec![fetch_from("fuzzed", 0, 0)],
                        format: 0,
                        allow_follower: false,
                    },
                )),
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.OffsetsService/ListOffsets",
            v1::ListOffsetsRequest {
                items: vec![v1::ListOffsetsItem {
                    partition: Some(named("fuzzed", 0)),
                    spec: Some(v1::OffsetSpec {
                        spec: Some(v1::offset_spec::Spec::TimestampMs(1_500)),
                    }),
                }],
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.AdminService/CreateTopic",
            v1::CreateTopicRequest {
                name: fuzzed(),
                configs: [("retention.ms".to_owned(), "1000".to_owned())].into(),
                validate_only: true,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.AdminService/DescribeTopic",
            v1::DescribeTopicRequest {
                name: fuzzed(),
                as_known_here: true,
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.AdminService/AlterTopic",
            v1::AlterTopicRequest {
                name: fuzzed(),
                set: [("retention.ms".to_owned(), "1000".to_owned())].into(),
                validate_only: true,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.AdminService/DeleteTopic",
            v1::DeleteTopicRequest {
                name: "absent".to_owned(),
                topic_id: vec![7; 16].into(),
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.AdminService/AddPartitions",
            v1::AddPartitionsRequest {
                name: fuzzed(),
                total_partitions: 2,
                validate_only: true,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.AdminService/TrimPartitions",
            v1::TrimPartitionsRequest {
                items: vec![v1::TrimItem {
                    partition: Some(named("fuzzed", 0)),
                    before_offset: Some(0),
                }],
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.GroupsService/Heartbeat",
            v1::HeartbeatRequest {
                group_id: "members".to_owned(),
                member_id: "m".to_owned(),
                subscription: Some(v1::Subscription {
                    topics: vec![fuzzed()],
                    topic_regex: "f.*".to_owned(),
                }),
                session_timeout_ms: 5_000,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.GroupsService/CommitOffsets",
            v1::CommitOffsetsRequest {
                group_id: fuzzed(),
                offsets: vec![v1::OffsetToCommit {
                    partition: Some(named("fuzzed", 0)),
                    metadata: "m".to_owned(),
                    ..Default::default()
                }],
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.GroupsService/FetchOffsets",
            v1::FetchOffsetsRequest {
                group_id: fuzzed(),
                partitions: vec![named("fuzzed", 0)],
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.GroupsService/DeleteOffsets",
            v1::DeleteOffsetsRequest {
                group_id: fuzzed(),
                partitions: vec![named("fuzzed", 0)],
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.GroupsService/DescribeGroups",
            v1::DescribeGroupsRequest {
                group_ids: vec![fuzzed()],
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.GroupsService/DeleteGroup",
            v1::DeleteGroupRequest { group_id: fuzzed() }.encode_to_vec(),
        ),
        (
            "/highwater.v1.PlacementService/MoveReplicas",
            v1::MoveReplicasRequest {
                moves: vec![v1::PartitionMove {
                    partition: Some(named("fuzzed", 0)),
                    broker_ids: vec![1],
                }],
                validate_only: true,
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.PlacementService/SetReplicationFactor",
            v1::SetReplicationFactorRequest {
                topic: fuzzed(),
                replication_factor: 1,
                validate_only: true,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.PlacementService/ListMoves",
            v1::ListMovesRequest { topic: fuzzed() }.encode_to_vec(),
        ),
        (
            "/highwater.v1.RecoveryService/DescribeLeaderless",
            v1::DescribeLeaderlessRequest {
                topics: vec![fuzzed()],
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.RecoveryService/RecoverPartition",
            v1::RecoverPartitionRequest {
                partition: Some(named("fuzzed", 0)),
                lost_broker_ids: vec![2],
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.ClusterService/GetMetadata",
            v1::GetMetadataRequest::default().encode_to_vec(),
        ),
        (
            WATCH,
            v1::WatchMetadataRequest {
                topics: vec![fuzzed()],
            }
            .encode_to_vec(),
        ),
        (
            "/highwater.v1.ClusterService/DescribeCluster",
            v1::DescribeClusterRequest::default().encode_to_vec(),
        ),
    ]
}

fn broker() -> &'static (Runtime, TestBroker) {
    static BROKER: OnceLock<(Runtime, TestBroker)> = OnceLock::new();
    BROKER.get_or_init(|| {
        let runtime = Runtime::new().unwrap();
        let broker = runtime.block_on(async {
            let broker = TestBroker::start().await;
            broker.create("fuzzed", 1).await;
            // Elsewhere than what is fuzzed: must be unharmed in the end.
            broker.create("witness", 1).await;
            broker.append_values("witness", 0, &["w"]).await;
            broker
        });
        (runtime, broker)
    })
}

async fn ask(path: &str, body: Vec<u8>) -> Result<(), ApiError> {
    let (_, broker) = broker();
    if path == WATCH {
        begin(&broker.channel, path, &[], body).await
    } else {
        call(&broker.channel, path, &[], body).await
    }
}

/// Sends `body` to `path`, and sees that the broker is well.
fn survive(path: &str, body: Vec<u8>) {
    let (runtime, broker) = broker();
    runtime.block_on(async {
        // Any status will do; `call` fails the test when there is none.
        if let Err(error) = ask(path, body).await {
            assert_ne!(
                error.reason_name(),
                "UNKNOWN_SERVER_ERROR",
                "{path}: {error}"
            );
            assert_ne!(error.reason_name(), "NETWORK_EXCEPTION", "{path}: {error}");
        }
        assert_eq!(broker.values("witness", 0, 0).await, ["w"]);
    });
}

#[test]
fn each_method_carries_out_its_example() {
    let (runtime, _) = broker();
    for (path, message) in methods() {
        let done = runtime.block_on(ask(path, framed(&message)));
        match done {
            Ok(()) => {}
            // Its partition, once there is one, has all of its replicas: nothing of it can be given up.
            Err(error) if path.ends_with("/RecoverPartition") => assert!(
                ["INVALID_REQUEST", "UNKNOWN_TOPIC_OR_PARTITION"].contains(&error.reason_name()),
                "{path}: {error}"
            ),
            Err(error) => assert!(
                [
                    "TOPIC_ALREADY_EXISTS",
                    "UNKNOWN_TOPIC_OR_PARTITION",
                    "GROUP_ID_NOT_FOUND",
                ]
                .contains(&error.reason_name()),
                "{path}: {error}"
            ),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_messages_are_survived(
        which in any::<prop::sample::Index>(),
        message in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let methods = methods();
        let (path, _) = which.get(&methods);
        survive(path, framed(&message));
    }

    #[test]
    fn arbitrary_bodies_are_survived(
        which in any::<prop::sample::Index>(),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let methods = methods();
        let (path, _) = which.get(&methods);
        survive(path, body);
    }

    #[test]
    fn changed_requests_are_survived(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let methods = methods();
        let (path, message) = which.get(&methods);
        let mut message = message.clone();
        if !message.is_empty() {
            for (at, byte) in changes {
                let at = at.index(message.len());
                message[at] = byte;
            }
        }
        survive(path, framed(&message));
    }
}
