//! `highwater topic alter`

use clap::Args;
use highwater_client::ConfigChanges;
use highwater_client::protocol::DescribeTopicResponse;
use serde::Serialize;

use crate::context::{Context, explain_topic};
use crate::explain::explain;
use crate::failure::Failure;
use crate::pair;
use crate::table::Table;

/// Options of `highwater topic alter`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    name: String,

    /// Set a config, such as retention.ms=86400000; may be repeated
    #[arg(short = 'c', long = "config", value_name = "NAME=VALUE", value_parser = pair::parse_config)]
    #[arg(required_unless_present = "unset")]
    configs: Vec<(String, String)>,

    /// Return a config to its default; may be repeated
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,

    /// Check whether the topic could be changed so, and change nothing
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

/// Changes the configs, all or none.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let name = &options.name;
    let what = format!("cannot alter topic \"{name}\"");
    let admin = context.connect(&what).await?.admin();
    let before = match admin.describe_topic(name).await {
        Ok(topic) => topic,
        Err(error) => return Err(explain_topic(&admin, what, name, &error).await),
    };
    admin
        .alter_topic(name, options.changes())
        .await
        .map_err(|error| explain(what, &error))?;
    if options.dry_run {
        context.note("dry run: nothing was changed");
    }
    let changed = changed(&before, &options);
    context.answer(|| text(&changed), || &changed)
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
}

fn changed(before: &DescribeTopicResponse, options: &Options) -> Vec<Changed> {
    let set = options
        .configs
        .iter()
        .map(|(name, value)| (name, Some(value)));
    let unset = options.unset.iter().map(|name| (name, None));
    set.chain(unset)
        .map(|(config, to)| Changed {
            topic: options.name.clone(),
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

fn text(changed: &[Changed]) -> String {
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
