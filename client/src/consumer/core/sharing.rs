//! Who may send how much: the buffer is shared out to brokers as credit, and to partitions by what is assigned.

use super::super::feed::{Feed, FeedId};
use super::super::partition::{Partition, State};
use super::super::share::Share;
use super::Core;

/// Credit is added when this fraction of what a broker may have is missing.
const CREDIT_STEPS: u64 = 4;

impl Core {
    /// The credit that a broker should get now: what it may send and has sent stays within its share of the buffer, and
    /// within that of each partition if all of it were spent on that one. Where the consumer wants what is not here, only the
    /// latter counts: what it does not want may stay for ever.
    pub(super) fn credit_due(&self, feed: &Feed) -> Option<u64> {
        let buffer = u64::from(self.rules.buffer_bytes);
        let of_feed = (buffer / self.feeds.len() as u64).max(1);
        let left = of_feed.saturating_sub(self.prefetched.bytes_of(feed.broker));
        let room = buffer.saturating_sub(self.prefetched.bytes());
        let share = self.share();
        let level = match self.prefetched.is_wanting() {
            true => share.most_credit(),
            false => left.min(room).min(share.most_credit()),
        };
        let step = of_feed.min(share.most_credit()) / CREDIT_STEPS;
        // Most of the time nothing is due, and partitions need not be looked at.
        feed.credit_due(level, step.max(1))?;
        let fullest = self.bytes_read_through(feed.id).max().unwrap_or(0);
        feed.credit_due(level.min(share.room(fullest)), step.max(1))
    }

    /// What one partition may have. It is small as long as some may be held back.
    pub(super) fn share(&self) -> Share {
        let bytes = self.rules.partition_buffer_bytes;
        Share::new(match self.prefetched.is_held_back() {
            true => bytes.min(self.rules.partition_fetch_bytes),
            false => bytes,
        })
    }

