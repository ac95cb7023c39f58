//! What the clients of a broker saw, in real-time order.
//!
//! Every operation is written down when it is invoked and again when its outcome is known. Both get a [`Moment`] of one
//! clock that all clients share, so "A was acknowledged before B was invoked" can be decided afterwards. An invocation
//! is written down before the request leaves and an outcome after the answer came: an interval is never shorter than
//! what happened, and a checker that reasons about intervals never accuses a correct broker.

use std::fmt;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use highwater_proto::Offset;

use crate::stamp::{Forgery, Place, Stamp};

/// A point in real time: the number of things written down before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// Records of one writer that must stand in the order of their sequences. Records of different sessions need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u64);

/// A batch that a writer sent, once or, where the producer is idempotent, as often as it took.
#[derive(Clone, Debug)]
pub struct SendBatch {
    /// When it was first sent.
    pub invoked: Moment,
    /// Where to.
    pub place: Place,
    /// By whom.
    pub writer: u32,
    /// Within which order.
    pub session: Session,
    /// The sequences of its records.
    pub sequences: Range<u64>,
    /// What the writer learned of it last, and when; `None` when it never learned anything.
    pub outcome: Option<(Moment, SendOutcome)>,
}

impl SendBatch {
    /// The identities of its records, in order.
    pub fn stamps(&self) -> impl ExactSizeIterator<Item = Stamp> + DoubleEndedIterator {
        let (writer, place) = (self.writer, self.place);
        let count = usize::try_from(self.sequences.end - self.sequences.start).expect("a batch");
        let first = self.sequences.start;
        (0..count).map(move |at| Stamp {
            writer,
            sequence: first + at as u64,
            place,
        })
    }

    /// Number of its records.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        self.sequences.end - self.sequences.start
    }

    /// Where its first record stands and when the writer knew, if it was acknowledged.
    #[must_use]
    pub fn acked(&self) -> Option<(Moment, Offset)> {
        match self.outcome {
            Some((moment, SendOutcome::Acked { base_offset, .. })) => Some((moment, base_offset)),
            _ => None,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// It is stored for good.
    Acked {
        /// Offset of its first record.
        base_offset: Offset,
        /// The log start offset that came with the acknowledgement.
        log_start: Offset,
    },
    /// No attempt can have had an effect.
    Refused {
        /// The last attempt's reason.
        reason: String,
    },
    /// An attempt may have had an effect.
    Unknown {
        /// That attempt's reason.
        reason: String,
    },
}

/// One answer to one reader.
#[derive(Clone, Debug)]
pub struct Read {
    /// When it was asked for: for an answer pushed by a subscription, when that began.
    pub invoked: Moment,
    /// From which partition.
    pub place: Place,
    /// Who asked. The answers to one reader are written down in the order in which they came.
    pub reader: u32,
    /// First offset wanted.
    pub from: Offset,
    /// What came, and when; `None` when nothing did.
    pub outcome: Option<(Moment, ReadOutcome)>,
}

/// What a reader was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Records, or none yet.
    Records(Page),
    /// The offset lies outside the log.
    OutOfRange,
    /// Nothing, for another reason.
    Failed {
        /// That reason.
        reason: String,
        /// Whether another try may succeed.
        retriable: bool,
    },
}

/// Part of a log, as a reader got it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// First offset that was not committed.
    pub high_watermark: Offset,
    /// First offset that the partition held.
    pub log_start: Offset,
    /// Term of the leader that answered.
    pub leader_epoch: u64,
    /// The records from the first one wanted on; what a batch holds below that is left out.
    pub records: Vec<ReadRecord>,
    /// Where the broker said to go on.
    pub next_offset: Offset,
}

/// A record that a reader got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// Where it stands.
    pub offset: Offset,
    /// Who it says it is.
    pub stamp: Result<Stamp, Forgery>,
    /// Producer id, epoch and sequence; absent for plain producers and where the form of the answer hides them.
    pub producer: Option<(i64, i16, i32)>,
}

/// A request to raise the log start offset.
#[derive(Clone, Debug)]
pub struct Trim {
    /// When.
    pub invoked: Moment,
    /// Where.
    pub place: Place,
    /// The log start offset asked for.
    pub before: Offset,
    /// The log start offset that was answered, and when; `None` when it was refused or nothing is known.
    pub acked: Option<(Moment, Offset)>,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Batches, by their first invocation.
    pub sends: Vec<SendBatch>,
    /// Answers to readers, by invocation.
    pub reads: Vec<Read>,
    /// Trims, by invocation.
    pub trims: Vec<Trim>,
    clock: u64,
    acked_records: u64,
}

