//! `highwater group seek`

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use highwater_client::protocol::CommittedOffset;
use highwater_client::{Admin, Offset};
use jiff::Timestamp;
use serde::Serialize;

use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::offset_spec::OffsetSpec;
use crate::positions;
use crate::table::Table;
use crate::topic_names;

/// Options of `highwater group seek`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater group seek billing --to start                    read all again
  highwater group seek billing --to @-1h --dry-run           where the last hour begins
  highwater group seek billing --to=-100 --topics orders     the last 100 records of each partition

The members of the group must be stopped first.")]
pub(crate) struct Options {
    /// Id of the group
    #[arg(value_name = "GROUP")]
    group: String,

    /// Where to go on in each partition: start, end, N, +N (after the start), -N (before the end) or @TIME
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    #[arg(value_parser = |text: &str| OffsetSpec::parse(text, Timestamp::now()))]
    to: OffsetSpec,

    /// Topics, with commas between them [default: those with committed offsets]
    #[arg(long, value_name = "LIST", value_delimiter = ',', add = topic_names::completer())]
    topics: Vec<String>,

    /// Show what would be set, and set nothing
    #[arg(long)]
    dry_run: bool,
}

/// A committed offset that is set, as JSON.
#[derive(Debug, Serialize)]
struct Sought {
    topic: String,
    partition: u32,
    from: Option<u64>,
    to: u64,
}

/// Sets committed offsets of the group.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let what = format!("cannot seek group \"{}\"", options.group);
    let admin = context.connect(&what).await?.admin();
    let committed = admin.group_offsets(&options.group).await;
    let committed = by_place(committed.map_err(|error| explain(&what, &error))?);
    let plan = plan(&admin, &what, &options, &committed).await?;
    if plan.is_empty() {
        return Err(Failure::new(what, "the group has no committed offsets")
            .remedy("name the topics: --topics LIST"));
    }
    if options.dry_run {
        context.note("dry run: nothing was changed");
        return context.answer(|| text(&plan), || &plan);
    }
    let offsets: Vec<_> = plan
        .iter()
        .map(|sought| (sought.topic.clone(), sought.partition, Offset(sought.to)))
        .collect();
    let set = admin.set_group_offsets(&options.group, &offsets).await;
    set.map_err(|error| explain(&what, &error))?;
    context.answer(|| text(&plan), || &plan)
}

fn by_place(offsets: Vec<CommittedOffset>) -> BTreeMap<(String, u32), u64> {
    let place = |offset: CommittedOffset| {
        let named = offset.partition.filter(|named| !named.topic.is_empty())?;
        Some(((named.topic, named.partition), offset.offset?))
    };
    offsets.into_iter().filter_map(place).collect()
}

/// What is to be set: all partitions of the topics.
async fn plan(
    admin: &Admin,
    what: &str,
    options: &Options,
    committed: &BTreeMap<(String, u32), u64>,
) -> Result<Vec<Sought>, Failure> {
    let topics: BTreeSet<&String> = if options.topics.is_empty() {
        committed.keys().map(|(topic, _)| topic).collect()
    } else {
        options.topics.iter().collect()
    };
    let mut plan = Vec::new();
    for topic in topics {
        for position in positions::find(admin, what, topic, &[], options.to).await? {
            plan.push(Sought {
                topic: topic.clone(),
                partition: position.partition,
                from: committed.get(&(topic.clone(), position.partition)).copied(),
                to: position.nearest_held(),
            });
        }
    }
    Ok(plan)
}

fn text(plan: &[Sought]) -> String {
    let mut table = Table::new(["TOPIC", "PARTITION", "FROM", "TO"]);
    for sought in plan {
        let from = sought.from.map_or("-".to_owned(), |from| from.to_string());
        table.row([&sought.topic, &sought.partition, &from, &sought.to]);
    }
    table.to_string()
}
