//! Chance plays on the stage of the scripts: turns, syncs, ticks, words, lost and reordered messages, crashes. Whatever
//! happens, what must hold holds, and when the faults end the group agrees. The seed of a failure repeats it.

use std::collections::{BTreeMap, VecDeque};

use super::cluster::Cluster;
use super::script::{Command, Stage};
use crate::raft::election::SplitMix64;

const NODES: u64 = 3;
const STEPS: u32 = 1500;
const SEEDS: u64 = 200;

/// One run.
struct Run {
    seed: u64,
    chance: SplitMix64,
    cluster: Cluster,
    up: BTreeMap<u64, bool>,
    words: u32,
    /// The index each acknowledged word was promised.
    acknowledged: BTreeMap<String, u64>,
    /// Who led a term.
    leaders: BTreeMap<u64, u64>,
    /// Which word each node applied at an index.
    applied: BTreeMap<u64, String>,
    /// For each read that waits on a node, the highest index that was acknowledged when it began.
    reads: BTreeMap<u64, VecDeque<u64>>,
    reads_answered: u32,
    /// Snapshots that were taken.
    restored: usize,
    compacts: bool,
    /// Whether records go after a while.
    trims: bool,
    /// Acknowledged words that are records.
    records: u64,
    /// Up to where somebody asked to trim them.
    trimmed: u64,
    said: Vec<String>,
}

#[test]
fn chance_loses_nothing_acknowledged_and_splits_no_log() {
    let played = play_seeds(0..SEEDS, "cluster 1 2 3");
    let joined = usize::try_from(SEEDS).unwrap();
    assert_eq!(played.restored, joined, "only who joins lacks entries");
}

/// Followers fall behind what was trimmed, and are seeded; those that join are, too.
#[test]
fn chance_loses_nothing_where_replicas_are_seeded() {
    let played = play_seeds(0..2 * SEEDS, "cluster 1 2 3 trims=yes");
    let joined = usize::try_from(2 * SEEDS).unwrap();
    assert!(
        played.restored > joined + 30,
        "only {} replicas were seeded",
        played.restored
    );
}

/// Followers fall behind what was compacted, and take snapshots.
#[test]
fn chance_loses_nothing_where_snapshots_replace_the_log() {
    let played = play_seeds(0..SEEDS, "cluster 1 2 3 compacts=yes");
    assert!(
        played.restored > 50,
        "only {} snapshots were taken",
        played.restored
    );
}

/// What came of some runs.
#[derive(Default)]
struct Played {
    acknowledged: usize,
    terms: usize,
    reads: u32,
    restored: usize,
}

fn play_seeds(seeds: std::ops::Range<u64>, founding: &str) -> Played {
    let mut played = Played::default();
    let runs = usize::try_from(seeds.end - seeds.start).unwrap();
    for seed in seeds {
        let mut run = Run::new(seed, founding);
        for _ in 0..STEPS {
            run.step();
        }
        run.heal();
        run.check_agreement();
        run.check_rest();
        run.check_joiner();
        played.acknowledged += run.acknowledged.len();
        played.terms += run.leaders.len();
        played.reads += run.reads_answered;
        played.restored += run.restored;
    }
    // The runs did something: words went through, reads too, and leaders changed.
    let Played {
        acknowledged,
        terms,
        reads,
        ..
    } = played;
    assert!(
        acknowledged > 5 * runs,
        "only {acknowledged} words were acknowledged"
    );
    assert!(reads > 300, "only {reads} reads were answered");
    assert!(terms > runs + runs / 2, "only {terms} leaders were elected");
    played
}

impl Run {
    fn new(seed: u64, founding: &str) -> Self {
        let mut run = Self {
            seed,
            chance: SplitMix64::new(seed),
            cluster: Cluster::default(),
            up: (1..=NODES).map(|node| (node, true)).collect(),
            words: 0,
            acknowledged: BTreeMap::new(),
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_answered: 0,
            restored: 0,
            compacts: founding.contains("compacts"),
            trims: founding.contains("trims"),
            records: 0,
            trimmed: 0,
            said: Vec::new(),
        };
        if run.may_sleep() {
            run.play("sleepy 2");
        }
        run.play(founding);
        run
    }

