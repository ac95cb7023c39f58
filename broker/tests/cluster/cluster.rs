//! Brokers that found a cluster, and what their clients do.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use highwater_broker::{Broker, BrokerBuilder, Error};
use highwater_proto::{ApiError, v1};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use v1::admin_service_client::AdminServiceClient;
use v1::cluster_service_client::ClusterServiceClient;
use v1::fetch_service_client::FetchServiceClient;
use v1::groups_service_client::GroupsServiceClient;
use v1::placement_service_client::PlacementServiceClient;
use v1::produce_service_client::ProduceServiceClient;

/// What is waited for takes less than this, or never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Brokers with the same seeds.
pub(crate) struct Cluster {
    seeds: String,
    peer_ports: BTreeMap<u32, u16>,
    directories: BTreeMap<u32, TempDir>,
    running: BTreeMap<u32, Broker>,
}

impl Cluster {
    /// Brokers numbered from 1, of which the first `seeds` are the seeds. None runs.
    pub(crate) fn of(brokers: u32, seeds: u32) -> Self {
        // All are taken before the first is given free, so that they differ.
        let listeners: BTreeMap<_, _> = (1..=brokers)
            .map(|id| (id, TcpListener::bind("127.0.0.1:0").unwrap()))
            .collect();
        let peer_ports: BTreeMap<_, _> = listeners
            .iter()
            .map(|(id, listener)| (*id, listener.local_addr().unwrap().port()))
            .collect();
        let seeds: Vec<_> = (1..=seeds)
            .map(|id| format!("{id}@127.0.0.1:{}", peer_ports[&id]))
            .collect();
        let directory = |id| (id, tempfile::tempdir().unwrap());
        Self {
            seeds: seeds.join(","),
            directories: (1..=brokers).map(directory).collect(),
            peer_ports,
            running: BTreeMap::new(),
        }
    }

    /// A running cluster of so many brokers, all of them seeds.
    pub(crate) async fn running(brokers: u32) -> Self {
        let mut cluster = Self::of(brokers, brokers);
        let all: Vec<_> = (1..=brokers).collect();
        cluster.start(&all).await;
        cluster
    }

    pub(crate) fn builder(&self, id: u32) -> BrokerBuilder {
        Broker::builder()
            .broker_id(id)
            .data_dir(self.directories[&id].path().join("data"))
            .peer_address(format!("127.0.0.1:{}", self.peer_ports[&id]))
            .seeds(&self.seeds)
            .http_address("127.0.0.1:0")
            .configure(|config| {
                config.shards.threads = 1;
                config.storage.journal_file_bytes = 1 << 20;
                config.storage.checkpoint_interval_bytes = 4 << 20;
                config.storage.reserve_bytes = 0;
                config.storage.min_free_bytes = 0;
            })
    }

    /// Starts these brokers together and waits until all of them serve.
    pub(crate) async fn start(&mut self, ids: &[u32]) {
        let starts = ids.iter().map(|id| self.builder(*id).start());
        let started = within(futures::future::join_all(starts)).await;
        for (id, broker) in ids.iter().zip(started) {
            self.running.insert(*id, broker.unwrap());
        }
    }

    /// Tries to start one broker.
    pub(crate) async fn try_start(&mut self, id: u32) -> Result<(), Error> {
        let broker = within(self.builder(id).start()).await?;
        self.running.insert(id, broker);
        Ok(())
    }

    /// Stops these brokers together.
    pub(crate) async fn stop(&mut self, ids: &[u32]) {
        let stopping = ids.iter().filter_map(|id| self.running.remove(id));
        within(futures::future::join_all(stopping.map(Broker::shutdown))).await;
    }

