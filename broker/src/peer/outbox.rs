//! What waits to be sent to one broker.
//!
//! A shard puts in what came out of its turn and goes on; a link takes out as much as the network takes. What is too much is
//! lost, and Raft repeats what matters. Which messages are lost is chosen so that what is repeated is of use: of those that
//! repeat by themselves the oldest go first, since newer ones say the same; of appends the new ones go, since what is queued
//! comes before them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use highwater_proto::internal::v1::Heartbeat;
use raft::eraftpb::MessageType;
use tokio::sync::Notify;

use crate::raft::{GroupId, Leadership, PeerMessage};

/// Entry bytes that are sent as one piece; a larger append goes alone. Smaller pieces cost more wake-ups, larger ones hold up
/// what comes behind them.
const PIECE_BYTES: usize = 1 << 20;
/// Messages that are sent as one piece.
const PIECE_MESSAGES: usize = 4096;
/// Leaderships that are sent as one piece.
const PIECE_LEADERSHIPS: usize = 10_000;
/// A way of messages to one broker; neither waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// What is small and must not wait.
    Control,
    /// Appends, in order: one that overtook another would be refused, and the leader would send both again. Snapshots.
    Data,
}

impl Lane {
    pub(super) const ALL: [Self; 2] = [Self::Control, Self::Data];

    fn of(message: &PeerMessage) -> Self {
        match message.message.get_msg_type() {
            MessageType::MsgAppend | MessageType::MsgSnapshot => Self::Data,
            _ => Self::Control,
        }
    }

    /// Its name in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Data => "data",
        }
    }
}

/// How much may wait on each lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    limits: Limits,
    /// Tells the link to connect now, because there are signs that the other end is there.
    pub(super) retry: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Requests for votes and their answers: they do not repeat before the next election.
    votes: Queue,
    /// Heartbeats, and answers to them and to appends: the next one says it again.
    repeating: Queue,
    appends: Queue,
    /// The newest leadership of each group that is to be announced.
    leaderships: HashMap<GroupId, Leadership>,
    beat: Option<Heartbeat>,
    is_connected: bool,
    control_waker: Option<Waker>,
    data_waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<PeerMessage>,
    bytes: usize,
}

/// What is to be sent on the control lane.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Control {
    pub(super) beat: Option<Heartbeat>,
    pub(super) leaderships: Vec<Leadership>,
    pub(super) messages: Vec<PeerMessage>,
}

