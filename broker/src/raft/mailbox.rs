//! What waits for a shard.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::machine::{Machine, Refusal};
use super::message::PeerMessage;
use super::request::{Operation, Request};
use super::{Config, Error};

/// What a shard takes in one turn. Reused from turn to turn, so that taking allocates nothing.
pub struct Inbox<M: Machine> {
    /// Operations, carried out first.
    pub operations: Vec<Operation<M>>,
    /// Ticks that went by.
    pub ticks: u32,
    /// Messages of peers.
    pub messages: Vec<PeerMessage>,
    /// Commands.
    pub requests: Vec<Request<M>>,
}

impl<M: Machine> Default for Inbox<M> {
    fn default() -> Self {
        Self {
            operations: Vec::new(),
            ticks: 0,
            messages: Vec::new(),
            requests: Vec::new(),
        }
    }
}

/// Operations, messages and requests on their way to one shard, bounded by number and by bytes.
///
/// A request counts until it is decided, not until it is taken: what waits inside the shard for an election waits on
/// the sender's account.
pub(super) struct Mailbox<M: Machine> {
    state: Mutex<State<M>>,
    came: Condvar,
    max_messages: usize,
    max_bytes: usize,
    max_operations: usize,
}

struct State<M: Machine> {
    waiting: Inbox<M>,
    held_messages: usize,
    held_bytes: usize,
    /// Whether the shard has to look though nothing was sent.
    is_woken: bool,
    is_parked: bool,
    is_closed: bool,
}

/// What a shard wants of its mailbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Take {
    /// Take operations only: the journal has no room for more.
    pub(super) operations_only: bool,
    /// Wait until something is there; with a time, no longer than that.
    pub(super) wait: Wait,
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    No,
    Until(Instant),
    ForEver,
}

