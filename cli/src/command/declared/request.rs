//! The request to the cluster that a step is.

use highwater_client::{Admin, ConfigChanges, Error, NewTopic};

use super::plan::{Action, Step};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Whether the step would be taken. Nobody can say that of the deletion of a topic.
    Check,
    /// To take it.
    Take,
}

/// Makes the request. A topic that is created, or would be, learns the broker's defaults.
pub(super) async fn request(admin: &Admin, step: &mut Step, mode: Mode) -> Result<(), Error> {
    let topic = &step.topic;
    match (&mut step.action, mode) {
        (
            Action::Create {
                partitions,
                replicas,
                configs,
            },
            _,
        ) => {
            let mut wanted = NewTopic::new(topic);
            if let Some(partitions) = *partitions {
                wanted = wanted.partitions(partitions);
            }
            if let Some(replicas) = *replicas {
                wanted = wanted.replication_factor(replicas);
            }
            for (name, value) in &*configs {
                wanted = wanted.config(name, value);
            }
            if mode == Mode::Check {
                wanted = wanted.validate_only();
            }
            let created = admin.create_topic(wanted).await?;
            *partitions = Some(created.partitions);
            *replicas = Some(created.replication_factor);
        }
        (Action::SetConfigs(changes), _) => {
            let mut wanted = ConfigChanges::new();
            for change in changes {
                wanted = match &change.to {
                    Some(value) => wanted.set(&change.name, value),
                    None => wanted.unset(&change.name),
                };
            }
            if mode == Mode::Check {
                wanted = wanted.validate_only();
            }
            admin.alter_topic(topic, wanted).await?;
        }
        (Action::AddPartitions { to, .. }, Mode::Check) => {
            admin.validate_partitions(topic, *to).await?;
        }
        (Action::AddPartitions { to, .. }, Mode::Take) => admin.add_partitions(topic, *to).await?,
        (Action::SetReplicas { to, .. }, Mode::Check) => {
            admin.validate_replication_factor(topic, *to).await?;
        }
        (Action::SetReplicas { to, .. }, Mode::Take) => {
            admin.set_replication_factor(topic, *to).await?;
        }
        (Action::Delete { .. }, Mode::Check) => {}
        (Action::Delete { id, .. }, Mode::Take) => admin.delete_topic(topic, *id).await?,
    }
    Ok(())
}

/// What could not be done when a step of it failed.
pub(super) fn failed(what: &str, step: &Step) -> String {
    match &step.place {
        Some(place) => format!("{what}: {place}: topic \"{}\"", step.topic),
        None => format!("{what}: topic \"{}\"", step.topic),
    }
}
