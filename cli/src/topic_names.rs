//! Names of topics as the shell completes them, asked for at the broker while the user types.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::{ArgValueCompleter, CompletionCandidate};
use highwater_client::{Client, Error};

use crate::arguments::DEFAULT_BROKERS;

/// A completion that takes longer is worth less than none: the shell stands still for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Completes arguments that name a topic.
pub(crate) fn completer() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let beginning = current.to_string_lossy();
        known()
            .into_iter()
            .filter(|name| name.starts_with(&*beginning))
            .map(CompletionCandidate::new)
            .collect()
    })
}

/// The names of all topics; none where no broker gives them in time.
fn known() -> Vec<String> {
    let addresses = addresses(std::env::args(), std::env::var("HIGHWATER_BROKERS").ok());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    runtime.block_on(async {
        let asked = tokio::time::timeout(PATIENCE, ask(&addresses)).await;
        asked.ok().and_then(Result::ok).unwrap_or_default()
    })
}

async fn ask(addresses: &str) -> Result<Vec<String>, Error> {
    let topics = Client::connect(addresses)
        .await?
        .admin()
        .list_topics()
        .await?;
    Ok(topics.into_iter().map(|topic| topic.name).collect())
}

/// The brokers that the command line so far names, or else those of the environment, or the default.
fn addresses(arguments: impl Iterator<Item = String>, environment: Option<String>) -> String {
    let mut arguments = arguments;
    let mut named = None;
    while let Some(argument) = arguments.next() {
        if argument == "--brokers" {
            named = arguments.next();
        } else if let Some(value) = argument.strip_prefix("--brokers=") {
            named = Some(value.to_owned());
        }
    }
    named
        .or(environment)
        .unwrap_or_else(|| DEFAULT_BROKERS.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str, environment: Option<&str>) -> String {
        let arguments = line.split(' ').map(str::to_owned);
        addresses(arguments, environment.map(str::to_owned))
    }

    #[test]
    fn the_brokers_of_the_command_line_come_first() {
        assert_eq!(asked("-- highwater consume", None), DEFAULT_BROKERS);
        assert_eq!(asked("-- highwater consume", Some("e:1")), "e:1");
        for line in [
            "-- highwater --brokers a:1 consume",
            "-- highwater consume --brokers=a:1",
        ] {
            assert_eq!(asked(line, Some("e:1")), "a:1");
        }
    }
}
