//! Members that come, go, die, are slow and lose answers, old heartbeats that arrive late, topics that grow and leaders that
//! change: whatever happens, nobody reads what another member reads, and no commit takes an offset back.

use std::collections::{BTreeMap, BTreeSet};

use highwater_proto::{PartitionIndex, TopicId};
use proptest::prelude::*;
use uuid::Uuid;

use super::stage::Coordinator;
use crate::coordinator::{
    Command, Commit, CommitItem, Epoch, FetchOffsets, GroupState, Heartbeat, Limits, Presence,
    Response, Subscription, TopicPartition,
};

const GROUP: &str = "g";
const SLOTS: usize = 5;

#[derive(Clone, Debug)]
enum Happening {
    /// The process in a slot joins, or sends a heartbeat. Whether it keeps what it should let go, and whether the answer is lost.
    Beat {
        slot: usize,
        is_slow: bool,
        is_lost: bool,
    },
    Commit {
        slot: usize,
    },
    Leave {
        slot: usize,
    },
    /// The process in a slot dies; the next one there has another member id.
    Kill {
        slot: usize,
    },
    Tick {
        ms: u64,
    },
    /// A topic has more partitions from now on, or a new topic is there.
    Grow {
        topic: usize,
    },
    /// A heartbeat that was sent before comes again, and nobody hears the answer.
    Replay {
        at: usize,
    },
    /// Another leader. `loses`: a heartbeat that was on its way is lost with the old one.
    FailOver {
        loses: Option<usize>,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    let slot = || 0..SLOTS;
    prop_oneof![
        10 => (slot(), proptest::bool::weighted(0.2), proptest::bool::weighted(0.2))
            .prop_map(|(slot, is_slow, is_lost)| Happening::Beat { slot, is_slow, is_lost }),
        4 => slot().prop_map(|slot| Happening::Commit { slot }),
        1 => slot().prop_map(|slot| Happening::Leave { slot }),
        1 => slot().prop_map(|slot| Happening::Kill { slot }),
        2 => (1..80_u64).prop_map(|ms| Happening::Tick { ms }),
        1 => (0..3_usize).prop_map(|topic| Happening::Grow { topic }),
        2 => (0..200_usize).prop_map(|at| Happening::Replay { at }),
        1 => proptest::option::of(slot()).prop_map(|loses| Happening::FailOver { loses }),
    ]
}

/// A process.
#[derive(Debug, Default)]
struct Reader {
    id: String,
    epoch: Option<Epoch>,
    /// What it reads, with its position.
    positions: BTreeMap<TopicPartition, u64>,
    leaving: BTreeSet<TopicPartition>,
}

struct World {
    coordinator: Coordinator,
    readers: Vec<Reader>,
    sent: Vec<Heartbeat>,
    next_id: usize,
    committed: BTreeMap<TopicPartition, u64>,
}

impl World {
    fn new() -> Self {
        let limits = Limits {
            max_groups: 10,
            max_members: 10,
            ..Limits::default()
        };
        let mut world = Self {
            coordinator: Coordinator::new(limits),
            readers: Vec::new(),
            sent: Vec::new(),
            next_id: 0,
            committed: BTreeMap::new(),
        };
        world.coordinator.grow("t0", topic(0));
        world.coordinator.grow("t0", topic(0));
        for _ in 0..SLOTS {
            let reader = world.new_reader();
            world.readers.push(reader);
        }
        world
    }

    fn new_reader(&mut self) -> Reader {
        self.next_id += 1;
        Reader {
            id: format!("m{}", self.next_id),
            ..Reader::default()
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Beat {
                slot,
                is_slow,
                is_lost,
            } => self.beat(*slot, *is_slow, *is_lost),
            Happening::Commit { slot } => self.commit(*slot),
            Happening::Leave { slot } => {
                let heartbeat =
                    self.coordinator
                        .heartbeat(GROUP, &self.readers[*slot].id, Presence::Leave);
                drop(
                    self.coordinator
                        .decide(Command::Heartbeat(Box::new(heartbeat))),
                );
                self.readers[*slot] = self.new_reader();
            }
            Happening::Kill { slot } => self.readers[*slot] = self.new_reader(),
            Happening::Tick { ms } => self.coordinator.pass(*ms),
            Happening::Grow { topic: number } => {
                self.coordinator.grow(&format!("t{number}"), topic(*number));
                let catalog = self.coordinator.catalog();
                self.coordinator
                    .decide(Command::Refresh { catalog })
                    .unwrap();
            }
            Happening::Replay { at } => {
                let Some(old) = self.sent.get(*at).cloned() else {
                    return;
                };
                if old.presence != Presence::Join {
                    drop(self.coordinator.decide(Command::Heartbeat(Box::new(old))));
                }
            }
            Happening::FailOver { loses } => {
                if let Some(slot) = loses {
                    self.coordinator.set_holds(true);
                    self.beat(*slot, false, true);
                }
                self.coordinator.fail_over().unwrap();
            }
        }
    }

