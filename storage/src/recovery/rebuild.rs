//! Putting one log together again, out of what checkpoint and journal tell and what the disk has.
//!
//! The segments are taken in the order of their first indexes. What the journal has beyond a segment's durable end is written again and
//! synced; then the segment is closed, whatever its state: the next append opens another, so that no position is ever written twice.
//!
//! Where frames are missing, what is known about the journal decides. If groups are gone that had never been synced, nobody was told of
//! what they held: the log is **cut** there. Otherwise it is **damage**: the frames after the hole are kept, in a segment of their own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::Build;
use super::replay::{Chain, LogReplay, SegmentReplay};
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::frame::FrameHeader;
use crate::fs::Fs;
use crate::journal::{FrameSource, Location};
use crate::log::{Damage, Head, take_frame};
use crate::parallel;
use crate::run_mark::LastRun;
use crate::segment::{
    self, ActiveSegment, SealedSegment, Segment, SegmentEnd, SegmentFiles, SegmentSpec, path_of,
};
use crate::{Offset, RaftIndex, Term};

/// What the journal as a whole says about missing frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The last group that was synced once and is gone: records of any log may have been in it.
    pub(crate) damaged_group: Option<u64>,
    /// Whether groups are gone that had not been synced.
    pub(crate) is_torn: bool,
    /// What is left of frames that are in no journal.
    pub(crate) last_run: LastRun,
}

/// A log put together.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    pub(crate) replay: LogReplay,
    pub(crate) sealed: Vec<SealedSegment>,
    pub(crate) heads: Vec<Head>,
    pub(crate) terms: Vec<(RaftIndex, Term)>,
    pub(crate) next_index: RaftIndex,
    pub(crate) next_offset: Offset,
    pub(crate) damage: Option<Damage>,
}

/// The tools for putting logs together.
pub(crate) struct Rebuilder<'a> {
    pub(crate) fs: &'a dyn Fs,
    pub(crate) files: &'a Arc<SegmentFiles>,
    pub(crate) source: FrameSource,
    pub(crate) evidence: Evidence,
    /// Directories with names that are not durable yet.
    pub(crate) directories: BTreeSet<PathBuf>,
    /// Segments with bytes that are not.
    pub(crate) unsynced: Vec<Arc<Segment>>,
}

/// Segments that are synced together; their files are open until then.
const SYNCED_AT_ONCE: usize = 512;

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The next frames belong to the log.
    Joined,
    /// The log ends before them.
    Cut,
}

