//! The connection to one broker, on which this one sends.
//!
//! It is made anew whenever it breaks, after a wait that grows, or at once when the other broker is heard from.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use highwater_proto::BrokerId;
use highwater_proto::internal::v1::peer_service_client::PeerServiceClient;
use highwater_proto::internal::v1::{self, ControlRequest, DataRequest, Hello};
use prometheus::IntCounter;
use rand::Rng as _;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{debug, info, warn};

use super::endpoint::Way;
use super::outbox::{Lane, Outbox};
use super::routes::Address;
use super::shared::Shared;
use super::wire;
use crate::raft::{Leadership, PeerMessage};

/// The first and the longest wait before connecting again.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long the other broker may take to agree to a stream.
const OPENING_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) broker: BrokerId,
    pub(super) address: Address,
    pub(super) outbox: Arc<Outbox>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0} is no address")]
    Address(Address),
    #[error("it cannot be reached: {}", chain(.0))]
    Unreachable(tonic::transport::Error),
    #[error("it did not answer in time")]
    Silent,
    #[error("{}", .0.message())]
    Refused(Status),
    #[error("the connection ended: {}", .0.message())]
    Broken(Status),
}

impl Link {
    /// Keeps the connection until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.keep() => {}
            () = stop.cancelled() => {}
        }
        self.outbox.disconnected();
    }

    async fn keep(&self) {
        let broker = self.broker;
        let mut wait = FIRST_WAIT;
        let mut is_told = false;
        loop {
            let ended = self.connect().await;
            self.outbox.disconnected();
            if matches!(ended, Ended::Broken(_)) {
                warn!(%broker, address = %self.address, reason = %ended, "connection to a broker lost");
                (wait, is_told) = (FIRST_WAIT, true);
            } else if is_told {
                debug!(%broker, address = %self.address, reason = %ended, "no connection to a broker yet");
            } else {
                warn!(%broker, address = %self.address, reason = %ended, "no connection to a broker");
                is_told = true;
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::select! {
                () = tokio::time::sleep(wait.mul_f64(jitter)) => wait = (wait * 2).min(LONGEST_WAIT),
                () = self.outbox.retry.notified() => {}
            }
        }
    }

    /// Connects, and sends until the connection ends.
    async fn connect(&self) -> Ended {
        let Some(cluster_id) = self.shared.identity.entered().await else {
            return Ended::Silent;
        };
        let hello = self.shared.identity.hello_to(self.broker, cluster_id);
        let way = Way::to(self.broker, &self.address, self.shared.tls.as_ref());
        let Some(way) = way else {
            return Ended::Address(self.address.clone());
        };
        let channel = match way.connect().await {
            Ok(channel) => channel,
            Err(error) => return Ended::Unreachable(error),
        };
        let mut control_client = PeerServiceClient::new(channel.clone());
        let mut data_client = PeerServiceClient::new(channel);
        let control = control_client.control(ControlLane(self.lane(Lane::Control, hello.clone())));
        let data = data_client.data(DataLane(self.lane(Lane::Data, hello)));
        let opened = async { tokio::try_join!(control, data) };
        let (mut control, mut data) = match tokio::time::timeout(OPENING_TIMEOUT, opened).await {
            Ok(Ok((control, data))) => (control.into_inner(), data.into_inner()),
            Ok(Err(status)) => return Ended::Refused(status),
            Err(_) => return Ended::Silent,
        };
        self.connected();
        let ended = tokio::select! {
            answer = control.message() => answer.map(drop),
            answer = data.message() => answer.map(drop),
        };
        let nothing_said = || Status::unavailable("the other broker ended it");
        Ended::Broken(ended.err().unwrap_or_else(nothing_said))
    }

    fn connected(&self) {
        let broker = self.broker;
        // What is announced from here on is queued; what was before is in the table.
        self.outbox.connected(|| self.shared.leaders.own());
        // Whoever sees that there is a connection can send on it.
        info!(%broker, address = %self.address, "connected to a broker");
        let connects = &self.shared.metrics.connects;
        connects.with_label_values(&[broker.to_string()]).inc();
    }

    fn lane(&self, lane: Lane, hello: Hello) -> LaneEnd {
        LaneEnd {
            outbox: Arc::clone(&self.outbox),
            hello: Some(hello),
            sent: self.shared.metrics.sent.with_label_values(&[lane.label()]),
            unsendable: self.shared.lost.form.clone(),
        }
    }
}

/// The end of a lane at which the network takes what it can.
struct LaneEnd {
    outbox: Arc<Outbox>,
    /// Until it is said.
    hello: Option<Hello>,
    sent: IntCounter,
    unsendable: IntCounter,
}

impl LaneEnd {
    fn encode(&self, messages: Vec<PeerMessage>) -> Vec<v1::RaftMessage> {
        let mut encoded = Vec::with_capacity(messages.len());
        for message in messages {
            let group = message.group.0;
            match wire::encode(message) {
                Ok(message) => encoded.push(message),
                Err(error) => {
                    self.unsendable.inc();
                    warn!(group, %error, "a message cannot be sent");
                }
            }
        }
        self.sent.inc_by(encoded.len() as u64);
        encoded
    }
}

struct ControlLane(LaneEnd);

impl Stream for ControlLane {
    type Item = ControlRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ControlRequest>> {
        if let Some(hello) = self.0.hello.take() {
            return Poll::Ready(Some(ControlRequest {
                hello: Some(hello),
                ..ControlRequest::default()
            }));
        }
        self.0.outbox.poll_control(cx).map(|piece| {
            Some(ControlRequest {
                hello: None,
                heartbeat: piece.beat,
                leaderships: piece.leaderships.iter().map(encode_leadership).collect(),
                messages: self.0.encode(piece.messages),
            })
        })
    }
}

struct DataLane(LaneEnd);

impl Stream for DataLane {
    type Item = DataRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<DataRequest>> {
        if let Some(hello) = self.0.hello.take() {
            return Poll::Ready(Some(DataRequest {
                hello: Some(hello),
                messages: Vec::new(),
            }));
        }
        self.0.outbox.poll_data(cx).map(|messages| {
            Some(DataRequest {
                hello: None,
                messages: self.0.encode(messages),
            })
        })
    }
}

fn encode_leadership(leadership: &Leadership) -> v1::Leadership {
    v1::Leadership {
        group_id: leadership.group.0,
        term: leadership.term.0,
        replica_id: leadership.replica.0,
        in_sync_replica_ids: leadership.in_sync.iter().map(|id| id.0).collect(),
    }
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
