//! The broker's program, built with the tests so that they always run the present one.

use std::process::ExitCode;

fn main() -> ExitCode {
    highwater_broker::command_line::main()
}
