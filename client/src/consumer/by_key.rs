//! Processing many records at a time, those of one key in order.

mod crew;
mod lanes;

use std::future::Future;
use std::sync::Arc;

use highwater_proto::Offset;

pub(crate) use self::crew::Crew;
use super::{ConsumedRecord, Consumer};
use crate::{Error, Start};

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

/// Processes a consumer's records; see [`Consumer::process_by_key`]. Dropping it ends the handlers that run, and leaves the
/// consumer at the first record of each partition that was not processed.
pub struct ByKey<'c, H, E> {
    consumer: &'c mut Consumer,
    handler: H,
    crew: Crew<E>,
}

impl<H, E> std::fmt::Debug for ByKey<'_, H, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByKey")
            .field("crew", &self.crew)
            .finish_non_exhaustive()
    }
}

impl<H, E> Drop for ByKey<'_, H, E> {
    fn drop(&mut self) {
        for (topic, partition, offset) in self.crew.unfinished() {
            let sought = self.consumer.seek(topic, partition, Start::Offset(offset));
            sought.expect("what was received is assigned as long as the consumer is borrowed");
        }
    }
}

impl Consumer {
    /// Processes records with `handler`, up to `concurrency` at a time: those of one key (and partition) one after the other, in
    /// order, others side by side. Records without a key are in no order. Handlers run as tasks of the Tokio runtime.
    ///
    /// A handler that is slow with one key holds up that key alone, until 64 records for each handler wait. Then it holds up its
    /// partition: no more of it is given out, while others go on, each with up to 64 records that wait, as long as there is a
    /// handler left to them. What is fetched of a partition that is held up stays where it is, within
    /// [`crate::ConsumerBuilder::partition_buffer_bytes`], and leaves others of the same broker room to be fetched.
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
        ByKey {
            consumer: self,
            handler,
            crew: Crew::new(concurrency),
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
            self.crew.begin(&self.handler);
            let (ended, has_room) = self.crew.at_work();
            tokio::select! {
                ended = ended => {
                    if let Some(processed) = self.crew.follow(ended)? {
                        return Ok(processed);
                    }
                }
                record = self.consumer.recv_of(has_room) => {
                    let record = record.map_err(|error| ProcessingError::Reading(error.into()))?;
                    self.crew.take_in(record);
                }
            }
        }
    }
}
