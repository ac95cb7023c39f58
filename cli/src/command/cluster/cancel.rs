//! `highwater cluster cancel`

use clap::Args;

use super::moves::{Planned, planned_table, wait};
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::quantity::parse_partition;
use crate::topic_names;

/// Options of `highwater cluster cancel`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater cluster cancel flights 3      partition 3 stays where it is
  highwater cluster cancel flights        every partition of the topic does
  highwater cluster cancel --all          every partition does
  highwater cluster cancel --broker 2     broker 2 is not decommissioned
A move that is as good as made is finished.")]
pub(crate) struct Options {
    /// Name of the topic
    #[arg(value_name = "TOPIC", add = topic_names::completer())]
    #[arg(required_unless_present_any = ["all", "broker"], conflicts_with_all = ["all", "broker"])]
    topic: Option<String>,

    /// Number of the partition [default: all of the topic]
    #[arg(value_name = "PARTITION", value_parser = parse_partition)]
    partition: Option<u32>,

    /// Undo every move that is under way
    #[arg(long, conflicts_with = "broker")]
    all: bool,

    /// Let a broker stay that is being decommissioned
    #[arg(long, value_name = "BROKER")]
    broker: Option<u32>,

    /// Wait until it is undone
    #[arg(long)]
    wait: bool,
}

/// Undoes moves.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot cancel";
    let admin = context.connect(WHAT).await?.admin();
    let undone = match options.broker {
        Some(broker) => admin.cancel_decommission(broker).await,
        None => {
            let topic = options.topic.as_deref();
            admin.cancel_moves(topic, options.partition).await
        }
    };
    let undone = undone.map_err(|error| explain(WHAT, &error))?;
    let undone: Vec<_> = undone.into_iter().map(Planned::from).collect();
    if options.wait {
        wait(&admin, WHAT, &undone, Planned::is).await?;
    }
    context.answer(|| planned_table(&undone), || &undone)
}