impl Outbox {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            state: Mutex::default(),
            limits,
            retry: Notify::new(),
        }
    }

    /// Puts messages in. How many were lost, these or others.
    pub(super) fn push(&self, messages: impl IntoIterator<Item = PeerMessage>) -> usize {
        let mut state = self.state();
        let mut lost = 0;
        let mut lanes = [false; 2];
        for message in messages {
            let lane = Lane::of(&message);
            lanes[lane as usize] = true;
            lost += match lane {
                Lane::Control => state.push_control(message, self.limits),
                Lane::Data => state.push_data(message, self.limits),
            };
        }
        self.wake(state, lanes);
        lost
    }

    /// Puts leaderships of this broker in. Without a connection they are dropped: whoever connects tells all of them.
    pub(super) fn announce(&self, leaderships: &[Leadership]) {
        let mut state = self.state();
        if state.is_connected {
            for own in leaderships {
                let newest = state
                    .leaderships
                    .entry(own.group)
                    .or_insert_with(|| own.clone());
                if newest.term <= own.term {
                    newest.clone_from(own);
                }
            }
            self.wake(state, [true, false]);
        }
    }

    /// Puts a sign of life in, in the place of one that was not sent yet.
    pub(super) fn beat(&self, beat: Heartbeat) {
        let mut state = self.state();
        if state.is_connected {
            state.beat = Some(beat);
            self.wake(state, [true, false]);
        }
    }

    /// From here on there is a connection. `own` gives all leaderships of this broker: it is asked where nothing can be
    /// announced meanwhile, so that what it gives is never older than what was announced before.
    pub(super) fn connected(&self, own: impl FnOnce() -> Vec<Leadership>) {
        let mut state = self.state();
        state.is_connected = true;
        for own in own() {
            state.leaderships.insert(own.group, own);
        }
        self.wake(state, [true, false]);
    }

    /// The connection is gone. What waits is forgotten: it was for the state of the other end as it was.
    pub(super) fn disconnected(&self) {
        *self.state() = State::default();
    }

    /// Messages and bytes that wait on a lane.
    pub(super) fn level(&self, lane: Lane) -> (usize, usize) {
        let state = self.state();
        let queues: &[&Queue] = match lane {
            Lane::Control => &[&state.votes, &state.repeating],
            Lane::Data => &[&state.appends],
        };
        let messages = queues.iter().map(|queue| queue.messages.len()).sum();
        (messages, queues.iter().map(|queue| queue.bytes).sum())
    }

    /// The next piece for the control lane, once there is one.
    pub(super) fn poll_control(&self, cx: &mut Context<'_>) -> Poll<Control> {
        let mut state = self.state();
        let groups = state.leaderships.keys().take(PIECE_LEADERSHIPS);
        let groups: Vec<_> = groups.copied().collect();
        let leaderships = groups
            .into_iter()
            .filter_map(|group| state.leaderships.remove(&group));
        let leaderships = leaderships.collect::<Vec<_>>();
        let mut messages = state.votes.take();
        if messages.len() < PIECE_MESSAGES {
            messages.extend(state.repeating.take());
        }
        let beat = state.beat.take();
        if beat.is_none() && leaderships.is_empty() && messages.is_empty() {
            state.control_waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Control {
            beat,
            leaderships,
            messages,
        })
    }

    /// The next piece for the data lane, once there is one.
    pub(super) fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Vec<PeerMessage>> {
        let mut state = self.state();
        let messages = state.appends.take();
        if messages.is_empty() {
            state.data_waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(messages)
    }

    /// Wakes who waits on the lanes that got something, after the lock is given back.
    fn wake(&self, mut state: MutexGuard<'_, State>, [control, data]: [bool; 2]) {
        let control = state.control_waker.take_if(|_| control);
        let data = state.data_waker.take_if(|_| data);
        drop(state);
        for waker in [control, data].into_iter().flatten() {
            waker.wake();
        }
    }

    /// A panic while the lock was held leaves the queues whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many messages were lost.
    fn push_control(&mut self, message: PeerMessage, limits: Limits) -> usize {
        let repeats = matches!(
            message.message.get_msg_type(),
            MessageType::MsgHeartbeat
                | MessageType::MsgHeartbeatResponse
                | MessageType::MsgAppendResponse
        );
        if repeats {
            self.repeating.push(message);
        } else {
            self.votes.push(message);
        }
        let mut lost = 0;
        while self.votes.messages.len() + self.repeating.messages.len() > limits.messages
            || self.votes.bytes + self.repeating.bytes > limits.bytes
        {
            if self.repeating.pop().is_none() && self.votes.pop().is_none() {
                break;
            }
            lost += 1;
        }
        lost
    }

    /// How many messages were lost.
    fn push_data(&mut self, message: PeerMessage, limits: Limits) -> usize {
        // One is always taken, however large it is.
        let is_full = !self.appends.messages.is_empty()
            && (self.appends.messages.len() >= limits.messages
                || self.appends.bytes + message.bytes() > limits.bytes);
        if is_full || !self.is_connected {
            return 1;
        }
        self.appends.push(message);
        0
    }
}

impl Queue {
    fn push(&mut self, message: PeerMessage) {
        self.bytes += message.bytes();
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<PeerMessage> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes();
        Some(message)
    }

