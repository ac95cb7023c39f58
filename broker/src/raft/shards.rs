//! All shards of a broker: which one owns a group, and their threads.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use highwater_storage::Store;
use tokio::sync::oneshot;

use super::checkpoint::{CheckpointSignal, Checkpointer};
use super::cold_read::ReadPool;
use super::counters::ShardCounters;
use super::instruments::Instruments;
use super::journal::{Journal, SyncClock, SyncWaiter};
use super::machine::Machine;
use super::mailbox::{Mailbox, MailboxLevel};
use super::message::{PeerMessage, PeerTransport};
use super::request::{Operation, Request};
use super::shard::Shard;
use super::thread::{ShardPort, ShardThread};
use super::{Config, Error, GroupId};

/// The way to all groups of a broker. Clones lead to the same shards.
pub struct Shards<M: Machine> {
    ports: Arc<[Arc<ShardPort<M>>]>,
    counters: Arc<[Arc<ShardCounters>]>,
    checkpoints: Arc<CheckpointSignal>,
    sync_clock: Arc<SyncClock>,
}

/// The threads behind [`Shards`].
pub struct ShardThreads<M: Machine> {
    shards: Shards<M>,
    journal: Arc<Journal>,
    shard_threads: Vec<JoinHandle<()>>,
    journal_thread: JoinHandle<()>,
    checkpoint_thread: JoinHandle<()>,
    readers: Arc<ReadPool<M>>,
    reader_threads: Vec<JoinHandle<()>>,
}

/// What [`Shards::start`] needs.
pub struct ShardsSpec<'a> {
    /// The data directory.
    pub store: Arc<Store>,
    /// The limits.
    pub config: Config,
    /// How many shards, which is how many threads.
    pub count: NonZeroUsize,
    /// A seed for each shard.
    pub seed: &'a mut dyn FnMut() -> u64,
    /// A way to the peers for each shard.
    pub transport: &'a mut dyn FnMut() -> Box<dyn PeerTransport>,
    /// Where the threads record what they measure.
    pub instruments: Instruments,
}

impl<M: Machine> Clone for Shards<M> {
    fn clone(&self) -> Self {
        Self {
            ports: Arc::clone(&self.ports),
            counters: Arc::clone(&self.counters),
            checkpoints: Arc::clone(&self.checkpoints),
            sync_clock: Arc::clone(&self.sync_clock),
        }
    }
}

