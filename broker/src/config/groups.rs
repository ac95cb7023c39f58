//! Consumer groups.

use super::check::{Bound, Check};
use super::setting::settings;

settings! {
    /// Consumer groups and their offsets.
    pub struct GroupsConfig {
        /// Coordinators that all groups are spread over. They are made when the first group is asked for, and stay as many.
        pub coordinators: u32 = 4,
        /// Groups of one coordinator. Each takes memory, and room in every snapshot, as long as it has members or offsets.
        pub max_groups: usize = 20_000,
        /// Members of one group. Each change of members is computed over all of them.
        pub max_members: usize = 5_000,
        /// Names in one subscription.
        pub max_topics: usize = 10_000,
        /// Partitions in one request about offsets, and groups in one description.
        pub max_items: usize = 10_000,
        /// Bytes of the text kept beside a committed offset: it stays in memory with each.
        pub max_metadata_bytes: usize = 4_096,
        /// Time between two heartbeats that members are told to keep; less where a third of their session is less.
        pub heartbeat_interval_ms: u32 = 10_000,
        /// How long a member that does not say may be silent before its partitions go to others.
        pub session_timeout_ms: u32 = 30_000,
        /// The shortest such time that a member may ask for: below it, a pause of the network or of a garbage collector costs
        /// partitions.
        pub min_session_timeout_ms: u32 = 1_000,
        /// The longest such time that a member may ask for: so long nobody reads its partitions when it is gone.
        pub max_session_timeout_ms: u32 = 1_800_000,
        /// How long a member that does not say may take to let partitions go that it was told to.
        pub rebalance_timeout_ms: u32 = 60_000,
        /// The longest such time that a member may ask for: so long others wait for what it holds.
        pub max_rebalance_timeout_ms: u32 = 3_600_000,
        /// How long committed offsets are kept of a group that has no members.
        pub offsets_retention_ms: u64 = 7 * 86_400_000,
        /// Time between two looks for offsets that were kept long enough.
        pub offsets_check_ms: u32 = 60_000,
    }
}

impl GroupsConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.within("groups.coordinators", self.coordinators, 1, 64);
        check.within("groups.max_groups", self.max_groups, 1, 1 << 24);
        check.within("groups.max_members", self.max_members, 1, 1 << 20);
        check.within("groups.max_topics", self.max_topics, 1, 1 << 20);
        check.within("groups.max_items", self.max_items, 1, 1 << 20);
        check.within(
            "groups.max_metadata_bytes",
            self.max_metadata_bytes,
            0,
            1 << 20,
        );
        check.within(
            "groups.heartbeat_interval_ms",
            self.heartbeat_interval_ms,
            10,
            3_600_000,
        );
        check.within(
            "groups.max_session_timeout_ms",
            self.max_session_timeout_ms,
            10,
            86_400_000,
        );
        let most = Bound::of("groups.max_session_timeout_ms", self.max_session_timeout_ms);
        check.within(
            "groups.min_session_timeout_ms",
            self.min_session_timeout_ms,
            10,
            most,
        );
        let most = Bound::of("groups.max_session_timeout_ms", self.max_session_timeout_ms);
        let least = Bound::of("groups.min_session_timeout_ms", self.min_session_timeout_ms);
        check.within(
            "groups.session_timeout_ms",
            self.session_timeout_ms,
            least,
            most,
        );
        let most = Bound::of(
            "groups.max_rebalance_timeout_ms",
            self.max_rebalance_timeout_ms,
        );
        check.within(
            "groups.rebalance_timeout_ms",
            self.rebalance_timeout_ms,
            10,
            most,
        );
        check.within(
            "groups.max_rebalance_timeout_ms",
            self.max_rebalance_timeout_ms,
            10,
            86_400_000,
        );
        check.within(
            "groups.offsets_retention_ms",
            self.offsets_retention_ms,
            1,
            3_650 * 86_400_000,
        );
        check.within(
            "groups.offsets_check_ms",
            self.offsets_check_ms,
            10,
            86_400_000,
        );
    }
}
