//! `highwater produce`: the lines of stdin, or of a file, become records.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, ValueEnum, ValueHint};
use futures::FutureExt;
use highwater_client::{Acks, Compression, Delivery, Error, Header, Producer, Reason};
use tokio::sync::mpsc;

use crate::arguments::Format;
use crate::context::{Context, explain_topic};
use crate::exit_status::ExitStatus;
use crate::explain::explain;
use crate::failure::Failure;
use crate::input::Input;
use crate::interrupts::Interrupts;
use crate::json_record;
use crate::line_record::{self, LineForm, LineParser};
use crate::lines::{self, Block};
use crate::pair;
use crate::progress::Progress;
use crate::quantity::{counted, parse_partition};
use crate::separator::Separator;
use crate::topic_names;
use crate::vigil::{self, Look};

/// Options of `highwater produce`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater produce flights flights.csv                  each line is a record
  highwater produce flights -K '\\t' < keyed.tsv          the key ends at the first tab of the line
  echo hello | highwater produce greetings -k me -H lang:en
  highwater consume a -e --format json | highwater produce b --format json
With --format json each line is a record as `consume --format json` prints it.")]
pub(crate) struct Options {
    /// Name of the topic
    #[arg(value_name = "TOPIC", add = topic_names::completer())]
    topic: String,

    /// Read the lines of this file instead of stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,

    /// The key ends at the first SEP of the line, such as '\t'; without it the line is the value
    #[arg(short = 'K', long, value_name = "SEP", conflicts_with = "key")]
    key_separator: Option<Separator>,

    /// One key for all records
    #[arg(short, long)]
    key: Option<String>,

    /// A header for all records; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", value_parser = pair::parse_header)]
    headers: Vec<(String, String)>,

    /// Send to this partition [default: by key, or any without a key]
    #[arg(short, long, allow_hyphen_values = true, value_parser = parse_partition)]
    partition: Option<u32>,

    /// Compress batches
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    compression: Codec,

    /// When a record is done; with less than quorum it can be lost, and be stored twice
    #[arg(long, value_name = "WHEN", default_value = "quorum")]
    acks: When,
}

/// When a record counts as acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// On disk on a majority of the replicas
    Quorum,
    /// On the leader's disk
    Leader,
    /// Taken in by the leader
    None,
}

impl From<When> for Acks {
    fn from(when: When) -> Self {
        match when {
            When::Quorum => Self::Quorum,
            When::Leader => Self::Leader,
            When::None => Self::None,
        }
    }
}

/// Compressions, as they are called on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// Sends the lines.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let what = format!("cannot produce to topic \"{}\"", options.topic);
    let parser = LineParser::new(options.line_form(context.format)?, options.headers());
    let input = Input::open(options.file.as_deref())?;
    let client = context.connect(&what).await?;
    let producer = client
        .producer()
        .compression(options.compression.into())
        .acks(options.acks.into())
        .enable_idempotence(options.acks == When::Quorum)
        .build()
        .map_err(|error| explain(&what, &error))?;
    if input.is_typed() {
        context.note("reading records from the terminal, one on a line; Ctrl-D ends them");
    }
    let progress = input.progress();
    let input_name = input.name().to_owned();
    let interrupts = Interrupts::listen()?;
    let blocks = input.read_ahead()?;

    let counts = Counts::default();
    let mut sending = Sending {
        producer,
        topic: &options.topic,
        partition: options.partition,
        parser,
        unacknowledged: VecDeque::new(),
        first_refused_line: None,
        counts: &counts,
        progress: &progress,
    };
    let ending = tokio::select! {
        ending = sending.run(blocks, interrupts, context) => ending,
        never = vigil::keep(context, &options.topic, &progress, || counts.look()) => match never {},
    };
    progress.finish();
    let (refusal, interrupted) = match ending {
        Ending::Complete => (None, None),
        Ending::Refused(refusal) => (Some(refusal), None),
        Ending::Interrupted(status) => (None, Some(status)),
    };
    let acknowledged = counted(counts.acknowledged.get(), "record");
    if counts.acknowledged.get() > 0 || refusal.is_none() {
        context.note(&format!("{acknowledged} produced"));
    }
    if let Some(status) = interrupted {
        context.note(&counts.where_it_stopped());
        context.end_with(status);
    }
    match refusal {
        None => Ok(()),
        Some(Refusal::Record(_, error)) if error.reason() == Reason::UnknownTopicOrPartition => {
            Err(explain_topic(&client.admin(), what, &options.topic, &error).await)
        }
        Some(refusal) => Err(refusal.explain(what, &input_name, &options.topic, &counts)),
    }
}