    fn step(&mut self) {
        let node = 1 + self.below(NODES);
        let other = 1 + self.below(NODES);
        if !self.up[&node] {
            if self.below(4) == 0 {
                self.play(&format!("restart {node}"));
                self.up.insert(node, true);
            }
            return;
        }
        match self.below(1000) {
            0..=49 => self.play(&format!("tick {node} 1")),
            50..=299 => self.play(&format!("turn {node}")),
            300..=499 => self.play(&format!("sync {node}")),
            500..=849 => self.play(&format!("deliver {node}")),
            850..=869 => self.play(&format!("drop {node} {other}")),
            870..=879 => self.play("reverse"),
            880..=882 => self.play(&format!("lose-leader {node}")),
            883..=885 => self.play(&format!("transfer {node} {other}")),
            886..=889 => self.play(&format!("checkpoint {node}")),
            893..=894 => self.play(&format!("away {node}")),
            895..=896 => self.play(&format!("lose-leaders {node} {other}")),
            897 => self.play(&format!("stick {node}")),
            898..=900 => self.play(&format!("unstick {node}")),
            901..=915 => self.read(node),
            890..=892 => {
                let mode = ["dropped", "torn", "kept", "process"][self.place(4)];
                let seed = self.below(1000);
                self.play(&format!("crash {node} {mode} seed={seed}"));
                self.up.insert(node, false);
                self.reads.remove(&node);
                // What those hear who watch over the brokers.
                for other in (1..=NODES).filter(|other| *other != node) {
                    if self.up[&other] {
                        self.play(&format!("lose-leaders {other} {node}"));
                    }
                }
            }
            920..=939 if self.compacts => self.play(&format!("checkpoint {node}")),
            920..=929 if self.trims && self.records > self.trimmed => {
                self.trimmed = self.records;
                for node in self.running() {
                    self.play(&format!("propose {node} trim{}", self.records));
                    self.play(&format!("roll {node}"));
                }
            }
            930..=939 if self.trims => {
                for node in self.running() {
                    self.play(&format!("checkpoint {node}"));
                }
            }
            940..=945 if self.compacts || self.trims => self.play(&format!("isolate {node}")),
            946..=955 if self.compacts || self.trims => self.play("heal"),
            956..=970 if self.trims => self.play(&format!("pull {node} 2")),
            971 if self.trims => self.play(&format!("lose-pulls {node}")),
            _ => {
                self.words += 1;
                let mark = ["", "#"][self.place(2)];
                self.play(&format!("propose {node} {mark}w{}", self.words));
            }
        }
    }

    fn running(&self) -> Vec<u64> {
        let up = self.up.iter().filter(|(_, is_up)| **is_up);
        up.map(|(node, _)| *node).collect()
    }

    fn read(&mut self, node: u64) {
        let acknowledged = self.acknowledged.values().max().copied().unwrap_or(0);
        self.reads.entry(node).or_default().push_back(acknowledged);
        self.play(&format!("read {node}"));
    }

    /// Ends the faults and lets the group come to rest.
    fn heal(&mut self) {
        self.play("heal");
        for node in 1..=NODES {
            if !self.up[&node] {
                self.play(&format!("restart {node}"));
            }
            self.play(&format!("unstick {node}"));
        }
        for _ in 0..60 {
            for node in 1..=NODES {
                self.play(&format!("tick {node} 1"));
                self.play("settle");
            }
        }
        self.play("propose 1 last");
        self.play("propose 2 last");
        self.play("propose 3 last");
        self.play("settle");
        self.play("tick 1 1");
        self.play("tick 2 1");
        self.play("tick 3 1");
        self.play("settle");
    }

    /// In half of the runs groups sleep when they are idle.
    fn may_sleep(&self) -> bool {
        self.seed % 4 < 2
    }

    /// Whoever was left alone for a while sleeps, where that is allowed.
    fn check_rest(&mut self) {
        for _ in 0..5 {
            for node in 1..=NODES {
                self.play(&format!("tick {node} 1"));
                self.play("settle");
            }
        }
        self.said.clear();
        self.play("asleep 1 2 3");
        let sleeping = self.said.iter().filter(|line| line.contains("sleeps"));
        let expected = if self.may_sleep() { 3 } else { 0 };
        assert_eq!(sleeping.count(), expected, "seed {}", self.seed);
    }

