//! A cluster, the clients around it and what they saw.

use std::time::{Duration, Instant};

use highwater_client::{Admin, Client};
use highwater_proto::TopicId;
use highwater_tests::checker::{Circumstances, Summary, check};
use highwater_tests::cluster::Cluster;
use highwater_tests::process::Setup;
use highwater_tests::stamp::Place;
use highwater_tests::workload::router::Router;
use highwater_tests::workload::{Load, PATIENCE, Sizes, places};
use tokio::runtime::Runtime;

/// Rounds of the tests that do something in a loop, unless the environment says otherwise.
const DEFAULT_ROUNDS: u32 = 5;
/// Brokers of the cluster, and replicas of each partition.
pub(crate) const BROKERS: u32 = 3;
/// Between two looks at something that no message tells of.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A broker's program of this build, with so little room that segments and journals roll all the time.
pub(crate) fn setup() -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_broker-under-test")).tiny()
}

/// How often to do again what the test is about.
pub(crate) fn rounds() -> u32 {
    match std::env::var("HIGHWATER_TEST_ROUNDS") {
        Ok(text) => text.parse().expect("HIGHWATER_TEST_ROUNDS is a number"),
        Err(_) => DEFAULT_ROUNDS,
    }
}

/// A cluster and the runtime of its clients. The test itself runs outside the runtime and may block.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) runtime: Runtime,
}

impl Scene {
    /// A cluster that serves.
    pub(crate) fn new() -> Self {
        Self::around(Cluster::started(&setup(), BROKERS).unwrap())
    }

    /// A cluster that serves already.
    pub(crate) fn around(cluster: Cluster) -> Self {
        let runtime = Runtime::new().unwrap();
        Self { cluster, runtime }
    }

    /// Finds the leaders of partitions.
    pub(crate) fn router(&self) -> Router {
        let _context = self.runtime.enter();
        Router::new(&self.cluster.addresses())
    }

    /// Makes a topic with a replica on each broker and returns its partitions, once each has a leader.
    pub(crate) fn topic(&self, name: &str, partitions: u32) -> Vec<Place> {
        self.topic_with(name, partitions, &[])
    }

    /// The same, with more configured.
    pub(crate) fn topic_with(
        &self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> Vec<Place> {
        let configs = [&[("segment.bytes", "65536")], configs].concat();
        let mut router = self.router();
        let created = self.wait_for("a topic", || {
            let api = router.any();
            let creating = api.create_topic(name, partitions, BROKERS, &configs);
            match self.runtime.block_on(creating) {
                Ok(id) => Some(id),
                Err(failure) if failure.retriable && failure.definite => None,
                Err(failure) => panic!("{failure:?}"),
            }
        });
        self.led(created, partitions)
    }

    fn led(&self, topic: TopicId, partitions: u32) -> Vec<Place> {
        let places = places(topic, partitions);
        for place in &places {
            self.leader(*place);
        }
        places
    }

    /// The number of the broker that leads a partition.
    pub(crate) fn leader(&self, place: Place) -> u32 {
        // One router throughout: it asks another broker each time, and one may be frozen.
        let mut router = self.router();
        self.wait_for("a leader", || {
            let address = self.runtime.block_on(router.leader_address(place))?;
            self.cluster.number_at(address)
        })
    }

    /// Administers the cluster.
    pub(crate) fn admin(&self) -> Admin {
        let addresses = self.cluster.addresses();
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(",");
        let client = self.runtime.block_on(Client::connect(&addresses));
        client.unwrap().admin()
    }

    /// Looks until there is something.
    pub(crate) fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
    }

    /// Every kind of client at work.
    pub(crate) fn load(&self, places: Vec<Place>) -> Load {
        let addresses = self.cluster.addresses();
        Load::new(self.runtime.handle(), addresses, places, Sizes::default()).everything()
    }

    /// Ends the load and judges what its clients saw.
    pub(crate) fn judge(load: Load, circumstances: &Circumstances) -> Summary {
        let history = load.history().clone();
        let failures = load.failures();
        let finals = load.finish().unwrap();
        let verdict = check(&history.ledger(), &finals, circumstances);
        println!("{}; failures: {failures:?}", verdict.summary);
        verdict.assert_clean();
        verdict.summary
    }
}

/// Nobody was frozen or cut off.
pub(crate) fn calm() -> Circumstances {
    Circumstances::default()
}

/// Leaders were frozen or cut off.
pub(crate) fn lingering() -> Circumstances {
    Circumstances {
        lingering_leaders: true,
        ..Circumstances::default()
    }
}

/// Waits until so many more records of each of the partitions are acknowledged.
pub(crate) fn wait_for_acks_in(load: &Load, places: &[Place], records: u64) {
    let acked = |ledger: &highwater_tests::history::Ledger, place: Place| -> u64 {
        let sends = ledger.sends.iter().filter(|send| send.place == place);
        let acked = sends.filter(|send| send.acked().is_some());
        acked
            .map(highwater_tests::history::SendBatch::record_count)
            .sum()
    };
    let wanted: Vec<_> = load.history().note(|ledger| {
        let wanted = places.iter().map(|place| acked(ledger, *place) + records);
        wanted.collect()
    });
    let what = format!("{records} more acknowledged records in each partition");
    load.wait_for(&what, |ledger| {
        let mut places = places.iter().zip(&wanted);
        places.all(|(place, wanted)| acked(ledger, *place) >= *wanted)
    })
    .unwrap();
}
