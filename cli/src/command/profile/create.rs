//! `highwater profile create`

use clap::Args;

use super::Shown;
use super::check::checked;
use crate::context::Context;
use crate::failure::Failure;
use crate::profile::{Connection, Profile, file, parse_name};

/// Options of `highwater profile create`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is kept is what --brokers, --tls, --tls-ca, --tls-certificate and --tls-key say, or the environment:
  highwater profile create prod --brokers broker-1:7410,broker-2:7410 --tls-ca ca.pem")]
pub(crate) struct Options {
    /// Name of the new profile
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
}

/// Keeps what is given as a profile, and lets it be the one in use.
pub(super) fn run(options: Options, given: Connection, context: &Context) -> Result<(), Failure> {
    let name = options.name;
    let what = format!("cannot create profile \"{name}\"");
    let mut profiles = file::read()?;
    if profiles.by_name.contains_key(&name) {
        return Err(
            Failure::new(what, "there is one of this name").remedy(format!(
                "change it: highwater profile set KEY=VALUE --profile {name}; or delete it first: highwater profile delete {name}"
            )),
        );
    }
    let tls = given.tls;
    let profile = Profile {
        brokers: given.brokers,
        tls: tls.tls,
        tls_ca: tls.tls_ca,
        tls_certificate: tls.tls_certificate,
        tls_key: tls.tls_key,
    };
    let profile = checked(profile, &what)?;
    let shown = Shown::new(&name, &profile, Some(&name));
    profiles.by_name.insert(name.clone(), profile);
    profiles.current = Some(name.clone());
    file::write(&profiles)?;
    context.note(&format!("profile \"{name}\" is used from now on"));
    context.answer(String::new, || shown)
}