    /// Another replica joins, knowing nobody, and gets all there is.
    fn check_joiner(&mut self) {
        self.play("start 4");
        for node in 1..=NODES {
            self.play(&format!("members {node} +4"));
        }
        for _ in 0..10 {
            for node in 1..=NODES {
                self.play(&format!("tick {node} 1"));
            }
            self.play("settle");
        }
        self.said.clear();
        self.play("published 1 4");
        let lines: Vec<_> = self.said.iter().map(|line| &line[2..]).collect();
        assert_eq!(lines[0], lines[1], "seed {}", self.seed);
    }

    fn check_agreement(&mut self) {
        self.said.clear();
        self.play("log 1 2 3");
        self.play("published 1 2 3");
        let lines: Vec<_> = self
            .said
            .iter()
            .map(|line| line[2..].trim().to_owned())
            .collect();
        let logs = lines[..3].iter().map(|line| line.split(", ").collect());
        let logs: Vec<Vec<&str>> = logs.collect();
        // Where a log begins is each replica's own affair.
        let common = logs.iter().map(Vec::len).min().unwrap();
        let ends: Vec<_> = logs.iter().map(|log| &log[log.len() - common..]).collect();
        assert!(self.compacts || self.trims || logs.iter().all(|log| log.len() == common));
        assert_eq!(ends[0], ends[1], "seed {}", self.seed);
        assert_eq!(ends[0], ends[2], "seed {}", self.seed);
        assert_eq!(lines[3], lines[4], "seed {}", self.seed);
        assert_eq!(lines[3], lines[5], "seed {}", self.seed);
        let words: Vec<_> = lines[3].trim_matches([' ', '[', ']']).split(' ').collect();
        assert_eq!(
            words.iter().filter(|word| **word == "last").count(),
            1,
            "seed {}",
            self.seed
        );
        for word in self.acknowledged.keys() {
            let count = words.iter().filter(|other| *other == word).count();
            assert_eq!(count, 1, "seed {}: {word} was acknowledged", self.seed);
        }
    }

    fn play(&mut self, line: &str) {
        let said = self.cluster.command(&Command::parse(line));
        let said = said.unwrap_or_else(|error| panic!("seed {}: {line}: {error}", self.seed));
        for line in said {
            self.judge(&line);
            self.said.push(line);
        }
    }

    /// What a line means for what must always hold.
    fn judge(&mut self, line: &str) {
        let seed = self.seed;
        assert!(!line.contains("quarantined"), "seed {seed}: {line}");
        let words: Vec<_> = line
            .split([' ', ':', '/'])
            .filter(|word| !word.is_empty())
            .collect();
        match words[..] {
            [node, "leads", "term", term] => {
                let (node, term) = (node.parse().unwrap(), term.parse().unwrap());
                let first = *self.leaders.entry(term).or_insert(node);
                assert_eq!(first, node, "seed {seed}: two leaders of term {term}");
            }
            [node, "reads", "up", "to", index] => {
                let index: u64 = index.parse().unwrap();
                let least = self.read_ended(node);
                assert!(index >= least, "seed {seed}: a read misses {least}: {line}");
                self.reads_answered += 1;
            }
            [node, "may", "not", "read", ..] => {
                self.read_ended(node);
            }
            [_, "restores", ..] => self.restored += 1,
            [_, "answers", word, "done", "at", index] => {
                self.records += u64::from(word.starts_with('#'));
                self.acknowledged
                    .insert(word.to_owned(), index.parse().unwrap());
            }
            [_, "applies", index, _, word, ..] => {
                let index = index.parse().unwrap();
                let first = self.applied.entry(index).or_insert_with(|| word.to_owned());
                assert_eq!(first, word, "seed {seed}: two words at index {index}");
                if let Some(promised) = self.acknowledged.get(word) {
                    assert_eq!(*promised, index, "seed {seed}: {word} is elsewhere");
                }
            }
            _ => {}
        }
    }

    /// Reads of a node end in the order in which they began.
    fn read_ended(&mut self, node: &str) -> u64 {
        let waiting = self.reads.get_mut(&node.parse().unwrap());
        waiting.and_then(VecDeque::pop_front).unwrap()
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.chance.next() % limit
    }

    fn place(&mut self, limit: u64) -> usize {
        usize::try_from(self.below(limit)).unwrap()
    }
}
