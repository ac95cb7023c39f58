//! The cluster at one moment, as far as it was said.

use std::collections::BTreeMap;

/// The cluster at one moment. All lists are by name or id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) brokers: Vec<Broker>,
    pub(super) topics: Vec<Topic>,
    pub(super) groups: Vec<Group>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broker {
    pub(super) id: u32,
    /// Whether the broker that was asked first hears it.
    pub(super) is_up: bool,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) name: String,
    /// Differs where a topic was deleted and made again.
    pub(super) id: Vec<u8>,
    pub(super) partitions: Vec<Partition>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) number: u32,
    pub(super) leader: Option<u32>,
    /// Brokers that hold it.
    pub(super) replicas: Vec<u32>,
    /// None where its leader said nothing.
    pub(super) log: Option<Log>,
}

/// What the leader of a partition says of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) start: u64,
    pub(super) high_watermark: u64,
    pub(super) bytes: u64,
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) state: &'static str,
    pub(super) members: u32,
    /// Committed offsets by topic and partition.
    pub(super) committed: BTreeMap<(String, u32), u64>,
}

impl Sample {
    /// The high watermark of a partition, where it is known.
    pub(super) fn high_watermark(&self, topic: &str, partition: u32) -> Option<u64> {
        let at = |topics: &[Topic]| {
            topics
                .binary_search_by(|known| known.name.as_str().cmp(topic))
                .ok()
        };
        let topic = &self.topics[at(&self.topics)?];
        Some(topic.partition(partition)?.log?.high_watermark)
    }
}

impl Topic {
    pub(super) fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|known| known.number == number)
    }
}
