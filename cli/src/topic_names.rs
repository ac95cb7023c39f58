//! Names of topics as the shell completes them, asked for at the broker while the user types.

use clap_complete::ArgValueCompleter;

use crate::completer;

/// Completes arguments that name a topic.
pub(crate) fn completer() -> ArgValueCompleter {
    completer::of(|client| async move {
        let topics = client.admin().metadata(&[]).await?.topics;
        Ok(topics.into_iter().map(|topic| topic.name).collect())
    })
}
