//! The deterministic simulator: seeds that must be clean, and bugs that it must find.

use highwater_tests::sim::{self, Bug, Options};

/// Seeds that were red once.
const KEPT: [u64; 2] = [1307, 1491];

#[test]
fn a_hundred_seeds_break_no_promise() {
    let mut red = Vec::new();
    let (mut acked, mut leaders) = (0, 0);
    for seed in (0..100).chain(KEPT) {
        match sim::run(seed, Options::default()) {
            Ok(summary) => {
                acked += summary.acked_batches;
                leaders += summary.leaders;
            }
            Err(failure) => red.push(failure.to_string()),
        }
    }
    assert!(red.is_empty(), "{}", red.join("\n\n"));
    // The runs did something: batches went through, and leaders changed.
    assert!(acked > 10_000, "{acked} batches were acknowledged");
    assert!(leaders > 500, "{leaders} leaders were elected");
}

#[test]
fn the_same_seed_does_the_same_again() {
    for seed in [1, 16, 27] {
        let [first, second] = [(); 2].map(|()| sim::run(seed, Options::default()).unwrap());
        assert_eq!(first, second, "seed {seed}");
    }
    let traces = [2, 3].map(|seed| sim::run(seed, Options::default()).unwrap().trace_hash);
    assert_ne!(traces[0], traces[1]);
}

/// The simulator is only worth something if it goes red for the bugs that it is there for.
#[test]
fn every_planted_bug_is_found() {
    let is_found = |bug: &Bug| {
        (0..60).any(|seed| {
            let options = Options {
                bug: Some(*bug),
                ..Options::default()
            };
            sim::run(seed, options).is_err()
        })
    };
    let missed: Vec<_> = Bug::ALL.into_iter().filter(|bug| !is_found(bug)).collect();
    assert!(missed.is_empty(), "no seed goes red for {missed:?}");
}
