//! Replicas that are seeded: what the network code of a broker does for them, step by step in virtual time.

use highwater_broker::raft::{
    Error as RaftError, Operation, Pull, ReceiveError, Receiving, ReplicaId, Source, SourceRefusal,
};
use highwater_storage::{Error, RaftIndex, Staging};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::plan::NodeId;
use super::schedule::MS;
use super::violation::{Check, Checked, broken};
use super::world::{Event, World};

/// Payload bytes that come at once.
const PIECE_BYTES: u64 = 4 << 10;
/// The largest entry that is taken.
const ENTRY_BYTES: usize = 1 << 20;
/// Pause before a source is asked again, in microseconds.
const AGAIN: u64 = 100 * MS;
/// Time between two looks for an answer, in microseconds.
const LOOK: u64 = MS;

/// A pull on its way.
#[derive(Debug)]
pub(super) struct Pulling {
    receiving: Receiving,
    stage: Stage,
}

/// What a pull waits for.
#[derive(Debug)]
enum Stage {
    /// Somebody to ask.
    Idle,
    /// What the source says.
    Asked(Giver, oneshot::Receiver<Result<Source, SourceRefusal>>),
    /// The log that frames go to.
    Staging(Giver, Source, oneshot::Receiver<Result<Staging, RaftError>>),
    /// The next frames.
    Reading(Giver, Source),
}

/// Where frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Giver {
    node: NodeId,
    life: u64,
}

/// When a pull goes on.
enum Next {
    After(u64, Box<Pulling>),
    Over,
}

impl World {
    pub(super) fn begin_pull(&mut self, id: NodeId, pull: Pull) {
        self.note(format_args!(
            "{id} replica {} is seeded up to {}",
            pull.replica().0,
            pull.upto()
        ));
        let pulling = Pulling {
            receiving: Receiving::new(pull, ENTRY_BYTES),
            stage: Stage::Idle,
        };
        self.plan_pull(id, LOOK, Box::new(pulling));
    }

    fn plan_pull(&mut self, id: NodeId, after: u64, pulling: Box<Pulling>) {
        let event = Event::Pull(id, self.nodes[id.0].life, pulling);
        self.schedule.after(after, event);
    }

    /// Takes a pull one step further.
    pub(super) fn step_pull(&mut self, id: NodeId, pulling: Pulling) -> Checked {
        if pulling.receiving.pull().is_over() {
            return Ok(());
        }
        let Pulling { receiving, stage } = pulling;
        let next = match stage {
            Stage::Idle => self.ask_source(id, receiving),
            Stage::Asked(giver, asked) => self.hear_source(id, receiving, giver, asked)?,
            Stage::Staging(giver, source, asked) => hear_staging(receiving, giver, source, asked),
            Stage::Reading(giver, source) => self.read_frames(id, receiving, giver, source)?,
        };
        if let Next::After(time, pulling) = next {
            self.plan_pull(id, time, pulling);
        }
        Ok(())
    }

    fn ask_source(&mut self, id: NodeId, receiving: Receiving) -> Next {
        let pull = receiving.pull();
        let (group, to, upto) = (pull.group(), pull.replica(), pull.upto());
        let found = pull.source().and_then(|source| {
            let giver = self.giver(self.node_of(source)?)?;
            self.is_reached(id, giver).then_some((source, giver))
        });
        let Some((replica, giver)) = found else {
            return idle(receiving);
        };
        let (answer, asked) = oneshot::channel();
        self.operate(
            giver.node,
            Operation::Source {
                group,
                replica,
                to,
                upto,
                answer,
            },
        );
        let stage = Stage::Asked(giver, asked);
        after(LOOK, receiving, stage)
    }

