//! `highwater profile edit`

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use clap::Args;

use super::check::checked;
use super::{Shown, completer, which};
use crate::context::Context;
use crate::failure::Failure;
use crate::profile::{Profile, file};

/// What fails.
const WHAT: &str = "cannot edit the profile";
/// What is called where the environment names nothing.
const DEFAULT_EDITOR: &str = "vi";

/// Options of `highwater profile edit`.
#[derive(Debug, Args)]
#[command(after_help = "The editor is what VISUAL or EDITOR in the environment say, or else vi.")]
pub(crate) struct Options {
    /// Name of the profile [default: the one in use]
    #[arg(value_name = "NAME", add = completer())]
    name: Option<String>,
}

/// Lets an editor change a profile. What it leaves is kept where it can be used, as a whole or not at all.
pub(super) fn run(options: Options, named: Option<&str>, context: &Context) -> Result<(), Failure> {
    let profiles = file::read()?;
    let name = which(&profiles, options.name.as_deref(), named, WHAT)?;
    let before = profiles.get(&name, WHAT)?.clone();
    let profile = edited(&before)?;
    if profile == before {
        context.note("nothing was changed");
        return Ok(());
    }
    let profile = checked(profile, WHAT)?;
    // Somebody else may have changed others meanwhile.
    let mut profiles = file::read()?;
    let shown = Shown::new(&name, &profile, profiles.current.as_deref());
    profiles.by_name.insert(name.clone(), profile);
    file::write(&profiles)?;
    context.note(&format!("profile \"{name}\" is changed"));
    context.answer(String::new, || shown)
}

/// The profile as the editor left it.
fn edited(profile: &Profile) -> Result<Profile, Failure> {
    let failed = |error: io::Error| Failure::new(WHAT, error);
    let text = toml::to_string(profile).map_err(io::Error::other);
    let mut scratch = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .map_err(failed)?;
    scratch
        .write_all(text.map_err(failed)?.as_bytes())
        .map_err(failed)?;
    call_editor(scratch.path())?;
    // Editors replace files: what was opened may not be what is there now.
    let text = std::fs::read_to_string(scratch.path()).map_err(failed)?;
    toml::from_str(&text).map_err(|error| {
        Failure::new(WHAT, error.message()).remedy("nothing was changed; edit it again")
    })
}

fn call_editor(path: &Path) -> Result<(), Failure> {
    let named = ["VISUAL", "EDITOR"].into_iter().find_map(|name| {
        let editor = std::env::var(name).ok()?;
        (!editor.trim().is_empty()).then_some(editor)
    });
    let editor = named.unwrap_or_else(|| DEFAULT_EDITOR.to_owned());
    // It may be given with arguments: the shell takes it apart, as others do it, too.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(path)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(WHAT, format!("`{editor}` failed ({status})"))
            .remedy("name an editor: EDITOR in the environment")),
        Err(error) => Err(Failure::new(WHAT, error)),
    }
}
