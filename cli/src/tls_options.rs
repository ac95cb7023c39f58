//! How brokers are talked to: with TLS or without (`--tls` and the options that go with it).

use std::path::PathBuf;

use clap::Args;
use highwater_client::Tls;

use crate::failure::Failure;

/// Options of every command that talks to brokers.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct TlsOptions {
    /// Talk to the brokers with TLS, and trust the authorities that this machine trusts
    #[arg(long, global = true, env = "HIGHWATER_TLS")]
    pub(crate) tls: bool,

    /// Talk to the brokers with TLS, and trust the authorities in this PEM file only
    #[arg(long, global = true, value_name = "FILE", env = "HIGHWATER_TLS_CA")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// PEM file with a certificate to show, where brokers ask for one
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HIGHWATER_TLS_CERTIFICATE"
    )]
    pub(crate) tls_certificate: Option<PathBuf>,

    /// PEM file with the key of that certificate
    #[arg(long, global = true, value_name = "FILE", env = "HIGHWATER_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
}

impl TlsOptions {
    /// What the options ask for; `None`: no TLS.
    pub(crate) fn read(&self) -> Result<Option<Tls>, Failure> {
        const CANNOT_USE: &str = "cannot use TLS";
        let (certificate, key) = (&self.tls_certificate, &self.tls_key);
        let is_wanted = self.tls || self.tls_ca.is_some() || certificate.is_some() || key.is_some();
        if !is_wanted {
            return Ok(None);
        }
        let failed = |error| Failure::new(CANNOT_USE, error);
        let mut tls = Tls::new();
        if let Some(path) = &self.tls_ca {
            tls = tls.ca_file(path).map_err(failed)?;
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                tls = tls.identity_files(certificate, key).map_err(failed)?;
            }
            (None, None) => {}
            _ => {
                let why = "a certificate goes with its key";
                return Err(Failure::misuse(CANNOT_USE, why)
                    .remedy("give both --tls-certificate and --tls-key, or neither"));
            }
        }
        Ok(Some(tls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_used_where_any_of_its_options_is_given() {
        assert!(TlsOptions::default().read().unwrap().is_none());
        let options = TlsOptions {
            tls: true,
            ..TlsOptions::default()
        };
        assert!(options.read().unwrap().is_some());
    }

    #[test]
    fn a_certificate_alone_and_a_file_that_is_missing_are_refused() {
        let alone = TlsOptions {
            tls_certificate: Some("c.pem".into()),
            ..TlsOptions::default()
        };
        let text = alone.read().unwrap_err().to_string();
        assert!(text.contains("--tls-key"), "{text}");
        let missing = TlsOptions {
            tls_ca: Some("/nowhere/ca.pem".into()),
            ..TlsOptions::default()
        };
        let text = missing.read().unwrap_err().to_string();
        assert!(text.contains("/nowhere/ca.pem"), "{text}");
    }
}
