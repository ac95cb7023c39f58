//! Offsets that a rebalance listener wants committed: taken down while it runs, and committed before anything is given away.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use highwater_proto::Offset;
use tokio::sync::oneshot;

use super::membership::{Key, Owned};
use super::{GroupPartition, Offsets, Progress};
use crate::{Consumer, Error};

/// Lets a rebalance listener commit; see [`crate::GroupConsumerBuilder::on_rebalance`].
pub struct Commits<'a> {
    pub(super) consumer: &'a Consumer,
    pub(super) owned: &'a BTreeMap<Key, Progress>,
    pub(super) requested: &'a mut Requested,
}

impl std::fmt::Debug for Commits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commits")
            .field("requested", &self.requested.offsets)
            .finish_non_exhaustive()
    }
}

impl Commits<'_> {
    /// The offset behind the last record received of a partition, or where its reading begins where none was. `None` where the
    /// member does not own it, or its start is still being looked up. With [`crate::GroupConsumer::process_by_key`], records
    /// below it may not be processed yet.
    #[must_use]
    pub fn position(&self, partition: &GroupPartition) -> Option<Offset> {
        let owned = self.owned(partition)?;
        self.consumer.position(&owned.topic, owned.partition)
    }

    /// Commits these offsets, each behind the last record of its partition that was processed, when the listener has returned: as
    /// the member that still owns what is revoked, and before anybody else gets that. A later call replaces what an earlier one said
    /// of the same partition.
    ///
    /// What comes of it is what the returned future says. It need not be waited for, and cannot be inside the listener;
    /// where the commit fails, what is revoked is given away all the same, and read again from the last commit.
    ///
    /// # Errors
    /// [`Error::NotAssigned`] where a partition is not, or no longer, this member's. Nothing of the call is committed then.
    pub fn commit(
        &mut self,
        offsets: impl IntoIterator<Item = (GroupPartition, Offset)>,
    ) -> Result<Committed, Error> {
        let mut found = Offsets::new();
        for (partition, offset) in offsets {
            let owned = self.owned(&partition).ok_or(Error::NotAssigned {
                topic: partition.topic,
                partition: partition.partition,
            })?;
            found.push((owned.clone(), offset));
        }
        Ok(self.requested.add(found))
    }

    fn owned(&self, partition: &GroupPartition) -> Option<&Owned> {
        let mut owned = self.owned.values().map(|progress| &progress.owned);
        owned.find(|owned| owned.is(&partition.topic, partition.partition))
    }
}

/// What comes of [`Commits::commit`]. Dropping it undoes nothing.
#[derive(Debug)]
pub struct Committed(oneshot::Receiver<Result<(), Error>>);

impl Future for Committed {
    /// The offsets are durable on a majority, or why they may not be.
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = Pin::new(&mut self.0).poll(context);
        // The consumer is gone, and its commits with it.
        ended.map(|ended| ended.unwrap_or(Err(Error::Closed)))
    }
}

/// What listeners asked for and is not being committed yet.
#[derive(Debug, Default)]
pub(super) struct Requested {
    offsets: BTreeMap<Key, (Owned, Offset)>,
    asking: Asking,
}

impl Requested {
    fn add(&mut self, offsets: Offsets) -> Committed {
        let (asking, committed) = oneshot::channel();
        let offsets = offsets.into_iter();
        self.offsets
            .extend(offsets.map(|(owned, offset)| (owned.key(), (owned, offset))));
        self.asking.0.push(asking);
        Committed(committed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asking.0.is_empty()
    }

    /// Takes out what is to be committed, and who asked for it.
    pub(super) fn take(&mut self) -> (Offsets, Asking) {
        let Self { offsets, asking } = std::mem::take(self);
        (offsets.into_values().collect(), asking)
    }
}

/// Who waits for a commit to end.
#[derive(Debug, Default)]
pub(super) struct Asking(Vec<oneshot::Sender<Result<(), Error>>>);

impl Asking {
    pub(super) fn answer(&mut self, result: &Result<(), Error>) {
        for asking in self.0.drain(..) {
            // Who does not wait does not want to know.
            drop(asking.send(result.clone()));
        }
    }
}
