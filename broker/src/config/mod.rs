//! What an operator can set: one struct per component, each default in one place, read from a TOML file, the environment
//! and flags.
//!
//! Every value has its unit in its name. What is wrong is said all at once, each with the key, where it was set, and what
//! is allowed. Names that do not exist are refused with the nearest one that does, because a misspelt limit that is
//! silently ignored is no limit.
//!
//! `docs/configuration.md` is generated from the declarations in here.

mod check;
mod cluster;
mod effective;
mod error;
mod groups;
mod keys;
mod layers;
mod named_listener;
mod otlp;
mod reference;
mod requests;
mod server;
mod setting;
mod tls;
mod upkeep;

use std::path::PathBuf;

pub use cluster::{ClusterConfig, Seed};
pub use effective::Effective;
pub use error::{Error, Problem, Source};
pub use groups::GroupsConfig;
pub use layers::Layers;
pub(crate) use named_listener::CLIENT_LISTENER;
pub use named_listener::NamedListener;
pub use otlp::OtlpConfig;
pub use reference::reference;
pub use requests::{AdminConfig, FetchConfig, OffsetsConfig, ProduceConfig, RequestsConfig};
pub use server::{
    Http2Config, HttpListenerConfig, ListenerConfig, LogConfig, LogFormat, PeerListenerConfig,
    ServerConfig,
};
pub use tls::TlsConfig;
pub use upkeep::{ShardsConfig, StorageConfig, TopicsConfig, UpkeepConfig};

use check::Check;
use setting::settings;

settings! {
    /// The whole configuration of a broker.
    pub struct Config {
        /// Directory that holds everything the broker stores. One broker process at a time uses it.
        pub data_dir: PathBuf = PathBuf::from("highwater-data"),
        /// Allows listeners on addresses that other machines can reach, though clients are not authenticated: for networks that
        /// are trusted.
        pub insecure: bool = false,
        /// Number of this broker, kept in the data directory from the first start on, so that a directory is never started as
        /// another broker's.
        pub broker_id: u32 = 1,
        /// Rack or zone of this broker, shown in metadata; empty: none.
        pub rack: String = String::new(),
        /// How this broker finds the others.
        pub cluster: ClusterConfig = ClusterConfig::default(),
        /// What the process writes about itself, on stderr.
        pub log: LogConfig = LogConfig::default(),
        /// Traces of calls, for an OpenTelemetry collector. Only in a broker that was built with the feature `otlp`.
        pub otlp: OtlpConfig = OtlpConfig::default(),
        /// Where and how it listens.
        pub server: ServerConfig = ServerConfig::default(),
        /// Limits that all requests share.
        pub requests: RequestsConfig = RequestsConfig::default(),
        /// Limits of produce requests and streams.
        pub produce: ProduceConfig = ProduceConfig::default(),
        /// Limits of fetch requests and subscriptions.
        pub fetch: FetchConfig = FetchConfig::default(),
        /// Limits of offset queries.
        pub offsets: OffsetsConfig = OffsetsConfig::default(),
        /// Limits of administration and metadata.
        pub admin: AdminConfig = AdminConfig::default(),
        /// Consumer groups and their offsets.
        pub groups: GroupsConfig = GroupsConfig::default(),
        /// Defaults and limits of topics.
        pub topics: TopicsConfig = TopicsConfig::default(),
        /// The threads that own the partitions.
        pub shards: ShardsConfig = ShardsConfig::default(),
        /// The data directory.
        pub storage: StorageConfig = StorageConfig::default(),
        /// What happens by the clock.
        pub upkeep: UpkeepConfig = UpkeepConfig::default(),
    }
}

impl Config {
    /// Checks each value by itself and against the others.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        let mut check = Check::default();
        self.check(&mut check);
        Error::of(check.into_problems()).map_or(Ok(()), Err)
    }

    fn check(&self, check: &mut Check) {
        let has_data_dir = !self.data_dir.as_os_str().is_empty();
        check.that("data_dir", "empty", has_data_dir, "the path of a directory");
        check.within("broker_id", self.broker_id, 1, u64::from(u32::MAX));
        self.cluster.check(check);
        self.log.check(check);
        self.otlp.check(check);
        self.server.check(check, self.insecure);
        self.requests.check(check);
        self.produce.check(check, &self.requests);
        self.fetch.check(check, &self.requests);
        self.offsets.check(check);
        self.admin.check(check, &self.requests);
        self.groups.check(check);
        self.topics.check(check);
        self.shards.check(check);
        self.storage.check(check);
        self.upkeep.check(check);
    }
}

#[cfg(test)]
mod tests;
