//! How much work there is of each kind, in numbers and in words.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::{
    in_flight::{Brief, InFlight},
    table::WorkItem,
    table::{Work, sort_oldest_first},
};

/// What a piece of work counts as in messages and in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkKind {
    Request,
    Connection,
    Task,
    /// Waited for, but nothing that a report counts.
    Server,
    /// As a server.
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
    /// Whether it is work of the program's clients or tasks, and not the program itself.
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

    /// Whether there is nothing to wait for but the program itself.
    pub(crate) fn is_nothing(self) -> bool {
        KINDS.iter().all(|(kind, _)| !kind.is_counted() || self.of(*kind) == 0)
    }
}

impl fmt::Display for Counts {
    /// `2 requests, 1 task`; servers and `main` are said only where there is nothing else to say.
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

/// Counts that any thread adds to.
#[derive(Debug)]
pub(crate) struct AtomicCounts([AtomicUsize; KINDS.len()]);

impl AtomicCounts {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicUsize::new(0)))
    }

    pub(crate) fn add(&self, kind: WorkKind) {
        // Relaxed: read once all that counts has ended, which the wait for that orders.
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|kind| self.0[kind].load(Ordering::Relaxed)))
    }
}

// How much there is, and the oldest piece of it.

impl Work {
    /// How much there is of each kind, and the oldest piece of it: that connection or task alone is
    /// described.
    /// Requests and connections come first: a task that runs for as long as the program is always the
    /// oldest, and is seldom what matters. Servers and `main` are one only where there is nothing else.
    pub(crate) fn overview(&self) -> (Counts, Option<InFlight>) {
        let mut counts = Counts::default();
        let mut oldest: Option<((WorkRank, Instant), Arc<dyn WorkItem>)> = None;
        self.items.for_each(|item| {
            counts.add(item.kind(), 1);
            counts.add(WorkKind::Request, item.requests());
            if let Some(since) = item.oldest() {
                let rank = (WorkRank::of(item.kind()), since);
                if oldest.as_ref().is_none_or(|(first, _)| rank < *first) {
                    oldest = Some((rank, item.clone()));
                }
            }
        });
        let mut described = Vec::new();
        if let Some(((rank, _), item)) = oldest
            && (rank != WorkRank::Program || counts.is_nothing())
        {
            item.describe(Instant::now(), &mut described);
        }
        described.retain(|work| !work.is_idle());
        sort_oldest_first(&mut described);
        (counts, described.into_iter().next())
    }
}

/// What is named first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum WorkRank {
    Client,
    Task,
    Program,
}

impl WorkRank {
    fn of(kind: WorkKind) -> Self {
        match kind {
            WorkKind::Request | WorkKind::Connection => Self::Client,
            WorkKind::Task => Self::Task,
            WorkKind::Server | WorkKind::Main => Self::Program,
        }
    }
}

/// `; oldest: GET /export from 10.0.0.7, 12s`, if there is one that says more than the counts.
pub(crate) struct Oldest<'a>(pub(crate) Option<&'a InFlight>);

impl fmt::Display for Oldest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None | Some(InFlight::Main { .. }) => Ok(()),
            Some(oldest) => write!(f, "; oldest: {}", Brief(oldest)),
        }
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

#[cfg(all(test, not(graceful_loom)))]
mod overview_tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::log::Log;

    static DESCRIBED: AtomicUsize = AtomicUsize::new(0);

    /// A task that has been running for so many seconds.
    struct Task(Instant, u64);

    impl WorkItem for Task {
        fn describe(&self, _: Instant, out: &mut Vec<InFlight>) {
            DESCRIBED.fetch_add(1, Ordering::Relaxed);
            out.push(InFlight::Task { name: "task".into(), age: Duration::from_secs(self.1) });
        }

        fn oldest(&self) -> Option<Instant> {
            self.0.checked_sub(Duration::from_secs(self.1))
        }

        fn kind(&self) -> WorkKind {
            WorkKind::Task
        }

        fn has_ended(&self) -> bool {
            false
        }
    }

    /// A task that runs for as long as the program hides no request.
    #[test]
    fn a_connection_comes_before_a_task_that_is_older() {
        struct Connection(Instant);
        impl WorkItem for Connection {
            fn describe(&self, _: Instant, out: &mut Vec<InFlight>) {
                let (peer, age) = ("a client".into(), Duration::from_secs(1));
                out.push(InFlight::Connection { peer, age, doing: crate::work::Doing::Handling });
            }
            fn oldest(&self) -> Option<Instant> {
                Some(self.0)
            }
            fn kind(&self) -> WorkKind {
                WorkKind::Connection
            }
            fn has_ended(&self) -> bool {
                false
            }
        }
        let (work, now) = (Work::new(Log::closed()), Instant::now());
        work.add(Arc::new(Task(now, 3_600)));
        work.add(Arc::new(Connection(now)));
        let (_, oldest) = work.overview();
        assert!(matches!(oldest, Some(InFlight::Connection { .. })), "{oldest:?}");
    }

    #[test]
    fn of_all_the_work_the_oldest_piece_alone_is_described() {
        let (work, now) = (Work::new(Log::closed()), Instant::now());
        for age in [3, 1000, 7].into_iter().chain(0..500) {
            work.add(Arc::new(Task(now, age)));
        }
        let (counts, oldest) = work.overview();
        assert_eq!((counts.tasks(), oldest.unwrap().age().as_secs()), (503, 1000));
        assert_eq!(DESCRIBED.load(Ordering::Relaxed), 1);
    }
}
