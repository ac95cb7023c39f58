//! What a broker shows on its HTTP listener, after it was used.

use std::collections::HashMap;
use std::net::SocketAddr;

use highwater_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;

use crate::test_broker::{TestBroker, batch, fetch_from, named};

/// Status and body of a page.
async fn get(broker: &TestBroker, path: &str) -> (u16, String) {
    get_at(broker.broker.addresses().http.unwrap(), path).await
}

/// The same of the broker whose HTTP listener is at `address`.
pub(crate) async fn get_at(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// The values of a page by name and labels.
async fn scrape(broker: &TestBroker, path: &str) -> HashMap<String, f64> {
    let (status, body) = get(broker, path).await;
    assert_eq!(status, 200);
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_tell_what_was_done() {
    let broker = TestBroker::start().await;
    broker.create("t", 2).await;
    let sent = batch(&["a", "b", "c"]);
    broker.append("t", 0, sent.clone()).await.unwrap();
    let streamed = v1::ProduceStreamRequest {
        items: vec![v1::ProduceStreamItem {
            correlation_id: 1,
            item: Some(v1::ProduceItem {
                partition: Some(named("t", 1)),
                payload: Some(v1::produce_item::Payload::RecordBatch(batch(&["d"]))),
            }),
        }],
        ..Default::default()
    };
    let answers = broker
        .producer()
        .produce_stream(tokio_stream::iter([streamed]))
        .await;
    let mut answers = answers.unwrap().into_inner();
    while let Some(answer) = answers.next().await {
        answer.unwrap();
    }
    assert_eq!(broker.values("t", 0, 0).await, ["a", "b", "c"]);
    broker.append("absent", 0, sent.clone()).await.unwrap_err();
    let beyond = v1::FetchRequest {
        partitions: vec![fetch_from("t", 0, 99)],
        max_bytes: 1,
        ..Default::default()
    };
    assert!(broker.fetch(beyond).await.unwrap()[0].error.is_some());
    let watch = v1::WatchMetadataRequest::default();
    let mut watch = broker.cluster().watch_metadata(watch).await.unwrap();
    watch.get_mut().next().await.unwrap().unwrap();

    let page = scrape(&broker, "/metrics").await;
    let value = |name: &str| *page.get(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(value("highwater_produced_batches_total"), 2.0);
    assert_eq!(value("highwater_produced_records_total"), 4.0);
    assert!(value("highwater_produced_bytes_total") > sent.len() as f64);
    assert_eq!(value("highwater_fetched_records_total"), 3.0);
    assert_eq!(
        value("highwater_produce_acknowledgement_seconds_count"),
        3.0
    );
    for (name, count) in [
        (
            "highwater_request_duration_seconds_count{method=\"Produce\"}",
            2.0,
        ),
        (
            "highwater_request_duration_seconds_count{method=\"Fetch\"}",
            2.0,
        ),
        (
            "highwater_request_duration_seconds_count{method=\"CreateTopic\"}",
            1.0,
        ),
        ("highwater_open_streams{method=\"WatchMetadata\"}", 1.0),
        ("highwater_open_streams{method=\"ProduceStream\"}", 0.0),
        (
            "highwater_request_errors_total{method=\"Produce\",reason=\"UNKNOWN_TOPIC_OR_PARTITION\"}",
            1.0,
        ),
        (
            "highwater_request_errors_total{method=\"Fetch\",reason=\"OFFSET_OUT_OF_RANGE\"}",
            1.0,
        ),
        ("highwater_partitions{state=\"leading\"}", 2.0),
        ("highwater_connections{listener=\"client\"}", 1.0),
        ("highwater_topics", 1.0),
        ("highwater_ready", 1.0),
        ("highwater_data_directory_failed", 0.0),
        ("highwater_disk_refusing", 0.0),
    ] {
        assert_eq!(value(name), count, "{name}");
    }
    for name in [
        "highwater_journal_sync_duration_seconds_count",
        "highwater_journal_group_turns_sum",
        "highwater_journal_group_bytes_sum",
        "highwater_shard_turn_duration_seconds_count",
        "highwater_log_bytes",
        "highwater_log_entries_total",
        "highwater_disk_free_bytes",
        "highwater_request_memory_limit_bytes",
        "highwater_process_cpu_seconds_total",
        "highwater_process_anonymous_memory_bytes",
        "highwater_start_time_seconds",
    ] {
        assert!(value(name) > 0.0, "{name}");
    }

    let topics = scrape(&broker, "/metrics/topics").await;
    assert_eq!(topics["highwater_topic_records_total{topic=\"t\"}"], 4.0);
    assert_eq!(topics["highwater_topic_partitions{topic=\"t\"}"], 2.0);
    assert_eq!(get(&broker, "/readyz").await, (200, "ready\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_says_what_is_wrong() {
    let disk = highwater_storage::fs::SimFs::new(1);
    let mut config = crate::test_broker::config();
    config.storage.min_free_bytes = 64 << 20;
    disk.set_capacity_bytes(256 << 20);
    let broker = TestBroker::start_on(config, std::sync::Arc::new(disk.clone())).await;
    assert_eq!(get(&broker, "/readyz").await.1, "ready\n");
    disk.set_capacity_bytes(32 << 20);
    // Reads go on, so it stays ready.
    let (status, body) = get(&broker, "/readyz").await;
    assert_eq!(status, 200);
    assert!(body.contains("critical DISK_FULL"), "{body}");
    let page = scrape(&broker, "/metrics").await;
    assert_eq!(page["highwater_disk_refusing"], 1.0);
    assert_eq!(page["highwater_health_findings{state=\"critical\"}"], 1.0);
}
