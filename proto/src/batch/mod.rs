//! The record batch: one format on the wire, in memory and on disk.
//!
//! A batch is a Kafka record batch of magic 2, byte for byte (KIP-98): a 61-byte header and a run of records, the run
//! compressed as a whole or not at all. Producers build it ([`BatchBuilder`]), the broker checks it once on arrival
//! ([`validate`]) and never looks inside again, consumers take it apart ([`Records`]).
//!
//! Base offset and leader epoch stand outside the checksum and follow from the log, so each replica writes them itself
//! ([`set_position`]); a topic with `message.timestamp.type=LogAppendTime` is the only case in which a broker changes
//! checksummed bytes ([`set_log_append_time`]).
//!
//! Nothing here allocates by a number it has read: lengths and counts are compared with the bytes at hand first, and
//! decompression stops at a limit of the caller.
//!
//! Left out: message formats 0 and 1, which no client has written since 2017, and the contents of control batches.

mod compression;
mod encode;
mod error;
mod header;
mod iterate;
mod patch;
mod record;
mod validate;
mod varint;

pub use compression::{Compression, Compressor, UnknownCompression};
pub use encode::BatchBuilder;
pub use error::Error;
pub use header::{
    BatchHeader, HEADER_BYTES, LENGTH_PREFIX_BYTES, NO_LEADER_EPOCH, ProducerStamp, TimestampType,
    split_first,
};
pub use iterate::{BadBatch, Headers, Record, Records};
pub use patch::{set_log_append_time, set_position, set_producer};
pub use record::{Header, MIN_RECORD_BYTES, NewRecord, Problem as RecordProblem};
pub use validate::{Limits, validate};

#[cfg(test)]
mod interoperability;
