//! The directory of a cluster of several brokers: one in it for each of them, and where they find each other.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::CANNOT_START;
use crate::failure::Failure;

/// Holds the addresses by which the brokers know each other: the same at each start, since each keeps those of the others.
const SEEDS: &str = "seeds";
/// What stands in the directory of a single broker.
const OF_ONE_BROKER: &str = "identity";

/// The brokers of a cluster, as they name each other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seeds(Vec<SocketAddr>);

impl Seeds {
    /// Free ports of this machine for `count` brokers.
    pub(super) fn free(count: u32) -> Result<Self, Failure> {
        let listeners = (0..count)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<Vec<_>, _>>();
        // All are held until the last one is found, so that none is found twice.
        let addresses = listeners.and_then(|listeners| {
            let addresses = listeners.iter().map(TcpListener::local_addr);
            addresses.collect::<Result<_, _>>()
        });
        let addresses = addresses.map_err(|error| {
            Failure::new(CANNOT_START, format!("there is no free port: {error}"))
        })?;
        Ok(Self(addresses))
    }

    /// Those of the cluster in `directory`, or free ones, which it keeps from then on.
    ///
    /// # Errors
    /// When the directory belongs to another number of brokers.
    pub(super) fn of(directory: &Path, count: u32) -> Result<Self, Failure> {
        if directory.join(OF_ONE_BROKER).exists() {
            return Err(other_count(directory, 1, count));
        }
        let path = directory.join(SEEDS);
        let cannot = |error: std::io::Error| {
            Failure::new(CANNOT_START, format!("{}: {error}", path.display()))
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let seeds = Self::parse(&text).ok_or_else(|| {
                    let why = format!("{} does not hold addresses of brokers", path.display());
                    Failure::new(CANNOT_START, why)
                })?;
                let known = u32::try_from(seeds.0.len()).unwrap_or(u32::MAX);
                if known != count {
                    return Err(other_count(directory, known, count));
                }
                Ok(seeds)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let seeds = Self::free(count)?;
                std::fs::create_dir_all(directory).map_err(cannot)?;
                std::fs::write(&path, format!("{}\n", seeds.text())).map_err(cannot)?;
                Ok(seeds)
            }
            Err(error) => Err(cannot(error)),
        }
    }

    /// As the brokers are given it: `1@HOST:PORT,2@HOST:PORT`.
    pub(super) fn text(&self) -> String {
        let seeds = self.numbered();
        let seeds: Vec<_> = seeds
            .map(|(number, address)| format!("{number}@{address}"))
            .collect();
        seeds.join(",")
    }

    /// The numbers of the brokers, from 1, with their addresses.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u32, SocketAddr)> + '_ {
        (1..).zip(self.0.iter().copied())
    }

    fn parse(text: &str) -> Option<Self> {
        let seeds = text.trim().split(',').zip(1_u32..);
        let addresses = seeds.map(|(seed, number)| {
            let (id, address) = seed.split_once('@')?;
            (id.parse() == Ok(number)).then(|| address.parse().ok())?
        });
        addresses.collect::<Option<_>>().map(Self)
    }
}

/// The directory of one of several brokers.
pub(super) fn of_broker(directory: &Path, number: u32) -> PathBuf {
    directory.join(number.to_string())
}

/// Refuses a directory that several brokers have written to.
///
/// # Errors
/// When they have.
pub(super) fn check_for_one(directory: &Path) -> Result<(), Failure> {
    let Ok(text) = std::fs::read_to_string(directory.join(SEEDS)) else {
        return Ok(());
    };
    match Seeds::parse(&text) {
        Some(seeds) => {
            let known = u32::try_from(seeds.0.len()).unwrap_or(u32::MAX);
            Err(other_count(directory, known, 1))
        }
        None => Ok(()),
    }
}

fn other_count(directory: &Path, known: u32, wanted: u32) -> Failure {
    let holds = match known {
        1 => "the data of a single broker".to_owned(),
        known => format!("the data of {known} brokers"),
    };
    let why = format!("{} holds {holds}, not of {wanted}", directory.display());
    Failure::new(CANNOT_START, why)
        .remedy(format!("start as many as it is of: -n {known}"))
        .remedy("or keep the data elsewhere: --data-dir DIR, or --ephemeral")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_cluster_stay() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("data");
        let first = Seeds::of(&directory, 3).unwrap();
        assert_eq!(first.numbered().count(), 3);
        assert_eq!(Seeds::of(&directory, 3).unwrap(), first);
        assert_eq!(Seeds::parse(&first.text()), Some(first));
    }

    #[test]
    fn a_directory_of_another_number_of_brokers_is_refused_with_its_own() {
        let folder = tempfile::tempdir().unwrap();
        Seeds::of(folder.path(), 3).unwrap();
        for failure in [
            Seeds::of(folder.path(), 2).unwrap_err(),
            check_for_one(folder.path()).unwrap_err(),
        ] {
            assert!(failure.to_string().contains("-n 3"), "{failure}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(check_for_one(folder.path()).is_ok());
        std::fs::write(folder.path().join(OF_ONE_BROKER), "").unwrap();
        let failure = Seeds::of(folder.path(), 3).unwrap_err();
        assert!(failure.to_string().contains("-n 1"), "{failure}");
    }

    #[test]
    fn what_names_no_brokers_is_none() {
        for text in ["", "1@x", "2@127.0.0.1:1", "1@127.0.0.1:1,3@127.0.0.1:2"] {
            assert_eq!(Seeds::parse(text), None, "{text}");
        }
    }
}
