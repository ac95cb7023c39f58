//! Settings of a producer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_proto::batch::Compression;
use highwater_proto::{REMEMBERED_BATCHES, v1};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::accumulator::Gathering;
use super::core::{Core, Rules};
use super::pipeline::Numbering;
use super::task::Task;
use super::{Producer, Shared};
use crate::Error;
use crate::cluster::Cluster;

/// When a record counts as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Acks {
    /// When it is on disk on a majority of the replicas.
    #[default]
    Quorum,
    /// When the leader has it on its disk: it is lost when another broker takes over that never had it. Cannot be had with
    /// idempotence.
    Leader,
    /// When the leader has taken it in, before anything is stored: nobody hears of what is lost. Cannot be had with
    /// idempotence.
    None,
}

impl From<Acks> for v1::Acks {
    fn from(acks: Acks) -> Self {
        match acks {
            Acks::Quorum => Self::Quorum,
            Acks::Leader => Self::Leader,
            Acks::None => Self::None,
        }
    }
}

/// Where batches are not numbered, this bounds only what is kept to be sent again.
const MAX_IN_FLIGHT_UNNUMBERED: usize = 64;
/// Batches must fit a request, which brokers limit to 16 MiB.
const LARGEST_BATCH_BYTES: usize = 15 << 20;

/// Makes a [`Producer`].
#[derive(Clone)]
#[must_use]
pub struct ProducerBuilder {
    cluster: Arc<Cluster>,
    rules: Rules,
    compression: Compression,
    acks: Acks,
}

impl std::fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("rules", &self.rules)
            .field("compression", &self.compression)
            .field("acks", &self.acks)
            .finish_non_exhaustive()
    }
}

