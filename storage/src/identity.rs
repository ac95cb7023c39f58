//! Whose data directory this is.

use uuid::Uuid;

/// Names a data directory. It is written once; the cluster and the broker's number are added when they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The version of all formats in the directory.
    pub format_version: u32,
    /// The cluster; `None` until founded or joined.
    pub cluster: Option<Uuid>,
    /// The broker's number in the cluster; `None` until given.
    pub broker_id: Option<u64>,
    /// Drawn when the directory was created: another disk is another incarnation.
    pub incarnation: Uuid,
}
