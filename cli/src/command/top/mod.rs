//! `highwater top`
//!
//! [`survey`] asks the cluster for a [`sample`] every now and then; [`view`] makes rates of two of them and [`page`]
//! lines of that, both without input or output; [`screen`] is the terminal.

mod page;
mod sample;
mod screen;
mod survey;
mod view;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::Args;
use highwater_client::{Admin, Error};

use crate::arguments::Format;
use crate::command::bench::amount::Time;
use crate::context::{self, Context};
use crate::explain::explain;
use crate::failure::Failure;
use crate::interrupts::Interrupts;
use crate::output_pipe::reader_gone;
use crate::quantity::parse_count;
use sample::Sample;
use screen::{Screen, quit_typed};
use view::{View, compare};

/// What fails.
const WHAT: &str = "cannot watch the cluster";

/// No interval is shorter.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Options of `highwater top`.
#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal the page is drawn again and again; q or Ctrl-C ends it. Elsewhere, or with -n, pages come one after another.")]
pub(crate) struct Options {
    /// Time between two looks, over which rates are taken
    #[arg(short, long, value_name = "TIME", default_value = "2s", value_parser = parse_interval)]
    interval: Time,

    /// Print so many pages, one after another
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = parse_count)]
    count: Option<u64>,

    /// Print one page: -n 1
    #[arg(long, conflicts_with = "count")]
    once: bool,
}

/// Reads an interval. Without a pause the looks would be all that a broker is busy with.
fn parse_interval(text: &str) -> Result<Time, String> {
    let interval: Time = text.parse()?;
    if interval.0 < INTERVAL_MIN {
        return Err(format!("it is at least {} ms", INTERVAL_MIN.as_millis()));
    }
    Ok(interval)
}

/// Shows throughput, lag and leaders until it is ended.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect(WHAT).await?.admin();
    let mut interrupts = Interrupts::listen()?;
    let count = if options.once { Some(1) } else { options.count };
    let is_live = count.is_none() && context.format == Format::Text && io::stdout().is_terminal();
    let work = async {
        if is_live {
            show(&admin, options.interval).await
        } else {
            print(&admin, options.interval, count, context).await
        }
    };
    // What is dropped here gives the terminal back.
    tokio::select! {
        result = work => result,
        () = quit_typed(), if is_live => Ok(()),
        () = reader_gone() => Ok(()),
        status = interrupts.next() => {
            context.end_with(status);
            Ok(())
        }
    }
}

/// Draws pages over each other, whatever the cluster says.
async fn show(admin: &Admin, interval: Time) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new("cannot draw on the terminal", error);
    let screen = Screen::open().map_err(failed)?;
    let mut watch = Watch::default();
    let mut page = String::from("waiting for the cluster to answer");
    loop {
        screen.draw(&page).map_err(failed)?;
        let looked = watch.look(admin).await;
        let room = screen.room();
        // The failure stands below the page as it was, the last line is for how to end.
        page = match looked {
            Ok((view, problem)) => {
                let failure = problem.map(|error| explain(WHAT, &error).to_string());
                shown(&page::text(&view, Some(room)), failure.as_deref(), room)
            }
            Err(error) => shown(&page, Some(&explain(WHAT, &error).to_string()), room),
        };
        screen.draw(&page).map_err(failed)?;
        tokio::time::sleep(interval.0).await;
    }
}

/// A page with what failed in its last lines.
fn shown(page: &str, failure: Option<&str>, room: page::Room) -> String {
    let Some(failure) = failure else {
        return page.to_owned();
    };
    let failure: Vec<String> = failure
        .lines()
        .map(|line| line.chars().take(room.columns).collect())
        .collect();
    let kept = page
        .lines()
        .filter(|line| !failure.iter().any(|told| told == line))
        .take(room.lines.saturating_sub(failure.len()));
    let lines: Vec<&str> = kept.chain(failure.iter().map(String::as_str)).collect();
    lines.join("\n")
}

/// Prints `count` pages, or any number.
async fn print(
    admin: &Admin,
    interval: Time,
    count: Option<u64>,
    context: &Context,
) -> Result<(), Failure> {
    let failed = |error: Error| explain(WHAT, &error);
    let mut watch = Watch::default();
    watch.look(admin).await.map_err(failed)?;
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        tokio::time::sleep(interval.0).await;
        let (view, problem) = watch.look(admin).await.map_err(failed)?;
        if let Some(error) = problem {
            context.report(&failed(error));
        }
        let is_first = printed == 0;
        context::print(&match context.format {
            Format::Json => json_line(&view)?,
            Format::Text if is_first => page::text(&view, None),
            Format::Text => format!("\n{}", page::text(&view, None)),
        })?;
        printed += 1;
    }
    Ok(())
}

fn json_line(view: &View) -> Result<String, Failure> {
    let line = serde_json::to_string(view);
    let line = line.map_err(|error| Failure::new("cannot print the answer as JSON", error))?;
    Ok(format!("{line}\n"))
}

/// Looks at the cluster, and remembers the last look.
#[derive(Default)]
struct Watch {
    last: Option<(Sample, Instant)>,
}

impl Watch {
    /// The cluster since the look before, and why nothing is known of its groups where that is so.
    async fn look(&mut self, admin: &Admin) -> Result<(View, Option<Error>), Error> {
        let (sample, problem) = survey::sample(admin).await?;
        let now = Instant::now();
        let view = match &self.last {
            Some((before, at)) => compare(before, &sample, now.saturating_duration_since(*at)),
            None => compare(&sample, &sample, Duration::ZERO),
        };
        self.last = Some((sample, now));
        Ok((view, problem))
    }
}
