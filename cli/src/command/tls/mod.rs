//! `highwater tls`: certificates.

mod dev_ca;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Failure;

/// What can be done about certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an authority for development, and certificates for brokers and a client
    DevCa(dev_ca::Options),
}

/// Does it.
pub(crate) fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::DevCa(options) => dev_ca::run(&options, context),
    }
}