    fn beat(&mut self, slot: usize, is_slow: bool, is_lost: bool) {
        let reader = &mut self.readers[slot];
        if !is_slow {
            let leaving = std::mem::take(&mut reader.leaving);
            reader
                .positions
                .retain(|partition, _| !leaving.contains(partition));
        }
        let presence = reader.epoch.map_or(Presence::Join, Presence::Stay);
        let mut heartbeat = self.coordinator.heartbeat(GROUP, &reader.id, presence);
        heartbeat.owned = reader.positions.keys().copied().collect();
        if presence == Presence::Join {
            heartbeat.subscription = Some(Subscription {
                names: BTreeSet::new(),
                regex: Some("t.*".to_owned()),
            });
        }
        self.sent.push(heartbeat.clone());
        let answered = self
            .coordinator
            .decide(Command::Heartbeat(Box::new(heartbeat)));
        if is_lost {
            return;
        }
        match answered {
            Ok(Response::Member {
                epoch, assignment, ..
            }) => self.follow(slot, epoch, assignment),
            Ok(other) => panic!("{other:?}"),
            // It gives everything up and begins again.
            Err(_) => self.readers[slot] = self.new_reader(),
        }
    }

    fn follow(&mut self, slot: usize, epoch: Epoch, assignment: Option<Vec<TopicPartition>>) {
        self.readers[slot].epoch = Some(epoch);
        let Some(assignment) = assignment else {
            return;
        };
        for partition in &assignment {
            if !self.readers[slot].positions.contains_key(partition) {
                let position = self.fetch(slot, *partition);
                self.readers[slot].positions.insert(*partition, position);
            }
        }
        let reader = &mut self.readers[slot];
        let leaves = |partition: &&TopicPartition| !assignment.contains(partition);
        reader.leaving = reader.positions.keys().filter(leaves).copied().collect();
    }

    fn fetch(&mut self, slot: usize, partition: TopicPartition) -> u64 {
        let reader = &self.readers[slot];
        let fetch = FetchOffsets {
            group: GROUP.into(),
            member: Some((reader.id.as_str().into(), reader.epoch.unwrap())),
            partitions: Some(vec![partition]),
        };
        let Ok(Response::Offsets(offsets)) = self.coordinator.decide(Command::FetchOffsets(fetch))
        else {
            panic!("a member that was just given a partition may ask for its offset");
        };
        let offset = offsets[0].1.as_ref().map_or(0, |offset| offset.offset);
        assert_eq!(offset, self.committed.get(&partition).copied().unwrap_or(0));
        offset
    }

    /// Reads on in everything, and commits it.
    fn commit(&mut self, slot: usize) {
        let reader = &mut self.readers[slot];
        let Some(epoch) = reader.epoch else {
            return;
        };
        for position in reader.positions.values_mut() {
            *position += 1;
        }
        let item = |(partition, offset): (&TopicPartition, &u64)| CommitItem {
            partition: *partition,
            offset: *offset,
            leader_epoch: None,
            metadata: String::new(),
        };
        let commit = Commit {
            group: GROUP.into(),
            member: Some((reader.id.as_str().into(), epoch)),
            items: reader.positions.iter().map(item).collect(),
        };
        let items = commit.items.clone();
        let Ok(Response::Items(refusals)) = self.coordinator.decide(Command::Commit(commit)) else {
            return;
        };
        for (item, refusal) in items.into_iter().zip(refusals) {
            if refusal.is_none() {
                let before = self.committed.insert(item.partition, item.offset);
                assert!(
                    before.unwrap_or(0) <= item.offset,
                    "{:?} went back",
                    item.partition
                );
            }
        }
    }

