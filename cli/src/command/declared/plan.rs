//! The steps from the topics that there are to those that are declared.
//!
//! - A topic that is not declared is left alone, or with `prune` deleted.
//! - What a declaration does not say is left alone; a declared `configs` is all that the topic sets.
//! - Partitions are only added.
//! - Made twice, a plan is empty the second time.

use std::collections::{BTreeMap, BTreeSet};

use highwater_client::TopicId;

use super::file::{Declared, Place};

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Existing {
    pub(super) name: String,
    pub(super) id: Option<TopicId>,
    pub(super) partitions: u32,
    pub(super) replicas: u32,
    /// Records that all partitions hold together.
    pub(super) records: u64,
    /// All that there are, by name.
    pub(super) configs: BTreeMap<String, Setting>,
}

/// A config as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) value: String,
    /// Whether the topic sets it itself.
    pub(super) is_set: bool,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// In this order; those of one topic stand together.
    pub(super) steps: Vec<Step>,
    /// What is declared and cannot be.
    pub(super) refusals: Vec<Refusal>,
}

/// One request to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) topic: String,
    /// Where it is declared; none where it is deleted because it is not.
    pub(super) place: Option<Place>,
    pub(super) action: Action,
}

/// What is done with a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Without a number it is the broker's default.
    Create {
        partitions: Option<u32>,
        replicas: Option<u32>,
        configs: BTreeMap<String, String>,
    },
    SetConfigs(Vec<ConfigChange>),
    AddPartitions {
        from: u32,
        to: u32,
    },
    SetReplicas {
        from: u32,
        to: u32,
    },
    Delete {
        id: Option<TopicId>,
        partitions: u32,
        records: u64,
    },
}

/// A config that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigChange {
    pub(super) name: String,
    /// The value in force; none where the cluster does not know the config.
    pub(super) from: Option<String>,
    /// None: back to the default.
    pub(super) to: Option<String>,
}

/// Why a topic cannot be as it is declared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) topic: String,
    pub(super) place: Place,
    pub(super) why: String,
}

/// The config that is bounded by the number of replicas.
const MIN_IN_SYNC: &str = "min.insync.replicas";

/// Compares. Where topics that are not declared are to be deleted, `prune` is set.
pub(super) fn plan(declared: &[Declared], existing: &[Existing], prune: bool) -> Plan {
    let mut plan = Plan::default();
    for topic in declared {
        match existing.iter().find(|known| known.name == topic.name) {
            None => plan.steps.push(create(topic)),
            Some(known) => plan.alter(topic, known),
        }
    }
    if prune {
        let declared: BTreeSet<&str> = declared.iter().map(|topic| topic.name.as_str()).collect();
        let others = existing
            .iter()
            .filter(|known| !declared.contains(known.name.as_str()));
        plan.steps.extend(others.map(delete));
    }
    plan
}

fn create(topic: &Declared) -> Step {
    step_of(
        topic,
        Action::Create {
            partitions: topic.partitions,
            replicas: topic.replicas,
            configs: topic.configs.clone().unwrap_or_default(),
        },
    )
}

fn delete(topic: &Existing) -> Step {
    Step {
        topic: topic.name.clone(),
        place: None,
        action: Action::Delete {
            id: topic.id,
            partitions: topic.partitions,
            records: topic.records,
        },
    }
}

fn step_of(topic: &Declared, action: Action) -> Step {
    Step {
        topic: topic.name.clone(),
        place: Some(topic.place.clone()),
        action,
    }
}

impl Plan {
    fn alter(&mut self, topic: &Declared, known: &Existing) {
        let (from, to) = (
            known.partitions,
            topic.partitions.unwrap_or(known.partitions),
        );
        if to > from {
            let action = Action::AddPartitions { from, to };
            self.steps.push(step_of(topic, action));
        } else if to < from {
            self.refusals.push(Refusal {
                topic: topic.name.clone(),
                place: topic.place.clone(),
                why: format!(
                    "it has {from} partitions and cannot have {to}: partitions cannot be taken away"
                ),
            });
        }
        let configs = config_changes(topic, known);
        let configs = (!configs.is_empty()).then(|| step_of(topic, Action::SetConfigs(configs)));
        let (from, to) = (known.replicas, topic.replicas.unwrap_or(known.replicas));
        let replicas = (to != from).then(|| step_of(topic, Action::SetReplicas { from, to }));
        // With more replicas more of them can be required, with fewer first fewer must be.
        let in_order = if to > from {
            [replicas, configs]
        } else {
            [configs, replicas]
        };
        self.steps.extend(in_order.into_iter().flatten());
    }

    /// The steps that the cluster can judge by what there is now. One about replicas that must be in sync cannot be
    /// judged beside one that changes how many there are.
    pub(super) fn judged_alone(&self) -> impl Iterator<Item = usize> {
        (0..self.steps.len()).filter(|&index| {
            let step = &self.steps[index];
            !self.steps[..index]
                .iter()
                .any(|earlier| earlier.topic == step.topic && step.depends_on(earlier))
        })
    }
}

