//! Which failure of a replica asks for what: rules only.
//!
//! A replica whose data is damaged, or whose log the disk gave up, must never vote with what is left: it would stand for
//! records that it does not hold. Where the rest of its group goes on, a new replica takes its place on the same broker, under
//! a new id and with the data of the others. That is asked for only while a majority without it is led, so that at most a
//! minority is ever given up; and the change itself is decided by that majority, whatever was believed here.

use crate::raft::Ailment;

/// What is known of a replica here that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) ailment: Ailment,
    /// Replicas of the partition, this one among them.
    pub(super) replicas: usize,
    /// Whether the replicas of the partition are being changed.
    pub(super) is_changing: bool,
    /// The other replicas that keep up with a leader that is up; `None` without one.
    pub(super) keep_up_elsewhere: Option<usize>,
}

/// What helps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Treatment {
    /// A new replica takes its place.
    Rebuild,
    /// The replicas are being changed: that may be its rebuilding, or has to be over before that can begin.
    AwaitChange,
    /// The others have no majority that could rebuild it.
    AwaitMajority,
    /// Nobody else holds the data: a person has to accept what is lost.
    AcceptLoss,
    /// The disk takes nothing, so nothing can be rebuilt on it.
    ReplaceDisk,
    /// A new replica would fail as well: a person has to look.
    Investigate,
}

impl Case {
    /// What helps; `None` where nothing is wrong.
    pub(super) fn treatment(self) -> Option<Treatment> {
        match self.ailment {
            Ailment::Stopped => return None,
            Ailment::DirectoryFailed => return Some(Treatment::ReplaceDisk),
            Ailment::Stuck => return Some(Treatment::Investigate),
            Ailment::Damaged | Ailment::LogFailed => {}
        }
        Some(if self.replicas < 2 {
            Treatment::AcceptLoss
        } else if self.is_changing {
            Treatment::AwaitChange
        } else if self
            .keep_up_elsewhere
            .is_some_and(|others| others * 2 > self.replicas)
        {
            Treatment::Rebuild
        } else {
            Treatment::AwaitMajority
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAMAGED: Case = Case {
        ailment: Ailment::Damaged,
        replicas: 3,
        is_changing: false,
        keep_up_elsewhere: Some(2),
    };

    #[test]
    fn a_damaged_replica_is_rebuilt_where_a_majority_goes_on_without_it() {
        assert_eq!(DAMAGED.treatment(), Some(Treatment::Rebuild));
        let log_failed = Case {
            ailment: Ailment::LogFailed,
            ..DAMAGED
        };
        assert_eq!(log_failed.treatment(), Some(Treatment::Rebuild));
        for keep_up_elsewhere in [None, Some(0), Some(1)] {
            let case = Case {
                keep_up_elsewhere,
                ..DAMAGED
            };
            assert_eq!(case.treatment(), Some(Treatment::AwaitMajority));
        }
    }

    #[test]
    fn one_of_two_is_not_given_up_because_the_other_is_no_majority() {
        let pair = Case {
            replicas: 2,
            keep_up_elsewhere: Some(1),
            ..DAMAGED
        };
        assert_eq!(pair.treatment(), Some(Treatment::AwaitMajority));
    }

    #[test]
    fn nobody_is_rebuilt_twice_at_a_time() {
        let changing = Case {
            is_changing: true,
            ..DAMAGED
        };
        assert_eq!(changing.treatment(), Some(Treatment::AwaitChange));
    }

    #[test]
    fn what_nobody_else_holds_is_for_a_person_to_give_up() {
        let alone = Case {
            replicas: 1,
            keep_up_elsewhere: None,
            ..DAMAGED
        };
        assert_eq!(alone.treatment(), Some(Treatment::AcceptLoss));
    }

    #[test]
    fn a_new_replica_helps_neither_a_dead_disk_nor_rules_that_fail_everywhere() {
        let treatment = |ailment| Case { ailment, ..DAMAGED }.treatment();
        assert_eq!(
            treatment(Ailment::DirectoryFailed),
            Some(Treatment::ReplaceDisk)
        );
        assert_eq!(treatment(Ailment::Stuck), Some(Treatment::Investigate));
        assert_eq!(treatment(Ailment::Stopped), None);
    }

    proptest! {
        /// Whatever is known: who is given up was outvoted by a led majority of the others, and nobody else was given up with it.
        #[test]
        fn at_most_a_minority_is_given_up(
            replicas in 1..8_usize,
            is_changing: bool,
            keep_up_elsewhere in proptest::option::of(0..7_usize),
        ) {
            let case = Case { replicas, is_changing, keep_up_elsewhere, ..DAMAGED };
            if case.treatment() == Some(Treatment::Rebuild) {
                prop_assert!(!is_changing);
                prop_assert!(keep_up_elsewhere.is_some_and(|others| others > replicas / 2));
            }
        }
    }
}
