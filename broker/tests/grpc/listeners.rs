//! Named listeners: what clients are told depends on where they came in.

use highwater_broker::Broker;
use highwater_proto::v1;
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};
use v1::cluster_service_client::ClusterServiceClient;

use crate::metrics::get_at;

async fn connect(address: impl std::fmt::Display) -> ClusterServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    ClusterServiceClient::new(endpoint.connect().await.unwrap())
}

/// The only broker's address, as each of the methods tells it.
async fn told(client: &mut ClusterServiceClient<Channel>) -> String {
    let request = v1::GetMetadataRequest::default();
    let got = client.get_metadata(request).await.unwrap().into_inner();
    let got = got.metadata.unwrap().brokers;

    let request = v1::WatchMetadataRequest::default();
    let mut watch = client.watch_metadata(request).await.unwrap().into_inner();
    let first = watch.next().await.unwrap().unwrap();
    let watched = first.metadata.unwrap().brokers;

    let request = v1::DescribeClusterRequest::default();
    let described = client.describe_cluster(request).await.unwrap().into_inner();

    assert_eq!(got, watched);
    assert_eq!(got, described.brokers);
    let [broker] = &got[..] else {
        panic!("one broker, not {got:?}");
    };
    format!("{}:{}", broker.host, broker.port)
}

#[tokio::test]
async fn clients_are_told_the_addresses_of_the_listener_they_came_in_by() {
    let broker = Broker::builder()
        .in_memory()
        .configure(|config| {
            config.server.client.advertised = "broker-1:7410".to_owned();
            config.server.client.named =
                "host=127.0.0.1:0@localhost:9410,plain=127.0.0.1:0".to_owned();
        })
        .start()
        .await
        .unwrap();
    let mut inside = connect(broker.address()).await;
    assert_eq!(told(&mut inside).await, "broker-1:7410");

    let mut host = connect(broker.named_address("host").unwrap()).await;
    assert_eq!(told(&mut host).await, "localhost:9410");

    let bound = broker.named_address("plain").unwrap();
    let mut plain = connect(bound).await;
    assert_eq!(told(&mut plain).await, bound.to_string());

    assert_eq!(broker.named_address("other"), None);
    broker.shutdown().await;
}

#[tokio::test]
async fn each_listener_has_connections_of_its_own() {
    let broker = Broker::builder()
        .in_memory()
        .http_address("127.0.0.1:0")
        .configure(|config| {
            config.server.client.max_connections = 1;
            config.server.client.named = "host=127.0.0.1:0".to_owned();
        })
        .start()
        .await
        .unwrap();
    let mut one = connect(broker.address()).await;
    let mut other = connect(broker.named_address("host").unwrap()).await;
    told(&mut one).await;
    told(&mut other).await;

    let http = broker.addresses().http.unwrap();
    let (_, page) = get_at(http, "/metrics").await;
    for listener in ["client", "host"] {
        let line = format!("highwater_connections{{listener=\"{listener}\"}} 1");
        assert!(page.contains(&line), "{line} in {page}");
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn a_taken_address_of_a_named_listener_is_named_in_the_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let started = Broker::builder()
        .in_memory()
        .configure(|config| config.server.client.named = format!("host={address}"))
        .start()
        .await;
    let error = started.err().unwrap().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}
