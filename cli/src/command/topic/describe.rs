//! `highwater topic describe`

use clap::Args;
use highwater_client::Admin;
use highwater_client::protocol::{
    ConfigSource, DescribeTopicResponse, PartitionDescription, TopicConfig,
};
use serde::Serialize;

use super::selection::Selection;
use super::{held_records, id_text};
use crate::command::cluster::moves::{Moving, moving_table};
use crate::context::{Context, explain_topic};
use crate::explain::explain;
use crate::failure::Failure;
use crate::quantity::human_bytes;
use crate::table::{Summary, Table, section};

/// Options of `highwater topic describe`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
}

/// A topic, as JSON.
#[derive(Debug, Serialize)]
struct Described {
    topic: String,
    topic_id: String,
    replicas: u32,
    records: u64,
    configs: Vec<Config>,
    partitions: Vec<Partition>,
    /// Changes of replicas that are under way.
    moves: Vec<Moving>,
}

#[derive(Debug, Serialize)]
struct Config {
    name: String,
    value: String,
    source: &'static str,
    documentation: String,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: u32,
    leader: Option<u32>,
    leader_epoch: u64,
    replicas: Vec<u32>,
    in_sync: Vec<u32>,
    log_start_offset: u64,
    high_watermark: u64,
    log_bytes: u64,
    error: Option<String>,
}

/// Describes the topics, each for itself.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect("cannot describe topics").await?.admin();
    let mut described = Vec::new();
    for name in options.selection.names(&admin).await? {
        match admin.describe_topic(&name).await {
            Ok(topic) => described.push(Described {
                moves: moves(&admin, &name, context).await,
                ..Described::from(topic)
            }),
            Err(error) => {
                let what = format!("cannot describe topic \"{name}\"");
                context.report(&explain_topic(&admin, what, &name, &error).await);
            }
        }
    }
    context.answer(|| text(&described), || &described)
}

/// The moves of a topic's replicas. Without them the rest of the description is still worth showing.
async fn moves(admin: &Admin, name: &str, context: &Context) -> Vec<Moving> {
    match admin.moves(Some(name)).await {
        Ok(moves) => moves.into_iter().map(Moving::from).collect(),
        Err(error) => {
            let what = format!("cannot list the moves of topic \"{name}\"");
            context.report(&explain(what, &error));
            Vec::new()
        }
    }
}

impl From<DescribeTopicResponse> for Described {
    fn from(topic: DescribeTopicResponse) -> Self {
        Self {
            topic_id: id_text(&topic.topic_id),
            replicas: topic.replication_factor,
            records: held_records(&topic),
            topic: topic.name,
            configs: topic.configs.into_iter().map(Config::from).collect(),
            partitions: topic.partitions.into_iter().map(Partition::from).collect(),
            moves: Vec::new(),
        }
    }
}

impl From<TopicConfig> for Config {
    fn from(config: TopicConfig) -> Self {
        Self {
            source: match config.source() {
                ConfigSource::Topic => "topic",
                ConfigSource::Default => "default",
                ConfigSource::Unspecified => "unknown",
            },
            name: config.name,
            value: config.value,
            documentation: config.documentation,
        }
    }
}

impl From<PartitionDescription> for Partition {
    fn from(partition: PartitionDescription) -> Self {
        Self {
            partition: partition.partition,
            leader: partition.leader_broker_id,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_broker_ids,
            in_sync: partition.in_sync_broker_ids,
            log_start_offset: partition.log_start_offset,
            high_watermark: partition.high_watermark,
            log_bytes: partition.log_bytes,
            error: partition.error.map(|error| error.message),
        }
    }
}

fn text(described: &[Described]) -> String {
    let texts: Vec<String> = described.iter().map(Described::text).collect();
    texts.join("\n")
}

impl Described {
    fn text(&self) -> String {
        let mut summary = Summary::default();
        summary
            .line("TOPIC", &self.topic)
            .line("ID", &self.topic_id)
            .line("PARTITIONS", self.partitions.len())
            .line("REPLICAS", self.replicas)
            .line("RECORDS", self.records)
            .line(
                "SIZE",
                human_bytes(self.partitions.iter().map(|each| each.log_bytes).sum()),
            );
        let moves = if self.moves.is_empty() {
            String::new()
        } else {
            format!("\n{}{}", section("MOVES"), moving_table(&self.moves))
        };
        format!(
            "{}{summary}\n{}{}\n{}{}{moves}",
            section("SUMMARY"),
            section("CONFIGS"),
            self.configs_table(),
            section("PARTITIONS"),
            self.partitions_table(),
        )
    }

    fn configs_table(&self) -> Table {
        let mut table = Table::new(["NAME", "VALUE", "SOURCE"]);
        for config in &self.configs {
            table.row([&config.name, &config.value, &config.source]);
        }
        table
    }

    fn partitions_table(&self) -> Table {
        let mut table = Table::new([
            "PARTITION",
            "LEADER",
            "EPOCH",
            "REPLICAS",
            "IN SYNC",
            "START",
            "END",
            "SIZE",
            "PROBLEM",
        ]);
        for partition in &self.partitions {
            table.row([
                &partition.partition,
                &partition
                    .leader
                    .map_or("none".into(), |broker| broker.to_string()),
                &partition.leader_epoch,
                &joined(&partition.replicas),
                &joined(&partition.in_sync),
                &partition.log_start_offset,
                &partition.high_watermark,
                &human_bytes(partition.log_bytes),
                &partition.error.as_deref().unwrap_or_default(),
            ]);
        }
        table
    }
}

/// Numbers of brokers in one cell.
fn joined(brokers: &[u32]) -> String {
    let brokers: Vec<String> = brokers.iter().map(u32::to_string).collect();
    brokers.join(",")
}
