//! The numbers that name things in storage. They are different types so that an index is never taken for an offset.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

number! {
    /// One log: one replica of one group. It is the replica's id, unique in the cluster and never used again.
    LogId
}

number! {
    /// Counts the entries of a log. The first entry has index 1; 0 stands before it.
    RaftIndex
}

number! {
    /// A Raft term, which is also the leader epoch of the batches written in it.
    Term
}

number! {
    /// Counts the records of a log. The first record has offset 0; entries without records take none.
    Offset
}

impl RaftIndex {
    /// The index after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one; index 0 has none before it and stays.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Offset {
    /// The offset `records` further on.
    pub fn plus(self, records: u32) -> Self {
        Self(self.0 + u64::from(records))
    }
}
