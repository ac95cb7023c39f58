//! `highwater group list`

use clap::Args;
use highwater_client::protocol::ListedGroup;
use serde::Serialize;

use super::selection::OptionalSelection;
use super::state_text;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::near_names::near_names;
use crate::table::Table;

/// Options of `highwater group list`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: OptionalSelection,
}

/// A group, as JSON.
#[derive(Debug, Serialize)]
struct Listed {
    group: String,
    state: &'static str,
    members: u32,
    committed_partitions: u32,
}

impl From<ListedGroup> for Listed {
    fn from(group: ListedGroup) -> Self {
        Self {
            state: state_text(group.state()),
            group: group.group_id,
            members: group.members,
            committed_partitions: group.committed_partitions,
        }
    }
}

/// Lists all groups, or the selected ones.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot list groups";
    let admin = context.connect(WHAT).await?.admin();
    let groups = admin.list_groups().await;
    let mut groups = groups.map_err(|error| explain(WHAT, &error))?;
    if let Some(selection) = options.selection.into_selection() {
        let known: Vec<&str> = groups.iter().map(|group| group.group_id.as_str()).collect();
        for id in selection.unknown(&known) {
            context.report(&unknown_group(id, &known));
        }
        let selected = selection.select(known)?;
        let selected: Vec<String> = selected.into_iter().map(str::to_owned).collect();
        groups.retain(|group| selected.contains(&group.group_id));
    }
    let listed: Vec<Listed> = groups.into_iter().map(Listed::from).collect();
    context.answer(|| text(&listed), || &listed)
}

fn unknown_group(id: &str, known: &[&str]) -> Failure {
    let failure = Failure::new(
        format!("cannot list group \"{id}\""),
        "there is no such group",
    );
    let near = near_names(id, known.iter().copied());
    if near.is_empty() {
        failure
    } else {
        failure.remedy(format!("did you mean {}?", near.join(" or ")))
    }
}

fn text(listed: &[Listed]) -> String {
    let mut table = Table::new(["GROUP", "STATE", "MEMBERS", "COMMITTED"]);
    for group in listed {
        table.row([
            &group.group,
            &group.state,
            &group.members,
            &group.committed_partitions,
        ]);
    }
    table.to_string()
}
