//! Nodes with one shard each, their disks, and a network that the script drives.
//!
//! Node `n` holds the replicas of its groups: of group `g` the one with the id `n + 100 * (g - 1)`.

mod describe;
mod look;
mod node;
mod seeding;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use highwater_storage::fs::{CrashMode, Fault, Operation as FsOperation};
use highwater_storage::{LogSpec, Offset};
use raft::eraftpb::{Entry, Message, MessageType};
use tokio::sync::oneshot;

use self::describe::describe;
use self::node::{Node, Running};
use super::machine::{Add, Seen, WordError, Words};
use super::script::{Command, Stage};
use crate::raft::machine::Timestamp;
use crate::raft::{
    Acks, ColdRead, GroupId, Leadership, MemberChange, Members, Operation, Origin, Outcome,
    PeerMessage, ReplicaId, Reply, ReplySink, Request, snapshot,
};

/// Rounds after which a cluster that does not come to rest is given up.
const MAX_ROUNDS: usize = 100;

/// The stage of the scripts.
#[derive(Default)]
pub(super) struct Cluster {
    nodes: BTreeMap<u64, Node>,
    in_flight: Vec<PeerMessage>,
    isolated: BTreeSet<u64>,
    /// Whether a snapshot of a machine replaces its log.
    compacts: bool,
    /// Ticks of idleness before groups sleep, on nodes that are made from now on; 0: they never do.
    sleep_ticks: u32,
}

/// Tells the news of a node how a word was answered.
struct Answers {
    words: Mutex<Vec<String>>,
    seen: Seen,
}

impl ReplySink<Words> for Answers {
    fn answer(&self, tag: u64, outcome: Outcome<Words>) {
        let words = self.words.lock().unwrap();
        let word = &words[usize::try_from(tag).unwrap()];
        self.seen.tell(match outcome {
            Ok(index) => format!("answers {word}: done at {index}"),
            Err(WordError::Bad) => format!("answers {word}: a bad word"),
            Err(WordError::Refused(refusal)) => format!("answers {word}: {refusal}"),
        });
    }
}

impl Stage for Cluster {
    fn command(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        match command.name {
            "cluster" => self.found(command),
            "sleepy" => {
                self.sleep_ticks = u32::try_from(command.number(0)?).unwrap_or(u32::MAX);
                Ok(vec![])
            }
            "asleep" => self.asleep(command),
            "ticking" => self.ticking(command),
            "start" => self.start_one(command),
            "tick" => self.tick(command),
            "turn" => self.turn(command.number(0)?),
            "sync" => self.sync(command.number(0)?),
            "step" => self.step(command.number(0)?),
            "settle" => self.settle(),
            "propose" => self.propose(command),
            "wake" => self.operate(command, |group| Operation::CampaignIfCold { group }),
            "lose-leader" => self.operate(command, |group| Operation::LeaderLost { group }),
            "transfer" => {
                let to = ReplicaId(command.number(1)?);
                self.operate(command, |group| Operation::TransferLeader { group, to })
            }
            "campaign" => self.operate(command, |group| Operation::Campaign { group }),
            "lose-leaders" => self.lose_leaders(command),
            "members-back" => self.members_back(command),
            "read" => self.read(command),
            "announced" => self.announced(command.number(0)?),
            "away" => self.transfer_away(command),
            "stick" => self.stick(command.number(0)?, true),
            "unstick" => self.stick(command.number(0)?, false),
            "members" => self.change_members(command),
            "deliver" => self.deliver(command),
            "drop" => self.drop_messages(command),
            "reverse" => {
                self.in_flight.reverse();
                Ok(vec![])
            }
            "say" => self.say(command),
            "isolate" => {
                self.isolated.insert(command.number(0)?);
                Ok(vec![])
            }
            "heal" => {
                self.isolated.clear();
                Ok(vec![])
            }
            "crash" => self.crash(command),
            "restart" => self.restart(command.number(0)?),
            "checkpoint" => self.checkpoint(command.number(0)?),
            "roll" => self.operate(command, |group| Operation::Roll { group }),
            "pull" => self.pull_some(command),
            "lose-pulls" => {
                self.running(command.number(0)?)?.pulls.clear();
                Ok(vec![])
            }
            "fault" => self.fault(command),
            "status" => self.status(command),
            "log" => self.log(command),
            "followers" => self.followers(command),
            "published" => self.published(command),
            other => Err(format!("no command {other}")),
        }
    }
}

