//! Neighbours together: of each topic, the first members take the first partitions.
//!
//! Members are taken in the same order for every topic, so members that read the same topics with equal numbers of
//! partitions have the same partitions of each. Static members are ordered by their instance ids, which last.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Question, Targets};

pub(super) fn assign(question: &Question<'_>) -> Targets {
    let mut order: Vec<_> = question.wishes.iter().collect();
    order.sort_by_key(|(id, wish)| (wish.instance.is_none(), wish.instance, Arc::clone(id)));
    let mut targets: Targets = question
        .wishes
        .keys()
        .map(|id| (Arc::clone(id), Default::default()))
        .collect();
    let mut takers: BTreeMap<_, Vec<&Arc<str>>> = BTreeMap::new();
    for (id, wish) in order {
        for topic in wish.topics {
            takers.entry(*topic).or_default().push(id);
        }
    }
    for (topic, takers) in takers {
        let partitions: Vec<_> = question.partitions_of(topic).collect();
        let (each, more) = (
            partitions.len() / takers.len(),
            partitions.len() % takers.len(),
        );
        let mut rest = partitions.into_iter();
        for (rank, id) in takers.into_iter().enumerate() {
            let share = each + usize::from(rank < more);
            if let Some(target) = targets.get_mut(id) {
                target.extend(rest.by_ref().take(share));
            }
        }
    }
    targets
}
