//! Makes this broker's replicas those that the cluster's image says.
//!
//! One task follows the images; what to do about each is decided by [`reconcile`]. What fails is tried again, because
//! most failures here (a full disk) clear by themselves.

mod laying_aside;
mod refounding;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use highwater_proto::BrokerId;
use highwater_storage::{LogId, LogReader, LogSpec};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::operate;
use crate::config::Config;
use crate::controller::reconcile::{Action, Location, Presence, StartReplica, reconcile};
use crate::controller::{ClusterImage, ClusterView, Command};
use crate::controller_client::ControllerClient;
use crate::coordinator::{self, CoordinatorReplica, CoordinatorView};
use crate::health::Health;
use crate::hosted::{Hosted, HostedCoordinator, HostedPartition, HostedPartitions, HostedTopic};
use crate::partition::{self, PartitionReplica, PartitionShared};
use crate::raft::{
    self, BuildMachine, FoundLog, GroupId, Members, Operation, Origin, ReplicaId, Shards,
};
use crate::replica::Replica;
use crate::topic::TopicConfig;

/// Operations on their way to the shards at once.
const OPERATIONS_AT_ONCE: usize = 256;
/// The first and the longest wait before what failed is tried again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What a reconciler works with.
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) shards: Shards<Replica>,
    pub(super) cluster: Arc<ClusterView>,
    pub(super) controller: ControllerClient,
    pub(super) hosted: Arc<Hosted>,
    pub(super) health: Arc<Health>,
    /// Logs found at start that nothing runs in yet.
    pub(super) recovered: BTreeMap<LogId, FoundLog>,
}

/// See the module's documentation.
pub(super) struct Reconciler {
    parts: Parts,
    me: BrokerId,
    limits: partition::Limits,
    coordinator_limits: coordinator::Limits,
    running: HashMap<Location, Running>,
    /// Replicas that were laid aside for others that take their places.
    laid_aside: HashMap<Location, Running>,
    /// Why replicas cannot be started whose logs are lost.
    lost: HashMap<Location, String>,
    done: watch::Sender<Arc<ClusterImage>>,
    /// The image that was reconciled last.
    last: Option<Arc<ClusterImage>>,
}

/// A replica that runs.
#[derive(Clone)]
struct Running {
    group: GroupId,
    shared: Arc<PartitionShared>,
    reader: LogReader,
    /// What is seen of its groups, where it is a coordinator's.
    coordinator: Option<Arc<CoordinatorView>>,
}

impl Reconciler {
    /// A reconciler, and the images that it has put in force as far as it could.
    pub(super) fn new(parts: Parts) -> (Self, watch::Receiver<Arc<ClusterImage>>) {
        let (done, reconciled) = watch::channel(Arc::default());
        let topics = &parts.config.topics;
        let limits = partition::Limits {
            max_producers: topics.max_producers,
            producer_expiration_ms: topics.producer_expiration_ms,
            producer_expiration_min_ms: topics.producer_expiration_min_ms,
        };
        let reconciler = Self {
            me: BrokerId(parts.config.broker_id),
            coordinator_limits: coordinator::Limits {
                max_groups: parts.config.groups.max_groups,
                max_members: parts.config.groups.max_members,
                ..coordinator::Limits::default()
            },
            parts,
            limits,
            running: HashMap::new(),
            laid_aside: HashMap::new(),
            lost: HashMap::new(),
            done,
            last: None,
        };
        (reconciler, reconciled)
    }

