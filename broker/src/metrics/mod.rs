//! What a broker measures and counts, for Prometheus.
//!
//! What happens often is recorded where it happens, through a handle that was made at the start: no lock, no allocation
//! and no search for a label. What can be read at any time (sizes, levels, health) is read when somebody asks
//! ([`Metrics::scrape`]).
//!
//! Partitions are too many to have a series each, and topics may be: the main page shows totals, the second page
//! ([`topics::render`]) what can be told per topic, the third ([`groups::render`]) the lag of consumer groups, both to be scraped
//! less often or not at all.
//!
//! [docs/metrics.md](../../../docs/metrics.md) is made from here.

mod buckets;
mod catalog;
pub(crate) mod groups;
mod levels;
mod peers;
mod process;
mod records;
#[cfg(test)]
mod reference;
mod requests;
pub(crate) mod topics;

use std::sync::{Mutex, PoisonError};

use crate::raft::Instruments;
use catalog::Catalog;
use levels::Levels;
use process::Process;

pub(crate) use groups::PartitionLag;
pub(crate) use levels::Sources;
pub(crate) use peers::Peers;
pub(crate) use records::Records;
pub(crate) use requests::{OpenStream, Requests};

/// All metrics of one broker.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Calls to the API.
    pub(crate) requests: Requests,
    /// Records in and out.
    pub(crate) records: Records,
    /// The shards, the journal and checkpoints.
    pub(crate) raft: Instruments,
    /// The other brokers.
    pub(crate) peers: Peers,
    catalog: Catalog,
    /// One scrape at a time: counters that mirror others are moved by the difference.
    on_scrape: Mutex<OnScrape>,
}

#[derive(Debug)]
struct OnScrape {
    levels: Levels,
    process: Process,
}

impl Metrics {
    /// Metrics at zero. `methods` are the methods of the API by number.
    pub(crate) fn new(methods: &[String]) -> Self {
        let mut catalog = Catalog::default();
        let requests = Requests::new(&mut catalog, methods);
        let records = Records::new(&mut catalog);
        let raft = instruments(&mut catalog);
        let peers = Peers::new(&mut catalog);
        let levels = Levels::new(&mut catalog);
        let process = Process::new(&mut catalog);
        Self {
            requests,
            records,
            raft,
            peers,
            catalog,
            on_scrape: Mutex::new(OnScrape { levels, process }),
        }
    }

    /// The page for Prometheus. `sources` are absent while the broker starts. Reads files; blocks shortly.
    pub(crate) fn scrape(&self, sources: Option<&Sources>) -> String {
        let on_scrape = self
            .on_scrape
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        on_scrape.process.read();
        on_scrape
            .levels
            .set_ready(sources.is_some_and(Sources::is_ready));
        if let Some(sources) = sources {
            on_scrape.levels.read(sources);
        }
        self.catalog.render()
    }
}

fn instruments(catalog: &mut Catalog) -> Instruments {
    use buckets::{BYTES, COUNTS, SECONDS};
    catalog.section("Shards and journal");
    Instruments {
        turn_seconds: catalog.histogram(
            "highwater_shard_turn_duration_seconds",
            "Time that a shard's turn took: deciding, writing to logs, applying. A shard serves all of its partitions, so a \
             long turn holds up all of them",
            SECONDS,
        ),
        turn_commands: catalog.histogram(
            "highwater_shard_turn_commands",
            "Commands, mostly batches, that a shard took up in one turn that had any",
            COUNTS,
        ),
        sync_seconds: catalog.histogram(
            "highwater_journal_sync_duration_seconds",
            "Time to write what has gathered to the journal and sync it. Every acknowledgement waits for one",
            SECONDS,
        ),
        group_turns: catalog.histogram(
            "highwater_journal_group_turns",
            "Turns of shards that one sync of the journal made durable. More than 1: group commit is at work",
            COUNTS,
        ),
        group_bytes: catalog.histogram(
            "highwater_journal_group_bytes",
            "Bytes written from one sync of the journal to the next, those of topics with write.caching among them",
            BYTES,
        ),
        checkpoint_seconds: catalog.histogram(
            "highwater_checkpoint_duration_seconds",
            "Time that a checkpoint took. Writing goes on meanwhile",
            SECONDS,
        ),
        checkpoint_bytes: catalog.histogram(
            "highwater_checkpoint_bytes",
            "Bytes written since the checkpoint before",
            BYTES,
        ),
        checkpoint_failures: catalog.counter(
            "highwater_checkpoint_failures_total",
            "Checkpoints that failed. They are tried again; writing stops when the journal is full",
        ),
    }
}
