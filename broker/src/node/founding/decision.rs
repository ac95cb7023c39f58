//! Whether a broker without a cluster founds one, joins one, or waits.
//!
//! A cluster is founded once: only the first of the seeds may, and only when each of them has answered, itself at its own
//! address among them, all with the same list and none with a cluster or anything of one. So a broker that was started
//! twice, under an id that is not its own or with another list founds nothing, and neither does one that cannot see
//! whether the others have a cluster. As soon as any seed has one, the broker joins that.

use std::collections::BTreeMap;
use std::fmt;

use highwater_proto::BrokerId;
use uuid::Uuid;

use crate::config::Seed;

/// This broker.
#[derive(Clone, Debug)]
pub(in crate::node) struct Myself {
    pub(in crate::node) broker: BrokerId,
    pub(in crate::node) incarnation_id: Uuid,
    /// By broker id.
    pub(in crate::node) seeds: Vec<Seed>,
    pub(in crate::node) feature_level: u32,
    /// Whether the data directory holds the log that a founder begins with: it decided to found before.
    pub(in crate::node) has_begun: bool,
}

/// What a seed said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) enum Seen {
    /// Nothing.
    Unreachable {
        /// Why.
        cause: String,
    },
    /// Who it is.
    Answered(Answer),
}

/// Who answers at the address of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct Answer {
    pub(in crate::node) broker: BrokerId,
    pub(in crate::node) incarnation_id: Uuid,
    pub(in crate::node) cluster_id: Option<Uuid>,
    pub(in crate::node) feature_level: u32,
    /// By broker id.
    pub(in crate::node) seeds: Vec<Seed>,
    pub(in crate::node) is_empty: bool,
}

/// What a broker without a cluster does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) enum Decision {
    /// Found one.
    Found {
        /// What each of the seeds understands.
        feature_level: u32,
    },
    /// Join the one that this seed belongs to.
    Join {
        /// Whom to ask.
        seed: BrokerId,
        /// Its cluster.
        cluster_id: Uuid,
    },
    /// Ask again later.
    Wait(Vec<Obstacle>),
}

/// What a broker waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) enum Obstacle {
    /// A seed does not answer.
    Unreachable { seed: Seed, cause: String },
    /// Another broker answers at the address of a seed.
    OtherBroker { seed: Seed, found: BrokerId },
    /// A broker with the number of this one and another data directory answers at its address.
    Impostor { seed: Seed, found: Uuid },
    /// Two seeds have the same data directory, or copies of it.
    SameDirectory { seed: Seed, other: BrokerId },
    /// Seeds belong to different clusters.
    TwoClusters {
        seed: Seed,
        found: Uuid,
        other: Uuid,
    },
    /// A seed was given other seeds.
    OtherSeeds { seed: Seed, found: Vec<Seed> },
    /// A seed without a cluster holds something.
    NotEmpty { seed: Seed },
    /// This broker began to found a cluster, and now there is one.
    FoundedMeanwhile { seed: Seed, cluster_id: Uuid },
    /// This broker began to found a cluster, and the seeds are others now.
    BegunWithOtherSeeds { first: BrokerId },
    /// Another broker founds the cluster.
    NotFirst { first: Seed },
    /// This broker is no seed, and no seed has a cluster yet.
    NoCluster,
}

/// Decides on what each seed said last.
pub(in crate::node) fn decide(me: &Myself, seen: &BTreeMap<BrokerId, Seen>) -> Decision {
    let is_alone = me.seeds.iter().all(|seed| seed.broker == me.broker);
    if is_alone {
        return Decision::Found {
            feature_level: me.feature_level,
        };
    }
    let contradictions = contradictions(me, seen);
    if !contradictions.is_empty() {
        return Decision::Wait(contradictions);
    }
    if let Some((seed, cluster_id)) = clusters(me, seen).next() {
        if me.has_begun {
            let seed = seed.clone();
            return Decision::Wait(vec![Obstacle::FoundedMeanwhile { seed, cluster_id }]);
        }
        return Decision::Join {
            seed: seed.broker,
            cluster_id,
        };
    }
    let obstacles = obstacles(me, seen);
    if !obstacles.is_empty() {
        return Decision::Wait(obstacles);
    }
    let levels = answers(me, seen).map(|(_, answer)| answer.feature_level);
    Decision::Found {
        feature_level: levels.fold(me.feature_level, u32::min),
    }
}

/// The seeds that answered.
fn answers<'a>(
    me: &'a Myself,
    seen: &'a BTreeMap<BrokerId, Seen>,
) -> impl Iterator<Item = (&'a Seed, &'a Answer)> {
    me.seeds
        .iter()
        .filter_map(|seed| match seen.get(&seed.broker)? {
            Seen::Answered(answer) => Some((seed, answer)),
            Seen::Unreachable { .. } => None,
        })
}

/// The seeds that have a cluster.
fn clusters<'a>(
    me: &'a Myself,
    seen: &'a BTreeMap<BrokerId, Seen>,
) -> impl Iterator<Item = (&'a Seed, Uuid)> {
    answers(me, seen).filter_map(|(seed, answer)| Some((seed, answer.cluster_id?)))
}

