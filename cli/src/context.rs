//! What every command is given: whom to ask, in which form to answer, and where failures are told.

use std::cell::Cell;
use std::io::{self, Write};

use highwater_client::{Admin, Client, Error, Reason};
use serde::Serialize;

use crate::arguments::Format;
use crate::explain::{explain, unknown_topic};
use crate::failure::Failure;

/// The surroundings of one command.
#[derive(Debug)]
pub(crate) struct Context {
    /// Addresses of brokers, `HOST:PORT`.
    pub(crate) brokers: Vec<String>,
    /// Form of the output.
    pub(crate) format: Format,
    has_failed: Cell<bool>,
}

impl Context {
    /// Surroundings in which nothing has failed yet.
    pub(crate) fn new(brokers: Vec<String>, format: Format) -> Self {
        Self {
            brokers,
            format,
            has_failed: Cell::new(false),
        }
    }

    /// Connects to the cluster, in order to do `what`.
    pub(crate) async fn connect(&self, what: &str) -> Result<Client, Failure> {
        Client::connect(&self.brokers.join(","))
            .await
            .map_err(|error| explain(what, &error))
    }

    /// Tells the user of a failure on stderr; the exit status will not be 0.
    pub(crate) fn report(&self, failure: &Failure) {
        self.has_failed.set(true);
        tell(&format!("{failure}\n"));
    }

    /// Whether a failure was reported.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    /// Tells the user something that is no failure, on stderr.
    pub(crate) fn note(&self, note: &str) {
        tell(&format!("{note}\n"));
    }

    /// Prints an answer to stdout: `text` for people, `json` for programs.
    pub(crate) fn answer<J: Serialize>(
        &self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> J,
    ) -> Result<(), Failure> {
        let output = match self.format {
            Format::Text => text(),
            Format::Json => {
                let mut output = serde_json::to_string_pretty(&json())
                    .map_err(|error| Failure::new("cannot print the answer as JSON", error))?;
                output.push('\n');
                output
            }
        };
        print(&output)
    }
}

/// Writes to stderr. Where that fails there is nobody left to tell.
pub(crate) fn tell(text: &str) {
    let _nobody_reads = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes to stdout. A reader that has gone away is no failure: it has what it wanted.
pub(crate) fn print(output: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(output.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new("cannot write to stdout", error))
        }
        _ => Ok(()),
    }
}

/// The failure to do `what` with the topic `name`: where there is no such topic, with names that are near.
pub(crate) async fn explain_topic(
    admin: &Admin,
    what: impl Into<String>,
    name: &str,
    error: &Error,
) -> Failure {
    if error.reason() != Reason::UnknownTopicOrPartition {
        return explain(what, error);
    }
    match known_topics(admin).await {
        // It is a partition that is missing.
        known if known.iter().any(|known| known == name) => explain(what, error),
        known => unknown_topic(what, name, known.iter().map(String::as_str)),
    }
}

/// The failure to do `what` because there is no topic `name`, with names that are near.
pub(crate) async fn no_such_topic(admin: &Admin, what: impl Into<String>, name: &str) -> Failure {
    let known = known_topics(admin).await;
    unknown_topic(what, name, known.iter().map(String::as_str))
}

/// The names of all topics; none where they cannot be had, since the failure at hand is worth telling without them.
async fn known_topics(admin: &Admin) -> Vec<String> {
    let known = admin.list_topics().await.unwrap_or_default();
    known.into_iter().map(|topic| topic.name).collect()
}
