//! Which files say what the topics should be.

use std::path::PathBuf;

use clap::Args;

use super::file::{Declared, merge, parse};
use crate::failure::Failure;
use crate::text_file;

/// No file of topics is longer, in bytes: there are as many topics as a cluster takes in one of this size.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The files, and whether they say everything.
#[derive(Debug, Args)]
pub(super) struct Sources {
    /// File in YAML that says what topics there should be, - for stdin; may be repeated
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Delete topics that are in none of the files
    #[arg(long)]
    pub(super) prune: bool,
}

impl Sources {
    /// What the files say together, in order to do `what`.
    pub(super) fn read(&self, what: &str) -> Result<Vec<Declared>, Failure> {
        let files = self.files.iter().map(|path| {
            let file = text_file::read(path, FILE_BYTES_MAX)?;
            parse(&file.name, &file.text)
        });
        let declared = merge(files.collect::<Result<_, _>>()?)?;
        if self.prune && declared.is_empty() {
            let why = "no topic is declared, so that --prune would delete all there are";
            return Err(Failure::new(what, why)
                .remedy("to delete them: highwater topic delete '.*' --regex"));
        }
        Ok(declared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_not_taken_for_the_wish_to_delete_everything() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.yaml");
        std::fs::write(&path, "topics: []\n").unwrap();
        let sources = |prune| Sources {
            files: vec![path.clone()],
            prune,
        };
        assert_eq!(sources(false).read("cannot").unwrap(), []);
        assert!(sources(true).read("cannot").is_err());
    }
}
