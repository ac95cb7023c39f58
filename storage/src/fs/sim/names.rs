//! The names of a simulated disk: what the running system sees, what the disk holds, and the changes between the two.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;

/// A path from the root, its parts joined by `/`; the root is empty.
pub(super) type Name = String;

/// Names one inode.
pub(super) type FileId = u64;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(FileId),
}

/// A change of names, each done as a whole or not at all.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Add(Name, Node),
    Remove(Name),
    Rename(Name, Name),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<Name, Node>) {
        match self {
            Self::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }

    /// The directories in whose order of changes this one stands.
    fn directories(&self) -> [&str; 2] {
        match self {
            Self::Add(name, _) => [parent(name), parent(name)],
            // A directory is removed after what was in it.
            Self::Remove(name) => [parent(name), name],
            Self::Rename(from, to) => [parent(from), parent(to)],
        }
    }
}

/// All names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    seen: BTreeMap<Name, Node>,
    durable: BTreeMap<Name, Node>,
    unsynced: Vec<Change>,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<Node> {
        if name.is_empty() {
            Some(Node::Dir)
        } else {
            self.seen.get(name).copied()
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, Node)> {
        self.seen.iter().map(|(name, node)| (name, *node))
    }

    /// Every inode that has a name, or has had one that a power loss may bring back.
    pub(super) fn inodes(&self) -> BTreeSet<FileId> {
        let added = self.unsynced.iter().filter_map(|change| match change {
            Change::Add(_, node) => Some(node),
            Change::Remove(_) | Change::Rename(..) => None,
        });
        let nodes = self.seen.values().chain(self.durable.values()).chain(added);
        nodes
            .filter_map(|node| {
                if let Node::File(id) = node {
                    Some(*id)
                } else {
                    None
                }
            })
            .collect()
    }

    /// The names directly in a directory, without it.
    pub(super) fn children<'a>(
        &'a self,
        directory: &'a str,
    ) -> impl Iterator<Item = (&'a str, Node)> {
        self.seen
            .iter()
            .filter(move |(name, _)| parent(name) == directory)
            .map(|(name, node)| (name.rsplit('/').next().unwrap_or(name), *node))
    }

    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    /// Makes a directory's changes durable, and with them what came before in every directory they touch.
    pub(super) fn sync(&mut self, directory: &str) {
        let mut synced = BTreeSet::from([directory.to_owned()]);
        let mut is_durable = vec![false; self.unsynced.len()];
        for (at, change) in self.unsynced.iter().enumerate().rev() {
            let directories = change.directories();
            if directories
                .iter()
                .any(|directory| synced.contains(*directory))
            {
                is_durable[at] = true;
                synced.extend(directories.map(str::to_owned));
            }
        }
        let mut is_durable = is_durable.into_iter();
        let durable = &mut self.durable;
        self.unsynced.retain(|change| {
            let apply = is_durable.next().unwrap_or(false);
            if apply {
                change.apply(durable);
            }
            !apply
        });
    }

    /// Power loss after all changes were written.
    pub(super) fn keep_all(&mut self) {
        self.unsynced.clear();
        self.durable = self.seen.clone();
    }

    /// Power loss: only synced names are left.
    pub(super) fn drop_unsynced(&mut self) {
        self.unsynced.clear();
        self.settle();
    }

    /// Power loss: each directory keeps some first part of its changes.
    pub(super) fn tear(&mut self, random: &mut Random) {
        let mut lost: BTreeSet<Name> = BTreeSet::new();
        for change in std::mem::take(&mut self.unsynced) {
            let directories = change.directories();
            if directories
                .iter()
                .any(|directory| lost.contains(*directory))
                || random.one_in(4)
            {
                lost.extend(directories.map(str::to_owned));
            } else {
                change.apply(&mut self.durable);
            }
        }
        self.settle();
    }

    /// Drops the names in directories that are lost themselves.
    fn settle(&mut self) {
        let mut kept: BTreeMap<Name, Node> = BTreeMap::new();
        for (name, node) in std::mem::take(&mut self.durable) {
            // A directory sorts before what is in it.
            if parent(&name).is_empty() || kept.get(parent(&name)) == Some(&Node::Dir) {
                kept.insert(name, node);
            }
        }
        self.seen = kept.clone();
        self.durable = kept;
    }
}

pub(super) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}
