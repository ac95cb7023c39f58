//! Small identifiers that travel between clients, brokers and the log.
//!
//! Each is a newtype, so that a partition is never passed where a broker belongs and an offset never where an index does.

use std::fmt;

use uuid::Uuid;

/// Declares `Copy` newtypes over an integer, with `Display`, `From` in both directions and order.
macro_rules! integer_ids {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $inner {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    )*};
}

integer_ids! {
    /// A partition of a topic, counted from 0.
    PartitionIndex(u32);
    /// A broker of the cluster, given by its operator.
    BrokerId(u32);
    /// One replica of one Raft group. Unique in the cluster and never used again.
    ReplicaId(u64);
    /// An idempotent producer, given out by the controller. Never negative on the wire.
    ProducerId(i64);
    /// A generation of a producer id: a higher one fences the lower ones.
    ProducerEpoch(i16);
    /// The place of a record among those of one producer in one partition: 0, 1, ... [`i32::MAX`], 0.
    Sequence(i32);
    /// The place of a record in its partition. Dense: every offset from the log start on holds a record.
    Offset(u64);
}

impl Sequence {
    /// The sequence `count` records later. After [`i32::MAX`] comes 0, as in Kafka.
    #[must_use]
    pub fn plus(self, count: u32) -> Self {
        let sum = (i64::from(self.0) + i64::from(count)) & i64::from(i32::MAX);
        Self(i32::try_from(sum).expect("masked to 31 bits"))
    }
}

impl Offset {
    /// The offset `count` records later, staying at the greatest one instead of wrapping.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// A topic's identity. A topic that is deleted and made again under its old name has another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// The id in the 16 bytes that stand in messages; `None` for any other length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }

    /// The id as 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

impl From<Uuid> for TopicId {
    fn from(value: Uuid) -> Self {
        Self(value)
    }
}

impl From<TopicId> for Uuid {
    fn from(value: TopicId) -> Self {
        value.0
    }
}

impl std::str::FromStr for TopicId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_after_the_greatest_is_zero() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 2).plus(5), Sequence(2));
        assert_eq!(Sequence(7).plus(0), Sequence(7));
        assert_eq!(Sequence(0).plus(u32::MAX), Sequence(i32::MAX));
    }

    #[test]
    fn topic_id_round_trips_as_text_and_bytes() {
        let id = TopicId(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(id.to_string().parse::<TopicId>().unwrap(), id);
        assert_eq!(TopicId::from_slice(id.as_bytes()), Some(id));
        assert_eq!(TopicId::from_slice(&[0; 15]), None);
    }

    #[test]
    fn integers_print_bare_and_debug_with_their_type() {
        assert_eq!(Offset(42).to_string(), "42");
        assert_eq!(format!("{:?}", BrokerId(3)), "BrokerId(3)");
        assert_eq!(u32::from(PartitionIndex::from(9)), 9);
    }
}
