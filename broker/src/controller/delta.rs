//! What changed between two images of one cluster.
//!
//! Images share what did not change, so the difference is found by comparing pointers: for a single change it costs
//! nothing per partition.

use std::sync::Arc;

use highwater_proto::TopicId;

use super::image::{ClusterImage, Topic};

/// What changed from an older image to a newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Topics that are there now and are new or different, by id.
    pub changed: Vec<Arc<Topic>>,
    /// Topics that are no longer there, by id.
    pub gone: Vec<TopicId>,
    /// Whether a broker came or changed.
    pub brokers_changed: bool,
    /// Whether cluster id or feature level changed.
    pub cluster_changed: bool,
}

impl Delta {
    /// The difference from `old` to `new`.
    pub fn between(old: &ClusterImage, new: &ClusterImage) -> Self {
        let mut delta = Self {
            brokers_changed: !new.shares_brokers(old) && !new.brokers().eq(old.brokers()),
            cluster_changed: (new.cluster_id(), new.feature_level())
                != (old.cluster_id(), old.feature_level()),
            ..Self::default()
        };
        if new.shares_topics(old) {
            return delta;
        }
        for topic in new.topics() {
            let before = old.topic(topic.id);
            if before.is_none_or(|before| !Arc::ptr_eq(before, topic) && before != topic) {
                delta.changed.push(Arc::clone(topic));
            }
        }
        let missing = |topic: &&Arc<Topic>| new.topic(topic.id).is_none();
        delta
            .gone
            .extend(old.topics().filter(missing).map(|topic| topic.id));
        delta
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
