//! `highwater cluster info`

use serde::Serialize;
use uuid::Uuid;

use super::health;
use crate::context::Context;
use crate::failure::Failure;
use crate::quantity::human_bytes;
use crate::table::Summary;

/// The cluster, as JSON.
#[derive(Debug, Serialize)]
struct Info {
    cluster_id: String,
    version: String,
    feature_level: u32,
    health: &'static str,
    controller: Option<u32>,
    brokers: usize,
    topics: u32,
    partitions: u32,
    answered_by: u32,
    log_bytes: u64,
    free_bytes: u64,
}

/// Shows the cluster as the broker sees it that answers.
pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let cluster = super::describe(context, "cannot describe the cluster").await?;
    let info = Info {
        cluster_id: Uuid::from_slice(&cluster.cluster_id)
            .unwrap_or_default()
            .to_string(),
        version: cluster.version.clone(),
        feature_level: cluster.feature_level,
        health: health::state_name(cluster.health()),
        controller: cluster.controller_broker_id,
        brokers: cluster.brokers.len(),
        topics: cluster.topic_count,
        partitions: cluster.partition_count,
        answered_by: cluster.broker_id,
        log_bytes: cluster.log_bytes,
        free_bytes: cluster.free_bytes,
    };
    context.answer(|| text(&info), || &info)
}

fn text(info: &Info) -> String {
    let mut summary = Summary::default();
    summary
        .line("CLUSTER", &info.cluster_id)
        .line("HEALTH", info.health)
        .line("VERSION", &info.version)
        .line("FEATURE LEVEL", info.feature_level)
        .line(
            "CONTROLLER",
            info.controller
                .map_or("none".into(), |broker| broker.to_string()),
        )
        .line("BROKERS", info.brokers)
        .line("TOPICS", info.topics)
        .line("PARTITIONS", info.partitions)
        .line("ANSWERED BY", format!("broker {}", info.answered_by))
        .line("ITS LOGS", human_bytes(info.log_bytes))
        .line("ITS FREE SPACE", human_bytes(info.free_bytes));
    summary.to_string()
}
