//! Brokers inside the program that uses them: in memory, on disk, with a port and without.

use std::time::Duration;

use highwater_broker::{Broker, BrokerBuilder, Error};
use highwater_proto::Reason;
use highwater_proto::v1;
use tonic::Code;
use tonic::transport::Endpoint;
use v1::cluster_service_client::ClusterServiceClient;

use crate::test_broker::{TestBroker, batch, config};

/// A broker in memory that nobody reaches from outside.
fn hidden() -> BrokerBuilder {
    Broker::builder().in_memory().without_ports()
}

#[tokio::test]
async fn a_broker_without_disk_and_ports_takes_records_and_gives_them_back() {
    let broker = TestBroker::embedded(hidden()).await;
    broker.create("t", 2).await;
    assert_eq!(broker.append_values("t", 1, &["a", "b"]).await, 0);
    assert_eq!(broker.append_values("t", 1, &["c"]).await, 2);
    assert_eq!(broker.values("t", 1, 0).await, ["a", "b", "c"]);

    let addresses = broker.broker.addresses();
    assert_eq!((addresses.client, addresses.http), (None, None));
    let metadata = broker.metadata().await;
    let listed = &metadata.brokers[0];
    assert_eq!(
        format!("{}:{}", listed.host, listed.port),
        broker.broker.address()
    );
    broker.broker.shutdown().await;
}

#[tokio::test]
async fn a_broker_in_memory_has_a_port_unless_told_otherwise() {
    let broker = Broker::builder().in_memory().start().await.unwrap();
    let address = broker.addresses().client.unwrap();
    assert_eq!(broker.address(), address.to_string());
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = ClusterServiceClient::new(channel.connect().await.unwrap());
    let request = v1::GetMetadataRequest::default();
    client.get_metadata(request).await.unwrap();
    assert_eq!(broker.addresses().http, None);
}

#[tokio::test]
async fn brokers_in_one_process_have_nothing_in_common() {
    let first = TestBroker::embedded(hidden()).await;
    let second = TestBroker::embedded(hidden()).await;
    first.create("t", 1).await;
    assert_eq!(second.metadata().await.topics, []);
}

#[tokio::test]
async fn a_connector_says_when_its_broker_has_stopped() {
    let broker = hidden().start().await.unwrap();
    let connector = broker.connector();
    broker.shutdown().await;
    let error = connector.connect().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn memory_that_is_used_up_is_a_full_disk() {
    let broker = TestBroker::embedded(hidden().memory_limit(24 << 20)).await;
    broker.create("t", 1).await;
    let large = "x".repeat(512 << 10);
    let mut stored = 0;
    let refused = loop {
        match broker.append("t", 0, batch(&[&large])).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 48, "there is no bound");
    };
    assert_eq!(refused.reason, Reason::DiskFull);
    assert!(stored > 4, "{stored}");
    assert_eq!(broker.high_watermark("t", 0).await, stored);

    let request = v1::DeleteTopicRequest {
        name: "t".to_owned(),
        ..v1::DeleteTopicRequest::default()
    };
    broker.admin().delete_topic(request).await.unwrap();
    broker.create("next", 1).await;
    // Files go when a checkpoint no longer names them.
    while let Err(error) = broker.append("next", 0, batch(&[&large])).await {
        assert_eq!(error.reason, Reason::DiskFull);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_largest_batch_fits_into_a_broker_in_memory() {
    let broker = TestBroker::embedded(hidden()).await;
    let configs = [("max.message.bytes".to_owned(), (16 << 20).to_string())].into();
    let request = v1::CreateTopicRequest {
        name: "t".to_owned(),
        partitions: 1,
        configs,
        ..v1::CreateTopicRequest::default()
    };
    broker.admin().create_topic(request).await.unwrap();
    let large = "x".repeat((16 << 20) - 100);
    let acked = broker.append("t", 0, batch(&[&large])).await.unwrap();
    assert_eq!(acked.base_offset, 0);
}

#[tokio::test]
async fn data_on_disk_is_there_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || Broker::builder().data_dir(directory.path()).without_ports();
    let broker = TestBroker::embedded(builder()).await;
    broker.create("t", 1).await;
    broker.append_values("t", 0, &["kept"]).await;
    broker.broker.shutdown().await;
    let broker = TestBroker::embedded(builder()).await;
    assert_eq!(broker.values("t", 0, 0).await, ["kept"]);
}

#[tokio::test]
async fn a_dropped_broker_gives_its_data_directory_free() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || Broker::builder().data_dir(directory.path()).without_ports();
    let broker = TestBroker::embedded(builder()).await;
    broker.create("t", 1).await;
    broker.append_values("t", 0, &["kept"]).await;
    let TestBroker {
        broker, channel, ..
    } = broker;
    drop((broker, channel));
    // It does not wait for that, so the next start may have to.
    let next = loop {
        match builder().start().await {
            Ok(next) => break next,
            Err(Error::Open { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
    };
    let channel =
        Endpoint::from_static("http://broker").connect_with_connector_lazy(next.connector());
    let mut client = ClusterServiceClient::new(channel);
    let request = v1::GetMetadataRequest::default();
    let metadata = client
        .get_metadata(request)
        .await
        .unwrap()
        .into_inner()
        .metadata
        .unwrap();
    assert_eq!(metadata.topics[0].name, "t");
}

#[tokio::test]
async fn calls_to_a_dropped_broker_fail() {
    let TestBroker {
        broker, channel, ..
    } = TestBroker::embedded(hidden()).await;
    let mut client = ClusterServiceClient::new(channel);
    let request = v1::GetMetadataRequest::default();
    client.get_metadata(request.clone()).await.unwrap();
    drop(broker);
    // What is in flight may still be answered; soon nothing is.
    while client.get_metadata(request.clone()).await.is_ok() {}
    let error = client.get_metadata(request).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let builder = |id| {
        Broker::builder()
            .data_dir(directory.path())
            .configure(move |config| config.broker_id = id)
    };
    builder(1).start().await.unwrap().shutdown().await;
    let Err(error) = builder(2).start().await else {
        panic!("the directory belongs to broker 1");
    };
    assert!(matches!(error, Error::OtherBroker { .. }), "{error}");
    loop {
        match builder(1).start().await {
            Ok(broker) => return broker.shutdown().await,
            Err(Error::Open { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_starts() {
    let wrong = hidden().configure(|all| all.broker_id = 0);
    let Err(error) = wrong.start().await else {
        panic!("there is no broker 0");
    };
    assert!(error.to_string().contains("broker_id"), "{error}");
    let exposed = Broker::builder().in_memory().address("0.0.0.0:0");
    let Err(error) = exposed.start().await else {
        panic!("others could reach it");
    };
    assert!(error.to_string().contains("insecure"), "{error}");
    let with_all = Broker::builder()
        .configure(|all| *all = config())
        .in_memory();
    with_all.start().await.unwrap().shutdown().await;
}
