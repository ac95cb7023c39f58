//! `highwater bench`: what this machine can do, and what a broker makes of it.
//!
//! Shared by the workloads: [`target`] (which broker), [`topic`], [`window`] and [`tally`] (what of a run counts),
//! [`schedule`] and [`timer`] (when records are due), [`observer`] (the broker's process meanwhile), [`report`].
//! Generators run in this process; an embedded broker has one of its own.

pub(crate) mod amount;
mod consume;
mod disk;
mod generator;
mod latencies;
mod latency;
mod observer;
mod payload;
mod probe;
mod produce;
mod raw;
mod records;
mod report;
mod schedule;
mod serve;
mod session;
mod tally;
mod target;
mod timer;
mod topic;
mod usage;
mod window;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Failure;

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure the limits of this machine: syncs, sequential writes and reads, loopback
    Disk(disk::Options),
    /// Measure how fast records are acknowledged, and after how long
    Produce(produce::Options),
    /// Measure how fast records are read and decoded
    Consume(consume::Options),
    /// Measure how long a record takes alone, and from producer to consumer at a steady rate
    Latency(latency::Options),
    /// The broker of an embedded benchmark
    #[command(hide = true)]
    Serve(serve::Options),
}

/// Runs a benchmark.
pub(crate) async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Disk(options) => disk::run(options, context).await,
        Command::Produce(options) => produce::run(options, context).await,
        Command::Consume(options) => consume::run(options, context).await,
        Command::Latency(options) => latency::run(options, context).await,
        Command::Serve(options) => serve::run(options).await,
    }
}
