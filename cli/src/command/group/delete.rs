//! `highwater group delete`

use clap::Args;
use highwater_client::Admin;
use serde::Serialize;

use super::selection::Selection;
use crate::confirm::Consent;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::quantity::counted;
use crate::table::Table;

/// What fails, when all of it does.
const WHAT: &str = "cannot delete groups";

/// Options of `highwater group delete`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,

    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    consent: Consent,
}

/// A deleted group, as JSON.
#[derive(Debug, Serialize)]
struct Deleted {
    group: String,
    committed_partitions: usize,
}

/// Deletes the groups, each for itself.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect(WHAT).await?.admin();
    let mut doomed = Vec::new();
    for group in options.selection.names(&admin).await? {
        match look_up(&admin, &group).await {
            Ok(found) => doomed.push(found),
            Err(error) => {
                context.report(&explain(format!("cannot delete group \"{group}\""), &error))
            }
        }
    }
    if options.dry_run {
        context.note("dry run: nothing was deleted");
        return context.answer(|| text(&doomed), || &doomed);
    }
    if !doomed.is_empty() {
        let offsets: usize = doomed.iter().map(|group| group.committed_partitions).sum();
        let (groups, offsets) = (
            counted(doomed.len() as u64, "group"),
            counted(offsets as u64, "committed offset"),
        );
        options
            .consent
            .ask(WHAT, &format!("Delete {groups} with {offsets}?"))?;
    }
    let mut deleted = Vec::new();
    for group in doomed {
        match admin.delete_group(&group.group).await {
            Ok(()) => deleted.push(group),
            Err(error) => {
                context.report(&explain(
                    format!("cannot delete group \"{}\"", group.group),
                    &error,
                ));
            }
        }
    }
    context.answer(|| text(&deleted), || &deleted)
}

async fn look_up(admin: &Admin, group: &str) -> Result<Deleted, highwater_client::Error> {
    admin.describe_group(group).await?;
    Ok(Deleted {
        committed_partitions: admin.group_offsets(group).await?.len(),
        group: group.to_owned(),
    })
}

fn text(deleted: &[Deleted]) -> String {
    if deleted.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["GROUP", "COMMITTED"]);
    for group in deleted {
        table.row([&group.group, &group.committed_partitions]);
    }
    table.to_string()
}
