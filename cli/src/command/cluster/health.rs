//! `highwater cluster health`

use highwater_client::protocol::HealthState;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::table::Table;

/// The health, as JSON.
#[derive(Debug, Serialize)]
struct Health {
    health: &'static str,
    answered_by: u32,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    state: &'static str,
    reason: String,
    message: String,
}

/// Shows what needs attention. That something does not work is a failure of this command.
pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let cluster = super::describe(context, "cannot ask for the cluster's health").await?;
    let health = Health {
        health: state_name(cluster.health()),
        answered_by: cluster.broker_id,
        findings: cluster
            .findings
            .iter()
            .map(|finding| Finding {
                state: state_name(finding.state()),
                reason: finding.reason.clone(),
                message: finding.message.clone(),
            })
            .collect(),
    };
    context.answer(|| text(&health), || &health)?;
    match cluster.health() {
        HealthState::Ok | HealthState::Warning => Ok(()),
        HealthState::Critical | HealthState::Unspecified => Err(Failure::new(
            "the cluster is not healthy",
            format!("its state is {}", health.health),
        )
        .remedy("see the findings above")),
    }
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
    let mut table = Table::new(["STATE", "REASON", "WHAT"]);
    for finding in &health.findings {
        table.row([&finding.state, &finding.reason, &finding.message]);
    }
    format!("{}\n\n{table}", health.health)
}