    /// What was fetched of each partition that a feed's broker is to push, and not yet taken out.
    fn bytes_read_through(&self, feed: FeedId) -> impl Iterator<Item = u64> + '_ {
        let partitions = self.partitions.iter().enumerate();
        partitions
            .filter(move |(_, partition)| partition.is_in(feed) && !partition.is_full())
            .map(|(place, _)| self.prefetched.bytes_at(place))
    }

    /// Leaves partitions out of what is read where they have their share and others of the same broker wait for some, and
    /// takes in again those that have room.
    pub(super) fn share_out(&mut self) {
        let changed: Vec<usize> = self.unfair().collect();
        for place in changed {
            let State::Reading { feed, is_full, .. } = &mut self.partitions[place].state else {
                continue;
            };
            *is_full = !*is_full;
            let feed = *feed;
            if let Some(feed) = self.feeds.iter_mut().find(|f| f.id == feed) {
                feed.set_stale();
            }
        }
    }

    /// The partitions that are read and should not be, or the other way round.
    fn unfair(&self) -> impl Iterator<Item = usize> + '_ {
        let share = self.share();
        // Where nothing is full, nothing is to be left out, nor to be taken in again.
        let may_be = share.is_full(self.prefetched.bytes())
            || self.partitions.iter().any(Partition::is_full);
        let feeds = self.feeds.iter().filter(move |_| may_be);
        feeds.flat_map(move |feed| {
            let emptiest = self.bytes_read_through(feed.id).min();
            let others_wait = emptiest.is_some_and(|bytes| share.is_low(bytes));
            let of_feed = self.partitions.iter().enumerate();
            of_feed.filter_map(move |(place, partition)| {
                let bytes = self.prefetched.bytes_at(place);
                let is_unfair = match partition.is_full() {
                    true => share.is_low(bytes),
                    false => others_wait && share.is_full(bytes),
                };
                (partition.is_in(feed.id) && is_unfair).then_some(place)
            })
        })
    }

    /// Whether taking out what was fetched has made room that brokers should know of.
    pub(crate) fn has_room(&self) -> bool {
        let mut feeds = self.feeds.iter();
        feeds.any(|feed| self.credit_due(feed).is_some()) || self.unfair().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};
    use std::time::Instant;

    use super::super::tests::{batch, fetched, metadata, topic_id};
    use super::super::{OffsetReset, Rules};
    use super::*;
    use crate::Start;
    use crate::consumer::plan::{Ask, Pushed, PushedPartition};
    use crate::consumer::prefetched::Item;
    use crate::retry::Backoff;
    use highwater_proto::Offset;

    /// Bytes of a batch below.
    const BATCH: u64 = 160;
    const SHARE: u32 = 1_000;

    fn core(partitions: u32) -> Core {
        core_with(partitions, 4_000)
    }

    fn core_with(partitions: u32, buffer_bytes: u32) -> Core {
        let rules = Rules {
            buffer_bytes,
            partition_buffer_bytes: SHARE,
            partition_fetch_bytes: 1_000,
            reset: OffsetReset::Earliest,
            backoff: Backoff::default(),
        };
        let mut core = Core::new(rules, Box::new(|| 0));
        let assigned =
            (0..partitions).map(|p| ("t".into(), topic_id(), p, Start::Offset(Offset(0))));
        core.assign(assigned.collect());
        core
    }

    /// A broker that leads all partitions, of which one has far more than the others, and the network to it.
    struct Broker {
        asks: VecDeque<Ask>,
        pushes: VecDeque<Pushed>,
        assignment: u64,
        next: HashMap<u32, u64>,
        ends: Vec<u64>,
        credit: i64,
    }

    impl Broker {
        fn with(ends: &[u64]) -> Self {
            Self {
                asks: VecDeque::new(),
                pushes: VecDeque::new(),
                assignment: 0,
                next: HashMap::new(),
                ends: ends.to_vec(),
                credit: 0,
            }
        }

        fn hear(&mut self) {
            match self.asks.pop_front() {
                Some(Ask::Assign { id, reads, .. }) => {
                    self.assignment = id;
                    let reads = reads.iter();
                    self.next = reads.map(|read| (read.partition, read.offset.0)).collect();
                }
                Some(Ask::Credit { bytes }) => self.credit += i64::try_from(bytes).unwrap(),
                None => {}
            }
        }

        /// Pushes a batch of the first partition that has one.
        fn push(&mut self) {
            let ends = &self.ends;
            let mut waiting: Vec<_> = self.next.iter_mut().collect();
            waiting.retain(|(partition, next)| **next < ends[**partition as usize]);
            waiting.sort();
            if let (Some((partition, next)), true) = (waiting.into_iter().next(), self.credit > 0) {
                let batch = batch(*next, 1, 90);
                assert_eq!(batch.len() as u64, BATCH);
                *next += 1;
                self.credit -= i64::try_from(BATCH).unwrap();
                self.pushes.push_back(Pushed {
                    assignment_id: self.assignment,
                    credit_used_bytes: BATCH,
                    partitions: vec![PushedPartition {
                        topic_id: topic_id(),
                        partition: *partition,
                        result: fetched(vec![batch]),
                    }],
                });
            }
        }
    }

    /// Lets the consumer do all that it can.
    fn turn(core: &mut Core, broker: &mut Broker) {
        core.poll(Instant::now(), &metadata());
        let feed = core.feeds[0].id;
        broker.asks.extend(std::iter::from_fn(|| core.ask(feed)));
    }

    fn receive(core: &mut Core, broker: &mut Broker) {
        if let Some(pushed) = broker.pushes.pop_front() {
            let feed = core.feeds[0].id;
            core.pushed(Instant::now(), feed, pushed);
        }
    }

    /// Goes on until nothing happens any more while the consumer takes nothing out.
    fn settle(core: &mut Core, broker: &mut Broker) {
        for _ in 0..200 {
            turn(core, broker);
            broker.hear();
            broker.push();
            receive(core, broker);
        }
        assert!(broker.asks.is_empty() && broker.pushes.is_empty());
    }

    #[test]
    fn a_busy_partition_takes_its_share_and_the_others_go_on() {
        let (mut core, mut broker) = (core(3), Broker::with(&[1_000, 0, 0]));
        settle(&mut core, &mut broker);
        let busy = core.prefetched.bytes_at(0);
        assert!(
            busy > u64::from(SHARE) / 2 && busy <= u64::from(SHARE) + BATCH,
            "{busy}"
        );
        // It is pushed no longer, so that it takes none of what the others are given.
        assert_eq!(broker.next.keys().max(), Some(&2));
        assert!(!broker.next.contains_key(&0));
        broker.ends = vec![1_000, 2, 3];
        settle(&mut core, &mut broker);
        assert_eq!(core.prefetched.bytes_at(0), busy);
        assert_eq!(core.prefetched.bytes_at(1), 2 * BATCH);
        assert_eq!(core.prefetched.bytes_at(2), 3 * BATCH);
        // Nor do the others wait for what was fetched of it.
        let places: Vec<_> = (0..3)
            .map(|_| core.take(|_| true).unwrap().cursor.place)
            .collect();
        assert_eq!(places, [0, 1, 2]);
        while core.prefetched.bytes() > 0 {
            core.take(|_| true);
        }
        assert!(core.has_room());
        settle(&mut core, &mut broker);
        assert!(core.prefetched.bytes_at(0) > 0);
    }

    #[test]
    fn a_partition_alone_at_its_broker_is_read_up_to_its_share_and_never_left_out() {
        let (mut core, mut broker) = (core(1), Broker::with(&[1_000]));
        settle(&mut core, &mut broker);
        let bytes = core.prefetched.bytes_at(0);
        assert!(
            bytes > u64::from(SHARE) - BATCH && bytes < u64::from(SHARE) + BATCH,
            "{bytes}"
        );
        for _ in 0..100 {
            core.take(|_| true).unwrap();
            settle(&mut core, &mut broker);
        }
        assert_eq!(broker.assignment, 1);
    }

    /// Takes out what is wanted, or says that it is wanted.
    fn take(core: &mut Core, wants: impl Fn(usize) -> bool) -> Option<Item> {
        let item = core.take(wants);
        if item.is_none() {
            core.want();
        }
        item
    }

    #[test]
    fn partitions_that_are_held_back_for_ever_do_not_stop_the_others_of_their_broker() {
        // One that is held back could take all that its broker may have, and so could its first batch.
        for buffer in [SHARE / 2 - 20, 100] {
            let (mut core, mut broker) = (core_with(3, buffer), Broker::with(&[1_000, 0, 0]));
            settle(&mut core, &mut broker);
            assert!(core.prefetched.bytes_at(0) >= u64::from(buffer));
            broker.ends = vec![1_000, 1_000, 40];
            let mut next = 0;
            while next < 40 {
                settle(&mut core, &mut broker);
                if let Some(item) = take(&mut core, |place| place == 2) {
                    assert_eq!(item.content.unwrap().from, Offset(next));
                    next += 1;
                } else {
                    assert!(core.has_room(), "stands still at {next} of {buffer}");
                }
                let bytes = core.prefetched.bytes();
                let most = u64::from(buffer) + 2 * (u64::from(SHARE) + BATCH);
                assert!(bytes <= most, "{bytes} of {buffer}");
            }
            // Of those that were held back nothing is lost.
            let mut taken = [0_u64; 3];
            broker.ends = vec![100, 100, 40];
            while taken != [100, 100, 0] {
                settle(&mut core, &mut broker);
                let item = take(&mut core, |_| true).unwrap();
                let taken = &mut taken[item.cursor.place];
                assert_eq!(item.content.unwrap().from, Offset(*taken));
                *taken += 1;
            }
        }
    }

    #[test]
    fn what_nobody_wants_is_not_pushed_beyond_the_buffer() {
        let (mut core, mut broker) = (core_with(3, SHARE), Broker::with(&[1_000, 1_000, 1_000]));
        settle(&mut core, &mut broker);
        let bytes = core.prefetched.bytes();
        assert!(core.take(|_| false).is_none() && !core.has_room());
        settle(&mut core, &mut broker);
        assert_eq!(core.prefetched.bytes(), bytes);
    }

    #[test]
    fn whatever_the_order_of_things_no_share_is_exceeded_and_nothing_lost_or_read_twice() {
        for seed in 1..50_u64 {
            let (mut core, mut broker) = (core(3), Broker::with(&[300, 40, 5]));
            let mut chance = seed;
            let mut taken = [0_u64; 3];
            let mut steps = 0;
            while taken != [300, 40, 5] {
                steps += 1;
                assert!(steps < 200_000, "seed {seed} stands still at {taken:?}");
                chance = chance
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(seed | 1);
                match (chance >> 60) % 8 {
                    0 => turn(&mut core, &mut broker),
                    1 | 2 => broker.hear(),
                    3 | 4 if broker.pushes.len() < 9 => broker.push(),
                    5 | 6 => receive(&mut core, &mut broker),
                    7 => {
                        let wanted = chance >> 32;
                        if let Some(item) = take(&mut core, |place| wanted & (1 << place) != 0) {
                            let batch = item.content.unwrap();
                            let taken = &mut taken[item.cursor.place];
                            assert_eq!(batch.from, Offset(*taken), "seed {seed}");
                            *taken += 1;
                        }
                    }
                    _ => {}
                }
                for place in 0..3 {
                    let bytes = core.prefetched.bytes_at(place);
                    assert!(bytes < u64::from(SHARE) + BATCH, "seed {seed}: {bytes}");
                }
            }
        }
    }
}
