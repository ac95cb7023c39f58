//! `highwater consume`: records are printed as they come.

use std::io::{self, IsTerminal};

use clap::Args;
use futures::FutureExt;
use highwater_client::{ConsumedRecord, Consumer, Header, Offset, Start};
use jiff::Timestamp;

use super::consume_group::{self, Job};
use crate::arguments::Format;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::format_string::FormatString;
use crate::group_names;
use crate::interrupts::Interrupts;
use crate::offset_spec::OffsetSpec;
use crate::output_pipe::reader_gone;
use crate::positions::{self, Position};
use crate::printer::{Form, Printer, Reader};
use crate::progress::Progress;
use crate::quantity::{parse_count, parse_partition};
use crate::record::Record;
use crate::topic_names;
use crate::vigil::{self, Look};
use crate::wanted::Wanted;

/// As many records are printed at a time, where they are at hand, before signals and progress get their turn.
const RECORDS_PER_TURN: u64 = 1024;

/// Options of `highwater consume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater consume flights -e                           all records there are, then exit
  highwater consume flights -o end                       what comes from now on, until Ctrl-C
  highwater consume flights -o -10 -n 10 -p 3            the last 10 records of partition 3
  highwater consume flights -o @-1h -f '%T %k %v\\n'      the last hour, with time and key
  highwater consume flights -e --format json             an object on a line for each record
  highwater consume flights -g billing                   this process's share, as one of the group billing")]
pub(crate) struct Options {
    /// Name of the topic
    #[arg(value_name = "TOPIC", add = topic_names::completer())]
    topic: String,

    /// Where to begin: start, end, N, +N (after the start), -N (before the end) or @TIME
    #[arg(
        short,
        long,
        value_name = "OFFSET",
        default_value = "start",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = |text: &str| OffsetSpec::parse(text, Timestamp::now()))]
    offset: OffsetSpec,

    /// Read as a member of this consumer group: partitions are shared out among its members, each goes on where the group
    /// committed last, and what was printed is committed. -o start, end or @TIME is for partitions without a committed offset
    #[arg(short, long, value_name = "GROUP", add = group_names::completer(), conflicts_with_all = ["exit", "partitions"])]
    group: Option<String>,

    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "COUNT", allow_hyphen_values = true, value_parser = parse_count)]
    count: Option<u64>,

    /// Only these partitions, with commas between them [default: all]
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', value_parser = parse_partition)]
    partitions: Vec<u32>,

    /// Exit at the end of what is there now
    #[arg(short, long)]
    exit: bool,

    /// Read from replicas in this rack where there are some, instead of from leaders
    #[arg(long, value_name = "RACK")]
    rack: Option<String>,

    /// How to print a record: %t topic, %p partition, %o offset, %k key, %v value, %h headers, %T timestamp, %% and
    /// escapes such as \n [default: '%v\n']
    #[arg(short = 'f', long = "template", value_name = "TEMPLATE")]
    template: Option<FormatString>,
}

/// Prints records until there are no more wanted, or to be read, or nobody reads them.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let what = format!("cannot consume topic \"{}\"", options.topic);
    let form = options.form(context.format)?;
    let client = context.connect(&what).await?;
    if let Some(group) = &options.group {
        let job = Job {
            group,
            topic: &options.topic,
            offset: options.offset,
            count: options.count,
            rack: options.rack.as_deref(),
            form,
        };
        return consume_group::run(job, &what, &client, context).await;
    }
    let positions = positions::find(
        &client.admin(),
        &what,
        &options.topic,
        &options.partitions,
        options.offset,
    )
    .await?;
    for position in &positions {
        note_what_is_not_held(context, &options.topic, position);
    }
    let mut wanted = Wanted::new(&positions, options.count, options.exit);
    if wanted.is_satisfied() {
        return Ok(());
    }
    let mut consumer = client.consumer();
    if let Some(rack) = &options.rack {
        consumer = consumer.rack(rack);
    }
    for position in positions
        .iter()
        .filter(|position| wanted.reads(position.partition))
    {
        let start = Start::Offset(Offset(position.nearest_held()));
        consumer = consumer.assign(&options.topic, position.partition, start);
    }
    let consumer = consumer
        .build()
        .await
        .map_err(|error| explain(&what, &error))?;
    let progress = progress(&wanted);
    let mut interrupts = Interrupts::listen()?;
    let mut printer = Printer::new(io::stdout().lock(), form);
    let look = || Look {
        done: progress.position(),
        owed: None,
        message: "records".into(),
    };
    let printed = tokio::select! {
        printed = print(consumer, &mut wanted, &mut printer, &progress) => printed,
        status = interrupts.next() => {
            context.end_with(status);
            Ok(())
        }
        never = vigil::keep(context, &options.topic, &progress, look) => match never {},
    };
    progress.finish();
    // What was read is worth printing, whatever ended the reading.
    let flushed = printer.flush().map_err(Error::Write);
    match printed.and(flushed.map(|_reader| ())) {
        Ok(()) => Ok(()),
        Err(Error::Read(error)) => Err(explain(what, &error)),
        Err(Error::Write(error)) => Err(Failure::new("cannot write to stdout", error)),
    }
}

