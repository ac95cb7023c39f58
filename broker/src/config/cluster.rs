//! Which brokers a cluster begins with.

use highwater_proto::BrokerId;

use super::check::Check;
use super::server::split_host_port;
use super::setting::settings;

settings! {
    /// How this broker finds the others.
    pub struct ClusterConfig {
        /// The brokers that found the cluster, as `1@HOST:PORT,2@HOST:PORT,...` with the addresses of their listeners for brokers;
        /// the same on each of them. They found it once, when all of them answer. A broker that comes later is given the
        /// address of at least one that is there. Empty: this broker founds a cluster of its own.
        pub seeds: String = String::new(),
    }
}

/// A broker that is asked at start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed {
    /// Its number.
    pub broker: BrokerId,
    /// Host of its listener for brokers.
    pub host: String,
    /// Port of it.
    pub port: u16,
}

impl ClusterConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.that(
            "cluster.seeds",
            format_args!("{:?}", self.seeds),
            self.parse_seeds().is_some(),
            "empty, or brokers with their addresses, each once, such as 1@10.0.0.1:7411,2@10.0.0.2:7411",
        );
    }

    /// The seeds by broker id; none where the value is not valid.
    #[must_use]
    pub fn seeds(&self) -> Vec<Seed> {
        self.parse_seeds().unwrap_or_default()
    }

    fn parse_seeds(&self) -> Option<Vec<Seed>> {
        if self.seeds.trim().is_empty() {
            return Some(Vec::new());
        }
        let mut seeds: Vec<_> = self
            .seeds
            .split(',')
            .map(|seed| parse_seed(seed.trim()))
            .collect::<Option<_>>()?;
        seeds.sort_unstable();
        let is_unique = seeds
            .windows(2)
            .all(|pair| pair[0].broker != pair[1].broker);
        is_unique.then_some(seeds)
    }
}

fn parse_seed(text: &str) -> Option<Seed> {
    let (broker, address) = text.split_once('@')?;
    let broker = broker.parse().ok().filter(|id| *id != 0)?;
    let (host, port) = split_host_port(address)?;
    Some(Seed {
        broker: BrokerId(broker),
        host,
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(text: &str) -> Option<Vec<Seed>> {
        let config = ClusterConfig {
            seeds: text.to_owned(),
        };
        config.parse_seeds()
    }

    #[test]
    fn seeds_are_read_in_order_of_their_numbers() {
        let seed = |id, host: &str, port| Seed {
            broker: BrokerId(id),
            host: host.to_owned(),
            port,
        };
        assert_eq!(seeds(""), Some(vec![]));
        assert_eq!(
            seeds("2@b.example.com:7411, 1@[::1]:9"),
            Some(vec![seed(1, "::1", 9), seed(2, "b.example.com", 7411)])
        );
    }

    #[test]
    fn what_names_no_broker_or_one_twice_is_refused() {
        for text in [
            "b:7411",
            "1@b",
            "0@b:7411",
            "1@b:0",
            "1@b:1,1@c:1",
            "1@b:1,",
        ] {
            assert_eq!(seeds(text), None, "{text}");
        }
    }
}
