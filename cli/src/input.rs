//! Where `produce` reads from: a file, or stdin.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;

use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::lines::{self, Block, BlockReader};
use crate::progress::Progress;

/// Blocks of lines that are read ahead of what is sent.
const BLOCKS_AHEAD: usize = 4;

/// An open input.
pub(crate) struct Input {
    name: String,
    reader: Box<dyn Read + Send>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A person types.
    Terminal,
    /// A pipe, or something else without a length.
    Pipe,
}

impl Input {
    /// Opens the file, or stdin where none is named.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self {
                name: "stdin".into(),
                reader: Box::new(io::stdin()),
                kind: stdin_kind(),
            });
        };
        let name = path.display().to_string();
        let cannot_read = |error| Failure::new(format!("cannot read {name}"), error);
        let file = File::open(path).map_err(cannot_read)?;
        let metadata = file.metadata().map_err(cannot_read)?;
        if metadata.is_dir() {
            let why = "it is a directory";
            return Err(Failure::new(format!("cannot read {name}"), why));
        }
        Ok(Self {
            kind: match metadata.len() {
                // Also files of which nobody knows the length, as those of /proc.
                0 => Kind::Pipe,
                bytes => Kind::File(bytes),
            },
            reader: Box::new(file),
            name,
        })
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a person types it, who sees a cursor and may wonder.
    pub(crate) fn is_typed(&self) -> bool {
        self.kind == Kind::Terminal
    }

    /// How far reading it is, counted in bytes; not shown to somebody who types.
    pub(crate) fn progress(&self) -> Progress {
        match self.kind {
            Kind::File(bytes) => Progress::of_bytes(bytes),
            Kind::Pipe => Progress::open_ended(),
            Kind::Terminal => Progress::hidden(),
        }
    }

    /// Reads blocks of lines on a thread of its own: a read of stdin may wait for ever, and nothing can interrupt it.
    pub(crate) fn read_ahead(self) -> Result<mpsc::Receiver<Result<Block, lines::Error>>, Failure> {
        let (sender, receiver) = mpsc::channel(BLOCKS_AHEAD);
        let read = move || {
            let mut reader = BlockReader::new(self.reader);
            while let Some(block) = reader.next_block().transpose() {
                let is_last = block.is_err();
                // When nobody receives any more, a record was refused, and the rest of the input is not wanted.
                if sender.blocking_send(block).is_err() || is_last {
                    return;
                }
            }
        };
        match std::thread::Builder::new().name("input".into()).spawn(read) {
            Ok(_) => Ok(receiver),
            Err(error) => Err(Failure::new("cannot start a thread", error)),
        }
    }
}

/// Stdin may be a file, too (`< FILE`).
fn stdin_kind() -> Kind {
    if io::stdin().is_terminal() {
        return Kind::Terminal;
    }
    let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    match file.and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() && metadata.len() > 0 => Kind::File(metadata.len()),
        _ => Kind::Pipe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_no_input() {
        let directory = tempfile::tempdir().unwrap();
        let failure = Input::open(Some(directory.path())).err().unwrap();
        assert!(
            failure.to_string().contains("it is a directory"),
            "{failure}"
        );
    }

    #[test]
    fn a_file_knows_its_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(Input::open(Some(&path)).unwrap().kind, Kind::File(4));
    }
}
