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
        /// Brokers that decide about topics and members: 1, 3 or 5. A majority of them must be up. Where there are fewer brokers, the
        /// largest odd number of them; the others follow, and take the place of one that is lost.
        pub controller_voters: usize = 3,
        /// Time between two heartbeats of a broker to each other one. With `missed_heartbeats` it says how soon the leaders on a
        /// broker that died are replaced.
        pub heartbeat_interval_ms: u32 = 100,
        /// Heartbeats in a row that may be missed before a broker counts as down. Fewer elect more often for nothing.
        pub missed_heartbeats: u32 = 3,
        /// How long a broker's sync, or one of its shards, may stand still before it counts as down: what cannot acknowledge must
        /// not lead.
        pub stall_timeout_ms: u32 = 5_000,
        /// Partitions led by one broker whose records are copied to new replicas at the same time. More finish sooner and take
        /// more of the disks and the network from producers and consumers.
        pub moves_at_once: usize = 4,
        /// Raft messages that wait to be sent to one broker, on each of its two lanes. Beyond it some are dropped, and repeated
        /// later.
        pub send_queue_messages: usize = 65_536,
        /// Bytes of them. They are mostly batches that the log holds as well, for as long as the other broker is slow.
        pub send_queue_bytes: usize = 64 << 20,
        /// Replicas of this broker that are seeded at once: that copy the whole log of a partition from its leader. Others wait.
        pub seedings: usize = 2,
        /// Replicas of other brokers that are seeded from this one at once. Others ask again.
        pub seedings_given: usize = 16,
        /// Bytes per second that all seedings of this broker take together, and as many again that it gives to others, while
        /// anything else is written to its logs; while nothing is, they take as much as there is. 0: always as much as there is.
        pub seeding_bytes_per_second: u64 = 128 << 20,
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
        check.that(
            "cluster.controller_voters",
            self.controller_voters,
            matches!(self.controller_voters, 1 | 3 | 5),
            "1, 3 or 5",
        );
        check.within(
            "cluster.heartbeat_interval_ms",
            self.heartbeat_interval_ms,
            10,
            10_000,
        );
        check.within("cluster.missed_heartbeats", self.missed_heartbeats, 1, 1000);
        check.within(
            "cluster.stall_timeout_ms",
            self.stall_timeout_ms,
            100,
            600_000,
        );
        check.within("cluster.moves_at_once", self.moves_at_once, 1, 1 << 10);
        check.within(
            "cluster.send_queue_messages",
            self.send_queue_messages,
            1,
            1 << 24,
        );
        check.within(
            "cluster.send_queue_bytes",
            self.send_queue_bytes,
            1 << 10,
            1 << 34,
        );
        check.within("cluster.seedings", self.seedings, 1, 1024);
        check.within("cluster.seedings_given", self.seedings_given, 1, 1024);
        check.within(
            "cluster.seeding_bytes_per_second",
            self.seeding_bytes_per_second,
            0,
            1 << 40,
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
            ..ClusterConfig::default()
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
