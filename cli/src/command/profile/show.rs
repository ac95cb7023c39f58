//! `highwater profile show`

use clap::Args;

use super::{Shown, completer, which};
use crate::context::Context;
use crate::failure::Failure;
use crate::profile::{Field, file};
use crate::table::Summary;

/// What fails.
const WHAT: &str = "cannot show the profile";

/// Options of `highwater profile show`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the profile [default: the one in use]
    #[arg(value_name = "NAME", add = completer())]
    name: Option<String>,

    /// Print this value alone, as `profile set` takes it
    #[arg(long, value_name = "KEY")]
    key: Option<Field>,
}

/// Shows a profile; where none is given, the `named` one or the one in use.
pub(super) fn run(
    options: &Options,
    named: Option<&str>,
    context: &Context,
) -> Result<(), Failure> {
    let profiles = file::read()?;
    let name = which(&profiles, options.name.as_deref(), named, WHAT)?;
    let profile = profiles.get(&name, WHAT)?;
    if let Some(key) = options.key {
        let value = profile.value(key);
        return context.answer(|| format!("{value}\n"), || &value);
    }
    let shown = Shown::new(&name, profile, profiles.current.as_deref());
    context.answer(|| text(&shown), || &shown)
}

fn text(shown: &Shown) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut summary = Summary::default();
    summary
        .line("PROFILE", &shown.profile)
        .line("CURRENT", yes(shown.current))
        .line("BROKERS", shown.brokers.join(","))
        .line("TLS", yes(shown.tls));
    for (name, path) in [
        ("TLS CA", &shown.tls_ca),
        ("TLS CERTIFICATE", &shown.tls_certificate),
        ("TLS KEY", &shown.tls_key),
    ] {
        if let Some(path) = path {
            summary.line(name, path);
        }
    }
    summary.to_string()
}
