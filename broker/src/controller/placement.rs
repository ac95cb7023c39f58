//! Where new replicas go: to brokers that stay and are up, on different racks, that hold the fewest.
//!
//! Each replica of a partition goes to the broker that is best by these, in this order: it is up; no replica of the
//! partition is on its rack yet; it holds the fewest replicas. Of equals, the first replica takes the broker that is the
//! preferred leader of the fewest and the others those that are of the most: the partition's preferred leader is then the
//! one of them that leads the fewest, and there is one. So both numbers differ by at most one between any two brokers
//! where all partitions have as many replicas and neither racks nor brokers that are down stand in the way.

use std::collections::{BTreeMap, BTreeSet};

use highwater_proto::BrokerId;

use super::image::{BrokerState, ClusterImage};

/// A broker that replicas can go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    is_down: bool,
    rack: Option<String>,
    replicas: usize,
    preferred_leaders: usize,
}

/// Gives brokers to new replicas, one partition after the other.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    places: BTreeMap<BrokerId, Place>,
}

impl Placement {
    /// A placement that counts with everything in `image`. The brokers in `avoid` are down: they get only what the
    /// others cannot take.
    pub(super) fn new(image: &ClusterImage, avoid: &BTreeSet<BrokerId>) -> Self {
        let place = |broker: &super::Broker| Place {
            is_down: avoid.contains(&broker.id),
            rack: broker.rack.clone(),
            ..Place::default()
        };
        let mut places: BTreeMap<_, _> = image
            .brokers()
            .filter(|broker| broker.state == BrokerState::Active)
            .map(|broker| (broker.id, place(broker)))
            .collect();
        for partition in image.topics().flat_map(|topic| &topic.partitions) {
            for (rank, replica) in partition.coming().iter().enumerate() {
                if let Some(place) = places.get_mut(&replica.broker) {
                    place.replicas += 1;
                    place.preferred_leaders += usize::from(rank == 0);
                }
            }
        }
        Self { places }
    }

    /// From here on these brokers get nothing.
    pub(super) fn exclude(&mut self, brokers: &BTreeSet<BrokerId>) {
        self.places.retain(|id, _| !brokers.contains(id));
    }

    /// Brokers for a partition of `replicas` replicas, the preferred leader first. `replicas` is at most the number of
    /// brokers.
    pub(super) fn place(&mut self, replicas: usize) -> Vec<BrokerId> {
        let mut chosen: Vec<BrokerId> = Vec::new();
        while let Some(id) = self.best(&chosen).filter(|_| chosen.len() < replicas) {
            chosen.push(id);
        }
        let leader = chosen.iter().enumerate().min_by_key(|(_, id)| {
            let place = &self.places[*id];
            (place.is_down, place.preferred_leaders, **id)
        });
        if let Some((rank, _)) = leader {
            // The others stay in order, so that what follows a leader's loss is spread, too.
            chosen[..=rank].rotate_right(1);
        }
        for (rank, id) in chosen.iter().enumerate() {
            if let Some(place) = self.places.get_mut(id) {
                place.replicas += 1;
                place.preferred_leaders += usize::from(rank == 0);
            }
        }
        chosen
    }

    /// One more broker for a partition that is on those of `held`, as a follower.
    pub(super) fn extend(&mut self, held: &[BrokerId]) -> Option<BrokerId> {
        let id = self.best(held)?;
        if let Some(place) = self.places.get_mut(&id) {
            place.replicas += 1;
        }
        Some(id)
    }

    /// The broker of `held` that a partition does without first: one that takes no replicas any more or is down, one whose
    /// rack holds several of its replicas, the one that holds the most. Of equals the last.
    pub(super) fn shrink(&mut self, held: &[BrokerId]) -> Option<BrokerId> {
        let on_rack = |rack: &Option<String>| {
            let same = |id: &&BrokerId| {
                let place = self.places.get(*id);
                rack.is_some() && place.is_some_and(|place| place.rack == *rack)
            };
            held.iter().filter(same).count()
        };
        let ranked = held.iter().enumerate();
        let worst = ranked.max_by_key(|(rank, id)| match self.places.get(*id) {
            None => (true, 0, 0, *rank),
            // Who leads stays where that is as good.
            Some(place) => (
                place.is_down,
                on_rack(&place.rack),
                place.replicas.saturating_sub(usize::from(*rank == 0)),
                *rank,
            ),
        });
        let id = *worst?.1;
        if let Some(place) = self.places.get_mut(&id) {
            place.replicas = place.replicas.saturating_sub(1);
        }
        Some(id)
    }

