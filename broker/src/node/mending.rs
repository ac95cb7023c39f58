//! Has replicas of this broker rebuilt from the others when they are damaged or lost.
//!
//! Damage is found where a log is opened, where it is read, and where its leader counts on entries that are not there: the
//! replica is then quarantined. One task looks at what is quarantined here, decides by [`treatment`] what helps, asks the
//! controller for a new replica in place of one that can be rebuilt, and tells [`Health`] of all of them. The change of
//! replicas does the rest, and deletes what is left of the old one at its end.

mod treatment;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::v1::{HealthFinding, HealthState};
use highwater_proto::{BrokerId, PartitionIndex, TopicId};
use highwater_storage::LogId;
use tracing::{debug, error, info, warn};

use self::treatment::{Case, Treatment};
use super::tasks::every;
use crate::controller::{ClusterImage, ClusterView, Command, Partition, Topic};
use crate::controller_client::ControllerClient;
use crate::health::{Health, Help, LogFinding, Trouble, finding};
use crate::hosted::{Hosted, HostedPartition};
use crate::partition::Standing;
use crate::peer::Peers;
use crate::raft::machine::Role;
use crate::raft::{Ailment, Failure, Operation, ReplicaId, Shards};
use crate::replica::Replica;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Replicas of this broker that are rebuilt at once. A whole directory may be damaged, and the others have other work.
const AT_ONCE: usize = 16;

/// See the module's documentation.
pub(super) struct Mending {
    pub(super) me: BrokerId,
    pub(super) shards: Shards<Replica>,
    pub(super) cluster: Arc<ClusterView>,
    pub(super) hosted: Arc<Hosted>,
    pub(super) peers: Peers,
    pub(super) controller: ControllerClient,
    pub(super) health: Arc<Health>,
}

/// A replica here that failed.
struct Patient<'a> {
    topic: &'a Topic,
    index: PartitionIndex,
    partition: &'a Partition,
    replica: ReplicaId,
    failure: Failure,
}

impl Mending {
    /// Works until it is dropped.
    pub(super) async fn run(self) {
        let mut looks = every(INTERVAL);
        let mut had_controller_failed = false;
        loop {
            looks.tick().await;
            let controller = self.controller_failure();
            if let Some(failure) = controller.as_ref().filter(|_| !had_controller_failed) {
                error!("{}", failure.message);
            }
            had_controller_failed = controller.is_some();
            self.look(controller).await;
        }
    }

    async fn look(&self, controller: Option<HealthFinding>) {
        let image = self.cluster.image();
        self.stop_damaged(&image);
        let mut findings = self.being_rebuilt(&image);
        findings.extend(self.lost(&image));
        let mut room = AT_ONCE.saturating_sub(findings.len());
        for patient in self.patients(&image).await {
            let Some(treatment) = self.case(&patient).treatment() else {
                continue;
            };
            findings.insert(
                LogId(patient.replica.0),
                tell(&patient, treatment, &self.health.repair_command()),
            );
            if treatment == Treatment::Rebuild && room > 0 {
                room -= 1;
                self.rebuild(&patient).await;
            }
        }
        self.health.set_failed_replicas(findings);
        let mut told = self.recoveries(&image);
        told.extend(controller);
        self.health.set_told(told);
    }

    /// What is wrong with this broker's replica of the controller.
    fn controller_failure(&self) -> Option<HealthFinding> {
        let has_failed = self.cluster.role() == Some(Role::Quarantined);
        has_failed.then(|| {
            let message = "this broker's replica of the controller failed, so that the broker hears of no changes of the cluster; its log \
                           says why. Restart the broker: it is given another one where the other controllers are a majority";
            finding(HealthState::Critical, "CONTROLLER_FAILED", message.to_owned())
        })
    }

    /// Replicas here that are given up as lost, and whose place nobody takes yet.
    fn lost(&self, image: &ClusterImage) -> BTreeMap<LogId, HealthFinding> {
        let mut findings = BTreeMap::new();
        for topic in image.topics() {
            for (index, partition) in topic.numbered() {
                let mut here = partition.replicas.iter();
                let here = here.find(|at| at.broker == self.me && partition.lost.contains(&at.id));
                let Some(here) = here.filter(|_| !partition.is_changing()) else {
                    continue;
                };
                let is_mendable = partition.lost.len() * 2 < partition.replicas.len();
                let help = if is_mendable {
                    Help::Rebuild
                } else {
                    restore_majority(topic, partition)
                };
                let told = LogFinding {
                    log: LogId(here.id.0),
                    partition: Some((&topic.name, index)),
                    trouble: Trouble::Lost,
                    help,
                };
                findings.insert(told.log, told.into());
            }
        }
        findings
    }

    /// Ends the part of replicas in whose logs a reader met damage, where others go on: a leader would keep clients from
    /// what those hold.
    fn stop_damaged(&self, image: &ClusterImage) {
        let damaged: BTreeMap<_, _> = self.health.damaged_logs().into_iter().collect();
        if damaged.is_empty() {
            return;
        }
        for hosted in self.hosted.load().iter() {
            let Some((_, partition)) = placed(image, hosted.topic.id, hosted.index) else {
                continue;
            };
            let is_running = hosted.shared.standing() != Standing::Quarantined;
            let Some(here) = partition.replica_on(self.me).filter(|_| is_running) else {
                continue;
            };
            let reason = damaged.get(&LogId(here.id.0));
            if let Some(reason) = reason.filter(|_| partition.replicas.len() > 1) {
                let operation = Operation::Fail {
                    replica: here.id,
                    reason: format!("a reader met damage: {reason}"),
                };
                if let Err(error) = self.shards.operate(hosted.group, operation) {
                    debug!(group = hosted.group.0, %error, "a damaged replica goes on for now");
                }
            }
        }
    }

