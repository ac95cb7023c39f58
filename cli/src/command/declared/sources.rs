//! Which files say what the topics should be.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::file::{Declared, merge, parse};
use crate::failure::Failure;

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
        let files = self.files.iter().map(|path| read(path));
        let declared = merge(files.collect::<Result<_, _>>()?)?;
        if self.prune && declared.is_empty() {
            let why = "no topic is declared, so that --prune would delete all there are";
            return Err(Failure::new(what, why)
                .remedy("to delete them: highwater topic delete '.*' --regex"));
        }
        Ok(declared)
    }
}

fn read(path: &Path) -> Result<Vec<Declared>, Failure> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    };
    let read = if is_stdin {
        read_bounded(io::stdin().lock())
    } else {
        File::open(path).and_then(read_bounded)
    };
    let text = read.map_err(|error| Failure::new(format!("cannot read {name}"), error))?;
    parse(&name, &text)
}

fn read_bounded(input: impl Read) -> io::Result<String> {
    let mut text = String::new();
    let bytes = input.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if bytes as u64 > FILE_BYTES_MAX {
        let why = format!("it is longer than {FILE_BYTES_MAX} bytes: is this a file of topics?");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_topics_by_its_length_is_not_read_to_its_end() {
        let error = read_bounded(io::repeat(b'x')).unwrap_err();
        assert!(error.to_string().contains("4194304 bytes"), "{error}");
    }

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
