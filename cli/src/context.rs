//! What every command is given: whom to ask, in which form to answer, and where failures are told.

use std::cell::Cell;
use std::io::{self, Write};
use std::pin::pin;
use std::time::Duration;

use highwater_client::protocol::ClusterMetadata;
use highwater_client::{Admin, Client, ClientBuilder, Error, Reason, Tls};
use serde::Serialize;
use tokio::time::timeout;

use crate::arguments::Format;
use crate::exit_status::ExitStatus;
use crate::explain::{explain, explain_connect, unknown_topic};
use crate::failure::Failure;
use crate::profile::Connection;

/// After so long without an answer the user is told what is being waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How long the controller is waited for by who can do without it: time for a second broker where the first is cut off.
const CONTROLLER_PATIENCE: Duration = Duration::from_secs(4);

/// The surroundings of one command.
#[derive(Debug)]
pub(crate) struct Context {
    /// Addresses of brokers, `HOST:PORT`.
    pub(crate) brokers: Vec<String>,
    /// Form of the output.
    pub(crate) format: Format,
    /// How to talk to them; `None`: without TLS.
    tls: Option<Tls>,
    /// The profile that says so, where nothing else does.
    profile: Option<String>,
    status: Cell<ExitStatus>,
}

impl Context {
    /// Surroundings in which nobody can be asked and nothing has failed yet.
    pub(crate) fn new(format: Format) -> Self {
        Self {
            brokers: Vec::new(),
            format,
            tls: None,
            profile: None,
            status: Cell::new(ExitStatus::Success),
        }
    }

    /// Lets brokers be reached by `connection`.
    pub(crate) fn reach(&mut self, connection: Connection) -> Result<(), Failure> {
        self.tls = connection.tls.read()?;
        self.brokers = connection.brokers;
        self.profile = connection.profile;
        Ok(())
    }

    /// A client of the cluster, still to be connected.
    pub(crate) fn client(&self) -> ClientBuilder {
        let client = Client::builder();
        match &self.tls {
            Some(tls) => client.tls(tls.clone()),
            None => client,
        }
    }

    /// Connects to the cluster, in order to do `what`.
    pub(crate) async fn connect(&self, what: &str) -> Result<Client, Failure> {
        let addresses = self.brokers.join(",");
        let mut connecting = pin!(self.client().connect(&addresses));
        let connected = match timeout(PATIENCE, &mut connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                self.note(&format!("waiting for {addresses} to answer"));
                connecting.await
            }
        };
        connected.map_err(|error| {
            let failure = explain_connect(what, &addresses, &error);
            match &self.profile {
                Some(profile) => failure.remedy(format!(
                    "profile \"{profile}\" is in use; for none: --profile ''"
                )),
                None => failure,
            }
        })
    }

    /// Brokers and topics, in order to do `what`: with every change that anybody was told of, or, while nobody leads the
    /// controller, as one broker knows them, which the user is told. A look at a cluster in trouble must not end in an error.
    pub(crate) async fn overview(
        &self,
        admin: &Admin,
        what: &str,
    ) -> Result<ClusterMetadata, Failure> {
        let why = match timeout(CONTROLLER_PATIENCE, admin.linearizable_metadata(&[])).await {
            Ok(Ok(metadata)) => return Ok(metadata),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no controller confirmed in time what the brokers know".to_owned(),
        };
        let known = admin.metadata(&[]).await;
        let known = known.map_err(|error| explain(what, &error))?;
        self.note(&format!(
            "this may be out of date: {why}; shown is what one broker knows by itself"
        ));
        Ok(known)
    }

    /// Tells the user of a failure on stderr; the exit status will not be 0.
    pub(crate) fn report(&self, failure: &Failure) {
        self.end_with(failure.status());
        tell(&format!("{failure}\n"));
    }

    /// Lets the process end with `status`, unless something worse happened or happens.
    pub(crate) fn end_with(&self, status: ExitStatus) {
        self.status.set(self.status.get().max(status));
    }

    /// How the process ends.
    pub(crate) fn status(&self) -> ExitStatus {
        self.status.get()
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
    let known = admin.metadata(&[]).await.unwrap_or_default().topics;
    known.into_iter().map(|topic| topic.name).collect()
}