impl Cluster {
    /// `cluster 1 2 3 [group=2] [learners=4,5] [caching=yes] [compacts=yes]`: founds a group on nodes that are made where
    /// missing; from then on all machines are such that a snapshot replaces the log, if asked.
    fn found(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        self.compacts |= command.value("compacts").is_some();
        let voters: Vec<u64> = numbers(command, &command.arguments)?;
        let learners = listed(command, "learners")?;
        let mut said = Vec::new();
        for node in voters.iter().chain(&learners) {
            let caching = command.value("caching").is_some();
            said.extend(self.start(*node, group(command)?, &voters, &learners, caching)?);
        }
        Ok(said)
    }

    /// `start 4 voters=1,2,3 learners=4`: starts one replica.
    fn start_one(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let voters = listed(command, "voters")?;
        let learners = listed(command, "learners")?;
        self.start(
            command.number(0)?,
            group(command)?,
            &voters,
            &learners,
            false,
        )
    }

    fn start(
        &mut self,
        number: u64,
        group: u64,
        voters: &[u64],
        learners: &[u64],
        write_caching: bool,
    ) -> Result<Vec<String>, String> {
        let (compacts, sleep_ticks) = (self.compacts, self.sleep_ticks);
        let node = self
            .nodes
            .entry(number)
            .or_insert_with(|| Node::new(number, compacts, sleep_ticks));
        if node.running.is_none() {
            node.open(number)?;
        }
        let ids = |nodes: &[u64]| nodes.iter().map(|node| replica_of(*node, group)).collect();
        let origin = Origin::New {
            spec: LogSpec {
                directory: format!("topics/t/{group}-{number}"),
                max_segment_bytes: 64 << 10,
                write_caching,
            },
            members: Members {
                voters: ids(voters),
                learners: ids(learners),
                outgoing: vec![],
            },
            snapshot: bytes::Bytes::new(),
        };
        node.start(number, group, origin)?;
        self.step(number)
    }

    fn node(&mut self, number: u64) -> Result<&mut Node, String> {
        self.nodes
            .get_mut(&number)
            .ok_or_else(|| format!("there is no node {number}"))
    }

    fn running(&mut self, number: u64) -> Result<&mut Running, String> {
        let running = self.node(number)?.running.as_mut();
        running.ok_or_else(|| format!("node {number} is down"))
    }

    fn tick(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let number = command.number(0)?;
        let mut said = Vec::new();
        for _ in 0..command.number(1)? {
            self.running(number)?.inbox.ticks = 1;
            said.extend(self.turn(number)?);
        }
        Ok(said)
    }

    /// One turn, and what came of it.
    fn turn(&mut self, number: u64) -> Result<Vec<String>, String> {
        let running = self.running(number)?;
        let report = running.shard.turn(&mut running.inbox, Timestamp(0));
        let mut answers = Vec::new();
        running.wants_ticks = report.wants_ticks;
        running.announced.extend(report.leaderships);
        running.reads.retain_mut(|read| {
            let Ok(answer) = read.try_recv() else {
                return true;
            };
            answers.push(match answer {
                Ok(index) => format!("{number}: reads up to {index}"),
                Err(error) => format!("{number}: may not read: {error}"),
            });
            false
        });
        running.leaving.retain_mut(|leaving| {
            let Ok(staying) = leaving.try_recv() else {
                return true;
            };
            answers.push(format!("{number}: has handed over all but {staying}"));
            false
        });
        let mut said = self.news(number)?;
        said.extend(answers);
        said.extend(self.note_pulls(number, report.pulls)?);
        let finished = report.cold_reads.into_iter().map(ColdRead::run);
        let finished: Vec<_> = finished.collect();
        self.running(number)?.inbox.operations.extend(finished);
        for message in report.messages {
            said.push(format!("{number}: sends {}", describe(&message.message)));
            self.in_flight.push(message);
        }
        Ok(said)
    }

    /// `stick 1`: from now on no sync of node 1 ends. `unstick 1`: they do.
    fn stick(&mut self, number: u64, is_stuck: bool) -> Result<Vec<String>, String> {
        self.node(number)?.is_stuck = is_stuck;
        Ok(vec![])
    }

