//! One coordinator with members that follow the protocol as well as a script lets them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_proto::{PartitionIndex, TopicId};
use highwater_storage::{Offset, RaftIndex, Term};
use uuid::Uuid;

use crate::coordinator::{
    Catalog, CatalogTopic, Command, Commit, CommitItem, CoordinatorReplica, CoordinatorView,
    DeleteOffsets, Epoch, Error, FetchOffsets, Heartbeat, Limits, Presence, Response, Subscription,
    TopicPartition,
};
use crate::raft::machine::{CommittedEntry, Decision, EntryKind, Machine, Role, Timestamp};
use crate::raft::testing::script;

/// A member as its own process sees it.
#[derive(Debug, Default)]
struct Client {
    epoch: Option<Epoch>,
    owned: BTreeSet<TopicPartition>,
    /// What it was told to let go.
    leaving: BTreeSet<TopicPartition>,
    /// What it said when it joined.
    join: Option<Heartbeat>,
}

/// The stage of the scripts.
pub(crate) struct Coordinator {
    replica: CoordinatorReplica,
    view: Arc<CoordinatorView>,
    log: Vec<Bytes>,
    /// Proposals that are not committed yet: the last so many of the log.
    pending: usize,
    holds: bool,
    /// A snapshot and how much of the log is in it.
    snapshot: (Bytes, usize),
    clock: Duration,
    topics: BTreeMap<String, (TopicId, u32)>,
    version: u64,
    clients: BTreeMap<(String, String), Client>,
    limits: Limits,
}

impl Default for Coordinator {
    fn default() -> Self {
        let limits = Limits {
            max_groups: 3,
            max_members: 4,
            ..Limits::default()
        };
        Self::new(limits)
    }
}

impl script::Stage for Coordinator {
    fn command(&mut self, command: &script::Command<'_>) -> Result<Vec<String>, String> {
        match command.name {
            "topics" => self.set_topics(command),
            "join" => self.join(command),
            "beat" => self.beat(command),
            "leave" => self.leave(command),
            "tick" => {
                self.clock += Duration::from_millis(command.number(0)?);
                self.say_or_fail(Command::Tick { at: self.clock })
            }
            "refresh" => {
                let catalog = self.catalog();
                self.say_or_fail(Command::Refresh { catalog })
            }
            "commit" => self.commit(command),
            "offsets" => self.fetch(command),
            "forget" => {
                let group = command.argument(0)?.into();
                let partitions = self.partitions(command.argument(1)?)?.into_iter().collect();
                self.say_or_fail(Command::DeleteOffsets(DeleteOffsets { group, partitions }))
            }
            "expire-offsets" => {
                let retention_ms = command.number(0)?;
                self.say_or_fail(Command::ExpireOffsets { retention_ms })
            }
            "delete" => {
                let group = command.argument(0)?.into();
                self.say_or_fail(Command::DeleteGroup { group })
            }
            "describe" => self.describe(command.argument(0)?),
            "list" => self.say_or_fail(Command::List),
            "hold" => {
                self.holds = true;
                Ok(Vec::new())
            }
            "commit-held" => {
                self.holds = false;
                self.apply_all()
            }
            "snapshot" => {
                self.snapshot = (self.replica.snapshot(), self.log.len());
                Ok(Vec::new())
            }
            "failover" => self.fail_over(),
            other => Err(format!("there is no command {other}")),
        }
    }
}

impl Coordinator {
    pub(crate) fn new(limits: Limits) -> Self {
        let view = Arc::<CoordinatorView>::default();
        let mut replica = CoordinatorReplica::new(&[], limits, Arc::clone(&view)).unwrap();
        replica.role_changed(serving(1));
        Self {
            replica,
            view,
            log: Vec::new(),
            pending: 0,
            holds: false,
            snapshot: (Bytes::new(), 0),
            clock: Duration::ZERO,
            topics: BTreeMap::new(),
            version: 0,
            clients: BTreeMap::new(),
            limits,
        }
    }