/// What cannot be: no founding and no joining before somebody has looked at it.
fn contradictions(me: &Myself, seen: &BTreeMap<BrokerId, Seen>) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let mut directories = BTreeMap::from([(me.incarnation_id, me.broker)]);
    let mut cluster = None;
    for (seed, answer) in answers(me, seen) {
        let seed = seed.clone();
        if answer.broker != seed.broker {
            let found_broker = answer.broker;
            found.push(Obstacle::OtherBroker {
                seed,
                found: found_broker,
            });
            continue;
        }
        if seed.broker == me.broker && answer.incarnation_id != me.incarnation_id {
            found.push(Obstacle::Impostor {
                seed,
                found: answer.incarnation_id,
            });
            continue;
        }
        let other = *directories
            .entry(answer.incarnation_id)
            .or_insert(seed.broker);
        if other != seed.broker {
            found.push(Obstacle::SameDirectory { seed, other });
            continue;
        }
        if let Some(cluster_id) = answer.cluster_id {
            let first = *cluster.get_or_insert(cluster_id);
            if first != cluster_id {
                found.push(Obstacle::TwoClusters {
                    seed,
                    found: cluster_id,
                    other: first,
                });
            }
        }
    }
    found
}

/// What stands in the way of founding a cluster where no seed has one.
fn obstacles(me: &Myself, seen: &BTreeMap<BrokerId, Seen>) -> Vec<Obstacle> {
    let mut found = Vec::new();
    for seed in &me.seeds {
        let obstacle = match seen.get(&seed.broker) {
            None => Some(Obstacle::Unreachable {
                seed: seed.clone(),
                cause: "it was not asked yet".to_owned(),
            }),
            Some(Seen::Unreachable { cause }) => Some(Obstacle::Unreachable {
                seed: seed.clone(),
                cause: cause.clone(),
            }),
            Some(Seen::Answered(answer)) => obstacle_of(me, seed, answer),
        };
        found.extend(obstacle);
    }
    let Some(first) = me.seeds.first() else {
        return found;
    };
    if first.broker != me.broker {
        if me.has_begun {
            let first = first.broker;
            found.push(Obstacle::BegunWithOtherSeeds { first });
        }
        // What else is wrong is the first one's to say, too; here it helps whoever looks at this broker's log.
        found.push(if me.is_seed() {
            let first = first.clone();
            Obstacle::NotFirst { first }
        } else {
            Obstacle::NoCluster
        });
    }
    found
}

fn obstacle_of(me: &Myself, seed: &Seed, answer: &Answer) -> Option<Obstacle> {
    // A broker that comes later may be given some of the seeds only.
    if me.is_seed() && answer.seeds != me.seeds {
        return Some(Obstacle::OtherSeeds {
            seed: seed.clone(),
            found: answer.seeds.clone(),
        });
    }
    let may_hold = seed.broker == me.broker && me.has_begun;
    (!answer.is_empty && !may_hold).then(|| Obstacle::NotEmpty { seed: seed.clone() })
}

impl Myself {
    fn is_seed(&self) -> bool {
        self.seeds.iter().any(|seed| seed.broker == self.broker)
    }
}

impl Obstacle {
    /// Whether it goes away when the other brokers do their part, and nobody has to look at it.
    pub(in crate::node) fn is_expected(&self) -> bool {
        matches!(self, Self::NotFirst { .. } | Self::NoCluster)
    }
}

/// A seed as it is configured.
struct Shown<'a>(&'a Seed);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seed { broker, host, port } = self.0;
        if host.contains(':') {
            write!(f, "{broker}@[{host}]:{port}")
        } else {
            write!(f, "{broker}@{host}:{port}")
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { seed, cause } => {
                write!(f, "seed {} does not answer: {cause}", Shown(seed))
            }
            Self::OtherBroker { seed, found } => write!(
                f,
                "at the address of seed {} broker {found} answers: correct cluster.seeds, or broker_id there",
                Shown(seed)
            ),
            Self::Impostor { seed, found } => write!(
                f,
                "at this broker's own address, {}, a broker with the same number and the data directory {found} answers: stop one \
                 of them, or give it a number of its own",
                Shown(seed)
            ),
            Self::SameDirectory { seed, other } => write!(
                f,
                "seed {} has the data directory of broker {other}, or a copy of it: each broker needs its own",
                Shown(seed)
            ),
            Self::TwoClusters { seed, found, other } => write!(
                f,
                "seed {} belongs to cluster {found} and another seed to {other}: give this broker the seeds of one cluster",
                Shown(seed)
            ),
            Self::OtherSeeds { seed, found } => {
                let found: Vec<_> = found.iter().map(|seed| Shown(seed).to_string()).collect();
                write!(
                    f,
                    "seed {} was given the seeds `{}`: cluster.seeds must be the same on each seed",
                    Shown(seed),
                    found.join(",")
                )
            }
            Self::NotEmpty { seed } => write!(
                f,
                "seed {} belongs to no cluster, yet its data directory is not empty: it may hold records of a cluster that is \
                 not here. Start it with an empty data directory",
                Shown(seed)
            ),
            Self::FoundedMeanwhile { seed, cluster_id } => write!(
                f,
                "this broker began to found a cluster and was interrupted, and now seed {} belongs to cluster {cluster_id}: \
                 start this broker with an empty data directory, so that it can join",
                Shown(seed)
            ),
            Self::BegunWithOtherSeeds { first } => write!(
                f,
                "this broker began to found a cluster when it was the first seed, which is now broker {first}: start it with an \
                 empty data directory"
            ),
            Self::NotFirst { first } => write!(
                f,
                "seed {} founds the cluster when it has met all seeds",
                Shown(first)
            ),
            Self::NoCluster => {
                f.write_str("no seed belongs to a cluster yet, and this broker is no seed")
            }
        }
    }
}

#[cfg(test)]
mod tests;
