//! `highwater profile rename`

use clap::Args;

use super::{Shown, completer};
use crate::context::Context;
use crate::failure::Failure;
use crate::profile::{file, parse_name};

/// What fails.
const WHAT: &str = "cannot rename the profile";

/// Options of `highwater profile rename`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the profile
    #[arg(value_name = "NAME", add = completer())]
    name: String,

    /// Its new name
    #[arg(value_name = "NEW", value_parser = parse_name)]
    new: String,
}

/// Gives a profile another name. One that is in use stays so.
pub(super) fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let Options { name, new } = options;
    let mut profiles = file::read()?;
    let profile = profiles.get(&name, WHAT)?.clone();
    if profiles.by_name.contains_key(&new) {
        return Err(Failure::new(
            WHAT,
            format!("there is one of the name \"{new}\""),
        ));
    }
    profiles.by_name.remove(&name);
    if profiles.current.as_ref() == Some(&name) {
        profiles.current = Some(new.clone());
    }
    let shown = Shown::new(&new, &profile, profiles.current.as_deref());
    profiles.by_name.insert(new.clone(), profile);
    file::write(&profiles)?;
    context.note(&format!("profile \"{name}\" is \"{new}\" now"));
    context.answer(String::new, || shown)
}
