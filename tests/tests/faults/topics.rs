//! The state of topics between kills.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use highwater_proto::{Reason, TopicId, v1};
use highwater_tests::process::Broker;
use highwater_tests::stamp::Place;
use highwater_tests::topic_model::{Change, Told, Topic, TopicModel};
use highwater_tests::workload::PATIENCE;
use highwater_tests::workload::api::{Api, Failure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::scene::{Scene, rounds, setup};

const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
const CONFIG: &str = "retention.ms";
const MAX_PARTITIONS: u32 = 6;

/// Changes topics at random until it is told to stop, and follows what they must be.
struct Administrator {
    api: Api,
    random: StdRng,
    models: BTreeMap<&'static str, TopicModel>,
    done: Arc<AtomicU64>,
    unknown: u64,
}

impl Administrator {
    fn new(api: Api, done: Arc<AtomicU64>) -> Self {
        Self {
            api,
            random: StdRng::seed_from_u64(3),
            models: NAMES.map(|name| (name, TopicModel::default())).into(),
            done,
            unknown: 0,
        }
    }

    async fn run(mut self, stop: Arc<AtomicBool>) -> Result<Self, String> {
        while !stop.load(Ordering::Relaxed) {
            let name = *NAMES.choose(&mut self.random).expect("names");
            if self.random.random_bool(0.3) {
                self.look(name).await?;
            } else {
                self.change(name).await?;
            }
        }
        Ok(self)
    }

    async fn change(&mut self, name: &'static str) -> Result<(), String> {
        let change = self.next_change();
        let result = match &change {
            Change::Create {
                partitions,
                configs,
            } => {
                let configs: Vec<_> = configs
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
                    .collect();
                let created = self.api.create_topic(name, *partitions, 0, &configs).await;
                created.map(Some)
            }
            Change::Set { name: key, value } => {
                let altered = self.api.alter_topic(name, &[(key, value)], &[]).await;
                altered.map(|()| None)
            }
            Change::Unset { name: key } => {
                let altered = self.api.alter_topic(name, &[], &[key]).await;
                altered.map(|()| None)
            }
            Change::AddPartitions { total } => {
                let added = self.api.add_partitions(name, *total).await;
                added.map(|()| None)
            }
            Change::Delete => self.api.delete_topic(name).await.map(Some),
        };
        let told = self.told(result);
        let model = self.models.get_mut(name).expect("a model per name");
        model
            .note(&change, &told)
            .map_err(|error| format!("{name}: {error}"))
    }

    fn told(&mut self, result: Result<Option<TopicId>, Failure>) -> Told {
        match result {
            Ok(id) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                Told::Done { id }
            }
            Err(failure) if failure.definite => {
                Told::Refused(failure.reason.parse().expect("a known reason"))
            }
            Err(_) => {
                self.unknown += 1;
                Told::Unknown
            }
        }
    }

    fn next_change(&mut self) -> Change {
        let partitions = self.random.random_range(1..=MAX_PARTITIONS);
        let value = self.random.random_range(1_000_000..9_000_000).to_string();
        match self.random.random_range(0..10) {
            0..3 => Change::Create {
                partitions,
                configs: [(CONFIG.to_owned(), value)].into(),
            },
            3..5 => Change::Set {
                name: CONFIG.to_owned(),
                value,
            },
            5 => Change::Unset {
                name: CONFIG.to_owned(),
            },
            6..8 => Change::AddPartitions { total: partitions },
            _ => Change::Delete,
        }
    }

    /// Compares a topic as it is described with what it must be. Says nothing when the broker does not answer.
    async fn look(&mut self, name: &'static str) -> Result<(), String> {
        let seen = match self.api.describe_topic(name).await {
            Ok(described) => Some(topic_of(&described)),
            Err(failure) if failure.is(Reason::UnknownTopicOrPartition) => None,
            Err(_) => return Ok(()),
        };
        let model = self.models.get_mut(name).expect("a model per name");
        model
            .observe(seen.as_ref())
            .map_err(|error| format!("{name}: {error}"))
    }
}

fn topic_of(described: &v1::DescribeTopicResponse) -> Topic {
    let set_on_topic = |config: &&v1::TopicConfig| config.source() == v1::ConfigSource::Topic;
    Topic {
        id: TopicId::from_slice(&described.topic_id),
        partitions: u32::try_from(described.partitions.len()).expect("few"),
        configs: described
            .configs
            .iter()
            .filter(set_on_topic)
            .map(|config| (config.name.clone(), config.value.clone()))
            .collect(),
    }
}

/// Waits until something holds that nothing tells of.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// The directories of topics.
fn topic_directories(broker: &Broker) -> Vec<String> {
    let entries = std::fs::read_dir(broker.data_dir().join("topics"));
    let names = entries.into_iter().flatten().map(|entry| {
        let name = entry.expect("an entry").file_name();
        name.to_string_lossy().into_owned()
    });
    names.collect()
}

#[test]
fn acknowledged_changes_of_topics_survive_kills() {
    let mut scene = Scene::new(setup().tiny());
    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let administrator = Administrator::new(scene.api.clone(), done.clone());
    let task = scene.runtime.spawn(administrator.run(stop.clone()));
    for _ in 0..rounds() {
        let wanted = done.load(Ordering::Relaxed) + 15;
        wait_until("15 more changes are done", || {
            task.is_finished() || done.load(Ordering::Relaxed) >= wanted
        });
        scene.broker.kill().unwrap();
        scene.broker.start().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut administrator = scene.runtime.block_on(task).unwrap().unwrap();
    assert!(administrator.unknown > 0, "no kill hit a request");
    // Once more, now that every answer comes, and once again after a restart.
    for _ in 0..2 {
        for name in NAMES {
            scene
                .call(|| async {
                    match scene.api.describe_topic(name).await {
                        Err(failure) if failure.is(Reason::UnknownTopicOrPartition) => Ok(()),
                        other => other.map(drop),
                    }
                })
                .unwrap();
            scene.runtime.block_on(administrator.look(name)).unwrap();
        }
        scene.broker.kill().unwrap();
        scene.broker.start().unwrap();
    }
}

#[test]
fn the_files_of_deleted_topics_go_also_when_the_broker_is_killed() {
    let mut scene = Scene::new(setup().tiny());
    let keep = scene.topic("keep", 1, &[]);
    let doomed: Vec<_> = (0..4)
        .map(|at| scene.topic(&format!("doomed-{at}"), 2, &[]))
        .collect();
    let places = [keep.clone(), doomed.concat()].concat();
    let load = scene.load(places).everything();
    load.wait_for_acks(500).unwrap();
    let has_records = |place: &Place| {
        load.history().note(|ledger| {
            let mut sends = ledger.sends.iter();
            sends.any(|send| send.place == *place && send.acked().is_some())
        })
    };
    wait_until("every partition has records", || {
        doomed.concat().iter().all(has_records)
    });
    // The load goes on over the deletion: its clients meet topics that are gone.
    for at in 0..4 {
        let name = format!("doomed-{at}");
        scene.call(|| scene.api.delete_topic(&name)).unwrap();
    }
    scene.broker.kill().unwrap();
    scene.broker.start().unwrap();
    let id = keep[0].topic.to_string();
    wait_until("only the kept topic has files", || {
        topic_directories(&scene.broker) == [id.clone()]
    });
}
