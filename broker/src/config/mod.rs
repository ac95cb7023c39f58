//! What an operator can set: one struct per component, each default in one place, read from a TOML file and flags.
//!
//! Every value has its unit in its name. [`Config::validate`] names the key that is wrong. Keys that do not exist are
//! refused with the nearest one that does, because a misspelt limit that is silently ignored is no limit.

mod keys;
mod requests;
mod server;
mod upkeep;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use requests::{AdminConfig, FetchConfig, OffsetsConfig, ProduceConfig, RequestsConfig};
pub use server::{Http2Config, ListenerConfig, LogConfig, LogFormat, ServerConfig};
pub use upkeep::{ShardsConfig, StorageConfig, TopicsConfig, UpkeepConfig};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The text is not TOML, or a value is of the wrong type.
    #[error("{origin} is not a valid configuration: {reason}")]
    Syntax {
        /// The file or flag.
        origin: String,
        /// What the parser said.
        reason: String,
    },
    /// There is no such key.
    #[error("{origin} sets the unknown key `{key}`{}", keys::suggestion(.nearest.as_deref()))]
    UnknownKey {
        /// The file or flag.
        origin: String,
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<String>,
    },
    /// The value cannot be used.
    #[error("`{key}` is {value}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it is set to.
        value: String,
        /// Why not, and what is possible.
        reason: String,
    },
}

/// The whole configuration of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory that holds everything the broker stores. One broker process at a time uses it.
    pub data_dir: PathBuf,
    /// Allows listeners on addresses that other machines can reach, without encryption or authentication.
    pub insecure: bool,
    /// Number of this broker, kept in the data directory from the first start on.
    pub broker_id: u32,
    /// Rack or zone of this broker, shown in metadata; empty: none.
    pub rack: String,
    /// What the process writes about itself.
    pub log: LogConfig,
    /// Where and how it listens.
    pub server: ServerConfig,
    /// Limits that all requests share.
    pub requests: RequestsConfig,
    /// Limits of produce requests and streams.
    pub produce: ProduceConfig,
    /// Limits of fetch requests and subscriptions.
    pub fetch: FetchConfig,
    /// Limits of offset queries.
    pub offsets: OffsetsConfig,
    /// Limits of administration and metadata.
    pub admin: AdminConfig,
    /// Defaults and limits of topics.
    pub topics: TopicsConfig,
    /// The threads that own the partitions.
    pub shards: ShardsConfig,
    /// The data directory.
    pub storage: StorageConfig,
    /// What happens by the clock.
    pub upkeep: UpkeepConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("highwater-data"),
            insecure: false,
            broker_id: 1,
            rack: String::new(),
            log: LogConfig::default(),
            server: ServerConfig::default(),
            requests: RequestsConfig::default(),
            produce: ProduceConfig::default(),
            fetch: FetchConfig::default(),
            offsets: OffsetsConfig::default(),
            admin: AdminConfig::default(),
            topics: TopicsConfig::default(),
            shards: ShardsConfig::default(),
            storage: StorageConfig::default(),
            upkeep: UpkeepConfig::default(),
        }
    }
}

impl Config {
    /// The defaults, changed by a TOML file if one is given, changed by `key=value` assignments such as
    /// `fetch.max_bytes=1048576`. The result is not validated yet.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Syntax`] and [`Error::UnknownKey`], naming the file or the assignment.
    pub fn load(file: Option<&Path>, assignments: &[String]) -> Result<Self, Error> {
        let mut table = keys::table_of(&Self::default());
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
                path: path.to_owned(),
                source,
            })?;
            keys::merge(&mut table, &text, &path.display().to_string())?;
        }
        for assignment in assignments {
            keys::assign(&mut table, assignment)?;
        }
        let origin = file.map_or_else(|| "--set".to_owned(), |path| path.display().to_string());
        table
            .try_into()
            .map_err(|error: toml::de::Error| Error::Syntax {
                origin,
                reason: error.message().to_owned(),
            })
    }

    /// Every value with its key, as the TOML file that would set them.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(&keys::table_of(self)).expect("tables of plain values can be written")
    }

    /// Checks each value by itself and against the others.
    ///
    /// # Errors
    /// [`Error::Value`] with the first key that is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(wrong("data_dir", "empty", "name a directory"));
        }
        if self.broker_id == 0 {
            return Err(wrong("broker_id", 0, "brokers are numbered from 1"));
        }
        self.log.validate()?;
        self.server.validate(self.insecure)?;
        self.requests.validate()?;
        self.produce.validate(&self.requests)?;
        self.fetch.validate(&self.requests)?;
        self.offsets.validate()?;
        self.admin.validate(&self.requests)?;
        self.topics.validate()?;
        self.shards.validate()?;
        self.storage.validate()?;
        self.upkeep.validate()
    }
}