/// How far reading is. Not shown beside records that go to the terminal: they show it themselves.
fn progress(wanted: &Wanted) -> Progress {
    if io::stdout().is_terminal() {
        return Progress::hidden();
    }
    match wanted.total() {
        Some(records) => Progress::of_items(records),
        None => Progress::open_ended(),
    }
}

impl Options {
    fn form(&self, format: Format) -> Result<Form, Failure> {
        match (&self.template, format) {
            (Some(_), Format::Json) => Err(Failure::misuse(
                "cannot print records",
                "-f and --format json are two forms of output",
            )
            .remedy("leave out one of them")),
            (None, Format::Json) => Ok(Form::Json),
            (Some(template), Format::Text) => Ok(Form::Text(template.clone())),
            (None, Format::Text) => Ok(Form::Text(FormatString::value_per_line())),
        }
    }
}

/// Tells the user when an offset is asked for by its number and the partition does not hold it.
fn note_what_is_not_held(context: &Context, topic: &str, position: &Position) {
    let Position {
        partition,
        held,
        offset,
    } = position;
    if *offset < held.start {
        context.note(&format!(
            "{topic}/{partition}: records below offset {} are gone; reading from there",
            held.start
        ));
    } else if *offset > held.end {
        context.note(&format!(
            "{topic}/{partition}: offset {offset} is not there yet, the next one is {}",
            held.end
        ));
    }
}

/// Why printing ended before its end.
enum Error {
    Read(highwater_client::Error),
    Write(io::Error),
}

/// Prints what is wanted of the records that come. Output gathers while more records are at hand, and is written when
/// there are none to be had at once; what is left at the end is for the caller to flush.
async fn print(
    mut consumer: Consumer,
    wanted: &mut Wanted,
    printer: &mut Printer<impl io::Write>,
    progress: &Progress,
) -> Result<(), Error> {
    let mut reader_gone = std::pin::pin!(reader_gone());
    let mut headers = Vec::new();
    while !wanted.is_satisfied() {
        let received = match consumer.recv().now_or_never() {
            Some(received) => received,
            None => {
                if printer.flush().map_err(Error::Write)? == Reader::Gone {
                    return Ok(());
                }
                tokio::select! {
                    received = consumer.recv() => received,
                    () = &mut reader_gone => return Ok(()),
                }
            }
        };
        let received = received.map_err(Error::Read)?;
        if !wanted.take(received.partition, received.offset) {
            continue;
        }
        let printed = print_record(&received, &mut headers, printer).map_err(Error::Write)?;
        if printed == Reader::Gone {
            return Ok(());
        }
        progress.advance(1);
        if progress.position().is_multiple_of(RECORDS_PER_TURN) {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Prints one record. `headers` is room that is used again for each.
pub(super) fn print_record(
    received: &ConsumedRecord,
    headers: &mut Vec<Header>,
    printer: &mut Printer<impl io::Write>,
) -> io::Result<Reader> {
    headers.clear();
    headers.extend(received.headers.iter());
    printer.print(&Record {
        topic: &received.topic,
        partition: received.partition,
        offset: received.offset,
        key: received.key.as_deref(),
        value: received.value.as_deref(),
        headers,
        timestamp_ms: received.timestamp_ms,
    })
}
