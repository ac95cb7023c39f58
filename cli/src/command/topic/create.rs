//! `highwater topic create`

use clap::Args;
use highwater_client::NewTopic;
use serde::Serialize;

use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::pair;
use crate::quantity::parse_at_least_one;
use crate::table::Table;

/// Options of `highwater topic create`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Names of the new topics
    #[arg(value_name = "TOPIC", required = true)]
    names: Vec<String>,

    /// Number of partitions [default: the broker's]
    #[arg(short, long, value_name = "COUNT", value_parser = parse_at_least_one)]
    partitions: Option<u32>,

    /// Replicas of each partition [default: the broker's]
    #[arg(short, long, value_name = "COUNT", value_parser = parse_at_least_one)]
    replicas: Option<u32>,

    /// Configs, such as retention.ms=86400000; may be repeated
    #[arg(short = 'c', long = "config", value_name = "NAME=VALUE", value_parser = pair::parse_config)]
    configs: Vec<(String, String)>,

    /// Check whether the topics could be created, and create none
    #[arg(long)]
    dry_run: bool,
}

/// A created topic, as JSON.
#[derive(Debug, Serialize)]
struct Created {
    topic: String,
    topic_id: Option<String>,
    partitions: u32,
    replicas: u32,
}

/// Creates the topics, each for itself.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect("cannot create topics").await?.admin();
    let mut created = Vec::new();
    for name in &options.names {
        match admin.create_topic(options.topic(name)).await {
            Ok(topic) => created.push(Created {
                topic: name.clone(),
                topic_id: topic.id.map(|id| id.to_string()),
                partitions: topic.partitions,
                replicas: topic.replication_factor,
            }),
            Err(error) => {
                context.report(&explain(format!("cannot create topic \"{name}\""), &error));
            }
        }
    }
    if options.dry_run {
        context.note("dry run: nothing was changed");
    }
    context.answer(|| text(&created), || &created)
}

impl Options {
    fn topic(&self, name: &str) -> NewTopic {
        let mut topic = NewTopic::new(name);
        if let Some(partitions) = self.partitions {
            topic = topic.partitions(partitions);
        }
        if let Some(replicas) = self.replicas {
            topic = topic.replication_factor(replicas);
        }
        for (name, value) in &self.configs {
            topic = topic.config(name, value);
        }
        if self.dry_run {
            topic = topic.validate_only();
        }
        topic
    }
}

fn text(created: &[Created]) -> String {
    if created.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["TOPIC", "PARTITIONS", "REPLICAS"]);
    for topic in created {
        table.row([&topic.topic, &topic.partitions, &topic.replicas]);
    }
    table.to_string()
}
