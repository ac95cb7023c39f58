//! Many groups, one turn at a time.
//!
//! A turn takes what has come (operations, messages, commands, finished syncs), lets every replica that has something
//! to do do it, and submits what all of them wrote as one piece to the journal. It waits for nothing: it neither syncs
//! nor sleeps nor looks at a clock. Who calls it (a thread, a test, the simulator) passes the time in, sends the
//! messages that come out, and sees that [`Store::sync`] runs while [`TurnReport::needs_sync`].

mod leaving;
mod operate;
mod stall;

use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use highwater_storage::{Store, Ticket};

use self::leaving::Leaving;
use self::stall::StallClock;
use super::catching_up::CatchingUp;
use super::cold_read::ColdRead;
use super::counters::ShardCounters;
use super::machine::{Machine, Refusal, Timestamp};
use super::mailbox::Inbox;
use super::message::{Leadership, PeerMessage};
use super::registry::{Registry, Slot};
use super::replica::{Released, Replica, TurnContext};
use super::request::{Answer, ReplicaStatus};
use super::seeding::Pull;
use super::{Config, Error, GroupId};

/// The groups of one thread. See the module's documentation.
pub struct Shard<M: Machine> {
    store: Arc<Store>,
    config: Arc<Config>,
    /// Seeds for the jitter of elections.
    random: Box<dyn FnMut() -> u64 + Send>,
    replicas: Registry<M>,
    /// Replicas with something to do in this turn, each once.
    active: Vec<Slot>,
    /// Replicas whose writes become durable with a ticket, in order of ticket.
    unsynced: VecDeque<(Ticket, Slot)>,
    /// Deletions that become durable with a ticket, in order of ticket.
    deleted: VecDeque<(Ticket, Answer<Result<(), Error>>)>,
    /// Deletions of this turn, whose ticket is not known yet.
    deleting: Vec<Answer<Result<(), Error>>>,
    /// What leaders that failed since the last report have to say to their successors.
    farewells: Vec<PeerMessage>,
    /// Leaderships that are to go elsewhere.
    leaving: Vec<Leaving>,
    /// Whose followers are sent what they lack.
    catching_up: CatchingUp<ColdRead>,
    stall: StallClock,
    /// Whether the disk counts as stuck.
    is_stalled: bool,
    /// Replicas that need ticks.
    ticking: BTreeSet<Slot>,
    /// Requests that left the shard since the last report.
    released: Released,
    counters: Arc<ShardCounters>,
    /// Why the data directory failed, once it did.
    failure: Option<Arc<str>>,
}

/// What came out of a turn.
#[derive(Debug, Default)]
pub struct TurnReport {
    /// Messages to peers. They may leave at once: what had to be durable first is.
    pub messages: Vec<PeerMessage>,
    /// Leaderships that began to serve, or whose voters in sync changed, for [`PeerTransport::announce`](super::PeerTransport::announce).
    pub leaderships: Vec<Leadership>,
    /// Entries that have to be read elsewhere: the operation that [`ColdRead::run`] answers belongs into the mailbox.
    pub cold_reads: Vec<ColdRead>,
    /// Frames that are to be pulled from other brokers: [`Pull`] says how.
    pub pulls: Vec<Pull>,
    /// Requests that no longer wait in the shard.
    pub released_messages: usize,
    /// The bytes those requests held.
    pub released_bytes: usize,
    /// Whether something waits for [`Store::sync`]. Further turns may go on meanwhile.
    pub needs_sync: bool,
    /// Whether something here waits for a ticket: this shard needs a turn after the next sync that ends, even if
    /// `needs_sync` is false because that sync has taken up what was submitted here.
    pub awaits_sync: bool,
    /// Whether any group here needs ticks.
    pub wants_ticks: bool,
}

impl<M: Machine> Shard<M> {
    /// A shard without replicas. `random` seeds the jitter of elections.
    pub fn new(
        store: Arc<Store>,
        config: Arc<Config>,
        random: Box<dyn FnMut() -> u64 + Send>,
    ) -> Self {
        Self {
            catching_up: CatchingUp::new(config.catch_ups),
            store,
            config,
            random,
            replicas: Registry::new(),
            active: Vec::new(),
            unsynced: VecDeque::new(),
            deleted: VecDeque::new(),
            deleting: Vec::new(),
            farewells: Vec::new(),
            leaving: Vec::new(),
            stall: StallClock::default(),
            is_stalled: false,
            ticking: BTreeSet::new(),
            released: Released::default(),
            counters: Arc::default(),
            failure: None,
        }
    }

