//! `highwater cluster brokers`

use serde::Serialize;

use crate::broker_address;
use crate::context::Context;
use crate::failure::Failure;
use crate::table::Table;

/// A broker, as JSON.
#[derive(Debug, Serialize)]
struct Broker {
    broker: u32,
    host: String,
    port: u32,
    rack: Option<String>,
    alive: bool,
    controller: bool,
}

/// Lists the brokers.
pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let cluster = super::describe(context, "cannot list the brokers").await?;
    let brokers: Vec<Broker> = cluster
        .brokers
        .into_iter()
        .map(|broker| Broker {
            controller: cluster.controller_broker_id == Some(broker.broker_id),
            broker: broker.broker_id,
            host: broker.host,
            port: broker.port,
            rack: (!broker.rack.is_empty()).then_some(broker.rack),
            alive: broker.alive,
        })
        .collect();
    context.answer(|| text(&brokers), || &brokers)
}

fn text(brokers: &[Broker]) -> String {
    let mut table = Table::new(["BROKER", "ADDRESS", "RACK", "STATE", "CONTROLLER"]);
    for broker in brokers {
        table.row([
            &broker.broker,
            &broker_address::join(&broker.host, broker.port),
            &broker.rack.as_deref().unwrap_or_default(),
            &if broker.alive { "up" } else { "down" },
            &if broker.controller { "yes" } else { "" },
        ]);
    }
    table.to_string()
}
