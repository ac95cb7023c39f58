//! The rules of the cluster.

mod brokers;
mod cancelling;
mod moves;
mod recovery;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::{BrokerId, TopicId};
use highwater_storage::RaftIndex;
use uuid::Uuid;

use super::command::{
    AddPartitions, AlterTopic, Command, CreateTopic, DeleteTopic, Registration, Response,
};
use super::error::Error;
use super::event::{self, Event};
use super::image::{Broker, BrokerState, ClusterImage, FOUNDING_REPLICA, Topic};
use super::name;
use super::partition::{Partition, Replica};
use super::placement::Placement;
use super::snapshot::{self, BadSnapshot};
use crate::raft::machine::{CommittedEntry, Decision, EntryKind, NewEntry, Unlawful};
use crate::raft::{GroupId, ReplicaId};
use crate::topic::TopicConfig;
use crate::topic::config_keys;

/// Producer ids that a broker is granted at once: it gives them out one by one without asking again. What it has not
/// given out when it stops is lost, which 2^63 ids bear.
pub const PRODUCER_ID_BLOCK: u32 = 1_000;
/// Characters of a refused name that are repeated in the answer.
const SHOWN_CHARS: usize = 64;

/// What the cluster holds at most, and what topics get that do not ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `topic.max.partitions`: partitions of one topic. All of them stand in one entry of the controller's log.
    pub max_partitions_per_topic: u32,
    /// `cluster.max.partitions`: partitions of all topics. Each is a Raft group with its memory and files.
    pub max_partitions: usize,
    /// `num.partitions`: partitions of a topic that does not say.
    pub default_partitions: u32,
    /// `topics.default_replication_factor`: replicas of a partition of a topic that does not say. 0: three, or as many as
    /// there are brokers where those are fewer.
    pub default_replication_factor: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_partitions_per_topic: 5_000,
            max_partitions: 20_000,
            default_partitions: 1,
            default_replication_factor: 0,
        }
    }
}

/// Replicas of a partition where neither its topic nor the configuration says how many: one may then be lost at any time.
const USUAL_REPLICATION_FACTOR: u32 = 3;

/// The cluster: applied state, this term's proposals, and the rules.
///
/// Invariant: `projected` is `applied` with the events of `proposals`; it is there exactly when there are proposals.
#[derive(Debug)]
pub struct ControllerMachine {
    applied: Arc<ClusterImage>,
    proposals: VecDeque<(RaftIndex, Vec<Event>)>,
    projected: Option<ClusterImage>,
    limits: Limits,
}

pub(super) type Decided = Result<Decision<Response>, Error>;

impl ControllerMachine {
    /// The machine whose applied state is `snapshot`; no bytes mean a cluster that begins.
    ///
    /// # Errors
    /// [`BadSnapshot`] when no known version wrote it.
    pub fn new(snapshot: &[u8], limits: Limits) -> Result<Self, BadSnapshot> {
        Ok(Self {
            applied: Arc::new(snapshot::decode(snapshot)?),
            proposals: VecDeque::new(),
            projected: None,
            limits,
        })
    }