    /// What the shard did since it started.
    pub fn counters(&self) -> Arc<ShardCounters> {
        Arc::clone(&self.counters)
    }

    /// Takes all that is in `inbox` and does what follows from it.
    pub fn turn(&mut self, inbox: &mut Inbox<M>, now: Timestamp) -> TurnReport {
        self.counters.turned();
        let counters = Arc::clone(&self.counters);
        let mut context = TurnContext {
            turn: self.store.turn(),
            now,
            is_disk_full: !inbox.requests.is_empty() && self.store.space().refusing,
            outbox: Vec::new(),
            leaderships: Vec::new(),
            catching_up: std::mem::take(&mut self.catching_up),
            cold_reads: Vec::new(),
            pulls: Vec::new(),
            released: Released::default(),
            counters: &counters,
        };
        self.synced();
        for operation in inbox.operations.drain(..) {
            self.operate(operation, &mut context);
        }
        for _ in 0..std::mem::take(&mut inbox.ticks) {
            self.tick();
            context.catching_up.tick();
        }
        for message in inbox.messages.drain(..) {
            context.released.add(message.bytes());
            self.with_group(message.group, |replica| replica.message(message));
        }
        for request in inbox.requests.drain(..) {
            match self.replicas.slot(request.group) {
                Some(slot) => self.with(slot, |replica| {
                    replica.command(request);
                    Ok(())
                }),
                None => {
                    context.released.add(request.bytes);
                    request.reply.refuse(Refusal::UnknownGroup);
                }
            }
        }
        self.go_on_leaving();
        self.drive(&mut context);
        self.go_on_catching_up(&mut context);
        self.answer_leaving();
        context.outbox.append(&mut self.farewells);
        self.catching_up = context.catching_up;
        let mut released = std::mem::take(&mut self.released);
        released.merge(context.released);
        let wants_ticks = !(self.ticking.is_empty() && self.leaving.is_empty()) || self.is_stalled;
        self.counters.set_ticking(wants_ticks);
        TurnReport {
            messages: context.outbox,
            leaderships: context.leaderships,
            cold_reads: context.cold_reads,
            pulls: context.pulls,
            released_messages: released.messages,
            released_bytes: released.bytes,
            needs_sync: self.failure.is_none() && self.store.has_unsynced(),
            awaits_sync: !self.unsynced.is_empty() || !self.deleted.is_empty(),
            wants_ticks,
        }
    }

    /// How the replica of `group` stands.
    pub fn status(&self, group: GroupId) -> Option<ReplicaStatus> {
        self.replicas.get(self.replicas.slot(group)?)?.status()
    }

    /// All frames in the log of `group`.
    #[cfg(test)]
    pub(super) fn frames(&mut self, group: GroupId) -> Option<Vec<highwater_storage::Frame>> {
        let slot = self.replicas.slot(group)?;
        let log = self.replicas.get_mut(slot)?.log_mut()?;
        let (first, end) = (log.first_index(), log.last_index().next());
        Some(if first < end {
            log.read(first, end, u64::MAX).unwrap()
        } else {
            vec![]
        })
    }

    /// The data directory failed: nothing that is not durable ever will be. Every replica is quarantined.
    pub fn fail(&mut self, reason: &Arc<str>) {
        if self.failure.is_some() {
            return;
        }
        self.failure = Some(Arc::clone(reason));
        self.unsynced.clear();
        self.deleted.clear();
        for slot in self.replicas.slots() {
            let reason = Arc::clone(reason);
            self.quarantine(slot, &Error::DirectoryFailed { reason });
        }
    }

    /// Drives the active replicas until none is, submitting once per round. A second round follows only where a write
    /// needs no sync.
    fn drive(&mut self, context: &mut TurnContext<'_>) {
        loop {
            let active = std::mem::take(&mut self.active);
            for slot in &active {
                self.drive_one(*slot, context);
            }
            self.submit(&active, context);
            self.synced();
            if self.active.is_empty() {
                return;
            }
        }
    }

