//! `highwater profile`: create, list, use, show, change, delete.

mod check;
mod clear;
mod create;
mod current;
mod delete;
mod edit;
mod list;
mod rename;
mod select;
mod set;
mod show;

use std::ffi::OsStr;
use std::path::Path;

use clap::Subcommand;
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::profile::{Given, Profile, Profiles, file};

/// The commands about profiles.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Keep how brokers are reached under a name, and use it from now on
    Create(create::Options),
    /// List profiles
    List,
    /// Use a profile from now on
    Use(select::Options),
    /// Use no profile from now on
    Clear,
    /// Print the name of the profile in use
    Current,
    /// Show a profile, or one value of it
    Show(show::Options),
    /// Change values of a profile
    Set(set::Options),
    /// Change a profile in an editor
    Edit(edit::Options),
    /// Give a profile another name
    Rename(rename::Options),
    /// Delete profiles
    Delete(delete::Options),
}

/// Runs a command about profiles.
pub(crate) fn run(command: Command, given: Given, context: &Context) -> Result<(), Failure> {
    let named = given.profile.as_deref();
    match command {
        Command::Create(options) => create::run(options, given.connection, context),
        Command::List => list::run(context),
        Command::Use(options) => select::run(&options, context),
        Command::Clear => clear::run(context),
        Command::Current => current::run(named, context),
        Command::Show(options) => show::run(&options, named, context),
        Command::Set(options) => set::run(&options, named, context),
        Command::Edit(options) => edit::run(options, named, context),
        Command::Rename(options) => rename::run(options, context),
        Command::Delete(options) => delete::run(options, context),
    }
}

/// The name of the profile that a command is about: the one that it names, or else the one that is `named` for every command, or
/// the one in use. In order to do `what`.
fn which(
    profiles: &Profiles,
    name: Option<&str>,
    named: Option<&str>,
    what: &str,
) -> Result<String, Failure> {
    let named = named.filter(|name| !name.is_empty());
    let name = name.or(named).or(profiles.current.as_deref());
    name.map(str::to_owned).ok_or_else(|| {
        Failure::new(what, "none is in use")
            .remedy("name one: --profile NAME; see: highwater profile list")
    })
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
            tls: profile.uses_tls(),
            tls_ca: text(&profile.tls_ca),
            tls_certificate: text(&profile.tls_certificate),
            tls_key: text(&profile.tls_key),
        }
    }
}
