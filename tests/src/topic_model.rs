//! What state a topic may be in, given what one administrator was told.
//!
//! An acknowledged change happened, a refused one did not, and of one whose outcome is unknown both must be reckoned
//! with: the model follows every state that is possible and drops those that an observation contradicts. When none is
//! left, the broker broke a promise (invariants I7, I21).
//!
//! Left out: several administrators at once. The operations on one topic are taken to come one after the other.

use std::collections::{BTreeMap, BTreeSet};

use highwater_proto::{Reason, TopicId};

/// A topic as it is or may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    /// Its id; `None` as long as nobody was told.
    pub id: Option<TopicId>,
    /// Number of partitions.
    pub partitions: u32,
    /// The configs that are set on it.
    pub configs: BTreeMap<String, String>,
}

/// A change of a topic.
#[derive(Clone, Debug)]
pub enum Change {
    /// Make it.
    Create {
        /// Number of partitions.
        partitions: u32,
        /// Configs to set.
        configs: BTreeMap<String, String>,
    },
    /// Set one config.
    Set {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Return one config to its default.
    Unset {
        /// Its name.
        name: String,
    },
    /// Give it more partitions.
    AddPartitions {
        /// Number of partitions afterwards.
        total: u32,
    },
    /// Remove it.
    Delete,
}

/// What the administrator was told of a change.
#[derive(Clone, Debug)]
pub enum Told {
    /// It is done.
    Done {
        /// The id in the answer, where it has one.
        id: Option<TopicId>,
    },
    /// It was not done and never will be.
    Refused(Reason),
    /// Nothing certain.
    Unknown,
}

/// What a topic of one name may be.
#[derive(Clone, Debug)]
pub struct TopicModel {
    /// Every possible state; `None` is "there is no such topic". Never empty.
    possible: BTreeSet<Option<Topic>>,
    /// Ids of topics that were surely deleted.
    retired: BTreeSet<TopicId>,
}

impl Default for TopicModel {
    fn default() -> Self {
        Self {
            possible: [None].into(),
            retired: BTreeSet::new(),
        }
    }
}

impl TopicModel {
    /// The states that are possible now.
    #[must_use]
    pub fn possible(&self) -> &BTreeSet<Option<Topic>> {
        &self.possible
    }

    /// Takes note of a change that was asked for and what was told of it.
    ///
    /// # Errors
    /// When a broker that keeps its promises cannot have told that; the model then stays as it was.
    pub fn note(&mut self, change: &Change, told: &Told) -> Result<(), String> {
        let after: BTreeSet<_> = match told {
            Told::Done { id } => self
                .possible
                .iter()
                .filter(|topic| knows(topic.as_ref(), change, *id))
                .filter_map(|topic| applied(topic.as_ref(), change, *id))
                .collect(),
            Told::Refused(reason) => self
                .possible
                .iter()
                .filter(|topic| may_refuse(topic.as_ref(), *reason))
                .cloned()
                .collect(),
            Told::Unknown => self
                .possible
                .iter()
                .flat_map(|topic| [Some(topic.clone()), applied(topic.as_ref(), change, None)])
                .flatten()
                .collect(),
        };
        if after.is_empty() {
            return Err(format!(
                "{change:?} was answered with {told:?}, but the topic must have been one of {:?}",
                self.possible
            ));
        }
        if let (Change::Create { .. }, Told::Done { id: Some(id) }) = (change, told)
            && self.retired.contains(id)
        {
            return Err(format!("the id {id} of a deleted topic was given again"));
        }
        self.retire(&after);
        self.possible = after;
        Ok(())
    }

    /// Takes note of how the topic is described; `None`: there is no such topic.
    ///
    /// # Errors
    /// When the topic cannot be in that state; the model then stays as it was.
    pub fn observe(&mut self, seen: Option<&Topic>) -> Result<(), String> {
        let agrees = |topic: &Option<Topic>| match (topic, seen) {
            (None, None) => true,
            (Some(topic), Some(seen)) => {
                topic.partitions == seen.partitions
                    && topic.configs == seen.configs
                    && (topic.id.is_none() || topic.id == seen.id)
            }
            _ => false,
        };
        if !self.possible.iter().any(agrees) {
            return Err(format!(
                "the topic is {seen:?}, but must be one of {:?}",
                self.possible
            ));
        }
        if let Some(id) = seen.and_then(|topic| topic.id)
            && self.retired.contains(&id)
        {
            return Err(format!("the topic with id {id} was deleted"));
        }
        let after = [seen.cloned()].into();
        self.retire(&after);
        self.possible = after;
        Ok(())
    }

