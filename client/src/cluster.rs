//! The way to the brokers: connections, metadata, and requests that any broker can answer.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use highwater_proto::{ApiError, Reason, is_unsent, v1};
use tonic::transport::{Channel, Endpoint};
use v1::cluster_service_client::ClusterServiceClient;

use crate::Error;
use crate::connector::{Connect, Tcp};
use crate::coordinator::Coordinators;
use crate::metadata::{Leader, Metadata, Topic};
use crate::retry::Backoff;
use crate::tls::{Tls, TlsProblem};

/// How connections are made, and times of theirs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) tls: Option<Tls>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            backoff: Backoff::default(),
            connector: Arc::new(Tcp),
            tls: None,
        }
    }
}

/// The largest message taken from a broker, in bytes.
pub(crate) const MAX_RESPONSE_BYTES: usize = 128 << 20;
/// What may be on its way to this side of one stream, in bytes: enough to keep a fast link busy.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The largest frame taken from a broker, in bytes. HTTP/2's default of 16 KiB costs a read and a wake-up for each.
const FRAME_BYTES: u32 = 256 << 10;
/// A broker that is frozen or cut off is noticed after the interval and the timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A broker that has not answered by then is not waited for alone: the next one is asked as well.
const PATIENCE_WITH_ONE: Duration = Duration::from_millis(200);
/// A broker that is asked for what only it knows of itself, and does not answer by then, is left out.
const PATIENCE_WITH_DETAILS: Duration = Duration::from_secs(2);
/// How often a request is made whose connection ends each time before it is sent: on a busy machine that happens some times
/// in a row.
const UNSENT_ATTEMPTS: u32 = 24;
/// How long the first of them is waited after; with each it grows by as much.
const UNSENT_WAIT: Duration = Duration::from_millis(1);
/// How long a topic that a broker does not know is looked for: metadata reaches brokers one after the other.
const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Cluster {
    bootstrap: Vec<String>,
    pub(crate) settings: Settings,
    metadata: RwLock<Arc<Metadata>>,
    channels: Mutex<HashMap<String, Channel>>,
    /// Counts how often the metadata was asked for.
    turn: AtomicUsize,
    /// The broker that answered a request last.
    answered: Mutex<Option<String>>,
    /// When each topic's metadata was asked for last by [`Cluster::refresh_unless_since`]. Whoever holds it asks.
    shared: tokio::sync::Mutex<HashMap<String, Instant>>,
    /// Who coordinates consumer groups.
    pub(crate) coordinators: Coordinators,
}

/// Whether a request may be made again after a failure that leaves its effect unknown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or changes the same thing to the same value.
    Safe,
    /// Doing it twice may differ from doing it once.
    Unsafe,
}

impl Cluster {
    pub(crate) fn new(bootstrap: Vec<String>, settings: Settings) -> Self {
        Self {
            bootstrap,
            settings,
            metadata: RwLock::default(),
            channels: Mutex::default(),
            turn: AtomicUsize::new(0),
            answered: Mutex::default(),
            shared: tokio::sync::Mutex::default(),
            coordinators: Coordinators::default(),
        }
    }

    /// The metadata as last heard.
    pub(crate) fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.metadata.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection of the caller's own, established.
    pub(crate) async fn connect(&self, address: &str) -> Result<Channel, Error> {
        let endpoint = self.endpoint(address)?;
        let connected = self.settings.connector.connect(&endpoint).await;
        connected.map_err(|error| Cause::of(&error).at(address.to_owned()))
    }

