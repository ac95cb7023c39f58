//! Scripts with their expected output: commands, a line `---`, the output, an empty line; and so on. Lines that begin
//! with `#` are comments.

use std::fmt;
use std::path::{Path, PathBuf};

/// What a script plays on.
pub(crate) trait Stage {
    /// Carries out one command; the lines it says.
    fn command(&mut self, command: &Command<'_>) -> Result<Vec<String>, String>;
}

/// One line of a script: a name and its arguments.
pub(crate) struct Command<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: Vec<&'a str>,
}

/// A script that ended otherwise than written.
pub(crate) struct Failure {
    path: PathBuf,
    line: usize,
    expected: String,
    found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let Self {
            line,
            expected,
            found,
            ..
        } = self;
        write!(
            f,
            "{name}, line {line}: expected\n{expected}\nbut found\n{found}"
        )
    }
}

impl<'a> Command<'a> {
    pub(crate) fn parse(line: &'a str) -> Self {
        let mut words = line.split_whitespace();
        Self {
            name: words.next().unwrap_or_default(),
            arguments: words.collect(),
        }
    }

    /// The argument at `place`.
    pub(crate) fn argument(&self, place: usize) -> Result<&'a str, String> {
        let missing = || format!("{} lacks its argument {}", self.name, place + 1);
        self.arguments.get(place).copied().ok_or_else(missing)
    }

    /// The argument at `place` as a number.
    pub(crate) fn number(&self, place: usize) -> Result<u64, String> {
        let word = self.argument(place)?;
        word.parse().map_err(|_| format!("{word} is no number"))
    }

    /// The value of the argument `key=value`.
    pub(crate) fn value(&self, key: &str) -> Option<&'a str> {
        self.arguments
            .iter()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Plays the script at `path` and compares, or writes down what happened.
pub(crate) fn run(path: &Path, stage: &mut impl Stage) -> Result<(), Failure> {
    let text = std::fs::read_to_string(path).unwrap();
    let is_update = std::env::var_os("HIGHWATER_UPDATE_SCRIPTS").is_some();
    let mut updated = String::new();
    let mut lines = text.lines().enumerate().peekable();
    while lines.peek().is_some() {
        let mut found = Vec::new();
        let mut commands = 0;
        let mut start = 0;
        for (number, line) in lines.by_ref() {
            start = number + 1;
            if line == "---" {
                break;
            }
            updated.push_str(line);
            updated.push('\n');
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            commands += 1;
            let said = stage.command(&Command::parse(line));
            found.extend(said.unwrap_or_else(|error| vec![format!("error: {error}")]));
        }
        let expected: Vec<_> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| !line.is_empty())
            .collect();
        if commands == 0 {
            continue;
        }
        if found.is_empty() {
            found.push("ok".to_owned());
        }
        if !is_update && found != expected {
            return Err(Failure {
                path: path.to_owned(),
                line: start,
                expected: expected.join("\n"),
                found: found.join("\n"),
            });
        }
        updated.push_str(&format!("---\n{}\n\n", found.join("\n")));
    }
    if is_update {
        std::fs::write(path, updated.trim_end().to_owned() + "\n").unwrap();
    }
    Ok(())
}
