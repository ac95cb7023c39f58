use proptest::prelude::*;

use super::*;

fn seed(id: u32) -> Seed {
    Seed {
        broker: BrokerId(id),
        host: format!("broker-{id}"),
        port: 7411,
    }
}

fn seeds(count: u32) -> Vec<Seed> {
    (1..=count).map(seed).collect()
}

fn directory(id: u32) -> Uuid {
    Uuid::from_u128(u128::from(id))
}

fn me(id: u32) -> Myself {
    Myself {
        broker: BrokerId(id),
        incarnation_id: directory(id),
        seeds: seeds(3),
        feature_level: 4,
        has_begun: false,
    }
}

fn answer(id: u32) -> Answer {
    Answer {
        broker: BrokerId(id),
        incarnation_id: directory(id),
        cluster_id: None,
        feature_level: 4,
        seeds: seeds(3),
        is_empty: true,
    }
}

const X: Uuid = Uuid::from_u128(100);
const Y: Uuid = Uuid::from_u128(101);

fn in_cluster(id: u32, cluster_id: Uuid) -> Answer {
    Answer {
        cluster_id: Some(cluster_id),
        is_empty: false,
        ..answer(id)
    }
}

fn unreachable() -> Seen {
    Seen::Unreachable {
        cause: "connection refused".to_owned(),
    }
}

/// All three seeds are there and empty, but for these.
fn seen(changed: impl IntoIterator<Item = (u32, Seen)>) -> BTreeMap<BrokerId, Seen> {
    let mut seen: BTreeMap<_, _> = (1..=3)
        .map(|id| (BrokerId(id), Seen::Answered(answer(id))))
        .collect();
    seen.extend(changed.into_iter().map(|(id, seen)| (BrokerId(id), seen)));
    seen
}

fn answered(id: u32, change: impl FnOnce(&mut Answer)) -> (u32, Seen) {
    let mut answer = answer(id);
    change(&mut answer);
    (id, Seen::Answered(answer))
}

fn waits_for(decision: Decision) -> Vec<Obstacle> {
    match decision {
        Decision::Wait(obstacles) => obstacles,
        other => panic!("does not wait: {other:?}"),
    }
}

#[test]
fn the_first_seed_founds_when_all_are_there_and_empty() {
    let found = Decision::Found { feature_level: 4 };
    assert_eq!(decide(&me(1), &seen([])), found);
    for id in [2, 3] {
        assert_eq!(
            waits_for(decide(&me(id), &seen([]))),
            [Obstacle::NotFirst { first: seed(1) }]
        );
    }
}

#[test]
fn a_cluster_is_founded_at_what_each_seed_understands() {
    let old = answered(3, |answer| answer.feature_level = 2);
    let found = Decision::Found { feature_level: 2 };
    assert_eq!(decide(&me(1), &seen([old])), found);
}

#[test]
fn without_other_seeds_a_broker_has_a_cluster_of_its_own() {
    for seeds in [vec![], vec![seed(1)]] {
        let alone = Myself { seeds, ..me(1) };
        let found = Decision::Found { feature_level: 4 };
        assert_eq!(decide(&alone, &BTreeMap::new()), found);
    }
}

#[test]
fn a_seed_that_does_not_answer_blocks_founding_by_its_name() {
    for id in 1..=3 {
        let obstacles = waits_for(decide(&me(1), &seen([(id, unreachable())])));
        assert_eq!(obstacles.len(), 1, "{obstacles:?}");
        let shown = obstacles[0].to_string();
        assert!(shown.contains(&format!("{id}@broker-{id}:7411")), "{shown}");
        assert!(shown.contains("connection refused"), "{shown}");
    }
    assert_eq!(waits_for(decide(&me(1), &BTreeMap::new())).len(), 3);
}

#[test]
fn any_seed_with_a_cluster_turns_founding_into_joining() {
    for me in [me(1), me(2), me(9)] {
        let others = [
            (2, Seen::Answered(in_cluster(2, X))),
            (3, unreachable()),
            (1, unreachable()),
        ];
        let join = Decision::Join {
            seed: BrokerId(2),
            cluster_id: X,
        };
        if me.broker == BrokerId(2) {
            continue;
        }
        assert_eq!(decide(&me, &seen(others)), join);
    }
}

#[test]
fn a_wiped_founder_joins_what_it_once_founded() {
    let wiped = Myself {
        incarnation_id: directory(77),
        ..me(1)
    };
    let own = answered(1, |answer| answer.incarnation_id = directory(77));
    let others = seen([own, (3, Seen::Answered(in_cluster(3, X)))]);
    // The cluster then refuses its number, because another data directory has it.
    assert!(matches!(
        decide(&wiped, &others),
        Decision::Join { cluster_id: X, .. }
    ));
}

#[test]
fn seeds_with_another_list_block_founding() {
    let other_list = answered(2, |answer| answer.seeds = seeds(4));
    let other_address = answered(2, |answer| answer.seeds[0].port = 1);
    for other in [other_list, other_address] {
        let obstacles = waits_for(decide(&me(1), &seen([other])));
        assert!(matches!(obstacles[..], [Obstacle::OtherSeeds { .. }]));
    }
}

