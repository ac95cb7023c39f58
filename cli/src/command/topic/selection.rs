//! Which topics a command is about, on the command line.

use clap::Args;
use highwater_client::Admin;

use crate::failure::Failure;
use crate::selection::{self, Kind};
use crate::topic_names;

/// Names of topics, or expressions that match them; at least one.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Names of topics
    #[arg(value_name = "TOPIC", required = true, add = topic_names::completer())]
    names: Vec<String>,

    /// Take TOPIC as regular expressions that match a whole name, such as 'flights-.*'
    #[arg(short, long)]
    regex: bool,
}

/// The same for a command whose `-r` are replicas.
#[derive(Debug, Args)]
pub(crate) struct LongSelection {
    /// Names of topics
    #[arg(value_name = "TOPIC", required = true, add = topic_names::completer())]
    names: Vec<String>,

    /// Take TOPIC as regular expressions that match a whole name, such as 'flights-.*'
    #[arg(long)]
    regex: bool,
}

/// The same for a command that is about all topics where none is named.
#[derive(Debug, Args)]
pub(crate) struct OptionalSelection {
    /// Names of topics [default: all]
    #[arg(value_name = "TOPIC", add = topic_names::completer())]
    names: Vec<String>,

    /// Take TOPIC as regular expressions that match a whole name, such as 'flights-.*'
    #[arg(short, long, requires = "names")]
    regex: bool,
}

impl From<LongSelection> for Selection {
    fn from(LongSelection { names, regex }: LongSelection) -> Self {
        Self { names, regex }
    }
}

impl OptionalSelection {
    /// None: all topics.
    pub(crate) fn into_selection(self) -> Option<selection::Selection> {
        let Self { names, regex } = self;
        let kind = Kind::Topic;
        (!names.is_empty()).then_some(selection::Selection { kind, names, regex })
    }
}

impl Selection {
    /// The selected names, each once. Plain names are taken as they are, whether there are such topics or not;
    /// expressions that match no topic are a failure.
    pub(crate) async fn names(&self, admin: &Admin) -> Result<Vec<String>, Failure> {
        let selection = selection::Selection {
            kind: Kind::Topic,
            names: self.names.clone(),
            regex: self.regex,
        };
        let known = async {
            let topics = admin.list_topics().await?;
            Ok(topics.into_iter().map(|topic| topic.name).collect())
        };
        selection.resolve(known).await
    }
}
