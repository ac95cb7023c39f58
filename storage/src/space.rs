//! Whether there is room for more.

/// The room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be allocated.
    pub free_bytes: u64,
    /// Bytes below which produce is refused.
    pub floor_bytes: u64,
    /// Whether produce is refused now.
    pub refusing: bool,
}
