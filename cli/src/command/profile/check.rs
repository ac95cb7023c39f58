//! What holds for every profile that is kept.

use std::path::PathBuf;

use crate::broker_address;
use crate::failure::Failure;
use crate::profile::Profile;
use crate::tls_options::TlsOptions;

/// The profile with its files by absolute paths, where it can be used; in order to do `what`.
pub(super) fn checked(profile: Profile, what: &str) -> Result<Profile, Failure> {
    if profile.brokers.is_empty() {
        return Err(Failure::misuse(what, "no brokers are named")
            .remedy("name some: --brokers HOST:PORT,.."));
    }
    for broker in &profile.brokers {
        broker_address::parse(broker).map_err(|problem| Failure::misuse(what, problem))?;
    }
    let tls = TlsOptions {
        tls: profile.tls,
        tls_ca: profile.tls_ca,
        tls_certificate: profile.tls_certificate,
        tls_key: profile.tls_key,
    };
    // Files that cannot be used now will not be better later.
    tls.read()?;
    let absolute = |path: Option<PathBuf>| {
        let path = path.map(std::path::absolute).transpose();
        path.map_err(|error| Failure::new(what, error))
    };
    Ok(Profile {
        brokers: profile.brokers,
        tls: tls.tls,
        tls_ca: absolute(tls.tls_ca)?,
        tls_certificate: absolute(tls.tls_certificate)?,
        tls_key: absolute(tls.tls_key)?,
    })
}
