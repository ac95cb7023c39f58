//! The simulated cluster: one loop that takes the next event, lets it happen, and checks what came of it.

use std::collections::{BTreeMap, BTreeSet};

use highwater_broker::partition::Standing;
use highwater_broker::raft::{ColdRead, Members, PeerMessage, ReplicaId};

use super::attempt::Attempt;
use super::bug::Bug;
use super::chance::Chance;
use super::ledger::Ledger;
use super::membership::Move;
use super::mending;
use super::network::Network;
use super::node::{Node, Placed};
use super::plan::{NodeId, Plan};
use super::process::Turned;
use super::producer::{AttemptId, Producer};
use super::schedule::{Schedule, Time};
use super::seeding::Pulling;
use super::trace::Trace;
use super::traffic::Told;
use super::violation::{Check, Checked, broken};
use super::witness::Witness;

/// Events that happen at one time in a run that goes on.
const MOST_AT_ONCE: u32 = 10_000;

/// Something that happens at a time. What happens to a broker's process names its life.
#[derive(Debug)]
pub(super) enum Event {
    Turn(NodeId, u64),
    Tick(NodeId, u64),
    Deliver(NodeId, Box<PeerMessage>),
    BeginSync(NodeId, u64),
    EndSync(NodeId, u64),
    Heartbeat(NodeId, u64, u64),
    Checkpoint(NodeId, u64),
    ColdRead(NodeId, u64, Box<ColdRead>),
    Pull(NodeId, u64, Box<Pulling>),
    Restart(NodeId),
    EndShortage(NodeId),
    Produce(usize),
    Resend(usize),
    Request(NodeId, AttemptId),
    Hear(AttemptId, Told),
    Timeout(AttemptId),
    Read,
    Trim,
    Move,
    MendReplicas,
    Peril,
    Mend,
    EndTrouble,
    Judge,
}

