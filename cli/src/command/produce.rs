//! `highwater produce`: the lines of stdin, or of a file, become records.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::FutureExt;
use highwater_client::{Compression, Delivery, Error, Header, Producer, Reason};
use tokio::sync::mpsc;

use crate::arguments::Format;
use crate::context::{Context, explain_topic};
use crate::explain::explain;
use crate::failure::Failure;
use crate::json_record;
use crate::line_record::{self, LineForm, LineParser};
use crate::lines::{self, Block, BlockReader};
use crate::pair;
use crate::quantity::counted;
use crate::separator::Separator;

/// Blocks of lines that are read ahead of what is sent.
const BLOCKS_AHEAD: usize = 4;

/// Options of `highwater produce`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    topic: String,

    /// Read the lines of this file instead of stdin
    #[arg(value_name = "FILE")]
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
    #[arg(short, long)]
    partition: Option<u32>,

    /// Compress batches
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    compression: Codec,
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
    let blocks = read_ahead(options.open_input()?)?;
    let client = context.connect(&what).await?;
    let producer = client
        .producer()
        .compression(options.compression.into())
        .build()
        .map_err(|error| explain(&what, &error))?;

    let mut sending = Sending {
        producer,
        topic: &options.topic,
        partition: options.partition,
        parser,
        unacknowledged: VecDeque::new(),
        acknowledged: 0,
    };
    let refusals = [sending.send(blocks).await, sending.finish().await];
    let first_refusal = refusals
        .into_iter()
        .filter_map(Result::err)
        .min_by_key(Refusal::line);
    if sending.acknowledged > 0 || first_refusal.is_none() {
        let acknowledged = counted(sending.acknowledged, "record");
        context.note(&format!("{acknowledged} produced"));
    }
    match first_refusal {
        None => Ok(()),
        Some(Refusal::Record(_, error)) if error.reason() == Reason::UnknownTopicOrPartition => {
            Err(explain_topic(&client.admin(), what, &options.topic, &error).await)
        }
        Some(refusal) => Err(refusal.explain(what)),
    }
}

impl Options {
    fn line_form(&self, format: Format) -> Result<LineForm, Failure> {
        match (&self.key_separator, &self.key, format) {
            (None, None, Format::Json) => Ok(LineForm::Json(json_record::Input::default())),
            (_, _, Format::Json) => Err(Failure::new(
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

    fn open_input(&self) -> Result<Box<dyn Read + Send>, Failure> {
        match &self.file {
            None => Ok(Box::new(io::stdin())),
            Some(path) => match File::open(path) {
                Ok(file) => Ok(Box::new(file)),
                Err(error) => Err(Failure::new(
                    format!("cannot read {}", path.display()),
                    error,
                )),
            },
        }
    }
}

/// Reads blocks of lines on a thread of its own: a read of stdin may wait for ever, and nothing can interrupt it.
fn read_ahead(
    input: Box<dyn Read + Send>,
) -> Result<mpsc::Receiver<Result<Block, lines::Error>>, Failure> {
    let (sender, receiver) = mpsc::channel(BLOCKS_AHEAD);
    let read = move || {
        let mut reader = BlockReader::new(input);
        while let Some(block) = reader.next_block().transpose() {
            let is_last = block.is_err();
            // When nobody receives any more, a record was refused, and the rest of the input is not wanted.
            if sender.blocking_send(block).is_err() || is_last {
                return;
            }
        }
    };
    match std::thread::Builder::new().name("input".into()).spawn(read) {
        Ok(_) => Ok(receiver),
        Err(error) => Err(Failure::new("cannot start a thread", error)),
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

/// Lines on their way to a topic.
struct Sending<'a> {
    producer: Producer,
    topic: &'a str,
    partition: Option<u32>,
    parser: LineParser,
    /// Deliveries that are not known to be over, with the numbers of their lines, which ascend.
    unacknowledged: VecDeque<(u64, Delivery)>,
    acknowledged: u64,
}

impl Sending<'_> {
    /// Sends all lines, or those before the first refusal that becomes known.
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
                Err(error) => return Err(Refusal::Record(line.number, error)),
            }
        }
        // What is over is forgotten now and then, so that the queue grows no longer than the producer's buffer.
        match self.next_refusal().now_or_never() {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Waits for the acknowledgements in the order of the lines, until one is refused; for ever where none is.
    async fn next_refusal(&mut self) -> Refusal {
        while let Some((line, delivery)) = self.unacknowledged.front_mut() {
            let (line, result) = (*line, delivery.await);
            self.unacknowledged.pop_front();
            match result {
                Ok(_) => self.acknowledged += 1,
                Err(error) => return Refusal::Record(line, error),
            }
        }
        std::future::pending().await
    }

    /// Waits until everything sent is acknowledged or refused; returns the first refusal.
    async fn finish(&mut self) -> Result<(), Refusal> {
        // The refusals are those of the deliveries, which know their lines.
        let _ = self.producer.flush().await;
        let mut first_refusal = None;
        for (line, delivery) in std::mem::take(&mut self.unacknowledged) {
            match delivery.await {
                Ok(_) => self.acknowledged += 1,
                Err(error) => {
                    first_refusal.get_or_insert(Refusal::Record(line, error));
                }
            }
        }
        first_refusal.map_or(Ok(()), Err)
    }
}

impl Refusal {
    /// Number of the line; what cannot be read comes after all lines.
    fn line(&self) -> u64 {
        match self {
            Self::Line(line, _) | Self::Record(line, _) => *line,
            Self::Input(_) => u64::MAX,
        }
    }

    fn explain(self, what: String) -> Failure {
        match self {
            Self::Input(error) => Failure::new(what, error),
            Self::Line(1, error) => Failure::new(format!("{what}, line 1"), error),
            Self::Line(line, error) => Failure::new(format!("{what}, line {line}"), error).remedy(
                format!("the lines before it are stored: mend it, and go on from line {line}"),
            ),
            Self::Record(line, error) => explain(format!("{what}, line {line}"), &error),
        }
    }
}
