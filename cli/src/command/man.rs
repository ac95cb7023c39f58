//! `highwater man`: manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory, ValueHint};
use clap_mangen::Man;

use crate::arguments::Arguments;
use crate::context;
use crate::failure::Failure;

/// Options of `highwater man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater man | man -l -                                read the page
  highwater man ~/.local/share/man/man1                   install a page for each command
  man highwater-topic-trim                                and read one of them")]
pub(crate) struct Options {
    /// Write a page for each command into this directory, which is made; without it the main page is printed
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
}

/// Prints the main page, or writes them all.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let command = Arguments::command().disable_help_subcommand(true);
    let Some(directory) = &options.directory else {
        let mut page = Vec::new();
        let printed = Man::new(command)
            .render(&mut page)
            .map(|()| String::from_utf8_lossy(&page).into_owned());
        return match printed {
            Ok(page) => context::print(&page),
            Err(error) => Err(Failure::new("cannot print the manual page", error)),
        };
    };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory))
        .map_err(|error| {
            let what = format!("cannot write manual pages to {}", directory.display());
            Failure::new(what, error)
        })
}