    /// The best broker beside those that were chosen for the same partition.
    fn best(&self, chosen: &[BrokerId]) -> Option<BrokerId> {
        let on_rack = |rack: &Option<String>| {
            let same = |id: &&BrokerId| {
                let place = self.places.get(*id);
                rack.is_some() && place.is_some_and(|place| place.rack == *rack)
            };
            chosen.iter().filter(same).count()
        };
        let candidates = self.places.iter().filter(|(id, _)| !chosen.contains(id));
        let best = candidates.min_by_key(|(id, place)| {
            let leaders = if chosen.is_empty() {
                place.preferred_leaders
            } else {
                usize::MAX - place.preferred_leaders
            };
            let others = on_rack(&place.rack);
            (place.is_down, others, place.replicas, leaders, **id)
        });
        best.map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Brokers, numbered from 1, on these racks.
    fn placement(racks: &[Option<u8>], down: &BTreeSet<BrokerId>) -> Placement {
        let places = (1..).map(BrokerId).zip(racks).map(|(id, rack)| {
            let place = Place {
                is_down: down.contains(&id),
                rack: rack.map(|rack| rack.to_string()),
                ..Place::default()
            };
            (id, place)
        });
        Placement {
            places: places.collect(),
        }
    }

    fn spread(placement: &Placement, count: impl Fn(&Place) -> usize) -> usize {
        let counts = || placement.places.values().map(&count);
        counts().max().unwrap_or(0) - counts().min().unwrap_or(0)
    }

    /// Racks of these brokers; a broker without one is a rack of its own.
    fn racks_of(placement: &Placement, brokers: impl IntoIterator<Item = BrokerId>) -> usize {
        let rack = |id: BrokerId| match &placement.places[&id].rack {
            Some(rack) => (Some(rack.clone()), None),
            None => (None, Some(id)),
        };
        brokers.into_iter().map(rack).collect::<BTreeSet<_>>().len()
    }

    proptest! {
        #[test]
        fn replicas_are_balanced(
            brokers in 1..10_usize,
            factors in proptest::collection::vec(1..5_usize, 1..80),
        ) {
            let mut placement = placement(&vec![None; brokers], &BTreeSet::new());
            for factor in factors {
                placement.place(factor.min(brokers));
                prop_assert!(spread(&placement, |place| place.replicas) <= 1);
            }
        }

        #[test]
        fn preferred_leaders_are_balanced(brokers in 1..10_usize, factor in 1..6_usize, partitions in 1..200_usize) {
            let mut placement = placement(&vec![None; brokers], &BTreeSet::new());
            for _ in 0..partitions {
                placement.place(factor.min(brokers));
                prop_assert!(spread(&placement, |place| place.preferred_leaders) <= 1);
            }
        }

        #[test]
        fn no_rack_holds_two_replicas_where_another_holds_none(
            racks in proptest::collection::vec(proptest::option::of(0..4_u8), 1..10),
            factors in proptest::collection::vec(1..5_usize, 1..40),
        ) {
            let mut placement = placement(&racks, &BTreeSet::new());
            let all = racks_of(&placement, placement.places.keys().copied());
            for factor in factors {
                let factor = factor.min(racks.len());
                let chosen = placement.place(factor);
                prop_assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), factor);
                prop_assert_eq!(racks_of(&placement, chosen), factor.min(all));
            }
        }

        #[test]
        fn brokers_that_are_down_take_what_the_others_cannot(
            racks in proptest::collection::vec(proptest::option::of(0..3_u8), 2..8),
            down in proptest::collection::btree_set(1..8_u32, 0..5),
            factor in 1..6_usize,
        ) {
            let down: BTreeSet<_> = down.into_iter().map(BrokerId).collect();
            let mut placement = placement(&racks, &down);
            let up = placement.places.values().filter(|place| !place.is_down).count();
            let chosen = placement.place(factor.min(racks.len()));
            let chosen_up = chosen.iter().filter(|id| !down.contains(id)).count();
            prop_assert_eq!(chosen_up, up.min(chosen.len()));
            prop_assert!(up == 0 || !down.contains(&chosen[0]), "a leader that is down");
        }
    }

    #[test]
    fn one_after_the_other_leads_where_all_hold_all() {
        let mut placement = placement(&[None; 3], &BTreeSet::new());
        let mut leaders = |_| placement.place(3)[0].0;
        let leaders: Vec<_> = (0..6).map(&mut leaders).collect();
        assert_eq!(leaders, [1, 2, 3, 1, 2, 3]);
    }
}