/// Names a batch in a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SendId(usize);

/// Names a read in a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadId(usize);

/// Names a trim in a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimId(usize);

impl Ledger {
    /// The present moment; every later call gets a later one.
    pub fn now(&mut self) -> Moment {
        self.clock += 1;
        Moment(self.clock)
    }

    /// A batch is about to be sent for the first time.
    pub fn begin_send(
        &mut self,
        place: Place,
        writer: u32,
        session: Session,
        sequences: Range<u64>,
    ) -> SendId {
        assert!(!sequences.is_empty(), "a batch has records");
        let invoked = self.now();
        self.sends.push(SendBatch {
            invoked,
            place,
            writer,
            session,
            sequences,
            outcome: None,
        });
        SendId(self.sends.len() - 1)
    }

    /// The writer knows what became of a batch, or gives up on knowing.
    pub fn end_send(&mut self, id: SendId, outcome: SendOutcome) {
        let moment = self.now();
        let send = &mut self.sends[id.0];
        assert!(send.outcome.is_none(), "a batch has one outcome");
        send.outcome = Some((moment, outcome));
        if send.acked().is_some() {
            self.acked_records += send.record_count();
        }
    }

    /// A reader is about to ask.
    pub fn begin_read(&mut self, place: Place, reader: u32, from: Offset) -> ReadId {
        let invoked = self.now();
        self.begin_read_at(invoked, place, reader, from)
    }

    /// As [`Ledger::begin_read`] for a reader that asked at an earlier moment.
    pub fn begin_read_at(
        &mut self,
        invoked: Moment,
        place: Place,
        reader: u32,
        from: Offset,
    ) -> ReadId {
        self.reads.push(Read {
            invoked,
            place,
            reader,
            from,
            outcome: None,
        });
        ReadId(self.reads.len() - 1)
    }

    /// A reader was answered.
    pub fn end_read(&mut self, id: ReadId, outcome: ReadOutcome) {
        let moment = self.now();
        let slot = &mut self.reads[id.0].outcome;
        assert!(slot.is_none(), "a read has one outcome");
        *slot = Some((moment, outcome));
    }

    /// A trim is about to be asked for.
    pub fn begin_trim(&mut self, place: Place, before: Offset) -> TrimId {
        let invoked = self.now();
        self.trims.push(Trim {
            invoked,
            place,
            before,
            acked: None,
        });
        TrimId(self.trims.len() - 1)
    }

    /// A trim was acknowledged.
    pub fn end_trim(&mut self, id: TrimId, log_start: Offset) {
        let moment = self.now();
        self.trims[id.0].acked = Some((moment, log_start));
    }

    /// Records acknowledged so far.
    #[must_use]
    pub fn acked_records(&self) -> u64 {
        self.acked_records
    }
}

/// A ledger that many clients write at once.
#[derive(Default)]
pub struct History {
    ledger: Mutex<Ledger>,
    written: Condvar,
}

impl History {
    /// Writes something down.
    pub fn note<T>(&self, entry: impl FnOnce(&mut Ledger) -> T) -> T {
        let result = entry(&mut self.lock());
        self.written.notify_all();
        result
    }

    /// Waits until `condition` holds, looking whenever something was written down. Blocks.
    ///
    /// # Errors
    /// When it does not hold by `deadline`.
    pub fn wait_for(
        &self,
        what: &str,
        deadline: Instant,
        mut condition: impl FnMut(&Ledger) -> bool,
    ) -> anyhow::Result<()> {
        let mut ledger = self.lock();
        while !condition(&ledger) {
            let left = deadline.saturating_duration_since(Instant::now());
            anyhow::ensure!(!left.is_zero(), "waited in vain for {what}");
            ledger = self
                .written
                .wait_timeout(ledger, left)
                .expect("no writer of the ledger panics")
                .0;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no writer of the ledger panics")
    }

    /// What was written down so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.note(|ledger| ledger.clone())
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note(|ledger| {
            f.debug_struct("History")
                .field("sends", &ledger.sends.len())
                .field("reads", &ledger.reads.len())
                .field("trims", &ledger.trims.len())
                .finish()
        })
    }
}