impl Step {
    /// Whether records are lost by it.
    pub(super) fn deletes(&self) -> bool {
        matches!(self.action, Action::Delete { .. })
    }

    fn depends_on(&self, earlier: &Self) -> bool {
        let sets_min = |action: &Action| match action {
            Action::SetConfigs(changes) => changes.iter().any(|change| change.name == MIN_IN_SYNC),
            _ => false,
        };
        match (&earlier.action, &self.action) {
            (Action::SetReplicas { .. }, later) => sets_min(later),
            (earlier, Action::SetReplicas { .. }) => sets_min(earlier),
            _ => false,
        }
    }
}

fn config_changes(topic: &Declared, known: &Existing) -> Vec<ConfigChange> {
    let Some(wanted) = &topic.configs else {
        return Vec::new();
    };
    let set = wanted.iter().filter_map(|(name, value)| {
        let from = known.configs.get(name).map(|setting| &setting.value);
        let is_there = from.is_some_and(|from| is_same_value(from, value));
        (!is_there).then(|| ConfigChange {
            name: name.clone(),
            from: from.cloned(),
            to: Some(value.clone()),
        })
    });
    let surplus = known
        .configs
        .iter()
        .filter(|(name, setting)| setting.is_set && !wanted.contains_key(*name));
    let unset = surplus.map(|(name, setting)| ConfigChange {
        name: name.clone(),
        from: Some(setting.value.clone()),
        to: None,
    });
    let mut changes: Vec<ConfigChange> = set.chain(unset).collect();
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    changes
}

