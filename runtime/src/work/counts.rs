//! How much work there is of each kind, in numbers and in words.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

/// The kind of a piece of work, for counts in messages and in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkKind {
    Request,
    Connection,
    Task,
    /// Waited for, but not counted in reports.
    Server,
    /// Like `Server`.
    Main,
}

/// The kinds in the order in which messages list them, each in the singular.
const KINDS: [(WorkKind, &str); 5] = [
    (WorkKind::Request, "request"),
    (WorkKind::Connection, "connection"),
    (WorkKind::Task, "task"),
    (WorkKind::Server, "server"),
    (WorkKind::Main, "main"),
];

impl WorkKind {
    /// Returns whether it is work of the program's clients or tasks, and not the program itself.
    pub(super) fn is_counted(self) -> bool {
        !matches!(self, Self::Server | Self::Main)
    }
}

/// How much work there is, or was drained, of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts([usize; KINDS.len()]);

impl Counts {
    pub(crate) fn of(self, kind: WorkKind) -> usize {
        self.0[kind as usize]
    }

    pub(crate) fn add(&mut self, kind: WorkKind, count: usize) {
        self.0[kind as usize] += count;
    }

    pub(crate) fn requests(self) -> usize {
        self.of(WorkKind::Request)
    }

    pub(crate) fn connections(self) -> usize {
        self.of(WorkKind::Connection)
    }

    pub(crate) fn tasks(self) -> usize {
        self.of(WorkKind::Task)
    }

    /// Returns whether there is nothing to wait for but the program itself.
    pub(crate) fn is_nothing(self) -> bool {
        KINDS.iter().all(|(kind, _)| !kind.is_counted() || self.of(*kind) == 0)
    }
}

impl fmt::Display for Counts {
    /// Writes `2 requests, 1 task`. Servers and `main` are mentioned only if there is nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of(WorkKind::Main) > 0 && self.is_nothing() {
            return f.write_str("main");
        }
        let is_said = |kind: WorkKind| kind.is_counted() != self.is_nothing();
        let mut said = KINDS.iter().filter(|(kind, _)| is_said(*kind) && self.of(*kind) > 0);
        let Some(first) = said.next() else {
            return f.write_str("nothing");
        };
        let mut between = "";
        for (kind, name) in std::iter::once(first).chain(said) {
            let count = self.of(*kind);
            write!(f, "{between}{count} {name}{}", if count == 1 { "" } else { "s" })?;
            between = ", ";
        }
        Ok(())
    }
}

/// Counts that any thread can add to.
#[derive(Debug)]
pub(crate) struct AtomicCounts([AtomicUsize; KINDS.len()]);

impl AtomicCounts {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicUsize::new(0)))
    }

    pub(crate) fn add(&self, kind: WorkKind) {
        // Relaxed: read once all counted work has ended, and the wait for that orders the accesses.
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|kind| self.0[kind].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, KINDS, WorkKind};

    fn text(counts: &[(WorkKind, usize)]) -> String {
        let mut all = Counts::default();
        for (kind, count) in counts {
            all.add(*kind, *count);
        }
        all.to_string()
    }

    #[test]
    fn counts_read_well() {
        use WorkKind::{Connection, Main, Request, Server, Task};
        assert_eq!(text(&[(Task, 1), (Request, 2)]), "2 requests, 1 task");
        assert_eq!(text(&[(Connection, 3), (Server, 1), (Main, 1)]), "3 connections");
        assert_eq!(text(&[(Server, 2)]), "2 servers");
        assert_eq!(text(&[(Server, 1)]), "1 server");
        assert_eq!(text(&[(Server, 1), (Main, 1)]), "main");
        assert_eq!(text(&[]), "nothing");
    }

    #[test]
    fn each_kind_has_its_place() {
        for (place, (kind, _)) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, place);
        }
    }
}
