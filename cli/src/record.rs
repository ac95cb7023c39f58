//! A record as the command line shows it, borrowed from what the client hands out.

use highwater_client::Header;

/// One record with the place where it stands. A missing key, value or header value is null, which is not empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// Name of the topic.
    pub(crate) topic: &'a str,
    /// Number of the partition.
    pub(crate) partition: u32,
    /// Offset in the partition.
    pub(crate) offset: u64,
    /// Key.
    pub(crate) key: Option<&'a [u8]>,
    /// Value.
    pub(crate) value: Option<&'a [u8]>,
    /// Headers, in order; a name may repeat.
    pub(crate) headers: &'a [Header],
    /// Milliseconds since the Unix epoch.
    pub(crate) timestamp_ms: i64,
}
