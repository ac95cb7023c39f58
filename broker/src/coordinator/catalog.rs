//! The topics of the cluster, as far as groups need them.

use std::collections::{BTreeMap, BTreeSet};

use highwater_proto::{PartitionIndex, TopicId};

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogTopic {
    /// Its name.
    pub name: String,
    /// Of each partition, by number, the racks that have a replica of it.
    pub racks: Vec<BTreeSet<String>>,
}

impl CatalogTopic {
    /// Number of its partitions.
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.racks.len()).unwrap_or(u32::MAX)
    }
}

/// All topics that groups may read, at one version of the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    version: u64,
    topics: BTreeMap<TopicId, CatalogTopic>,
    by_name: BTreeMap<String, TopicId>,
}

impl Catalog {
    /// The topics of this version of the metadata.
    pub fn new(version: u64, topics: impl IntoIterator<Item = (TopicId, CatalogTopic)>) -> Self {
        let topics: BTreeMap<_, _> = topics.into_iter().collect();
        let by_name = topics
            .iter()
            .map(|(id, topic)| (topic.name.clone(), *id))
            .collect();
        Self {
            version,
            topics,
            by_name,
        }
    }

    /// Version of the metadata. Catalogs of one version are equal; a higher one is newer.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The topic of this id.
    pub fn topic(&self, id: TopicId) -> Option<&CatalogTopic> {
        self.topics.get(&id)
    }

    /// The id of the topic of this name.
    pub fn id_of(&self, name: &str) -> Option<TopicId> {
        self.by_name.get(name).copied()
    }

    /// Names and ids, by name.
    pub fn names(&self) -> impl Iterator<Item = (&str, TopicId)> {
        self.by_name.iter().map(|(name, id)| (name.as_str(), *id))
    }

    /// Whether a partition has a replica in this rack.
    pub(super) fn is_in_rack(&self, topic: TopicId, index: PartitionIndex, rack: &str) -> bool {
        let racks = self
            .topic(topic)
            .and_then(|topic| topic.racks.get(index.0 as usize));
        racks.is_some_and(|racks| racks.contains(rack))
    }
}
