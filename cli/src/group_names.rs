//! Ids of consumer groups as the shell completes them, asked for at the broker while the user types.

use clap_complete::ArgValueCompleter;

use crate::completer;

/// Completes arguments that name a group.
pub(crate) fn completer() -> ArgValueCompleter {
    completer::of(|client| async move {
        let groups = client.admin().list_groups().await?;
        Ok(groups.into_iter().map(|group| group.group_id).collect())
    })
}
