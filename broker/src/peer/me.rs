//! Who this broker is to the others.

use std::sync::OnceLock;

use bytes::Bytes;
use highwater_proto::BrokerId;
use highwater_proto::internal::v1::DescribeResponse;
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
    cluster_id: OnceLock<Uuid>,
}

impl Identity {
    pub(super) fn new(me: Me, cluster_id: Option<Uuid>) -> Self {
        Self {
            me,
            cluster_id: cluster_id.map(OnceLock::from).unwrap_or_default(),
        }
    }

    /// The cluster; `None` before it is founded or joined.
    pub(super) fn cluster_id(&self) -> Option<Uuid> {
        self.cluster_id.get().copied()
    }

    /// From here on the broker belongs to this cluster. False when it belongs to another one.
    pub(super) fn enter(&self, cluster_id: Uuid) -> bool {
        *self.cluster_id.get_or_init(|| cluster_id) == cluster_id
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
        }
    }
}

/// A UUID as it crosses the network.
pub(super) fn uuid_bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_empty_until_it_belongs_to_a_cluster_and_then_stays_in_it() {
        let me = Me {
            broker: BrokerId(2),
            incarnation_id: Uuid::from_u128(7),
            run_id: 9,
            feature_level: 1,
            seeds: "1@a:1,2@b:2".to_owned(),
            was_empty: true,
        };
        let identity = Identity::new(me, None);
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
