//! `highwater cluster transfer-leader`

use clap::Args;
use serde::Serialize;

use crate::context::{Context, explain_topic};
use crate::failure::Failure;
use crate::quantity::parse_partition;
use crate::topic_names;

/// Options of `highwater cluster transfer-leader`.
#[derive(Debug, Args)]
#[command(after_help = "\
The partition's preferred leader gets it back after a while. For another preferred leader, move the partition to the same
brokers in another order: highwater cluster move TOPIC PARTITION --to BROKERS")]
pub(crate) struct Options {
    /// Name of the topic
    #[arg(value_name = "TOPIC", add = topic_names::completer())]
    topic: String,

    /// Number of the partition
    #[arg(value_name = "PARTITION", value_parser = parse_partition)]
    partition: u32,

    /// The broker to lead it, whose replica keeps up [default: the one that keeps up best]
    #[arg(long, value_name = "BROKER")]
    to: Option<u32>,
}

/// What was handed over, as JSON.
#[derive(Debug, Serialize)]
struct Transferred {
    topic: String,
    partition: u32,
    to: Option<u32>,
}

/// Has another broker lead.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let Options {
        topic,
        partition,
        to,
    } = options;
    let what = format!("cannot transfer partition {partition} of topic \"{topic}\"");
    let admin = context.connect(&what).await?.admin();
    if let Err(error) = admin.transfer_leader(&topic, partition, to).await {
        return Err(explain_topic(&admin, what, &topic, &error).await);
    }
    let transferred = Transferred {
        topic,
        partition,
        to,
    };
    context.answer(String::new, || &transferred)
}
