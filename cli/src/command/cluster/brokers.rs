//! `highwater cluster brokers`

use highwater_client::protocol::BrokerState;
use serde::Serialize;

use super::{Cluster, health};
use crate::broker_address;
use crate::context::Context;
use crate::failure::Failure;
use crate::quantity::human_bytes;
use crate::table::Table;

/// A broker, as JSON.
#[derive(Debug, Serialize)]
struct Broker {
    broker: u32,
    host: String,
    port: u32,
    rack: Option<String>,
    alive: bool,
    /// What is to become of it.
    state: &'static str,
    controller: bool,
    /// What follows is what the broker says of itself.
    version: Option<String>,
    health: Option<&'static str>,
    log_bytes: Option<u64>,
    free_bytes: Option<u64>,
}

/// Lists the brokers.
pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let cluster = Cluster::describe(context, "cannot list the brokers").await?;
    let controller = cluster.metadata.controller_broker_id;
    let brokers: Vec<Broker> = cluster
        .brokers
        .into_iter()
        .map(|(broker, described)| (broker, described.ok()))
        .map(|(broker, described)| Broker {
            health: described
                .as_ref()
                .map(|described| health::state_name(described.health())),
            log_bytes: described.as_ref().map(|described| described.log_bytes),
            free_bytes: described.as_ref().map(|described| described.free_bytes),
            version: described.map(|described| described.version),
            controller: controller == Some(broker.broker_id),
            state: match broker.state() {
                BrokerState::Active => "active",
                BrokerState::Draining => "draining",
                BrokerState::Replaceable => "replaceable",
                BrokerState::Unspecified => "unknown",
            },
            broker: broker.broker_id,
            host: broker.host,
            port: broker.port,
            rack: (!broker.rack.is_empty()).then_some(broker.rack),
            alive: broker.alive,
        })
        .collect();
    context.answer(|| text(&brokers), || &brokers)
}

impl Broker {
    fn state_text(&self) -> String {
        let up = if self.alive { "up" } else { "down" };
        match self.state {
            "draining" | "replaceable" => format!("{up}, {}", self.state),
            _ => up.to_owned(),
        }
    }
}

fn text(brokers: &[Broker]) -> String {
    let mut table = Table::new([
        "BROKER",
        "ADDRESS",
        "RACK",
        "STATE",
        "HEALTH",
        "LOGS",
        "FREE",
        "CONTROLLER",
    ]);
    let bytes = |bytes: Option<u64>| bytes.map(human_bytes).unwrap_or_default();
    for broker in brokers {
        table.row([
            &broker.broker,
            &broker_address::join(&broker.host, broker.port),
            &broker.rack.as_deref().unwrap_or_default(),
            &broker.state_text(),
            &broker.health.unwrap_or("no answer"),
            &bytes(broker.log_bytes),
            &bytes(broker.free_bytes),
            &if broker.controller { "yes" } else { "" },
        ]);
    }
    table.to_string()
}
