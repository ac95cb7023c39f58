//! `highwater consume -g`: records of this process's share of a topic, as a member of a consumer group.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_client::{Client, GroupConsumer, OffsetReset, Rebalance};

use super::consume::print_record;
use crate::context::{Context, tell};
use crate::explain::explain;
use crate::failure::Failure;
use crate::interrupts::Interrupts;
use crate::offset_spec::OffsetSpec;
use crate::output_pipe::reader_gone;
use crate::printer::{Form, Printer, Reader};

/// What is read, and how.
pub(super) struct Job<'a> {
    pub(super) group: &'a str,
    pub(super) topic: &'a str,
    /// Where to begin in partitions of which nothing is committed.
    pub(super) offset: OffsetSpec,
    /// Stop after this many records.
    pub(super) count: Option<u64>,
    pub(super) rack: Option<&'a str>,
    pub(super) form: Form,
}

/// Why printing ended before its end.
enum Error {
    Read(highwater_client::Error),
    Write(io::Error),
}

/// Prints records until there are no more wanted, or nobody reads them; then leaves the group.
pub(super) async fn run(
    job: Job<'_>,
    what: &str,
    client: &Client,
    context: &Context,
) -> Result<(), Failure> {
    let is_leaving = Arc::new(AtomicBool::new(false));
    let mut consumer = join(&job, what, client, Arc::clone(&is_leaving)).await?;
    let mut interrupts = Interrupts::listen()?;
    let mut printer = Printer::new(io::stdout().lock(), job.form);
    let printed = tokio::select! {
        printed = print(&mut consumer, job.count, &mut printer) => printed,
        status = interrupts.next() => {
            context.end_with(status);
            Ok(())
        }
    };
    let flushed = printer.flush().map_err(Error::Write);
    // That all partitions go with the end of the command is no news to who ends it.
    is_leaving.store(true, Ordering::Relaxed);
    // What was printed is committed, and the others need not wait for this member's session to end.
    let closed = consumer.close().await.map_err(Error::Read);
    match printed.and(flushed.map(|_reader| ())).and(closed) {
        Ok(()) => Ok(()),
        Err(Error::Read(error)) => Err(explain(what, &error)),
        Err(Error::Write(error)) => Err(Failure::new("cannot write to stdout", error)),
    }
}

async fn join(
    job: &Job<'_>,
    what: &str,
    client: &Client,
    is_leaving: Arc<AtomicBool>,
) -> Result<GroupConsumer, Failure> {
    let reset = match job.offset {
        OffsetSpec::Start => OffsetReset::Earliest,
        OffsetSpec::End => OffsetReset::Latest,
        OffsetSpec::Time(timestamp_ms) => OffsetReset::Timestamp(timestamp_ms),
        _ => {
            let why = "a group goes on where it committed last: only -o start, end and @TIME say where to begin the first time";
            return Err(Failure::misuse(what, why).remedy(format!(
                "to set where it goes on: highwater group seek {} --to OFFSET",
                job.group
            )));
        }
    };
    let mut builder = client.consumer().offset_reset(reset);
    if let Some(rack) = job.rack {
        builder = builder.rack(rack);
    }
    let consumer = builder
        .group(job.group)
        .topics([job.topic])
        .client_id("highwater")
        .on_rebalance(move |rebalance, _| {
            if !is_leaving.load(Ordering::Relaxed) {
                tell(&format!("{}\n", news(rebalance)));
            }
        })
        .build()
        .await;
    consumer.map_err(|error| explain(what, &error))
}

/// What happened to this member's partitions, for the user.
fn news(rebalance: &Rebalance) -> String {
    let (partitions, what) = match rebalance {
        Rebalance::Assigned(partitions) => (partitions, "read here from now on"),
        Rebalance::Revoked(partitions) => (partitions, "given to another member"),
        Rebalance::Lost(partitions) => (
            partitions,
            "lost: this member was removed from its group, and joins again",
        ),
    };
    let numbers: Vec<_> = partitions
        .iter()
        .map(|each| each.partition.to_string())
        .collect();
    match &numbers[..] {
        [] => "no partition is left for this member: it waits".to_owned(),
        [one] => format!("partition {one} is {what}"),
        many => format!("partitions {} are {what}", many.join(", ")),
    }
}

/// Prints what comes. Each record is written before the next is asked for: it counts as processed then, and is committed.
async fn print(
    consumer: &mut GroupConsumer,
    count: Option<u64>,
    printer: &mut Printer<impl io::Write>,
) -> Result<(), Error> {
    let mut reader_gone = std::pin::pin!(reader_gone());
    let mut headers = Vec::new();
    let mut remaining = count;
    while remaining != Some(0) {
        let received = tokio::select! {
            received = consumer.recv() => received.map_err(Error::Read)?,
            () = &mut reader_gone => return Ok(()),
        };
        let printed = print_record(&received, &mut headers, printer).map_err(Error::Write)?;
        if printed == Reader::Gone || printer.flush().map_err(Error::Write)? == Reader::Gone {
            return Ok(());
        }
        if let Some(remaining) = &mut remaining {
            *remaining -= 1;
        }
    }
    Ok(())
}
