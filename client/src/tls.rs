//! TLS of a client: whom it trusts, and what it shows of itself.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use highwater_proto::TLS_ONLY;
use rustls::{AlertDescription, CertificateError};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::Error;

/// Name of the setting in errors.
const SETTING: &str = "tls";

/// Whom a client trusts, and what it shows of itself. Brokers must have a certificate for the host by which they are reached.
///
/// ```no_run
/// # async fn connect() -> Result<(), highwater_client::Error> {
/// use highwater_client::{Client, Tls};
///
/// let tls = Tls::new().ca_file("ca.pem")?;
/// let client = Client::builder().tls(tls).connect("broker-1.example.com:7410").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    authorities: Vec<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Trusts the authorities that this machine trusts, and shows no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the authorities whose certificates stand in this PEM text, and no longer those that the machine trusts.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities.push(pem.into());
        self
    }

    /// The same from a file.
    ///
    /// # Errors
    /// [`Error::Config`] when the file cannot be read.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(self.ca_pem(read(path.as_ref())?))
    }

    /// Shows this certificate, with those between it and its authority, where brokers ask for one. Both are PEM text.
    pub fn identity_pem(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The same from two files.
    ///
    /// # Errors
    /// [`Error::Config`] when a file cannot be read.
    pub fn identity_files(
        self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, Error> {
        Ok(self.identity_pem(read(certificate.as_ref())?, read(key.as_ref())?))
    }

    /// In the words of tonic.
    pub(crate) fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        if self.authorities.is_empty() {
            config = config.with_native_roots();
        }
        for authority in &self.authorities {
            config = config.ca_certificate(Certificate::from_pem(authority));
        }
        match &self.identity {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        }
    }

    /// Checks what can be found wrong before anybody is connected to.
    pub(crate) fn check(&self) -> Result<(), Error> {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let is_certificate = |pem: &Vec<u8>| CertificateDer::from_pem_slice(pem).is_ok();
        if !self.authorities.iter().all(is_certificate) {
            return Err(wrong(
                "the file of authorities holds no certificate in PEM form",
            ));
        }
        let Some((certificate, key)) = &self.identity else {
            return Ok(());
        };
        if !is_certificate(certificate) {
            return Err(wrong("the file of the certificate holds none in PEM form"));
        }
        match PrivateKeyDer::from_pem_slice(key) {
            Ok(_) => Ok(()),
            Err(_) => Err(wrong(
                "the file of the key holds no private key in PEM form",
            )),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))
}

fn wrong(problem: impl Into<String>) -> Error {
    Error::config(SETTING, problem.into())
}

/// What a broker says where it does not take the certificate of a client, or the absence of one.
const OF_CERTIFICATES: &[AlertDescription] = &[
    AlertDescription::CertificateRequired,
    AlertDescription::UnknownCA,
    AlertDescription::DecryptError,
    AlertDescription::BadCertificate,
    AlertDescription::CertificateUnknown,
    AlertDescription::CertificateExpired,
];

/// Why there is no connection, where that has to do with TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The client began without TLS.
    #[error("connections are taken with TLS only, and this one is without")]
    Needed,
    /// The broker does not speak TLS.
    #[error("the answer is without TLS")]
    NotSpoken,
    /// The broker's certificate is not of an authority that the client trusts.
    #[error("the broker's certificate is not of an authority that is trusted here")]
    Untrusted,
    /// The broker's certificate has expired.
    #[error("the broker's certificate has expired")]
    Expired,
    /// The broker's certificate is not valid yet.
    #[error("the broker's certificate is not valid yet: are the clocks right?")]
    NotYetValid,
    /// The broker's certificate does not hold for the host it was reached by.
    #[error("the broker's certificate is for another host: {0}")]
    OtherHost(String),
    /// The broker wants a certificate of the client.
    #[error("the broker asks for a certificate of the client, and there is none")]
    CertificateWanted,
    /// The broker refuses the client's certificate.
    #[error("the broker does not take the certificate of the client")]
    CertificateRefused,
    /// Something else.
    #[error("TLS failed: {0}")]
    Other(String),
}

impl TlsProblem {
    /// What an error has to do with TLS, or its absence.
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(problem) = rustls_error(error) {
                return Some(Self::of_rustls(problem));
            }
            let text = error.to_string();
            if text.contains(TLS_ONLY) {
                return Some(Self::Needed);
            }
            // HTTP/2 keeps only the words of what a broker says of the client's certificate after the handshake.
            let said = |alert: &AlertDescription| {
                text.contains(&rustls::Error::AlertReceived(*alert).to_string())
            };
            if let Some(alert) = OF_CERTIFICATES.iter().find(|alert| said(alert)) {
                return Some(Self::of_alert(*alert));
            }
            next = error.source();
        }
        None
    }

    fn of_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(problem) => Self::of_certificate(problem),
            // The first bytes of a server that does not speak TLS.
            rustls::Error::InvalidMessage(_) => Self::NotSpoken,
            rustls::Error::AlertReceived(alert) if OF_CERTIFICATES.contains(alert) => {
                Self::of_alert(*alert)
            }
            error => Self::Other(error.to_string()),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired => Self::CertificateWanted,
            _ => Self::CertificateRefused,
        }
    }

    fn of_certificate(problem: &CertificateError) -> Self {
        match problem {
            // The latter: an authority of the same name with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherHost(problem.to_string())
            }
            problem => Self::Other(problem.to_string()),
        }
    }
}

/// An error of rustls, also where it hides in one of the operating system's.
fn rustls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let inside = || error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref();
    error.downcast_ref().or_else(inside)
}