impl Rebuilder<'_> {
    /// Puts a log together.
    ///
    /// # Errors
    /// When the disk fails in a way that says nothing about what it holds: the start must be tried again.
    pub(crate) fn rebuild(&mut self, mut replay: LogReplay) -> Result<Rebuilt> {
        let mut build = Build::new(&replay);
        let mut segments: Vec<SegmentReplay> = std::mem::take(&mut replay.segments)
            .into_values()
            .filter(|segment| !segment.is_dead())
            .collect();
        // Not by their generations: what was moved away from behind a hole, or put into one, is younger than what follows it.
        segments.sort_by_key(|segment| segment.spec.first_index);
        for segment in segments {
            let reach = if segment.spec.is_head() {
                self.add_head(&mut build, segment)?
            } else {
                self.add_file(&mut build, segment)?
            };
            if reach == Reach::Cut {
                break;
            }
        }
        build.close_last_hole();
        replay.next_generation = build.next_generation;
        replay.hard_state.commit = replay.hard_state.commit.max(replay.applied.index);
        let damage = self.damage(&replay, &build);
        Ok(Rebuilt {
            replay,
            sealed: build.sealed,
            heads: build.heads,
            terms: build.terms,
            next_index: build.next_index,
            next_offset: build.next_offset,
            damage,
        })
    }

    /// Makes durable what was written, but for names, and closes the files.
    ///
    /// # Errors
    /// When a segment cannot be synced: the start must be tried again.
    pub(crate) fn sync_segments(&mut self) -> segment::Result<()> {
        let unsynced = std::mem::take(&mut self.unsynced);
        parallel::try_for_each(&unsynced, |segment| {
            segment.sync()?;
            segment.close_if_clean();
            Ok(())
        })
    }

    /// Adds what a segment file has, or has to have.
    fn add_file(&mut self, build: &mut Build, segment: SegmentReplay) -> Result<Reach> {
        build.give_up_heads();
        let SegmentReplay {
            spec,
            limit,
            durable,
            synced,
            chains,
            ..
        } = segment;
        let mut chains: Vec<Chain> = chains
            .into_iter()
            .filter(|chain| chain.first_index < limit)
            .collect();
        let has_durable = durable.next_index > spec.first_index;
        let continues = chains
            .first()
            .is_some_and(|chain| chain.position == durable.position);
        let is_scanned = build.was_cached || synced.is_some();
        if has_durable || continues || is_scanned {
            if self.reach(build, spec.first_index, spec.base_offset) == Reach::Cut {
                return Ok(Reach::Cut);
            }
            let mut own: Vec<Chain> = vec![];
            while chains.first().is_some_and(|chain| {
                is_scanned || own.is_empty() && chain.position == durable.position
            }) {
                own.push(chains.remove(0));
            }
            let needs_writing = !own.is_empty() || is_scanned;
            let sealed = if needs_writing {
                self.rewrite(build, spec, durable, &mut own, is_scanned)
            } else {
                self.check_there(build, spec, durable)
            };
            chains.splice(0..0, own);
            match sealed {
                Ok((sealed, headers)) => build.add_sealed(sealed, durable, headers, limit),
                Err(segment::Error::Io(error)) => return Err(error.into()),
                Err(segment::Error::Damaged { hole, reason }) => {
                    build.reasons.push(reason);
                    build.lose_until(hole.to.min(limit), hole.to_offset);
                }
            }
            if let Some(synced) = synced {
                build.lose_until(synced.next_index.min(limit), synced.next_offset);
            }
        }
        for chain in chains {
            if self.reach(build, chain.first_index, chain.base_offset) == Reach::Cut {
                return Ok(Reach::Cut);
            }
            self.move_chain(build, spec, chain, limit)?;
        }
        Ok(Reach::Joined)
    }

    /// A segment that needs nothing but to be there.
    fn check_there(
        &self,
        build: &Build,
        spec: SegmentSpec,
        durable: SegmentEnd,
    ) -> segment::Result<(SealedSegment, Vec<FrameHeader>)> {
        let path = path_of(&build.directory, spec.generation);
        if self.fs.len(&path)? != Some(spec.file_bytes) {
            return Err(segment::Error::Damaged {
                hole: segment::Hole {
                    from: spec.first_index,
                    to: durable.next_index,
                    from_offset: spec.base_offset,
                    to_offset: durable.next_offset,
                },
                reason: format!("{} is missing or has another size", path.display()),
            });
        }
        Ok((
            self.files
                .sealed(build.log, &build.directory, spec, durable),
            vec![],
        ))
    }

    /// Writes again what the journal, and for cached frames the file itself, has beyond the durable end. Chains that cannot be reached
    /// are left in `chains`.
    fn rewrite(
        &mut self,
        build: &Build,
        spec: SegmentSpec,
        durable: SegmentEnd,
        chains: &mut Vec<Chain>,
        is_scanned: bool,
    ) -> segment::Result<(SealedSegment, Vec<FrameHeader>)> {
        let mut active = self
            .files
            .reopen(build.log, &build.directory, spec, durable)?;
        let mut headers = vec![];
        loop {
            if chains
                .first()
                .is_some_and(|chain| chain.position == active.end().position)
            {
                let chain = chains.remove(0);
                headers.extend(self.write_pieces(&mut active, &chain.pieces)?);
                continue;
            }
            let before = active.end().position;
            if is_scanned {
                headers.extend(active.recover_tail()?);
            }
            // A chain that the scan went over is there already.
            while chains
                .first()
                .is_some_and(|chain| chain.position < active.end().position)
            {
                chains.remove(0);
            }
            if active.end().position == before {
                break;
            }
        }
        self.unsynced.push(Arc::clone(active.segment()));
        if self.unsynced.len() >= SYNCED_AT_ONCE {
            self.sync_segments()?;
        }
        self.directories.insert(build.directory.clone());
        Ok((active.seal(), headers))
    }

    fn write_pieces(
        &mut self,
        active: &mut ActiveSegment,
        pieces: &[Location],
    ) -> segment::Result<Vec<FrameHeader>> {
        let mut headers = vec![];
        for piece in pieces {
            let bytes = self.source.read(*piece)?;
            let written = active.rewrite(&bytes)?;
            headers.extend(written.ok_or_else(|| changed_under_us(active))?);
        }
        Ok(headers)
    }

    /// Gives frames that stand after a hole a segment of their own.
    fn move_chain(
        &mut self,
        build: &mut Build,
        from: SegmentSpec,
        chain: Chain,
        limit: RaftIndex,
    ) -> Result<()> {
        let frames: u64 = chain
            .pieces
            .iter()
            .map(|piece| u64::from(piece.bytes))
            .sum();
        let start = from.start().position;
        let spec = SegmentSpec {
            generation: build.take_generation(),
            first_index: chain.first_index,
            base_offset: chain.base_offset,
            file_bytes: (start + frames).next_multiple_of(start),
            // The frames are copied as they are, so they keep the salt they were written under.
            salt: from.salt,
        };
        let written = self.rewrite(
            build,
            spec,
            spec.start(),
            &mut vec![Chain {
                position: start,
                ..chain
            }],
            false,
        );
        match written {
            Ok((sealed, headers)) => {
                build.add_sealed(sealed, spec.start(), headers, limit);
                Ok(())
            }
            Err(segment::Error::Io(error)) => Err(error.into()),
            Err(segment::Error::Damaged { reason, .. }) => Err(Error::Corrupt {
                path: build.directory.display().to_string(),
                reason,
            }),
        }
    }

    /// Adds what a head has in the checkpoint and in the journal.
    fn add_head(&mut self, build: &mut Build, segment: SegmentReplay) -> Result<Reach> {
        let SegmentReplay {
            spec,
            limit,
            durable,
            head,
            chains,
            ..
        } = segment;
        let mut head = head.unwrap_or_else(|| Head::new(spec));
        if durable.next_index > spec.first_index
            && self.reach(build, spec.first_index, spec.base_offset) == Reach::Cut
        {
            return Ok(Reach::Cut);
        }
        for chain in chains.into_iter().filter(|chain| chain.first_index < limit) {
            if chain.position != head.end().position {
                build.add_head(std::mem::replace(&mut head, Head::new(spec)), limit);
                let (generation, first_index) = (build.take_generation(), chain.first_index);
                head = Head::new(SegmentSpec {
                    generation,
                    first_index,
                    base_offset: chain.base_offset,
                    ..spec
                });
            }
            if head.frames().is_empty()
                && self.reach(build, chain.first_index, chain.base_offset) == Reach::Cut
            {
                return Ok(Reach::Cut);
            }
            for piece in &chain.pieces {
                let mut cursor = Cursor::new(self.source.read(*piece)?.into());
                while cursor.remaining() > 0 {
                    let frame = take_frame(&mut cursor, spec.salt).filter(|frame| head.push(frame));
                    frame.ok_or_else(|| Error::Corrupt {
                        path: build.directory.display().to_string(),
                        reason: "frames in the journal changed while they were read".to_owned(),
                    })?;
                }
            }
        }
        build.add_head(head, limit);
        Ok(Reach::Joined)
    }

    /// Whether frames that begin at `index` belong to the log, when it has come to where it is now.
    fn reach(&self, build: &mut Build, index: RaftIndex, offset: Offset) -> Reach {
        if index <= build.next_index {
            return Reach::Joined;
        }
        let is_lost = build
            .lost_until
            .is_some_and(|(until, _)| until > build.next_index);
        if !is_lost && self.evidence.is_torn && self.evidence.damaged_group.is_none() {
            return Reach::Cut;
        }
        build.miss_until(index, offset);
        Reach::Joined
    }

    /// What could not be given back.
    fn damage(&self, replay: &LogReplay, build: &Build) -> Option<Damage> {
        let mut damage = replay.damage.clone().unwrap_or(Damage {
            missing: vec![],
            unknown_tail: false,
            hard_state_in_doubt: false,
            reason: String::new(),
        });
        let mut reasons = build.reasons.clone();
        damage.missing.retain(|hole| {
            hole.to > replay.start.index && !build.missing.iter().any(|new| new.from == hole.from)
        });
        damage.missing.extend_from_slice(&build.missing);
        damage.missing.sort_by_key(|hole| hole.from);
        if let Some(group) = self.evidence.damaged_group {
            damage.unknown_tail |=
                build.was_cached || replay.has_strays || replay.last_frames_group < group;
            damage.hard_state_in_doubt |= replay.last_hard_state_group < group;
            if damage.unknown_tail || damage.hard_state_in_doubt {
                reasons.push(format!("group {group} of the journal is damaged"));
            }
        }
        if replay.has_strays && !self.evidence.is_torn {
            damage.unknown_tail = true;
            reasons.push("the journal has frames of a segment that was never opened".to_owned());
        }
        if let Some(reason) = &replay.misfit {
            damage.unknown_tail = true;
            reasons.push(reason.clone());
        }
        if build.was_cached && self.evidence.last_run == LastRun::CacheLost {
            damage.unknown_tail = true;
            reasons.push("frames were only in the page cache of a kernel that is gone".to_owned());
        }
        let last = build.next_index.previous();
        if replay.hard_state.commit > last {
            damage.unknown_tail = true;
            reasons.push(format!(
                "the log ends at {last}, and {} was committed",
                replay.hard_state.commit
            ));
        }
        if !build.missing.is_empty() && reasons.is_empty() {
            reasons.push("frames are missing".to_owned());
        }
        if damage.reason.is_empty() {
            damage.reason = reasons.join("; ");
        }
        let is_damaged =
            !damage.missing.is_empty() || damage.unknown_tail || damage.hard_state_in_doubt;
        is_damaged.then_some(damage)
    }
}

/// The error for journal bytes that were whole a moment ago.
fn changed_under_us(active: &ActiveSegment) -> segment::Error {
    let path: &Path = &active.segment().path();
    let reason = std::io::Error::other("frames in the journal changed while they were read");
    crate::fs::Error::new(crate::fs::Operation::Read, path, reason).into()
}
