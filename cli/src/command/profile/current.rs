//! `highwater profile current`

use super::{Shown, which};
use crate::context::Context;
use crate::failure::Failure;
use crate::profile::file;

/// What fails.
const WHAT: &str = "cannot tell the profile";

/// Prints the name of the profile that commands use.
pub(super) fn run(named: Option<&str>, context: &Context) -> Result<(), Failure> {
    let profiles = file::read()?;
    let name = which(&profiles, None, named, WHAT)?;
    let shown = Shown::new(
        &name,
        profiles.get(&name, WHAT)?,
        profiles.current.as_deref(),
    );
    context.answer(|| format!("{name}\n"), || shown)
}