    /// Reads for the followers of the next groups, in place of those that have caught up.
    fn go_on_catching_up(&mut self, context: &mut TurnContext<'_>) {
        let replicas = &self.replicas;
        context.catching_up.end(|group, upto| {
            let replica = replicas.slot(group).and_then(|slot| replicas.get(slot));
            replica.is_none_or(|replica| replica.has_everywhere(upto))
        });
        while let Some((group, read)) = context.catching_up.next() {
            self.with_group(group, |replica| replica.read(read, context));
        }
        if !self.active.is_empty() {
            self.drive(context);
        }
    }

    fn drive_one(&mut self, slot: Slot, context: &mut TurnContext<'_>) {
        let Some(replica) = self.replicas.get_mut(slot) else {
            return;
        };
        replica.is_active = false;
        if let Err(error) = contained(replica, |replica| replica.drive(context)) {
            self.quarantine(slot, &error);
            return;
        }
        if replica.wants_ticks() {
            self.ticking.insert(slot);
        } else {
            self.ticking.remove(&slot);
        }
    }

    /// Submits what was written, and notes who waits for it.
    fn submit(&mut self, active: &[Slot], context: &mut TurnContext<'_>) {
        let written = std::mem::replace(&mut context.turn, self.store.turn());
        let submitted = self.store.submit(written);
        for slot in active {
            let Some(replica) = self.replicas.get_mut(*slot) else {
                continue;
            };
            if let Some(ticket) = replica.submitted(submitted) {
                // A log that skips the journal may wait for an earlier ticket than its neighbours.
                let place = self.unsynced.partition_point(|(other, _)| *other <= ticket);
                self.unsynced.insert(place, (ticket, *slot));
            }
        }
        let deleting = self.deleting.drain(..);
        self.deleted
            .extend(deleting.map(|answer| (submitted, answer)));
    }

    /// Tells those who waited that their writes are durable.
    fn synced(&mut self) {
        let synced = self.store.synced();
        while let Some((_, slot)) = self.unsynced.pop_front_if(|(ticket, _)| *ticket <= synced) {
            self.with(slot, |replica| replica.synced(synced));
        }
        while let Some((_, answer)) = self.deleted.pop_front_if(|(ticket, _)| *ticket <= synced) {
            drop(answer.send(Ok(())));
        }
    }

    fn tick(&mut self) {
        self.tick_stall();
        self.tick_leaving();
        for slot in self.ticking.clone() {
            self.with(slot, Replica::tick);
        }
    }

    fn with_group(
        &mut self,
        group: GroupId,
        event: impl FnOnce(&mut Replica<M>) -> Result<(), Error>,
    ) {
        if let Some(slot) = self.replicas.slot(group) {
            self.with(slot, event);
        }
    }

    /// Gives a replica an event and marks it active. What fails in it stays in it.
    fn with(&mut self, slot: Slot, event: impl FnOnce(&mut Replica<M>) -> Result<(), Error>) {
        let Some(replica) = self.replicas.get_mut(slot) else {
            return;
        };
        if let Err(error) = contained(replica, event) {
            self.quarantine(slot, &error);
            return;
        }
        if !std::mem::replace(&mut replica.is_active, true) {
            self.active.push(slot);
        }
    }

    fn quarantine(&mut self, slot: Slot, error: &Error) {
        self.ticking.remove(&slot);
        if let Some(replica) = self.replicas.get_mut(slot) {
            let (released, farewell) = replica.quarantine(error);
            self.released.merge(released);
            self.farewells.extend(farewell);
        }
    }
}

/// Lets nothing that goes wrong in one replica reach another: a panic becomes its error.
fn contained<M: Machine, T>(
    replica: &mut Replica<M>,
    work: impl FnOnce(&mut Replica<M>) -> Result<T, Error>,
) -> Result<T, Error> {
    let id = replica.id();
    match catch_unwind(AssertUnwindSafe(|| work(replica))) {
        Ok(done) => done,
        Err(panic) => Err(Error::Panicked {
            replica: id,
            reason: message_of(panic.as_ref()),
        }),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    if let Some(message) = panic.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message.clone()
    } else {
        "a panic without a message".to_owned()
    }
}