impl ProducerBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        let rules = Rules {
            gathering: Gathering {
                batch_bytes: 128 << 10,
                max_batch_bytes: 8 << 20,
                linger: Duration::from_millis(5),
                buffer_bytes: 64 << 20,
            },
            max_in_flight: REMEMBERED_BATCHES,
            numbering: Numbering::On,
            delivery_timeout: Duration::from_secs(120),
            request_timeout: cluster.settings.request_timeout,
            backoff: cluster.settings.backoff,
        };
        Self {
            cluster,
            rules,
            compression: Compression::None,
            acks: Acks::Quorum,
        }
    }

    /// How long a batch waits for more records; 5 ms unless set. Zero sends at once, and still gathers while earlier
    /// batches are on their way.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.rules.gathering.linger = linger;
        self
    }

    /// Bytes at which a batch is sent without lingering; 128 KiB unless set.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.rules.gathering.batch_bytes = bytes;
        self
    }

    /// The largest record, with its batch around it, before compression; 8 MiB unless set. Topics have a limit of
    /// their own, `max.message.bytes`.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.rules.gathering.max_batch_bytes = bytes;
        self
    }

    /// Bytes of records that are not acknowledged, above which `send` waits; 64 MiB unless set.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.rules.gathering.buffer_bytes = bytes;
        self
    }

    /// How batches are compressed; not at all unless set.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// When a record counts as acknowledged; [`Acks::Quorum`] unless set. Less requires
    /// [`enable_idempotence(false)`](Self::enable_idempotence).
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Whether batches are numbered, so that brokers recognise one that is sent again; they are unless this is called
    /// with `false`.
    ///
    /// Without it a record is stored *at least* once: after a lost connection it is sent again all the same, since an
    /// answer may have been lost and not the record, and so it may be stored twice, or behind records that were sent
    /// after it. What it buys is more than 16 batches of a partition in flight, and no request for a producer id.
    pub fn enable_idempotence(mut self, enable: bool) -> Self {
        self.rules.numbering = match enable {
            true => Numbering::On,
            false => Numbering::Off,
        };
        self
    }

    /// How long a record may take, with all repetitions, before it has failed; 120 s unless set.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.rules.delivery_timeout = timeout;
        self
    }

    /// How long to wait for an answer before the connection is given up; as the client's unless set.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.rules.request_timeout = timeout;
        self
    }

    /// Batches of one partition that are on their way at the same time: 1 to 16, or 1 to 64 without idempotence; 16 unless
    /// set.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.rules.max_in_flight = batches;
        self
    }

    /// Makes the producer. Must be called inside a Tokio runtime, on which it runs.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that is out of range, or contradicts another: idempotence requires acks=quorum
    /// and at most 16 batches in flight.
    pub fn build(self) -> Result<Producer, Error> {
        self.check()?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::config("runtime", error.to_string()))?;
        let rules = Rules {
            backoff: self.rules.backoff.within(self.rules.delivery_timeout),
            ..self.rules
        };
        let core = Core::new(rules, Box::new(rand::random));
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            wake: Notify::new(),
            room: Notify::new(),
        });
        let stop = CancellationToken::new();
        let task = Task::new(
            Arc::clone(&shared),
            Arc::clone(&self.cluster),
            self.compression,
            self.acks,
            &rules,
        );
        let task = AbortOnDropHandle::new(runtime.spawn(task.run(stop.clone())));
        Ok(Producer {
            shared,
            cluster: self.cluster,
            stop,
            task,
        })
    }

    /// What is promised of a record fits together, and can be kept.
    fn check_promise(&self) -> Result<(), Error> {
        let (most, problem) = match self.rules.numbering {
            Numbering::On if self.acks != Acks::Quorum => {
                let problem = "idempotence requires acks=quorum: what a leader alone has can be lost, and then sent again \
                               it would not be recognised. Call enable_idempotence(false) for records stored at least once";
                return Err(Error::config("acks", problem));
            }
            Numbering::On => (
                REMEMBERED_BATCHES,
                "must be 1 to 16: brokers recognise the last 16 batches only; \
                 up to 64 with enable_idempotence(false)",
            ),
            Numbering::Off => (MAX_IN_FLIGHT_UNNUMBERED, "must be 1 to 64"),
        };
        if !(1..=most).contains(&self.rules.max_in_flight) {
            return Err(Error::config("max_in_flight", problem));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        self.check_promise()?;
        let gathering = &self.rules.gathering;
        if gathering.batch_bytes == 0 || gathering.batch_bytes > gathering.max_batch_bytes {
            return Err(Error::config("batch_bytes", "must be 1 to max_batch_bytes"));
        }
        if gathering.max_batch_bytes > LARGEST_BATCH_BYTES {
            return Err(Error::config("max_batch_bytes", "must be at most 15 MiB"));
        }
        if gathering.buffer_bytes < gathering.batch_bytes {
            return Err(Error::config(
                "buffer_bytes",
                "must hold at least one batch",
            ));
        }
        if self.rules.delivery_timeout <= gathering.linger {
            return Err(Error::config(
                "delivery_timeout",
                "must be longer than linger",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Settings;

    fn builder() -> ProducerBuilder {
        ProducerBuilder::new(Arc::new(Cluster::new(vec![], Settings::default())))
    }

    #[test]
    fn idempotence_requires_a_quorum() {
        for acks in [Acks::Leader, Acks::None] {
            let error = builder().acks(acks).build().unwrap_err();
            assert!(
                matches!(error, Error::Config { name: "acks", .. }),
                "{error}"
            );
            let without = builder().acks(acks).enable_idempotence(false);
            assert!(without.check().is_ok());
        }
    }

    #[test]
    fn each_setting_out_of_range_is_named() {
        let cases = [
            (builder().max_in_flight(REMEMBERED_BATCHES), "runtime"),
            (
                builder().max_in_flight(REMEMBERED_BATCHES + 1),
                "max_in_flight",
            ),
            (builder().max_in_flight(0), "max_in_flight"),
            (
                builder().enable_idempotence(false).max_in_flight(65),
                "max_in_flight",
            ),
            (
                builder().enable_idempotence(false).max_in_flight(64),
                "runtime",
            ),
            (builder().batch_bytes(0), "batch_bytes"),
            (builder().batch_bytes(9 << 20), "batch_bytes"),
            (builder().max_batch_bytes(16 << 20), "max_batch_bytes"),
            (builder().buffer_bytes(1), "buffer_bytes"),
            (
                builder().delivery_timeout(Duration::ZERO),
                "delivery_timeout",
            ),
            (builder(), "runtime"),
        ];
        for (builder, expected) in cases {
            let error = builder.build().unwrap_err();
            assert!(
                matches!(error, Error::Config { name, .. } if name == expected),
                "{error}"
            );
        }
    }
}
