//! The broker's API as plain calls, independent of the client crate: no retry, no cache, no cleverness.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::anyhow;
use highwater_proto::{ApiError, Offset, ProducerEpoch, ProducerId, Reason, TopicId, v1};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use v1::admin_service_client::AdminServiceClient;
use v1::cluster_service_client::ClusterServiceClient;
use v1::fetch_service_client::FetchServiceClient;
use v1::offsets_service_client::OffsetsServiceClient;
use v1::produce_service_client::ProduceServiceClient;

use crate::stamp::Place;

/// A call without an answer by then has failed, with nothing known of its effect.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Why a request, or an item of one, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stable name.
    pub reason: String,
    /// What the broker said to people.
    pub message: String,
    /// Surely without effect.
    pub definite: bool,
    /// Worth another try.
    pub retriable: bool,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let error = ApiError::from_status(&status);
        Self {
            reason: error.reason_name().to_owned(),
            definite: error.is_definite(),
            retriable: error.is_retriable(),
            message: error.message,
        }
    }
}

impl From<v1::Error> for Failure {
    fn from(error: v1::Error) -> Self {
        Self {
            reason: error.reason,
            message: error.message,
            definite: error.definite,
            retriable: error.retriable,
        }
    }
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> Self {
        anyhow!("{}: {}", failure.reason, failure.message)
    }
}

impl Failure {
    /// Whether the broker gave this reason.
    #[must_use]
    pub fn is(&self, reason: Reason) -> bool {
        self.reason == reason.name()
    }
}

/// A connection that is made when it is first needed, and again whenever it broke.
#[derive(Clone, Debug)]
pub struct Api {
    channel: Channel,
    timeout: Duration,
}