    /// Waits until all others know that a broker is down.
    pub(crate) async fn until_down(&self, id: u32) {
        for client in self.clients() {
            within(async {
                loop {
                    let brokers = client.metadata().await.brokers;
                    if brokers
                        .iter()
                        .any(|other| other.broker_id == id && !other.alive)
                    {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }

    /// A broker's data is lost for good.
    pub(crate) fn wipe(&mut self, id: u32) {
        assert!(!self.running.contains_key(&id));
        self.directories.insert(id, tempfile::tempdir().unwrap());
    }

    pub(crate) fn client(&self, id: u32) -> Client {
        let address = format!("http://{}", self.running[&id].address());
        Client {
            channel: Endpoint::from_shared(address).unwrap().connect_lazy(),
        }
    }

    /// A page of the HTTP listeners of all brokers that run.
    pub(crate) async fn pages(&self, path: &str) -> String {
        let mut pages = String::new();
        for broker in self.running.values() {
            let address = broker.addresses().http.unwrap();
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut pages).await.unwrap();
        }
        pages
    }

    pub(crate) fn clients(&self) -> Vec<Client> {
        self.running.keys().map(|id| self.client(*id)).collect()
    }

    /// Appends one record at whichever broker leads the partition.
    pub(crate) async fn produce(&self, topic: &str, partition: u32, value: &str) -> u64 {
        let clients = self.clients();
        within(async {
            loop {
                for client in &clients {
                    match client.produce(topic, partition, value).await {
                        Ok(ack) => return ack.base_offset,
                        Err(error) => assert!(error.is_retriable(), "{error}"),
                    }
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// The values of a partition, from whichever broker leads it.
    pub(crate) async fn values(&self, topic: &str, partition: u32) -> Vec<String> {
        let clients = self.clients();
        within(async {
            loop {
                for client in &clients {
                    match client.fetch(topic, partition).await {
                        Ok(values) => return values,
                        Err(error) => assert!(error.is_retriable(), "{error}"),
                    }
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

/// What must end soon.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.expect("it takes too long")
}

/// A client of one broker.
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    pub(crate) async fn create(
        &self,
        topic: &str,
        partitions: u32,
        replication_factor: u32,
    ) -> Result<v1::CreateTopicResponse, ApiError> {
        let request = v1::CreateTopicRequest {
            name: topic.to_owned(),
            partitions,
            replication_factor,
            ..Default::default()
        };
        let mut admin = AdminServiceClient::new(self.channel.clone());
        Ok(admin.create_topic(request).await?.into_inner())
    }

    pub(crate) async fn describe(
        &self,
        topic: &str,
    ) -> Result<v1::DescribeTopicResponse, ApiError> {
        let request = v1::DescribeTopicRequest {
            name: topic.to_owned(),
            ..Default::default()
        };
        let mut admin = AdminServiceClient::new(self.channel.clone());
        Ok(admin.describe_topic(request).await?.into_inner())
    }

    pub(crate) fn placement(&self) -> PlacementServiceClient<Channel> {
        PlacementServiceClient::new(self.channel.clone())
    }

    /// What the broker has to say of itself.
    pub(crate) async fn findings(&self) -> Vec<v1::HealthFinding> {
        let mut cluster = ClusterServiceClient::new(self.channel.clone());
        let request = v1::DescribeClusterRequest::default();
        let described = cluster.describe_cluster(request).await.unwrap();
        described.into_inner().findings
    }

    /// Gives a partition other replicas.
    pub(crate) async fn move_to(
        &self,
        topic: &str,
        partition: u32,
        brokers: &[u32],
    ) -> Result<Vec<v1::PlannedMove>, ApiError> {
        let request = v1::MoveReplicasRequest {
            moves: vec![v1::PartitionMove {
                partition: Some(named(topic, partition)),
                broker_ids: brokers.to_vec(),
            }],
            validate_only: false,
        };
        Ok(self
            .placement()
            .move_replicas(request)
            .await?
            .into_inner()
            .moves)
    }

    /// The changes of replicas that are under way.
    pub(crate) async fn moves(&self) -> Result<Vec<v1::Move>, ApiError> {
        let request = v1::ListMovesRequest::default();
        Ok(self
            .placement()
            .list_moves(request)
            .await?
            .into_inner()
            .moves)
    }

    /// Waits until no change of replicas is under way.
    pub(crate) async fn until_moved(&self) {
        within(async {
            loop {
                match self.moves().await {
                    Ok(moves) if moves.is_empty() => return,
                    Ok(_) => {}
                    Err(error) => assert!(error.is_retriable(), "{error}"),
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The brokers that hold a partition, the preferred leader first.
    pub(crate) async fn replicas(&self, topic: &str, partition: usize) -> Vec<u32> {
        let described = self.describe(topic).await.unwrap();
        described.partitions[partition].replica_broker_ids.clone()
    }

    /// The broker that leads a partition, once one does.
    pub(crate) async fn leader(&self, topic: &str, partition: usize) -> u32 {
        within(async {
            loop {
                let described = self.describe(topic).await.unwrap();
                if let Some(leader) = described.partitions[partition].leader_broker_id {
                    return leader;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    pub(crate) async fn metadata(&self) -> v1::ClusterMetadata {
        let mut cluster = ClusterServiceClient::new(self.channel.clone());
        let answer = cluster
            .get_metadata(v1::GetMetadataRequest::default())
            .await;
        answer.unwrap().into_inner().metadata.unwrap()
    }

    pub(crate) fn groups(&self) -> GroupsServiceClient<Channel> {
        GroupsServiceClient::new(self.channel.clone())
    }

    async fn produce(
        &self,
        topic: &str,
        partition: u32,
        value: &str,
    ) -> Result<v1::ProduceAck, ApiError> {
        let record = v1::Record {
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            ..Default::default()
        };
        let request = v1::ProduceRequest {
            items: vec![v1::ProduceItem {
                partition: Some(named(topic, partition)),
                payload: Some(v1::produce_item::Payload::Records(v1::Records {
                    records: vec![record],
                })),
            }],
            ..Default::default()
        };
        let mut producer = ProduceServiceClient::new(self.channel.clone());
        let mut answer = producer.produce(request).await?.into_inner();
        match answer.outcomes.remove(0).outcome.unwrap() {
            v1::produce_outcome::Outcome::Ack(ack) => Ok(ack),
            v1::produce_outcome::Outcome::Error(error) => Err(error.into()),
        }
    }

    async fn fetch(&self, topic: &str, partition: u32) -> Result<Vec<String>, ApiError> {
        let request = v1::FetchRequest {
            partitions: vec![v1::FetchPartition {
                partition: Some(named(topic, partition)),
                ..Default::default()
            }],
            max_bytes: 1 << 20,
            format: v1::RecordFormat::Records.into(),
            ..Default::default()
        };
        let mut fetcher = FetchServiceClient::new(self.channel.clone());
        let fetched = fetcher
            .fetch(request)
            .await?
            .into_inner()
            .partitions
            .remove(0);
        if let Some(error) = fetched.error {
            return Err(error.into());
        }
        let Some(v1::fetched_partition::Data::Records(records)) = fetched.data else {
            return Ok(Vec::new());
        };
        let value = |record: v1::Record| String::from_utf8(record.value.unwrap().into()).unwrap();
        Ok(records.records.into_iter().map(value).collect())
    }
}

pub(crate) fn named(topic: &str, partition: u32) -> v1::TopicPartition {
    v1::TopicPartition {
        topic: topic.to_owned(),
        topic_id: Bytes::new(),
        partition,
    }
}
