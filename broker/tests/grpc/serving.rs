//! What a broker does for clients that behave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_proto::{ApiError, Reason, v1};
use highwater_storage::fs::{Fault, Operation, SimFs};
use tokio_stream::StreamExt as _;
use v1::offset_spec::Spec;

use crate::test_broker::{
    TestBroker, batch, batch_of, config, fetch_from, named, outcome, values_of,
};

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_as_they_were_sent_in_both_forms() {
    let broker = TestBroker::start().await;
    let topic_id = broker.create("t", 2).await;
    let plain = v1::Record {
        key: Some("k".into()),
        value: Some("v".into()),
        headers: vec![v1::Header {
            key: "h".to_owned(),
            value: Some("x".into()),
        }],
        timestamp_ms: Some(5),
        offset: 0,
    };
    let request = v1::ProduceRequest {
        items: vec![
            v1::ProduceItem {
                partition: Some(named("t", 0)),
                payload: Some(v1::produce_item::Payload::Records(v1::Records {
                    records: vec![plain.clone()],
                })),
            },
            v1::ProduceItem {
                partition: Some(v1::TopicPartition {
                    topic: String::new(),
                    topic_id: topic_id.clone(),
                    partition: 0,
                }),
                payload: Some(v1::produce_item::Payload::RecordBatch(batch(&["b", "c"]))),
            },
        ],
        ..Default::default()
    };
    let outcomes = broker
        .producer()
        .produce(request)
        .await
        .unwrap()
        .into_inner()
        .outcomes;
    let offsets: Vec<_> = outcomes
        .into_iter()
        .map(|one| outcome(one).unwrap().base_offset)
        .collect();
    assert_eq!(offsets, [0, 1]);

    let fetch = |format: v1::RecordFormat| v1::FetchRequest {
        partitions: vec![fetch_from("t", 0, 0), fetch_from("t", 1, 0)],
        max_bytes: 1 << 20,
        format: format.into(),
        ..Default::default()
    };
    let fetched = broker
        .fetch(fetch(v1::RecordFormat::Records))
        .await
        .unwrap();
    let Some(v1::fetched_partition::Data::Records(records)) = &fetched[0].data else {
        panic!("{fetched:?}");
    };
    assert_eq!(records.records[0], plain);
    assert_eq!(fetched[0].next_offset, 3);
    assert_eq!(fetched[0].high_watermark, 3);
    assert_eq!(fetched[0].partition.as_ref().unwrap().topic_id, topic_id);
    assert_eq!(
        (fetched[1].data.is_none(), fetched[1].next_offset),
        (true, 0)
    );

    let fetched = broker
        .fetch(fetch(v1::RecordFormat::Batches))
        .await
        .unwrap();
    assert_eq!(values_of(&fetched[0]), ["v", "b", "c"]);
    let Some(v1::fetched_partition::Data::RecordBatches(batches)) = &fetched[0].data else {
        panic!("{fetched:?}");
    };
    let header = highwater_proto::batch::BatchHeader::parse(&batches.batches[1]).unwrap();
    assert_eq!(header.base_offset.0, 1);
    assert_eq!(
        u64::try_from(header.leader_epoch),
        Ok(fetched[0].leader_epoch)
    );
    broker.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_wakes_up_when_records_come() {
    let broker = TestBroker::start().await;
    broker.create("t", 2).await;
    let request = v1::FetchRequest {
        partitions: vec![fetch_from("t", 0, 0), fetch_from("t", 1, 0)],
        min_bytes: 1,
        max_bytes: 1 << 20,
        max_wait_ms: 30_000,
        format: v1::RecordFormat::Records.into(),
        allow_follower: false,
    };
    let began = Instant::now();
    let (fetched, _) = tokio::join!(broker.fetch(request), async {
        tokio::task::yield_now().await;
        broker.append_values("t", 1, &["x"]).await
    });
    assert_eq!(values_of(&fetched.unwrap()[1]), ["x"]);
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_without_records_answers_when_its_time_is_up() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    broker.append_values("t", 0, &["x"]).await;
    let request = |offset, min_bytes| v1::FetchRequest {
        partitions: vec![fetch_from("t", 0, offset)],
        min_bytes,
        max_bytes: 1 << 20,
        max_wait_ms: 50,
        format: v1::RecordFormat::Records.into(),
        allow_follower: false,
    };
    let began = Instant::now();
    let fetched = broker.fetch(request(1, 1)).await.unwrap();
    assert!(values_of(&fetched[0]).is_empty());
    assert!(began.elapsed() >= Duration::from_millis(50));
    // too few bytes are returned all the same
    let fetched = broker.fetch(request(0, 1 << 19)).await.unwrap();
    assert_eq!(values_of(&fetched[0]), ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_on_bytes_hold_but_one_batch_always_comes() {
    let broker = TestBroker::start().await;
    broker.create("t", 2).await;
    let large = "x".repeat(10_000);
    for partition in [0, 1] {
        for _ in 0..3 {
            broker.append_values("t", partition, &[&large]).await;
        }
    }
    let request = |max_bytes, partition_bytes| {
        let mut first = fetch_from("t", 0, 0);
        first.max_bytes = partition_bytes;
        v1::FetchRequest {
            partitions: vec![first, fetch_from("t", 1, 0)],
            max_bytes,
            ..Default::default()
        }
    };
    let fetched = broker.fetch(request(1, 0)).await.unwrap();
    assert_eq!((fetched[0].next_offset, fetched[1].next_offset), (1, 0));
    let fetched = broker.fetch(request(1 << 20, 1)).await.unwrap();
    assert_eq!((fetched[0].next_offset, fetched[1].next_offset), (1, 3));
    let fetched = broker.fetch(request(35_000, 0)).await.unwrap();
    assert_eq!((fetched[0].next_offset, fetched[1].next_offset), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    let broker = TestBroker::start().await;
    let topic_id = broker.create("t", 3).await;
    for partition in 0..3 {
        broker.append_values("t", partition, &["a", "b"]).await;
    }
    let cluster_id = broker.metadata().await.cluster_id;
    let broker = broker.restart().await;
    let metadata = broker.metadata().await;
    assert_eq!(metadata.cluster_id, cluster_id);
    assert_eq!(metadata.topics[0].topic_id, topic_id);
    assert_eq!(metadata.topics[0].partitions.len(), 3);
    for partition in 0..3 {
        assert_eq!(broker.values("t", partition, 0).await, ["a", "b"]);
        assert_eq!(broker.append_values("t", partition, &["c"]).await, 2);
        assert_eq!(broker.values("t", partition, 1).await, ["b", "c"]);
    }
    broker.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_is_refused() {
    let broker = TestBroker::start().await;
    let mut second = config();
    second.data_dir = broker.data_dir();
    let Err(error) = highwater_broker::Broker::start(second).await else {
        panic!("two brokers share a directory");
    };
    assert!(error.to_string().contains("another process"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_live_from_create_to_delete() {
    let broker = TestBroker::start().await;
    let first_id = broker.create("t", 1).await;
    broker.append_values("t", 0, &["old"]).await;

    let mut admin = broker.admin();
    let alter = v1::AlterTopicRequest {
        name: "t".to_owned(),
        set: [("max.message.bytes".to_owned(), "128".to_owned())].into(),
        ..Default::default()
    };
    admin.alter_topic(alter).await.unwrap();
    let refused = broker.append("t", 0, batch(&[&"x".repeat(200)])).await;
    assert_eq!(refused.unwrap_err().reason, Reason::MessageTooLarge);

    let add = v1::AddPartitionsRequest {
        name: "t".to_owned(),
        total_partitions: 4,
        ..Default::default()
    };
    admin.add_partitions(add).await.unwrap();
    assert_eq!(broker.append_values("t", 3, &["new"]).await, 0);

    let describe = v1::DescribeTopicRequest {
        name: "t".to_owned(),
        ..Default::default()
    };
    let described = admin
        .describe_topic(describe.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(described.partitions.len(), 4);
    assert_eq!(described.partitions[0].high_watermark, 1);
    let set = described
        .configs
        .iter()
        .find(|config| config.name == "max.message.bytes")
        .unwrap();
    assert_eq!(
        (set.value.as_str(), set.source()),
        ("128", v1::ConfigSource::Topic)
    );

    let delete = v1::DeleteTopicRequest {
        name: "t".to_owned(),
        topic_id: first_id.clone(),
    };
    let deleted = admin.delete_topic(delete).await.unwrap().into_inner();
    assert_eq!(deleted.topic_id, first_id);
    let gone = broker.append("t", 0, batch(&["x"])).await.unwrap_err();
    assert_eq!(gone.reason, Reason::UnknownTopicOrPartition);
    let gone = admin.describe_topic(describe).await.unwrap_err();
    assert_eq!(ApiError::from(gone).reason, Reason::UnknownTopicOrPartition);

    let second_id = broker.create("t", 1).await;
    assert_ne!(first_id, second_id);
    assert!(broker.values("t", 0, 0).await.is_empty());
    let broker = broker.restart().await;
    assert_eq!(broker.metadata().await.topics[0].topic_id, second_id);
    assert_eq!(broker.high_watermark("t", 0).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trimmed_records_are_gone_also_after_a_restart() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    broker.append_values("t", 0, &["a", "b", "c"]).await;
    let trim = v1::TrimPartitionsRequest {
        items: vec![v1::TrimItem {
            partition: Some(named("t", 0)),
            before_offset: Some(2),
        }],
    };
    let trimmed = broker
        .admin()
        .trim_partitions(trim)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(trimmed.outcomes[0].log_start_offset, 2);
    let broker = broker.restart().await;
    let earliest = Spec::Earliest(v1::EarliestOffset {});
    let listed = broker.list_offset("t", 0, earliest).await.unwrap();
    assert_eq!(listed.offset, Some(2));
    assert_eq!(broker.values("t", 0, 2).await, ["c"]);
    let below = v1::FetchRequest {
        partitions: vec![fetch_from("t", 0, 1)],
        max_bytes: 1 << 20,
        ..Default::default()
    };
    let fetched = broker.fetch(below).await.unwrap();
    let error = ApiError::from(fetched[0].error.clone().unwrap());
    assert_eq!(error.reason, Reason::OffsetOutOfRange);
    assert_eq!(error.metadata["log_start_offset"], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time_to_the_record() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    broker.append_values("t", 0, &["1s", "2s", "3s"]).await;
    broker.append_values("t", 0, &["1s again"]).await;
    let cases = [
        (0, Some(0), 1_000),
        (1_000, Some(0), 1_000),
        (1_001, Some(1), 2_000),
        (3_000, Some(2), 3_000),
        (3_001, None, -1),
    ];
    for (asked, offset, timestamp_ms) in cases {
        let listed = broker
            .list_offset("t", 0, Spec::TimestampMs(asked))
            .await
            .unwrap();
        assert_eq!(
            (listed.offset, listed.timestamp_ms),
            (offset, timestamp_ms),
            "{asked}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_twice_is_stored_once() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    let request = v1::InitProducerIdRequest::default();
    let mut producer = broker.producer();
    let first = producer
        .init_producer_id(request.clone())
        .await
        .unwrap()
        .into_inner();
    let second = producer
        .init_producer_id(request)
        .await
        .unwrap()
        .into_inner();
    assert_ne!(first.producer_id, second.producer_id);
    let stamped = |sequence| {
        let stamp = highwater_proto::batch::ProducerStamp {
            id: first.producer_id.into(),
            epoch: i16::try_from(first.producer_epoch).unwrap().into(),
            sequence: highwater_proto::Sequence(sequence),
        };
        batch_of(&["a", "b"], Some(stamp))
    };
    for _ in 0..2 {
        assert_eq!(
            broker.append("t", 0, stamped(0)).await.unwrap().base_offset,
            0
        );
    }
    assert_eq!(
        broker.append("t", 0, stamped(2)).await.unwrap().base_offset,
        2
    );
    assert_eq!(
        broker.append("t", 0, stamped(0)).await.unwrap().base_offset,
        0
    );
    assert_eq!(broker.high_watermark("t", 0).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_stream_answers_each_batch_in_order_per_partition() {
    let broker = TestBroker::start().await;
    broker.create("t", 2).await;
    let item = |correlation_id: u64, topic: &str, payload: Bytes| v1::ProduceStreamItem {
        correlation_id,
        item: Some(v1::ProduceItem {
            partition: Some(named(topic, u32::try_from(correlation_id % 2).unwrap())),
            payload: Some(v1::produce_item::Payload::RecordBatch(payload)),
        }),
    };
    let mut corrupt = batch(&["x"]).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let mut messages: Vec<_> = (0..50)
        .map(|id| v1::ProduceStreamRequest {
            items: vec![item(id, "t", batch(&["x"]))],
            ..Default::default()
        })
        .collect();
    messages.push(v1::ProduceStreamRequest {
        items: vec![
            item(50, "t", corrupt.into()),
            item(51, "t", batch(&["x"])),
            item(52, "t", batch(&["x"])),
            item(53, "none", batch(&["x"])),
        ],
        ..Default::default()
    });
    let responses = broker
        .producer()
        .produce_stream(tokio_stream::iter(messages))
        .await
        .unwrap();
    let mut responses = responses.into_inner();
    let mut answered: [Vec<(u64, Option<u64>)>; 2] = Default::default();
    while let Some(response) = responses.next().await {
        for one in response.unwrap().outcomes {
            let offset = outcome(one.outcome.unwrap())
                .ok()
                .map(|ack| ack.base_offset);
            let lane = usize::try_from(one.correlation_id % 2).unwrap();
            if one.correlation_id != 53 {
                answered[lane].push((one.correlation_id, offset));
            }
        }
    }
    let mut even: Vec<_> = (0..25).map(|n| (2 * n, Some(n))).collect();
    even.extend([(50, None), (52, Some(25))]);
    let odd: Vec<_> = (0..26).map(|n| (2 * n + 1, Some(n))).collect();
    assert_eq!(answered, [even, odd]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_records_and_goes_on_when_there_is_room() {
    let disk = SimFs::new(1);
    let mut config = config();
    config.storage.min_free_bytes = 32 << 20;
    disk.set_capacity_bytes(256 << 20);
    let broker = TestBroker::start_on(config, Arc::new(disk.clone())).await;
    broker.create("t", 1).await;
    broker.append_values("t", 0, &["before"]).await;

    disk.set_capacity_bytes(1 << 20);
    let refused = broker.append("t", 0, batch(&["while"])).await.unwrap_err();
    assert_eq!(refused.reason, Reason::DiskFull);
    assert!(refused.is_retriable() && refused.is_definite());
    assert_eq!(broker.values("t", 0, 0).await, ["before"]);
    let described = broker
        .cluster()
        .describe_cluster(v1::DescribeClusterRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(described.health(), v1::HealthState::Critical);
    assert_eq!(described.findings[0].reason, "DISK_FULL");

    disk.set_capacity_bytes(256 << 20);
    assert_eq!(broker.append_values("t", 0, &["after"]).await, 1);
    assert_eq!(broker.values("t", 0, 0).await, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_failed_is_told_with_the_replicas_that_it_stops() {
    // In which file a write fails, and what the broker and its replica say then.
    for (operation, file, of_broker) in [
        (Operation::SyncData, "journal", Some("DIRECTORY_FAILED")),
        (Operation::Write, ".segment", None),
    ] {
        let disk = SimFs::new(1);
        let broker = TestBroker::start_on(config(), Arc::new(disk.clone())).await;
        broker.create("t", 1).await;
        broker.append_values("t", 0, &["before"]).await;
        disk.inject(Fault::new(operation, file).lasting());
        broker.append("t", 0, batch(&["while"])).await.unwrap_err();

        let request = v1::DescribeTopicRequest {
            name: "t".to_owned(),
            as_known_here: true,
        };
        let told = async {
            loop {
                let described = broker.admin().describe_topic(request.clone()).await;
                let mut partitions = described.unwrap().into_inner().partitions;
                let replica = partitions.remove(0).replica.unwrap();
                let is_failed = replica.standing() == v1::ReplicaStanding::Failed;
                if let Some(finding) = replica.finding.filter(|_| is_failed) {
                    return finding;
                }
                tokio::task::yield_now().await;
            }
        };
        let finding = tokio::time::timeout(Duration::from_secs(60), told).await;
        assert_eq!(finding.unwrap().reason, "LOG_FAILED", "{file}");
        let request = v1::DescribeClusterRequest {};
        let described = broker.cluster().describe_cluster(request).await;
        let described = described.unwrap().into_inner();
        let failed = described
            .findings
            .iter()
            .find(|one| one.reason == "DIRECTORY_FAILED");
        assert_eq!(failed.map(|one| &one.reason[..]), of_broker, "{file}");
        assert!(described.request_memory_limit_bytes > described.request_memory_bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_metadata_hears_of_its_topics_only() {
    let broker = TestBroker::start().await;
    let request = v1::WatchMetadataRequest {
        topics: vec!["t".to_owned()],
    };
    let mut watch = broker
        .cluster()
        .watch_metadata(request)
        .await
        .unwrap()
        .into_inner();
    let first = watch.next().await.unwrap().unwrap().metadata.unwrap();
    assert!(first.topics.is_empty());
    broker.create("other", 1).await;
    let id = broker.create("t", 1).await;
    let second = watch.next().await.unwrap().unwrap().metadata.unwrap();
    assert_eq!(second.topics[0].topic_id, id);
    assert_eq!(second.topics.len(), 1);
    assert!(second.version > first.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_metadata_hears_of_a_new_leader_epoch() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    let before = broker.metadata().await;
    // A partition with one replica is led again when it is first needed.
    let broker = broker.restart().await;
    let mut watch = broker
        .cluster()
        .watch_metadata(v1::WatchMetadataRequest::default())
        .await
        .unwrap()
        .into_inner();
    let first = watch.next().await.unwrap().unwrap().metadata.unwrap();
    assert!(first.version > before.version);
    broker.append_values("t", 0, &["a"]).await;
    let second = watch.next().await.unwrap().unwrap().metadata.unwrap();
    let epoch = |metadata: &v1::ClusterMetadata| metadata.topics[0].partitions[0].leader_epoch;
    assert!(epoch(&second) > epoch(&first));
    assert!(second.version > first.version);
    assert_eq!(broker.metadata().await, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_streams_and_waiting_fetches() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    let watch = v1::WatchMetadataRequest::default();
    let mut watch = broker
        .cluster()
        .watch_metadata(watch)
        .await
        .unwrap()
        .into_inner();
    watch.next().await.unwrap().unwrap();
    let mut fetcher = broker.fetcher();
    let waiting = fetcher.fetch(v1::FetchRequest {
        partitions: vec![fetch_from("t", 0, 0)],
        min_bytes: 1,
        max_bytes: 1 << 20,
        max_wait_ms: 30_000,
        ..Default::default()
    });
    let began = Instant::now();
    let TestBroker { broker, .. } = broker;
    let ending = async {
        loop {
            match watch.next().await {
                Some(Ok(_)) => {}
                other => return other,
            }
        }
    };
    let (_, _, ended) = tokio::join!(waiting, broker.shutdown(), ending);
    let error = ApiError::from(ended.unwrap().unwrap_err());
    assert_eq!(error.reason, Reason::ShuttingDown);
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    let broker = TestBroker::start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(broker.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest {
        service: String::new(),
    };
    let status = health.check(request).await.unwrap().into_inner();
    assert_eq!(status.status, 1);
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(
                String::new(),
            ),
        ),
    };
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(
            broker.channel.clone(),
        );
    let answers = reflection
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap();
    let answer = answers.into_inner().next().await.unwrap().unwrap();
    let text = format!("{answer:?}");
    assert!(text.contains("highwater.v1.ProduceService"), "{text}");
    assert!(!text.contains("internal"), "{text}");
    let described = broker
        .cluster()
        .describe_cluster(v1::DescribeClusterRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(described.health(), v1::HealthState::Ok);
    assert_eq!((described.feature_level, described.broker_id), (1, 1));
}
