//! Certificates and keys.

use std::path::PathBuf;

use super::check::Check;
use super::setting::settings;

settings! {
    /// Certificates and keys, for the listeners that have `tls = true`. `highwater tls dev-ca` makes some to try it.
    pub struct TlsConfig {
        /// PEM file with the certificate of this broker, followed by those between it and its authority. It holds for the hosts
        /// that clients are told, and for `broker-N`, by which other brokers know broker N.
        pub certificate: PathBuf = PathBuf::new(),
        /// PEM file with the private key of the certificate.
        pub key: PathBuf = PathBuf::new(),
        /// PEM file with the authorities that certificates of brokers are of. Nothing but brokers has certificates of these with
        /// names such as `broker-1`: who has one is that broker.
        pub peer_ca: PathBuf = PathBuf::new(),
        /// PEM file with the authorities that certificates of clients are of; empty: clients need none.
        pub client_ca: PathBuf = PathBuf::new(),
        /// A client that has not completed its handshake by then is cut off: it takes the place of another one.
        pub handshake_timeout_ms: u32 = 5_000,
        /// How often the files are looked at. Connections made after a change use the new ones, without a restart.
        pub reload_interval_ms: u32 = 30_000,
    }
}

impl TlsConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.within(
            "server.tls.handshake_timeout_ms",
            self.handshake_timeout_ms,
            10,
            600_000,
        );
        check.within(
            "server.tls.reload_interval_ms",
            self.reload_interval_ms,
            10,
            86_400_000,
        );
        for (key, path) in [
            ("server.tls.certificate", &self.certificate),
            ("server.tls.key", &self.key),
            ("server.tls.peer_ca", &self.peer_ca),
            ("server.tls.client_ca", &self.client_ca),
        ] {
            // Whether the file is there is found out when it is read: at the start, and again when it changes.
            let is_file = path.as_os_str().is_empty() || path.file_name().is_some();
            check.that(key, path.display(), is_file, "empty, or the path of a file");
        }
    }
}
