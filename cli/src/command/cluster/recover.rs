//! `highwater cluster recover`

use clap::Args;
use highwater_client::{Admin, LostPartition};
use serde::Serialize;

use crate::confirm::Consent;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::quantity::counted;
use crate::table::Table;

/// What fails, when all of it does.
const WHAT: &str = "cannot recover partitions";

/// Options of `highwater cluster recover`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only partitions of these topics
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,

    /// Show what would be lost, and change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    consent: Consent,
}

/// A partition, as JSON.
#[derive(Debug, Serialize)]
struct Row {
    topic: String,
    partition: u32,
    replicas: Vec<u32>,
    lost: Vec<u32>,
    /// The broker whose replica it begins again with; null where nothing is left.
    survivor: Option<u32>,
    /// What the survivor holds; records acknowledged from `log_end_offset` on are lost.
    log_start_offset: Option<u64>,
    log_end_offset: Option<u64>,
    high_watermark: Option<u64>,
}

impl Row {
    fn of(lost: &LostPartition) -> Self {
        let survivor = lost.survivor.as_ref();
        Self {
            topic: lost.topic.clone(),
            partition: lost.partition,
            replicas: lost.replicas.clone(),
            lost: lost.lost.clone(),
            survivor: survivor.map(|at| at.broker),
            log_start_offset: survivor.map(|at| at.log_start_offset),
            log_end_offset: survivor.map(|at| at.log_end_offset),
            high_watermark: survivor.map(|at| at.high_watermark),
        }
    }
}

/// Shows what would be lost, asks, and lets the partitions begin again, each for itself.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect(WHAT).await?.admin();
    let lost = admin.lost_partitions(&options.topics).await;
    let lost = lost.map_err(|error| explain(WHAT, &error))?;
    if lost.is_empty() {
        context.note("every partition has a leader, or enough replicas to elect one");
    }
    if options.dry_run || lost.is_empty() {
        return answer(&lost, context);
    }
    let (mendable, hopeless): (Vec<_>, Vec<_>) =
        lost.into_iter().partition(|lost| lost.survivor.is_some());
    for partition in &hopeless {
        context.report(&nothing_left(partition));
    }
    if !mendable.is_empty() {
        context.note(&table(&mendable));
        options.consent.insist(WHAT, &question(&mendable))?;
    }
    let recovered = recover(&admin, mendable, context).await;
    answer(&recovered, context)
}

async fn recover(admin: &Admin, lost: Vec<LostPartition>, context: &Context) -> Vec<LostPartition> {
    let mut recovered = Vec::new();
    for partition in lost {
        match admin.recover_partition(&partition).await {
            Ok(()) => recovered.push(partition),
            Err(error) => {
                let (topic, index) = (&partition.topic, partition.partition);
                let what = format!("cannot recover partition {index} of topic \"{topic}\"");
                context.report(&explain(&what, &error));
            }
        }
    }
    recovered
}

fn answer(lost: &[LostPartition], context: &Context) -> Result<(), Failure> {
    let rows: Vec<Row> = lost.iter().map(Row::of).collect();
    context.answer(|| table(lost), || &rows)
}

fn nothing_left(lost: &LostPartition) -> Failure {
    let what = format!(
        "cannot recover partition {} of topic \"{}\"",
        lost.partition, lost.topic
    );
    let brokers = numbers(&lost.replicas);
    Failure::new(
        what,
        format!("none of its replicas is left (brokers {brokers})"),
    )
    .remedy("start one of these brokers with its data directory; or delete the topic")
}

fn question(lost: &[LostPartition]) -> String {
    format!(
        "Whatever was acknowledged behind the log ends above is lost for good, and the brokers listed as lost must never come \
         back with what they hold. Let {} begin again?",
        counted(lost.len() as u64, "partition")
    )
}

fn table(lost: &[LostPartition]) -> String {
    if lost.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        "TOPIC",
        "PARTITION",
        "REPLICAS",
        "LOST",
        "BEGINS WITH",
        "HOLDS",
        "LOST FROM OFFSET",
    ]);
    for partition in lost {
        let survivor = partition.survivor.as_ref();
        table.row([
            &partition.topic as &dyn std::fmt::Display,
            &partition.partition,
            &numbers(&partition.replicas),
            &numbers(&partition.lost),
            &survivor.map_or("nothing".to_owned(), |at| format!("broker {}", at.broker)),
            &survivor.map_or(String::new(), |at| {
                format!("{}..{}", at.log_start_offset, at.log_end_offset)
            }),
            &survivor.map_or("0".to_owned(), |at| at.log_end_offset.to_string()),
        ]);
    }
    table.to_string()
}

fn numbers(brokers: &[u32]) -> String {
    let brokers: Vec<String> = brokers.iter().map(u32::to_string).collect();
    brokers.join(",")
}
