//! What the client knows of the cluster: topics, their partitions, who leads each, and where brokers are.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use highwater_proto::{ApiError, BrokerId, TopicId, v1};

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) broker: BrokerId,
    pub(crate) epoch: u64,
}

impl Leader {
    /// The leader that a broker names which refuses to act as one.
    fn hinted(error: &ApiError) -> Option<Self> {
        let fact = |name| error.metadata.get(name);
        Some(Self {
            broker: BrokerId(fact("leader_broker_id")?.parse().ok()?),
            epoch: fact("leader_epoch")?.parse().ok()?,
        })
    }
}

/// A topic as last heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    /// By partition; `None` while a partition has no leader.
    pub(crate) leaders: Vec<Option<Leader>>,
    /// By partition, the brokers that hold a replica.
    replicas: Vec<Vec<BrokerId>>,
    /// Version of the cluster's image that last named it.
    version: u64,
}

impl Topic {
    pub(crate) fn partitions(&self) -> u32 {
        u32::try_from(self.leaders.len()).unwrap_or(u32::MAX)
    }
}

/// The cluster as last heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    cluster_id: Bytes,
    addresses: HashMap<BrokerId, String>,
    /// Racks of the brokers that are up and have one.
    racks: HashMap<BrokerId, String>,
    topics: HashMap<String, Topic>,
}

/// More partitions than any cluster allows: a number above it is not believed.
const MAX_PARTITIONS: u32 = 1 << 20;

impl Metadata {
    /// `host:port` of a broker.
    pub(crate) fn address(&self, broker: BrokerId) -> Option<&str> {
        self.addresses.get(&broker).map(String::as_str)
    }

    /// The addresses of all brokers.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.addresses.values().map(String::as_str)
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The leader of a partition and its address, if both are known.
    pub(crate) fn leader(&self, topic: &str, partition: u32) -> Option<(Leader, &str)> {
        let leaders = &self.topics.get(topic)?.leaders;
        let leader = (*leaders.get(partition as usize)?)?;
        Some((leader, self.address(leader.broker)?))
    }

    /// A broker in the rack that holds a replica of the partition, and its address, unless the leader stands there.
    pub(crate) fn near(&self, topic: &str, partition: u32, rack: &str) -> Option<(BrokerId, &str)> {
        let (leader, _) = self.leader(topic, partition)?;
        let is_near = |broker: &BrokerId| self.racks.get(broker).is_some_and(|of| of == rack);
        if is_near(&leader.broker) {
            return None;
        }
        let replicas = self.topics.get(topic)?.replicas.get(partition as usize)?;
        let near = replicas.iter().copied().find(is_near)?;
        Some((near, self.address(near)?))
    }

    /// Believes a broker that refuses to lead a partition and names who does, unless something newer is known already.
    /// The leader, if that is news.
    pub(crate) fn hint(&mut self, topic: &str, partition: u32, error: &ApiError) -> Option<Leader> {
        let hinted = Leader::hinted(error)?;
        let leaders = &mut self.topics.get_mut(topic)?.leaders;
        let known = leaders.get_mut(partition as usize)?;
        let is_news = known.is_none_or(|known| hinted.epoch > known.epoch);
        if !is_news || !self.addresses.contains_key(&hinted.broker) {
            return None;
        }
        *known = Some(hinted);
        Some(hinted)
    }

    /// Takes up an answer that was asked for `topics`; empty means that all were asked for. Topics asked for and not in
    /// the answer were deleted, and are forgotten.
    ///
    /// Brokers learn at different times: an answer older than the one that named a topic neither makes that vanish nor
    /// takes partitions from it, and a leader older than the one known is not believed.
    pub(crate) fn update(&mut self, topics: &[String], answer: v1::ClusterMetadata) {
        if answer.cluster_id != self.cluster_id {
            self.topics.clear();
            self.cluster_id = answer.cluster_id;
        }
        let up = answer.brokers.iter().filter(|broker| broker.alive);
        self.racks = up
            .filter(|broker| !broker.rack.is_empty())
            .map(|broker| (BrokerId(broker.broker_id), broker.rack.clone()))
            .collect();
        self.addresses = answer
            .brokers
            .into_iter()
            .map(|broker| (BrokerId(broker.broker_id), address_of(&broker)))
            .collect();
        let version = answer.image_version;
        let asked: HashSet<&String> = topics.iter().collect();
        let named: HashSet<&String> = answer.topics.iter().map(|topic| &topic.name).collect();
        self.topics.retain(|name, known| {
            let was_asked = asked.is_empty() || asked.contains(name);
            !was_asked || named.contains(name) || known.version > version
        });
        for topic in answer.topics {
            let Some(id) = TopicId::from_slice(&topic.topic_id) else {
                continue;
            };
            let before = self.topics.get(&topic.name);
            if before.is_some_and(|before| before.id != id && before.version > version) {
                continue;
            }
            let before = before.filter(|before| before.id == id);
            let learnt = Topic {
                id,
                leaders: leaders(&topic.partitions, before),
                replicas: replicas(&topic.partitions),
                version: before.map_or(version, |before| before.version.max(version)),
            };
            self.topics.insert(topic.name, learnt);
        }
    }
}