impl<M: Machine> Shards<M> {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::Thread`] when the operating system has no more.
    pub fn start(spec: ShardsSpec<'_>) -> Result<(Self, ShardThreads<M>), Error> {
        spec.config.validate()?;
        let config = Arc::new(spec.config);
        let ports: Vec<_> = (0..spec.count.get())
            .map(|_| Arc::new(ShardPort::new(Mailbox::new(&config))))
            .collect();
        let waiters = ports
            .iter()
            .map(|port| Arc::clone(port) as Arc<dyn SyncWaiter>);
        let journal = Arc::new(Journal::new(
            Arc::clone(&spec.store),
            waiters.collect(),
            spec.instruments.clone(),
        ));
        let checkpoints = Arc::new(CheckpointSignal::default());
        let readers = Arc::new(ReadPool::default());

        let mut counters = Vec::new();
        let mut shard_threads = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let mut seeds = super::election::SplitMix64::new((spec.seed)());
            let random = Box::new(move || seeds.next());
            let shard = Shard::new(Arc::clone(&spec.store), Arc::clone(&config), random);
            counters.push(shard.counters());
            let thread = ShardThread {
                shard,
                port: Arc::clone(port),
                store: Arc::clone(&spec.store),
                journal: Arc::clone(&journal),
                checkpoints: Arc::clone(&checkpoints),
                transport: (spec.transport)(),
                readers: Arc::clone(&readers),
                instruments: spec.instruments.clone(),
                tick_interval: Duration::from_millis(config.tick_interval_ms),
            };
            shard_threads.push(spawn(format!("shard-{number}"), move || thread.run())?);
        }
        let checkpointer = Checkpointer {
            store: spec.store,
            journal: Arc::clone(&journal),
            ports: ports.clone(),
            signal: Arc::clone(&checkpoints),
            instruments: spec.instruments,
            last: Cell::new((Instant::now(), 0)),
        };
        let mut reader_threads = Vec::new();
        for number in 0..config.reader_threads {
            let readers = Arc::clone(&readers);
            reader_threads.push(spawn(format!("reader-{number}"), move || readers.run())?);
        }
        let syncing = Arc::clone(&journal);
        let shards = Self {
            ports: ports.into(),
            counters: counters.into(),
            checkpoints,
            sync_clock: journal.clock(),
        };
        let threads = ShardThreads {
            shards: shards.clone(),
            journal,
            shard_threads,
            journal_thread: spawn("journal".to_owned(), move || syncing.run())?,
            checkpoint_thread: spawn("checkpoint".to_owned(), move || checkpointer.run())?,
            readers,
            reader_threads,
        };
        Ok((shards, threads))
    }

    /// Sends a command to its group. It is answered in any case, at once with [`Refusal::Busy`] where the shard's
    /// mailbox is full.
    ///
    /// [`Refusal::Busy`]: super::machine::Refusal::Busy
    pub fn send(&self, request: Request<M>) {
        self.port(request.group).mailbox.send(request);
    }

    /// Takes a peer's message, or loses it where the mailbox is full.
    pub fn send_message(&self, message: PeerMessage) {
        self.port(message.group).mailbox.send_message(message);
    }

    /// Sends an operation to the shard of `group`, which is the group the operation names.
    ///
    /// # Errors
    /// [`Error::ShardBusy`] when too many wait or the shards stopped; the operation is dropped.
    pub fn operate(&self, group: GroupId, operation: Operation<M>) -> Result<(), Error> {
        self.port(group).mailbox.operate(operation)
    }

    /// Sends an operation to every shard, however many wait there.
    ///
    /// # Errors
    /// [`Error::ShardBusy`] when one or more of them stopped; the others took it.
    pub fn broadcast(&self, mut operation: impl FnMut() -> Operation<M>) -> Result<(), Error> {
        let sent = self
            .ports
            .iter()
            .map(|port| port.mailbox.operate_anyway(operation()));
        // Each is tried.
        sent.fold(Ok(()), Result::and)
    }

    /// Has every leader of this broker hand over to another voter, a few at a time, as before a shutdown. Ends two election
    /// timeouts after the last that could at the latest, and answers how many groups this broker leads still.
    pub async fn transfer_all_away(&self) -> usize {
        let mut answers = Vec::new();
        let sent = self.broadcast(|| {
            let (answer, answered) = oneshot::channel();
            answers.push(answered);
            Operation::TransferAway {
                group: None,
                answer,
            }
        });
        if let Err(error) = sent {
            tracing::warn!(%error, "not every shard hands its leaderships over");
        }
        let mut staying = 0;
        for answered in answers {
            // A shard that did not take it, or stopped, drops the answer.
            staying += answered.await.unwrap_or(0);
        }
        staying
    }

    /// For how long the sync that is under way has been so; `None` while there is none. What peers should not trust
    /// for long.
    pub fn sync_age(&self) -> Option<Duration> {
        self.sync_clock.age()
    }

    /// Waits until a checkpoint holds what every group is at now. False when there will be none: the disk failed, or the shards
    /// stop. Whoever gives up waiting changes nothing.
    pub async fn checkpointed(&self) -> bool {
        self.checkpoints.make().await
    }

    /// Asks for a checkpoint, which is made some time later.
    pub fn request_checkpoint(&self) {
        self.checkpoints.request();
    }

    /// What each shard did since the start.
    pub fn counters(&self) -> &[Arc<ShardCounters>] {
        &self.counters
    }

    /// What waits for each shard.
    pub fn mailboxes(&self) -> impl Iterator<Item = MailboxLevel> {
        self.ports.iter().map(|port| port.mailbox.level())
    }

    /// Groups are numbered by the controller one after the other, so the number itself spreads them.
    fn port(&self, group: GroupId) -> &ShardPort<M> {
        let count = self.ports.len() as u64;
        let place = usize::try_from(group.0 % count).unwrap_or(0);
        &self.ports[place]
    }
}

impl<M: Machine> ShardThreads<M> {
    /// Stops everything: makes a last checkpoint, ends the shards (what they still hold is answered), and syncs what
    /// is left. Blocks.
    pub fn stop(self) {
        let Self {
            shards,
            journal,
            shard_threads,
            journal_thread,
            checkpoint_thread,
            readers,
            reader_threads,
        } = self;
        shards.checkpoints.stop();
        join(checkpoint_thread);
        for port in shards.ports.iter() {
            port.mailbox.close();
        }
        for thread in shard_threads {
            join(thread);
        }
        readers.stop();
        reader_threads.into_iter().for_each(join);
        journal.request();
        journal.stop();
        join(journal_thread);
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name(name)
        .spawn(work)
        .map_err(Error::Thread)
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(thread = name, "a thread panicked");
    }
}