    /// Decides, proposes, and commits unless proposals are held.
    pub(crate) fn decide(&mut self, command: Command) -> Result<Response, Error> {
        let index = RaftIndex(self.log.len() as u64 + 1);
        let now = Timestamp(self.clock.as_millis().try_into().unwrap());
        match self.replica.decide(command, index, now)? {
            Decision::Answer { response, .. } => Ok(response),
            Decision::Propose { entries, response } => {
                let [entry] = &entries[..] else {
                    panic!("{} entries", entries.len());
                };
                self.replica.proposed(index, entry);
                self.log.push(entry.data.clone());
                self.pending += 1;
                if !self.holds {
                    self.apply_all().unwrap();
                }
                Ok(response)
            }
        }
    }

    fn apply_all(&mut self) -> Result<Vec<String>, String> {
        let first = self.log.len() - self.pending;
        for at in first..self.log.len() {
            apply(&mut self.replica, at, &self.log[at])?;
        }
        self.pending = 0;
        self.replica.publish();
        Ok(Vec::new())
    }

    /// Another replica leads: it has what is committed, from the last snapshot on, and its own clocks.
    pub(crate) fn fail_over(&mut self) -> Result<Vec<String>, String> {
        let lost = self.pending;
        self.log.truncate(self.log.len() - lost);
        self.pending = 0;
        self.holds = false;
        let (snapshot, at) = &self.snapshot;
        let mut next =
            CoordinatorReplica::new(snapshot, self.limits, Arc::clone(&self.view)).unwrap();
        for (index, data) in self.log.iter().enumerate().skip(*at) {
            apply(&mut next, index, data)?;
        }
        self.replica.retract(RaftIndex(self.log.len() as u64 + 1));
        if self.replica.snapshot() != next.snapshot() {
            return Err("the state from the log is not the live one".to_owned());
        }
        next.role_changed(serving(2));
        next.publish();
        self.replica = next;
        Ok(match lost {
            0 => Vec::new(),
            lost => vec![format!("{lost} proposals are lost")],
        })
    }

