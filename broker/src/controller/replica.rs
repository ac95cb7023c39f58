//! The shell around the cluster's rules that a shard runs, and where everybody else sees the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use highwater_storage::RaftIndex;
use tokio::sync::watch;

use super::command::{Command, Response};
use super::error::Error;
use super::image::ClusterImage;
use super::machine::{ControllerMachine, Limits};
use super::snapshot::BadSnapshot;
use crate::raft::machine::{
    CommittedEntry, Decision, Machine, NewEntry, Role, Timestamp, Unlawful,
};

/// The cluster as this broker knows it. Reading it takes no lock.
#[derive(Debug)]
pub struct ClusterView {
    image: ArcSwap<ClusterImage>,
    role: watch::Sender<Option<Role>>,
    /// How often the role was set. Grows while the role cannot be looked at.
    role_changes: AtomicU64,
    changed: watch::Sender<Arc<ClusterImage>>,
}

impl Default for ClusterView {
    fn default() -> Self {
        let image = Arc::<ClusterImage>::default();
        Self {
            image: ArcSwap::new(Arc::clone(&image)),
            role: watch::Sender::new(None),
            role_changes: AtomicU64::new(0),
            changed: watch::Sender::new(image),
        }
    }
}

impl ClusterView {
    /// The newest image.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.load_full()
    }

    /// The images from now on; who is slow sees only the newest.
    pub fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.changed.subscribe()
    }

    /// Where this broker's replica of the controller group stands; `None` before it started.
    pub fn role(&self) -> Option<Role> {
        *self.role.borrow()
    }

    /// Grows with each change of the role. A role that is looked at after this call is at least as new.
    pub fn role_changes(&self) -> u64 {
        self.role_changes.load(Ordering::SeqCst)
    }

    /// The roles from now on.
    pub fn watch_role(&self) -> watch::Receiver<Option<Role>> {
        self.role.subscribe()
    }

    fn set_role(&self, role: Role) {
        self.role.send_modify(|seen| {
            *seen = Some(role);
            self.role_changes.fetch_add(1, Ordering::SeqCst);
        });
    }

    fn publish(&self, image: &Arc<ClusterImage>) {
        if Arc::ptr_eq(&self.image.load(), image) {
            return;
        }
        self.image.store(Arc::clone(image));
        self.changed.send_replace(Arc::clone(image));
    }
}

/// The controller's machine and the view that it publishes.
#[derive(Debug)]
pub struct ControllerReplica {
    machine: ControllerMachine,
    view: Arc<ClusterView>,
}

impl ControllerReplica {
    /// The replica whose applied state is `snapshot`. The view shows that state at once.
    ///
    /// # Errors
    /// [`BadSnapshot`] when no known version wrote the snapshot.
    pub fn new(
        snapshot: &[u8],
        limits: Limits,
        view: Arc<ClusterView>,
    ) -> Result<Self, BadSnapshot> {
        let machine = ControllerMachine::new(snapshot, limits)?;
        view.publish(machine.image());
        Ok(Self { machine, view })
    }
}

impl Machine for ControllerReplica {
    type Command = Command;
    type Response = Response;
    type Error = Error;

    fn decide(
        &self,
        command: Command,
        _next_index: RaftIndex,
        _now: Timestamp,
    ) -> Result<Decision<Response>, Error> {
        self.machine.decide(command)
    }

    fn proposed(&mut self, index: RaftIndex, entry: &NewEntry) {
        self.machine.proposed(index, entry);
    }

    fn retract(&mut self, from: RaftIndex) {
        self.machine.retract(from);
    }

    fn apply(&mut self, entry: &CommittedEntry) -> Result<(), Unlawful> {
        self.machine.apply(entry)
    }

    fn snapshot(&self) -> Bytes {
        self.machine.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.machine
            .restore(snapshot)
            .map_err(|error| error.to_string())
    }

    fn snapshot_replaces_log(&self) -> bool {
        true
    }

    fn role_changed(&mut self, role: Role) {
        // Whoever hears that the leader serves looks at the image next: it must be the one that the leader applied.
        self.publish();
        self.view.set_role(role);
    }

    fn publish(&mut self) {
        self.view.publish(self.machine.image());
    }
}

#[cfg(test)]
mod tests {
    use highwater_proto::BrokerId;
    use highwater_storage::{Offset, Term};
    use uuid::Uuid;

    use super::*;
    use crate::controller::Registration;
    use crate::raft::machine::EntryKind;

    /// Proposes the founding of the cluster.
    fn found(replica: &mut ControllerReplica, cluster_id: Uuid) -> CommittedEntry {
        let command = Command::Found {
            cluster_id,
            feature_level: 1,
            founder: Registration {
                id: BrokerId(1),
                incarnation_id: Uuid::from_u128(1),
                listeners: Vec::new(),
                rack: None,
                start: crate::controller::Start::default(),
                lost_controller_replica: None,
                is_set_back: false,
            },
        };
        let decision = replica.decide(command, RaftIndex(1), Timestamp(0)).unwrap();
        let Decision::Propose { entries, .. } = decision else {
            panic!("not proposed: {decision:?}");
        };
        replica.proposed(RaftIndex(1), &entries[0]);
        CommittedEntry {
            index: RaftIndex(1),
            term: Term(1),
            kind: EntryKind::Events,
            base_offset: Offset(0),
            record_count: 0,
            max_timestamp_ms: -1,
            data: entries[0].data.clone(),
        }
    }

    #[test]
    fn everybody_sees_an_image_once_it_is_published() {
        let view = Arc::new(ClusterView::default());
        let mut replica =
            ControllerReplica::new(&[], Limits::default(), Arc::clone(&view)).unwrap();
        let mut images = view.watch();
        let cluster_id = Uuid::from_u128(1);
        let entry = found(&mut replica, cluster_id);
        replica.apply(&entry).unwrap();
        assert_eq!(view.image().cluster_id(), None);
        assert!(!images.has_changed().unwrap());
        replica.publish();
        assert_eq!(view.image().cluster_id(), Some(cluster_id));
        assert!(images.has_changed().unwrap());
        assert_eq!(images.borrow_and_update().cluster_id(), Some(cluster_id));
        replica.publish();
        assert!(!images.has_changed().unwrap(), "nothing changed since");

        let restored = Arc::new(ClusterView::default());
        let snapshot = replica.snapshot();
        ControllerReplica::new(&snapshot, Limits::default(), Arc::clone(&restored)).unwrap();
        assert_eq!(restored.image(), view.image());
    }

    #[test]
    fn the_role_is_seen_in_the_turn_in_which_it_changed() {
        let view = Arc::new(ClusterView::default());
        let mut replica =
            ControllerReplica::new(&[], Limits::default(), Arc::clone(&view)).unwrap();
        assert_eq!(view.role(), None);
        let role = Role::Leader {
            term: Term(3),
            serving: true,
        };
        replica.role_changed(role);
        assert_eq!(view.role(), Some(role));
    }

    #[test]
    fn the_image_is_there_before_the_role_is_seen() {
        let view = Arc::new(ClusterView::default());
        let mut replica =
            ControllerReplica::new(&[], Limits::default(), Arc::clone(&view)).unwrap();
        let cluster_id = Uuid::from_u128(1);
        let entry = found(&mut replica, cluster_id);
        replica.apply(&entry).unwrap();
        replica.role_changed(Role::Leader {
            term: Term(3),
            serving: true,
        });
        assert_eq!(view.image().cluster_id(), Some(cluster_id));
    }
}