/// A value that cannot be used.
fn wrong(key: &'static str, value: impl ToString, reason: impl Into<String>) -> Error {
    Error::Value {
        key,
        value: value.to_string(),
        reason: reason.into(),
    }
}

/// Checks that a limit lies in a range.
fn within<T: PartialOrd + std::fmt::Display + Copy>(
    key: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), Error> {
    if value < least || value > most {
        return Err(wrong(
            key,
            value,
            format!("it must lie between {least} and {most}"),
        ));
    }
    Ok(())
}

/// An address to listen at.
fn address(key: &'static str, text: &str) -> Result<SocketAddr, Error> {
    text.parse().map_err(|_| {
        wrong(
            key,
            format!("{text:?}"),
            "it must be an IP address and a port, such as 127.0.0.1:7410 (port 0: any)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), &[])
    }

    #[test]
    fn defaults_are_valid_and_survive_their_own_toml() {
        let config = Config::default();
        config.validate().unwrap();
        assert_eq!(load(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn file_and_assignments_change_only_what_they_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.toml");
        std::fs::write(&path, "[fetch]\nmax_partitions = 7\nmax_bytes = 1000000\n").unwrap();
        let config = Config::load(
            Some(&path),
            &[
                "fetch.max_bytes=2000000".to_owned(),
                "data_dir=/tmp/x".to_owned(),
            ],
        )
        .unwrap();
        let mut expected = Config::default();
        expected.fetch.max_partitions = 7;
        expected.fetch.max_bytes = 2_000_000;
        expected.data_dir = PathBuf::from("/tmp/x");
        assert_eq!(config, expected);
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        let error = load("[fetch]\nmax_partition = 7\n").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("did you mean `fetch.max_partitions`?"),
            "{error}"
        );
        let error = Config::load(None, &["fetsh.max_bytes=1".to_owned()]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("did you mean `fetch.max_bytes`?"),
            "{error}"
        );
    }

    #[test]
    fn wrong_types_and_broken_files_say_where() {
        let error = load("[fetch]\nmax_partitions = \"many\"\n").unwrap_err();
        assert!(error.to_string().contains("broker.toml"), "{error}");
        let error = load("[fetch\n").unwrap_err();
        assert!(matches!(error, Error::Syntax { .. }), "{error}");
        let error = Config::load(Some(Path::new("/nonexistent/x.toml")), &[]).unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error}");
    }

    #[test]
    fn validate_names_the_key() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 8] = [
            ("broker_id", |c| c.broker_id = 0),
            ("fetch.max_bytes", |c| c.fetch.max_bytes = 0),
            ("fetch.max_wait_ms", |c| c.fetch.max_wait_ms = u32::MAX),
            ("produce.max_timeout_ms", |c| {
                c.produce.max_timeout_ms = u32::MAX;
            }),
            ("server.client.address", |c| {
                c.server.client.address = "localhost".to_owned();
            }),
            ("requests.memory_bytes", |c| c.requests.memory_bytes = 1),
            ("storage.journal_file_bytes", |c| {
                c.storage.journal_file_bytes = 5;
            }),
            ("log.level", |c| c.log.level = "=x=".to_owned()),
        ];
        for (key, spoil) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            let error = config.validate().unwrap_err();
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn addresses_that_others_can_reach_need_the_insecure_flag() {
        let mut config = Config::default();
        config.server.client.address = "0.0.0.0:7410".to_owned();
        let error = config.validate().unwrap_err().to_string();
        assert!(
            error.contains("server.client.address") && error.contains("--insecure"),
            "{error}"
        );
        config.insecure = true;
        config.validate().unwrap();
    }
}
