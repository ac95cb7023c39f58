//! A broker, the clients around it and what they saw.

use std::collections::BTreeSet;

use highwater_proto::TopicId;
use highwater_tests::checker::{Circumstances, FinalLog, Summary, check};
use highwater_tests::history::History;
use highwater_tests::process::{Broker, Setup};
use highwater_tests::stamp::Place;
use highwater_tests::workload::api::{Api, Failure};
use highwater_tests::workload::router::Router;
use highwater_tests::workload::{Load, Sizes, patiently, places};
use tokio::runtime::Runtime;

/// Rounds of the tests that kill in a loop, unless the environment says otherwise.
const DEFAULT_ROUNDS: u32 = 20;

/// A broker's program of this build.
pub(crate) fn setup() -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_broker-under-test"))
}

/// How often to do again what the test is about.
pub(crate) fn rounds() -> u32 {
    match std::env::var("HIGHWATER_TEST_ROUNDS") {
        Ok(text) => text.parse().expect("HIGHWATER_TEST_ROUNDS is a number"),
        Err(_) => DEFAULT_ROUNDS,
    }
}

/// A broker and the runtime of its clients. The test itself runs outside the runtime and may block.
pub(crate) struct Scene {
    pub(crate) broker: Broker,
    pub(crate) runtime: Runtime,
    pub(crate) api: Api,
}

impl Scene {
    /// A broker that serves.
    pub(crate) fn new(setup: Setup) -> Self {
        Self::around(Broker::started(setup).unwrap())
    }

    /// A broker that serves already.
    pub(crate) fn around(broker: Broker) -> Self {
        let runtime = Runtime::new().unwrap();
        let api = runtime.block_on(async { Api::new(broker.address()) });
        Self {
            broker,
            runtime,
            api,
        }
    }

    /// Waits for a call, made again while it fails for reasons that pass.
    pub(crate) fn call<T, F>(&self, call: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.runtime.block_on(patiently(call))
    }

    /// Finds the leaders of partitions.
    pub(crate) fn router(&self) -> Router {
        let _context = self.runtime.enter();
        Router::new(&[self.broker.address()])
    }

    /// Makes a topic and returns its partitions.
    pub(crate) fn topic(
        &self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> Vec<Place> {
        let id: TopicId = self
            .call(|| self.api.create_topic(name, partitions, 0, configs))
            .unwrap();
        places(id, partitions)
    }

    /// A load without clients.
    pub(crate) fn load(&self, places: Vec<Place>) -> Load {
        let addresses = vec![self.broker.address()];
        Load::new(self.runtime.handle(), addresses, places, Sizes::default())
    }

    /// Ends the load and judges what its clients saw.
    pub(crate) fn judge(load: Load, expiring: &[Place]) -> (Summary, Vec<FinalLog>) {
        let history = load.history().clone();
        let failures = load.failures();
        let finals = load.finish().unwrap();
        let summary = Self::verdict(&history, &finals, expiring);
        println!("{summary}; failures: {failures:?}");
        (summary, finals)
    }

    /// Judges a history.
    pub(crate) fn verdict(history: &History, finals: &[FinalLog], expiring: &[Place]) -> Summary {
        let circumstances = Circumstances {
            expiring: expiring.iter().copied().collect::<BTreeSet<_>>(),
            ..Circumstances::default()
        };
        let verdict = check(&history.ledger(), finals, &circumstances);
        verdict.assert_clean();
        verdict.summary
    }
}
