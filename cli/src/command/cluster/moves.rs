//! `highwater cluster move` and `highwater cluster moves`

use std::time::Duration;

use clap::Args;
use highwater_client::protocol::{CopyProgress, Move, PlannedMove};
use highwater_client::{Admin, Moves};
use serde::Serialize;

use crate::context::{Context, explain_topic};
use crate::explain::explain;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::quantity::parse_partition;
use crate::table::Table;
use crate::topic_names;

/// Time between two looks at moves that are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Options of `highwater cluster move`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater cluster move flights 3 --to 1,2,4          partition 3 on brokers 1, 2 and 4; 1 is its preferred leader
  highwater cluster move flights 3 --to 4,1,2 --wait   and wait until it is there
How far it is: highwater cluster moves. To undo it: highwater cluster cancel flights 3")]
pub(crate) struct Options {
    /// Name of the topic
    #[arg(value_name = "TOPIC", add = topic_names::completer())]
    topic: String,

    /// Number of the partition
    #[arg(value_name = "PARTITION", value_parser = parse_partition)]
    partition: u32,

    /// The brokers that hold it afterwards, as many as now, with commas between them; the first is its preferred leader
    #[arg(long, value_name = "BROKERS", value_delimiter = ',', required = true)]
    to: Vec<u32>,

    /// Check whether it could be moved so, and move nothing
    #[arg(long)]
    dry_run: bool,

    /// Wait until it is moved
    #[arg(long)]
    wait: bool,
}

/// A move that begins or is undone, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Planned {
    pub(super) topic: String,
    pub(super) partition: u32,
    from: Vec<u32>,
    to: Vec<u32>,
}

impl From<PlannedMove> for Planned {
    fn from(planned: PlannedMove) -> Self {
        Self {
            topic: planned.topic,
            partition: planned.partition,
            from: planned.from_broker_ids,
            to: planned.to_broker_ids,
        }
    }
}

/// Moves a partition.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let Options {
        topic,
        partition,
        to,
        dry_run,
        wait: waits,
    } = options;
    let what = format!("cannot move partition {partition} of topic \"{topic}\"");
    let admin = context.connect(&what).await?.admin();
    let mut moves = Moves::new().partition(&topic, partition, &to);
    if dry_run {
        moves = moves.validate_only();
    }
    let planned = match admin.move_replicas(moves).await {
        Ok(planned) => planned,
        Err(error) => return Err(explain_topic(&admin, what, &topic, &error).await),
    };
    let planned: Vec<_> = planned.into_iter().map(Planned::from).collect();
    if dry_run {
        context.note("dry run: nothing was changed");
    } else if planned.is_empty() {
        context.note("nothing is to be changed: the partition is there already");
    } else if waits {
        wait(&admin, &what, &planned, Planned::is).await?;
    }
    context.answer(|| planned_table(&planned), || &planned)
}

impl Planned {
    /// Whether a move that is under way is this one.
    pub(super) fn is(&self, moving: &Move) -> bool {
        (&self.topic, self.partition) == (&moving.topic, moving.partition)
    }
}

/// Moves that begin or are undone, for people.
pub(super) fn planned_table(planned: &[Planned]) -> String {
    if planned.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["TOPIC", "PARTITION", "FROM", "TO"]);
    for planned in planned {
        table.row([
            &planned.topic,
            &planned.partition,
            &joined(&planned.from),
            &joined(&planned.to),
        ]);
    }
    table.to_string()
}

/// Waits until none of the moves is under way that `is` one of `awaited`.
pub(crate) async fn wait<T>(
    admin: &Admin,
    what: &str,
    awaited: &[T],
    is: impl Fn(&T, &Move) -> bool,
) -> Result<(), Failure> {
    let progress = Progress::open_ended();
    loop {
        let moves = admin.moves(None).await;
        let mut moves = moves.map_err(|error| explain(what, &error))?;
        moves.retain(|moving| awaited.iter().any(|one| is(one, moving)));
        if moves.is_empty() {
            progress.finish();
            return Ok(());
        }
        progress.draw(summary(&moves));
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// How far moves are, in one line.
pub(super) fn summary(moves: &[Move]) -> String {
    let known = moves.iter().filter_map(|moving| moving.progress);
    let (copied, entries) = known.fold((0, 0), |(copied, entries), progress| {
        (copied + progress.entries_copied, entries + progress.entries)
    });
    let partitions = match moves.len() {
        1 => "1 partition".to_owned(),
        count => format!("{count} partitions"),
    };
    format!("{partitions} moving, {copied} of {entries} entries copied")
}

/// A move that is under way, as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Moving {
    topic: String,
    partition: u32,
    from: Vec<u32>,
    to: Vec<u32>,
    adding: Vec<u32>,
    removing: Vec<u32>,
    cancelled: bool,
    entries_copied: Option<u64>,
    entries: Option<u64>,
}

impl From<Move> for Moving {
    fn from(moving: Move) -> Self {
        let progress = moving.progress;
        Self {
            topic: moving.topic,
            partition: moving.partition,
            from: moving.from_broker_ids,
            to: moving.to_broker_ids,
            adding: moving.adding_broker_ids,
            removing: moving.removing_broker_ids,
            cancelled: moving.is_cancelled,
            entries_copied: progress.map(|progress: CopyProgress| progress.entries_copied),
            entries: progress.map(|progress| progress.entries),
        }
    }
}

/// Shows what is under way.
pub(crate) async fn list(context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot list the moves";
    let admin = context.connect(WHAT).await?.admin();
    let moves = admin.moves(None).await;
    let moves = moves.map_err(|error| explain(WHAT, &error))?;
    let moves: Vec<_> = moves.into_iter().map(Moving::from).collect();
    if moves.is_empty() {
        context.note("no partition is being moved");
    }
    context.answer(|| moving_table(&moves), || &moves)
}

/// Moves that are under way, for people.
pub(crate) fn moving_table(moves: &[Moving]) -> String {
    if moves.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        "TOPIC",
        "PARTITION",
        "FROM",
        "TO",
        "ADDING",
        "REMOVING",
        "COPIED",
        "STATE",
    ]);
    for moving in moves {
        let copied = match (moving.entries_copied, moving.entries) {
            (Some(copied), Some(entries)) => format!("{copied}/{entries}"),
            _ => String::new(),
        };
        table.row([
            &moving.topic,
            &moving.partition,
            &joined(&moving.from),
            &joined(&moving.to),
            &joined(&moving.adding),
            &joined(&moving.removing),
            &copied,
            &if moving.cancelled {
                "being undone"
            } else {
                "moving"
            },
        ]);
    }
    table.to_string()
}

/// Numbers of brokers in one cell.
fn joined(brokers: &[u32]) -> String {
    let brokers: Vec<String> = brokers.iter().map(u32::to_string).collect();
    brokers.join(",")
}
