//! From the files that the configuration names to what connections are made with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_proto::BrokerId;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::error::{Error, Problem};
use super::names::{broker_name, dns_names};
use crate::config::Config;

const CERTIFICATE: &str = "server.tls.certificate";
const KEY: &str = "server.tls.key";
const CLIENT_CA: &str = "server.tls.client_ca";
const PEER_CA: &str = "server.tls.peer_ca";

const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";
/// Brokers are all of our making: nothing between them needs less.
const BETWEEN_BROKERS: &[&SupportedProtocolVersion] = &[&TLS13];
const WITH_OTHERS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Where the files are.
pub(super) struct Source {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    /// Present where other brokers come in with TLS.
    peer_ca: Option<PathBuf>,
    broker: BrokerId,
}

/// What stands in the files.
#[derive(PartialEq, Eq)]
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    peer_ca: Option<Vec<u8>>,
}

/// What connections are made with.
pub(super) struct Material {
    pub(super) files: Files,
    pub(super) clients: Arc<ServerConfig>,
    pub(super) peers: Arc<ServerConfig>,
    pub(super) probes: Arc<ServerConfig>,
    pub(super) dial: Arc<ClientConfig>,
}

impl Source {
    pub(super) fn of(config: &Config) -> Self {
        let tls = &config.server.tls;
        let named = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        Self {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            client_ca: named(&tls.client_ca),
            peer_ca: named(&tls.peer_ca).filter(|_| config.server.peer.tls),
            broker: BrokerId(config.broker_id),
        }
    }

    /// Reads all files.
    pub(super) fn read(&self) -> Result<Files, Error> {
        let optional = |key, path: &Option<PathBuf>| {
            let read = path.as_deref().map(|path| read(key, path));
            read.transpose()
        };
        Ok(Files {
            certificate: read(CERTIFICATE, &self.certificate)?,
            key: read(KEY, &self.key)?,
            client_ca: optional(CLIENT_CA, &self.client_ca)?,
            peer_ca: optional(PEER_CA, &self.peer_ca)?,
        })
    }

    fn wrong(&self, key: &'static str, problem: Problem) -> Error {
        let path = match key {
            KEY => Some(&self.key),
            CLIENT_CA => self.client_ca.as_ref(),
            PEER_CA => self.peer_ca.as_ref(),
            _ => Some(&self.certificate),
        };
        let path = path.cloned().unwrap_or_default();
        Error { key, path, problem }
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error: io::Error| Error {
        key,
        path: path.to_owned(),
        problem: Problem::Unreadable(error),
    })
}

impl Material {
    /// Makes connections possible with what stands in the files.
    pub(super) fn of(files: Files, source: &Source) -> Result<Self, Error> {
        let wrong = |key| move |problem| source.wrong(key, problem);
        let chain = certificates(&files.certificate).map_err(wrong(CERTIFICATE))?;
        let key = PrivateKeyDer::from_pem_slice(&files.key)
            .map_err(|error| match error {
                rustls::pki_types::pem::Error::NoItemsFound => Problem::Missing("private key"),
                error => Problem::Pem(error),
            })
            .map_err(wrong(KEY))?;
        let identity = Identity { chain, key };
        let (clients, peers) = (&files.client_ca, &files.peer_ca);
        let clients = clients.as_deref().map(authority).transpose();
        let clients = clients.map_err(wrong(CLIENT_CA))?;
        let peers = peers.as_deref().map(authority).transpose();
        let peers = peers.map_err(wrong(PEER_CA))?;
        if peers.is_some() {
            identity.check(source.broker).map_err(wrong(CERTIFICATE))?;
        }
        // Without an authority for brokers there is no listener for them with TLS, and nobody is trusted.
        let peers = peers.unwrap_or_else(RootCertStore::empty);
        let server = |versions, verifier, protocol| {
            let config = identity.server(versions, verifier, protocol);
            config.map(Arc::new).map_err(wrong(CERTIFICATE))
        };
        let nobody: Verifier = Arc::new(NoClientAuth);
        let of_clients = clients.map_or(Ok(Arc::clone(&nobody)), verifier);
        let of_peers = if peers.is_empty() {
            Ok(Arc::clone(&nobody))
        } else {
            verifier(peers.clone())
        };
        Ok(Self {
            clients: server(WITH_OTHERS, of_clients.map_err(wrong(CLIENT_CA))?, HTTP_2)?,
            peers: server(BETWEEN_BROKERS, of_peers.map_err(wrong(PEER_CA))?, HTTP_2)?,
            probes: server(WITH_OTHERS, nobody, HTTP_1)?,
            dial: Arc::new(identity.client(peers).map_err(wrong(CERTIFICATE))?),
            files,
        })
    }
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// What this broker shows.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Checks that other brokers would take it for `broker`.
    fn check(&self, broker: BrokerId) -> Result<(), Problem> {
        let (wanted, names) = (broker_name(broker), dns_names(&self.chain[0]));
        if names.contains(&wanted) {
            return Ok(());
        }
        Err(Problem::OtherBroker { wanted, names })
    }

    fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        verifier: Verifier,
        protocol: &[u8],
    ) -> Result<ServerConfig, Problem> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(unusable)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }

    fn client(&self, trusted: RootCertStore) -> Result<ClientConfig, Problem> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(BETWEEN_BROKERS)
            .map_err(unusable)?
            .with_root_certificates(trusted)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(unusable)?;
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(config)
    }
}

fn unusable(error: rustls::Error) -> Problem {
    match error {
        rustls::Error::InconsistentKeys(_) => Problem::OtherKey,
        error => Problem::Unusable(error.to_string()),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates of a file; at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(Problem::Pem)?;
    if found.is_empty() {
        return Err(Problem::Missing("certificate"));
    }
    Ok(found)
}

/// The authorities of a file.
fn authority(pem: &[u8]) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

/// Takes those who show a certificate of the authority.
fn verifier(authority: RootCertStore) -> Result<Verifier, Problem> {
    let built =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authority), provider()).build();
    match built {
        Ok(verifier) => Ok(verifier),
        Err(error) => Err(Problem::Unusable(error.to_string())),
    }
}
