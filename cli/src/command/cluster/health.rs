//! `highwater cluster health`

use highwater_client::protocol::{DescribeClusterResponse, HealthState};
use serde::{Serialize, Serializer};

use super::Cluster;
use crate::broker_address;
use crate::context::Context;
use crate::failure::Failure;
use crate::quantity::counted;
use crate::table::Table;

/// The health, as JSON.
#[derive(Debug, Serialize)]
struct Health {
    health: &'static str,
    answered_by: Vec<u32>,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    /// The broker that it is about; none where it is about the cluster.
    broker: Option<u32>,
    #[serde(serialize_with = "serialize_state")]
    state: HealthState,
    reason: String,
    message: String,
}

fn serialize_state<S: Serializer>(state: &HealthState, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state_name(*state))
}

/// Shows what needs attention. That something does not work is a failure of this command.
pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let cluster = Cluster::describe(context, "cannot ask for the cluster's health").await?;
    let state = state(&cluster);
    let health = Health {
        health: state_name(state),
        answered_by: cluster.answers().map(|answer| answer.broker_id).collect(),
        findings: findings(&cluster),
    };
    context.answer(|| text(&health), || &health)?;
    match state {
        HealthState::Ok | HealthState::Warning => Ok(()),
        HealthState::Critical | HealthState::Unspecified => Err(Failure::new(
            "the cluster is not healthy",
            format!("its state is {}", health.health),
        )
        .remedy("see the findings above")),
    }
}

/// The worst of all findings.
pub(super) fn state(cluster: &Cluster) -> HealthState {
    let found = findings(cluster).into_iter().map(|finding| finding.state);
    let said = cluster.answers().map(DescribeClusterResponse::health);
    found.chain(said).max().unwrap_or(HealthState::Ok)
}

/// What the brokers say, and what only shows when all are asked.
fn findings(cluster: &Cluster) -> Vec<Finding> {
    let of_cluster = |reason: &str, message: &str| Finding {
        broker: None,
        state: HealthState::Critical,
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let mut findings = Vec::new();
    if cluster.metadata.controller_broker_id.is_none() {
        let message = "no broker leads the controller: topics cannot be changed until a majority of its voters is up";
        findings.push(of_cluster("NO_CONTROLLER", message));
    }
    let topics = cluster.metadata.topics.iter();
    let leaderless: Vec<String> = topics
        .flat_map(|topic| topic.partitions.iter().map(|p| (&topic.name, p)))
        .filter(|(_, partition)| partition.leader_broker_id.is_none())
        .map(|(topic, partition)| format!("{topic}-{}", partition.partition))
        .collect();
    if let Some(first) = leaderless.first() {
        let count = counted(leaderless.len() as u64, "partition");
        let message =
            format!("{count} without a leader, such as {first}: neither written nor read");
        findings.push(of_cluster("NO_LEADER", &message));
    }
    for (broker, described) in &cluster.brokers {
        match described {
            Ok(described) => findings.extend(described.findings.iter().map(|finding| Finding {
                broker: Some(broker.broker_id),
                state: finding.state(),
                reason: finding.reason.clone(),
                message: finding.message.clone(),
            })),
            Err(problem) => findings.push(Finding {
                broker: Some(broker.broker_id),
                state: HealthState::Warning,
                reason: "BROKER_UNREACHABLE".to_owned(),
                message: format!(
                    "{} does not answer: {problem}",
                    broker_address::join(&broker.host, broker.port)
                ),
            }),
        }
    }
    findings
}

/// How a state is called in output.
pub(super) fn state_name(state: HealthState) -> &'static str {
    match state {
        HealthState::Ok => "ok",
        HealthState::Warning => "warning",
        HealthState::Critical => "critical",
        HealthState::Unspecified => "unknown",
    }
}

fn text(health: &Health) -> String {
    if health.findings.is_empty() {
        return format!("{}\n", health.health);
    }
    let mut table = Table::new(["STATE", "BROKER", "REASON", "WHAT"]);
    for finding in &health.findings {
        table.row([
            &state_name(finding.state),
            &finding
                .broker
                .map_or(String::new(), |broker| broker.to_string()),
            &finding.reason,
            &finding.message,
        ]);
    }
    format!("{}\n\n{table}", health.health)
}
