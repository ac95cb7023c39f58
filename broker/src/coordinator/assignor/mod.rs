//! Sharing the partitions of a group out among its members.
//!
//! Pure: who wants what, who has what, and what there is go in; the target comes out. Every partition that somebody wants
//! has exactly one member that wants it, and the same question has the same answer.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use highwater_proto::{PartitionIndex, TopicId};

use super::catalog::Catalog;
use super::member::TopicPartition;

/// How partitions are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignor {
    /// Each member has as many as any other, and as few as possible move.
    #[default]
    Uniform,
    /// Neighbours together: the first members have the first partitions of each topic.
    Range,
}

impl Assignor {
    /// Its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// What each member is to have.
    pub(super) fn assign(self, question: &Question<'_>) -> Targets {
        match self {
            Self::Uniform => uniform::assign(question),
            Self::Range => range::assign(question),
        }
    }
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Assignor {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let all = [Self::Uniform, Self::Range];
        all.into_iter()
            .find(|assignor| assignor.name() == name)
            .ok_or(())
    }
}

/// What each member is to have.
pub(super) type Targets = BTreeMap<Arc<str>, BTreeSet<TopicPartition>>;

/// A member as an assignor sees it.
#[derive(Clone, Debug)]
pub(super) struct Wish<'a> {
    /// The topics that it wants.
    pub(super) topics: &'a BTreeSet<TopicId>,
    /// What it was to have so far.
    pub(super) target: &'a BTreeSet<TopicPartition>,
    /// Its name among those that come back under another id.
    pub(super) instance: Option<&'a str>,
    pub(super) rack: Option<&'a str>,
}

/// What an assignor is asked.
pub(super) struct Question<'a> {
    pub(super) wishes: BTreeMap<Arc<str>, Wish<'a>>,
    /// The topics that there are, with their numbers of partitions.
    pub(super) topics: &'a BTreeMap<TopicId, u32>,
    /// Where replicas are, if that is known.
    pub(super) catalog: Option<&'a Catalog>,
}

impl Question<'_> {
    /// The partitions of a topic.
    fn partitions_of(&self, topic: TopicId) -> impl Iterator<Item = TopicPartition> + use<> {
        let count = self.topics.get(&topic).copied().unwrap_or(0);
        (0..count).map(move |index| TopicPartition {
            topic,
            index: PartitionIndex(index),
        })
    }

    /// Whether a replica of the partition is where the member is.
    fn is_near(&self, wish: &Wish<'_>, partition: TopicPartition) -> bool {
        let (Some(catalog), Some(rack)) = (self.catalog, wish.rack) else {
            return false;
        };
        catalog.is_in_rack(partition.topic, partition.index, rack)
    }
}

#[cfg(test)]
mod tests;
