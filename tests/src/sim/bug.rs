//! Bugs that a test plants, to see that the checks find them. They live in the harness: the product's code is the same.

/// A bug to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The journal says that it synced and did not: acknowledgements, votes and replies run ahead of the disk.
    AckBeforeSync,
    /// A follower's answer to entries leaves when they arrive, before anything is written.
    ReplyBeforeSync,
    /// A vote is forgotten by a restart.
    VoteNotPersisted,
    /// A disk that lost everything comes back under its old replica ids.
    IdentityReused,
    /// No directory is synced, so that new files vanish with the power.
    NamesNotSynced,
    /// Fetches go up to the end of the log instead of the high watermark.
    ReadToLogEnd,
    /// A replica's snapshot lacks the producers.
    ProducersNotInSnapshot,
    /// Damaged batches pass for whole: what is read is not what was written.
    DamageUnnoticed,
    /// A broker that finds damage at its start goes on with what is left.
    DamageAccepted,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AckBeforeSync,
        Self::ReplyBeforeSync,
        Self::VoteNotPersisted,
        Self::IdentityReused,
        Self::NamesNotSynced,
        Self::ReadToLogEnd,
        Self::ProducersNotInSnapshot,
        Self::DamageUnnoticed,
        Self::DamageAccepted,
    ];
}
