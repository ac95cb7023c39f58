//! `highwater topic alter`

use clap::Args;
use highwater_client::protocol::DescribeTopicResponse;
use highwater_client::{Admin, ConfigChanges};
use serde::Serialize;

use super::selection::{LongSelection, Selection};
use crate::command::cluster::moves;
use crate::context::{Context, explain_topic};
use crate::explain::explain;
use crate::failure::Failure;
use crate::pair;
use crate::quantity::parse_at_least_one;
use crate::table::Table;

/// Options of `highwater topic alter`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater topic alter flights -c retention.ms=86400000
  highwater topic alter 'log-.*' --regex --unset retention.ms
  highwater topic alter flights -r 3                       three replicas of each partition from now on
The configs and their values: highwater topic describe TOPIC")]
pub(crate) struct Options {
    #[command(flatten)]
    selection: LongSelection,

    /// Set a config, such as retention.ms=86400000; may be repeated
    #[arg(short = 'c', long = "config", value_name = "NAME=VALUE", value_parser = pair::parse_config)]
    #[arg(required_unless_present_any = ["unset", "replicas"])]
    configs: Vec<(String, String)>,

    /// Return a config to its default; may be repeated
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,

    /// Replicas of each partition from now on; new ones are copied from the others while those serve
    #[arg(short, long, value_name = "COUNT", value_parser = parse_at_least_one)]
    replicas: Option<u32>,

    /// Wait until the partitions have as many replicas as they should
    #[arg(long, requires = "replicas")]
    wait: bool,

    /// Check whether the topics could be changed so, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// A changed config, as JSON.
#[derive(Debug, Serialize)]
struct Changed {
    topic: String,
    config: String,
    from: Option<String>,
    /// None: the default.
    to: Option<String>,
}

/// How the number of replicas is called beside the configs.
const REPLICAS: &str = "replicas";

/// Changes the configs of each topic, all or none of it, and then its number of replicas.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect("cannot alter topics").await?.admin();
    let Options {
        selection,
        configs,
        unset,
        replicas,
        wait,
        dry_run,
    } = options;
    let options = Changes {
        configs,
        unset,
        replicas,
        dry_run,
    };
    let mut changed = Vec::new();
    for name in Selection::from(selection).names(&admin).await? {
        match alter(&admin, &name, &options).await {
            Ok(changes) => changed.extend(changes),
            Err(failure) => context.report(&failure),
        }
    }
    if dry_run {
        context.note("dry run: nothing was changed");
    } else if wait {
        moves::wait(
            &admin,
            "cannot wait for the replicas",
            &changed,
            |change, moved| change.config == REPLICAS && change.topic == moved.topic,
        )
        .await?;
    }
    context.answer(|| text(&changed), || &changed)
}

/// What is to be changed of each topic.
struct Changes {
    configs: Vec<(String, String)>,
    unset: Vec<String>,
    replicas: Option<u32>,
    dry_run: bool,
}

async fn alter(admin: &Admin, name: &str, options: &Changes) -> Result<Vec<Changed>, Failure> {
    let what = format!("cannot alter topic \"{name}\"");
    let before = match admin.describe_topic(name).await {
        Ok(topic) => topic,
        Err(error) => return Err(explain_topic(admin, what, name, &error).await),
    };
    if !(options.configs.is_empty() && options.unset.is_empty()) {
        let altered = admin.alter_topic(name, options.changes()).await;
        altered.map_err(|error| explain(&what, &error))?;
    }
    if let Some(replicas) = options.replicas {
        let set = if options.dry_run {
            admin.validate_replication_factor(name, replicas).await
        } else {
            admin.set_replication_factor(name, replicas).await
        };
        set.map_err(|error| explain(&what, &error))?;
    }
    Ok(options.compared_with(&before))
}

impl Changes {
    fn changes(&self) -> ConfigChanges {
        let mut changes = ConfigChanges::new();
        for (name, value) in &self.configs {
            changes = changes.set(name, value);
        }
        for name in &self.unset {
            changes = changes.unset(name);
        }
        if self.dry_run {
            changes = changes.validate_only();
        }
        changes
    }

    fn compared_with(&self, before: &DescribeTopicResponse) -> Vec<Changed> {
        let set = self.configs.iter().map(|(name, value)| (name, Some(value)));
        let unset = self.unset.iter().map(|name| (name, None));
        let replicas = self.replicas.map(|to| Changed {
            topic: before.name.clone(),
            config: REPLICAS.to_owned(),
            from: Some(before.replication_factor.to_string()),
            to: Some(to.to_string()),
        });
        set.chain(unset)
            .map(|(config, to)| Changed {
                topic: before.name.clone(),
                config: config.clone(),
                from: before
                    .configs
                    .iter()
                    .find(|known| known.name == *config)
                    .map(|known| known.value.clone()),
                to: to.cloned(),
            })
            .chain(replicas)
            .collect()
    }
}

fn text(changed: &[Changed]) -> String {
    if changed.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["TOPIC", "CONFIG", "FROM", "TO"]);
    for change in changed {
        table.row([
            &change.topic,
            &change.config,
            &change.from.as_deref().unwrap_or_default(),
            &change.to.as_deref().unwrap_or("(default)"),
        ]);
    }
    table.to_string()
}
