//! `highwater cluster info`

use std::collections::BTreeSet;

use serde::Serialize;
use uuid::Uuid;

use super::{Cluster, health};
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
    brokers_up: usize,
    topics: usize,
    partitions: usize,
    log_bytes: u64,
    least_free_bytes: u64,
}

/// Shows the cluster as its brokers see it.
pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let cluster = Cluster::describe(context, "cannot describe the cluster").await?;
    let metadata = &cluster.metadata;
    let versions: BTreeSet<&str> = cluster.answers().map(|one| one.version.as_str()).collect();
    let partitions = metadata.topics.iter().map(|topic| topic.partitions.len());
    let info = Info {
        cluster_id: Uuid::from_slice(&metadata.cluster_id)
            .unwrap_or_default()
            .to_string(),
        version: versions.into_iter().collect::<Vec<_>>().join(", "),
        feature_level: cluster
            .answers()
            .map(|one| one.feature_level)
            .max()
            .unwrap_or(0),
        health: health::state_name(health::state(&cluster)),
        controller: metadata.controller_broker_id,
        brokers: cluster.brokers.len(),
        brokers_up: metadata
            .brokers
            .iter()
            .filter(|broker| broker.alive)
            .count(),
        topics: metadata.topics.len(),
        partitions: partitions.sum(),
        log_bytes: cluster.answers().map(|one| one.log_bytes).sum(),
        least_free_bytes: cluster
            .answers()
            .map(|one| one.free_bytes)
            .min()
            .unwrap_or(0),
    };
    context.answer(|| text(&info), || &info)
}

fn text(info: &Info) -> String {
    let mut summary = Summary::default();
    let brokers = match info.brokers_up == info.brokers {
        true => info.brokers.to_string(),
        false => format!("{}, {} of them up", info.brokers, info.brokers_up),
    };
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
        .line("BROKERS", brokers)
        .line("TOPICS", info.topics)
        .line("PARTITIONS", info.partitions)
        .line("LOGS", human_bytes(info.log_bytes))
        .line("LEAST FREE SPACE", human_bytes(info.least_free_bytes));
    summary.to_string()
}
