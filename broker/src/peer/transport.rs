//! The way of one shard's messages to their brokers' outboxes.

use std::sync::Arc;

use highwater_proto::BrokerId;

use tracing::debug;

use super::shared::Shared;
use crate::raft::{Leadership, PeerMessage, PeerTransport, Pull};

/// Sorts messages by broker. Each outbox is locked, and its link woken, once per turn.
pub(super) struct Transport {
    shared: Arc<Shared>,
    /// Messages by broker; empty between turns.
    sorted: Vec<(BrokerId, Vec<PeerMessage>)>,
}

impl Transport {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            sorted: Vec::new(),
        }
    }

    /// How many messages are for replicas that nobody knows.
    fn sort(&mut self, messages: Vec<PeerMessage>) -> usize {
        let mut unknown = 0;
        let table = self.shared.routes.read();
        for message in messages {
            let Some(broker) = table.broker_of(message.to()) else {
                unknown += 1;
                continue;
            };
            match self.sorted.iter_mut().find(|(other, _)| *other == broker) {
                Some((_, waiting)) => waiting.push(message),
                None => self.sorted.push((broker, vec![message])),
            }
        }
        unknown
    }
}

impl PeerTransport for Transport {
    fn send(&mut self, messages: Vec<PeerMessage>) {
        let mut unknown = self.sort(messages);
        let outboxes = self.shared.outboxes.load();
        let mut lost = 0;
        for (broker, messages) in &mut self.sorted {
            match outboxes.get(broker) {
                Some(outbox) if !messages.is_empty() => lost += outbox.push(messages.drain(..)),
                _ => unknown += messages.drain(..).count(),
            }
        }
        self.shared.lost.route.inc_by(unknown as u64);
        self.shared.lost.queue.inc_by(lost as u64);
    }

    fn pull(&mut self, pulls: Vec<Pull>) {
        for pull in pulls {
            let group = pull.group().0;
            if self.shared.wanted.try_send(pull).is_err() {
                debug!(group, "too much is to be seeded; it is offered again");
            }
        }
    }

    fn announce(&mut self, leaderships: Vec<Leadership>) {
        self.shared.leaders.announce(&leaderships);
        for outbox in self.shared.outboxes.load().values() {
            outbox.announce(&leaderships);
        }
    }
}