/// See the module's documentation.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) bug: Option<Bug>,
    pub(super) schedule: Schedule<Event>,
    pub(super) trace: Trace,
    pub(super) nodes: Vec<Node>,
    pub(super) placed: Vec<Placed>,
    pub(super) moves: Vec<Move>,
    /// Moves that began.
    pub(super) moved: u64,
    /// The replicas that do not hold any more all that was durable there, whether anybody noticed or not.
    pub(super) damaged: BTreeSet<ReplicaId>,
    pub(super) network: Network,
    pub(super) producers: Vec<Producer>,
    pub(super) attempts: BTreeMap<AttemptId, Attempt>,
    pub(super) next_attempt: AttemptId,
    pub(super) next_batch: u64,
    pub(super) ledger: Ledger,
    pub(super) witness: Witness,
    /// Draws for clients, perils, small delays, and damage: apart, so that a change of one leaves the others alone.
    pub(super) clients: Chance,
    pub(super) fate: Chance,
    pub(super) jitter: Chance,
    pub(super) rot: Chance,
    /// When the trouble was over, once it is.
    pub(super) calm_since: Option<Time>,
    pub(super) is_done: bool,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>, prints: bool) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance);
        let nodes = (0..plan.nodes).map(|at| Node::new(NodeId(at), &plan, chance.split(), bug));
        let mut world = Self {
            nodes: nodes.collect(),
            placed: place(&plan),
            moves: Vec::new(),
            moved: 0,
            damaged: BTreeSet::new(),
            network: Network::new(plan.network, chance.split()),
            producers: Vec::new(),
            attempts: BTreeMap::new(),
            next_attempt: 0,
            next_batch: 0,
            ledger: Ledger::default(),
            witness: Witness::default(),
            clients: chance.split(),
            fate: chance.split(),
            jitter: chance.split(),
            rot: chance.split(),
            schedule: Schedule::new(),
            trace: Trace::new(prints),
            calm_since: None,
            is_done: false,
            plan,
            bug,
        };
        for at in 0..world.plan.nodes {
            world.schedule.after(0, Event::Restart(NodeId(at)));
        }
        world.add_clients();
        world.schedule.after(world.plan.peril_gap, Event::Peril);
        world.schedule.after(world.plan.trouble, Event::EndTrouble);
        world.begin_mending();
        world
    }

    /// Runs to the end, or to the first broken promise.
    pub(super) fn run(&mut self) -> Checked {
        let (mut time, mut at_once) = (self.now(), 0);
        while !self.is_done {
            let Some(event) = self.schedule.next() else {
                return broken(Check::Liveness, "nothing is left to happen");
            };
            at_once = if self.now() == time { at_once + 1 } else { 0 };
            time = self.now();
            if at_once > MOST_AT_ONCE {
                return broken(Check::Liveness, format!("time stands still at {event:?}"));
            }
            self.happen(event)?;
        }
        Ok(())
    }

    pub(super) fn now(&self) -> Time {
        self.schedule.now()
    }

    pub(super) fn note(&mut self, event: std::fmt::Arguments<'_>) {
        self.trace.note(self.schedule.now(), event);
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Turn(node, life)
            | Event::Tick(node, life)
            | Event::BeginSync(node, life)
            | Event::EndSync(node, life)
            | Event::Heartbeat(node, life, _)
            | Event::Checkpoint(node, life)
            | Event::ColdRead(node, life, _)
            | Event::Pull(node, life, _) => self.happen_to(node, life, event),
            Event::Deliver(node, _) | Event::Request(node, _) if self.is_paused(node) => {
                let until = self.nodes[node.0].paused_until;
                self.schedule.at(until, event);
                Ok(())
            }
            Event::Deliver(node, message) => {
                self.deliver(node, *message);
                Ok(())
            }
            Event::Request(node, attempt) => {
                self.request(node, attempt);
                Ok(())
            }
            Event::Restart(node) => self.restart(node),
            Event::Produce(producer) => {
                self.produce(producer);
                Ok(())
            }
            Event::Resend(producer) => {
                self.send_batches(producer);
                Ok(())
            }
            Event::Hear(attempt, told) => {
                self.hear(attempt, told);
                Ok(())
            }
            Event::Timeout(attempt) => {
                self.time_out(attempt);
                Ok(())
            }
            Event::Read => self.read(),
            Event::Trim => {
                self.trim();
                Ok(())
            }
            Event::Move => {
                self.step_moves();
                Ok(())
            }
            Event::MendReplicas => {
                self.mend_replicas();
                Ok(())
            }
            Event::Peril => self.peril(),
            Event::Mend => {
                self.note(format_args!("the network is whole again"));
                self.network.mend();
                Ok(())
            }
            Event::EndShortage(node) => {
                self.end_shortage(node);
                Ok(())
            }
            Event::EndTrouble => self.end_trouble(),
            Event::Judge => self.judge(),
        }
    }

    pub(super) fn is_paused(&self, node: NodeId) -> bool {
        self.now() < self.nodes[node.0].paused_until
    }

    /// What happens to a process, unless it is gone; a paused one meets it later.
    fn happen_to(&mut self, id: NodeId, life: u64, event: Event) -> Checked {
        let node = &self.nodes[id.0];
        if node.life != life || node.process.is_none() {
            return Ok(());
        }
        if self.is_paused(id) {
            let until = node.paused_until;
            self.schedule.at(until, event);
            return Ok(());
        }
        match event {
            Event::Tick(..) => {
                self.tick(id);
                Ok(())
            }
            Event::BeginSync(..) => self.begin_sync(id),
            Event::EndSync(..) => self.end_sync(id),
            Event::Heartbeat(_, _, syncs) => self.heartbeat(id, syncs),
            Event::Checkpoint(..) => self.step_checkpoint(id),
            Event::ColdRead(_, _, read) => {
                self.finish_cold_read(id, *read);
                Ok(())
            }
            Event::Pull(_, _, pulling) => self.step_pull(id, *pulling),
            _ => self.turn(id),
        }
    }

    fn tick(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        let event = Event::Tick(id, node.life);
        self.schedule.after(node.tick_interval, event);
        if let Some(process) = &mut node.process
            && process.wants_ticks
        {
            process.tick();
            self.plan_turn(id);
        }
    }

    fn deliver(&mut self, id: NodeId, message: PeerMessage) {
        if let Some(process) = &mut self.nodes[id.0].process {
            process.message(message);
            self.plan_turn(id);
        }
    }

    /// Lets the shard have a turn soon, together with what comes until then.
    pub(super) fn plan_turn(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        let Some(process) = &mut node.process else {
            return;
        };
        if !std::mem::replace(&mut process.is_turn_planned, true) {
            let soon = self.jitter.within(5..=60);
            self.schedule.after(soon, Event::Turn(id, node.life));
        }
    }

    pub(super) fn turn(&mut self, id: NodeId) -> Checked {
        let now = self.now();
        let node = &mut self.nodes[id.0];
        let clock = node.clock(now);
        let Some(process) = &mut node.process else {
            return Ok(());
        };
        let Turned {
            report,
            answers,
            failed_starts,
        } = process.turn(clock);
        let is_syncing = process.sync.is_some();
        let wants_checkpoint = process.wants_checkpoint();
        if let Some((replica, reason)) = failed_starts.first()
            && node.is_full
        {
            // Its next process tries again.
            node.is_excused = true;
            self.trace.note(
                now,
                format_args!("{id} has no room for replica {}: {reason}", replica.0),
            );
        } else if let Some((replica, reason)) = failed_starts.first()
            && !node.is_excused
        {
            let detail = format!("{id} cannot start replica {}: {reason}", replica.0);
            return broken(Check::HealthyReplicasGoOn, detail);
        }
        self.look_at_replicas(id)?;
        for message in report.messages {
            self.send(id, message)?;
        }
        for read in report.cold_reads {
            self.begin_cold_read(id, read);
        }
        for pull in report.pulls {
            self.begin_pull(id, pull);
        }
        for (tag, outcome) in answers {
            self.answered(id, tag, outcome)?;
        }
        if report.needs_sync && !is_syncing {
            self.begin_sync(id)?;
        }
        if wants_checkpoint {
            self.plan_checkpoint(id);
        }
        Ok(())
    }

    /// What the replicas of a broker show after a turn.
    fn look_at_replicas(&mut self, id: NodeId) -> Checked {
        let node = &self.nodes[id.0];
        let Some(process) = &node.process else {
            return Ok(());
        };
        let mut news = Vec::new();
        for (group, hosted) in process.hosted() {
            let shared = &hosted.shared;
            match shared.standing() {
                Standing::Serving { term } => {
                    if self.witness.leads(*group, term, hosted.replica)? {
                        news.push((*group, hosted.replica, term));
                    }
                    let marks = (shared.high_watermark(), shared.log_start());
                    self.witness.showed(*group, term, marks)?;
                }
                Standing::Opening { term } => {
                    if self.witness.leads(*group, term, hosted.replica)? {
                        news.push((*group, hosted.replica, term));
                    }
                }
                Standing::Quarantined if !node.is_excused => {
                    let status = process.shard.status(*group);
                    let failure = status.and_then(|status| status.failure);
                    if self.damaged.contains(&hosted.replica)
                        && failure.as_ref().is_some_and(mending::is_of_damage)
                    {
                        continue;
                    }
                    let reason = failure.map_or_else(String::new, |failure| failure.reason);
                    return broken(
                        Check::HealthyReplicasGoOn,
                        format!("{id} quarantined replica {}: {reason}", hosted.replica.0),
                    );
                }
                Standing::Following { .. } | Standing::Quarantined => {}
            }
        }
        for (group, replica, term) in news {
            self.note(format_args!(
                "{id} group {} replica {} leads term {term}",
                group.0, replica.0
            ));
        }
        Ok(())
    }

    fn send(&mut self, from: NodeId, message: PeerMessage) -> Checked {
        self.witness.said(&message)?;
        let Some(to) = self.node_of(message.to()) else {
            return Ok(());
        };
        let raft = &message.message;
        self.trace.note(
            self.schedule.now(),
            format_args!(
                "{from} says {:?} {}->{} term {} at {}/{} commit {} +{}{}",
                raft.get_msg_type(),
                raft.from,
                raft.to,
                raft.term,
                raft.index,
                raft.log_term,
                raft.commit,
                raft.entries.len(),
                if raft.reject { " no" } else { "" }
            ),
        );
        for delay in self.network.delays(from, to) {
            let copy = Box::new(message.clone());
            self.schedule.after(delay, Event::Deliver(to, copy));
        }
        self.plant_in_message(to, &message);
        Ok(())
    }

    /// The broker of a replica.
    pub(super) fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        let placed = self.placed.iter().find(|placed| placed.replica == replica);
        placed.map(|placed| placed.node)
    }
}

/// The first replicas of every group.
fn place(plan: &Plan) -> Vec<Placed> {
    let of_group = |group: &super::plan::GroupPlan| {
        let members = Members::of_voters(group.replicas.iter().map(|(replica, _)| *replica));
        let (id, segment_bytes) = (group.group, group.segment_bytes);
        group
            .replicas
            .clone()
            .into_iter()
            .map(move |(replica, node)| Placed {
                group: id,
                replica,
                node,
                first_members: members.clone(),
                segment_bytes,
                is_aside: false,
                is_removed: false,
            })
    };
    plan.groups.iter().flat_map(of_group).collect()
}
