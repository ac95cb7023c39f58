//! `highwater cluster`: info, health, brokers.

mod brokers;
mod health;
mod info;

use clap::Subcommand;
use highwater_client::protocol::DescribeClusterResponse;

use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;

/// The commands about the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the cluster is and holds
    Info,
    /// Show what needs attention; the exit status is 1 when something does not work
    Health,
    /// List the brokers
    Brokers,
}

/// Runs a command about the cluster.
pub(crate) async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Info => info::run(context).await,
        Command::Health => health::run(context).await,
        Command::Brokers => brokers::run(context).await,
    }
}

/// Asks a broker about the cluster, in order to do `what`.
async fn describe(context: &Context, what: &str) -> Result<DescribeClusterResponse, Failure> {
    let admin = context.connect(what).await?.admin();
    admin
        .describe_cluster()
        .await
        .map_err(|error| explain(what, &error))
}