    /// See [`Machine::restore`](crate::raft::machine::Machine::restore).
    ///
    /// # Errors
    /// [`BadSnapshot`] when no known version wrote it; the state stays.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), BadSnapshot> {
        *self = Self::new(snapshot, self.limits)?;
        Ok(())
    }

    /// The applied state. While somebody holds it, the next change copies what it touches.
    pub fn image(&self) -> &Arc<ClusterImage> {
        &self.applied
    }

    /// See [`Machine::decide`](crate::raft::machine::Machine::decide).
    ///
    /// # Errors
    /// Why the command is refused; nothing was written.
    pub fn decide(&self, command: Command) -> Decided {
        match command {
            Command::Found {
                cluster_id,
                feature_level,
                founder,
            } => self.found(cluster_id, feature_level, founder),
            _ if self.view().cluster_id().is_none() => Err(Error::NotFounded),
            Command::Succeed { cluster_id } => Ok(self.succeed(cluster_id)),
            Command::RegisterBroker(registration) => self.register_broker(registration),
            Command::CreateTopic(command) => self.create_topic(command),
            Command::AlterTopic(command) => self.alter_topic(command),
            Command::AddPartitions(command) => self.add_partitions(&command),
            Command::DeleteTopic(command) => self.delete_topic(&command),
            Command::CreateCoordinators {
                topic_id,
                count,
                avoid,
            } => self.create_coordinators(topic_id, count, &avoid),
            Command::ReportDeletion { topic_id, broker } => {
                Ok(self.report_deletion(topic_id, broker))
            }
            Command::GrantProducerIds { broker } => self.grant_producer_ids(broker),
            Command::MoveReplicas(command) => self.move_replicas(&command),
            Command::SetReplicationFactor(command) => self.set_replication_factor(&command),
            Command::ReplaceReplica {
                topic_id,
                partition,
                replica,
            } => self.replace_replica(topic_id, partition, replica),
            Command::CancelMoves(command) => self.cancel_moves(&command),
            Command::ReportMembers(report) => Ok(self.report_members(&report)),
            Command::ReportRemoval { replica, broker } => Ok(self.report_removal(replica, broker)),
            Command::RecoverPartition(command) => self.recover_partition(&command),
            Command::ReportRecovery(report) => Ok(self.report_recovery(&report)),
            Command::Decommission(command) => self.decommission(&command),
            Command::CancelDecommission { broker } => self.cancel_decommission(broker),
            Command::AllowReplacement {
                broker,
                avoid,
                validate_only,
            } => self.allow_replacement(broker, &avoid, validate_only),
            Command::ContinueMoves { avoid } => Ok(self.continue_moves(&avoid)),
            Command::RemoveBroker { broker } => self.remove_broker(broker),
        }
    }

    /// What the next decision must count with.
    pub(super) fn view(&self) -> &ClusterImage {
        self.projected.as_ref().unwrap_or(&self.applied)
    }

    /// The answer where nothing is to be changed. It holds once everything is applied that it was decided on.
    pub(super) fn unchanged(&self, response: Response) -> Decision<Response> {
        let after = self.proposals.back().map(|(index, _)| *index);
        Decision::Answer { response, after }
    }

    fn found(&self, cluster_id: Uuid, feature_level: u32, founder: Registration) -> Decided {
        let view = self.view();
        let mut events = Vec::new();
        match view.cluster_id() {
            None => events.push(Event::ClusterFounded { cluster_id }),
            Some(actual) if actual == cluster_id => {}
            Some(actual) => {
                return Err(Error::OtherCluster {
                    asked: cluster_id,
                    actual,
                });
            }
        }
        let current = view.feature_level();
        if feature_level < current {
            return Err(Error::FeatureLevelLowered {
                asked: feature_level,
                current,
            });
        }
        if feature_level > current {
            events.push(Event::FeatureLevelSet {
                level: feature_level,
            });
        }
        if view.brokers().len() == 0 {
            let founder = founder.with_replica(FOUNDING_REPLICA);
            events.push(Event::BrokerRegistered(founder));
        }
        if events.is_empty() {
            return Ok(self.unchanged(Response::Done));
        }
        Ok(propose(&events, Response::Done))
    }

    /// It may be asked for again after a crash.
    fn succeed(&self, cluster_id: Uuid) -> Decision<Response> {
        if self.view().cluster_id() == Some(cluster_id) {
            return self.unchanged(Response::Done);
        }
        propose(&[Event::ClusterSucceeded { cluster_id }], Response::Done)
    }

    fn create_topic(&self, command: CreateTopic) -> Decided {
        let view = self.view();
        name::check(&command.name)?;
        if let Some(existing) = view.topic_colliding(&command.name) {
            return Err(Error::TopicAlreadyExists {
                name: command.name,
                existing: existing.name.clone(),
            });
        }
        let count = command.partitions.unwrap_or(self.limits.default_partitions);
        self.check_partitions(0, count)?;
        let replication_factor = command
            .replication_factor
            .unwrap_or_else(|| self.default_replication_factor());
        check_replication_factor(view, replication_factor)?;
        let overrides = config_keys::check(&command.configs)?;
        let config = config_keys::resolve(&overrides);
        check_min_insync_replicas(&config, replication_factor)?;
        let id = command.topic_id;
        if id.0.is_nil() || view.topic(id).is_some() || view.deleted_topic(id).is_some() {
            return Err(Error::TopicIdUsed { id });
        }
        let response = |topic_id| Response::TopicCreated {
            topic_id,
            partitions: count,
            replication_factor,
        };
        if command.validate_only {
            return Ok(self.unchanged(response(None)));
        }
        let topic = Topic {
            id,
            name: command.name,
            replication_factor,
            partitions: new_partitions(view, count, replication_factor, &command.avoid),
            overrides,
            config: Arc::new(config),
        };
        Ok(propose(
            &[Event::TopicCreated(Arc::new(topic))],
            response(Some(id)),
        ))
    }

    fn alter_topic(&self, command: AlterTopic) -> Decided {
        let topic = self.find(&command.name, command.topic_id)?;
        let mut overrides = topic.overrides.clone();
        for name in command.unset {
            config_keys::key(&name)?;
            if command.set.contains_key(&name) {
                return Err(Error::SetAndUnset { name });
            }
            overrides.remove(&name);
        }
        // Only what is new is checked: an override of another version must not stand in the way.
        let set = config_keys::check(&command.set)?;
        check_min_insync_replicas(&config_keys::resolve(&set), topic.replication_factor)?;
        overrides.extend(set);
        if command.validate_only || overrides == topic.overrides {
            return Ok(self.unchanged(Response::Done));
        }
        let altered = Event::TopicConfigsAltered {
            topic_id: topic.id,
            overrides,
        };
        Ok(propose(&[altered], Response::Done))
    }

    fn add_partitions(&self, command: &AddPartitions) -> Decided {
        let view = self.view();
        let topic = self.find(&command.name, command.topic_id)?;
        let now = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        self.check_partitions(now, command.total)?;
        check_replication_factor(view, topic.replication_factor)?;
        if command.validate_only {
            return Ok(self.unchanged(Response::Done));
        }
        let added = Event::PartitionsAdded {
            topic_id: topic.id,
            partitions: new_partitions(
                view,
                command.total - now,
                topic.replication_factor,
                &command.avoid,
            ),
        };
        Ok(propose(&[added], Response::Done))
    }

    fn delete_topic(&self, command: &DeleteTopic) -> Decided {
        let topic_id = self.find(&command.name, command.topic_id)?.id;
        let response = Response::TopicDeleted { topic_id };
        Ok(propose(&[Event::TopicDeleted { topic_id }], response))
    }

    /// A report may come twice, and after the last one nothing is known of the topic any more.
    fn report_deletion(&self, topic_id: TopicId, broker: BrokerId) -> Decision<Response> {
        let deleted = self.view().deleted_topic(topic_id);
        if deleted.is_none_or(|deleted| !deleted.waiting.contains(&broker)) {
            return self.unchanged(Response::Done);
        }
        propose(
            &[Event::TopicDeletionReported { topic_id, broker }],
            Response::Done,
        )
    }

    fn grant_producer_ids(&self, broker: BrokerId) -> Decided {
        let view = self.view();
        if view.broker(broker).is_none() {
            return Err(Error::UnknownBroker { id: broker });
        }
        let (first, count) = (view.next.producer, PRODUCER_ID_BLOCK);
        if first.0.checked_add(i64::from(count)).is_none() {
            return Err(Error::ProducerIdsExhausted);
        }
        let granted = Event::ProducerIdsGranted {
            first,
            count,
            broker,
        };
        Ok(propose(&[granted], Response::ProducerIds { first, count }))
    }

    /// The topic of this name, which must have this id where one is given.
    fn find(&self, name: &str, id: Option<TopicId>) -> Result<&Arc<Topic>, Error> {
        let Some(topic) = self.view().topic_named(name) else {
            let name = name.chars().take(SHOWN_CHARS).collect();
            return Err(Error::UnknownTopic { name });
        };
        match id {
            Some(asked) if asked != topic.id => Err(Error::OtherTopicId {
                name: topic.name.clone(),
                asked,
                actual: topic.id,
            }),
            _ => Ok(topic),
        }
    }

    /// Replicas of a partition whose topic does not say.
    fn default_replication_factor(&self) -> u32 {
        match self.limits.default_replication_factor {
            0 => {
                let brokers = u32::try_from(staying(self.view()).count()).unwrap_or(u32::MAX);
                brokers.min(USUAL_REPLICATION_FACTOR)
            }
            configured => configured,
        }
    }

    /// Whether a topic of `now` partitions may have `total`.
    pub(super) fn check_partitions(&self, now: u32, total: u32) -> Result<(), Error> {
        let invalid = |problem| {
            Err(Error::InvalidPartitions {
                asked: total,
                problem,
            })
        };
        let most = self.limits.max_partitions_per_topic;
        if total == 0 {
            return invalid("at least one is needed".to_owned());
        }
        if total <= now {
            return invalid(format!(
                "the topic has {now} already, and partitions cannot be taken away"
            ));
        }
        if total > most {
            return invalid(format!("at most {most} are allowed (topic.max.partitions)"));
        }
        let asked = total - now;
        let room = self
            .limits
            .max_partitions
            .saturating_sub(self.view().partition_count());
        if usize::try_from(asked).is_ok_and(|asked| asked <= room) {
            return Ok(());
        }
        Err(Error::TooManyPartitions {
            asked,
            limit: self.limits.max_partitions,
        })
    }

    /// See [`Machine::proposed`](crate::raft::machine::Machine::proposed).
    pub fn proposed(&mut self, index: RaftIndex, entry: &NewEntry) {
        let events = event::decode(&entry.data).expect("decide proposes events of this version");
        let projected = self
            .projected
            .get_or_insert_with(|| self.applied.as_ref().clone());
        projected
            .apply(index, &events)
            .expect("decide proposes lawful events");
        self.proposals.push_back((index, events));
    }

    /// See [`Machine::retract`](crate::raft::machine::Machine::retract).
    pub fn retract(&mut self, from: RaftIndex) {
        let before = self.proposals.len();
        while self
            .proposals
            .pop_back_if(|(index, _)| *index >= from)
            .is_some()
        {}
        if self.proposals.len() == before {
            return;
        }
        self.projected = None;
        if !self.proposals.is_empty() {
            let mut image = self.applied.as_ref().clone();
            for (index, events) in &self.proposals {
                image
                    .apply(*index, events)
                    .expect("they were lawful without what followed them");
            }
            self.projected = Some(image);
        }
    }

    /// See [`Machine::apply`](crate::raft::machine::Machine::apply).
    ///
    /// # Errors
    /// [`Unlawful`] when no correct controller of a known version wrote the entry; the state is then good for nothing.
    pub fn apply(&mut self, entry: &CommittedEntry) -> Result<(), Unlawful> {
        let unlawful = |reason| Unlawful {
            index: entry.index,
            reason,
        };
        if entry.kind != EntryKind::Events {
            return Err(unlawful("the controller's log holds no records".to_owned()));
        }
        let events = event::decode(&entry.data).map_err(unlawful)?;
        Arc::make_mut(&mut self.applied)
            .apply(entry.index, &events)
            .map_err(unlawful)?;
        while self
            .proposals
            .pop_front_if(|(index, _)| *index <= entry.index)
            .is_some()
        {}
        if self.proposals.is_empty() {
            self.projected = None;
        }
        Ok(())
    }

    /// See [`Machine::snapshot`](crate::raft::machine::Machine::snapshot).
    pub fn snapshot(&self) -> Bytes {
        snapshot::encode(&self.applied)
    }
}