/// What waits for a shard, or inside it for an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxLevel {
    /// Commands and messages.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl<M: Machine> Mailbox<M> {
    /// How full it is.
    pub(super) fn level(&self) -> MailboxLevel {
        let state = self.state();
        MailboxLevel {
            messages: state.held_messages,
            bytes: state.held_bytes,
        }
    }

    pub(super) fn new(config: &Config) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: Inbox::default(),
                held_messages: 0,
                held_bytes: 0,
                is_woken: false,
                is_parked: false,
                is_closed: false,
            }),
            came: Condvar::new(),
            max_messages: config.mailbox_messages,
            max_bytes: config.mailbox_bytes,
            max_operations: config.mailbox_operations,
        }
    }

    /// Sends a request, or answers it: with [`Refusal::Busy`] where the mailbox is full.
    pub(super) fn send(&self, request: Request<M>) {
        let mut state = self.state();
        let refusal = if state.is_closed {
            Refusal::UnknownGroup
        } else if !self.hold(&mut state, request.bytes) {
            Refusal::Busy {
                limit: "the limit of requests that wait for a shard",
            }
        } else {
            state.waiting.requests.push(request);
            self.notify(state);
            return;
        };
        drop(state);
        request.reply.refuse(refusal);
    }

    /// Sends a peer's message, or loses it where the mailbox is full: Raft repeats what matters.
    pub(super) fn send_message(&self, message: PeerMessage) {
        let mut state = self.state();
        if !state.is_closed && self.hold(&mut state, message.bytes()) {
            state.waiting.messages.push(message);
            self.notify(state);
        }
    }

    /// Sends an operation.
    ///
    /// # Errors
    /// [`Error::ShardBusy`] when too many wait or the shard stopped; the operation is dropped.
    pub(super) fn operate(&self, operation: Operation<M>) -> Result<(), Error> {
        self.operate_within(self.max_operations, operation)
    }

    /// Sends an operation even where too many wait: one that comes rarely and must not be lost.
    ///
    /// # Errors
    /// [`Error::ShardBusy`] when the shard stopped; the operation is dropped.
    pub(super) fn operate_anyway(&self, operation: Operation<M>) -> Result<(), Error> {
        self.operate_within(usize::MAX, operation)
    }

    fn operate_within(&self, limit: usize, operation: Operation<M>) -> Result<(), Error> {
        let mut state = self.state();
        if state.is_closed || state.waiting.operations.len() >= limit {
            return Err(Error::ShardBusy);
        }
        state.waiting.operations.push(operation);
        self.notify(state);
        Ok(())
    }

    /// Makes the shard look at what happened outside its mailbox.
    pub(super) fn wake(&self) {
        let mut state = self.state();
        state.is_woken = true;
        self.notify(state);
    }

    /// Takes no more, and lets the shard's thread end when it has taken what is there.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.notify(state);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        !state.is_woken && !state.has_operations() && !state.has_work()
    }

    /// Gives room back.
    pub(super) fn release(&self, messages: usize, bytes: usize) {
        if messages > 0 {
            let mut state = self.state();
            state.held_messages -= messages.min(state.held_messages);
            state.held_bytes -= bytes.min(state.held_bytes);
        }
    }

    /// Takes what waits into the empty `inbox`. False when the mailbox is closed and nothing waits any more.
    pub(super) fn take(&self, inbox: &mut Inbox<M>, take: Take) -> bool {
        let mut state = self.state();
        loop {
            let is_there = state.is_woken
                || state.has_operations()
                || (state.has_work() && !take.operations_only);
            if is_there || state.is_closed {
                break;
            }
            state.is_parked = true;
            state = match take.wait {
                Wait::No => break,
                Wait::ForEver => self
                    .came
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Wait::Until(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let waited = self.came.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.is_parked = false;
        state.is_woken = false;
        std::mem::swap(&mut inbox.operations, &mut state.waiting.operations);
        if !take.operations_only || state.is_closed {
            std::mem::swap(&mut inbox.messages, &mut state.waiting.messages);
            std::mem::swap(&mut inbox.requests, &mut state.waiting.requests);
        }
        !state.is_closed || !inbox.is_empty()
    }

    fn hold(&self, state: &mut State<M>, bytes: usize) -> bool {
        let held_bytes = state.held_bytes.saturating_add(bytes);
        if state.held_messages >= self.max_messages || held_bytes > self.max_bytes {
            return false;
        }
        state.held_messages += 1;
        state.held_bytes = held_bytes;
        true
    }

    fn notify(&self, mut state: MutexGuard<'_, State<M>>) {
        let was_parked = std::mem::take(&mut state.is_parked);
        drop(state);
        if was_parked {
            self.came.notify_one();
        }
    }

    /// A panic while the lock was held leaves the counts and lists whole: each is changed in one step.
    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Machine> State<M> {
    fn has_operations(&self) -> bool {
        !self.waiting.operations.is_empty()
    }

    fn has_work(&self) -> bool {
        !(self.waiting.messages.is_empty() && self.waiting.requests.is_empty())
    }
}

impl<M: Machine> Inbox<M> {
    fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.messages.is_empty() && self.requests.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::Receiver;

    use super::*;
    use crate::raft::reply::{Outcome, Reply};
    use crate::raft::testing::machine::{Add, WordError, Words};
    use crate::raft::{Acks, GroupId};

    const NOW: Take = Take {
        operations_only: false,
        wait: Wait::No,
    };

    fn mailbox(messages: usize, bytes: usize) -> Mailbox<Words> {
        Mailbox::new(&Config {
            mailbox_messages: messages,
            mailbox_bytes: bytes,
            mailbox_operations: 1,
            ..Config::default()
        })
    }

    fn send(mailbox: &Mailbox<Words>, bytes: usize) -> Receiver<Outcome<Words>> {
        let (reply, answered) = Reply::once();
        mailbox.send(Request {
            group: GroupId(1),
            command: Add("a".to_owned()),
            bytes,
            acks: Acks::default(),
            reply,
        });
        answered
    }

    fn is_refused(answered: &mut Receiver<Outcome<Words>>) -> bool {
        matches!(
            answered.try_recv(),
            Ok(Err(WordError::Refused(Refusal::Busy { .. })))
        )
    }

    #[test]
    fn a_request_counts_until_it_is_decided_not_until_it_is_taken() {
        for mailbox in [mailbox(2, 100), mailbox(10, 20)] {
            let mut inbox = Inbox::default();
            let [mut first, mut second] = [10, 10].map(|bytes| send(&mailbox, bytes));
            assert!(is_refused(&mut send(&mailbox, 10)));
            assert!(mailbox.take(&mut inbox, NOW));
            assert_eq!(inbox.requests.len(), 2);
            assert!(is_refused(&mut send(&mailbox, 10)));
            mailbox.release(1, 10);
            assert!(!is_refused(&mut send(&mailbox, 10)));
            assert!(!is_refused(&mut first) && !is_refused(&mut second));
        }
    }

    #[test]
    fn while_the_journal_has_no_room_only_operations_are_taken() {
        let mailbox = mailbox(10, 100);
        let mut inbox = Inbox::default();
        let _waits = send(&mailbox, 1);
        let roll = || Operation::Roll { group: GroupId(1) };
        mailbox.operate(roll()).unwrap();
        assert!(matches!(mailbox.operate(roll()), Err(Error::ShardBusy)));
        mailbox.operate_anyway(roll()).unwrap();
        let take = Take {
            operations_only: true,
            wait: Wait::ForEver,
        };
        assert!(mailbox.take(&mut inbox, take));
        assert_eq!((inbox.operations.len(), inbox.requests.len()), (2, 0));
        assert!(!mailbox.is_empty());
    }

    #[test]
    fn a_closed_mailbox_gives_out_what_it_has_and_refuses_the_rest() {
        let mailbox = mailbox(10, 100);
        let _waits = send(&mailbox, 1);
        mailbox.close();
        let refused = send(&mailbox, 1).try_recv();
        assert_eq!(refused, Ok(Err(WordError::Refused(Refusal::UnknownGroup))));
        let mut inbox = Inbox::default();
        assert!(mailbox.take(&mut inbox, NOW));
        assert_eq!(inbox.requests.len(), 1);
        assert!(!mailbox.take(&mut Inbox::default(), NOW));
    }

    #[test]
    fn a_sender_wakes_a_shard_that_waits() {
        let mailbox = mailbox(10, 100);
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| {
                let mut inbox = Inbox::default();
                let take = Take {
                    operations_only: false,
                    wait: Wait::ForEver,
                };
                mailbox.take(&mut inbox, take);
                inbox.requests.len()
            });
            let _waits = send(&mailbox, 1);
            assert_eq!(taken.join().unwrap(), 1);
        });
    }
}
