//! `highwater group`: list, describe, explain, seek, offset-delete, delete.

mod delete;
mod describe;
mod explain;
mod list;
mod offset_delete;
mod offsets_file;
mod seek;
mod selection;

use clap::Subcommand;
use highwater_client::protocol::GroupState;

use crate::context::Context;
use crate::failure::Failure;

/// The commands about consumer groups.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List consumer groups
    List(list::Options),
    /// Show groups with their members, committed offsets and lag
    Describe(describe::Options),
    /// Say of each partition of a group why it does or does not move
    Explain(explain::Options),
    /// Set where a group without members goes on
    Seek(seek::Options),
    /// Forget committed offsets of a topic
    OffsetDelete(offset_delete::Options),
    /// Delete groups without members, with their committed offsets
    Delete(delete::Options),
}

/// Runs a command about groups.
pub(crate) async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::List(options) => list::run(options, context).await,
        Command::Describe(options) => describe::run(options, context).await,
        Command::Explain(options) => explain::run(options, context).await,
        Command::Seek(options) => seek::run(options, context).await,
        Command::OffsetDelete(options) => offset_delete::run(options, context).await,
        Command::Delete(options) => delete::run(options, context).await,
    }
}

/// Where a group stands, in a word.
pub(crate) fn state_text(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "empty",
        GroupState::Reconciling => "reconciling",
        GroupState::Stable => "stable",
        GroupState::Unspecified => "unknown",
    }
}
