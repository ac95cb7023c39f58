//! A cluster in one thread: brokers, disks, network, clients and their bad luck, all from one seed.
//!
//! The product's code runs from the shard down: [`Shard`](highwater_broker::raft::Shard) with the machines of a real broker,
//! and a real [`Store`](highwater_storage::Store) on a simulated disk. Around it everything is simulated: the clock, the
//! network, the threads (turns, syncs and checkpoints are events that take virtual time) and the clients. All chance comes
//! from the seed, so a seed that goes red does so again.
//!
//! A run has two parts. First there is trouble: clients produce, read and trim while processes crash, power fails, disks
//! stall, fail, fill up and damage files, and the network delays, loses, doubles, reorders and cuts. Then the trouble ends: every broker is
//! there, and within bounded virtual time every group must take writes and every replica be the same. What must hold at
//! each moment is listed in [`Check`].
//!
//! `world` is the loop; `traffic`, `perils`, `damage` (with `harm`), `membership`, `mending` and `ending` are what it does. `ledger` (batches), `witness` (what replicas say)
//! and `durable` (disks) are the judges. `node`, `process`, `checkpointing`, `disk` and `threads` stand in for a broker's threads, `seeding` for what
//! copies logs from broker to broker.
//!
//! Left out: the services and the network code above the shard, the controller, write caching, damage to a running broker's files, to
//! the end of a journal, and to a replica that is being moved.

mod attempt;
mod bug;
mod chance;
mod checkpointing;
mod damage;
mod disk;
mod durable;
mod ending;
mod harm;
mod ledger;
mod membership;
mod mending;
mod network;
mod node;
mod perils;
mod plan;
mod process;
mod producer;
mod schedule;
mod seeding;
mod threads;
mod trace;
mod traffic;
mod violation;
mod witness;
mod world;

pub use bug::Bug;
pub use schedule::Time;
pub use violation::{Check, Failure, Violation};

use world::World;

/// A run that broke no promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Follows from every event of the run.
    pub trace_hash: u64,
    /// Lines of the trace.
    pub events: u64,
    /// Batches that were acknowledged.
    pub acked_batches: u64,
    /// Leaders that were elected.
    pub leaders: u64,
    /// How long it lasted, in virtual time.
    pub time: Time,
}

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Prints each event as it happens.
    pub prints: bool,
    /// A bug to plant.
    pub bug: Option<Bug>,
}

/// Runs one seed.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64, options: Options) -> Result<Summary, Box<Failure>> {
    let mut world = World::new(seed, options.bug, options.prints);
    let outcome = world.run();
    let time = world.now();
    match outcome {
        Ok(()) => Ok(Summary {
            trace_hash: world.trace.hash(),
            events: world.trace.lines(),
            acked_batches: world.ledger.acked(),
            leaders: world.witness.leaders() as u64,
            time,
        }),
        Err(violation) => Err(Box::new(Failure {
            seed,
            time,
            violation,
            plan: world.plan.to_string(),
            last_events: world.trace.into_last(),
        })),
    }
}