impl Api {
    /// Connects to nobody yet. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        Self {
            channel: endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .connect_lazy(),
            timeout: CALL_TIMEOUT,
        }
    }

    /// The same with another time after which a call has failed.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn call<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded("no answer in time").into()),
        }
    }

    fn producing(&self) -> ProduceServiceClient<Channel> {
        ProduceServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn fetching(&self) -> FetchServiceClient<Channel> {
        FetchServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// Gets a producer identity.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn init_producer(&self) -> Result<(ProducerId, ProducerEpoch), Failure> {
        let mut client = self.producing();
        let request = v1::InitProducerIdRequest::default();
        let answer = self.call(client.init_producer_id(request)).await?;
        let epoch = i16::try_from(answer.producer_epoch).expect("epochs have 16 bits");
        Ok((ProducerId(answer.producer_id), ProducerEpoch(epoch)))
    }

    /// Sends batches and waits for what becomes of them.
    ///
    /// # Errors
    /// That of the request as a whole.
    pub async fn produce(
        &self,
        items: Vec<v1::ProduceItem>,
    ) -> Result<Vec<v1::ProduceOutcome>, Failure> {
        let sent = items.len();
        let mut client = self.producing();
        let request = v1::ProduceRequest {
            acks: v1::Acks::Quorum.into(),
            timeout_ms: 0,
            items,
        };
        let answer = self.call(client.produce(request)).await?;
        assert_eq!(answer.outcomes.len(), sent, "one outcome per item");
        Ok(answer.outcomes)
    }

    /// Opens a produce stream.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn produce_stream(
        &self,
        requests: impl tonic::IntoStreamingRequest<Message = v1::ProduceStreamRequest>,
    ) -> Result<Streaming<v1::ProduceStreamResponse>, Failure> {
        let mut client = self.producing();
        self.call(client.produce_stream(requests)).await
    }

    /// Reads partitions.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn fetch(&self, request: v1::FetchRequest) -> Result<v1::FetchResponse, Failure> {
        let mut client = self.fetching();
        self.call(client.fetch(request)).await
    }

    /// Opens a subscription.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn subscribe(
        &self,
        requests: impl tonic::IntoStreamingRequest<Message = v1::SubscribeRequest>,
    ) -> Result<Streaming<v1::SubscribeResponse>, Failure> {
        let mut client = self.fetching();
        self.call(client.subscribe(requests)).await
    }

    /// The first offset that a partition holds.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn earliest(&self, place: Place) -> Result<Offset, Failure> {
        use v1::offset_spec::Spec;
        self.list_offset(place, Spec::Earliest(v1::EarliestOffset {}))
            .await
    }

    /// The high watermark of a partition.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn latest(&self, place: Place) -> Result<Offset, Failure> {
        use v1::offset_spec::Spec;
        self.list_offset(place, Spec::Latest(v1::LatestOffset {}))
            .await
    }

    async fn list_offset(
        &self,
        place: Place,
        spec: v1::offset_spec::Spec,
    ) -> Result<Offset, Failure> {
        let mut client = OffsetsServiceClient::new(self.channel.clone());
        let request = v1::ListOffsetsRequest {
            items: vec![v1::ListOffsetsItem {
                partition: Some(named(place)),
                spec: Some(v1::OffsetSpec { spec: Some(spec) }),
            }],
        };
        let answer = self.call(client.list_offsets(request)).await?;
        let listed = answer.offsets.into_iter().next().expect("one answer");
        match listed.error {
            Some(error) => Err(error.into()),
            None => Ok(Offset(listed.offset.expect("an offset or an error"))),
        }
    }

    /// Makes a topic. With 0 replicas each partition has as many as is usual.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        replicas: u32,
        configs: &[(&str, &str)],
    ) -> Result<TopicId, Failure> {
        let mut client = self.admin();
        let request = v1::CreateTopicRequest {
            name: name.to_owned(),
            partitions,
            replication_factor: replicas,
            configs: configs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..v1::CreateTopicRequest::default()
        };
        let answer = self.call(client.create_topic(request)).await?;
        Ok(topic_id(&answer.topic_id))
    }

    /// Describes a topic.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn describe_topic(&self, name: &str) -> Result<v1::DescribeTopicResponse, Failure> {
        let mut client = self.admin();
        let name = name.to_owned();
        self.call(client.describe_topic(v1::DescribeTopicRequest {
            name,
            as_known_here: false,
        }))
        .await
    }

    /// Sets and unsets configs of a topic.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn alter_topic(
        &self,
        name: &str,
        set: &[(&str, &str)],
        unset: &[&str],
    ) -> Result<(), Failure> {
        let mut client = self.admin();
        let request = v1::AlterTopicRequest {
            name: name.to_owned(),
            set: set
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            unset: unset.iter().map(|key| (*key).to_owned()).collect(),
            ..v1::AlterTopicRequest::default()
        };
        self.call(client.alter_topic(request)).await.map(drop)
    }

    /// Gives a topic more partitions.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn add_partitions(&self, name: &str, total: u32) -> Result<(), Failure> {
        let mut client = self.admin();
        let request = v1::AddPartitionsRequest {
            name: name.to_owned(),
            total_partitions: total,
            ..v1::AddPartitionsRequest::default()
        };
        self.call(client.add_partitions(request)).await.map(drop)
    }

    /// Removes a topic.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn delete_topic(&self, name: &str) -> Result<TopicId, Failure> {
        let mut client = self.admin();
        let request = v1::DeleteTopicRequest {
            name: name.to_owned(),
            ..v1::DeleteTopicRequest::default()
        };
        let answer = self.call(client.delete_topic(request)).await?;
        Ok(topic_id(&answer.topic_id))
    }

    /// Raises the log start of a partition and returns where it is.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn trim(&self, place: Place, before: Offset) -> Result<Offset, Failure> {
        let mut client = self.admin();
        let request = v1::TrimPartitionsRequest {
            items: vec![v1::TrimItem {
                partition: Some(named(place)),
                before_offset: Some(before.0),
            }],
        };
        let answer = self.call(client.trim_partitions(request)).await?;
        let outcome = answer.outcomes.into_iter().next().expect("one outcome");
        match outcome.error {
            Some(error) => Err(error.into()),
            None => Ok(Offset(outcome.log_start_offset)),
        }
    }

    /// Facts of the cluster, with what the broker knows to be wrong.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn describe_cluster(&self) -> Result<v1::DescribeClusterResponse, Failure> {
        let mut client = ClusterServiceClient::new(self.channel.clone());
        let request = Request::new(v1::DescribeClusterRequest {});
        self.call(client.describe_cluster(request)).await
    }

    /// Brokers, topics and leaders, as the broker sees them.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn metadata(&self) -> Result<v1::ClusterMetadata, Failure> {
        self.get_metadata(false).await
    }

    /// The same with every change of brokers and topics that anybody was told of before.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn linearizable_metadata(&self) -> Result<v1::ClusterMetadata, Failure> {
        self.get_metadata(true).await
    }

    async fn get_metadata(&self, linearizable: bool) -> Result<v1::ClusterMetadata, Failure> {
        let mut client = ClusterServiceClient::new(self.channel.clone());
        let request = v1::GetMetadataRequest {
            linearizable,
            ..Default::default()
        };
        let answer = self.call(client.get_metadata(request)).await?;
        Ok(answer.metadata.unwrap_or_default())
    }
}

/// A partition as requests name it.
#[must_use]
pub fn named(place: Place) -> v1::TopicPartition {
    v1::TopicPartition {
        topic: String::new(),
        topic_id: bytes::Bytes::copy_from_slice(place.topic.as_bytes()),
        partition: place.partition.0,
    }
}

fn topic_id(bytes: &[u8]) -> TopicId {
    TopicId::from_slice(bytes).expect("a topic id has 16 bytes")
}
