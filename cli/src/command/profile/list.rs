//! `highwater profile list`

use super::Shown;
use crate::context::Context;
use crate::failure::Failure;
use crate::profile::file;
use crate::table::Table;

/// Lists all profiles.
pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let profiles = file::read()?;
    let current = profiles.current.as_deref();
    let by_name = profiles.by_name.iter();
    let shown: Vec<Shown> = by_name
        .map(|(name, profile)| Shown::new(name, profile, current))
        .collect();
    context.answer(|| text(&shown), || &shown)
}

fn text(shown: &[Shown]) -> String {
    let mut table = Table::new(["PROFILE", "CURRENT", "TLS", "BROKERS"]);
    for profile in shown {
        let yes = |is: bool| if is { "yes" } else { "" };
        table.row([
            &profile.profile,
            &yes(profile.current),
            &yes(profile.tls),
            &profile.brokers.join(","),
        ]);
    }
    table.to_string()
}
