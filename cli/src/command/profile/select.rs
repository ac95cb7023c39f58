//! `highwater profile use`

use clap::Args;

use super::{Shown, completer};
use crate::context::Context;
use crate::failure::Failure;
use crate::profile::file;

/// Options of `highwater profile use`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the profile
    #[arg(value_name = "NAME", add = completer())]
    name: String,
}

/// Lets a profile be the one in use.
pub(super) fn run(options: &Options, context: &Context) -> Result<(), Failure> {
    let name = &options.name;
    let mut profiles = file::read()?;
    let profile = profiles.get(name, "cannot change the profile")?;
    let shown = Shown::new(name, profile, Some(name));
    profiles.current = Some(name.clone());
    file::write(&profiles)?;
    context.note(&format!("profile \"{name}\" is used from now on"));
    context.answer(String::new, || shown)
}
