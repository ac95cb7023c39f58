//! Who this broker is to the others.

use bytes::Bytes;
use highwater_proto::BrokerId;
use highwater_proto::internal::v1::{DescribeResponse, Hello};
use tokio::sync::watch;
use tonic::Status;
use uuid::Uuid;

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    /// Its number, given by its operator.
    pub(crate) broker: BrokerId,
    /// UUID of its data directory.
    pub(crate) incarnation_id: Uuid,
    /// Drawn at each start of the process.
    pub(crate) run_id: u64,
    /// The highest feature level that this program understands.
    pub(crate) feature_level: u32,
    /// The seeds as configured.
    pub(crate) seeds: String,
    /// Whether the data directory held nothing at the start: no cluster, no log.
    pub(crate) was_empty: bool,
}

/// This broker, and the cluster that it belongs to once it does.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) me: Me,
    cluster_id: watch::Sender<Option<Uuid>>,
}

impl Identity {
    pub(super) fn new(me: Me, cluster_id: Option<Uuid>) -> Self {
        Self {
            me,
            cluster_id: watch::Sender::new(cluster_id),
        }
    }

    /// The cluster; `None` before it is founded or joined.
    pub(super) fn cluster_id(&self) -> Option<Uuid> {
        *self.cluster_id.borrow()
    }

    /// From here on the broker belongs to this cluster. False when it belongs to another one.
    pub(super) fn enter(&self, cluster_id: Uuid) -> bool {
        self.cluster_id.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(cluster_id);
            is_first
        });
        self.cluster_id() == Some(cluster_id)
    }

    /// The cluster, once the broker belongs to one.
    pub(super) async fn entered(&self) -> Option<Uuid> {
        let mut changes = self.cluster_id.subscribe();
        let cluster_id = changes.wait_for(Option::is_some).await;
        cluster_id.ok().and_then(|cluster_id| *cluster_id)
    }

    /// How a stream to `broker` begins.
    pub(super) fn hello_to(&self, broker: BrokerId, cluster_id: Uuid) -> Hello {
        Hello {
            cluster_id: uuid_bytes(cluster_id),
            broker_id: self.me.broker.0,
            incarnation_id: uuid_bytes(self.me.incarnation_id),
            run_id: self.me.run_id,
            to_broker_id: broker.0,
        }
    }

    /// Who sends on a stream that begins with `hello`.
    ///
    /// # Errors
    /// UNAVAILABLE before this broker belongs to a cluster; PERMISSION_DENIED for a broker of another one;
    /// FAILED_PRECONDITION when another broker is meant; INVALID_ARGUMENT for what no broker says.
    pub(super) fn meet(&self, hello: &Hello) -> Result<Sender, Status> {
        let me = self.me.broker;
        let Some(cluster_id) = self.cluster_id() else {
            return Err(Status::unavailable(format!(
                "broker {me} belongs to no cluster yet"
            )));
        };
        if hello.cluster_id != cluster_id.as_bytes()[..] {
            return Err(Status::permission_denied(format!(
                "broker {me} belongs to cluster {cluster_id}, not to that of broker {}",
                hello.broker_id
            )));
        }
        if hello.to_broker_id != me.0 {
            return Err(Status::failed_precondition(format!(
                "this is broker {me}, not broker {}: the address is wrong",
                hello.to_broker_id
            )));
        }
        let incarnation_id = Uuid::from_slice(&hello.incarnation_id).ok();
        match incarnation_id {
            Some(incarnation_id) if hello.broker_id != 0 && hello.broker_id != me.0 => Ok(Sender {
                broker: BrokerId(hello.broker_id),
                incarnation_id,
                run_id: hello.run_id,
            }),
            _ => Err(Status::invalid_argument(
                "the hello names no other broker with its data directory",
            )),
        }
    }

    pub(super) fn describe(&self) -> DescribeResponse {
        let cluster_id = self.cluster_id();
        DescribeResponse {
            cluster_id: cluster_id.map(uuid_bytes).unwrap_or_default(),
            broker_id: self.me.broker.0,
            incarnation_id: uuid_bytes(self.me.incarnation_id),
            run_id: self.me.run_id,
            feature_level: self.me.feature_level,
            seeds: self.me.seeds.clone(),
            is_empty: self.me.was_empty && cluster_id.is_none(),
            known_start_number: 0,
            is_asking_retired: false,
        }
    }
}

/// The broker at the other end of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) broker: BrokerId,
    pub(super) incarnation_id: Uuid,
    pub(super) run_id: u64,
}

/// A UUID as it crosses the network.
pub(super) fn uuid_bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn identity(broker: u32) -> Identity {
        let me = Me {
            broker: BrokerId(broker),
            incarnation_id: Uuid::from_u128(7),
            run_id: 9,
            feature_level: 1,
            seeds: "1@a:1,2@b:2".to_owned(),
            was_empty: true,
        };
        Identity::new(me, None)
    }

    #[test]
    fn only_brokers_of_the_cluster_who_mean_this_one_are_met() {
        let (here, there) = (identity(2), identity(1));
        let cluster_id = Uuid::from_u128(3);
        let hello = there.hello_to(BrokerId(2), cluster_id);
        let code = |hello: &Hello| here.meet(hello).unwrap_err().code();
        assert_eq!(code(&hello), Code::Unavailable);

        here.enter(cluster_id);
        let sender = here.meet(&hello).unwrap();
        assert_eq!((sender.broker, sender.run_id), (BrokerId(1), 9));
        let with = |change: fn(&mut Hello)| {
            let mut hello = hello.clone();
            change(&mut hello);
            code(&hello)
        };
        assert_eq!(
            with(|h| h.cluster_id = Bytes::new()),
            Code::PermissionDenied
        );
        let other = with(|h| h.cluster_id = uuid_bytes(Uuid::from_u128(4)));
        assert_eq!(other, Code::PermissionDenied);
        assert_eq!(with(|h| h.to_broker_id = 3), Code::FailedPrecondition);
        assert_eq!(with(|h| h.broker_id = 0), Code::InvalidArgument);
        assert_eq!(with(|h| h.broker_id = 2), Code::InvalidArgument);
        assert_eq!(
            with(|h| h.incarnation_id.truncate(15)),
            Code::InvalidArgument
        );
    }

    #[test]
    fn a_broker_is_empty_until_it_belongs_to_a_cluster_and_then_stays_in_it() {
        let identity = identity(2);
        let before = identity.describe();
        assert!(before.is_empty && before.cluster_id.is_empty());
        assert_eq!((before.broker_id, before.run_id), (2, 9));
        assert_eq!(before.seeds, "1@a:1,2@b:2");

        let cluster_id = Uuid::from_u128(3);
        assert!(identity.enter(cluster_id) && identity.enter(cluster_id));
        assert!(!identity.enter(Uuid::from_u128(4)));
        let after = identity.describe();
        assert!(!after.is_empty);
        assert_eq!(after.cluster_id, uuid_bytes(cluster_id));
    }
}
