//! How much there is, and the oldest piece of it.

use std::{fmt, sync::Arc, time::Instant};

use super::{
    counts::{Counts, WorkKind},
    in_flight::{Brief, InFlight},
    table::{Work, WorkItem, sort_oldest_first},
};

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

#[cfg(all(test, not(graceful_loom)))]
mod tests {
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
                out.push(InFlight::Connection {
                    peer,
                    age,
                    state: crate::work::ConnectionState::Handling,
                });
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
