//! Why TLS files cannot be used.

use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;

/// A file that TLS cannot be done with.
#[derive(Debug, thiserror::Error)]
#[error("{key} names {}: {problem}", path.display())]
pub struct Error {
    /// The key of the configuration that names the file.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is not PEM.
    #[error("it is no PEM file: {0}")]
    Pem(pem::Error),
    /// There is nothing of the kind in it.
    #[error("there is no {0} in it")]
    Missing(&'static str),
    /// TLS does not take it.
    #[error("it cannot be used: {0}")]
    Unusable(String),
    /// The certificate does not fit the key.
    #[error("it does not belong to the key that server.tls.key names")]
    OtherKey,
    /// The certificate is not this broker's.
    #[error(
        "other brokers take only a certificate for the name {wanted}, and this one is for {}",
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    )]
    OtherBroker {
        /// The name of this broker.
        wanted: String,
        /// The names in the certificate.
        names: Vec<String>,
    },
}
