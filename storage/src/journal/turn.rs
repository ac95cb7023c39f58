//! What one turn of a shard writes.

/// Numbers what was submitted. Tickets are done in order: when one is done, so are all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The journal records of one turn. All of them become durable together or not at all.
#[derive(Debug, Default)]
pub struct Turn {
    records: Vec<u8>,
    needs_sync: bool,
}

impl Turn {
    /// Whether nothing was written in this turn that the journal must hold before anybody is answered.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && !self.needs_sync
    }
}