impl Options {
    fn line_form(&self, format: Format) -> Result<LineForm, Failure> {
        match (&self.key_separator, &self.key, format) {
            (None, None, Format::Json) => Ok(LineForm::Json(json_record::Input::default())),
            (_, _, Format::Json) => Err(Failure::misuse(
                "cannot read records as JSON",
                "-k and -K do not go with --format json",
            )
            .remedy(
                "put the key of each record into its JSON: {\"key\": \"..\", \"value\": \"..\"}",
            )),
            (Some(separator), _, Format::Text) => Ok(LineForm::KeyAndValue(separator.clone())),
            (None, key, Format::Text) => Ok(LineForm::Value {
                key: key.clone().map(String::into_bytes),
            }),
        }
    }

    fn headers(&self) -> Vec<Header> {
        self.headers
            .iter()
            .map(|(name, value)| Header {
                key: name.clone(),
                value: Some(Bytes::copy_from_slice(value.as_bytes())),
            })
            .collect()
    }
}

/// Why the input ended before its end.
#[derive(Debug)]
enum Refusal {
    /// It could not be read on.
    Input(lines::Error),
    /// A line is no record.
    Line(u64, line_record::Error),
    /// A record was refused, or not acknowledged in time.
    Record(u64, Error),
}

/// How producing ended.
#[derive(Debug)]
enum Ending {
    /// Every line is stored.
    Complete,
    /// With the refusal of the first line that was refused.
    Refused(Refusal),
    /// By the user; nothing was refused.
    Interrupted(ExitStatus),
}

/// What has happened to the lines so far.
#[derive(Debug, Default)]
struct Counts {
    sent: Cell<u64>,
    acknowledged: Cell<u64>,
    /// Those of the acknowledged ones that stand behind the first refused line.
    acknowledged_behind: Cell<u64>,
    /// Records that were refused or not acknowledged in time.
    refused: Cell<u64>,
}

impl Counts {
    fn outstanding(&self) -> u64 {
        self.sent.get() - self.acknowledged.get() - self.refused.get()
    }

    fn look(&self) -> Look {
        let done = self.acknowledged.get() + self.refused.get();
        let outstanding = self.outstanding();
        Look {
            done,
            owed: (outstanding > 0)
                .then(|| format!("{} not acknowledged yet", counted(outstanding, "record"))),
            message: format!("{} produced", counted(self.acknowledged.get(), "record")),
        }
    }

    /// Acknowledgements are waited for in the order of the lines, so their number is that of the last stored line.
    fn where_it_stopped(&self) -> String {
        let stored = match self.acknowledged.get() {
            0 => "no line is known to be stored".into(),
            1 => "line 1 is stored".into(),
            last => format!("lines 1 to {last} are stored"),
        };
        match self.outstanding() {
            0 => format!("interrupted: {stored}, the rest was not sent"),
            unknown => format!(
                "interrupted: {stored}, {} behind may be",
                counted(unknown, "line")
            ),
        }
    }
}

/// Lines on their way to a topic.
struct Sending<'a> {
    producer: Producer,
    topic: &'a str,
    partition: Option<u32>,
    parser: LineParser,
    /// Deliveries that are not known to be over, with the numbers of their lines, which ascend.
    unacknowledged: VecDeque<(u64, Delivery)>,
    first_refused_line: Option<u64>,
    counts: &'a Counts,
    progress: &'a Progress,
}

