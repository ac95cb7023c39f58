//! The network between the simulated brokers: it delays, loses, doubles, reorders and cuts.

use std::collections::BTreeSet;

use super::chance::Chance;
use super::plan::{NetworkPlan, NodeId};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Network {
    plan: NetworkPlan,
    /// Directions in which nothing comes through.
    cut: BTreeSet<(NodeId, NodeId)>,
    chance: Chance,
    is_healed: bool,
}

impl Network {
    pub(super) fn new(plan: NetworkPlan, chance: Chance) -> Self {
        Self {
            plan,
            cut: BTreeSet::new(),
            chance,
            is_healed: false,
        }
    }

    /// After how many microseconds each copy of a message arrives; empty when it is lost.
    pub(super) fn delays(&mut self, from: NodeId, to: NodeId) -> Vec<u64> {
        if self.is_cut(from, to) {
            return vec![];
        }
        if self.is_healed {
            return vec![self.plan.delay];
        }
        if self.chance.per_mille(self.plan.lost_per_mille) {
            return vec![];
        }
        let copies = 1 + usize::from(self.chance.per_mille(self.plan.doubled_per_mille));
        (0..copies).map(|_| self.delay()).collect()
    }

    fn delay(&mut self) -> u64 {
        let delay = self.chance.within(50..=self.plan.delay);
        if self.chance.per_mille(self.plan.late_per_mille) {
            delay * self.chance.within(10..=100)
        } else {
            delay
        }
    }

    pub(super) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Lets nothing through from one to the other.
    pub(super) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Ends all cuts.
    pub(super) fn mend(&mut self) {
        self.cut.clear();
    }

    /// From now on everything arrives, once and in order.
    pub(super) fn heal(&mut self) {
        self.mend();
        self.is_healed = true;
    }
}
