//! Runs seeds of the deterministic simulator: see `highwater_tests::sim`.

use std::process::ExitCode;

use highwater_tests::sim::{self, Bug, Options};

const USAGE: &str = "usage: sim --seed N | --seeds A..B [--verbose] [--bug NAME]";

/// What the command line asks for.
struct Wanted {
    first: u64,
    end: u64,
    options: Options,
}

fn main() -> ExitCode {
    let Some(wanted) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut red = 0;
    for seed in wanted.first..wanted.end {
        match sim::run(seed, wanted.options) {
            Ok(summary) => println!(
                "seed {seed} is clean: trace {:016x}, {} events, {} batches acknowledged, {} leaders, {} s",
                summary.trace_hash,
                summary.events,
                summary.acked_batches,
                summary.leaders,
                summary.time
            ),
            Err(failure) => {
                red += 1;
                println!("{failure}");
            }
        }
    }
    println!("{} seeds, {red} red", wanted.end - wanted.first);
    if red == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut range = None;
    let mut options = Options::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--verbose" => options.prints = true,
            "--bug" => {
                let name = words.next()?;
                let named = |bug: &Bug| format!("{bug:?}") == name;
                options.bug = Some(Bug::ALL.into_iter().find(named)?);
            }
            "--seed" => {
                let seed = words.next()?.parse().ok()?;
                range = Some((seed, seed + 1));
            }
            "--seeds" => {
                let text = words.next()?;
                let (first, end) = text.split_once("..")?;
                range = Some((first.parse().ok()?, end.parse().ok()?));
            }
            _ => return None,
        }
    }
    let (first, end) = range?;
    (first < end).then_some(Wanted {
        first,
        end,
        options,
    })
}