    /// Ids that were possible and are no more belong to deleted topics.
    fn retire(&mut self, after: &BTreeSet<Option<Topic>>) {
        let ids = |states: &BTreeSet<Option<Topic>>| -> BTreeSet<_> {
            states
                .iter()
                .flatten()
                .filter_map(|topic| topic.id)
                .collect()
        };
        let (before, after) = (ids(&self.possible), ids(after));
        self.retired.extend(before.difference(&after));
    }
}

/// Whether an answer with this id can be about this topic.
fn knows(topic: Option<&Topic>, change: &Change, told: Option<TopicId>) -> bool {
    match (topic, change) {
        (Some(topic), Change::Delete) => topic.id.is_none() || told.is_none() || topic.id == told,
        _ => true,
    }
}

/// The state after a change, or `None` where the change is impossible.
#[expect(
    clippy::option_option,
    reason = "the inner one says whether the topic exists"
)]
fn applied(topic: Option<&Topic>, change: &Change, id: Option<TopicId>) -> Option<Option<Topic>> {
    match (topic.cloned(), change) {
        (
            None,
            Change::Create {
                partitions,
                configs,
            },
        ) => Some(Some(Topic {
            id,
            partitions: *partitions,
            configs: configs.clone(),
        })),
        (Some(mut topic), Change::Set { name, value }) => {
            topic.configs.insert(name.clone(), value.clone());
            Some(Some(topic))
        }
        (Some(mut topic), Change::Unset { name }) => {
            topic.configs.remove(name);
            Some(Some(topic))
        }
        (Some(mut topic), Change::AddPartitions { total }) if *total > topic.partitions => {
            topic.partitions = *total;
            Some(Some(topic))
        }
        (Some(_), Change::Delete) => Some(None),
        _ => None,
    }
}

/// Whether the topic can be in this state when a change is refused for this reason.
fn may_refuse(topic: Option<&Topic>, reason: Reason) -> bool {
    match reason {
        Reason::TopicAlreadyExists | Reason::InvalidPartitions => topic.is_some(),
        Reason::UnknownTopicOrPartition | Reason::UnknownTopicId => topic.is_none(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn create(partitions: u32) -> Change {
        Change::Create {
            partitions,
            configs: BTreeMap::new(),
        }
    }

    fn set(value: &str) -> Change {
        Change::Set {
            name: "retention.ms".to_owned(),
            value: value.to_owned(),
        }
    }

    fn id(number: u128) -> Option<TopicId> {
        Some(TopicId(Uuid::from_u128(number)))
    }

    fn done(number: u128) -> Told {
        Told::Done { id: id(number) }
    }

    fn topic(number: u128, partitions: u32) -> Topic {
        Topic {
            id: id(number),
            partitions,
            configs: BTreeMap::new(),
        }
    }

    #[test]
    fn an_acked_change_must_be_seen() {
        let mut model = TopicModel::default();
        model.note(&create(2), &done(1)).unwrap();
        assert!(model.observe(None).is_err());
        assert!(model.observe(Some(&topic(1, 3))).is_err());
        assert!(model.observe(Some(&topic(2, 2))).is_err());
        model.observe(Some(&topic(1, 2))).unwrap();
        model.note(&set("5"), &Told::Done { id: None }).unwrap();
        assert!(model.observe(Some(&topic(1, 2))).is_err());
        let unset = Change::Unset {
            name: "retention.ms".to_owned(),
        };
        model.note(&unset, &Told::Done { id: None }).unwrap();
        model.observe(Some(&topic(1, 2))).unwrap();
        model.note(&Change::Delete, &done(1)).unwrap();
        assert!(model.observe(Some(&topic(1, 2))).is_err());
        model.observe(None).unwrap();
    }

    #[test]
    fn a_refused_change_must_not_be_seen() {
        let mut model = TopicModel::default();
        model
            .note(&create(2), &Told::Refused(Reason::DiskFull))
            .unwrap();
        assert!(model.observe(Some(&topic(1, 2))).is_err());
        model.observe(None).unwrap();
    }

    #[test]
    fn an_unknown_change_may_be_seen_or_not_but_then_stays() {
        for happened in [false, true] {
            let mut model = TopicModel::default();
            model.note(&create(1), &done(1)).unwrap();
            let more = Change::AddPartitions { total: 4 };
            model.note(&more, &Told::Unknown).unwrap();
            assert_eq!(model.possible().len(), 2);
            let (seen, other) = if happened { (4, 1) } else { (1, 4) };
            model.observe(Some(&topic(1, seen))).unwrap();
            assert!(model.observe(Some(&topic(1, other))).is_err());
        }
    }

    #[test]
    fn a_refusal_tells_about_an_unknown_change_before_it() {
        let mut model = TopicModel::default();
        model.note(&create(1), &Told::Unknown).unwrap();
        model
            .note(&create(1), &Told::Refused(Reason::TopicAlreadyExists))
            .unwrap();
        assert!(model.observe(None).is_err());
        model.observe(Some(&topic(8, 1))).unwrap();
    }

    #[test]
    fn an_impossible_answer_is_found() {
        let mut model = TopicModel::default();
        assert!(model.note(&Change::Delete, &done(1)).is_err());
        let exists = Told::Refused(Reason::TopicAlreadyExists);
        assert!(model.note(&create(1), &exists).is_err());
        model.note(&create(1), &done(1)).unwrap();
        assert!(model.note(&create(1), &done(2)).is_err());
        assert!(model.note(&Change::Delete, &done(2)).is_err());
        let fewer = Change::AddPartitions { total: 1 };
        assert!(model.note(&fewer, &Told::Done { id: None }).is_err());
        let unknown = Told::Refused(Reason::UnknownTopicOrPartition);
        assert!(model.note(&Change::Delete, &unknown).is_err());
    }

    #[test]
    fn a_deleted_topic_never_comes_back() {
        let mut model = TopicModel::default();
        model.note(&create(1), &done(1)).unwrap();
        model.note(&Change::Delete, &done(1)).unwrap();
        assert!(model.note(&create(1), &done(1)).is_err());
        model.note(&create(1), &Told::Unknown).unwrap();
        assert!(model.observe(Some(&topic(1, 1))).is_err());
        model.observe(Some(&topic(2, 1))).unwrap();
    }
}
