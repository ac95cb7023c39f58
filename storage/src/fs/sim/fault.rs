//! Faults that a test asks for.

use std::io;

use crate::fs::Operation;

/// An error that one operation, or every one from it on, answers.
#[derive(Clone, Debug)]
pub struct Fault {
    operation: Operation,
    path_part: String,
    skip: u64,
    kind: io::ErrorKind,
    is_lasting: bool,
}

impl Fault {
    /// The next `operation` on a path that contains `path_part` fails with an error of the disk (EIO), without effect. Only a failed
    /// sync has one: it counts the pages as clean, though chance decides which of them reached the disk.
    pub fn new(operation: Operation, path_part: impl Into<String>) -> Self {
        Self {
            operation,
            path_part: path_part.into(),
            skip: 0,
            kind: io::ErrorKind::Other,
            is_lasting: false,
        }
    }

    /// Lets `count` such operations succeed first.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// The error is a full disk.
    #[must_use]
    pub fn no_space(mut self) -> Self {
        self.kind = io::ErrorKind::StorageFull;
        self
    }

    /// Every such operation fails from then on, until the faults are cleared.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.is_lasting = true;
        self
    }

    fn matches(&self, operation: Operation, name: &str) -> bool {
        self.operation == operation && name.contains(&self.path_part)
    }
}

/// The faults still to come.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The error that this operation is to answer, if any.
    pub(super) fn strike(&mut self, operation: Operation, name: &str) -> Option<io::Error> {
        let mut struck = None;
        self.0.retain_mut(|fault| {
            if struck.is_some() || !fault.matches(operation, name) {
                return true;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                return true;
            }
            struck = Some(io::Error::new(fault.kind, "simulated fault of the disk"));
            fault.is_lasting
        });
        struck
    }
}