    fn sync(&mut self, number: u64) -> Result<Vec<String>, String> {
        if self.node(number)?.is_stuck {
            return Ok(vec![]);
        }
        let running = self.running(number)?;
        if let Err(error) = running.store.sync() {
            running.shard.fail(&error.to_string().into());
            let mut said = vec![format!("{number}: the sync failed")];
            said.extend(self.news(number)?);
            return Ok(said);
        }
        Ok(vec![])
    }

    /// A turn, a sync, and a turn for those who waited for it.
    fn step(&mut self, number: u64) -> Result<Vec<String>, String> {
        let mut said = self.turn(number)?;
        said.extend(self.sync(number)?);
        said.extend(self.turn(number)?);
        Ok(said)
    }

    /// Steps all nodes and delivers all messages until nothing moves. Says only what is no message.
    fn settle(&mut self) -> Result<Vec<String>, String> {
        let mut said = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let up: Vec<_> = self
                .nodes
                .iter()
                .filter(|(_, node)| node.running.is_some())
                .collect();
            let up: Vec<_> = up.into_iter().map(|(number, _)| *number).collect();
            let mut moved = false;
            for number in up {
                let mut steps = self.step(number)?;
                steps.extend(self.pull(number, usize::MAX)?);
                moved |= !steps.is_empty();
                said.extend(steps.into_iter().filter(|line| !line.contains(": sends ")));
            }
            moved |= !self.in_flight.is_empty();
            self.route(|_, _| true);
            if !moved {
                return Ok(said);
            }
        }
        Err(format!("it does not come to rest in {MAX_ROUNDS} rounds"))
    }

    /// `propose 1 a b c [acks=none|leader|3]`: commands for the next turn.
    fn propose(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let group = group(command)?;
        let node = self.node(command.number(0)?)?;
        let words = command.arguments[1..]
            .iter()
            .filter(|word| !word.contains('='));
        let words: Vec<String> = words.map(|word| (*word).to_owned()).collect();
        let acks = match command.value("acks") {
            Some("none") => Acks::None,
            Some("leader") => Acks::Leader,
            Some(number) => Acks::Quorum {
                min_in_sync: number.parse().map_err(|_| "no number of voters")?,
            },
            None => Acks::default(),
        };
        let sink = Arc::new(Answers {
            words: Mutex::new(words.clone()),
            seen: node.seen.entry(group).or_default().clone(),
        });
        let running = node.running.as_mut().ok_or("the node is down")?;
        for (tag, word) in words.into_iter().enumerate() {
            running.inbox.requests.push(Request {
                group: GroupId(group),
                bytes: word.len(),
                command: Add(word),
                acks,
                reply: Reply::tagged(sink.clone(), tag as u64),
            });
        }
        Ok(vec![])
    }

    fn operate(
        &mut self,
        command: &Command<'_>,
        operation: impl FnOnce(GroupId) -> Operation<Words>,
    ) -> Result<Vec<String>, String> {
        let operation = operation(GroupId(group(command)?));
        let number = command.number(0)?;
        self.running(number)?.inbox.operations.push(operation);
        self.turn(number)
    }

    /// `lose-leaders 1 2 3`: node 1 hears that the replicas of group 1 on nodes 2 and 3 are gone.
    fn lose_leaders(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let group = group(command)?;
        let lost = numbers(command, &command.arguments[1..])?;
        let replicas = lost.into_iter().map(|node| replica_of(node, group));
        let replicas = Arc::new(replicas.collect());
        self.operate(command, |_| Operation::LeadersLost { replicas })
    }

    /// `away 1`: all groups of node 1, or the one that is named, are to be led elsewhere.
    fn transfer_away(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let one = command.value("group").map(|_| group(command)).transpose()?;
        let (answer, answered) = oneshot::channel();
        self.running(command.number(0)?)?.leaving.push(answered);
        self.operate(command, |_| Operation::TransferAway {
            group: one.map(GroupId),
            answer,
        })
    }

    /// `members-back 1 2 3`: node 1 hears that the replicas of group 1 on nodes 2 and 3 are back.
    fn members_back(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let group = group(command)?;
        let back = numbers(command, &command.arguments[1..])?;
        let replicas = back.into_iter().map(|node| replica_of(node, group));
        let replicas = Arc::new(replicas.collect());
        self.operate(command, |_| Operation::MembersBack { replicas })
    }

    /// `read 1`: a read whose answer a later turn says.
    fn read(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let (answer, answered) = oneshot::channel();
        self.running(command.number(0)?)?.reads.push(answered);
        self.operate(command, |group| Operation::ReadIndex { group, answer })
    }

    /// `announced 1`: the leaderships that node 1 announced since the last such command.
    fn announced(&mut self, number: u64) -> Result<Vec<String>, String> {
        let announced = std::mem::take(&mut self.running(number)?.announced);
        let announced = announced.iter().map(|leadership| {
            let Leadership {
                group,
                term,
                replica,
                in_sync,
            } = leadership;
            let in_sync: Vec<_> = in_sync.iter().map(|id| id.0.to_string()).collect();
            format!(
                "{number}: {} leads group {} in term {term}, in sync ({})",
                replica.0,
                group.0,
                in_sync.join(" ")
            )
        });
        Ok(announced.collect())
    }

    /// `members 1 +4 ^4 -2`: adds learner 4, makes 4 a voter, removes 2. The answer is the future's.
    fn change_members(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let mut changes = Vec::new();
        for word in &command.arguments[1..] {
            let (sign, id) = word.split_at(1);
            let id = ReplicaId(id.parse().map_err(|_| format!("{id} is no number"))?);
            changes.push(match sign {
                "+" => MemberChange::AddLearner(id),
                "^" => MemberChange::AddVoter(id),
                "-" => MemberChange::Remove(id),
                other => return Err(format!("no change {other}")),
            });
        }
        let (answer, mut answered) = oneshot::channel();
        let mut said = self.operate(command, |group| Operation::ChangeMembers {
            group,
            term: None,
            changes,
            answer,
        })?;
        if let Ok(Err(error)) = answered.try_recv() {
            said.push(format!("refused: {error}"));
        }
        Ok(said)
    }

    /// `deliver [from] [to]`: puts messages into the next turn of those they are for.
    fn deliver(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let wanted = numbers(command, &command.arguments)?;
        self.route(|from, to| is_wanted(&wanted, from, to));
        Ok(vec![])
    }

    fn drop_messages(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let wanted = numbers(command, &command.arguments)?;
        self.in_flight
            .retain(|message| !is_wanted(&wanted, node_of(message.from()), node_of(message.to())));
        Ok(vec![])
    }

    fn route(&mut self, is_wanted: impl Fn(u64, u64) -> bool) {
        for message in std::mem::take(&mut self.in_flight) {
            let (from, to) = (node_of(message.from()), node_of(message.to()));
            if self.isolated.contains(&from) || self.isolated.contains(&to) {
                continue;
            }
            if !is_wanted(from, to) {
                self.in_flight.push(message);
            } else if let Some(running) = self
                .nodes
                .get_mut(&to)
                .and_then(|node| node.running.as_mut())
            {
                running.inbox.messages.push(message);
            }
        }
    }

    /// `say 1 2 MsgHeartbeat term=1 commit=9`: a message that no replica sent.
    fn say(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let mut message = Message {
            from: command.number(0)?,
            to: command.number(1)?,
            ..Message::default()
        };
        message.set_msg_type(match command.argument(2)? {
            "heartbeat" => MessageType::MsgHeartbeat,
            "heartbeat-response" => MessageType::MsgHeartbeatResponse,
            "propose" => MessageType::MsgPropose,
            "append" => MessageType::MsgAppend,
            "snapshot" => MessageType::MsgSnapshot,
            other => return Err(format!("no message {other}")),
        });
        let value = |key| command.value(key).map_or(Ok(0), str::parse);
        let values = (
            value("term"),
            value("commit"),
            value("index"),
            value("log-term"),
        );
        let (Ok(term), Ok(commit), Ok(index), Ok(log_term)) = values else {
            return Err("a value is no number".to_owned());
        };
        (message.term, message.commit) = (term, commit);
        (message.index, message.log_term) = (index, log_term);
        if message.get_msg_type() == MessageType::MsgSnapshot {
            let words = command.value("data").unwrap_or_default().as_bytes();
            let snapshot = message.mut_snapshot();
            snapshot.data = snapshot::encode(Offset(0), Offset(0), words);
            let metadata = snapshot.mut_metadata();
            (metadata.index, metadata.term) = (index, log_term);
            metadata.mut_conf_state().voters = listed(command, "voters")?;
        } else if let Some(data) = command.value("data") {
            let mut entry = Entry::default();
            (entry.index, entry.term) = (index + 1, term);
            entry.context = bytes::Bytes::from_static(&[4]);
            entry.data = bytes::Bytes::copy_from_slice(data.as_bytes());
            message.entries = vec![entry].into();
        }
        self.in_flight.push(PeerMessage {
            group: GroupId(group(command)?),
            message,
        });
        Ok(vec![])
    }

    /// `crash 1 dropped|kept|torn|process [seed=7]`.
    fn crash(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let mode = match command.argument(1)? {
            "dropped" => CrashMode::PowerDropped,
            "kept" => CrashMode::PowerKept,
            "torn" => CrashMode::PowerTorn,
            "process" => CrashMode::Process,
            other => return Err(format!("no way to crash is {other}")),
        };
        let seed = command
            .value("seed")
            .map_or(Ok(1), str::parse)
            .map_err(|_| "no seed")?;
        let number = command.number(0)?;
        let node = self.node(number)?;
        node.fs = node.fs.crash(mode, seed);
        node.running = None;
        for seen in node.seen.values() {
            seen.take_news();
        }
        Ok(vec![])
    }

    fn restart(&mut self, number: u64) -> Result<Vec<String>, String> {
        self.node(number)?.open(number)?;
        self.step(number)
    }

    fn checkpoint(&mut self, number: u64) -> Result<Vec<String>, String> {
        let running = self.running(number)?;
        let store = Arc::clone(&running.store);
        let failed = |error: highwater_storage::Error| error.to_string();
        let mut checkpoint = store.begin_checkpoint().map_err(failed)?;
        checkpoint.sync_segments().map_err(failed)?;
        let logs = Arc::new(checkpoint.changed().iter().copied().collect());
        let (answer, captured) = oneshot::channel();
        running
            .inbox
            .operations
            .push(Operation::Capture { logs, answer });
        let mut said = self.turn(number)?;
        let captured = captured.blocking_recv().map_err(|_| "no capture")?;
        said.push(format!("{number}: captures {}", captured.len()));
        checkpoint.finish(captured).map_err(failed)?;
        Ok(said)
    }

    /// `fault 1 sync|write|create journal [no-space]`: the next such operation on a path that contains the word fails.
    fn fault(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let operation = match command.argument(1)? {
            "sync" => FsOperation::SyncData,
            "write" => FsOperation::Write,
            "create" => FsOperation::Create,
            other => return Err(format!("no operation {other}")),
        };
        let mut fault = Fault::new(operation, command.argument(2)?);
        if command.arguments.contains(&"no-space") {
            fault = fault.no_space();
        }
        self.node(command.number(0)?)?.fs.inject(fault);
        Ok(vec![])
    }

    fn news(&mut self, number: u64) -> Result<Vec<String>, String> {
        let node = self.node(number)?;
        let several = node.seen.len() > 1;
        let mut said = Vec::new();
        for (group, seen) in &node.seen {
            let group = if several {
                format!(" group {group}")
            } else {
                String::new()
            };
            let news = seen.take_news().into_iter();
            said.extend(news.map(|news| format!("{number}:{group} {news}")));
        }
        Ok(said)
    }
}

fn replica_of(node: u64, group: u64) -> ReplicaId {
    ReplicaId(node + 100 * (group - 1))
}

fn node_of(replica: ReplicaId) -> u64 {
    replica.0 % 100
}

fn group(command: &Command<'_>) -> Result<u64, String> {
    command.value("group").map_or(Ok(1), |word| {
        word.parse().map_err(|_| format!("{word} is no group"))
    })
}

fn numbers(command: &Command<'_>, words: &[&str]) -> Result<Vec<u64>, String> {
    let plain = words.iter().filter(|word| !word.contains('='));
    plain
        .map(|word| {
            word.parse()
                .map_err(|_| format!("{}: {word} is no number", command.name))
        })
        .collect()
}

fn listed(command: &Command<'_>, key: &str) -> Result<Vec<u64>, String> {
    let words: Vec<_> = command
        .value(key)
        .map_or(vec![], |list| list.split(',').collect());
    numbers(command, &words)
}

fn is_wanted(wanted: &[u64], from: u64, to: u64) -> bool {
    wanted.first().is_none_or(|node| *node == from) && wanted.get(1).is_none_or(|node| *node == to)
}
