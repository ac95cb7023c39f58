//! The Highwater broker as a server.

use std::process::ExitCode;

fn main() -> ExitCode {
    highwater_broker::command_line::main()
}
