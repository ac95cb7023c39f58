//! What the records of a run are like, and how long it takes.

use std::time::Instant;

use clap::Args;
use highwater_client::Compression;
use serde::{Serialize, Serializer};

use super::amount::{Size, Time};
use super::window::Window;

/// Size and number of records.
#[derive(Debug, Clone, Args, Serialize)]
#[group(id = "records_options")]
#[command(next_help_heading = "Load")]
pub(crate) struct Options {
    /// Bytes of a record's value; random, so that they do not compress
    #[arg(long, value_name = "BYTES", default_value = "1024")]
    pub(crate) record_size: Size,

    /// Most bytes of a batch
    #[arg(long, value_name = "BYTES", default_value = "64KiB")]
    pub(crate) batch_size: Size,

    /// Compress batches: none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    #[serde(serialize_with = "name")]
    pub(crate) compression: Compression,

    /// How long is measured
    #[arg(long, value_name = "TIME", default_value = "10s")]
    #[serde(rename = "duration_seconds")]
    pub(crate) duration: Time,

    /// How long it runs before, unmeasured
    #[arg(long, value_name = "TIME", default_value = "2s")]
    #[serde(rename = "warmup_seconds")]
    pub(crate) warmup: Time,
}

impl Options {
    /// The window of a run that starts now.
    pub(crate) fn window(&self) -> Window {
        Window::new(Instant::now(), self.warmup.0, self.duration.0)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn name<S: Serializer>(compression: &Compression, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(compression.name())
}
