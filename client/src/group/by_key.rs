//! Processing many records of a consumer group's member at a time, those of one key in order.

use std::future::Future;

use crate::consumer::Crew;
use crate::{ConsumedRecord, Error, GroupConsumer, Processed, ProcessingError, Start};

use super::Turn;
use super::membership::Owned;

/// Processes the records of a group's member; see [`GroupConsumer::process_by_key`]. Dropping it ends the handlers that run, and
/// leaves the consumer at the first record of each partition that was not processed.
pub struct GroupByKey<'c, H, E> {
    consumer: &'c mut GroupConsumer,
    handler: H,
    crew: Crew<E>,
}

impl<H, E> std::fmt::Debug for GroupByKey<'_, H, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupByKey")
            .field("crew", &self.crew)
            .finish_non_exhaustive()
    }
}

impl<H, E> Drop for GroupByKey<'_, H, E> {
    fn drop(&mut self) {
        for (topic, partition, offset) in self.crew.unfinished() {
            if self.consumer.owns(topic, partition) {
                let sought = self.consumer.seek(topic, partition, Start::Offset(offset));
                sought.expect("what a member owns is assigned to its consumer");
            }
        }
    }
}

impl GroupConsumer {
    /// Processes records with `handler`, up to `concurrency` at a time; see [`crate::Consumer::process_by_key`]. What is
    /// committed, by itself or by [`GroupByKey::commit`], is never beyond the first record of a partition that was not
    /// processed: after a crash the others go on there, miss nothing, and repeat what was processed above it.
    ///
    /// - A partition that is to be given away is drained: what is being processed of it is finished and committed, what waits is
    ///   left to its next owner. Handlers that take longer than the group waits for
    ///   ([`crate::GroupConsumerBuilder::rebalance_timeout`]) cost the member all its partitions.
    /// - Handlers of a partition that is lost are ended at once, at the next point where they wait: its next owner may be
    ///   at the same records.
    /// - Other partitions go on meanwhile.
    ///
    /// ```no_run
    /// # async fn bill(mut consumer: highwater_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut billing = consumer.process_by_key(50, |record| async move {
    ///     println!("{:?}", record.value);
    ///     Ok::<(), std::io::Error>(())
    /// });
    /// loop {
    ///     billing.next().await?;
    /// }
    /// # }
    /// ```
    pub fn process_by_key<H, F, E>(
        &mut self,
        concurrency: usize,
        handler: H,
    ) -> GroupByKey<'_, H, E>
    where
        H: Fn(ConsumedRecord) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        GroupByKey {
            consumer: self,
            handler,
            crew: Crew::new(concurrency),
        }
    }
}

impl<H, F, E> GroupByKey<'_, H, E>
where
    H: Fn(ConsumedRecord) -> F,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    /// Goes on until all records of a partition below some offset were processed, and says which. It is called again and again:
    /// nothing goes on while nobody waits here, except for handlers that run already, and heartbeats. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// [`ProcessingError`]. What a handler failed with, or panicked at, stays unprocessed, and so does what stands behind it in its
    /// key; calling again goes on with the other keys, and commits nothing beyond that record.
    pub async fn next(&mut self) -> Result<Processed, ProcessingError<E>> {
        let Self {
            consumer,
            handler,
            crew,
        } = self;
        loop {
            crew.begin(&*handler);
            give_away(consumer, crew);
            let (ended, has_room) = crew.at_work();
            tokio::select! {
                ended = ended => {
                    if let Some(processed) = crew.follow(ended)? {
                        return Ok(processed);
                    }
                }
                turn = consumer.turn(has_room) => {
                    let turn = turn.map_err(|error| ProcessingError::Reading(error.into()))?;
                    follow(consumer, crew, turn);
                }
            }
        }
    }

    /// Commits of each partition all below the first record that was not processed. Returns when it is durable on a majority.
    ///
    /// # Errors
    /// As [`GroupConsumer::commit`].
    pub async fn commit(&mut self) -> Result<(), Error> {
        let crew = &self.crew;
        self.consumer
            .commit_below(|owned| unfinished(crew, owned))
            .await
    }

    /// The same in the background. One that fails is made up for by the next.
    pub fn commit_async(&mut self) {
        let crew = &self.crew;
        self.consumer
            .commit_async_below(|owned| unfinished(crew, owned));
    }
}

/// Gives away what nothing is being done with any more.
fn give_away<E>(consumer: &mut GroupConsumer, crew: &mut Crew<E>) {
    let at_work = &*crew;
    consumer.depart(
        |owned| !at_work.is_at(&owned.topic, owned.partition),
        |owned| unfinished(at_work, owned),
    );
    crew.forget_abandoned(|topic, partition| consumer.owns(topic, partition));
}

fn follow<E>(consumer: &mut GroupConsumer, crew: &mut Crew<E>, turn: Turn) {
    match turn {
        Turn::Received(record) => crew.take_in(record),
        Turn::CommitIsDue => consumer.commit_async_below(|owned| unfinished(crew, owned)),
        Turn::Revoked(leaving) => {
            for owned in leaving {
                crew.abandon(&owned.topic, owned.partition);
            }
        }
        Turn::Lost(lost) => {
            for owned in lost {
                crew.drop_partition(&owned.topic, owned.partition);
            }
        }
        Turn::CommitEnded => {}
    }
}

fn unfinished<E>(crew: &Crew<E>, owned: &Owned) -> Option<highwater_proto::Offset> {
    crew.lowest_unfinished(&owned.topic, owned.partition)
}
