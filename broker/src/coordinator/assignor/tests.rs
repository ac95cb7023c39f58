use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::coordinator::CatalogTopic;

const ASSIGNORS: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

fn topic(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn member(number: u32) -> Arc<str> {
    format!("m{number:04}").into()
}

#[derive(Clone, Debug, Default)]
struct Reader {
    topics: BTreeSet<TopicId>,
    instance: Option<String>,
    rack: Option<String>,
}

/// A group that is shared out again and again.
#[derive(Clone, Debug, Default)]
struct Scene {
    topics: BTreeMap<TopicId, u32>,
    readers: BTreeMap<Arc<str>, Reader>,
    targets: Targets,
    catalog: Catalog,
}

impl Scene {
    /// Topics numbered from 1 with so many partitions.
    fn new(partitions: &[u32]) -> Self {
        let topics = (1..).map(topic).zip(partitions.iter().copied()).collect();
        Self {
            topics,
            ..Self::default()
        }
    }

    fn join(&mut self, number: u32, topics: impl IntoIterator<Item = u128>) -> &mut Reader {
        let reader = Reader {
            topics: topics.into_iter().map(topic).collect(),
            ..Reader::default()
        };
        self.readers
            .entry(member(number))
            .insert_entry(reader)
            .into_mut()
    }

    fn leave(&mut self, number: u32) {
        self.readers.remove(&member(number));
        self.targets.remove(&member(number));
    }

    /// Shares out. How many partitions were taken from somebody who is still there.
    fn assign(&mut self, assignor: Assignor) -> usize {
        let before = std::mem::take(&mut self.targets);
        let none = BTreeSet::new();
        let wish = |(id, reader): (&Arc<str>, &'_ Reader)| (Arc::clone(id), reader.clone());
        let readers: BTreeMap<_, _> = self.readers.iter().map(wish).collect();
        let wishes = readers.iter().map(|(id, reader)| {
            let wish = Wish {
                topics: &reader.topics,
                target: before.get(id).unwrap_or(&none),
                instance: reader.instance.as_deref(),
                rack: reader.rack.as_deref(),
            };
            (Arc::clone(id), wish)
        });
        let question = Question {
            wishes: wishes.collect(),
            topics: &self.topics,
            catalog: Some(&self.catalog),
        };
        self.targets = assignor.assign(&question);
        assert_eq!(
            self.targets,
            assignor.assign(&question),
            "one question has one answer"
        );
        let lost = |(id, had): (&Arc<str>, &BTreeSet<TopicPartition>)| {
            let has = self.targets.get(id);
            has.map_or(0, |has| had.difference(has).count())
        };
        before.iter().map(lost).sum()
    }

    fn count(&self, number: u32) -> usize {
        self.targets[&member(number)].len()
    }

    fn spread(&self) -> usize {
        let counts = || self.targets.values().map(BTreeSet::len);
        counts().max().unwrap_or(0) - counts().min().unwrap_or(0)
    }

    /// Every partition that somebody wants has one owner, who wants it, and nothing else has any.
    fn check(&self) {
        let mut given = BTreeSet::new();
        assert_eq!(
            self.targets.keys().collect::<Vec<_>>(),
            self.readers.keys().collect::<Vec<_>>()
        );
        for (id, target) in &self.targets {
            for partition in target {
                assert!(given.insert(*partition), "{partition:?} is given twice");
                assert!(self.readers[id].topics.contains(&partition.topic));
                assert!(partition.index.0 < self.topics[&partition.topic]);
            }
        }
        let wanted: BTreeSet<_> = self
            .readers
            .values()
            .flat_map(|reader| reader.topics.iter().copied())
            .collect();
        let partitions = |topic: &TopicId| self.topics.get(topic).copied().unwrap_or(0) as usize;
        assert_eq!(given.len(), wanted.iter().map(partitions).sum::<usize>());
    }

    /// No single partition could move to make the numbers more even.
    fn check_even(&self) {
        for (id, target) in &self.targets {
            for topic in target.iter().map(|partition| partition.topic) {
                let takers = self
                    .readers
                    .iter()
                    .filter(|(_, reader)| reader.topics.contains(&topic));
                for (other, _) in takers {
                    assert!(
                        target.len() <= self.targets[other].len() + 1,
                        "{id} could give to {other}"
                    );
                }
            }
        }
    }
}

/// What happens to a group: members that come with topics, and members that go.
fn comings_and_goings() -> impl Strategy<Value = Vec<(u32, Option<Vec<u128>>)>> {
    let topics = proptest::collection::vec(1..5_u128, 0..4);
    proptest::collection::vec((0..12_u32, proptest::option::weighted(0.7, topics)), 1..24)
}

proptest! {
    #[test]
    fn everything_that_is_wanted_is_given_once(
        partitions in proptest::collection::vec(0..20_u32, 1..4),
        happenings in comings_and_goings(),
    ) {
        for assignor in ASSIGNORS {
            let mut scene = Scene::new(&partitions);
            for (number, topics) in happenings.clone() {
                match topics {
                    Some(topics) => drop(scene.join(number, topics)),
                    None => scene.leave(number),
                }
                scene.assign(assignor);
                scene.check();
                if assignor == Assignor::Uniform {
                    scene.check_even();
                }
            }
        }
    }

    #[test]
    fn uniform_is_balanced_within_one_and_moves_the_least(
        partitions in proptest::collection::vec(0..40_u32, 1..4),
        happenings in proptest::collection::vec((0..16_u32, proptest::bool::weighted(0.65)), 1..40),
    ) {
        let mut scene = Scene::new(&partitions);
        let total: usize = partitions.iter().map(|count| *count as usize).sum();
        for (number, comes) in happenings {
            if comes {
                scene.join(number, 1..5);
            } else {
                scene.leave(number);
            }
            let before = scene.targets.clone();
            let moved = scene.assign(Assignor::Uniform);
            scene.check();
            prop_assert!(scene.spread() <= 1);
            let members = scene.readers.len();
            if members > 0 {
                // Whoever had more than the largest share allows had to give that away; nobody gave more.
                let mut had: Vec<_> = scene.readers.keys().map(|id| before.get(id).map_or(0, BTreeSet::len)).collect();
                had.sort_unstable_by(|a, b| b.cmp(a));
                let share = |rank: usize| total / members + usize::from(rank < total % members);
                let least: usize = had.iter().enumerate().map(|(rank, had)| had.saturating_sub(share(rank))).sum();
                prop_assert_eq!(moved, least);
            }
        }
    }
}

#[test]
fn a_member_that_joins_takes_its_share_and_nothing_else_moves() {
    let mut scene = Scene::new(&[9]);
    scene.join(1, [1]);
    scene.join(2, [1]);
    assert_eq!(scene.assign(Assignor::Uniform), 0);
    assert_eq!((scene.count(1), scene.count(2)), (5, 4));
    scene.join(3, [1]);
    assert_eq!(scene.assign(Assignor::Uniform), 3);
    assert_eq!(scene.spread(), 0);
    assert_eq!(scene.assign(Assignor::Uniform), 0);
    scene.leave(1);
    assert_eq!(scene.assign(Assignor::Uniform), 0);
}

#[test]
fn range_gives_the_same_partitions_of_two_topics_to_one_member() {
    let mut scene = Scene::new(&[5, 5]);
    scene.join(1, [1, 2]).instance = Some("z".to_owned());
    scene.join(2, [1, 2]).instance = Some("a".to_owned());
    scene.assign(Assignor::Range);
    scene.check();
    let indexes = |number, wanted: u128| -> Vec<_> {
        let target = scene.targets[&member(number)].iter();
        let of_topic = target.filter(|partition| partition.topic == topic(wanted));
        of_topic.map(|partition| partition.index.0).collect()
    };
    for wanted in [1, 2] {
        assert_eq!(indexes(2, wanted), [0, 1, 2], "instance a comes first");
        assert_eq!(indexes(1, wanted), [3, 4]);
    }
}

#[test]
fn uniform_prefers_racks_and_stays_balanced() {
    let mut scene = Scene::new(&[6]);
    let racks = |rack: &str| BTreeSet::from([rack.to_owned()]);
    let in_turn = ["a", "b", "a", "b", "a", "b"].map(racks);
    let placed = CatalogTopic {
        name: "orders".to_owned(),
        racks: in_turn.to_vec(),
    };
    scene.catalog = Catalog::new(1, [(topic(1), placed)]);
    scene.join(1, [1]).rack = Some("b".to_owned());
    scene.join(2, [1]).rack = Some("a".to_owned());
    scene.assign(Assignor::Uniform);
    let indexes = |scene: &Scene, number| -> Vec<_> {
        scene.targets[&member(number)]
            .iter()
            .map(|partition| partition.index.0)
            .collect()
    };
    assert_eq!(indexes(&scene, 1), [1, 3, 5]);
    assert_eq!(indexes(&scene, 2), [0, 2, 4]);
    // A third one far from everything takes what it must.
    scene.join(3, [1]).rack = Some("c".to_owned());
    assert_eq!(scene.assign(Assignor::Uniform), 2);
    assert_eq!(scene.spread(), 0);
}

#[test]
fn two_thousand_members_are_shared_out_at_once() {
    let mut scene = Scene::new(&[3_000, 1_000]);
    for number in 0..2_000 {
        scene.join(number, [1, 2]);
    }
    scene.assign(Assignor::Uniform);
    scene.check();
    scene.leave(7);
    assert_eq!(scene.assign(Assignor::Uniform), 0);
    assert!(scene.spread() <= 1);
}

#[test]
fn assignors_are_found_by_name() {
    for assignor in ASSIGNORS {
        assert_eq!(assignor.name().parse(), Ok(assignor));
    }
    assert_eq!("sticky".parse::<Assignor>(), Err(()));
}