    /// The shared connection to an address; established when first used, and again when lost.
    pub(crate) fn channel(&self, address: &str) -> Result<Channel, Error> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = self.endpoint(address)?;
        let channel = self.settings.connector.connect_lazy(&endpoint);
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, Error> {
        let tls = self.settings.tls.as_ref();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| Error::config("address", format!("{address:?}: {error}")))?;
        if let Some(tls) = tls {
            endpoint = endpoint
                .tls_config(tls.config())
                .map_err(|error| Error::config("tls", root_cause(&error)))?;
        }
        Ok(endpoint
            .connect_timeout(self.settings.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true))
    }

    /// Asks for the metadata of `topics`, of all when empty. Every known broker is tried once.
    ///
    /// Each time another one is asked first: one that is cut off from the others does not know that it is, and tells
    /// for ever what was true. The next one is asked as well when one takes its time; the first answer counts.
    pub(crate) async fn refresh(&self, topics: &[String]) -> Result<Arc<Metadata>, Error> {
        let mut addresses = self.addresses();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if !addresses.is_empty() {
            let first = turn % addresses.len();
            addresses.rotate_left(first);
        }
        let mut addresses = addresses.into_iter();
        let mut asked = FuturesUnordered::new();
        let mut last = None;
        loop {
            let next = addresses.next();
            let more = next.is_some();
            asked.extend(next.map(|address| self.ask_for_metadata(address, topics)));
            if asked.is_empty() {
                break;
            }
            let answer = tokio::select! {
                Some(answer) = asked.next() => answer,
                () = tokio::time::sleep(PATIENCE_WITH_ONE), if more => continue,
            };
            match answer {
                Ok(answer) => return Ok(self.update(topics, answer)),
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            Some((cause, error)) if error.reason != Reason::NetworkException => match cause {
                None => Error::Api(error),
                Some(cause) => cause.at(self.addresses().join(",")),
            },
            last => {
                let cause = last.map(|(cause, error)| cause.unwrap_or(Cause::Other(error.message)));
                let cause = cause.unwrap_or_else(|| Cause::Other("no address given".to_owned()));
                cause.at(self.addresses().join(","))
            }
        })
    }

    /// The same, unless one of those who share this asked for all of `topics` since then: what that brought is good enough. Those who come
    /// together ask once.
    pub(crate) async fn refresh_unless_since(
        &self,
        topics: &[String],
        since: Instant,
    ) -> Result<Arc<Metadata>, Error> {
        let mut shared = self.shared.lock().await;
        let is_fresh = |topic: &String| shared.get(topic).is_some_and(|at| *at >= since);
        if topics.iter().all(is_fresh) {
            return Ok(self.metadata());
        }
        let asked_at = Instant::now();
        let metadata = self.refresh(topics).await?;
        shared.retain(|topic, _| metadata.topic(topic).is_some());
        shared.extend(topics.iter().map(|topic| (topic.clone(), asked_at)));
        Ok(metadata)
    }

    /// Asks one broker. The failure comes with what the transport on this side says of it, if that made it.
    async fn ask_for_metadata(
        &self,
        address: String,
        topics: &[String],
    ) -> Result<v1::ClusterMetadata, (Option<Cause>, ApiError)> {
        let channel = self.channel(&address).map_err(|error| {
            let error = ApiError::new(error.reason(), error.to_string());
            (None, error)
        })?;
        let mut client =
            ClusterServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let mut attempts = 1..UNSENT_ATTEMPTS;
        let status = loop {
            let request = v1::GetMetadataRequest {
                topics: topics.to_vec(),
                // The way to records must not depend on the controller.
                linearizable: false,
            };
            match client.get_metadata(self.request(request)).await {
                Ok(answer) => return Ok(answer.into_inner().metadata.unwrap_or_default()),
                Err(status) if is_unsent(&status) => match attempts.next() {
                    Some(attempt) => tokio::time::sleep(UNSENT_WAIT * attempt).await,
                    None => break status,
                },
                Err(status) => break status,
            }
        };
        let made_here = std::error::Error::source(&status).is_some();
        let cause = made_here.then(|| Cause::of(&status));
        Err((cause, ApiError::from(status)))
    }

    /// Takes up whom a broker names as the leader of a partition, when it refuses to be that itself. The leader, if
    /// that is news.
    pub(crate) fn hint(&self, topic: &str, partition: u32, error: &ApiError) -> Option<Leader> {
        if error.reason != Reason::NotLeaderOrFollower {
            return None;
        }
        let mut metadata = self
            .metadata
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut metadata).hint(topic, partition, error)
    }

    /// Takes up an answer that was asked for `topics`.
    pub(crate) fn update(&self, topics: &[String], answer: v1::ClusterMetadata) -> Arc<Metadata> {
        let mut metadata = self
            .metadata
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut metadata).update(topics, answer);
        Arc::clone(&metadata)
    }

    /// A topic, looked up if it is not known yet.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION` when no broker knows it after a second; see [`Cluster::refresh`] for others.
    pub(crate) async fn topic(&self, name: &str) -> Result<Topic, Error> {
        if let Some(topic) = self.metadata().topic(name) {
            return Ok(topic.clone());
        }
        let give_up_at = Instant::now() + UNKNOWN_TOPIC_PATIENCE;
        for failures in 1.. {
            let metadata = self.refresh(&[name.to_owned()]).await?;
            if let Some(topic) = metadata.topic(name) {
                return Ok(topic.clone());
            }
            let wait = self.settings.backoff.wait(failures, rand::random());
            if Instant::now() + wait > give_up_at {
                break;
            }
            tokio::time::sleep(wait).await;
        }
        Err(Error::Api(ApiError::new(
            Reason::UnknownTopicOrPartition,
            format!("topic {name} does not exist"),
        )))
    }

    /// A request with the deadline that applies to all.
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.settings.request_timeout);
        request
    }

    /// The same for what can be done without.
    pub(crate) fn short_request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.settings.request_timeout.min(PATIENCE_WITH_DETAILS));
        request
    }

    /// Makes a request that any broker can answer: tries one after the other, again and again where that is safe,
    /// until the request timeout has passed.
    pub(crate) async fn ask<T, F>(
        &self,
        repeat: Repeat,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.ask_with(self.settings.backoff, repeat, call).await
    }

    /// The same, with other waits.
    pub(crate) async fn ask_with<T, F>(
        &self,
        backoff: Backoff,
        repeat: Repeat,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let give_up_at = Instant::now() + self.settings.request_timeout;
        let addresses = self.addresses_to_ask();
        for (failures, address) in (1..).zip(addresses.iter().cycle()) {
            let error = match call(self.channel(address)?).await {
                Ok(response) => {
                    self.set_answered(address);
                    return Ok(response.into_inner());
                }
                Err(status) => ApiError::from(status),
            };
            let again = error.is_retriable() && (error.is_definite() || repeat == Repeat::Safe);
            // A topic or group that does not exist is an answer, even if it may appear later.
            let absent = error.code() == tonic::Code::NotFound;
            let wait = backoff.wait_after(&error, failures, rand::random());
            if !again || absent || Instant::now() + wait > give_up_at {
                return Err(Error::Api(error));
            }
            tokio::time::sleep(wait).await;
        }
        Err(Error::config("addresses", "at least one is needed"))
    }

    /// All brokers, beginning with the one that answered last: it is there, and it has seen what it answered.
    fn addresses_to_ask(&self) -> Vec<String> {
        let mut addresses = self.addresses();
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let first = answered
            .as_ref()
            .and_then(|answered| addresses.iter().position(|address| address == answered));
        addresses.rotate_left(first.unwrap_or(0));
        addresses
    }

    fn set_answered(&self, address: &str) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.as_deref() != Some(address) {
            *answered = Some(address.to_owned());
        }
    }

    /// The addresses of all brokers known, those given at the start last.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<String> =
            self.metadata().addresses().map(ToOwned::to_owned).collect();
        addresses.sort();
        for address in &self.bootstrap {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }
}

