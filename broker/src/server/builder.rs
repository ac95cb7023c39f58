//! A broker for the inside of another program: which disk, which ports, what else.

use std::path::PathBuf;
use std::sync::Arc;

use highwater_storage::fs::{Fs, MemoryFs, RealFs};

use super::Broker;
use crate::config::Config;
use crate::node::Error;

/// Memory for the data of a broker in memory, unless something else is said.
const DEFAULT_MEMORY_BYTES: u64 = 256 << 20;
/// The least memory that a broker can start in.
const MIN_MEMORY_BYTES: u64 = 16 << 20;
/// The sizes of a data directory in memory are these parts of it.
const JOURNAL_FILE_PART: u64 = 64;
const CHECKPOINT_PART: u64 = 16;
const FLOOR_PART: u64 = 16;
const POOL_PART: u64 = 4;
/// What sizes are multiples of.
const BLOCK_BYTES: u64 = 4096;

/// Makes a [`Broker`] for the inside of another program: a test, a tool, `highwater dev`.
///
/// Unless something else is said, the data is in the directory `highwater-data`, clients connect to any free port of
/// 127.0.0.1, and there is no HTTP listener. Neither files nor environment are read.
#[derive(Debug)]
#[must_use = "nothing runs before `start`"]
pub struct BrokerBuilder {
    config: Config,
    disk: Disk,
    ports: Ports,
}

/// Where the data is.
#[derive(Debug)]
enum Disk {
    /// In `data_dir`.
    Directory,
    Memory {
        bytes: u64,
    },
    Given(Arc<dyn Fs>),
}

/// Where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) client: bool,
    pub(super) peer: bool,
    pub(super) http: bool,
}

impl BrokerBuilder {
    pub(super) fn new() -> Self {
        let mut config = Config::default();
        config.server.client.address = "127.0.0.1:0".to_owned();
        Self {
            config,
            disk: Disk::Directory,
            ports: Ports {
                client: true,
                peer: false,
                http: false,
            },
        }
    }

    /// Exactly what the configuration says, listeners included.
    pub(super) fn of(config: Config) -> Self {
        Self {
            config,
            disk: Disk::Directory,
            ports: Ports {
                client: true,
                peer: true,
                http: true,
            },
        }
    }

    /// Keeps the data in this directory, which is made when it is missing. What was acknowledged is there at the next
    /// start.
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.config.data_dir = directory.into();
        self.disk = Disk::Directory;
        self
    }

    /// Keeps the data in memory: it ends with the broker. See [`memory_limit`](Self::memory_limit). One thread owns all
    /// partitions; [`configure`](Self::configure) can say otherwise.
    pub fn in_memory(mut self) -> Self {
        self.config.shards.threads = 1;
        self.memory_limit(DEFAULT_MEMORY_BYTES)
    }

    /// Keeps the data in memory of at most so many bytes, 256 MiB unless set and at least 16 MiB. Segments, journal and
    /// checkpoints count with the size of their files; the memory itself is taken when bytes are written. When it is used up,
    /// records are refused as on a full disk.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        let bytes = bytes.max(MIN_MEMORY_BYTES);
        let part = |part: u64| bytes / part / BLOCK_BYTES * BLOCK_BYTES;
        let storage = &mut self.config.storage;
        storage.journal_file_bytes = part(JOURNAL_FILE_PART).min(storage.journal_file_bytes);
        storage.reserve_bytes = 2 * storage.journal_file_bytes;
        storage.checkpoint_interval_bytes = part(CHECKPOINT_PART);
        storage.min_free_bytes = part(FLOOR_PART);
        storage.pool_bytes = part(POOL_PART);
        self.config.data_dir = PathBuf::from("memory");
        self.disk = Disk::Memory { bytes };
        self
    }

    /// Keeps the data on this file system, for tests of what disks do.
    pub fn file_system(mut self, fs: Arc<dyn Fs>) -> Self {
        self.disk = Disk::Given(fs);
        self
    }

    /// Listens for clients at this IP address and port.
    pub fn address(mut self, address: impl ToString) -> Self {
        self.config.server.client.address = address.to_string();
        self.ports.client = true;
        self
    }

    /// Listens for probes at this IP address and port.
    pub fn http_address(mut self, address: impl ToString) -> Self {
        self.config.server.http.address = address.to_string();
        self.ports.http = true;
        self
    }

    /// Number of this broker, from 1; each of a cluster has its own.
    pub fn broker_id(mut self, id: u32) -> Self {
        self.config.broker_id = id;
        self
    }

    /// Listens for the other brokers of its cluster at this IP address and port.
    pub fn peer_address(mut self, address: impl ToString) -> Self {
        self.config.server.peer.address = address.to_string();
        self.ports.peer = true;
        self
    }

    /// The brokers that found the cluster, as in the key `cluster.seeds`.
    pub fn seeds(mut self, seeds: impl ToString) -> Self {
        self.config.cluster.seeds = seeds.to_string();
        self
    }

    /// Opens no port at all: clients reach the broker by its [`Connector`](crate::Connector) only.
    pub fn without_ports(mut self) -> Self {
        self.ports = Ports {
            client: false,
            peer: false,
            http: false,
        };
        self
    }

    /// Changes any other key of the configuration.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts the broker and returns when it serves clients. Needs a Tokio runtime with time and I/O.
    ///
    /// # Errors
    /// What does not work, with what to do about it.
    pub async fn start(self) -> Result<Broker, Error> {
        self.config.validate()?;
        let fs: Arc<dyn Fs> = match self.disk {
            Disk::Directory => {
                let directory = &self.config.data_dir;
                let fs = RealFs::new(directory).map_err(|error| Error::Open {
                    data_dir: directory.display().to_string(),
                    source: error.into(),
                })?;
                Arc::new(fs)
            }
            Disk::Memory { bytes } => Arc::new(MemoryFs::new(bytes)),
            Disk::Given(fs) => fs,
        };
        Broker::start_with(self.config, self.ports, fs).await
    }
}