    /// Lets time pass, and what it ends.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.clock += Duration::from_millis(ms);
        self.decide(Command::Tick { at: self.clock }).unwrap();
    }

    /// Whether what is proposed stays uncommitted from now on.
    pub(crate) fn set_holds(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// One partition more of a topic, which is new with the first.
    pub(crate) fn grow(&mut self, name: &str, id: TopicId) {
        self.version += 1;
        self.topics.entry(name.to_owned()).or_insert((id, 0)).1 += 1;
    }

    pub(crate) fn partition_count(&self) -> usize {
        self.topics.values().map(|(_, count)| *count as usize).sum()
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        let topic = |(name, (id, partitions)): (&String, &(TopicId, u32))| {
            // Partitions are in rack a and b in turn.
            let racks = (0..*partitions).map(|index| {
                let rack = if index % 2 == 0 { "a" } else { "b" };
                BTreeSet::from([rack.to_owned()])
            });
            let topic = CatalogTopic {
                name: name.clone(),
                racks: racks.collect(),
            };
            (*id, topic)
        };
        Arc::new(Catalog::new(self.version, self.topics.iter().map(topic)))
    }

    fn set_topics(&mut self, command: &script::Command<'_>) -> Result<Vec<String>, String> {
        self.version += 1;
        let mut topics = BTreeMap::new();
        for word in &command.arguments {
            let (name, count) = word
                .split_once('=')
                .ok_or_else(|| format!("{word} names no count"))?;
            let count = count.parse().map_err(|_| format!("{count} is no number"))?;
            let new = TopicId(Uuid::from_u128(
                u128::from(self.version) << 32 | topics.len() as u128,
            ));
            let id = self.topics.get(name).map_or(new, |(id, _)| *id);
            topics.insert(name.to_owned(), (id, count));
        }
        self.topics = topics;
        Ok(Vec::new())
    }

    /// `orders:0,1+bills:2` as partitions.
    fn partitions(&self, text: &str) -> Result<BTreeSet<TopicPartition>, String> {
        let mut partitions = BTreeSet::new();
        for of_topic in text.split('+').filter(|text| !text.is_empty()) {
            let (name, indexes) = of_topic
                .split_once(':')
                .ok_or("topic:partition,.. is needed")?;
            let (topic, _) = self
                .topics
                .get(name)
                .ok_or_else(|| format!("no topic {name}"))?;
            for index in indexes.split(',') {
                let index = index.parse().map_err(|_| format!("{index} is no number"))?;
                partitions.insert(TopicPartition {
                    topic: *topic,
                    index: PartitionIndex(index),
                });
            }
        }
        Ok(partitions)
    }

    /// The leader's clock.
    pub(crate) fn clock(&self) -> Duration {
        self.clock
    }

    pub(crate) fn heartbeat(&self, group: &str, member: &str, presence: Presence) -> Heartbeat {
        Heartbeat {
            group: group.into(),
            member: member.into(),
            presence,
            instance: None,
            rack: None,
            client_id: "test".to_owned(),
            rebalance_timeout_ms: 200,
            session_timeout_ms: 100,
            subscription: None,
            assignor: None,
            paused: BTreeSet::new(),
            owned: BTreeSet::new(),
            catalog: self.catalog(),
            at: self.clock,
        }
    }

    fn subscription(command: &script::Command<'_>) -> Option<Subscription> {
        let is_name = |word: &&&str| !word.contains('=') && !["slow", "lost"].contains(*word);
        let names = command.arguments.get(2).filter(is_name);
        let subscription = Subscription {
            names: names
                .into_iter()
                .flat_map(|names| names.split(','))
                .map(str::to_owned)
                .collect(),
            regex: command.value("regex").map(str::to_owned),
        };
        (!subscription.is_empty()).then_some(subscription)
    }

    fn join(&mut self, command: &script::Command<'_>) -> Result<Vec<String>, String> {
        let (group, member) = (command.argument(0)?, command.argument(1)?);
        let mut heartbeat = self.heartbeat(group, member, Presence::Join);
        heartbeat.subscription = Self::subscription(command);
        heartbeat.instance = command.value("instance").map(Arc::from);
        heartbeat.rack = command.value("rack").map(str::to_owned);
        heartbeat.assignor = command.value("assignor").and_then(|name| name.parse().ok());
        let client = Client {
            join: Some(heartbeat.clone()),
            ..Client::default()
        };
        self.clients
            .insert((group.to_owned(), member.to_owned()), client);
        self.send(heartbeat, command)
    }

    /// A heartbeat. What the member was told to let go it has let go by now, unless it is `slow`.
    fn beat(&mut self, command: &script::Command<'_>) -> Result<Vec<String>, String> {
        let (group, member) = (command.argument(0)?, command.argument(1)?);
        let client = self.client(group, member)?;
        if !command.arguments.contains(&"slow") {
            let leaving = std::mem::take(&mut client.leaving);
            client
                .owned
                .retain(|partition| !leaving.contains(partition));
        }
        let epoch = client.epoch.ok_or("it has no epoch yet")?;
        let (owned, join) = (client.owned.clone(), client.join.clone());
        let epoch = command
            .value("epoch")
            .map_or(Ok(epoch), |text| text.parse().map(Epoch));
        let epoch = epoch.map_err(|_| "an epoch is a number")?;
        let mut heartbeat = self.heartbeat(group, member, Presence::Stay(epoch));
        heartbeat.instance = join.and_then(|join| join.instance);
        heartbeat.owned = match command.value("owned") {
            Some(text) => self.partitions(text)?,
            None => owned,
        };
        heartbeat.subscription = Self::subscription(command);
        self.send(heartbeat, command)
    }

    fn leave(&mut self, command: &script::Command<'_>) -> Result<Vec<String>, String> {
        let (group, member) = (command.argument(0)?, command.argument(1)?);
        let presence = if command.arguments.contains(&"away") {
            Presence::LeaveForAWhile
        } else {
            Presence::Leave
        };
        let instance = self
            .client(group, member)?
            .join
            .clone()
            .and_then(|join| join.instance);
        let mut heartbeat = self.heartbeat(group, member, presence);
        heartbeat.instance = instance;
        self.send(heartbeat, command)
    }

    fn client(&mut self, group: &str, member: &str) -> Result<&mut Client, String> {
        let key = (group.to_owned(), member.to_owned());
        self.clients
            .get_mut(&key)
            .ok_or_else(|| format!("no process {member}"))
    }

    /// Sends a heartbeat and has the member follow the answer; `lost`: it does not come.
    fn send(
        &mut self,
        heartbeat: Heartbeat,
        command: &script::Command<'_>,
    ) -> Result<Vec<String>, String> {
        let (group, member) = (heartbeat.group.to_string(), heartbeat.member.to_string());
        let answered = self.decide(Command::Heartbeat(Box::new(heartbeat)));
        let response = answered.map_err(|error| format!("{}: {error}", error.reason()))?;
        let said = self.say(&response);
        if command.arguments.contains(&"lost") {
            return Ok(said
                .into_iter()
                .map(|line| format!("{line} (lost)"))
                .collect());
        }
        if let Response::Member {
            epoch, assignment, ..
        } = response
        {
            let client = self.client(&group, &member)?;
            client.epoch = Some(epoch);
            if let Some(assignment) = assignment {
                let assigned: BTreeSet<_> = assignment.into_iter().collect();
                client.leaving = client.owned.difference(&assigned).copied().collect();
                client.owned.extend(assigned);
            }
        }
        Ok(said)
    }

    fn commit(&mut self, command: &script::Command<'_>) -> Result<Vec<String>, String> {
        let (group, member) = (command.argument(0)?, command.argument(1)?);
        let mut items = Vec::new();
        for word in command
            .arguments
            .iter()
            .skip(2)
            .filter(|word| word.contains(':'))
        {
            let (partition, offset) = word.split_once('=').ok_or("partition=offset is needed")?;
            let offset = offset
                .parse()
                .map_err(|_| format!("{offset} is no number"))?;
            items.extend(
                self.partitions(partition)?
                    .into_iter()
                    .map(|partition| CommitItem {
                        partition,
                        offset,
                        leader_epoch: None,
                        metadata: String::new(),
                    }),
            );
        }
        let member = self.asker(command, group, member)?;
        self.say_or_fail(Command::Commit(Commit {
            group: group.into(),
            member,
            items,
        }))
    }

    fn asker(
        &mut self,
        command: &script::Command<'_>,
        group: &str,
        member: &str,
    ) -> Result<Option<(Arc<str>, Epoch)>, String> {
        if member == "-" {
            return Ok(None);
        }
        let epoch = match command.value("epoch") {
            Some(text) => Epoch(text.parse().map_err(|_| "an epoch is a number")?),
            None => self.client(group, member)?.epoch.unwrap_or_default(),
        };
        Ok(Some((member.into(), epoch)))
    }

    fn fetch(&mut self, command: &script::Command<'_>) -> Result<Vec<String>, String> {
        let group = command.argument(0)?;
        let member = command.arguments.get(1).copied().unwrap_or("-");
        let partitions = match command.arguments.get(2) {
            Some(text) => Some(self.partitions(text)?.into_iter().collect()),
            None => None,
        };
        let member = self.asker(command, group, member)?;
        self.say_or_fail(Command::FetchOffsets(FetchOffsets {
            group: group.into(),
            member,
            partitions,
        }))
    }

    fn describe(&mut self, group: &str) -> Result<Vec<String>, String> {
        self.say_or_fail(Command::Describe {
            group: group.into(),
            at: self.clock,
        })
    }

    fn say_or_fail(&mut self, command: Command) -> Result<Vec<String>, String> {
        let answered = self.decide(command);
        let response = answered.map_err(|error| format!("{}: {error}", error.reason()))?;
        Ok(self.say(&response))
    }

    fn say(&self, response: &Response) -> Vec<String> {
        match response {
            Response::Done => Vec::new(),
            Response::More => vec!["more".to_owned()],
            Response::Member {
                epoch,
                assignment,
                revoke_within_ms,
                ..
            } => {
                let assignment = match assignment {
                    Some(assignment) => format!("to have {}", self.name(assignment)),
                    None => "as it is".to_owned(),
                };
                let hurry =
                    revoke_within_ms.map_or(String::new(), |ms| format!(", within {ms} ms"));
                vec![format!("epoch {epoch}, {assignment}{hurry}")]
            }
            Response::Items(items) => {
                let said = items.iter().map(|refusal| match refusal {
                    None => "done".to_owned(),
                    Some(error) => format!("{}: {error}", error.reason()),
                });
                said.collect()
            }
            Response::Offsets(offsets) => {
                let say = |(partition, offset): &(TopicPartition, Option<_>)| {
                    let offset: &Option<crate::coordinator::CommittedOffset> = offset;
                    let offset = offset
                        .as_ref()
                        .map_or("none".to_owned(), |offset| offset.offset.to_string());
                    format!("{} at {offset}", self.name(&[*partition]))
                };
                offsets.iter().map(say).collect()
            }
            Response::Group(group) => {
                let mut said = vec![format!(
                    "{:?}, epoch {}, {}",
                    group.state, group.epoch, group.assignor
                )];
                for member in &group.members {
                    let revoking = match &member.revoking[..] {
                        [] => String::new(),
                        revoking => format!(", lets go {}", self.name(revoking)),
                    };
                    let instance = member
                        .instance
                        .as_deref()
                        .map_or(String::new(), |name| format!(" ({name})"));
                    said.push(format!(
                        "{}{instance}: {:?}, epoch {}, has {}{revoking}, target {}",
                        member.id,
                        member.state,
                        member.epoch,
                        self.name(&member.assigned),
                        self.name(&member.target),
                    ));
                }
                said
            }
            Response::Groups(groups) => {
                let say = |group: &crate::coordinator::GroupSummary| {
                    format!(
                        "{}: {:?}, {} members, {} committed",
                        group.id, group.state, group.members, group.committed_partitions
                    )
                };
                groups.iter().map(say).collect()
            }
            Response::AllOffsets(offsets) => {
                let say = |(group, partition, offset): &(Arc<str>, TopicPartition, u64)| {
                    format!("{group}: {} {offset}", self.name(&[*partition]))
                };
                offsets.iter().map(say).collect()
            }
        }
    }

    fn name(&self, partitions: &[TopicPartition]) -> String {
        let mut by_topic: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for partition in partitions {
            let named = self
                .topics
                .iter()
                .find(|(_, (id, _))| *id == partition.topic);
            let name = named.map_or("a deleted topic", |(name, _)| name);
            by_topic
                .entry(name.to_owned())
                .or_default()
                .push(partition.index.to_string());
        }
        let shown = by_topic
            .iter()
            .map(|(name, indexes)| format!("{name}:{}", indexes.join(",")));
        let shown = shown.collect::<Vec<_>>().join("+");
        if shown.is_empty() {
            "nothing".to_owned()
        } else {
            shown
        }
    }
}

fn serving(term: u64) -> Role {
    Role::Leader {
        term: Term(term),
        serving: true,
    }
}

fn apply(replica: &mut CoordinatorReplica, at: usize, data: &Bytes) -> Result<(), String> {
    let entry = CommittedEntry {
        index: RaftIndex(at as u64 + 1),
        term: Term(1),
        kind: EntryKind::Events,
        base_offset: Offset(0),
        record_count: 0,
        max_timestamp_ms: -1,
        data: data.clone(),
    };
    replica
        .apply(&entry)
        .map_err(|unlawful| unlawful.to_string())
}
