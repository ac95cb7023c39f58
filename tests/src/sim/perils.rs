//! What befalls the simulated cluster.

use highwater_broker::raft::Operation;
use highwater_storage::fs::{CrashMode, Fault, Operation as FsOperation};

use super::bug::Bug;
use super::plan::{NodeId, Peril};
use super::schedule::{MS, SECOND};
use super::violation::{Check, Checked, broken};
use super::world::{Event, World};

/// Changes of the disk that a dying process may still make.
const LAST_STEPS: u64 = 8;

pub(super) const POWER_LOSSES: [CrashMode; 3] = [
    CrashMode::PowerKept,
    CrashMode::PowerDropped,
    CrashMode::PowerTorn,
];

impl World {
    /// Lets one of the plan's perils happen, and plans the next.
    pub(super) fn peril(&mut self) -> Checked {
        if self.calm_since.is_some() || self.plan.perils.is_empty() {
            return Ok(());
        }
        let gap = self
            .fate
            .within(self.plan.peril_gap / 4..=self.plan.peril_gap);
        self.schedule.after(gap, Event::Peril);
        let peril = *self.fate.pick(&self.plan.perils);
        let node = NodeId(self.fate.place(self.plan.nodes));
        self.note(format_args!("{peril:?} {node}"));
        match peril {
            Peril::ProcessCrash => self.go_down(node, CrashMode::Process),
            Peril::PowerLoss => {
                let mode = *self.fate.pick(&POWER_LOSSES);
                self.go_down(node, mode);
            }
            Peril::PowerLossOfAll => {
                let mode = *self.fate.pick(&POWER_LOSSES);
                for at in 0..self.plan.nodes {
                    self.go_down(NodeId(at), mode);
                }
            }
            Peril::Partition => self.cut_off(node, true),
            Peril::OneWayPartition => self.cut_off(node, false),
            Peril::Pause => {
                let until = self.now().plus(self.fate.within(100 * MS..=6 * SECOND));
                self.nodes[node.0].paused_until = until;
            }
            Peril::SlowDisk => {
                let until = self.now().plus(self.fate.within(SECOND..=10 * SECOND));
                self.nodes[node.0].slow_until = until;
            }
            Peril::DiskError => self.fail_disk(node),
            Peril::DiskFull => self.fill_disk(node),
            Peril::LeaderLost => self.lose_leader(node),
            Peril::TransferLeader => self.transfer_leader(),
            Peril::ReplicaMove => self.begin_move(),
            Peril::Damage => self.damage(),
        }
        Ok(())
    }

    /// Ends a process that runs, and plans the next.
    fn go_down(&mut self, id: NodeId, mode: CrashMode) {
        if self.nodes[id.0].process.is_none() {
            return;
        }
        self.crash(id, mode);
        let pause = self.fate.within(20 * MS..=4 * SECOND);
        self.schedule.after(pause, Event::Restart(id));
    }

    /// Ends a process, half of the time in the middle of something.
    pub(super) fn crash(&mut self, id: NodeId, mode: CrashMode) {
        let now = self.now();
        let steps = self.fate.within(0..=LAST_STEPS);
        let in_the_middle = self.fate.place(4);
        let node = &mut self.nodes[id.0];
        let clock = node.clock(now);
        if let Some(process) = &mut node.process {
            node.disk.die_after(steps);
            // Nobody hears what comes out of it any more.
            match in_the_middle {
                0 => drop(process.turn(clock)),
                1 if process.sync.is_none() => drop(process.store.sync()),
                2 if process.sync.is_none() => drop(process.step_checkpoint()),
                _ => {}
            }
        }
        node.crash(mode);
        self.note(format_args!("{id} crashed: {mode:?}"));
    }

    pub(super) fn restart(&mut self, id: NodeId) -> Checked {
        let node = &mut self.nodes[id.0];
        if node.process.is_some() {
            return Ok(());
        }
        if !node.start(&self.plan, &self.placed, &self.damaged)? {
            self.note(format_args!("{id} cannot start"));
            self.schedule.after(SECOND, Event::Restart(id));
            return Ok(());
        }
        let (life, tick) = (node.life, node.tick_interval);
        let first_tick = self.jitter.within(MS..=tick);
        self.note(format_args!("{id} started"));
        self.schedule.after(first_tick, Event::Tick(id, life));
        self.start_replicas(id)
    }

    /// The first turn of a process: its replicas start, in no term before one that they spoke of.
    fn start_replicas(&mut self, id: NodeId) -> Checked {
        self.turn(id)?;
        let Some(process) = &self.nodes[id.0].process else {
            return Ok(());
        };
        for (group, hosted) in process.hosted() {
            let status = process.shard.status(*group);
            // One that is quarantined speaks no more.
            if let Some(status) = status.filter(|status| status.failure.is_none()) {
                self.witness.started(hosted.replica, status.term)?;
            }
        }
        Ok(())
    }

