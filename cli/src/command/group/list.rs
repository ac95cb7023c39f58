//! `highwater group list`

use highwater_client::protocol::ListedGroup;
use serde::Serialize;

use super::state_text;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::table::Table;

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

/// Lists all groups.
pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot list groups";
    let admin = context.connect(WHAT).await?.admin();
    let groups = admin
        .list_groups()
        .await
        .map_err(|error| explain(WHAT, &error))?;
    let listed: Vec<Listed> = groups.into_iter().map(Listed::from).collect();
    context.answer(|| text(&listed), || &listed)
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
