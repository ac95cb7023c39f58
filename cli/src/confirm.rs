//! Asking before something is lost.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use crate::failure::Failure;

/// The option of every command that cannot be undone.
#[derive(Debug, Args)]
pub(crate) struct Consent {
    /// Do not ask. On a terminal it is asked before anything is lost; scripts are never asked
    #[arg(short, long)]
    yes: bool,
}

impl Consent {
    /// The same for what no script should do by accident: without a terminal only `--yes` goes on.
    pub(crate) fn insist(&self, what: &str, question: &str) -> Result<(), Failure> {
        let is_asked = io::stdin().is_terminal() && io::stderr().is_terminal();
        if self.yes || is_asked {
            return self.ask(what, question);
        }
        Err(
            Failure::new(what, "there is nobody to ask; nothing was done")
                .remedy("to go on without a question: --yes"),
        )
    }

    /// Goes on when `--yes` was given, when nobody is there to answer, or when the answer to `question` is yes.
    pub(crate) fn ask(&self, what: &str, question: &str) -> Result<(), Failure> {
        if self.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(());
        }
        match is_yes(question, io::stdin().lock(), io::stderr()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(
                what,
                "you did not answer yes; nothing was done",
            )),
            Err(error) => {
                Err(Failure::new(what, error).remedy("to go on without a question: --yes"))
            }
        }
    }
}

/// Asks, and takes only `y` and `yes` as a yes.
fn is_yes(question: &str, mut answers: impl BufRead, mut to: impl Write) -> io::Result<bool> {
    write!(to, "{question} [y/N] ")?;
    to.flush()?;
    let mut answer = String::new();
    if answers.read_line(&mut answer)? == 0 {
        // The end of the input has no line end of its own.
        writeln!(to)?;
    }
    let answer = answer.trim().to_lowercase();
    Ok(answer == "y" || answer == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_means_yes() {
        for (answer, expected) in [
            ("y\n", true),
            ("Yes\n", true),
            (" yes \r\n", true),
            ("\n", false),
            ("", false),
            ("n\n", false),
            ("yess\n", false),
        ] {
            let mut asked = Vec::new();
            assert_eq!(
                is_yes("sure?", answer.as_bytes(), &mut asked).unwrap(),
                expected
            );
            assert!(asked.starts_with(b"sure? [y/N] "));
        }
    }
}
