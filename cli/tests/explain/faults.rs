//! What disks and networks keep from moving.

use std::sync::Arc;

use highwater_broker::Broker;
use highwater_broker::fs::{CrashMode, Fault, Operation, SimFs};
use highwater_client::{NewTopic, Offset};
use highwater_proto::v1;
use serde_json::Value;
use tonic::transport::Endpoint;
use v1::fetch_service_client::FetchServiceClient;
use v1::produce_service_client::ProduceServiceClient;
use v1::subscribe_request::Request as Asked;

use crate::stage::{
    Cluster, Member, Stage, of_group, of_topic, run, seek, topics, until, until_says,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_under_one_log_or_under_all() {
    // Which writes fail, and what is said then.
    for (operation, file, cause, words) in [
        (
            Operation::Write,
            ".segment",
            "log_failed",
            "its replica on broker 1 has taken no records for ",
        ),
        (
            Operation::SyncData,
            "journal",
            "directory_failed",
            ": the data directory failed and takes no more writes",
        ),
    ] {
        let disk = SimFs::new(1);
        let builder = Broker::builder().file_system(Arc::new(disk.clone()));
        let stage = Stage::start(builder).await;
        stage.create(1).await;
        stage.produce(&["before"]).await;
        of_topic(&stage.address(), 0, "serving").await;
        disk.inject(Fault::new(operation, file).lasting());
        assert!(!is_stored(&stage, b"while").await);
        let said = of_topic(&stage.address(), 0, cause).await;
        assert!(said.contains(words), "{said}");
    }
}

/// Tries once to append a record to the first partition of `t`.
async fn is_stored(stage: &Stage, value: &[u8]) -> bool {
    let record = v1::Record {
        value: Some(value.to_vec().into()),
        ..Default::default()
    };
    let records = v1::Records {
        records: vec![record],
    };
    let partition = v1::TopicPartition {
        topic: "t".to_owned(),
        ..Default::default()
    };
    let item = v1::ProduceItem {
        partition: Some(partition),
        payload: Some(v1::produce_item::Payload::Records(records)),
    };
    let request = v1::ProduceRequest {
        items: vec![item],
        ..Default::default()
    };
    let answer = ProduceServiceClient::new(stage.channel().await)
        .produce(request)
        .await;
    answer.is_ok_and(|answer| {
        let outcome = answer.into_inner().outcomes.remove(0).outcome;
        matches!(outcome, Some(v1::produce_outcome::Outcome::Ack(_)))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_be_reached_from_here() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let advertised = nowhere.local_addr().unwrap().to_string();
    drop(nowhere);
    let mut cluster = Cluster::start_with(|broker, config| {
        if broker == 3 {
            config.server.client.advertised.clone_from(&advertised);
        }
    })
    .await;
    let addresses = cluster.addresses_of(&[1, 2]);
    run(&addresses, &["topic", "create", "t", "-p", "3", "-r", "3"]).await;
    let led = partition_where(&addresses, |one| one["leader"] == 3).await;
    let place = (Some("t"), Some(led));
    let said = until(
        &addresses,
        &["topic", "explain", "t"],
        place,
        "leader_unreachable",
    )
    .await;
    assert!(
        said.starts_with("broker 3 leads it and does not answer here ("),
        "{said}"
    );
    for broker in 1..=3 {
        cluster.stop(broker).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_do_not_hear_each_other() {
    let (cluster, passages) = Cluster::start_with_passages().await;
    let addresses = cluster.addresses();
    run(&addresses, &["topic", "create", "t", "-p", "1", "-r", "3"]).await;
    of_topic(&addresses, 0, "serving").await;
    drop(passages);
    let words = [
        "its replicas on brokers 1, 2, 3 elect one",
        "has known no leader for ",
    ];
    let place = (Some("t"), Some(0));
    until_says(
        &addresses,
        &["topic", "explain", "t"],
        place,
        "electing",
        &words,
    )
    .await;
}

/// The partition of `t` of which something is so, once there is one.
async fn partition_where(addresses: &str, is_so: impl Fn(&Value) -> bool) -> u64 {
    seek(async || {
        let described = run(addresses, &["topic", "describe", "t"]).await;
        let partitions = described[0]["partitions"].as_array().unwrap();
        let found = partitions.iter().find(|one| is_so(one))?;
        found["partition"].as_u64()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_committed_and_lost_with_the_power() {
    let disk = SimFs::new(1);
    let builder = Broker::builder().file_system(Arc::new(disk.clone()));
    let stage = Stage::start(builder).await;
    let topic = NewTopic::new("t").config("write.caching", "true");
    stage.admin.create_topic(topic).await.unwrap();
    stage.produce(&["a", "b", "c"]).await;
    let offsets = [("t".to_owned(), 0, Offset(3))];
    stage.admin.set_group_offsets("g", &offsets).await.unwrap();
    let disk = disk.crash(CrashMode::PowerDropped, 1);
    drop(stage);
    let stage = Stage::start(Broker::builder().file_system(Arc::new(disk))).await;
    let _member = Member::join(&stage, "m", topics(&["t"])).await;
    let said = of_group(&stage.address(), "g", 0, "committed_beyond_end").await;
    assert!(
        said.contains("the group committed 3 and the partition ends at 0"),
        "{said}"
    );
    assert!(said.contains("highwater group seek g --to end"), "{said}");
}

/// A subscription to `t` that has pushed something and of which nobody reads it.
async fn unread(stage: &Stage) -> tonic::Streaming<v1::SubscribeResponse> {
    let assign = v1::SubscribeAssign {
        partitions: vec![v1::FetchPartition {
            partition: Some(v1::TopicPartition {
                topic: "t".to_owned(),
                ..Default::default()
            }),
            max_bytes: 1 << 20,
            ..Default::default()
        }],
        ..Default::default()
    };
    let credit = v1::SubscribeCredit { bytes: 1 << 20 };
    let requests = [Asked::Assign(assign), Asked::Credit(credit)];
    let requests = requests.map(|request| v1::SubscribeRequest {
        request: Some(request),
    });
    let requests = futures::stream::iter(requests);
    // The transport reads ahead only as far as this.
    let endpoint = Endpoint::from_shared(format!("http://{}", stage.address())).unwrap();
    let endpoint = endpoint.initial_stream_window_size(64 << 10);
    let mut client = FetchServiceClient::new(endpoint.connect_lazy());
    client.subscribe(requests).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_what_they_subscribed_to() {
    let builder = Broker::builder().in_memory().configure(|config| {
        config.requests.memory_bytes = 4 << 20;
        config.requests.max_control_bytes = 64 << 10;
        config.requests.max_produce_bytes = (1 << 20) + (64 << 10);
        config.produce.max_stream_bytes = 2 << 20;
        config.produce.max_partition_bytes = 2 << 20;
        config.fetch.max_bytes = 2 << 20;
        config.fetch.max_decompressed_bytes = 2 << 20;
    });
    let stage = Stage::start(builder).await;
    stage.create(1).await;
    stage.produce(&[&"x".repeat(960 << 10)]).await;
    let address = stage.address();
    of_topic(&address, 0, "serving").await;
    // What is left of the memory suffices for those who ask why.
    let mut subscriptions = Vec::new();
    for _ in 0..4 {
        subscriptions.push(unread(&stage).await);
    }
    let said = of_topic(&address, 0, "throttled").await;
    assert!(
        said.contains("93 % of its memory for requests is in use"),
        "{said}"
    );
    drop(subscriptions);
    of_topic(&address, 0, "serving").await;
}
