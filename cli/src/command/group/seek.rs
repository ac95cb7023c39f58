//! `highwater group seek`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use highwater_client::protocol::CommittedOffset;
use highwater_client::{Admin, Offset};
use jiff::Timestamp;
use serde::Serialize;

use super::offsets_file;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::group_names;
use crate::offset_spec::OffsetSpec;
use crate::positions::{self, Position};
use crate::table::Table;
use crate::text_file;
use crate::topic_names;

/// No file of offsets is longer, in bytes: enough for the JSON of 100,000 partitions.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Options of `highwater group seek`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater group seek billing --to start                    read all again
  highwater group seek billing --to @-1h --dry-run           where the last hour begins
  highwater group seek billing --to=-100 --topics orders     the last 100 records of each partition
  highwater group describe billing --format json > then.json
  highwater group seek billing --to-file then.json           where it was then

A file has a line TOPIC PARTITION OFFSET for each partition, or is the JSON of group describe or seek.

The members of the group must be stopped first.")]
pub(crate) struct Options {
    /// Id of the group
    #[arg(value_name = "GROUP", add = group_names::completer())]
    group: String,

    /// Where to go on in each partition: start, end, N, +N (after the start), -N (before the end) or @TIME
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    #[arg(value_parser = |text: &str| OffsetSpec::parse(text, Timestamp::now()))]
    #[arg(required_unless_present = "to_file", conflicts_with = "to_file")]
    to: Option<OffsetSpec>,

    /// To the offsets in this file, in the partitions that it names; - for stdin
    #[arg(long, value_name = "FILE")]
    to_file: Option<PathBuf>,

    /// Topics, with commas between them [default: those with committed offsets, or those in the file]
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
    let mut plan = match (options.to, &options.to_file) {
        (Some(to), _) => plan(&admin, &what, &options, to, &committed).await?,
        (None, Some(file)) => plan_by_file(&admin, &what, &options, file, context).await?,
        (None, None) => Vec::new(),
    };
    if plan.is_empty() {
        return Err(match &options.to_file {
            Some(_) => Failure::new(what, "none of the topics is in the file"),
            None => Failure::new(what, "the group has no committed offsets")
                .remedy("name the topics: --topics LIST"),
        });
    }
    for sought in &mut plan {
        let place = (sought.topic.clone(), sought.partition);
        sought.from = committed.get(&place).copied();
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
    to: OffsetSpec,
    committed: &BTreeMap<(String, u32), u64>,
) -> Result<Vec<Sought>, Failure> {
    let topics: BTreeSet<&String> = if options.topics.is_empty() {
        committed.keys().map(|(topic, _)| topic).collect()
    } else {
        options.topics.iter().collect()
    };
    let mut plan = Vec::new();
    for topic in topics {
        for position in positions::find(admin, what, topic, &[], to).await? {
            plan.push(Sought {
                topic: topic.clone(),
                partition: position.partition,
                from: None,
                to: position.nearest_held(),
            });
        }
    }
    Ok(plan)
}

/// What is to be set: the partitions that the file names, of the topics if some are named.
async fn plan_by_file(
    admin: &Admin,
    what: &str,
    options: &Options,
    file: &Path,
    context: &Context,
) -> Result<Vec<Sought>, Failure> {
    let file = text_file::read(file, FILE_BYTES_MAX)?;
    let offsets = offsets_file::parse(&file.name, &file.text)?;
    let is_meant = |topic: &String| options.topics.is_empty() || options.topics.contains(topic);
    let mut plan = Vec::new();
    for (topic, offsets) in offsets.into_iter().filter(|(topic, _)| is_meant(topic)) {
        let partitions: Vec<u32> = offsets.keys().copied().collect();
        let found = positions::find(admin, what, &topic, &partitions, OffsetSpec::Start).await?;
        for position in found {
            let Position {
                partition, held, ..
            } = position;
            let wanted = offsets[&partition];
            let to = wanted.clamp(held.start, held.end);
            if to != wanted {
                let (start, end) = (held.start, held.end);
                context.note(&format!(
                    "{topic}/{partition}: {wanted} is not between its start {start} and its end {end}: {to} is the nearest"
                ));
            }
            plan.push(Sought {
                topic: topic.clone(),
                partition,
                from: None,
                to,
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