    /// Cuts one broker, or some brokers, off from the others, in both directions or in one.
    fn cut_off(&mut self, node: NodeId, both_ways: bool) {
        let among = self.fate.next();
        let is_inside = |other: NodeId| other == node || (among >> other.0) & 3 == 0;
        let all = (0..self.plan.nodes).map(NodeId);
        let (inside, outside): (Vec<_>, Vec<_>) = all.partition(|other| is_inside(*other));
        let is_outward = among >> 40 & 1 == 0;
        for (one, other) in inside
            .iter()
            .flat_map(|one| outside.iter().map(move |other| (*one, *other)))
        {
            if both_ways || is_outward {
                self.network.cut(one, other);
            }
            if both_ways || !is_outward {
                self.network.cut(other, one);
            }
        }
        let lasts = self.fate.within(200 * MS..=6 * SECOND);
        self.schedule.after(lasts, Event::Mend);
    }

    /// The disk fails at something, once or from then on. The broker is started anew after a while, on a disk that works.
    fn fail_disk(&mut self, id: NodeId) {
        let operation = *self.fate.pick(&[
            FsOperation::SyncData,
            FsOperation::SyncData,
            FsOperation::Write,
            FsOperation::Create,
            FsOperation::SyncDir,
            FsOperation::Rename,
        ]);
        let place = *self.fate.pick(&["journal", "topics", "checkpoint", ""]);
        let mut fault = Fault::new(operation, place).after(self.fate.within(0..=20));
        if self.fate.percent(50) {
            fault = fault.lasting();
        }
        self.note(format_args!("{id} fails at {operation} {place:?}"));
        let node = &mut self.nodes[id.0];
        node.disk.inject(fault);
        node.is_excused = true;
    }

    fn fill_disk(&mut self, id: NodeId) {
        let free = self.fate.within(0..=128 << 10);
        let node = &mut self.nodes[id.0];
        node.disk.leave_free(free);
        node.is_full = true;
        let lasts = self.fate.within(500 * MS..=5 * SECOND);
        self.schedule.after(lasts, Event::EndShortage(id));
    }

    pub(super) fn end_shortage(&mut self, id: NodeId) {
        self.note(format_args!("{id} has room again"));
        let node = &mut self.nodes[id.0];
        node.disk.end_shortage();
        node.is_full = false;
    }

    /// The brokers that `node` looks for a leader on are taken for gone.
    fn lose_leader(&mut self, node: NodeId) {
        let Some(process) = &mut self.nodes[node.0].process else {
            return;
        };
        let groups: Vec<_> = process.hosted().keys().copied().collect();
        for group in groups {
            process.operate(Operation::LeaderLost { group });
        }
        self.plan_turn(node);
    }

    /// Asks whoever leads a group to hand over to some replica of it.
    fn transfer_leader(&mut self) {
        let to = self.fate.pick(&self.placed).clone();
        for at in 0..self.plan.nodes {
            if let Some(process) = &mut self.nodes[at].process {
                process.operate(Operation::TransferLeader {
                    group: to.group,
                    to: to.replica,
                });
                self.plan_turn(NodeId(at));
            }
        }
    }

    /// A bug of a follower: it answers entries before anything is written.
    pub(super) fn plant_in_message(
        &mut self,
        to: NodeId,
        message: &highwater_broker::raft::PeerMessage,
    ) {
        use raft::eraftpb::{Message, MessageType};
        let entries = &message.message;
        let is_append =
            entries.get_msg_type() == MessageType::MsgAppend && !entries.entries.is_empty();
        if self.bug != Some(Bug::ReplyBeforeSync) || !is_append {
            return;
        }
        let mut reply = Message::default();
        reply.set_msg_type(MessageType::MsgAppendResponse);
        (reply.from, reply.to, reply.term) = (entries.to, entries.from, entries.term);
        reply.index = entries.index + entries.entries.len() as u64;
        let Some(leader) = self.node_of(message.from()) else {
            return;
        };
        if self.network.is_cut(leader, to) || self.network.is_cut(to, leader) {
            return;
        }
        let reply = highwater_broker::raft::PeerMessage {
            group: message.group,
            message: reply,
        };
        self.schedule
            .after(MS, Event::Deliver(leader, Box::new(reply)));
    }

    /// Reports a promise that concerns the whole cluster.
    pub(super) fn not_live<T>(&self, detail: String) -> Checked<T> {
        broken(Check::Liveness, detail)
    }
}