    /// Replicas whose place others are taking on this broker.
    fn being_rebuilt(&self, image: &ClusterImage) -> BTreeMap<LogId, HealthFinding> {
        let mut findings = BTreeMap::new();
        for (topic, index, partition) in image.reassigned() {
            let comes = partition.adding().any(|new| new.broker == self.me);
            let mut removing = partition.removing();
            let Some(old) = removing.find(|old| comes && old.broker == self.me) else {
                continue;
            };
            let told = LogFinding {
                log: LogId(old.id.0),
                partition: Some((&topic.name, index)),
                trouble: Trouble::Replaced,
                help: Help::Rebuild,
            };
            findings.insert(told.log, told.into());
        }
        findings
    }

    /// What was given up when partitions began again with the replicas here.
    fn recoveries(&self, image: &ClusterImage) -> Vec<HealthFinding> {
        let recovered = image.recovered().filter_map(|(topic, index, recovery)| {
            let partition = topic.partition(index)?;
            partition.replica_on(self.me)?;
            let brokers: Vec<_> = recovery.lost.iter().map(|broker| broker.0.to_string()).collect();
            let (name, count) = (&topic.name, topic.replication_factor);
            let message = format!(
                "partition {index} of topic {name} began again without brokers {}: what was acknowledged from offset {} on before \
                 that is lost. This stays until it has its {count} replicas again: `highwater topic alter {name} -r {count}`",
                brokers.join(", "),
                recovery.log_end_offset
            );
            Some(finding(HealthState::Warning, "PARTITION_RECOVERED", message))
        });
        recovered.collect()
    }

    /// What failed here.
    async fn patients<'a>(&self, image: &'a ClusterImage) -> Vec<Patient<'a>> {
        let hosted = self.hosted.load();
        let mut failed: Vec<(TopicId, PartitionIndex, Failure)> = Vec::new();
        for (topic, index, reason) in hosted.lost() {
            let failure = Failure {
                ailment: Ailment::Damaged,
                reason: reason.to_owned(),
            };
            failed.push((topic, index, failure));
        }
        let is_quarantined = |partition: &&Arc<HostedPartition>| {
            partition.shared.standing() == Standing::Quarantined
        };
        for partition in hosted.iter().filter(is_quarantined) {
            let status = super::status(&self.shards, partition.group).await;
            let failure = status.ok().flatten().and_then(|status| status.failure);
            failed.extend(failure.map(|failure| (partition.topic.id, partition.index, failure)));
        }
        let patients = failed.into_iter().filter_map(|(id, index, failure)| {
            let (topic, partition) = placed(image, id, index)?;
            let replica = partition.replica_on(self.me)?.id;
            Some(Patient {
                topic,
                index,
                partition,
                replica,
                failure,
            })
        });
        patients.collect()
    }

    fn case(&self, patient: &Patient<'_>) -> Case {
        let partition = patient.partition;
        let leader = self.peers.leaders().get(partition.group);
        let leader = leader.filter(|leader| {
            let holder = partition.replicas.iter().find(|at| at.id == leader.replica);
            holder.is_some_and(|at| self.peers.liveness().borrow().contains(&at.broker))
        });
        let others = |id: &&ReplicaId| {
            **id != patient.replica && partition.replicas.iter().any(|at| at.id == **id)
        };
        Case {
            ailment: patient.failure.ailment,
            replicas: partition.replicas.len(),
            is_changing: partition.is_changing(),
            keep_up_elsewhere: leader.map(|leader| leader.in_sync.iter().filter(others).count()),
        }
    }

    async fn rebuild(&self, patient: &Patient<'_>) {
        let (topic, partition, replica) = (&patient.topic.name, patient.index, patient.replica.0);
        let command = Command::ReplaceReplica {
            topic_id: patient.topic.id,
            partition: patient.index,
            replica: patient.replica,
        };
        match self.controller.ask(command).await {
            Ok(_) => {
                let reason = &patient.failure.reason;
                info!(topic, %partition, replica, reason, "a failed replica is being rebuilt from the others");
            }
            Err(error) => {
                warn!(topic, %partition, replica, %error, "a failed replica cannot be rebuilt yet");
            }
        }
    }
}

/// A partition of the image, and its topic.
fn placed(
    image: &ClusterImage,
    topic: TopicId,
    index: PartitionIndex,
) -> Option<(&Topic, &Partition)> {
    let topic = image.topic(topic)?;
    Some((topic, topic.partition(index)?))
}

/// What is said of a failed replica.
fn tell(patient: &Patient<'_>, treatment: Treatment, repair_command: &str) -> HealthFinding {
    let reason = &patient.failure.reason;
    let trouble = match patient.failure.ailment {
        Ailment::Damaged => Trouble::Damaged(reason),
        _ => Trouble::Failed(reason),
    };
    let help = match treatment {
        Treatment::Rebuild => Help::Rebuild,
        Treatment::AwaitChange => Help::RebuildLater,
        Treatment::AwaitMajority => restore_majority(patient.topic, patient.partition),
        Treatment::AcceptLoss => Help::AcceptLoss { repair_command },
        Treatment::ReplaceDisk => Help::CheckDisk,
        Treatment::Investigate => Help::Report,
    };
    let log = LogId(patient.replica.0);
    let partition = Some((&*patient.topic.name, patient.index));
    LogFinding {
        log,
        partition,
        trouble,
        help,
    }
    .into()
}

fn restore_majority<'a>(topic: &'a Topic, partition: &Partition) -> Help<'a> {
    Help::RestoreMajority {
        topic: &topic.name,
        replicas: partition.replicas.len(),
        replication_factor: topic.replication_factor,
    }
}