pub(super) fn propose(events: &[Event], response: Response) -> Decision<Response> {
    let entry = NewEntry {
        kind: EntryKind::Events,
        data: event::encode(events),
        record_count: 0,
        max_timestamp_ms: -1,
    };
    Decision::Propose {
        entries: vec![entry],
        response,
    }
}

fn check_replication_factor(view: &ClusterImage, asked: u32) -> Result<(), Error> {
    let brokers = staying(view).count();
    if asked > 0 && usize::try_from(asked).is_ok_and(|asked| asked <= brokers) {
        return Ok(());
    }
    Err(Error::InvalidReplicationFactor { asked, brokers })
}

fn check_min_insync_replicas(config: &TopicConfig, replication_factor: u32) -> Result<(), Error> {
    let min_insync_replicas = config.min_insync_replicas;
    if min_insync_replicas <= replication_factor {
        return Ok(());
    }
    Err(Error::MinInsyncReplicas {
        min_insync_replicas,
        replication_factor,
    })
}

/// The brokers that get replicas.
fn staying(view: &ClusterImage) -> impl Iterator<Item = &Arc<Broker>> {
    let stays = |broker: &&Arc<Broker>| broker.state == BrokerState::Active;
    view.brokers().filter(stays)
}

/// Partitions with ids that were never used, on the brokers that hold the least.
pub(super) fn new_partitions(
    view: &ClusterImage,
    count: u32,
    replication_factor: u32,
    avoid: &BTreeSet<BrokerId>,
) -> Vec<Partition> {
    let mut placement = Placement::new(view, avoid);
    let mut next = view.next;
    let replicas = usize::try_from(replication_factor).unwrap_or(usize::MAX);
    let mut partition = || {
        let group = next.group;
        next.group = GroupId(group.0 + 1);
        let give_id = |broker| {
            let id = next.replica;
            next.replica = ReplicaId(id.0 + 1);
            Replica { id, broker }
        };
        let replicas = placement.place(replicas).into_iter().map(give_id).collect();
        Partition::new(group, replicas)
    };
    (0..count).map(|_| partition()).collect()
}

#[cfg(test)]
mod tests;
