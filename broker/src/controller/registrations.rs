//! What a log of the controller says of the starts of brokers, without the replica that it belongs to.
//!
//! A broker counts a start in its data directory before it tells anybody. So an entry that names a start proves that it happened, whether
//! the entry is committed or not.

use std::collections::BTreeMap;

use highwater_proto::BrokerId;

use super::event::{self, Event};
use super::image::Broker;
use super::snapshot;
#[cfg(test)]
use crate::raft::ReplicaId;

/// The brokers that a log of the controller names, each as of its last start.
#[derive(Clone, Debug, Default)]
pub struct Registrations {
    brokers: BTreeMap<BrokerId, Broker>,
}

impl Registrations {
    /// Those of the applied state that the log begins with. What no known version wrote names nobody.
    pub fn of_snapshot(snapshot: &[u8]) -> Self {
        let image = snapshot::decode(snapshot).unwrap_or_default();
        let brokers = image
            .brokers()
            .map(|broker| (broker.id, (**broker).clone()));
        Self {
            brokers: brokers.collect(),
        }
    }

    /// Takes an entry with events into account.
    pub fn add(&mut self, events: &[u8]) {
        for event in event::decode(events).unwrap_or_default() {
            match event {
                Event::BrokerRegistered(broker) => {
                    let known = self.brokers.get(&broker.id);
                    if known.is_none_or(|known| known.start.number <= broker.start.number) {
                        self.brokers.insert(broker.id, broker);
                    }
                }
                Event::BrokerRemoved { broker } => {
                    self.brokers.remove(&broker);
                }
                _ => {}
            }
        }
    }

    /// The brokers, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Broker> {
        self.brokers.values()
    }

    /// Brokers with these replicas of the controller group.
    #[cfg(test)]
    pub(crate) fn of(brokers: impl IntoIterator<Item = (BrokerId, ReplicaId)>) -> Self {
        let broker = |(id, controller_replica)| Broker {
            id,
            incarnation_id: uuid::Uuid::nil(),
            controller_replica,
            listeners: Vec::new(),
            rack: None,
            state: super::BrokerState::Active,
            start: super::Start::default(),
        };
        let brokers = brokers.into_iter().map(broker);
        Self {
            brokers: brokers.map(|broker| (broker.id, broker)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Start;

    #[test]
    fn the_last_start_counts_in_whatever_order_they_are_found() {
        let with = |number| Broker {
            start: Start { number, run_id: 7 },
            ..Registrations::of([(BrokerId(3), ReplicaId(9))]).brokers[&BrokerId(3)].clone()
        };
        let mut known = Registrations::of_snapshot(b"what nobody wrote");
        for number in [2, 5, 4] {
            known.add(&event::encode(&[Event::BrokerRegistered(with(number))]));
        }
        known.add(b"what nobody wrote");
        let numbers: Vec<_> = known.brokers().map(|broker| broker.start.number).collect();
        assert_eq!(numbers, [5]);
        let removed = Event::BrokerRemoved {
            broker: BrokerId(3),
        };
        known.add(&event::encode(&[removed]));
        assert_eq!(known.brokers().len(), 0);
    }
}
