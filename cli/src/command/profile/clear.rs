//! `highwater profile clear`

use crate::context::Context;
use crate::failure::Failure;
use crate::profile::file;

/// Lets no profile be in use. They are all kept.
pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let mut profiles = file::read()?;
    if profiles.current.take().is_some() {
        file::write(&profiles)?;
    }
    context.note("no profile is in use any more");
    Ok(())
}
