//! Handlers at work: which record each has, and what became of it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use highwater_proto::Offset;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::lanes::{Lanes, Place, Ticket};
use super::{Processed, ProcessingError};
use crate::ConsumedRecord;

/// Records that wait at a time, for each that may be processed.
const WAITING_PER_HANDLER: usize = 64;

/// What became of a handler that ended.
pub(crate) type Ended<E> = Result<(Id, Result<(), E>), JoinError>;

/// A handler that runs.
struct Running {
    ticket: Ticket,
    task: AbortHandle,
}

/// See the module. Dropping it ends the handlers that run.
pub(crate) struct Crew<E> {
    lanes: Lanes,
    tasks: JoinSet<Result<(), E>>,
    running: HashMap<Id, Running>,
}

impl<E> std::fmt::Debug for Crew<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew")
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

impl<E> Crew<E> {
    pub(crate) fn new(concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            lanes: Lanes::new(concurrency, WAITING_PER_HANDLER),
            tasks: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Takes a record in, to be processed in its turn.
    pub(crate) fn take_in(&mut self, record: ConsumedRecord) {
        self.lanes.push(record);
    }

    /// Begins none of a partition's records that wait. They stay unprocessed.
    pub(crate) fn abandon(&mut self, topic: &Arc<str>, partition: u32) {
        self.lanes.abandon(&place(topic, partition));
    }

    /// Whether a record of a partition is being processed.
    pub(crate) fn is_at(&self, topic: &Arc<str>, partition: u32) -> bool {
        self.lanes.is_running(&place(topic, partition))
    }

    /// The first record of a partition that was not processed, of those taken in; `None` when all were.
    pub(crate) fn lowest_unfinished(&self, topic: &Arc<str>, partition: u32) -> Option<Offset> {
        self.lanes.lowest_unfinished(&place(topic, partition))
    }

    /// Ends what is being done with records of a partition, and forgets them.
    pub(crate) fn drop_partition(&mut self, topic: &Arc<str>, partition: u32) {
        let place = place(topic, partition);
        self.lanes.forget(&place);
        let of_place = self
            .running
            .values()
            .filter(|one| one.ticket.place == place);
        of_place.for_each(|one| one.task.abort());
    }

    /// Forgets partitions that were abandoned and belong to somebody else by now.
    pub(crate) fn forget_abandoned(&mut self, is_owned: impl Fn(&str, u32) -> bool) {
        let gone = |place: &&Place| !is_owned(&place.topic, place.partition);
        let gone: Vec<_> = self.lanes.abandoned().filter(gone).cloned().collect();
        gone.iter().for_each(|place| self.lanes.forget(place));
    }

    /// Where each partition is to be read again, for what was taken in and not processed.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = (&Arc<str>, u32, Offset)> {
        let places = self.lanes.unfinished();
        places.map(|(place, offset)| (&place.topic, place.partition, offset))
    }
}

impl<E: Send + 'static> Crew<E> {
    /// Starts handlers of what may run.
    pub(crate) fn begin<F>(&mut self, handler: impl Fn(ConsumedRecord) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        while let Some((ticket, record)) = self.lanes.begin() {
            let task = self.tasks.spawn(handler(record));
            self.running.insert(task.id(), Running { ticket, task });
        }
    }

    /// A handler's end, to wait for; and whether another record of a partition can be taken in meanwhile. Waits for ever where no
    /// handler runs. Dropping the future loses nothing.
    pub(crate) fn at_work(
        &mut self,
    ) -> (
        impl Future<Output = Ended<E>> + '_,
        impl Fn(&Arc<str>, u32) -> bool + '_,
    ) {
        let Self { lanes, tasks, .. } = self;
        let ended = async {
            match tasks.join_next_with_id().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            }
        };
        let has_room = |topic: &Arc<str>, partition| lanes.has_room(topic, partition);
        (ended, has_room)
    }

    /// Takes up that a handler has ended. Says how far its partition is where that has moved.
    pub(crate) fn follow(
        &mut self,
        ended: Ended<E>,
    ) -> Result<Option<Processed>, ProcessingError<E>> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let ticket = self.running.remove(&id).expect("it was begun here").ticket;
        let (topic, partition) = (Arc::clone(&ticket.place.topic), ticket.place.partition);
        let offset = ticket.offset;
        let error = match ended {
            Ok((_, Ok(()))) => {
                let finished = self.lanes.finish(ticket);
                return Ok(finished.map(|offset| Processed {
                    topic,
                    partition,
                    offset,
                }));
            }
            Ok((_, Err(source))) => ProcessingError::Handler {
                topic,
                partition,
                offset,
                source,
            },
            Err(_) => ProcessingError::Panicked {
                topic,
                partition,
                offset,
            },
        };
        // Of a partition that was dropped nobody wants to know.
        if self.lanes.fail(&ticket) {
            Err(error)
        } else {
            Ok(None)
        }
    }
}

fn place(topic: &Arc<str>, partition: u32) -> Place {
    Place {
        topic: Arc::clone(topic),
        partition,
    }
}
