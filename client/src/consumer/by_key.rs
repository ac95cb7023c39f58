//! Processing many records at a time, those of one key in order.

mod lanes;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use highwater_proto::Offset;
use tokio::task::{Id, JoinError, JoinSet};

use self::lanes::{Lanes, Ticket};
use super::{ConsumedRecord, Consumer};
use crate::Error;

/// Records that wait or are processed at a time, for each that may be processed.
const ROOM_PER_HANDLER: usize = 64;

/// Part of a partition that was processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processed {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// All records below were processed. Reading that begins here after a crash misses none, and repeats those above that were
    /// processed already.
    pub offset: Offset,
}

/// Why processing ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessingError<E> {
    /// Reading failed; see [`Consumer::recv`].
    #[error(transparent)]
    Reading(Box<Error>),
    /// The handler returned an error.
    #[error(
        "the record at offset {offset} of partition {partition} of topic {topic} was not processed: {source}"
    )]
    Handler {
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: u32,
        /// Its offset.
        offset: u64,
        /// What the handler said.
        source: E,
    },
    /// The handler panicked.
    #[error("the handler panicked at offset {offset} of partition {partition} of topic {topic}")]
    Panicked {
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: u32,
        /// The offset of the record.
        offset: u64,
    },
}

/// Processes a consumer's records; see [`Consumer::process_by_key`]. Dropping it ends the handlers that run.
pub struct ByKey<'c, H, E> {
    consumer: &'c mut Consumer,
    handler: H,
    lanes: Lanes,
    running: JoinSet<Result<(), E>>,
    tickets: HashMap<Id, Ticket>,
}

impl<H, E> std::fmt::Debug for ByKey<'_, H, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByKey")
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Processes records with `handler`, up to `concurrency` at a time: those of one key (and partition) one after the other, in
    /// order, others side by side. Records without a key are in no order. Handlers run as tasks of the Tokio runtime.
    ///
    /// A handler that is slow with one key holds up that key alone, until 64 records for each handler wait.
    ///
    /// ```no_run
    /// # async fn bill(mut consumer: highwater_client::Consumer) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut billing = consumer.process_by_key(50, |record| async move {
    ///     println!("{:?}", record.value);
    ///     Ok::<(), std::io::Error>(())
    /// });
    /// loop {
    ///     let processed = billing.next().await?;
    ///     println!("{} is done below {}", processed.partition, processed.offset);
    /// }
    /// # }
    /// ```
    pub fn process_by_key<H, F, E>(&mut self, concurrency: usize, handler: H) -> ByKey<'_, H, E>
    where
        H: Fn(ConsumedRecord) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        let concurrency = concurrency.max(1);
        ByKey {
            consumer: self,
            handler,
            lanes: Lanes::new(concurrency, concurrency.saturating_mul(ROOM_PER_HANDLER)),
            running: JoinSet::new(),
            tickets: HashMap::new(),
        }
    }
}

impl<H, F, E> ByKey<'_, H, E>
where
    H: Fn(ConsumedRecord) -> F,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    /// Goes on until all records of a partition below some offset were processed, and says which. That is where to begin after a
    /// crash: store it, or what follows from it. Nothing goes on while nobody waits here, except for handlers that run already.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ProcessingError`]. What a handler failed with, or panicked at, stays unprocessed, and so does what stands behind it in its
    /// key; calling again goes on with the other keys, and never reports offsets beyond that record.
    pub async fn next(&mut self) -> Result<Processed, ProcessingError<E>> {
        loop {
            self.begin();
            let ended = tokio::select! {
                Some(ended) = self.running.join_next_with_id() => ended,
                record = self.consumer.recv(), if self.lanes.has_room() => {
                    let record = record.map_err(|error| ProcessingError::Reading(error.into()))?;
                    self.lanes.push(record);
                    continue;
                }
            };
            if let Some(processed) = self.ended(ended)? {
                return Ok(processed);
            }
        }
    }

    /// Starts handlers of what may run.
    fn begin(&mut self) {
        while let Some((ticket, record)) = self.lanes.begin() {
            let task = self.running.spawn((self.handler)(record));
            self.tickets.insert(task.id(), ticket);
        }
    }

    fn ended(
        &mut self,
        ended: Result<(Id, Result<(), E>), JoinError>,
    ) -> Result<Option<Processed>, ProcessingError<E>> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let ticket = self.tickets.remove(&id).expect("it was begun here");
        let (topic, partition, offset) = (
            Arc::clone(&ticket.place.topic),
            ticket.place.partition,
            ticket.offset,
        );
        match ended {
            Ok((_, Ok(()))) => Ok(self.lanes.finish(ticket).map(|offset| Processed {
                topic,
                partition,
                offset,
            })),
            Ok((_, Err(source))) => {
                self.lanes.fail();
                Err(ProcessingError::Handler {
                    topic,
                    partition,
                    offset,
                    source,
                })
            }
            Err(_) => {
                self.lanes.fail();
                Err(ProcessingError::Panicked {
                    topic,
                    partition,
                    offset,
                })
            }
        }
    }
}
