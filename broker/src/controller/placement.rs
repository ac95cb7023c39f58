//! Where new replicas go: to the brokers that hold the fewest.

use std::collections::BTreeMap;

use highwater_proto::BrokerId;

use super::image::ClusterImage;

/// What a broker holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    replicas: usize,
    preferred_leaders: usize,
}

/// Gives brokers to new replicas, one partition after the other.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    loads: BTreeMap<BrokerId, Load>,
}

impl Placement {
    /// A placement that counts with everything in `image`.
    pub(super) fn new(image: &ClusterImage) -> Self {
        let mut loads: BTreeMap<_, _> = image
            .brokers()
            .map(|broker| (broker.id, Load::default()))
            .collect();
        for partition in image.topics().flat_map(|topic| &topic.partitions) {
            for (rank, replica) in partition.replicas.iter().enumerate() {
                let load = loads.entry(replica.broker).or_default();
                load.replicas += 1;
                load.preferred_leaders += usize::from(rank == 0);
            }
        }
        Self { loads }
    }

    /// Brokers for a partition of `replicas` replicas, the preferred leader first. `replicas` is at most the number of
    /// brokers.
    pub(super) fn place(&mut self, replicas: usize) -> Vec<BrokerId> {
        let mut by_load: Vec<_> = self.loads.iter().map(|(id, load)| (*load, *id)).collect();
        by_load.sort_unstable();
        by_load.truncate(replicas);
        by_load.sort_unstable_by_key(|(load, id)| (load.preferred_leaders, *id));
        let brokers: Vec<_> = by_load.into_iter().map(|(_, id)| id).collect();
        for (rank, id) in brokers.iter().enumerate() {
            let load = self.loads.entry(*id).or_default();
            load.replicas += 1;
            load.preferred_leaders += usize::from(rank == 0);
        }
        brokers
    }
}
