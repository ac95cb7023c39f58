//! A broker on free ports with a directory of its own, and short ways to ask it.

use std::sync::Arc;

use bytes::Bytes;
use highwater_broker::{Broker, BrokerBuilder, Config};
use highwater_proto::batch::{BatchBuilder, Compression, NewRecord, ProducerStamp};
use highwater_proto::{ApiError, v1};
use highwater_storage::fs::Fs;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use v1::admin_service_client::AdminServiceClient;
use v1::cluster_service_client::ClusterServiceClient;
use v1::fetch_service_client::FetchServiceClient;
use v1::offsets_service_client::OffsetsServiceClient;
use v1::produce_service_client::ProduceServiceClient;

pub(crate) struct TestBroker {
    pub(crate) broker: Broker,
    pub(crate) channel: Channel,
    config: Config,
    /// Absent where the data is on a simulated disk.
    directory: Option<TempDir>,
}

/// Limits small enough that tests meet them.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.server.client.address = "127.0.0.1:0".to_owned();
    config.server.peer.address = "127.0.0.1:0".to_owned();
    config.server.http.address = "127.0.0.1:0".to_owned();
    config.server.peer.address = "127.0.0.1:0".to_owned();
    config.server.shutdown_grace_ms = 5_000;
    config.requests.max_control_bytes = 64 << 10;
    config.requests.max_produce_bytes = 2 << 20;
    config.requests.max_elements = 2_000;
    config.produce.max_items = 100;
    config.produce.max_key_bytes = 1_000;
    config.produce.max_headers = 10;
    config.produce.max_header_bytes = 1_000;
    config.fetch.max_bytes = 4 << 20;
    config.fetch.max_partitions = 10;
    config.fetch.max_credit_bytes = 1 << 20;
    config.offsets.max_items = 10;
    config.groups.heartbeat_interval_ms = 100;
    config.admin.max_names = 10;
    config.admin.max_items = 10;
    config.admin.max_configs = 5;
    config.topics.max_partitions_per_topic = 20;
    config.topics.max_partitions = 50;
    config.storage.journal_file_bytes = 1 << 20;
    config.storage.checkpoint_interval_bytes = 4 << 20;
    config.storage.reserve_bytes = 0;
    config.storage.min_free_bytes = 0;
    config
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        Self::start_with(config()).await
    }

    pub(crate) async fn start_with(mut config: Config) -> Self {
        let directory = tempfile::tempdir().unwrap();
        config.data_dir = directory.path().join("data");
        let broker = Broker::start(config.clone()).await.unwrap();
        Self::of(broker, config, Some(directory))
    }

    pub(crate) async fn start_on(config: Config, fs: Arc<dyn Fs>) -> Self {
        let broker = Broker::builder()
            .configure(|all| *all = config.clone())
            .http_address("127.0.0.1:0")
            .file_system(fs)
            .start()
            .await
            .unwrap();
        Self::of(broker, config, None)
    }

    /// Starts what `builder` says and reaches it without a port.
    pub(crate) async fn embedded(builder: BrokerBuilder) -> Self {
        let broker = builder.start().await.unwrap();
        let channel = Endpoint::from_shared(format!("http://{}", broker.address()))
            .unwrap()
            .connect_with_connector_lazy(broker.connector());
        Self {
            broker,
            channel,
            config: config(),
            directory: None,
        }
    }

    fn of(broker: Broker, config: Config, directory: Option<TempDir>) -> Self {
        let channel = Endpoint::from_shared(format!("http://{}", broker.address()))
            .unwrap()
            .connect_lazy();
        Self {
            broker,
            channel,
            config,
            directory,
        }
    }

    /// Stops the broker and starts it again on the same data.
    pub(crate) async fn restart(self) -> Self {
        drop(self.channel);
        self.broker.shutdown().await;
        let broker = Broker::start(self.config.clone()).await.unwrap();
        Self::of(broker, self.config, self.directory)
    }

    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.config.data_dir.clone()
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    pub(crate) fn cluster(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel.clone())
    }

    pub(crate) fn placement(
        &self,
    ) -> v1::placement_service_client::PlacementServiceClient<Channel> {
        v1::placement_service_client::PlacementServiceClient::new(self.channel.clone())
    }

    pub(crate) fn recovery(&self) -> v1::recovery_service_client::RecoveryServiceClient<Channel> {
        v1::recovery_service_client::RecoveryServiceClient::new(self.channel.clone())
    }

    pub(crate) fn fetcher(&self) -> FetchServiceClient<Channel> {
        FetchServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn offsets(&self) -> OffsetsServiceClient<Channel> {
        OffsetsServiceClient::new(self.channel.clone())
    }

    pub(crate) fn producer(&self) -> ProduceServiceClient<Channel> {
        ProduceServiceClient::new(self.channel.clone())
    }

    /// Creates a topic that keeps records of any age, and returns its id.
    pub(crate) async fn create(&self, name: &str, partitions: u32) -> Bytes {
        let request = v1::CreateTopicRequest {
            name: name.to_owned(),
            partitions,
            configs: [("retention.ms".to_owned(), "-1".to_owned())].into(),
            ..Default::default()
        };
        let created = self.admin().create_topic(request).await.unwrap();
        created.into_inner().topic_id
    }

    /// Appends one batch and returns its outcome.
    pub(crate) async fn append(&self, topic: &str, partition: u32, batch: Bytes) -> Outcome {
        let request = v1::ProduceRequest {
            items: vec![v1::ProduceItem {
                partition: Some(named(topic, partition)),
                payload: Some(v1::produce_item::Payload::RecordBatch(batch)),
            }],
            ..Default::default()
        };
        let response = self
            .producer()
            .produce(request)
            .await
            .map_err(ApiError::from)?;
        outcome(response.into_inner().outcomes.remove(0))
    }

    /// Appends records of these values and returns the offset of the first.
    pub(crate) async fn append_values(&self, topic: &str, partition: u32, values: &[&str]) -> u64 {
        let acked = self.append(topic, partition, batch(values)).await.unwrap();
        acked.base_offset
    }

    /// The values from `offset` on that are there now.
    pub(crate) async fn values(&self, topic: &str, partition: u32, offset: u64) -> Vec<String> {
        let mut fetched = self
            .fetch(v1::FetchRequest {
                partitions: vec![fetch_from(topic, partition, offset)],
                max_bytes: 1 << 20,
                format: v1::RecordFormat::Records.into(),
                ..Default::default()
            })
            .await
            .unwrap();
        values_of(&fetched.remove(0))
    }

    pub(crate) async fn fetch(
        &self,
        request: v1::FetchRequest,
    ) -> Result<Vec<v1::FetchedPartition>, ApiError> {
        let response = self
            .fetcher()
            .fetch(request)
            .await
            .map_err(ApiError::from)?;
        Ok(response.into_inner().partitions)
    }

    /// The high watermark of a partition.
    pub(crate) async fn high_watermark(&self, topic: &str, partition: u32) -> u64 {
        let latest = v1::offset_spec::Spec::Latest(v1::LatestOffset {});
        self.list_offset(topic, partition, latest)
            .await
            .unwrap()
            .offset
            .unwrap()
    }

    pub(crate) async fn list_offset(
        &self,
        topic: &str,
        partition: u32,
        spec: v1::offset_spec::Spec,
    ) -> Result<v1::ListedOffset, ApiError> {
        let request = v1::ListOffsetsRequest {
            items: vec![v1::ListOffsetsItem {
                partition: Some(named(topic, partition)),
                spec: Some(v1::OffsetSpec { spec: Some(spec) }),
            }],
        };
        let response = self
            .offsets()
            .list_offsets(request)
            .await
            .map_err(ApiError::from)?;
        let mut listed = response.into_inner().offsets.remove(0);
        match listed.error.take() {
            Some(error) => Err(error.into()),
            None => Ok(listed),
        }
    }

    pub(crate) async fn metadata(&self) -> v1::ClusterMetadata {
        let request = v1::GetMetadataRequest::default();
        let response = self.cluster().get_metadata(request).await.unwrap();
        response.into_inner().metadata.unwrap()
    }
}

