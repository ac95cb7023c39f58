//! `highwater cluster`: info, health, brokers, move, moves, cancel, transfer-leader, decommission, replace.

mod brokers;
mod cancel;
mod decommission;
mod health;
mod info;
pub(crate) mod moves;
mod recover;
mod replace;
mod transfer_leader;

use clap::Subcommand;
use highwater_client::protocol::{Broker, ClusterMetadata, DescribeClusterResponse};

use crate::context::Context;
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
    /// Give a partition its replicas on other brokers
    Move(moves::Options),
    /// Show the changes of replicas that are under way
    Moves,
    /// Undo changes of replicas that are under way, or the decommissioning of a broker
    Cancel(cancel::Options),
    /// Have another broker lead a partition
    TransferLeader(transfer_leader::Options),
    /// Move everything off a broker and remove it
    Decommission(decommission::Options),
    /// Let a broker with an empty disk take the place of one whose disk is lost
    Replace(replace::Options),
    /// Let partitions begin again whose majority of replicas is gone for good: loses what only those held
    Recover(recover::Options),
}

/// Runs a command about the cluster.
pub(crate) async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Info => info::run(context).await,
        Command::Health => health::run(context).await,
        Command::Brokers => brokers::run(context).await,
        Command::Move(options) => moves::run(options, context).await,
        Command::Moves => moves::list(context).await,
        Command::Cancel(options) => cancel::run(options, context).await,
        Command::TransferLeader(options) => transfer_leader::run(options, context).await,
        Command::Decommission(options) => decommission::run(options, context).await,
        Command::Replace(options) => replace::run(options, context).await,
        Command::Recover(options) => recover::run(options, context).await,
    }
}

/// The cluster, as all of its brokers together describe it.
struct Cluster {
    /// As it is, or as one broker sees it while nobody leads the controller.
    metadata: ClusterMetadata,
    /// What each says of itself, or why it says nothing.
    brokers: Vec<(Broker, Result<DescribeClusterResponse, String>)>,
}

impl Cluster {
    /// Asks each broker, in order to do `what`.
    async fn describe(context: &Context, what: &str) -> Result<Self, Failure> {
        let admin = context.connect(what).await?.admin();
        let metadata = context.overview(&admin, what).await?;
        let brokers = admin.describe_brokers(metadata.brokers.clone()).await;
        Ok(Self {
            metadata,
            brokers: brokers
                .into_iter()
                .map(|(broker, described)| (broker, described.map_err(|error| error.to_string())))
                .collect(),
        })
    }

    /// What the brokers say that say something.
    fn answers(&self) -> impl Iterator<Item = &DescribeClusterResponse> {
        self.brokers
            .iter()
            .filter_map(|(_, described)| described.as_ref().ok())
    }
}
