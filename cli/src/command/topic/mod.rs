//! `highwater topic`: create, list, describe, explain, alter, delete, add-partitions, trim.

mod add_partitions;
mod alter;
mod create;
mod delete;
mod describe;
mod explain;
mod list;
mod selection;
mod trim;

use clap::Subcommand;
use highwater_client::TopicId;
use highwater_client::protocol::DescribeTopicResponse;

use crate::context::Context;
use crate::failure::Failure;

/// The commands about topics.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create topics
    Create(create::Options),
    /// List topics
    List(list::Options),
    /// Show topics with their configuration, offsets and sizes
    Describe(describe::Options),
    /// Say of each partition of topics why it does or does not take records
    Explain(explain::Options),
    /// Change the configuration of a topic
    Alter(alter::Options),
    /// Delete topics and all their records
    Delete(delete::Options),
    /// Give a topic more partitions
    AddPartitions(add_partitions::Options),
    /// Delete the oldest records of a topic
    Trim(trim::Options),
}

/// Runs a command about topics.
pub(crate) async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Create(options) => create::run(options, context).await,
        Command::List(options) => list::run(options, context).await,
        Command::Describe(options) => describe::run(options, context).await,
        Command::Explain(options) => explain::run(options, context).await,
        Command::Alter(options) => alter::run(options, context).await,
        Command::Delete(options) => delete::run(options, context).await,
        Command::AddPartitions(options) => add_partitions::run(options, context).await,
        Command::Trim(options) => trim::run(options, context).await,
    }
}

/// A topic's id as text; nothing where it is none.
fn id_text(bytes: &[u8]) -> String {
    TopicId::from_slice(bytes)
        .map(|id| id.to_string())
        .unwrap_or_default()
}

/// Number of records that the partitions hold together.
pub(crate) fn held_records(topic: &DescribeTopicResponse) -> u64 {
    topic
        .partitions
        .iter()
        .map(|partition| {
            partition
                .high_watermark
                .saturating_sub(partition.log_start_offset)
        })
        .sum()
}
