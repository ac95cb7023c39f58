//! What those who ask coordinators share: the clock that members' sessions are measured by, and the topics in the form that
//! groups see.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use highwater_proto::PartitionIndex;
use tokio::time::Instant;

use crate::controller::{ClusterImage, ClusterView, Topic};
use crate::coordinator::{Catalog, CatalogTopic};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Coordination {
    /// Where the clock begins.
    epoch: Instant,
    cluster: Arc<ClusterView>,
    catalog: ArcSwap<Catalog>,
}

impl Coordination {
    /// A clock that begins now, and the topics of `cluster`.
    pub(crate) fn new(cluster: Arc<ClusterView>) -> Self {
        Self {
            epoch: Instant::now(),
            cluster,
            catalog: ArcSwap::default(),
        }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The topics now. They are put into form once for each version of the metadata.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        let image = self.cluster.image();
        let known = self.catalog.load_full();
        if known.version() == image.version() {
            return known;
        }
        let catalog = Arc::new(catalog_of(&image));
        // Whoever was faster may have put a newer one there: the next look finds out.
        self.catalog.store(Arc::clone(&catalog));
        catalog
    }
}

fn catalog_of(image: &ClusterImage) -> Catalog {
    let topic = |topic: &Arc<Topic>| {
        let racks = topic.partitions.iter().map(|partition| {
            let brokers = partition
                .replicas
                .iter()
                .filter_map(|replica| image.broker(replica.broker));
            brokers.filter_map(|broker| broker.rack.clone()).collect()
        });
        let named = CatalogTopic {
            name: topic.name.clone(),
            racks: racks.collect(),
        };
        (topic.id, named)
    };
    Catalog::new(image.version(), image.client_topics().map(topic))
}

/// Which of `count` coordinators has the group: the same for all times, as `count` is.
pub(crate) fn coordinator_of(group: &str, count: usize) -> PartitionIndex {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    PartitionIndex(crc32c::crc32c(group.as_bytes()) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_where_it_always_was() {
        // Committed offsets are found by these: they must never change.
        let found: Vec<_> = ["", "a", "billing", "zz"]
            .map(|group| coordinator_of(group, 4).0)
            .into();
        assert_eq!(found, [0, 0, 0, 2]);
        let spread: std::collections::BTreeSet<_> = (0..100)
            .map(|number| coordinator_of(&format!("group-{number}"), 4).0)
            .collect();
        assert_eq!(spread.len(), 4);
    }
}
