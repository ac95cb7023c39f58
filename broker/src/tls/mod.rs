//! TLS: what this broker shows to others and whom it trusts.
//!
//! Certificates, keys and authorities are PEM files. They are read again when they change: connections made from then on use
//! the new ones, those that are open stay as they are. Brokers show each other certificates that say which broker each is
//! ([`broker_name`]).

mod dial;
mod error;
mod material;
mod names;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use highwater_proto::BrokerId;
use rustls::ServerConfig;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;

pub(crate) use dial::Dial;
pub use error::{Error, Problem};
pub use names::broker_name;
pub(crate) use names::brokers_named;

use material::{Files, Material, Source};

/// The TLS of a broker. Clones share it.
#[derive(Clone)]
pub(crate) struct Tls {
    source: Arc<Source>,
    current: Arc<ArcSwap<Material>>,
    reload_interval: Duration,
    handshake_timeout: Duration,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Who comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Clients by gRPC, with a certificate if an authority for those is configured.
    Clients,
    /// Other brokers, with a certificate.
    Peers,
    /// Probes by HTTP/1.
    Probes,
}

impl Tls {
    /// Reads the files that the configuration names; `None` when no listener has TLS.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>, Error> {
        let server = &config.server;
        if !(server.client.tls || server.peer.tls || server.http.tls) {
            return Ok(None);
        }
        let source = Source::of(config);
        let material = Material::of(source.read()?, &source)?;
        let millis = |value: u32| Duration::from_millis(u64::from(value));
        Ok(Some(Self {
            source: Arc::new(source),
            current: Arc::new(ArcSwap::from_pointee(material)),
            reload_interval: millis(server.tls.reload_interval_ms),
            handshake_timeout: millis(server.tls.handshake_timeout_ms),
        }))
    }

    /// What connections of one side are accepted with.
    pub(crate) fn acceptor(&self, side: Side) -> Acceptor {
        Acceptor {
            tls: self.clone(),
            side,
        }
    }

    /// Connects to one other broker.
    pub(crate) fn dial(&self, broker: BrokerId) -> Dial {
        Dial::new(self.clone(), broker)
    }

    /// Looks for changed files until `stop`.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(self.reload_interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = stop.cancelled() => return,
            }
            let source = Arc::clone(&self.source);
            let Ok(read) = tokio::task::spawn_blocking(move || source.read()).await else {
                continue;
            };
            match read.and_then(|files| self.take_up(files)) {
                Ok(()) => told.clear(),
                Err(error) => {
                    let problem = error.to_string();
                    if told != problem {
                        warn!(
                            problem,
                            "changed TLS files are not used; those read before stay in force"
                        );
                        told = problem;
                    }
                }
            }
        }
    }

    /// Uses these files from now on, if they are others than before.
    fn take_up(&self, files: Files) -> Result<(), Error> {
        if self.current.load().files != files {
            let material = Material::of(files, &self.source)?;
            self.current.store(Arc::new(material));
            info!("changed TLS files are in use");
        }
        Ok(())
    }
}

/// Accepts connections of one side.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor {
    tls: Tls,
    side: Side,
}

impl Acceptor {
    /// What the next connection is accepted with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let material = self.tls.current.load();
        Arc::clone(match self.side {
            Side::Clients => &material.clients,
            Side::Peers => &material.peers,
            Side::Probes => &material.probes,
        })
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// How long a handshake may take.
    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.tls.handshake_timeout
    }
}

#[cfg(test)]
mod tests;
