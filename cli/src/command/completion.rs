//! `highwater completion`: completion for shells, of commands, options and names.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use crate::arguments::Arguments;
use crate::context;
use crate::failure::Failure;

/// The script calls this program with this in the environment, and it answers with candidates.
const VARIABLE: &str = "HIGHWATER_COMPLETE";

/// Options of `highwater completion`.
#[derive(Debug, Args)]
#[command(after_help = "\
To have it in each new shell:
  echo 'source <(highwater completion bash)' >> ~/.bashrc
  echo 'source <(highwater completion zsh)' >> ~/.zshrc
  echo 'highwater completion fish | source' >> ~/.config/fish/config.fish
Names of topics and groups are asked for at the broker while you type.")]
pub(crate) struct Options {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// The shells.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

/// Answers the script of a shell, and ends the process, where that is what it was called for.
pub(crate) fn answer_the_shell() {
    CompleteEnv::with_factory(Arguments::command)
        .var(VARIABLE)
        .complete();
}

/// Prints the script.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let name = options.shell.name();
    let program = std::env::current_exe()
        .ok()
        .and_then(|path| path.into_os_string().into_string().ok())
        .unwrap_or_else(|| "highwater".into());
    context::print(&script(name, &program)?)
}

/// The script for the shell of this name, which calls `program`.
fn script(shell: &str, program: &str) -> Result<String, Failure> {
    const WHAT: &str = "cannot print the completion script";
    let shells = Shells::builtins();
    let completer = shells
        .completer(shell)
        .ok_or_else(|| Failure::new(WHAT, format!("{shell} is not known")))?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "highwater", "highwater", program, &mut script)
        .map_err(|error| Failure::new(WHAT, error))?;
    String::from_utf8(script).map_err(|error| Failure::new(WHAT, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_has_a_script_that_calls_back() {
        for shell in Shell::value_variants() {
            let script = script(shell.name(), "/opt/highwater").unwrap();
            assert!(script.contains(VARIABLE), "{script}");
            assert!(script.contains("/opt/highwater"), "{script}");
        }
    }
}