    fn hear_source(
        &mut self,
        id: NodeId,
        mut receiving: Receiving,
        giver: Giver,
        mut asked: oneshot::Receiver<Result<Source, SourceRefusal>>,
    ) -> Checked<Next> {
        let (group, to) = (receiving.pull().group(), receiving.pull().replica());
        let source = match asked.try_recv() {
            Err(TryRecvError::Empty) if self.is_reached(id, giver) => {
                let stage = Stage::Asked(giver, asked);
                return Ok(after(LOOK, receiving, stage));
            }
            Ok(Ok(source)) => source,
            Ok(Err(SourceRefusal::Past)) => {
                self.operate(giver.node, Operation::SeedingFailed { group, to });
                return Ok(Next::Over);
            }
            Err(_) | Ok(Err(_)) => return Ok(idle(receiving)),
        };
        let begins = source.begins();
        let is_anew = match receiving.begin(begins, source.total_bytes()) {
            Ok(is_anew) => is_anew,
            Err(bad) => return refused(to, &bad.to_string()),
        };
        if !is_anew {
            let stage = Stage::Reading(giver, source);
            return Ok(after(LOOK, receiving, stage));
        }
        let (answer, asked) = oneshot::channel();
        let stage = Operation::Stage {
            group,
            replica: to,
            from: begins,
            answer,
        };
        self.operate(id, stage);
        let stage = Stage::Staging(giver, source, asked);
        Ok(after(LOOK, receiving, stage))
    }

    fn read_frames(
        &mut self,
        id: NodeId,
        mut receiving: Receiving,
        giver: Giver,
        source: Source,
    ) -> Checked<Next> {
        let to = receiving.pull().replica();
        if receiving.is_complete() {
            if let Ok(pulled) = receiving.finish() {
                self.operate(id, Operation::Seeded(pulled));
            }
            return Ok(Next::Over);
        }
        if !self.is_reached(id, giver) {
            return Ok(idle(receiving));
        }
        let next = receiving.next_index().unwrap_or(RaftIndex(1));
        let Ok(entries) = source.read(next, PIECE_BYTES) else {
            // Gone by now, or not to be read: the next source says.
            return Ok(idle(receiving));
        };
        match receiving.append(&entries) {
            Ok(()) => {
                let takes = self.jitter.within(50..=2 * MS);
                let stage = Stage::Reading(giver, source);
                Ok(after(takes, receiving, stage))
            }
            Err(ReceiveError::Storage(Error::NoSpace { .. })) => Ok(idle(receiving)),
            // A disk that fails; the process notices by itself.
            Err(ReceiveError::Storage(Error::Io { .. } | Error::Poisoned { .. })) => Ok(Next::Over),
            Err(error) => refused(to, &error.to_string()),
        }
    }

    fn giver(&self, node: NodeId) -> Option<Giver> {
        let giver = &self.nodes[node.0];
        giver.process.as_ref().map(|_| Giver {
            node,
            life: giver.life,
        })
    }

    /// Whether the process still is there that gave, and can be reached.
    fn is_reached(&self, id: NodeId, giver: Giver) -> bool {
        self.giver(giver.node) == Some(giver)
            && !self.network.is_cut(id, giver.node)
            && !self.network.is_cut(giver.node, id)
    }

    fn operate(&mut self, id: NodeId, operation: Operation<highwater_broker::replica::Replica>) {
        if let Some(process) = &mut self.nodes[id.0].process {
            process.operate(operation);
            self.plan_turn(id);
        }
    }
}

fn hear_staging(
    mut receiving: Receiving,
    giver: Giver,
    source: Source,
    mut asked: oneshot::Receiver<Result<Staging, RaftError>>,
) -> Next {
    match asked.try_recv() {
        Ok(Ok(staging)) => {
            receiving.staged(staging);
            let stage = Stage::Reading(giver, source);
            after(LOOK, receiving, stage)
        }
        Err(TryRecvError::Empty) => {
            let stage = Stage::Staging(giver, source, asked);
            after(LOOK, receiving, stage)
        }
        Ok(Err(_)) | Err(TryRecvError::Closed) => Next::Over,
    }
}

fn idle(receiving: Receiving) -> Next {
    let stage = Stage::Idle;
    after(AGAIN, receiving, stage)
}

fn after(time: u64, receiving: Receiving, stage: Stage) -> Next {
    Next::After(time, Box::new(Pulling { receiving, stage }))
}

/// Sources here are all correct.
fn refused(replica: ReplicaId, reason: &str) -> Checked<Next> {
    let detail = format!("replica {} is not seeded: {reason}", replica.0);
    broken(Check::ReplicasAgree, detail)
}
