//! What a producer does next: which batches it sends on which connection, what it gives up, and when it looks again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_proto::{ApiError, BrokerId, Reason};

use super::Core;
use crate::Error;
use crate::metadata::Metadata;
use crate::producer::accumulator::Lane;
use crate::producer::pipeline::{ConnectionId, First};
use crate::producer::plan::{Body, Plan, Send};

/// How long a broker may take to answer for a partition that another one leads by now.
const LEAVE_OLD_LEADER_AFTER: Duration = Duration::from_secs(1);

impl Core {
    /// What to do now. `connect` gives the connection to a broker, `None` while that can take no more.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        metadata: &Metadata,
        connect: &mut dyn FnMut(BrokerId, &str) -> Option<ConnectionId>,
    ) -> Plan {
        let mut plan = Plan {
            wants_metadata: self.metadata_is_stale,
            ..Plan::default()
        };
        if std::mem::take(&mut self.topics_changed) {
            plan.watch = Some(self.topics());
        }
        let lanes: Vec<Lane> = self.active.iter().copied().collect();
        for lane in lanes {
            self.expire(now, lane, &mut plan);
            self.check_attempts(now, lane, &mut plan);
            self.leave_old_leader(now, lane, metadata, &mut plan);
            self.poll_lane(now, lane, metadata, connect, &mut plan);
        }
        self.doubt_the_silent(now, &mut plan);
        plan
    }

    /// Gives up what has waited for longer than the delivery timeout.
    fn expire(&mut self, now: Instant, lane: Lane, plan: &mut Plan) {
        let timeout = self.rules.delivery_timeout;
        let Some(opened_by) = now.checked_sub(timeout) else {
            return;
        };
        loop {
            let finished = self.pipeline(lane).expire(opened_by, timeout);
            if finished.is_empty() {
                break;
            }
            self.finish(finished, None, &mut plan.resolutions);
        }
        while self.pipeline(lane).is_empty()
            && let Some(batch) = self.accumulator.take_expired(lane, opened_by)
        {
            let error = Error::DeliveryTimeout {
                waited: timeout,
                maybe_stored: false,
                last: None,
            };
            self.fail_gathered(batch, error, &mut plan.resolutions);
        }
    }

    /// Reports a connection on which an answer is overdue.
    fn check_attempts(&mut self, now: Instant, lane: Lane, plan: &mut Plan) {
        if let Some((since, connection)) = self.pipeline(lane).oldest_attempt() {
            let overdue_at = since + self.rules.request_timeout;
            if now >= overdue_at {
                plan.hung.push(connection);
            } else {
                plan.wake_by(overdue_at);
            }
        }
    }

    /// Asks for the metadata when an answer takes long: its broker may be frozen, and the watch kept open by the same one.
    fn doubt_the_silent(&mut self, now: Instant, plan: &mut Plan) {
        let lanes = self.active.iter();
        let attempts = lanes.filter_map(|lane| {
            let pipelines = &self.topics[lane.topic].pipelines;
            pipelines[lane.partition as usize].oldest_attempt()
        });
        let Some(oldest) = attempts.map(|(since, _)| since).min() else {
            return;
        };
        match self.doubt.weigh(now, oldest) {
            Some(at) => plan.wake_by(at),
            None => plan.wants_metadata = true,
        }
    }

    /// Gives up waiting for a broker that leads the partition no more and does not say what became of its batches: it is
    /// frozen, or cut off.
    fn leave_old_leader(&mut self, now: Instant, lane: Lane, metadata: &Metadata, plan: &mut Plan) {
        let Some((since, connection)) = self.pipeline(lane).oldest_attempt() else {
            return;
        };
        let topic = &self.topics[lane.topic].name;
        let leader = metadata.leader(topic, lane.partition);
        let asked = self.brokers.get(&connection);
        let moved = leader.is_some_and(|(leader, _)| asked.is_some_and(|b| *b != leader.broker));
        if !moved {
            return;
        }
        let leave_at = since + LEAVE_OLD_LEADER_AFTER;
        if now < leave_at {
            plan.wake_by(leave_at);
            return;
        }
        let error = ApiError::new(
            Reason::NetworkException,
            "another broker leads the partition now, and the one before has not answered",
        );
        let pipeline = self.pipeline(lane);
        let finished = pipeline.disconnected(connection, &error, true, now);
        self.finish(finished, None, &mut plan.resolutions);
    }

    /// Sends what the lane may send, and says when it may send more.
    fn poll_lane(
        &mut self,
        now: Instant,
        lane: Lane,
        metadata: &Metadata,
        connect: &mut dyn FnMut(BrokerId, &str) -> Option<ConnectionId>,
        plan: &mut Plan,
    ) {
        let oldest = self
            .pipeline(lane)
            .oldest()
            .or(self.accumulator.oldest(lane));
        let Some(oldest) = oldest else {
            self.active.remove(&lane);
            return;
        };
        plan.wake_by(oldest + self.rules.delivery_timeout);
        let due_at = self.accumulator.due_at(lane);
        let is_due = due_at.is_some_and(|at| now >= at);
        let adopted = self.adopt_identity(lane, is_due, plan);
        let max_in_flight = self.rules.max_in_flight;
        let pipeline = self.pipeline(lane);
        let again = pipeline.may_send_again(now);
        let new = pipeline.may_send_new(now, max_in_flight);
        if let Some(at) = pipeline.retry_at().filter(|at| *at > now) {
            plan.wake_by(at);
        }
        if (new || !adopted)
            && let Some(at) = due_at.filter(|at| *at > now)
        {
            plan.wake_by(at);
        }
        let sends = again || new && is_due;
        if !adopted || !sends {
            return;
        }
        let topic = &self.topics[lane.topic];
        let Some((leader, address)) = metadata.leader(&topic.name, lane.partition) else {
            plan.wants_metadata = true;
            return;
        };
        let Some(connection) = connect(leader.broker, address) else {
            return;
        };
        self.brokers.insert(connection, leader.broker);
        if again {
            self.send_again(now, lane, connection, plan);
        }
        self.send_new(now, lane, connection, plan);
    }

    /// Sees to it that the lane has an identity to send with.
    fn adopt_identity(&mut self, lane: Lane, is_due: bool, plan: &mut Plan) -> bool {
        let identity = self.identity;
        let pipeline = self.pipeline(lane);
        if !pipeline.wants_identity() {
            return true;
        }
        if !is_due && pipeline.is_empty() {
            return false;
        }
        if identity.is_some_and(|identity| pipeline.adopt(identity)) {
            return true;
        }
        plan.wants_identity = true;
        false
    }

    fn send_again(&mut self, now: Instant, lane: Lane, connection: ConnectionId, plan: &mut Plan) {
        for again in self.pipeline(lane).send_again(now, connection) {
            let body = match again.new_stamp {
                Some(stamp) => Body::Restamp(again.payload, stamp),
                None => Body::Encoded(again.payload),
            };
            plan.sends
                .push(self.send(lane, connection, again.correlation, body));
        }
        plan.wake_by(now + self.rules.request_timeout);
    }

    fn send_new(&mut self, now: Instant, lane: Lane, connection: ConnectionId, plan: &mut Plan) {
        let max_in_flight = self.rules.max_in_flight;
        while self.pipeline(lane).may_send_new(now, max_in_flight) {
            let Some(gathered) = self.accumulator.take(now, lane) else {
                if let Some(at) = self.accumulator.due_at(lane) {
                    plan.wake_by(at);
                }
                break;
            };
            let correlation = self.next_correlation;
            self.next_correlation += 1;
            self.correlations.insert(correlation, lane);
            let first = First {
                correlation,
                record_count: gathered.builder.record_count(),
                buffered_bytes: gathered.buffered_bytes,
                outcome: gathered.outcome,
                opened_at: gathered.opened_at,
            };
            let stamp = self.pipeline(lane).send_new(now, connection, first);
            let body = Body::Gathered(gathered.builder, stamp);
            plan.sends
                .push(self.send(lane, connection, correlation, body));
            plan.wake_by(now + self.rules.request_timeout);
            self.move_on(lane);
        }
    }

    /// Records without a key go elsewhere once the batch they gathered in is sent.
    fn move_on(&mut self, lane: Lane) {
        let random = (self.random)();
        let topic = &mut self.topics[lane.topic];
        let partitions = topic.partitions;
        topic
            .sticky
            .batch_completed(lane.partition, partitions, random);
    }

    fn send(&self, lane: Lane, connection: ConnectionId, correlation: u64, body: Body) -> Send {
        let topic = &self.topics[lane.topic];
        Send {
            connection,
            correlation,
            topic: Arc::clone(&topic.name),
            topic_id: topic.id,
            partition: lane.partition,
            body,
        }
    }
}