impl Sending<'_> {
    /// Sends all lines, or those before the first refusal that becomes known, or before an interrupt, and waits for
    /// what is on its way then. A second interrupt ends that, too.
    async fn run(
        &mut self,
        blocks: mpsc::Receiver<Result<Block, lines::Error>>,
        mut interrupts: Interrupts,
        context: &Context,
    ) -> Ending {
        let (sent, interrupted) = tokio::select! {
            sent = self.send(blocks) => (sent, None),
            status = interrupts.next() => (Ok(()), Some(status)),
        };
        if interrupted.is_some() && self.counts.outstanding() > 0 {
            let outstanding = counted(self.counts.outstanding(), "record");
            let note = format!(
                "interrupted: waiting for the acknowledgement of {outstanding}; Ctrl-C again does not wait"
            );
            self.progress.aside(|| context.note(&note));
        }
        let (finished, interrupted) = tokio::select! {
            finished = self.finish() => (finished, interrupted),
            status = interrupts.next() => (Ok(()), Some(status)),
        };
        let first_refusal = [sent, finished]
            .into_iter()
            .filter_map(Result::err)
            .min_by_key(Refusal::line);
        match (first_refusal, interrupted) {
            (Some(refusal), _) => Ending::Refused(refusal),
            (None, Some(status)) => Ending::Interrupted(status),
            (None, None) => Ending::Complete,
        }
    }

    async fn send(
        &mut self,
        mut blocks: mpsc::Receiver<Result<Block, lines::Error>>,
    ) -> Result<(), Refusal> {
        loop {
            let block = tokio::select! {
                block = blocks.recv() => block,
                refusal = self.next_refusal() => return Err(refusal),
            };
            match block {
                None => return Ok(()),
                Some(block) => self.send_block(&block.map_err(Refusal::Input)?).await?,
            }
        }
    }

    async fn send_block(&mut self, block: &Block) -> Result<(), Refusal> {
        for line in block.lines() {
            let parsed = self
                .parser
                .parse(&line.bytes)
                .map_err(|error| Refusal::Line(line.number, error))?;
            let record = parsed.to_topic(self.topic, self.partition);
            match self.producer.send(record).await {
                Ok(delivery) => self.unacknowledged.push_back((line.number, delivery)),
                Err(error) => {
                    self.first_refused_line = Some(line.number);
                    return Err(Refusal::Record(line.number, error));
                }
            }
            self.counts.sent.set(self.counts.sent.get() + 1);
        }
        self.progress.advance(block.bytes());
        // What is over is forgotten now and then, so that the queue grows no longer than the producer's buffer.
        match self.next_refusal().now_or_never() {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Waits for the acknowledgements in the order of the lines, until one is refused; for ever where none is.
    async fn next_refusal(&mut self) -> Refusal {
        match self.settle().await {
            Some(refusal) => refusal,
            None => std::future::pending().await,
        }
    }

    /// The same, but ends when there is nothing more to wait for.
    async fn settle(&mut self) -> Option<Refusal> {
        while let Some((line, delivery)) = self.unacknowledged.front_mut() {
            let (line, result) = (*line, delivery.await);
            self.unacknowledged.pop_front();
            match result {
                Ok(_) => increment(&self.counts.acknowledged),
                Err(error) => {
                    increment(&self.counts.refused);
                    self.first_refused_line.get_or_insert(line);
                    return Some(Refusal::Record(line, error));
                }
            }
            if self.first_refused_line.is_some_and(|first| line > first) {
                increment(&self.counts.acknowledged_behind);
            }
        }
        None
    }

    /// Waits until everything sent is acknowledged or refused; returns the first refusal.
    async fn finish(&mut self) -> Result<(), Refusal> {
        // A first look at it is enough: it sends what has gathered, and the deliveries tell what came of it.
        let _ = self.producer.flush().now_or_never();
        let mut first_refusal = None;
        while let Some(refusal) = self.settle().await {
            first_refusal.get_or_insert(refusal);
        }
        first_refusal.map_or(Ok(()), Err)
    }
}

fn increment(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

impl Refusal {
    /// Number of the line; what cannot be read comes after all lines.
    fn line(&self) -> u64 {
        match self {
            Self::Line(line, _) | Self::Record(line, _) => *line,
            Self::Input(_) => u64::MAX,
        }
    }

    fn explain(self, what: String, input: &str, topic: &str, counts: &Counts) -> Failure {
        match self {
            Self::Input(lines::Error::Read(error)) => {
                Failure::new(format!("cannot read {input} to its end"), error)
            }
            Self::Input(error) => Failure::new(what, error)
                .remedy("each line becomes a record: is this a file of lines?"),
            Self::Line(1, error) => Failure::new(format!("{what}, line 1"), error),
            Self::Line(line, error) => Failure::new(format!("{what}, line {line}"), error).remedy(
                format!("the lines before it are stored: mend it, and go on from line {line}"),
            ),
            Self::Record(line, error) => {
                let mut failure = explain(format!("{what}, line {line}"), &error);
                if error.reason() == Reason::MessageTooLarge {
                    failure = failure.remedy(format!(
                        "allow larger ones: highwater topic alter {topic} -c max.message.bytes=BYTES"
                    ));
                }
                failure.remedy(what_became_of_the_others(line, counts))
            }
        }
    }
}

/// The lines other than the one that was refused first.
fn what_became_of_the_others(line: u64, counts: &Counts) -> String {
    let before = match line {
        1 => "no line stands before it".into(),
        _ => "the lines before it are stored".to_owned(),
    };
    let stored = counts.acknowledged_behind.get();
    let refused = counts.refused.get().saturating_sub(1);
    match (stored, refused) {
        (0, 0) => format!("{before}; nothing behind it was sent"),
        (_, 0) => format!("{before}, and {} behind it", counted(stored, "line")),
        _ => format!("{before}; of those behind it, {stored} are stored and {refused} failed, too"),
    }
}
