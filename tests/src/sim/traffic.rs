//! What the simulated clients do: produce, read, trim.

use highwater_broker::partition::{self, Response, Standing};
use highwater_broker::raft::machine::Refusal;
use highwater_broker::raft::{GroupId, Outcome, ReplicaId};
use highwater_broker::replica::{self, Command, Replica};
use highwater_proto::ProducerId;
use highwater_storage::{Error as StorageError, Offset};

use super::attempt::Attempt;
use super::bug::Bug;
use super::durable;
use super::ledger::{BatchNumber, Seen};
use super::plan::NodeId;
use super::process::Hosted;
use super::producer::{AttemptId, Producer};
use super::schedule::MS;
use super::violation::{Check, Checked, broken};
use super::world::{Event, World};

/// How long a client waits for an answer, in microseconds.
const PATIENCE: u64 = 1_500 * MS;
/// How long a client waits before it tries again, in microseconds.
const BACK_OFF: u64 = 60 * MS;
/// Of so many acknowledgements in a hundred the disks are asked whether they hold the batch.
const DISKS_ASKED_PERCENT: u64 = 4;
/// What a read fetches at most, in bytes.
const FETCH_BYTES: u64 = 8 << 10;

/// What a client hears of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is done.
    Done,
    /// It certainly was not done: another replica leads, perhaps this one.
    NotLeader(Option<ReplicaId>),
    /// It certainly was not done, for now.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl World {
    /// Producers for each group, half of them idempotent, and readers.
    pub(super) fn add_clients(&mut self) {
        let groups: Vec<_> = self.plan.groups.iter().map(|group| group.group).collect();
        for group in groups {
            for _ in 0..self.plan.producers_per_group {
                let number = self.producers.len();
                let id = self
                    .clients
                    .percent(75)
                    .then(|| ProducerId(1000 + number as i64));
                let target = NodeId(self.clients.place(self.plan.nodes));
                self.producers.push(Producer::new(group, id, target));
                self.schedule.after(10 * MS, Event::Produce(number));
            }
        }
        for _ in 0..self.plan.readers {
            self.schedule.after(20 * MS, Event::Read);
        }
        if self.plan.trims {
            self.schedule.after(500 * MS, Event::Trim);
        }
    }

    /// A producer makes a batch, if it may have one more on its way, and sends what is to be sent.
    pub(super) fn produce(&mut self, number: usize) {
        if self.calm_since.is_none() {
            self.make_batch(number);
            let pause = self.clients.within(MS..=self.plan.think_time);
            self.schedule.after(pause, Event::Produce(number));
        }
        self.send_batches(number);
    }

    pub(super) fn make_batch(&mut self, number: usize) {
        let producer = &mut self.producers[number];
        if !producer.may_send() {
            return;
        }
        self.next_batch += 1;
        let batch_number = BatchNumber(self.next_batch);
        let most = self.plan.max_value_bytes;
        let (batch, header) = producer.make(batch_number, &mut self.clients, most);
        let (group, records) = (producer.group, header.record_count);
        let floor = self
            .ledger
            .send(batch_number, group, batch.clone(), records);
        producer.push(batch_number, batch, header, floor);
    }

    /// Lets a producer send again what failed, within so many microseconds.
    fn plan_resend(&mut self, number: usize, within: u64) {
        if !std::mem::replace(&mut self.producers[number].is_resend_planned, true) {
            let pause = self.clients.within(MS..=within);
            self.schedule.after(pause, Event::Resend(number));
        }
    }

    /// Sends what waits to be sent, in order.
    pub(super) fn send_batches(&mut self, number: usize) {
        let now = self.now();
        let producer = &mut self.producers[number];
        producer.is_resend_planned = false;
        let (group, target, arrival) = (producer.group, producer.target, producer.last_arrival);
        let mut arrival = arrival.max(now.plus(self.clients.within(30..=MS)));
        for pending in producer.unsent() {
            self.next_attempt += 1;
            pending.attempt = Some(self.next_attempt);
            let attempt = Attempt::Produce {
                producer: number,
                group,
                number: pending.number,
                batch: pending.batch.clone(),
                header: pending.header,
                floor: pending.floor,
                is_given_up: false,
            };
            self.attempts.insert(self.next_attempt, attempt);
            arrival = arrival.plus(1);
            self.trace.note(
                now,
                format_args!(
                    "producer {number} sends batch {} as {} to {target}",
                    pending.number.0, self.next_attempt
                ),
            );
            let request = Event::Request(target, self.next_attempt);
            self.schedule.at(arrival, request);
            self.schedule
                .after(PATIENCE, Event::Timeout(self.next_attempt));
        }
        producer.last_arrival = arrival;
    }

    /// A request arrives at a broker.
    pub(super) fn request(&mut self, id: NodeId, attempt: AttemptId) {
        let Some(asked) = self.attempts.get(&attempt) else {
            return;
        };
        let group = asked.group();
        match &mut self.nodes[id.0].process {
            Some(process) => {
                let (command, bytes) = asked.command();
                process.command(group, Command::Partition(command), bytes, attempt);
                self.plan_turn(id);
            }
            // Nobody listens: that is heard soon.
            None => self.schedule.after(MS, Event::Hear(attempt, Told::Unknown)),
        }
    }

    /// A broker answered a request.
    pub(super) fn answered(
        &mut self,
        id: NodeId,
        attempt: AttemptId,
        outcome: Outcome<Replica>,
    ) -> Checked {
        let Some(asked) = self.attempts.get(&attempt).cloned() else {
            return Ok(());
        };
        let told = match &outcome {
            Ok(_) => Told::Done,
            Err(error) => told_of(error, &asked)?,
        };
        self.note(format_args!("{id} answers {attempt}: {outcome:?}"));
        if let Attempt::Produce {
            number,
            group,
            floor,
            producer,
            ..
        } = asked
        {
            if let Ok(replica::Response::Partition(Response::Produced { base_offset, .. })) =
                outcome
            {
                self.ledger.ack(number, base_offset.0, floor)?;
                self.check_durable(id, group, number, base_offset)?;
            }
            let is_refused = matches!(told, Told::NotLeader(_) | Told::Refused);
            if is_refused && !self.producers[producer].is_idempotent() {
                self.ledger.refuse(number)?;
            }
        }
        let back = self.clients.within(30..=MS);
        self.schedule.after(back, Event::Hear(attempt, told));
        Ok(())
    }

    /// Asks the disks whether a majority holds what was just acknowledged.
    fn check_durable(
        &mut self,
        leader: NodeId,
        group: GroupId,
        number: BatchNumber,
        offset: Offset,
    ) -> Checked {
        if !self.clients.percent(DISKS_ASKED_PERCENT) {
            return Ok(());
        }
        let process = self.nodes[leader.0].process.as_ref();
        let Some(status) = process.and_then(|process| process.shard.status(group)) else {
            return Ok(());
        };
        let members = status.members;
        // What was committed in one go with a change of the members was so by those before it.
        let before = process.and_then(|process| process.members_before(group));
        let before = before.unwrap_or(&members).clone();
        let is_durable = |holders: &[ReplicaId]| {
            durable::is_majority(&members, holders) || durable::is_majority(&before, holders)
        };
        let mut asked: Vec<_> = [&members.voters, &members.outgoing, &before.voters]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        asked.sort_unstable();
        asked.dedup();
        let batch = self.ledger.batch(number);
        let mut holders = Vec::new();
        for replica in asked {
            if is_durable(&holders) {
                return Ok(());
            }
            let Some(node) = self.node_of(replica) else {
                continue;
            };
            let image = self.nodes[node.0].disk.durable_image();
            // What damage takes afterwards was durable.
            if self.damaged.contains(&replica)
                || durable::holds(image, &self.plan.storage, replica, offset, &batch)
            {
                holders.push(replica);
            }
        }
        if is_durable(&holders) {
            return Ok(());
        }
        broken(
            Check::AckIsDurable,
            format!(
                "batch {} of group {} was acknowledged at {offset} and is durable on {holders:?} of {members:?} only",
                number.0, group.0
            ),
        )
    }

    /// A client hears of its attempt, unless it gave it up.
    pub(super) fn hear(&mut self, attempt: AttemptId, told: Told) {
        let Some(Attempt::Produce {
            producer: number,
            number: batch,
            is_given_up: false,
            ..
        }) = self.attempts.remove(&attempt)
        else {
            return;
        };
        let other = NodeId(self.clients.place(self.plan.nodes));
        let target = match told {
            Told::Done | Told::Refused => None,
            Told::NotLeader(leader) => leader
                .and_then(|leader| self.node_of(leader))
                .or(Some(other)),
            Told::Unknown => Some(other),
        };
        let producer = &mut self.producers[number];
        producer.target = target.unwrap_or(producer.target);
        producer.give_up(attempt);
        if told == Told::Done || !producer.is_idempotent() {
            producer.finish(batch);
        } else {
            self.plan_resend(number, BACK_OFF);
        }
    }

    /// A client waits no longer. What the broker does with the request is still looked at.
    pub(super) fn time_out(&mut self, attempt: AttemptId) {
        let Some(Attempt::Produce {
            producer: number,
            number: batch,
            is_given_up,
            ..
        }) = self.attempts.get_mut(&attempt)
        else {
            return;
        };
        *is_given_up = true;
        let (number, batch) = (*number, *batch);
        let other = NodeId(self.clients.place(self.plan.nodes));
        let producer = &mut self.producers[number];
        producer.give_up(attempt);
        producer.target = other;
        if producer.is_idempotent() {
            self.plan_resend(number, 2 * MS);
        } else {
            producer.finish(batch);
        }
    }

    /// A reader fetches from some replica, below what that shows as its high watermark.
    pub(super) fn read(&mut self) -> Checked {
        if self.calm_since.is_none() {
            let pause = self.clients.within(MS..=100 * MS);
            self.schedule.after(pause, Event::Read);
        }
        let id = NodeId(self.clients.place(self.plan.nodes));
        let at = self.clients.next();
        let node = &self.nodes[id.0];
        let Some(process) = node
            .process
            .as_ref()
            .filter(|_| self.now() >= node.paused_until)
        else {
            return Ok(());
        };
        let hosted: Vec<_> = process.hosted().iter().collect();
        if hosted.is_empty() {
            return Ok(());
        }
        let (
            group,
            Hosted {
                shared,
                reader,
                replica,
            },
        ) = hosted[self.clients.place(hosted.len())];
        let (start, high) = (shared.log_start().0, shared.high_watermark().0);
        let upto = match self.bug {
            Some(Bug::ReadToLogEnd) => shared.log_end().0,
            _ => high,
        };
        if start > high {
            return broken(
                Check::MarksOnlyGrow,
                format!("replica {} shows log start {start} above {high}", replica.0),
            );
        }
        let from = start + at % (upto - start + 1);
        let is_excused = node.is_excused;
        match reader.read(Offset(from), Offset(upto), FETCH_BYTES) {
            Ok(read) => {
                let (group, count) = (*group, read.frames.len());
                if count == 0 && from < upto {
                    let detail = format!("group {} has nothing at {from}, below {upto}", group.0);
                    return broken(Check::NoAckedLoss, detail);
                }
                for frame in &read.frames {
                    self.ledger.found(group, frame, Seen::Read)?;
                }
                self.note(format_args!(
                    "{id} group {} read from {from}: {count}",
                    group.0
                ));
                Ok(())
            }
            Err(_) if is_excused => Ok(()),
            Err(StorageError::Damaged { .. }) if self.damaged.contains(replica) => {
                let group = group.0;
                self.note(format_args!("{id} group {group} is damaged at {from}"));
                Ok(())
            }
            Err(error) => broken(
                Check::NoAckedLoss,
                format!(
                    "{id} group {} cannot read {from}, below {upto}: {error}",
                    group.0
                ),
            ),
        }
    }

    /// Somebody trims a group, mostly no further than every replica has applied; where it is further, replicas that are behind
    /// are seeded.
    pub(super) fn trim(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        let pause = self.clients.within(200 * MS..=3_000 * MS);
        self.schedule.after(pause, Event::Trim);
        let plan = &self.plan.groups[self.clients.place(self.plan.groups.len())];
        let group = plan.group;
        let replicas = self.placed.iter().filter(|placed| placed.group == group);
        let waits_for_all = self.clients.percent(60);
        let (mut lowest, mut leader) = (u64::MAX, None);
        for placed in replicas {
            let process = self.nodes[placed.node.0].process.as_ref();
            let hosted = process.and_then(|process| process.hosted().get(&group));
            let shared = hosted.map(|hosted| &hosted.shared);
            let leads =
                shared.is_some_and(|shared| matches!(shared.standing(), Standing::Serving { .. }));
            if leads || waits_for_all {
                lowest = lowest.min(shared.map_or(0, |shared| shared.high_watermark().0));
            }
            if leads {
                leader = Some(placed.node);
            }
        }
        let Some(leader) = leader.filter(|_| (1..u64::MAX).contains(&lowest)) else {
            return;
        };
        let to = Offset(self.clients.within(0..=lowest));
        self.next_attempt += 1;
        self.note(format_args!("group {} is to be trimmed to {to}", group.0));
        self.attempts
            .insert(self.next_attempt, Attempt::Trim { group, to });
        self.schedule
            .after(MS, Event::Request(leader, self.next_attempt));
    }
}

