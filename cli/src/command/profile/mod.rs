//! `highwater profile`: create, list, use, show, delete.

mod create;
mod delete;
mod list;
mod select;
mod show;

use std::ffi::OsStr;
use std::path::Path;

use clap::Subcommand;
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::profile::{Given, Profile, file};

/// The commands about profiles.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Keep how brokers are reached under a name, and use it from now on
    Create(create::Options),
    /// List profiles
    List,
    /// Use a profile from now on
    Use(select::Options),
    /// Show a profile
    Show(show::Options),
    /// Delete profiles
    Delete(delete::Options),
}

/// Runs a command about profiles.
pub(crate) fn run(command: Command, given: Given, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Create(options) => create::run(options, given.connection, context),
        Command::List => list::run(context),
        Command::Use(options) => select::run(&options, context),
        Command::Show(options) => show::run(options, given.profile.as_deref(), context),
        Command::Delete(options) => delete::run(options, context),
    }
}

/// Completes arguments that name a profile.
pub(crate) fn completer() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let beginning = current.to_string_lossy();
        let profiles = file::read().unwrap_or_default();
        let names = profiles.by_name.into_keys();
        names
            .filter(|name| name.starts_with(&*beginning))
            .map(CompletionCandidate::new)
            .collect()
    })
}

/// A profile, as JSON.
#[derive(Debug, Serialize)]
struct Shown {
    profile: String,
    current: bool,
    brokers: Vec<String>,
    tls: bool,
    tls_ca: Option<String>,
    tls_certificate: Option<String>,
    tls_key: Option<String>,
}

impl Shown {
    fn new(name: &str, profile: &Profile, current: Option<&str>) -> Self {
        let text = |path: &Option<_>| {
            path.as_deref()
                .map(|path: &Path| path.display().to_string())
        };
        Self {
            profile: name.to_owned(),
            current: current == Some(name),
            brokers: profile.brokers.clone(),
            tls: profile.tls || profile.tls_ca.is_some() || profile.tls_certificate.is_some(),
            tls_ca: text(&profile.tls_ca),
            tls_certificate: text(&profile.tls_certificate),
            tls_key: text(&profile.tls_key),
        }
    }
}
