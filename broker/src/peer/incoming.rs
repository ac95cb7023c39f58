//! What other brokers ask and send.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::BrokerId;
use highwater_proto::internal::v1::peer_service_server::PeerService;
use highwater_proto::internal::v1::{
    ControlRequest, ControlResponse, DataRequest, DataResponse, DescribeRequest, DescribeResponse,
    Hello, Leadership, RaftMessage, SeedRequest,
};
use highwater_storage::Term;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::me::Sender;
use super::seeding::{Given, give};
use super::shared::{Groups, Shared};
use super::wire;
use crate::controller_client::CONTROLLER_GROUP;
use crate::raft::{self, GroupId, PeerMessage, ReplicaId, TERM_LIMIT};
use crate::server::Origin;
use crate::tls::broker_name;

/// How long a stream may take to say who sends on it.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Voters that a group has at most, those of a joint configuration counted together. More is nothing that a broker says.
const MAX_VOTERS: usize = 64;

/// Answers other brokers.
#[derive(Clone)]
pub(super) struct Incoming {
    pub(super) shared: Arc<Shared>,
    pub(super) groups: Arc<dyn Groups>,
}

/// Nothing but the end of a stream.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl PeerService for Incoming {
    type ControlStream = Answers<ControlResponse>;
    type DataStream = Answers<DataResponse>;
    type SeedStream = Given;

    async fn describe(
        &self,
        request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        let request = request.get_ref();
        let asking = BrokerId(request.asking_broker_id);
        let directory = Uuid::from_slice(&request.asking_incarnation_id);
        let routes = &self.shared.routes;
        Ok(Response::new(DescribeResponse {
            known_start_number: routes.known_start(asking),
            is_asking_retired: directory.is_ok_and(|directory| routes.is_retired(directory)),
            ..self.shared.identity.describe()
        }))
    }

    async fn control(
        &self,
        request: Request<Streaming<ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let origin = request.extensions().get::<Origin>().cloned();
        let mut requests = request.into_inner();
        let first = first(&mut requests).await?;
        let sender = self.meet(first.hello, origin.as_ref())?;
        // The other broker is there: it may be worth to connect to it at once.
        if let Some(outbox) = self.shared.outboxes.load().get(&sender.broker) {
            outbox.retry.notify_one();
        }
        let incoming = self.clone();
        Ok(Response::new(until_it_ends(async move {
            while let Some(request) = requests.message().await? {
                incoming.take_control(&sender, request);
            }
            Ok(())
        })))
    }

    async fn data(
        &self,
        request: Request<Streaming<DataRequest>>,
    ) -> Result<Response<Self::DataStream>, Status> {
        let origin = request.extensions().get::<Origin>().cloned();
        let mut requests = request.into_inner();
        let first = first(&mut requests).await?;
        let sender = self.meet(first.hello, origin.as_ref())?;
        let incoming = self.clone();
        Ok(Response::new(until_it_ends(async move {
            while let Some(request) = requests.message().await? {
                incoming.take_messages(&sender, request.messages);
            }
            Ok(())
        })))
    }

    async fn seed(
        &self,
        request: Request<SeedRequest>,
    ) -> Result<Response<Self::SeedStream>, Status> {
        let origin = request.extensions().get::<Origin>().cloned();
        let mut request = request.into_inner();
        let sender = self.meet(request.hello.take(), origin.as_ref())?;
        self.admit_pull(&sender, &request)?;
        let permit = Arc::clone(&self.shared.givers).try_acquire_owned();
        let permit = permit.map_err(|_| {
            Status::resource_exhausted("too many replicas are seeded from here; ask again later")
        })?;
        let given = give(
            Arc::clone(&self.shared),
            Arc::clone(&self.groups),
            request,
            permit,
        )
        .await?;
        Ok(Response::new(given))
    }
}

impl Incoming {
    /// Whether `sender` may pull for the replica that is named: it must hold it.
    fn admit_pull(&self, sender: &Sender, request: &SeedRequest) -> Result<(), Status> {
        let table = self.shared.routes.read();
        let holder = table.broker_of(ReplicaId(request.to_replica_id));
        let is_known = table.is_registered(sender.broker, sender.incarnation_id);
        drop(table);
        let refused = match holder {
            Some(holder) if is_known && holder == sender.broker => return Ok(()),
            Some(holder) if holder != sender.broker => {
                Status::permission_denied("the replica to be seeded is not on that broker")
            }
            // The image may be behind.
            _ => Status::unavailable("the broker, or its replica, is not known here yet"),
        };
        self.refuse("seeding");
        Err(refused)
    }