    /// Of the processes that are members, no two read one partition, and whoever is one was given what it reads.
    fn check(&mut self) {
        let members = self.members();
        let mut read = BTreeSet::new();
        for reader in &self.readers {
            let Some(member) = members.iter().find(|member| *member.id == *reader.id) else {
                continue;
            };
            for partition in reader.positions.keys() {
                assert!(read.insert(*partition), "{partition:?} has two readers");
                let has =
                    member.assigned.contains(partition) || member.revoking.contains(partition);
                assert!(
                    has,
                    "{} reads {partition:?} and does not have it",
                    reader.id
                );
            }
        }
    }

    fn members(&mut self) -> Vec<crate::coordinator::MemberView> {
        match self.coordinator.decide(Command::Describe {
            group: GROUP.into(),
            at: self.coordinator.clock(),
        }) {
            Ok(Response::Group(group)) => group.members,
            _ => Vec::new(),
        }
    }

    /// When nothing more goes wrong, everybody has an equal share of everything.
    fn check_end(&mut self) {
        // Whoever is a member and no process ends first.
        for _ in 0..6 {
            self.coordinator.pass(30);
            (0..SLOTS).for_each(|slot| self.beat(slot, false, false));
        }
        for _ in 0..8 {
            self.coordinator.pass(10);
            (0..SLOTS).for_each(|slot| self.beat(slot, false, false));
            self.check();
        }
        let Ok(Response::Group(group)) = self.coordinator.decide(Command::Describe {
            group: GROUP.into(),
            at: self.coordinator.clock(),
        }) else {
            panic!("there is no group");
        };
        assert_eq!(group.state, GroupState::Stable, "{group:#?}");
        assert_eq!(group.members.len(), SLOTS);
        let counts: Vec<_> = self
            .readers
            .iter()
            .map(|reader| reader.positions.len())
            .collect();
        assert_eq!(
            counts.iter().sum::<usize>(),
            self.coordinator.partition_count()
        );
        assert!(
            counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1,
            "{counts:?}"
        );
        self.coordinator.fail_over().unwrap();
    }
}

fn topic(number: usize) -> TopicId {
    TopicId(Uuid::from_u128(number as u128 + 1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nobody_reads_what_another_member_reads_and_no_commit_goes_back(
        happenings in proptest::collection::vec(happening(), 1..120),
    ) {
        let mut world = World::new();
        for happening in &happenings {
            world.happen(happening);
            world.check();
        }
        world.check_end();
    }
}

#[test]
fn ten_thousand_groups_and_two_thousand_members_of_one_work() {
    let limits = Limits {
        max_groups: 20_000,
        max_members: 2_000,
        ..Limits::default()
    };
    let mut coordinator = Coordinator::new(limits);
    for _ in 0..4 {
        coordinator.grow("t0", topic(0));
    }
    let partition = TopicPartition {
        topic: topic(0),
        index: PartitionIndex(0),
    };
    for number in 0..10_000 {
        let commit = Commit {
            group: format!("g{number}").into(),
            member: None,
            items: vec![CommitItem {
                partition,
                offset: number,
                leader_epoch: Some(1),
                metadata: String::new(),
            }],
        };
        coordinator.decide(Command::Commit(commit)).unwrap();
    }
    let subscription = Subscription {
        names: BTreeSet::from(["t0".to_owned()]),
        regex: None,
    };
    for number in 0..2_000 {
        let mut join = coordinator.heartbeat(GROUP, &format!("m{number:04}"), Presence::Join);
        join.subscription = Some(subscription.clone());
        coordinator
            .decide(Command::Heartbeat(Box::new(join)))
            .unwrap();
    }
    coordinator.fail_over().unwrap();
    // All are silent, and go at once.
    coordinator.pass(1);
    for _ in 0..5 {
        coordinator.pass(100);
    }
    let Ok(Response::Groups(groups)) = coordinator.decide(Command::List) else {
        panic!("no list");
    };
    assert_eq!(groups.len(), 10_001);
    assert!(groups.iter().all(|group| group.state == GroupState::Empty));
}