pub(crate) type Outcome = Result<v1::ProduceAck, ApiError>;

pub(crate) fn outcome(outcome: v1::ProduceOutcome) -> Outcome {
    match outcome.outcome.unwrap() {
        v1::produce_outcome::Outcome::Ack(ack) => Ok(ack),
        v1::produce_outcome::Outcome::Error(error) => Err(error.into()),
    }
}

pub(crate) fn named(topic: &str, partition: u32) -> v1::TopicPartition {
    v1::TopicPartition {
        topic: topic.to_owned(),
        topic_id: Bytes::new(),
        partition,
    }
}

pub(crate) fn fetch_from(topic: &str, partition: u32, offset: u64) -> v1::FetchPartition {
    v1::FetchPartition {
        partition: Some(named(topic, partition)),
        offset,
        max_bytes: 0,
        leader_epoch: None,
    }
}

/// A batch of records with these values, dated 1,000 ms, 2,000 ms and so on.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    batch_of(values, None)
}

pub(crate) fn batch_of(values: &[&str], producer: Option<ProducerStamp>) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (timestamp_ms, value) in (1..).map(|n| n * 1_000).zip(values) {
        let record = NewRecord {
            timestamp_ms,
            value: Some(value.as_bytes()),
            ..NewRecord::default()
        };
        builder.append(&record).unwrap();
    }
    builder.finish(Compression::None, producer).unwrap()
}

pub(crate) fn values_of(fetched: &v1::FetchedPartition) -> Vec<String> {
    assert_eq!(fetched.error, None);
    match &fetched.data {
        Some(v1::fetched_partition::Data::Records(records)) => records
            .records
            .iter()
            .map(|record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap())
            .collect(),
        Some(v1::fetched_partition::Data::RecordBatches(batches)) => batches
            .batches
            .iter()
            .flat_map(|batch| {
                highwater_proto::batch::Records::open(batch.clone(), 1 << 20).unwrap()
            })
            .map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap())
            .collect(),
        None => Vec::new(),
    }
}
