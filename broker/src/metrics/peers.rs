//! What is said to other brokers and heard from them.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};

use super::catalog::Catalog;

/// Metrics of the connections to other brokers.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    /// Whether a broker is up, by its number.
    pub(crate) up: IntGaugeVec,
    /// How often it was up and then down, by its number and the cause.
    pub(crate) downs: IntCounterVec,
    /// Connections made, by broker.
    pub(crate) connects: IntCounterVec,
    /// Messages that wait to be sent, by broker and lane.
    pub(crate) queue_messages: IntGaugeVec,
    /// Bytes of them.
    pub(crate) queue_bytes: IntGaugeVec,
    /// Messages sent, by lane.
    pub(crate) sent: IntCounterVec,
    /// Messages received and given to the shards.
    pub(crate) received: IntCounter,
    /// Messages that were not sent, by cause.
    pub(crate) lost: IntCounterVec,
    /// What was received and not taken, by cause.
    pub(crate) refused: IntCounterVec,
}

impl Peers {
    pub(super) fn new(catalog: &mut Catalog) -> Self {
        catalog.section("Other brokers");
        Self {
            up: catalog.gauges(
                "highwater_peer_up",
                "1 while a broker is up: heard, hearing this one, and with a disk and shards that go on",
                &["broker"],
            ),
            downs: catalog.counters(
                "highwater_peer_downs_total",
                "How often a broker that was up was found down, by cause: silent, deaf, restarted, disk, shard, gone",
                &["broker", "cause"],
            ),
            connects: catalog.counters(
                "highwater_peer_connects_total",
                "Connections made to a broker. More than one: the connection broke, or the broker restarted",
                &["broker"],
            ),
            queue_messages: catalog.gauges(
                "highwater_peer_queue_messages",
                "Raft messages that wait to be sent to a broker",
                &["broker", "lane"],
            ),
            queue_bytes: catalog.gauges(
                "highwater_peer_queue_bytes",
                "Bytes of those messages (limit: cluster.send_queue_bytes)",
                &["broker", "lane"],
            ),
            sent: catalog.counters(
                "highwater_peer_sent_messages_total",
                "Raft messages sent to other brokers",
                &["lane"],
            ),
            received: catalog.counter(
                "highwater_peer_received_messages_total",
                "Raft messages taken from other brokers",
            ),
            lost: catalog.counters(
                "highwater_peer_lost_messages_total",
                "Raft messages that were not sent, by cause: queue (it was full, or there is no connection), route (it is not \
                 known where the replica is), form. Raft repeats what matters",
                &["cause"],
            ),
            refused: catalog.counters(
                "highwater_peer_refused_messages_total",
                "What other brokers sent and this one did not take, by cause. Some of `unknown` while a broker starts or a \
                 topic is deleted is no fault; `damaged` points to the network or a memory",
                &["cause"],
            ),
        }
    }
}

#[cfg(test)]
impl Default for Peers {
    /// Metrics that nobody reads.
    fn default() -> Self {
        Self::new(&mut Catalog::default())
    }
}
