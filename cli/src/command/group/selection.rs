//! Which consumer groups a command is about, on the command line.

use clap::Args;
use highwater_client::Admin;

use crate::failure::Failure;
use crate::group_names;
use crate::selection::{self, Kind};

/// Ids of groups, or expressions that match them; at least one.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Ids of groups
    #[arg(value_name = "GROUP", required = true, add = group_names::completer())]
    names: Vec<String>,

    /// Take GROUP as regular expressions that match a whole id, such as 'billing-.*'
    #[arg(short, long)]
    regex: bool,
}

/// The same for a command that is about all groups where none is named.
#[derive(Debug, Args)]
pub(crate) struct OptionalSelection {
    /// Ids of groups [default: all]
    #[arg(value_name = "GROUP", add = group_names::completer())]
    names: Vec<String>,

    /// Take GROUP as regular expressions that match a whole id, such as 'billing-.*'
    #[arg(short, long, requires = "names")]
    regex: bool,
}

impl OptionalSelection {
    /// None: all groups.
    pub(crate) fn into_selection(self) -> Option<selection::Selection> {
        let Self { names, regex } = self;
        let kind = Kind::Group;
        (!names.is_empty()).then_some(selection::Selection { kind, names, regex })
    }
}

impl Selection {
    /// The selected ids, each once. Plain ids are taken as they are, whether there are such groups or not; expressions
    /// that match no group are a failure.
    pub(crate) async fn names(&self, admin: &Admin) -> Result<Vec<String>, Failure> {
        let selection = selection::Selection {
            kind: Kind::Group,
            names: self.names.clone(),
            regex: self.regex,
        };
        let known = async {
            let groups = admin.list_groups().await?;
            Ok(groups.into_iter().map(|group| group.group_id).collect())
        };
        selection.resolve(known).await
    }
}
