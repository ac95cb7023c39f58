//! `highwater profile delete`

use clap::Args;

use super::{Shown, completer};
use crate::confirm::Consent;
use crate::context::Context;
use crate::failure::Failure;
use crate::profile::file;

/// What fails.
const WHAT: &str = "cannot delete the profile";

/// Options of `highwater profile delete`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Names of the profiles
    #[arg(value_name = "NAME", required = true, add = completer())]
    names: Vec<String>,

    #[command(flatten)]
    consent: Consent,
}

/// Deletes the profiles that there are, and reports the others.
pub(super) fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let mut profiles = file::read()?;
    let current = profiles.current.clone();
    let mut deleted: Vec<Shown> = Vec::new();
    for name in &options.names {
        match profiles.get(name, WHAT) {
            Ok(profile) => deleted.push(Shown::new(name, profile, current.as_deref())),
            Err(failure) => context.report(&failure),
        }
        profiles.by_name.remove(name);
        profiles.current = profiles.current.filter(|current| current != name);
    }
    if deleted.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = deleted.iter().map(|shown| shown.profile.as_str()).collect();
    let question = format!("Delete {}?", names.join(", "));
    options.consent.ask(WHAT, &question)?;
    file::write(&profiles)?;
    if current.is_some() && profiles.current.is_none() {
        context.note("no profile is in use any more");
    }
    context.answer(String::new, || &deleted)
}
