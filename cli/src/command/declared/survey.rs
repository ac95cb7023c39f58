//! What topics there are, and whether the cluster would take the steps of a plan.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use highwater_client::protocol::{ConfigSource, DescribeTopicResponse};
use highwater_client::{Admin, Error, TopicId};

use super::file::Declared;
use super::plan::{Existing, Plan, Setting, plan};
use super::request::{Mode, failed, request};
use super::sources::Sources;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;

/// Topics that are asked for at a time.
const ASKED_AT_ONCE: usize = 16;

/// Reads the files, looks at the cluster and compares. Steps and declarations that cannot be are reported, and then
/// nothing is to be done: `None`.
pub(super) async fn find_plan(
    sources: &Sources,
    admin: &Admin,
    declared: &[Declared],
    what: &str,
    context: &Context,
) -> Result<Option<Plan>, Failure> {
    let existing = look(admin, declared, sources.prune).await;
    let existing = existing.map_err(|error| explain(what, &error))?;
    let mut plan = plan(declared, &existing, sources.prune);
    let mut failures: Vec<Failure> = Vec::new();
    for refusal in &plan.refusals {
        let what = format!("{what}: {}: topic \"{}\"", refusal.place, refusal.topic);
        failures.push(Failure::new(what, &refusal.why));
    }
    for index in plan.judged_alone().collect::<Vec<_>>() {
        let step = &mut plan.steps[index];
        if let Err(error) = request(admin, step, Mode::Check).await {
            failures.push(explain(failed(what, step), &error));
        }
    }
    for failure in &failures {
        context.report(failure);
    }
    Ok(failures.is_empty().then_some(plan))
}

/// The declared topics that there are, or all.
async fn look(admin: &Admin, declared: &[Declared], all: bool) -> Result<Vec<Existing>, Error> {
    let declared: BTreeSet<&str> = declared.iter().map(|topic| topic.name.as_str()).collect();
    let topics = admin.list_topics().await?;
    let names = topics.into_iter().map(|topic| topic.name);
    let names = names.filter(|name| all || declared.contains(name.as_str()));
    let asked = names.map(|name| async move {
        let described = admin.describe_topic(&name).await?;
        Ok(Existing::from(described))
    });
    let asked = stream::iter(asked).buffered(ASKED_AT_ONCE);
    asked.try_collect().await
}

impl From<DescribeTopicResponse> for Existing {
    fn from(topic: DescribeTopicResponse) -> Self {
        let records = crate::command::topic::held_records(&topic);
        let configs = topic.configs.into_iter().map(|config| {
            let is_set = config.source() == ConfigSource::Topic;
            let value = config.value;
            (config.name, Setting { value, is_set })
        });
        Self {
            id: TopicId::from_slice(&topic.topic_id),
            // A topic has far fewer than 2^32.
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            replicas: topic.replication_factor,
            records,
            configs: configs.collect(),
            name: topic.name,
        }
    }
}
