//! What can be written on the command line.

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::broker_address;
use crate::command::declared::{apply, diff};
use crate::command::{
    bench, cluster, completion, consume, dev, group, man, produce, profile, tls, top, topic,
};
use crate::tls_options::TlsOptions;

/// Highwater: an event broker that keeps what it acknowledges.
#[derive(Debug, Parser)]
#[command(name = "highwater", version, max_term_width = 110)]
#[command(disable_help_flag = true, infer_subcommands = false)]
pub(crate) struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Whom to ask where nothing else is said.
pub(crate) const DEFAULT_BROKERS: &str = "127.0.0.1:7410";

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Brokers to ask first, any of the cluster; several with commas between them [default: those of the profile, or
    /// 127.0.0.1:7410]
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "HIGHWATER_BROKERS",
        value_delimiter = ',',
        value_parser = broker_address::parse
    )]
    pub(crate) brokers: Vec<String>,

    /// Profile that says how brokers are reached, where nothing else does; '' for none [default: the one in use]
    #[arg(long, global = true, value_name = "NAME", env = "HIGHWATER_PROFILE", add = profile::completer())]
    pub(crate) profile: Option<String>,

    /// Form of the output: tables and text for people, JSON for programs
    #[arg(long, global = true, value_name = "FORM", default_value = "text")]
    pub(crate) format: Format,

    /// What is logged to stderr: error, warn, info, debug, trace, or a filter such as highwater_client=debug
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "HIGHWATER_LOG",
        default_value = "error"
    )]
    pub(crate) log: String,

    /// With TLS or without.
    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    /// Print help
    // One form of it, the compact one, for `-h` and `--help` alike.
    #[arg(short, long, global = true, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs; docs/cli.md gives the shapes.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a broker on this machine, to try things and to develop against
    Dev(dev::Options),
    /// Create, list, describe, alter, delete, extend and trim topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// Show what topics differ from what files say
    Diff(diff::Options),
    /// Make topics what files say
    Apply(apply::Options),
    /// Send records: the lines of stdin or of a file
    Produce(produce::Options),
    /// Print records
    Consume(consume::Options),
    /// List, describe, seek and delete consumer groups
    #[command(subcommand)]
    Group(group::Command),
    /// Show the cluster, its health and its brokers
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Watch throughput, lag and leaders
    Top(top::Options),
    /// Keep how clusters are reached under names
    #[command(subcommand)]
    Profile(profile::Command),
    /// Make certificates for development
    #[command(subcommand)]
    Tls(tls::Command),
    /// Print a script that completes commands, options and topics in the shell
    Completion(completion::Options),
    /// Print the manual page, or write those of all commands
    Man(man::Options),
    /// Measure this machine, and what a broker makes of it
    #[command(subcommand)]
    Bench(bench::Command),
}

impl Command {
    /// Whether it talks to brokers that are there already.
    pub(crate) fn needs_brokers(&self) -> bool {
        !matches!(
            self,
            Self::Dev(_) | Self::Profile(_) | Self::Tls(_) | Self::Completion(_) | Self::Man(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_arguments_holds_together() {
        Arguments::command().debug_assert();
    }
}
