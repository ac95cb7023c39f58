//! How frames get from node to node: at once, or a few at a time, where a script says so.

use tokio::sync::oneshot;

use super::{Cluster, Command, node_of};
use crate::raft::{Operation, Pull, Receiving, Source, SourceRefusal};

/// The largest entry that is taken.
const ENTRY_BYTES: usize = 1 << 20;

impl Cluster {
    /// Notes what a shard wants pulled.
    pub(super) fn note_pulls(
        &mut self,
        number: u64,
        pulls: Vec<Pull>,
    ) -> Result<Vec<String>, String> {
        let mut said = Vec::new();
        for pull in pulls {
            said.push(format!("{number}: wants frames up to {}", pull.upto()));
            let pulls = &mut self.running(number)?.pulls;
            pulls.push(Receiving::new(pull, ENTRY_BYTES));
        }
        Ok(said)
    }

    /// `pull 3 2`: node 3 pulls two frames for each of its replicas that need some; without a number, all.
    pub(super) fn pull_some(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let frames = match command.arguments.len() {
            1 => usize::MAX,
            _ => usize::try_from(command.number(1)?).unwrap_or(usize::MAX),
        };
        self.pull(command.number(0)?, frames)
    }

    pub(super) fn pull(&mut self, number: u64, frames: usize) -> Result<Vec<String>, String> {
        let mut said = Vec::new();
        for receiving in std::mem::take(&mut self.running(number)?.pulls) {
            said.extend(self.pull_one(number, receiving, frames)?);
        }
        Ok(said)
    }

    fn pull_one(
        &mut self,
        number: u64,
        mut receiving: Receiving,
        frames: usize,
    ) -> Result<Vec<String>, String> {
        if receiving.pull().is_over() {
            return Ok(vec![format!("{number}: needs no frames any more")]);
        }
        let (mut said, source) = match self.source_for(number, &receiving)? {
            Ok(found) => found,
            Err(SourceRefusal::Past) => {
                return Ok(vec![format!("{number}: those frames are gone")]);
            }
            Err(_) => {
                self.running(number)?.pulls.push(receiving);
                return Ok(vec![]);
            }
        };
        let begins = source.begins();
        let is_anew = receiving
            .begin(begins, source.total_bytes())
            .map_err(|error| error.to_string())?;
        if is_anew {
            let pull = receiving.pull();
            let (group, replica) = (pull.group(), pull.replica());
            let (answer, mut answered) = oneshot::channel();
            let running = self.running(number)?;
            running.inbox.operations.push(Operation::Stage {
                group,
                replica,
                from: begins,
                answer,
            });
            said.extend(self.turn(number)?);
            let staging = answered.try_recv().map_err(|_| "no answer")?;
            receiving.staged(staging.map_err(|error| error.to_string())?);
            said.push(format!("{number}: pulls from {}", begins.index));
        }
        let mut left = frames;
        while !receiving.is_complete() && left > 0 {
            left -= 1;
            let next = receiving.next_index().ok_or("nothing is staged")?;
            let entries = source.read(next, 1).map_err(|error| error.to_string())?;
            receiving
                .append(&entries)
                .map_err(|error| error.to_string())?;
        }
        let upto = receiving.next_index().unwrap_or_default().previous();
        if !receiving.is_complete() {
            said.push(format!("{number}: has frames up to {upto}"));
            self.running(number)?.pulls.push(receiving);
            return Ok(said);
        }
        said.push(format!("{number}: has all frames up to {upto}"));
        let pulled = receiving.finish().map_err(|error| error.to_string())?;
        self.running(number)?
            .inbox
            .operations
            .push(Operation::Seeded(pulled));
        Ok(said)
    }

    /// Asks the leader of the replica that is seeded, if it can be reached. A leader whose log begins too late hears it.
    fn source_for(
        &mut self,
        number: u64,
        receiving: &Receiving,
    ) -> Result<Result<(Vec<String>, Source), SourceRefusal>, String> {
        let pull = receiving.pull();
        let Some(leader) = pull.source() else {
            return Ok(Err(SourceRefusal::NotHere));
        };
        let from = node_of(leader);
        let is_cut_off = self.isolated.contains(&from) || self.isolated.contains(&number);
        if is_cut_off || self.running(from).is_err() {
            return Ok(Err(SourceRefusal::NotHere));
        }
        let (group, to, upto) = (pull.group(), pull.replica(), pull.upto());
        let (answer, mut answered) = oneshot::channel();
        let running = self.running(from)?;
        running.inbox.operations.push(Operation::Source {
            group,
            replica: leader,
            to,
            upto,
            answer,
        });
        let said = self.turn(from)?;
        let source = answered.try_recv().map_err(|_| "no answer")?;
        if source
            .as_ref()
            .is_err_and(|refusal| *refusal == SourceRefusal::Past)
        {
            let failed = Operation::SeedingFailed { group, to };
            self.running(from)?.inbox.operations.push(failed);
        }
        Ok(source.map(|source| (said, source)))
    }
}