/// Whether the cluster takes both texts for one value. It shows values in its own spelling: `+5` as `5`.
fn is_same_value(known: &str, wanted: &str) -> bool {
    let number = |text: &str| text.trim().parse::<i64>().ok();
    known.trim() == wanted.trim()
        || number(known).is_some_and(|known| number(wanted) == Some(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> Place {
        let file = "c.yaml".into();
        Place { file, line: 7 }
    }

    fn declared(name: &str) -> Declared {
        Declared {
            name: name.into(),
            place: place(),
            partitions: None,
            replicas: None,
            configs: None,
        }
    }

    fn existing(name: &str) -> Existing {
        let configs = [
            ("min.insync.replicas", "1"),
            ("retention.ms", "600"),
            ("segment.ms", "60"),
        ];
        let setting = |(name, value): (&str, &str)| {
            let (value, is_set) = (value.to_owned(), false);
            (name.to_owned(), Setting { value, is_set })
        };
        Existing {
            name: name.into(),
            id: None,
            partitions: 4,
            replicas: 1,
            records: 9,
            configs: configs.map(setting).into(),
        }
    }

    fn configs<const N: usize>(configs: [(&str, &str); N]) -> Option<BTreeMap<String, String>> {
        Some(
            configs
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
        )
    }

    fn actions(declared: &[Declared], existing: &[Existing], prune: bool) -> Vec<Action> {
        let plan = plan(declared, existing, prune);
        assert_eq!(plan.refusals, []);
        plan.steps.into_iter().map(|step| step.action).collect()
    }

    #[test]
    fn what_is_missing_is_created_as_it_is_declared() {
        let wanted = Declared {
            partitions: Some(2),
            configs: configs([("retention.ms", "5")]),
            ..declared("a")
        };
        let create = Action::Create {
            partitions: Some(2),
            replicas: None,
            configs: configs([("retention.ms", "5")]).unwrap(),
        };
        assert_eq!(actions(&[wanted], &[existing("b")], false), [create]);
    }

    #[test]
    fn what_is_not_said_is_left_alone() {
        let mut known = existing("a");
        known.configs.get_mut("segment.ms").unwrap().is_set = true;
        assert_eq!(actions(&[declared("a")], &[known], false), []);
    }

    #[test]
    fn declared_configs_are_all_that_a_topic_sets() {
        let mut known = existing("a");
        known.configs.get_mut("segment.ms").unwrap().is_set = true;
        let wanted = Declared {
            configs: configs([("retention.ms", "700")]),
            ..declared("a")
        };
        let change = |name: &str, from: &str, to: Option<&str>| ConfigChange {
            name: name.into(),
            from: Some(from.into()),
            to: to.map(str::to_owned),
        };
        let expected = Action::SetConfigs(vec![
            change("retention.ms", "600", Some("700")),
            change("segment.ms", "60", None),
        ]);
        assert_eq!(actions(&[wanted], &[known], false), [expected]);
    }

    #[test]
    fn a_value_in_another_spelling_is_no_change() {
        let wanted = Declared {
            configs: configs([("retention.ms", " +600"), ("segment.ms", "060")]),
            ..declared("a")
        };
        assert_eq!(actions(&[wanted], &[existing("a")], false), []);
        assert!(!is_same_value("true", "1"));
    }

    #[test]
    fn partitions_are_added_and_never_taken_away() {
        let wanted = |partitions| Declared {
            partitions: Some(partitions),
            ..declared("a")
        };
        let add = Action::AddPartitions { from: 4, to: 6 };
        assert_eq!(actions(&[wanted(6)], &[existing("a")], false), [add]);
        assert_eq!(actions(&[wanted(4)], &[existing("a")], false), []);
        let plan = plan(&[wanted(3)], &[existing("a")], false);
        assert_eq!(plan.steps, []);
        assert!(
            plan.refusals[0]
                .why
                .contains("4 partitions and cannot have 3")
        );
    }

    #[test]
    fn more_replicas_come_before_more_of_them_are_required_and_go_after() {
        let wanted = |replicas, min| Declared {
            replicas: Some(replicas),
            configs: configs([("min.insync.replicas", min)]),
            ..declared("a")
        };
        let kinds = |wanted: Declared, known: Existing| {
            let plan = plan(&[wanted], &[known], false);
            // The second cannot be judged before the first is done.
            assert_eq!(plan.judged_alone().collect::<Vec<_>>(), [0]);
            let is_replicas = |step: &Step| matches!(step.action, Action::SetReplicas { .. });
            plan.steps.iter().map(is_replicas).collect::<Vec<_>>()
        };
        assert_eq!(kinds(wanted(3, "2"), existing("a")), [true, false]);
        let mut wide = existing("a");
        wide.replicas = 3;
        wide.configs.get_mut("min.insync.replicas").unwrap().value = "2".into();
        assert_eq!(kinds(wanted(1, "1"), wide), [false, true]);
    }

    #[test]
    fn other_topics_are_deleted_only_to_prune() {
        let known = [existing("a"), existing("b")];
        assert_eq!(actions(&[declared("a")], &known, false), []);
        let delete = Action::Delete {
            id: None,
            partitions: 4,
            records: 9,
        };
        assert_eq!(actions(&[declared("a")], &known, true), [delete]);
    }

    /// What the cluster is after the steps.
    fn after(existing: &[Existing], steps: Vec<Step>) -> Vec<Existing> {
        let mut topics: BTreeMap<String, Existing> = existing
            .iter()
            .map(|topic| (topic.name.clone(), topic.clone()))
            .collect();
        for step in steps {
            match step.action {
                Action::Delete { .. } => {
                    topics.remove(&step.topic);
                    continue;
                }
                Action::Create { .. } => {
                    topics.insert(step.topic.clone(), self::existing(&step.topic));
                }
                _ => {}
            }
            let topic = topics.get_mut(&step.topic).unwrap();
            let mut set = |name: &str, value: Option<String>| {
                let default = self::existing("").configs[name].value.clone();
                let is_set = value.is_some();
                let value = value.unwrap_or(default);
                topic
                    .configs
                    .insert(name.to_owned(), Setting { value, is_set });
            };
            match step.action {
                Action::Create {
                    partitions,
                    replicas,
                    configs,
                } => {
                    for (name, value) in configs {
                        set(&name, Some(value));
                    }
                    topic.partitions = partitions.unwrap_or(topic.partitions);
                    topic.replicas = replicas.unwrap_or(topic.replicas);
                }
                Action::SetConfigs(changes) => {
                    for change in changes {
                        set(&change.name, change.to);
                    }
                }
                Action::AddPartitions { to, .. } => topic.partitions = to,
                Action::SetReplicas { to, .. } => topic.replicas = to,
                Action::Delete { .. } => unreachable!(),
            }
        }
        topics.into_values().collect()
    }

    fn any_configs() -> impl Strategy<Value = BTreeMap<String, String>> {
        let names = ["min.insync.replicas", "retention.ms", "segment.ms"].map(str::to_owned);
        let name = proptest::sample::select(names.to_vec());
        let value = (1_u32..4).prop_map(|value| value.to_string());
        proptest::collection::btree_map(name, value, 0..3)
    }

    prop_compose! {
        fn any_declared()(
            partitions in proptest::option::of(4_u32..9),
            replicas in proptest::option::of(1_u32..4),
            configs in proptest::option::of(any_configs()),
        ) -> Declared {
            Declared { partitions, replicas, configs, ..declared("") }
        }
    }

    prop_compose! {
        fn any_existing()(replicas in 1_u32..4, configs in any_configs()) -> Existing {
            let mut topic = existing("");
            topic.replicas = replicas;
            for (name, value) in configs {
                topic.configs.insert(name, Setting { value, is_set: true });
            }
            topic
        }
    }

    proptest! {
        #[test]
        fn applied_once_nothing_is_left_to_do(
            wanted in proptest::collection::btree_map("[a-e]", any_declared(), 0..5),
            known in proptest::collection::btree_map("[a-e]", any_existing(), 0..5),
            prune: bool,
        ) {
            let wanted: Vec<Declared> = wanted
                .into_iter()
                .map(|(name, topic)| Declared { name, ..topic })
                .collect();
            let known: Vec<Existing> = known
                .into_iter()
                .map(|(name, topic)| Existing { name, ..topic })
                .collect();
            let first = plan(&wanted, &known, prune);
            prop_assert!(first.refusals.is_empty());
            let changed = after(&known, first.steps);
            prop_assert_eq!(plan(&wanted, &changed, prune), Plan::default());
        }
    }
}
