//! `highwater topic alter`

use clap::Args;
use highwater_client::protocol::DescribeTopicResponse;
use highwater_client::{Admin, ConfigChanges};
use serde::Serialize;

use super::selection::Selection;
use crate::context::{Context, explain_topic};
use crate::explain::explain;
use crate::failure::Failure;
use crate::pair;
use crate::table::Table;

/// Options of `highwater topic alter`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater topic alter flights -c retention.ms=86400000
  highwater topic alter 'log-.*' -r --unset retention.ms
The configs and their values: highwater topic describe TOPIC")]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,

    /// Set a config, such as retention.ms=86400000; may be repeated
    #[arg(short = 'c', long = "config", value_name = "NAME=VALUE", value_parser = pair::parse_config)]
    #[arg(required_unless_present = "unset")]
    configs: Vec<(String, String)>,

    /// Return a config to its default; may be repeated
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,

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

/// Changes the configs of each topic, all or none of it.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect("cannot alter topics").await?.admin();
    let mut changed = Vec::new();
    for name in options.selection.names(&admin).await? {
        match alter(&admin, &name, &options).await {
            Ok(changes) => changed.extend(changes),
            Err(failure) => context.report(&failure),
        }
    }
    if options.dry_run {
        context.note("dry run: nothing was changed");
    }
    context.answer(|| text(&changed), || &changed)
}

async fn alter(admin: &Admin, name: &str, options: &Options) -> Result<Vec<Changed>, Failure> {
    let what = format!("cannot alter topic \"{name}\"");
    let before = match admin.describe_topic(name).await {
        Ok(topic) => topic,
        Err(error) => return Err(explain_topic(admin, what, name, &error).await),
    };
    match admin.alter_topic(name, options.changes()).await {
        Ok(()) => Ok(options.compared_with(&before)),
        Err(error) => Err(explain(what, &error)),
    }
}

impl Options {
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