#[test]
fn a_second_broker_of_the_same_number_founds_and_joins_nothing() {
    let second = Myself {
        incarnation_id: directory(50),
        ..me(1)
    };
    let with_cluster = seen([(3, Seen::Answered(in_cluster(3, X)))]);
    for seen in [seen([]), with_cluster] {
        assert!(matches!(
            waits_for(decide(&second, &seen))[..],
            [Obstacle::Impostor { .. }]
        ));
    }
}

#[test]
fn a_seed_that_is_somebody_else_blocks() {
    let other = answered(2, |answer| answer.broker = BrokerId(3));
    let obstacles = waits_for(decide(&me(1), &seen([other])));
    assert_eq!(
        obstacles,
        [Obstacle::OtherBroker {
            seed: seed(2),
            found: BrokerId(3)
        }]
    );
    let copied = answered(2, |answer| answer.incarnation_id = directory(3));
    let obstacles = waits_for(decide(&me(1), &seen([copied])));
    assert!(matches!(obstacles[..], [Obstacle::SameDirectory { .. }]));
}

#[test]
fn seeds_of_two_clusters_block() {
    let two = [
        (2, Seen::Answered(in_cluster(2, X))),
        (3, Seen::Answered(in_cluster(3, Y))),
    ];
    assert!(matches!(
        waits_for(decide(&me(1), &seen(two)))[..],
        [Obstacle::TwoClusters {
            found: Y,
            other: X,
            ..
        }]
    ));
}

#[test]
fn a_seed_that_holds_something_blocks_founding() {
    let holds = |id| answered(id, |answer| answer.is_empty = false);
    for id in [1, 2] {
        let obstacles = waits_for(decide(&me(1), &seen([holds(id)])));
        assert_eq!(obstacles, [Obstacle::NotEmpty { seed: seed(id) }]);
    }
}

#[test]
fn a_founder_that_was_interrupted_goes_on() {
    let begun = Myself {
        has_begun: true,
        ..me(1)
    };
    let own = || answered(1, |answer| answer.is_empty = false);
    assert!(matches!(
        decide(&begun, &seen([own()])),
        Decision::Found { .. }
    ));
    let obstacles = waits_for(decide(&begun, &seen([own(), (2, unreachable())])));
    assert!(matches!(obstacles[..], [Obstacle::Unreachable { .. }]));
    let meanwhile = seen([own(), (2, Seen::Answered(in_cluster(2, X)))]);
    assert!(matches!(
        waits_for(decide(&begun, &meanwhile))[..],
        [Obstacle::FoundedMeanwhile { .. }]
    ));
    let other_first = Myself {
        has_begun: true,
        ..me(2)
    };
    let own = answered(2, |answer| answer.is_empty = false);
    assert!(
        waits_for(decide(&other_first, &seen([own])))
            .contains(&Obstacle::BegunWithOtherSeeds { first: BrokerId(1) })
    );
}

#[test]
fn a_broker_that_is_no_seed_waits_for_a_cluster() {
    let later = Myself {
        seeds: seeds(2),
        ..me(9)
    };
    let obstacles = waits_for(decide(&later, &seen([])));
    assert_eq!(obstacles, [Obstacle::NoCluster]);
}

/// Any state that a seed may be found in.
fn any_seen(id: u32) -> impl Strategy<Value = Seen> {
    prop_oneof![
        2 => Just(unreachable()),
        6 => Just(Seen::Answered(answer(id))),
        1 => Just(Seen::Answered(in_cluster(id, X))),
        1 => (0..4_u32, 0..5_u32, any::<bool>(), any::<bool>()).prop_map(
            move |(other, incarnation, other_seeds, is_empty)| {
                let (_, seen) = answered(id, |answer| {
                    if other > 0 {
                        answer.broker = BrokerId(other);
                    }
                    if incarnation > 0 {
                        answer.incarnation_id = directory(incarnation);
                    }
                    if other_seeds {
                        answer.seeds = seeds(2);
                    }
                    answer.is_empty = is_empty;
                });
                seen
            }
        ),
    ]
}

proptest! {
    /// Whatever the seeds are like: of all brokers that look at them, only one founds, and only where each seed is there,
    /// is itself, and is empty.
    #[test]
    fn nobody_founds_but_the_first_and_only_over_empty_seeds(
        one in any_seen(1), two in any_seen(2), three in any_seen(3), who in 1..5_u32, incarnation in 0..2_u32,
    ) {
        let mut me = me(who);
        if incarnation > 0 {
            me.incarnation_id = directory(60);
        }
        let all = [one, two, three];
        let seen = seen((1..).zip(all.clone()));
        if let Decision::Found { .. } = decide(&me, &seen) {
            prop_assert_eq!(me.broker, BrokerId(1));
            prop_assert_eq!(me.incarnation_id, directory(1));
            for (id, seen) in (1..).zip(all) {
                // A directory of its own, whichever that is.
                let directory = match &seen {
                    Seen::Answered(found) => found.incarnation_id,
                    Seen::Unreachable { .. } => directory(60),
                };
                let mut expected = answer(id);
                expected.incarnation_id = directory;
                prop_assert_eq!(seen, Seen::Answered(expected));
            }
        }
    }
}
