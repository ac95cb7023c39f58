//! Members of a consumer group that come, go and die while brokers are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use highwater_client::{Client, Producer, Rebalance, Record};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::scene::{BROKERS, Scene, rounds};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const PARTITIONS: u32 = 6;
/// Longer than brokers take to go on without one of them, so that nobody is removed who is alive.
const SESSION: Duration = Duration::from_secs(10);
/// What is waited for takes less than this, or never comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all members did together.
#[derive(Default)]
struct Seen {
    /// Partitions and offsets that were received.
    received: BTreeSet<(u32, u64)>,
    /// Who reads what.
    readers: BTreeMap<u32, usize>,
    violations: Vec<String>,
}

type Shared = Arc<Mutex<Seen>>;

impl Seen {
    fn follow(&mut self, member: usize, rebalance: &Rebalance) {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                for each in partitions {
                    if let Some(other) = self.readers.insert(each.partition, member) {
                        let partition = each.partition;
                        self.violations.push(format!(
                            "{partition} is given to {member} while {other} reads it"
                        ));
                    }
                }
            }
            Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => {
                for each in partitions {
                    self.readers.remove(&each.partition);
                }
            }
        }
    }

    fn receive(&mut self, member: usize, partition: u32, offset: u64) {
        if self.readers.get(&partition) != Some(&member) {
            self.violations.push(format!(
                "{member} receives of {partition}, which it does not read"
            ));
        }
        self.received.insert((partition, offset));
    }
}

/// A process's share of the work.
struct Member {
    number: usize,
    task: JoinHandle<()>,
    stop: Arc<Notify>,
}

impl Member {
    fn start(client: &Client, number: usize, seen: &Shared) -> Self {
        let stop = Arc::new(Notify::new());
        let task = tokio::spawn(read(
            client.clone(),
            number,
            Arc::clone(seen),
            Arc::clone(&stop),
        ));
        Self { number, task, stop }
    }

    /// It ends without a word.
    async fn kill(self, seen: &Shared) {
        self.task.abort();
        drop(self.task.await);
        seen.lock()
            .unwrap()
            .readers
            .retain(|_, reader| *reader != self.number);
    }

    /// It commits and leaves.
    async fn leave(self) {
        self.stop.notify_one();
        self.task.await.unwrap();
    }
}

async fn read(client: Client, number: usize, seen: Shared, stop: Arc<Notify>) {
    let told = Arc::clone(&seen);
    let mut consumer = client
        .consumer()
        .group(GROUP)
        .topics([TOPIC])
        .session_timeout(SESSION)
        .auto_commit(Duration::from_millis(200))
        .on_rebalance(move |rebalance, _| told.lock().unwrap().follow(number, rebalance))
        .build()
        .await
        .unwrap();
    loop {
        let record = tokio::select! {
            record = consumer.recv() => record.unwrap(),
            () = stop.notified() => break,
        };
        seen.lock()
            .unwrap()
            .receive(number, record.partition, record.offset);
    }
    consumer.close().await.unwrap();
    seen.lock()
        .unwrap()
        .readers
        .retain(|_, reader| *reader != number);
}

async fn produce(producer: &Producer, count: u32) {
    let mut deliveries = Vec::new();
    for number in 0..count {
        let record = Record::to(TOPIC).partition(number % PARTITIONS).value("x");
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < give_up_at, "{what} takes too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The committed offset of each partition, which must not have gone back.
async fn committed(client: &Client, before: &mut BTreeMap<u32, u64>) {
    let offsets = client.admin().group_offsets(GROUP).await.unwrap();
    for offset in offsets {
        let partition = offset.partition.unwrap().partition;
        let offset = offset.offset.expect("what is listed was committed");
        let old = before.insert(partition, offset).unwrap_or(0);
        assert!(
            offset >= old,
            "partition {partition} went back from {old} to {offset}"
        );
    }
}

#[test]
fn every_record_is_processed_whoever_dies_and_no_commit_goes_back() {
    let mut scene = Scene::new();
    scene.topic(TOPIC, PARTITIONS);
    let addresses: Vec<_> = scene
        .cluster
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let runtime = &scene.runtime;
    let client = runtime
        .block_on(Client::connect(&addresses.join(",")))
        .unwrap();
    let producer = runtime
        .block_on(async { client.producer().build() })
        .unwrap();
    let seen = Shared::default();
    let mut random = StdRng::seed_from_u64(11);
    let mut members: Vec<Member> = runtime.block_on(async {
        (0..4)
            .map(|number| Member::start(&client, number, &seen))
            .collect()
    });
    let (mut next, mut produced) = (members.len(), 0);
    let mut offsets = BTreeMap::new();
    for round in 0..rounds() {
        let victim = random.random_range(1..=BROKERS);
        runtime.block_on(produce(&producer, 300));
        scene.cluster.kill(victim).unwrap();
        runtime.block_on(async {
            let member = members.swap_remove(random.random_range(0..members.len()));
            if round % 2 == 0 {
                member.kill(&seen).await;
            } else {
                member.leave().await;
            }
            members.push(Member::start(&client, next, &seen));
            next += 1;
            produce(&producer, 300).await;
            produced += 600;
            committed(&client, &mut offsets).await;
        });
        scene.cluster.start(victim).unwrap();
        runtime.block_on(until("processing", async || {
            seen.lock().unwrap().received.len() >= produced
        }));
        assert!(
            seen.lock().unwrap().violations.is_empty(),
            "{:?}",
            seen.lock().unwrap().violations
        );
        runtime.block_on(committed(&client, &mut offsets));
    }
    runtime.block_on(async {
        for member in members {
            member.leave().await;
        }
        committed(&client, &mut offsets).await;
        let ends: Vec<u64> = offsets.into_values().collect();
        let each = produced as u64 / u64::from(PARTITIONS);
        assert_eq!(
            ends,
            vec![each; PARTITIONS as usize],
            "what was processed is committed"
        );
    });
}