    /// Who sends on a stream that begins with `hello` and came in by a connection of this origin.
    fn meet(&self, hello: Option<Hello>, origin: Option<&Origin>) -> Result<Sender, Status> {
        let hello = hello.ok_or_else(|| {
            Status::invalid_argument("the first message of a stream says who sends on it")
        })?;
        let met = self.shared.identity.meet(&hello).and_then(|sender| {
            if origin.is_none_or(|origin| origin.may_be(sender.broker)) {
                return Ok(sender);
            }
            Err(Status::permission_denied(format!(
                "the certificate is not that of broker {}: that one has the name {}",
                sender.broker,
                broker_name(sender.broker)
            )))
        });
        met.inspect_err(|_| self.refuse("hello"))
    }

    fn take_control(&self, sender: &Sender, request: ControlRequest) {
        if let Some(beat) = request.heartbeat {
            self.shared.heard(sender, beat, &*self.groups);
        }
        if !request.leaderships.is_empty() {
            self.take_leaderships(sender, &request.leaderships);
        }
        self.take_messages(sender, request.messages);
    }

    fn take_messages(&self, sender: &Sender, messages: Vec<RaftMessage>) {
        let mut taken = 0;
        for message in messages {
            match wire::decode(message, &self.shared.message_limits) {
                Err(refused) => self.refuse(refused.label()),
                Ok(message) => match self.admit(sender, &message) {
                    Err(cause) => self.refuse(cause),
                    Ok(()) => {
                        taken += 1;
                        self.groups.deliver(message);
                    }
                },
            }
        }
        self.shared.metrics.received.inc_by(taken);
    }

    /// Whether `sender` may speak for the replica that sent the message. A broker whose image lags behind learns of the others
    /// through the controller group, so that one is open to all brokers of the cluster.
    fn admit(&self, sender: &Sender, message: &PeerMessage) -> Result<(), &'static str> {
        let routes = &self.shared.routes;
        if message.group == CONTROLLER_GROUP {
            let is_there = routes.learn(message.from(), sender.broker);
            return if is_there { Ok(()) } else { Err("elsewhere") };
        }
        let table = routes.read();
        if !table.is_registered(sender.broker, sender.incarnation_id) {
            return Err("unregistered");
        }
        match table.broker_of(message.from()) {
            Some(broker) if broker == sender.broker => Ok(()),
            Some(_) => Err("elsewhere"),
            None => Err("unknown"),
        }
    }

    /// Takes announcements, also of brokers and replicas that an image that lags behind does not know yet: nobody says them
    /// again.
    fn take_leaderships(&self, sender: &Sender, leaderships: &[Leadership]) {
        let table = self.shared.routes.read();
        let is_there = |leadership: &&Leadership| {
            let holder = table.broker_of(ReplicaId(leadership.replica_id));
            holder.is_none_or(|holder| holder == sender.broker)
                && (1..TERM_LIMIT).contains(&leadership.term)
                && leadership.in_sync_replica_ids.len() <= MAX_VOTERS
        };
        let taken: Vec<_> = leaderships
            .iter()
            .filter(is_there)
            .map(|leadership| raft::Leadership {
                group: GroupId(leadership.group_id),
                term: Term(leadership.term),
                replica: ReplicaId(leadership.replica_id),
                in_sync: leadership
                    .in_sync_replica_ids
                    .iter()
                    .copied()
                    .map(ReplicaId)
                    .collect(),
            })
            .collect();
        drop(table);
        let refused = leaderships.len() - taken.len();
        if refused > 0 {
            let counter = &self.shared.metrics.refused;
            let counter = counter.with_label_values(&["leadership"]);
            counter.inc_by(refused as u64);
        }
        self.shared.leaders.learn(&taken);
    }

    fn refuse(&self, cause: &str) {
        self.shared
            .metrics
            .refused
            .with_label_values(&[cause])
            .inc();
    }
}

async fn first<T>(requests: &mut Streaming<T>) -> Result<T, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, requests.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("the stream says nothing"))??;
    first.ok_or_else(|| Status::invalid_argument("the stream is empty"))
}

/// Reads as long as the stream is open, and answers how it ended.
fn until_it_ends<T: Send + 'static>(
    reading: impl Future<Output = Result<(), Status>> + Send + 'static,
) -> Answers<T> {
    use futures::StreamExt as _;
    let ended = futures::stream::once(reading);
    Box::pin(ended.filter_map(|ended| std::future::ready(ended.err().map(Err))))
}
