//! `highwater profile set`

use clap::Args;
use clap_complete::{ArgValueCompleter, CompletionCandidate};

use super::check::checked;
use super::{Shown, which};
use crate::context::Context;
use crate::failure::Failure;
use crate::profile::{Field, Profile, file, parse_setting};

/// What fails.
const WHAT: &str = "cannot change the profile";

/// Options of `highwater profile set`.
#[derive(Debug, Args)]
#[command(after_help = "\
KEY is brokers, tls, tls_ca, tls_certificate or tls_key. That of a file is unset by an empty VALUE:
  highwater profile set brokers=broker-1:7410,broker-2:7410
  highwater profile set tls_certificate=me.pem tls_key=me.key --profile prod
  highwater profile set tls_ca= tls=false")]
pub(crate) struct Options {
    /// Values to change, in the profile in use or the one that --profile names
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = parse_setting, add = completer())]
    settings: Vec<(Field, String)>,
}

/// Changes values of a profile, all of them or none.
pub(super) fn run(
    options: &Options,
    named: Option<&str>,
    context: &Context,
) -> Result<(), Failure> {
    let mut profiles = file::read()?;
    let name = which(&profiles, None, named, WHAT)?;
    let mut profile = profiles.get(&name, WHAT)?.clone();
    for (key, value) in &options.settings {
        let set = profile.set(*key, value);
        set.map_err(|problem| Failure::misuse(WHAT, format!("{}: {problem}", key.name())))?;
    }
    refuse_tls_without_effect(options, &profile)?;
    let profile = checked(profile, WHAT)?;
    let shown = Shown::new(&name, &profile, profiles.current.as_deref());
    profiles.by_name.insert(name.clone(), profile);
    file::write(&profiles)?;
    context.note(&format!("profile \"{name}\" is changed"));
    context.answer(String::new, || shown)
}

/// `tls=false` says nothing where files are named that go with TLS.
fn refuse_tls_without_effect(options: &Options, profile: &Profile) -> Result<(), Failure> {
    let is_off = |(key, _): &(Field, String)| *key == Field::Tls && !profile.tls;
    if options.settings.iter().any(is_off) && profile.names_files() {
        let why = "TLS is used as long as a file is named that goes with it";
        return Err(Failure::misuse(WHAT, why).remedy(
            "unset these, too: highwater profile set tls=false tls_ca= tls_certificate= tls_key=",
        ));
    }
    Ok(())
}

/// Completes what stands before the value.
fn completer() -> ArgValueCompleter {
    use clap::ValueEnum;
    ArgValueCompleter::new(|current: &std::ffi::OsStr| {
        let beginning = current.to_string_lossy();
        let keys = Field::value_variants().iter();
        keys.map(|key| format!("{}=", key.name()))
            .filter(|key| key.starts_with(&*beginning))
            .map(CompletionCandidate::new)
            .collect()
    })
}