    /// Follows the images until it is dropped.
    pub(super) async fn run(mut self) {
        let mut images = self.parts.cluster.watch();
        let mut retry = FIRST_RETRY;
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            let is_done = self.follow(&image).await;
            if is_done {
                self.last = Some(Arc::clone(&image));
                retry = FIRST_RETRY;
            }
            // What could not be done now is tried again, and keeps nobody from the rest.
            self.done.send_replace(image);
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(retry), if !is_done => retry = (retry * 2).min(LONGEST_RETRY),
            }
        }
    }

    /// Does what the image asks for. Whether all of it succeeded.
    async fn follow(&mut self, image: &Arc<ClusterImage>) -> bool {
        let present = self.present(image);
        let plan = reconcile(self.last.as_deref(), image, self.me, &present);
        self.parts
            .health
            .set_unknown_replicas(self.unknown(&plan.unknown, image));
        let mut starts = Vec::new();
        let mut take_ups = Vec::new();
        let mut refounds = Vec::new();
        let mut others = Vec::new();
        for action in plan.actions {
            match action {
                Action::StartReplica(start) => starts.push(start),
                Action::TakeUp(start) => take_ups.push(start),
                Action::Refound(start) => refounds.push(start),
                other => others.push(other),
            }
        }
        let (leaving, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|action| {
            matches!(
                action,
                Action::DeleteReplica { .. } | Action::LayAside { .. }
            )
        });
        if !leaving.is_empty() {
            // Readers lose sight of them first.
            self.publish(image);
        }
        let mut is_done = true;
        // A new replica of a group starts where an old one has gone.
        for action in leaving {
            is_done &= self.carry_out(action).await;
        }
        for start in take_ups {
            match self.take_up(start).await {
                Ok(to_start) => starts.extend(to_start),
                Err(error) => {
                    error!(%error, "a replica whose place nobody takes cannot go on");
                    is_done = false;
                }
            }
        }
        let mut begun = Vec::new();
        for start in refounds {
            let (location, group) = (start.location, start.group);
            if let Err(error) = self.refound(start).await {
                error!(topic = %location.topic_id, partition = %location.partition, %error, "a partition cannot begin again");
                is_done = false;
            } else if self.runs_in(location, group) {
                begun.push((location, group));
            }
        }
        is_done &= self.start_all(starts).await;
        self.publish(image);
        is_done &= self.report_refounded(&begun).await;
        for action in others {
            is_done &= self.carry_out(action).await;
        }
        is_done
    }

    /// What is on this broker, as far as the image knows where it belongs.
    fn present(&self, image: &ClusterImage) -> BTreeMap<Location, Presence> {
        let mut present: BTreeMap<_, _> = self
            .running
            .keys()
            .map(|location| (*location, Presence::Running))
            .collect();
        let laid_aside = self.laid_aside.keys();
        present.extend(laid_aside.map(|location| (*location, Presence::LaidAside)));
        let mut note = |topic_id, partition, replica: ReplicaId| {
            if self.parts.recovered.contains_key(&LogId(replica.0)) {
                let location = Location {
                    topic_id,
                    partition,
                    replica,
                };
                present.insert(location, Presence::Stopped);
            }
        };
        for (id, removed) in image.removed_replicas() {
            if removed.broker == self.me {
                note(removed.topic_id, removed.partition, id);
            }
        }
        let deleted = image.deleted_topics().map(|deleted| &deleted.topic);
        for topic in image.topics().chain(deleted) {
            for (index, partition) in topic.numbered() {
                for replica in partition.everybody() {
                    if replica.broker == self.me {
                        note(topic.id, index, replica.id);
                    }
                }
            }
        }
        present
    }

    /// Names of what is here and that the image does not place here.
    fn unknown(&self, running: &[Location], image: &ClusterImage) -> BTreeMap<LogId, String> {
        let known = self.present(image);
        let known: HashSet<_> = known
            .keys()
            .map(|location| LogId(location.replica.0))
            .collect();
        let stopped = self
            .parts
            .recovered
            .keys()
            .filter(|log| !known.contains(log));
        let stopped = stopped.map(|log| (*log, format!("log {log}")));
        let running = running.iter();
        let running = running.map(|location| (LogId(location.replica.0), name_of(location)));
        stopped.chain(running).collect()
    }

    async fn start_all(&mut self, starts: Vec<StartReplica>) -> bool {
        if starts.is_empty() {
            self.parts.health.set_failed_starts(Vec::new());
            self.lost.clear();
            return true;
        }
        let jobs: Vec<_> = starts
            .into_iter()
            .map(|start| self.start_one(start))
            .collect();
        let mut jobs = futures::stream::iter(jobs).buffer_unordered(OPERATIONS_AT_ONCE);
        let mut started = Vec::new();
        let mut failed = Vec::new();
        let mut lost = HashMap::new();
        while let Some(result) = jobs.next().await {
            match result {
                Ok(replica) => started.push(replica),
                Err((location, error)) => {
                    let is_lost = matches!(
                        error,
                        raft::Error::Storage(highwater_storage::Error::Corrupt { .. })
                    );
                    if !self.lost.contains_key(&location) {
                        error!(topic = %location.topic_id, partition = %location.partition, %error, "a replica cannot be started");
                    }
                    if is_lost {
                        lost.insert(location, error.to_string());
                    }
                    failed.push(format!("{}: {error}", name_of(&location)));
                }
            }
        }
        if !started.is_empty() {
            info!(count = started.len(), "replicas started");
        }
        self.lost = lost;
        let is_done = failed.is_empty();
        self.parts.health.set_failed_starts(failed);
        for (location, running) in started {
            self.note_running(location, running);
        }
        is_done
    }

    /// The log is the replica's from here on.
    fn note_running(&mut self, location: Location, running: Running) {
        self.parts.recovered.remove(&LogId(location.replica.0));
        self.running.insert(location, running);
    }

    /// Starts one replica, from what was recovered or as a new one.
    fn start_one(
        &mut self,
        start: StartReplica,
    ) -> impl Future<Output = Result<(Location, Running), (Location, raft::Error)>> + use<> {
        let StartReplica {
            location,
            founders,
            config,
            ..
        } = &start;
        let log = LogId(location.replica.0);
        let origin = match self.parts.recovered.get(&log) {
            Some(found) => Origin::Recovered(found.clone()),
            None => Origin::New {
                spec: LogSpec {
                    directory: format!(
                        "topics/{}/{}-{}",
                        location.topic_id, location.partition, location.replica.0
                    ),
                    max_segment_bytes: config.segment_bytes,
                    write_caching: config.write_caching,
                },
                members: Members::of_voters(founders.iter().copied()),
                snapshot: Bytes::new(),
            },
        };
        self.start_from(start, origin)
    }

    /// Starts one replica from there.
    fn start_from(
        &self,
        start: StartReplica,
        origin: Origin,
    ) -> impl Future<Output = Result<(Location, Running), (Location, raft::Error)>> + use<> {
        let StartReplica {
            location,
            group,
            founders,
            config,
            is_coordinator,
            ..
        } = start;
        let shared = Arc::new(PartitionShared::new(
            config,
            Arc::clone(self.parts.hosted.leaderships()),
        ));
        let coordinator = is_coordinator.then(Arc::<CoordinatorView>::default);
        let build = self.build(&shared, coordinator.clone());
        let shards = self.parts.shards.clone();
        // Who is to lead first need not wait until it is sure that nobody else does: the group is new.
        let leads_first = matches!(origin, Origin::New { .. })
            && founders.len() > 1
            && founders[0] == location.replica;
        async move {
            let started = operate(&shards, group, |answer| Operation::Start {
                group,
                replica: location.replica,
                origin,
                build,
                answer,
            });
            let reader = started.await.map_err(|error| (location, error))?.reader;
            if leads_first && let Err(error) = shards.operate(group, Operation::Campaign { group })
            {
                debug!(group = group.0, %error, "a new partition elects its leader later");
            }
            Ok((
                location,
                Running {
                    group,
                    shared,
                    reader,
                    coordinator,
                },
            ))
        }
    }

    /// Makes a replica's machine: a partition's, or that of a coordinator.
    fn build(
        &self,
        shared: &Arc<PartitionShared>,
        coordinator: Option<Arc<CoordinatorView>>,
    ) -> BuildMachine<Replica> {
        let (partition_limits, coordinator_limits) = (self.limits, self.coordinator_limits);
        let shared = Arc::clone(shared);
        Box::new(move |_reader, applied| match coordinator {
            None => PartitionReplica::new(&applied.snapshot, partition_limits, shared)
                .map(|replica| Replica::Partition(Box::new(replica)))
                .map_err(|error| error.to_string()),
            Some(view) => CoordinatorReplica::new(&applied.snapshot, coordinator_limits, view)
                .map(|replica| Replica::Coordinator {
                    replica: Box::new(replica),
                    shared,
                })
                .map_err(|error| error.to_string()),
        })
    }

    async fn carry_out(&mut self, action: Action) -> bool {
        let result = match action {
            Action::StartReplica(_) | Action::TakeUp(_) | Action::Refound(_) => return true,
            Action::Reconfigure {
                location,
                group,
                config,
            } => self.reconfigure(location, group, config).await,
            Action::DeleteReplica { location, group } => self.delete(location, group).await,
            Action::LayAside { location, group } => self.lay_aside(location, group).await,
            Action::ReportRemoval { replica } => {
                let broker = self.me;
                let command = Command::ReportRemoval { replica, broker };
                if let Err(error) = self.parts.controller.ask(command).await {
                    warn!(replica = replica.0, %error, "a removal could not be reported");
                    return false;
                }
                return true;
            }
            Action::ReportDeletion { topic_id } => {
                let command = Command::ReportDeletion {
                    topic_id,
                    broker: self.me,
                };
                if let Err(error) = self.parts.controller.ask(command).await {
                    warn!(topic = %topic_id, %error, "a deletion could not be reported");
                    return false;
                }
                return true;
            }
        };
        if let Err(error) = &result {
            error!(%error, "a change of a replica failed");
        }
        result.is_ok()
    }

    async fn reconfigure(
        &self,
        location: Location,
        group: GroupId,
        config: Arc<TopicConfig>,
    ) -> Result<(), raft::Error> {
        if let Some(running) = self.running.get(&location) {
            running.shared.set_config(Arc::clone(&config));
        }
        operate(&self.parts.shards, group, |answer| {
            Operation::SetLogConfig {
                group,
                max_segment_bytes: config.segment_bytes,
                write_caching: config.write_caching,
                answer,
            }
        })
        .await
    }

    /// Deletes a replica, whether it runs, is laid aside, or was only found.
    async fn delete(&mut self, location: Location, group: GroupId) -> Result<(), raft::Error> {
        let log = LogId(location.replica.0);
        let found = self.parts.recovered.get(&log).cloned();
        operate(&self.parts.shards, group, |answer| Operation::Delete {
            group,
            replica: location.replica,
            found,
            answer,
        })
        .await?;
        self.running.remove(&location);
        self.laid_aside.remove(&location);
        self.parts.recovered.remove(&log);
        self.parts.health.log_deleted(log);
        info!(topic = %location.topic_id, partition = %location.partition, replica = location.replica.0, "replica deleted");
        Ok(())
    }

    /// Shows the image's partitions that run here to who serves requests.
    fn publish(&self, image: &ClusterImage) {
        let before = self.parts.hosted.load();
        let mut hosted = HostedPartitions::default();
        for topic in image.topics() {
            let name = Arc::new(HostedTopic {
                id: topic.id,
                name: topic.name.clone(),
            });
            let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            if !topic.is_internal() {
                hosted.set_topic(&name, count);
            }
            for (index, partition) in topic.numbered() {
                let Some(replica) = partition.replica_on(self.me) else {
                    continue;
                };
                let location = Location {
                    topic_id: topic.id,
                    partition: index,
                    replica: replica.id,
                };
                if let Some(reason) = self.lost.get(&location) {
                    hosted.set_lost(topic.id, index, reason.clone());
                }
                let Some(running) = self.running.get(&location) else {
                    continue;
                };
                let is_sole_replica = partition.everybody().count() == 1;
                let known = before.replica(topic.id, index).filter(|known| {
                    Arc::ptr_eq(&known.shared, &running.shared)
                        && known.is_sole_replica == is_sole_replica
                });
                let partition = known.cloned().unwrap_or_else(|| {
                    Arc::new(HostedPartition {
                        topic: Arc::clone(&name),
                        index,
                        group: running.group,
                        is_sole_replica,
                        shared: Arc::clone(&running.shared),
                        reader: running.reader.clone(),
                        shards: self.parts.shards.clone(),
                    })
                });
                match running.coordinator.clone() {
                    Some(view) => {
                        hosted.insert_coordinator(HostedCoordinator { partition, view });
                    }
                    None => hosted.insert(partition),
                }
            }
        }
        self.parts.hosted.store(hosted);
    }
}

/// A replica in words.
fn name_of(location: &Location) -> String {
    format!(
        "replica {} of partition {} of topic {}",
        location.replica.0, location.partition, location.topic_id
    )
}