/// Why a broker cannot be talked to.
enum Cause {
    Tls(TlsProblem),
    /// What the operating system says, or whoever stands between.
    Other(String),
}

impl Cause {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        match TlsProblem::of(error) {
            Some(problem) => Self::Tls(problem),
            None => Self::Other(root_cause(error)),
        }
    }

    /// The error of a client that tried these addresses.
    fn at(self, addresses: String) -> Error {
        match self {
            Self::Tls(problem) => Error::Tls { addresses, problem },
            Self::Other(problem) => Error::Connect { addresses, problem },
        }
    }
}

/// What the last error of a chain says, such as "Connection refused": those before it say only who met it.
fn root_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => root_cause(source),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use futures::stream::BoxStream;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tokio_util::task::AbortOnDropHandle;
    use tonic::transport::Server;
    use tonic::{Request, Response, Status};
    use v1::cluster_service_server::{ClusterService, ClusterServiceServer};

    use super::*;

    /// Clients of one broker.
    const CLIENTS: usize = 20;

    /// A broker that knows every topic, and counts how often it is asked.
    struct Broker {
        address: String,
        asked: Arc<AtomicUsize>,
        _server: AbortOnDropHandle<()>,
    }

    impl Broker {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let asked = Arc::default();
            let service = ClusterServiceServer::new(Asked(Arc::clone(&asked)));
            let server = Server::builder().add_service(service);
            let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
            let server = tokio::spawn(async { serving.await.unwrap() });
            Self {
                address,
                asked,
                _server: AbortOnDropHandle::new(server),
            }
        }

        fn client(&self) -> Cluster {
            Cluster::new(vec![self.address.clone()], Settings::default())
        }

        /// How often it was asked since this was called last.
        fn asked(&self) -> usize {
            self.asked.swap(0, Ordering::SeqCst)
        }
    }

    struct Asked(Arc<AtomicUsize>);

    #[tonic::async_trait]
    impl ClusterService for Asked {
        async fn get_metadata(
            &self,
            request: Request<v1::GetMetadataRequest>,
        ) -> Result<Response<v1::GetMetadataResponse>, Status> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let topics = request.into_inner().topics.into_iter();
            let topics = topics.map(|name| v1::TopicMetadata {
                name,
                topic_id: vec![1; 16].into(),
                ..v1::TopicMetadata::default()
            });
            let metadata = v1::ClusterMetadata {
                topics: topics.collect(),
                ..v1::ClusterMetadata::default()
            };
            Ok(Response::new(v1::GetMetadataResponse {
                metadata: Some(metadata),
            }))
        }

        type WatchMetadataStream = BoxStream<'static, Result<v1::WatchMetadataResponse, Status>>;

        async fn watch_metadata(
            &self,
            _: Request<v1::WatchMetadataRequest>,
        ) -> Result<Response<Self::WatchMetadataStream>, Status> {
            Err(Status::unimplemented("not in this broker"))
        }

        async fn describe_cluster(
            &self,
            _: Request<v1::DescribeClusterRequest>,
        ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
            Err(Status::unimplemented("not in this broker"))
        }
    }

    #[tokio::test]
    async fn consumers_of_one_client_ask_once_where_those_of_many_ask_each() {
        let broker = Broker::start().await;
        let (one, topics) = (broker.client(), ["a".to_owned(), "b".to_owned()]);
        let many: Vec<_> = (0..CLIENTS).map(|_| broker.client()).collect();
        // All of them are in doubt time and again, and want nothing older than the doubt.
        for _ in 0..3 {
            let doubted_at = Instant::now();
            let together = (0..CLIENTS).map(|_| one.refresh_unless_since(&topics, doubted_at));
            for metadata in join_all(together).await {
                assert!(metadata.unwrap().topic("b").is_some());
            }
            // And one that comes when the others have their answer.
            one.refresh_unless_since(&topics[1..], doubted_at)
                .await
                .unwrap();
            assert_eq!(broker.asked(), 1);
            let apart = many
                .iter()
                .map(|client| client.refresh_unless_since(&topics, doubted_at));
            assert!(join_all(apart).await.iter().all(Result::is_ok));
            assert_eq!(broker.asked(), CLIENTS);
        }
    }

    #[tokio::test]
    async fn what_is_older_or_of_other_topics_is_asked_for() {
        let broker = Broker::start().await;
        let (client, topics) = (broker.client(), ["a".to_owned(), "b".to_owned()]);
        let start = Instant::now();
        for (topics, since, requests) in [
            (&topics[..1], start, 1),
            (&topics[..1], start, 0),
            (&topics[..], start, 1),
            (&topics[1..], start, 0),
        ] {
            client.refresh_unless_since(topics, since).await.unwrap();
            assert_eq!(broker.asked(), requests, "{topics:?}");
        }
        client
            .refresh_unless_since(&topics, Instant::now())
            .await
            .unwrap();
        assert_eq!(broker.asked(), 1, "newer than what is known");
    }

    #[tokio::test]
    async fn who_is_not_answered_leaves_the_question_to_the_next() {
        let broker = Broker::start().await;
        let nowhere = Cluster::new(vec!["127.0.0.1:1".to_owned()], Settings::default());
        let (start, topics) = (Instant::now(), ["a".to_owned()]);
        assert!(nowhere.refresh_unless_since(&topics, start).await.is_err());
        let found = Cluster {
            bootstrap: vec![broker.address.clone()],
            ..nowhere
        };
        assert!(found.refresh_unless_since(&topics, start).await.is_ok());
        assert_eq!(broker.asked(), 1);
    }
}