    /// The oldest messages, up to a piece's size; at least one if there is any.
    fn take(&mut self) -> Vec<PeerMessage> {
        let mut bytes = 0;
        let fits = |message: &&PeerMessage| {
            bytes += message.bytes();
            bytes <= PIECE_BYTES
        };
        let count = self.messages.iter().take(PIECE_MESSAGES).take_while(fits);
        let count = count.count().max(1).min(self.messages.len());
        let taken: Vec<_> = self.messages.drain(..count).collect();
        self.bytes -= taken.iter().map(PeerMessage::bytes).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use bytes::Bytes;
    use highwater_storage::Term;
    use raft::eraftpb::{Entry, Message};

    use super::*;
    use crate::raft::ReplicaId;

    fn outbox(messages: usize, bytes: usize) -> Outbox {
        let outbox = Outbox::new(Limits { messages, bytes });
        outbox.connected(Vec::new);
        outbox
    }

    fn message(kind: MessageType, group: u64, data: usize) -> PeerMessage {
        let mut message = Message::default();
        message.set_msg_type(kind);
        if data > 0 {
            let entry = Entry {
                data: Bytes::from(vec![0; data]),
                ..Entry::default()
            };
            message.entries = vec![entry].into();
        }
        PeerMessage {
            group: GroupId(group),
            message,
        }
    }

    fn append(group: u64, data: usize) -> PeerMessage {
        message(MessageType::MsgAppend, group, data)
    }

    fn beat(group: u64) -> PeerMessage {
        message(MessageType::MsgHeartbeat, group, 0)
    }

    fn vote(group: u64) -> PeerMessage {
        message(MessageType::MsgRequestVote, group, 0)
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn groups(messages: &[PeerMessage]) -> Vec<u64> {
        messages.iter().map(|message| message.group.0).collect()
    }

    fn control(outbox: &Outbox) -> Vec<u64> {
        match outbox.poll_control(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(control) => groups(&control.messages),
            Poll::Pending => vec![],
        }
    }

    fn data(outbox: &Outbox) -> Vec<u64> {
        match outbox.poll_data(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(messages) => groups(&messages),
            Poll::Pending => vec![],
        }
    }

    #[test]
    fn messages_take_their_lane_and_keep_their_order() {
        let outbox = outbox(10, 1 << 20);
        assert_eq!(
            outbox.push([append(1, 5), beat(2), append(3, 0), vote(4)]),
            0
        );
        assert_eq!(outbox.level(Lane::Data).0, 2);
        assert_eq!(data(&outbox), [1, 3]);
        assert_eq!(control(&outbox), [4, 2]);
        assert_eq!(outbox.level(Lane::Control), (0, 0));
        assert_eq!(outbox.level(Lane::Data), (0, 0));
    }

    #[test]
    fn of_what_repeats_the_oldest_is_lost_first_and_votes_last() {
        let outbox = outbox(3, 1 << 20);
        assert_eq!(outbox.push([vote(1), beat(2), beat(3), beat(4)]), 1);
        assert_eq!(outbox.push([vote(5), vote(6), vote(7)]), 3);
        assert_eq!(control(&outbox), [5, 6, 7]);
    }

    #[test]
    fn of_appends_the_newest_are_lost() {
        let by_number = outbox(2, 1 << 20);
        assert_eq!(
            by_number.push([append(1, 5), append(2, 5), append(3, 5)]),
            1
        );
        assert_eq!(data(&by_number), [1, 2]);
        let by_bytes = outbox(10, 1000);
        assert_eq!(
            by_bytes.push([append(1, 500), append(2, 500), append(3, 0)]),
            1
        );
        assert_eq!(data(&by_bytes), [1, 3]);
    }

    #[test]
    fn a_piece_has_a_mebibyte_or_one_append() {
        let outbox = outbox(100, 100 << 20);
        let half = PIECE_BYTES / 2 - 1000;
        let large = 3 * PIECE_BYTES;
        outbox.push([
            append(1, half),
            append(2, half),
            append(3, half),
            append(4, large),
        ]);
        assert_eq!(data(&outbox), [1, 2]);
        assert_eq!(data(&outbox), [3]);
        assert_eq!(data(&outbox), [4]);
        assert_eq!(data(&outbox), [0; 0]);
    }

    #[test]
    fn a_turn_wakes_each_lane_once() {
        let outbox = outbox(100, 1 << 20);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        assert!(outbox.poll_control(&mut cx).is_pending());
        assert!(outbox.poll_data(&mut cx).is_pending());
        outbox.push([append(1, 5), append(2, 5)]);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        outbox.push([append(1, 5), beat(2), beat(3)]);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
        outbox.push([append(1, 5), beat(2)]);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2, "nobody waits");
    }

    #[test]
    fn without_a_connection_only_the_control_lane_takes_messages() {
        let outbox = outbox(100, 1 << 20);
        let leadership = |group| Leadership {
            group: GroupId(group),
            term: Term(1),
            replica: ReplicaId(1),
            in_sync: vec![],
        };
        outbox.push([append(1, 5)]);
        outbox.disconnected();
        assert_eq!(outbox.push([append(2, 5), vote(3)]), 1);
        outbox.beat(Heartbeat::default());
        outbox.announce(&[leadership(7)]);
        outbox.connected(|| vec![leadership(8)]);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(sent) = outbox.poll_control(&mut cx) else {
            panic!("nothing to send");
        };
        assert_eq!(groups(&sent.messages), [3]);
        assert_eq!((sent.leaderships, sent.beat), (vec![leadership(8)], None));
        assert!(outbox.poll_data(&mut cx).is_pending());
    }

    #[test]
    fn of_announcements_and_heartbeats_the_newest_is_sent() {
        let outbox = outbox(100, 1 << 20);
        let leadership = |term| Leadership {
            group: GroupId(1),
            term: Term(term),
            replica: ReplicaId(1),
            in_sync: vec![],
        };
        outbox.announce(&[leadership(2), leadership(1)]);
        for count in [1, 2] {
            outbox.beat(Heartbeat {
                count,
                ..Heartbeat::default()
            });
        }
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(sent) = outbox.poll_control(&mut cx) else {
            panic!("nothing to send");
        };
        assert_eq!(sent.leaderships, [leadership(2)]);
        assert_eq!(sent.beat.unwrap().count, 2);
        assert!(outbox.poll_control(&mut cx).is_pending());
    }
}
