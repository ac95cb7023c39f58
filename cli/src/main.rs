//! The `highwater` command line.
//!
//! `command` has one file for each command, all of one shape: `Options` that clap fills, `run` that talks to the broker,
//! and how its answer looks as text and as JSON. What they share is in modules that do no input or output of their own
//! (offsets, formats, separators, tables, JSON records), and in [`context`], which knows whom to ask and where to
//! answer. The shapes of the JSON outputs are a promise to programs: docs/cli.md lists them.

mod arguments;
mod broker_address;
mod command;
mod completer;
mod confirm;
mod context;
mod diagnosis;
mod escape;
mod exit_status;
mod explain;
mod failure;
mod format_string;
mod group_names;
mod input;
mod interrupts;
mod json_record;
mod line_record;
mod lines;
mod near_names;
mod offset_spec;
mod output_pipe;
mod pair;
mod positions;
mod printer;
mod profile;
mod progress;
mod quantity;
mod record;
mod selection;
mod separator;
mod table;
mod text_file;
mod tls_options;
mod topic_names;
mod vigil;
mod wanted;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Command};
use command::declared::{apply, diff};
use command::{
    bench, cluster, completion, consume, dev, group, man, produce, profile as profiles, tls, top,
    topic,
};
use context::Context;
use failure::Failure;
use profile::{Connection, Given, file};

fn main() -> ExitCode {
    completion::answer_the_shell();
    let Arguments { global, command } = Arguments::parse();
    let given = Given {
        profile: global.profile,
        connection: Connection {
            brokers: global.brokers,
            tls: global.tls,
            profile: None,
        },
    };
    let mut context = Context::new(global.format);
    let result = start_log(&global.log).and_then(|()| {
        if command.needs_brokers() {
            context.reach(given.complete(file::read)?)?;
        }
        let runtime = tokio::runtime::Runtime::new()
            .map_err(|error| Failure::new("cannot start threads", error))?;
        // The command itself runs on this thread, which is none of the runtime's: it may wait for stdin and stdout
        // without holding up the client's connections.
        let result = runtime.block_on(run(command, given, &context));
        runtime.shutdown_background();
        result
    });
    if let Err(failure) = result {
        context.report(&failure);
    }
    context.status().into()
}

async fn run(command: Command, given: Given, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Dev(options) => dev::run(options).await,
        Command::Topic(command) => topic::run(command, context).await,
        Command::Diff(options) => diff::run(options, context).await,
        Command::Apply(options) => apply::run(options, context).await,
        Command::Produce(options) => produce::run(options, context).await,
        Command::Consume(options) => consume::run(options, context).await,
        Command::Group(command) => group::run(command, context).await,
        Command::Cluster(command) => cluster::run(command, context).await,
        Command::Top(options) => top::run(options, context).await,
        Command::Profile(command) => profiles::run(command, given, context),
        Command::Completion(options) => completion::run(&options),
        Command::Man(options) => man::run(&options),
        Command::Tls(command) => tls::run(command, context),
        Command::Bench(command) => bench::run(command, context).await,
    }
}

/// Logs to stderr what `filter` lets pass.
fn start_log(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::misuse(format!("cannot log at \"{filter}\""), error).remedy(
            "use error, warn, info, debug, trace, or a filter such as highwater_client=debug",
        )
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
