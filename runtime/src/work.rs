//! Everything the drain waits for, in one place: counted, and listed so that it can be named.

use std::{sync::Arc, time::Instant};

use crate::{
    in_flight::InFlight,
    pending::Pending,
    registry::{Key, Registry},
};

/// A piece of work: a connection, a task, a server, `main`.
pub(crate) trait Piece: Send + Sync {
    /// Says what runs in it at `now`; a quiet connection says nothing but that it is there.
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>);

    /// What it counts as in the report.
    fn kind(&self) -> Kind;

    /// The drain has started: wakes whoever has to act on it.
    fn drain(&self) {}

    /// The limit has cut the drain: ends the work as far as that can be done from outside.
    fn cut(&self) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connection,
    Task,
    /// Waited for, but nothing that a report counts: servers and `main`.
    Other,
}

/// All work of one context.
pub(crate) struct Work {
    pending: Pending,
    pieces: Registry<dyn Piece>,
}

/// Work of this kind that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    pub(crate) tasks: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all =
            [(self.requests, "request"), (self.connections, "connection"), (self.tasks, "task")];
        let mut some = all.iter().filter(|(count, _)| *count > 0).peekable();
        if some.peek().is_none() {
            return f.write_str("nothing counted");
        }
        while let Some((count, what)) = some.next() {
            write!(f, "{count} {what}{}", if *count == 1 { "" } else { "s" })?;
            if some.peek().is_some() {
                f.write_str(", ")?;
            }
        }
        Ok(())
    }
}

impl Work {
    pub(crate) fn new() -> Self {
        Self { pending: Pending::new(), pieces: Registry::new() }
    }

    /// Counts and lists `piece`. Whoever calls this looks at the phase *afterwards*.
    pub(crate) fn add(&self, piece: Arc<dyn Piece>) -> Key {
        self.pending.add();
        self.pieces.insert(piece)
    }

    /// Undoes `add`.
    pub(crate) fn remove(&self, key: Key) {
        // Unlisted before it is uncounted: when nothing is pending, nothing is listed.
        drop(self.pieces.remove(key));
        self.pending.remove();
    }

    /// Resolves while nothing is left. One waiter: the sentinel.
    pub(crate) async fn none(&self) {
        self.pending.none().await;
    }

    pub(crate) fn is_none(&self) -> bool {
        self.pending.count() == 0
    }

    pub(crate) fn drain(&self) {
        self.pieces.for_each(|piece| piece.drain());
    }

    pub(crate) fn cut(&self) {
        self.pieces.for_each(|piece| piece.cut());
    }

    /// What runs now, the oldest first.
    pub(crate) fn in_flight(&self) -> Vec<InFlight> {
        let now = Instant::now();
        let mut all = Vec::new();
        self.pieces.for_each(|piece| piece.describe(now, &mut all));
        all.sort_by_key(|work| std::cmp::Reverse(work.age()));
        all
    }

    pub(crate) fn counts(&self) -> Counts {
        let now = Instant::now();
        let mut counts = Counts::default();
        let mut described = Vec::new();
        self.pieces.for_each(|piece| match piece.kind() {
            Kind::Connection => {
                counts.connections += 1;
                described.clear();
                piece.describe(now, &mut described);
                counts.requests += described.iter().filter(|it| it.is_request()).count();
            }
            Kind::Task => counts.tasks += 1,
            Kind::Other => {}
        });
        counts
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("pending", &self.pending.count()).finish_non_exhaustive()
    }
}
