//! `highwater topic add-partitions`

use clap::Args;
use highwater_client::Admin;
use serde::Serialize;

use super::selection::Selection;
use crate::context::{Context, explain_topic};
use crate::explain::explain;
use crate::failure::Failure;
use crate::quantity::PartitionCount;
use crate::table::Table;

/// Options of `highwater topic add-partitions`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,

    /// Number of partitions of each topic: 12 for 12 in total, +4 for 4 more than now
    #[arg(short, long, value_name = "COUNT")]
    partitions: PartitionCount,

    /// Check whether the partitions could be added, and add none
    #[arg(long)]
    dry_run: bool,
}

/// An extended topic, as JSON.
#[derive(Debug, Serialize)]
struct Extended {
    topic: String,
    from: u32,
    to: u32,
}

/// Adds the partitions to each topic.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot add partitions to topics";
    let admin = context.connect(WHAT).await?.admin();
    let mut extended = Vec::new();
    for name in options.selection.names(&admin).await? {
        match extend(&admin, &name, &options).await {
            Ok(topic) => extended.push(topic),
            Err(failure) => context.report(&failure),
        }
    }
    if options.dry_run {
        context.note("dry run: nothing was changed");
    } else if !extended.is_empty() {
        context.note(
            "keys are spread anew from now on: older records of a key may lie in another partition than newer ones",
        );
    }
    context.answer(|| text(&extended), || &extended)
}

async fn extend(admin: &Admin, name: &str, options: &Options) -> Result<Extended, Failure> {
    let what = format!("cannot add partitions to topic \"{name}\"");
    let topic = match admin.describe_topic(name).await {
        Ok(topic) => topic,
        Err(error) => return Err(explain_topic(admin, what, name, &error).await),
    };
    let from = u32::try_from(topic.partitions.len())
        .map_err(|_| Failure::new(&what, "it has more partitions than can be counted"))?;
    let to = options
        .partitions
        .total(from)
        .ok_or_else(|| Failure::new(&what, "that is more than there can be"))?;
    let added = if options.dry_run {
        admin.validate_partitions(name, to).await
    } else {
        admin.add_partitions(name, to).await
    };
    match added {
        Ok(()) => Ok(Extended {
            topic: topic.name,
            from,
            to,
        }),
        Err(error) => Err(explain(what, &error)),
    }
}

fn text(extended: &[Extended]) -> String {
    if extended.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["TOPIC", "FROM", "TO"]);
    for topic in extended {
        table.row([&topic.topic, &topic.from, &topic.to]);
    }
    table.to_string()
}