/// What a client makes of a refusal.
fn told_of(error: &replica::Error, asked: &Attempt) -> Checked<Told> {
    let refusal = match error {
        replica::Error::Refused(refusal)
        | replica::Error::Partition(partition::Error::Refused(refusal)) => refusal,
        // A batch before it was refused or is on its way to another broker.
        replica::Error::Partition(
            partition::Error::OutOfOrderSequence { .. }
            | partition::Error::UnknownProducerId { .. },
        ) => return Ok(Told::Refused),
        // One that was under way for long: its producer has gone on, after this batch was acknowledged to it.
        replica::Error::Partition(partition::Error::DuplicateSequence { .. })
            if asked.is_given_up() =>
        {
            return Ok(Told::Unknown);
        }
        replica::Error::Partition(partition::Error::OffsetOutOfRange { .. })
            if matches!(asked, Attempt::Trim { .. }) =>
        {
            return Ok(Told::Refused);
        }
        other => {
            return broken(Check::ExpectedErrors, format!("{other:?} to {asked}"));
        }
    };
    Ok(match refusal {
        Refusal::Indefinite => Told::Unknown,
        Refusal::NotLeader { leader } => Told::NotLeader(*leader),
        // Where a replica failed, another leads.
        Refusal::UnknownGroup | Refusal::Failed { .. } => Told::NotLeader(None),
        _ => Told::Refused,
    })
}