/// `host:port` of a broker.
pub(crate) fn address_of(broker: &v1::Broker) -> String {
    match broker.host.contains(':') {
        true => format!("[{}]:{}", broker.host, broker.port),
        false => format!("{}:{}", broker.host, broker.port),
    }
}

fn replicas(partitions: &[v1::PartitionMetadata]) -> Vec<Vec<BrokerId>> {
    let mut replicas = Vec::new();
    for partition in partitions.iter().filter(|p| p.partition < MAX_PARTITIONS) {
        let place = partition.partition as usize;
        if replicas.len() <= place {
            replicas.resize(place + 1, Vec::new());
        }
        let brokers = partition.replica_broker_ids.iter();
        replicas[place] = brokers.map(|broker| BrokerId(*broker)).collect();
    }
    replicas
}

fn leaders(partitions: &[v1::PartitionMetadata], before: Option<&Topic>) -> Vec<Option<Leader>> {
    let mut leaders = before.map_or_else(Vec::new, |before| before.leaders.clone());
    for partition in partitions {
        if partition.partition >= MAX_PARTITIONS {
            continue;
        }
        let place = partition.partition as usize;
        if leaders.len() <= place {
            leaders.resize(place + 1, None);
        }
        let heard = partition.leader_broker_id.map(|broker| Leader {
            broker: BrokerId(broker),
            epoch: partition.leader_epoch,
        });
        let known = before.and_then(|topic| topic.leaders.get(place).copied().flatten());
        leaders[place] = match (heard, known) {
            (_, Some(known)) if known.epoch > partition.leader_epoch => Some(known),
            (heard, _) => heard,
        };
    }
    leaders
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn topic(name: &str, id: u8, leaders: &[Option<(u32, u64)>]) -> v1::TopicMetadata {
        v1::TopicMetadata {
            name: name.into(),
            topic_id: Bytes::from(vec![id; 16]),
            partitions: leaders
                .iter()
                .zip(0..)
                .map(|(leader, partition)| v1::PartitionMetadata {
                    partition,
                    leader_broker_id: leader.map(|(broker, _)| broker),
                    leader_epoch: leader.map_or(0, |(_, epoch)| epoch),
                    replica_broker_ids: vec![1],
                })
                .collect(),
        }
    }

    fn answer(topics: Vec<v1::TopicMetadata>) -> v1::ClusterMetadata {
        let broker = |broker_id, host: &str| v1::Broker {
            broker_id,
            host: host.into(),
            port: 7410,
            ..v1::Broker::default()
        };
        v1::ClusterMetadata {
            brokers: vec![broker(1, "one"), broker(2, "::1")],
            topics,
            ..v1::ClusterMetadata::default()
        }
    }

    fn leader(metadata: &Metadata, partition: u32) -> Option<(u32, u64)> {
        let (leader, _) = metadata.leader("a", partition)?;
        Some((leader.broker.0, leader.epoch))
    }

    #[test]
    fn a_partition_is_led_where_the_answer_says() {
        let mut metadata = Metadata::default();
        metadata.update(
            &[],
            answer(vec![topic("a", 1, &[Some((1, 4)), Some((2, 5)), None])]),
        );
        assert_eq!(metadata.topic("a").unwrap().partitions(), 3);
        assert_eq!(metadata.leader("a", 0).unwrap().1, "one:7410");
        assert_eq!(metadata.leader("a", 1).unwrap().1, "[::1]:7410");
        assert_eq!(metadata.leader("a", 2), None);
        assert_eq!(metadata.leader("a", 3), None);
        assert_eq!(metadata.leader("b", 0), None);
    }

    #[test]
    fn an_older_leader_is_not_believed() {
        let mut metadata = Metadata::default();
        let asked = ["a".to_owned()];
        metadata.update(&asked, answer(vec![topic("a", 1, &[Some((1, 4))])]));
        metadata.update(&asked, answer(vec![topic("a", 1, &[Some((2, 3))])]));
        assert_eq!(leader(&metadata, 0), Some((1, 4)));
        metadata.update(&asked, answer(vec![topic("a", 1, &[Some((2, 5))])]));
        assert_eq!(leader(&metadata, 0), Some((2, 5)));
    }

    #[test]
    fn a_topic_made_again_starts_afresh() {
        let mut metadata = Metadata::default();
        let asked = ["a".to_owned()];
        metadata.update(&asked, answer(vec![topic("a", 1, &[Some((1, 9))])]));
        metadata.update(&asked, answer(vec![topic("a", 2, &[Some((2, 1))])]));
        assert_eq!(leader(&metadata, 0), Some((2, 1)));
    }

    #[test]
    fn only_topics_asked_for_are_forgotten() {
        let mut metadata = Metadata::default();
        metadata.update(&[], answer(vec![topic("a", 1, &[]), topic("b", 2, &[])]));
        metadata.update(&["b".to_owned(), "c".to_owned()], answer(vec![]));
        assert!(metadata.topic("a").is_some() && metadata.topic("b").is_none());
        metadata.update(&[], answer(vec![]));
        assert!(metadata.topic("a").is_none());
    }

    #[test]
    fn an_older_answer_takes_nothing_away() {
        let version = |image_version, topics| v1::ClusterMetadata {
            image_version,
            ..answer(topics)
        };
        let led = Some((1, 4));
        let mut metadata = Metadata::default();
        metadata.update(&[], version(7, vec![topic("a", 2, &[led, led])]));
        metadata.update(&[], version(5, vec![topic("a", 1, &[led])]));
        metadata.update(&[], version(6, vec![topic("a", 2, &[led])]));
        metadata.update(&[], version(4, vec![]));
        assert_eq!(metadata.topic("a").unwrap().partitions(), 2);
        metadata.update(&[], version(8, vec![]));
        assert!(metadata.topic("a").is_none());
    }

    #[test]
    fn another_cluster_at_the_same_address_is_believed_whatever_its_version() {
        let cluster = |id: &'static [u8], image_version, topics| v1::ClusterMetadata {
            cluster_id: Bytes::from_static(id),
            image_version,
            ..answer(topics)
        };
        let mut metadata = Metadata::default();
        metadata.update(&[], cluster(b"one", 90, vec![topic("a", 1, &[])]));
        metadata.update(&[], cluster(b"two", 2, vec![topic("b", 2, &[])]));
        assert!(metadata.topic("a").is_none() && metadata.topic("b").is_some());
    }

    #[test]
    fn whoever_refuses_to_lead_is_believed_about_a_newer_leader() {
        let hint = |broker: u32, epoch: u64| {
            ApiError::new(highwater_proto::Reason::NotLeaderOrFollower, "")
                .with("leader_broker_id", broker)
                .with("leader_epoch", epoch)
        };
        let mut metadata = Metadata::default();
        metadata.update(&[], answer(vec![topic("a", 1, &[Some((1, 4)), None])]));
        assert_eq!(metadata.hint("a", 0, &hint(2, 4)), None);
        assert_eq!(
            metadata.hint("a", 0, &hint(9, 6)),
            None,
            "nobody knows broker 9"
        );
        assert!(metadata.hint("a", 0, &hint(2, 5)).is_some());
        assert!(metadata.hint("a", 1, &hint(1, 1)).is_some());
        assert_eq!(metadata.hint("a", 2, &hint(1, 1)), None);
        assert_eq!(metadata.hint("b", 0, &hint(1, 1)), None);
        let asked = ["a".to_owned()];
        metadata.update(&asked, answer(vec![topic("a", 1, &[Some((1, 4)), None])]));
        assert_eq!(leader(&metadata, 0), Some((2, 5)));
    }

    #[test]
    fn a_replica_in_the_rack_is_near_while_it_is_up_and_the_leader_is_not_there() {
        let racks = |racks: [&str; 2], alive| {
            let mut answer = answer(vec![topic("a", 1, &[Some((1, 4))])]);
            answer.topics[0].partitions[0].replica_broker_ids = vec![1, 2];
            for (broker, rack) in answer.brokers.iter_mut().zip(racks) {
                broker.rack = rack.to_owned();
                broker.alive = alive;
            }
            let mut metadata = Metadata::default();
            metadata.update(&[], answer);
            metadata.near("a", 0, "x").map(|(broker, _)| broker.0)
        };
        assert_eq!(racks(["y", "x"], true), Some(2));
        assert_eq!(racks(["y", "x"], false), None);
        assert_eq!(racks(["x", "x"], true), None);
        assert_eq!(racks(["", ""], true), None);
    }

    #[test]
    fn an_absurd_partition_number_allocates_nothing() {
        let mut absurd = topic("a", 1, &[Some((1, 1))]);
        absurd.partitions[0].partition = u32::MAX;
        let mut metadata = Metadata::default();
        metadata.update(&[], answer(vec![absurd]));
        assert_eq!(metadata.topic("a").unwrap().partitions(), 0);
    }
}
