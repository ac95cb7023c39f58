//! The way of one client to the leaders of partitions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use highwater_proto::{Offset, PartitionIndex, TopicId, v1};

use super::api::{Api, Failure};
use crate::stamp::Place;

/// Metadata that is not there by then is asked of another broker.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// Which broker leads a partition, and in which epoch.
#[derive(Clone, Copy, Debug)]
struct Led {
    /// Place among the addresses.
    by: usize,
    epoch: u64,
}

/// Finds the leader of each partition, and another one when that one fails.
///
/// With one broker there is nothing to find: it is asked for everything. With several, any of them is asked for the
/// metadata, one after the other; an epoch that was seen once is never gone back behind.
#[derive(Clone, Debug)]
pub struct Router {
    brokers: Vec<(SocketAddr, Api)>,
    leaders: BTreeMap<Place, Led>,
    /// The newest epoch that was heard of.
    epochs: BTreeMap<Place, u64>,
    turn: usize,
}

impl Router {
    /// Knows nobody's leader yet. Must be called within a tokio runtime.
    ///
    /// # Panics
    /// When there is no address.
    #[must_use]
    pub fn new(addresses: &[SocketAddr]) -> Self {
        assert!(!addresses.is_empty(), "a client knows a broker");
        Self {
            brokers: addresses
                .iter()
                .map(|address| (*address, Api::new(*address)))
                .collect(),
            leaders: BTreeMap::new(),
            epochs: BTreeMap::new(),
            turn: 0,
        }
    }

    /// A broker for what any of them can answer: another one each time.
    pub fn any(&mut self) -> Api {
        self.turn += 1;
        self.brokers[self.turn % self.brokers.len()].1.clone()
    }

    /// The broker to ask about a partition: its leader, as far as that is known or can be found out.
    pub async fn leader(&mut self, place: Place) -> Api {
        let by = self.leader_of(place).await;
        self.brokers[by].1.clone()
    }

    /// The address of a partition's leader, once a broker names one.
    pub async fn leader_address(&mut self, place: Place) -> Option<SocketAddr> {
        if self.brokers.len() > 1 && !self.leaders.contains_key(&place) {
            self.ask_for_leaders().await;
        }
        match self.leaders.get(&place) {
            Some(led) => Some(self.brokers[led.by].0),
            None if self.brokers.len() == 1 => Some(self.brokers[0].0),
            None => None,
        }
    }

    async fn leader_of(&mut self, place: Place) -> usize {
        if self.brokers.len() == 1 {
            return 0;
        }
        if !self.leaders.contains_key(&place) {
            self.ask_for_leaders().await;
        }
        match self.leaders.get(&place) {
            Some(led) => led.by,
            // Whoever is asked says why not.
            None => self.turn % self.brokers.len(),
        }
    }

    /// The newest epoch of a partition's leader, to be named in requests: who leads in an older one then refuses.
    #[must_use]
    pub fn epoch(&self, place: Place) -> Option<u64> {
        self.epochs.get(&place).copied()
    }

    /// A leader answered in this epoch.
    pub fn heard(&mut self, place: Place, epoch: u64) {
        if self.brokers.len() > 1 {
            let newest = self.epochs.entry(place).or_default();
            *newest = epoch.max(*newest);
        }
    }

    /// A request to a partition's leader failed: it may not be the leader any more.
    pub fn failed(&mut self, place: Place) {
        self.leaders.remove(&place);
    }

    /// Sends each batch to its leader and waits for what becomes of all. The outcomes are in the order of the batches.
    pub async fn produce(
        &mut self,
        batches: Vec<(Place, v1::ProduceItem)>,
    ) -> Vec<Result<v1::ProduceAck, Failure>> {
        let mut by_leader: BTreeMap<usize, Vec<(usize, v1::ProduceItem)>> = BTreeMap::new();
        let mut places = Vec::with_capacity(batches.len());
        for (at, (place, item)) in batches.into_iter().enumerate() {
            let leader = self.leader_of(place).await;
            by_leader.entry(leader).or_default().push((at, item));
            places.push(place);
        }
        let requests = by_leader.into_iter().map(|(leader, items)| {
            let api = self.brokers[leader].1.clone();
            async move {
                let (ats, items): (Vec<_>, Vec<_>) = items.into_iter().unzip();
                let outcomes = match api.produce(items).await {
                    Ok(outcomes) => outcomes.into_iter().map(ack_of).collect(),
                    Err(failure) => vec![Err(failure); ats.len()],
                };
                ats.into_iter().zip(outcomes).collect::<Vec<_>>()
            }
        });
        let mut outcomes: Vec<_> = join_all(requests).await.into_iter().flatten().collect();
        outcomes.sort_by_key(|(at, _)| *at);
        for (at, outcome) in &outcomes {
            if outcome.is_err() {
                self.failed(places[*at]);
            }
        }
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// The first offset that a partition holds.
    ///
    /// # Errors
    /// The broker's or the connection's.
    pub async fn earliest(&mut self, place: Place) -> Result<Offset, Failure> {
        let found = self.leader(place).await.earliest(place).await;
        if found.is_err() {
            self.failed(place);
        }
        found
    }

    /// Asks every broker who leads, so that nobody is believed who was replaced and does not know it yet.
    pub async fn ask_everybody(&mut self) {
        if self.brokers.len() > 1 {
            for _ in 0..self.brokers.len() {
                self.ask_for_leaders().await;
            }
        }
    }

    async fn ask_for_leaders(&mut self) {
        let api = self.any().with_timeout(METADATA_TIMEOUT);
        let Ok(metadata) = api.metadata().await else {
            return;
        };
        let places: BTreeMap<u32, usize> = metadata
            .brokers
            .iter()
            .filter_map(|broker| Some((broker.broker_id, self.place_of(broker)?)))
            .collect();
        for topic in metadata.topics {
            let Some(id) = TopicId::from_slice(&topic.topic_id) else {
                continue;
            };
            for partition in topic.partitions {
                let place = Place {
                    topic: id,
                    partition: PartitionIndex(partition.partition),
                };
                let epoch = partition.leader_epoch;
                let by = partition.leader_broker_id.and_then(|id| places.get(&id));
                let is_new = self
                    .epochs
                    .get(&place)
                    .is_none_or(|newest| epoch >= *newest);
                if let Some(by) = by.copied()
                    && is_new
                {
                    self.heard(place, epoch);
                    self.leaders.insert(place, Led { by, epoch });
                }
            }
        }
        let epochs = &self.epochs;
        self.leaders
            .retain(|place, led| epochs.get(place).is_none_or(|newest| led.epoch >= *newest));
    }

    fn place_of(&self, broker: &v1::Broker) -> Option<usize> {
        let mut known = self.brokers.iter();
        known.position(|(address, _)| {
            address.ip().to_string() == broker.host && u32::from(address.port()) == broker.port
        })
    }
}

/// What a broker says of a batch.
pub(super) fn ack_of(outcome: v1::ProduceOutcome) -> Result<v1::ProduceAck, Failure> {
    use v1::produce_outcome::Outcome;
    match outcome.outcome.expect("an ack or an error") {
        Outcome::Ack(ack) => Ok(ack),
        Outcome::Error(error) => Err(error.into()),
    }
}
