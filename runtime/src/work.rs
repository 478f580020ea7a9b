//! Everything the drain waits for, in one place: counted, and listed so that it can be named.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::{
    in_flight::InFlight,
    pending::Pending,
    registry::{Key, Registry},
};

/// A piece of work: a connection, a task, a server, `main`.
pub(crate) trait Piece: Send + Sync {
    /// Says what runs in it at `now`; a quiet connection says nothing but that it is there.
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>);

    /// What it counts as in messages and in the report.
    fn kind(&self) -> Kind;

    /// How many requests run in it.
    fn requests(&self) -> usize {
        0
    }

    /// The drain has started: wakes whoever has to act on it.
    fn drain(&self) {}

    /// The limit has cut the drain: ends the work as far as that can be done from outside.
    fn cut(&self) {}

    /// Whether it has come to its end by itself, whatever the cut did meanwhile.
    fn has_ended(&self) -> bool;

    /// Takes out of `described`, which is what `describe` said at `then`, just before the cut, whatever came to its
    /// end by itself all the same.
    fn forget_ended(&self, _then: Instant, described: &mut Vec<InFlight>) {
        if self.has_ended() {
            described.clear();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connection,
    Task,
    /// Waited for, but nothing that a report counts.
    Server,
    /// As a server.
    Main,
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
    /// Said only where there is nothing else to say.
    pub(crate) servers: usize,
    pub(crate) main: bool,
}

impl Counts {
    /// Whether nobody is waited for but the program itself.
    pub(crate) fn is_nothing(self) -> bool {
        self.connections + self.requests + self.tasks == 0
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all =
            [(self.requests, "request"), (self.connections, "connection"), (self.tasks, "task")];
        let mut some = all.iter().filter(|(count, _)| *count > 0).peekable();
        if some.peek().is_none() {
            return match (self.main, self.servers) {
                (true, _) => f.write_str("main"),
                (false, 0) => f.write_str("nothing"),
                (false, 1) => f.write_str("1 server"),
                (false, servers) => write!(f, "{servers} servers"),
            };
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

/// What ended by itself while the drain was under way.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) connections: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    pub(crate) tasks: AtomicUsize,
}

impl Drained {
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            tasks: self.tasks.load(Ordering::Relaxed),
            ..Counts::default()
        }
    }
}

/// What was under way at one moment, and where to ask what became of it.
pub(crate) struct Named {
    then: Instant,
    pieces: Vec<(Arc<dyn Piece>, Vec<InFlight>)>,
}

impl Named {
    /// Without what has come to its end by itself since; the oldest first.
    pub(crate) fn without_ended(self) -> Vec<InFlight> {
        let mut all = Vec::new();
        for (piece, mut described) in self.pieces {
            piece.forget_ended(self.then, &mut described);
            all.append(&mut described);
        }
        oldest_first(&mut all);
        all
    }
}

fn oldest_first(all: &mut [InFlight]) {
    all.sort_by_key(|work| std::cmp::Reverse(work.age()));
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
        oldest_first(&mut all);
        all
    }

    /// What a cut would cut off now. Quiet connections are closed without anybody missing anything.
    pub(crate) fn named(&self) -> Named {
        let then = Instant::now();
        let mut pieces = Vec::new();
        self.pieces.for_each(|piece| {
            let mut described = Vec::new();
            piece.describe(then, &mut described);
            described.retain(|work| !work.is_idle());
            if !described.is_empty() {
                pieces.push((piece.clone(), described));
            }
        });
        Named { then, pieces }
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.pieces.for_each(|piece| {
            match piece.kind() {
                Kind::Connection => counts.connections += 1,
                Kind::Task => counts.tasks += 1,
                Kind::Server => counts.servers += 1,
                Kind::Main => counts.main = true,
            }
            counts.requests += piece.requests();
        });
        counts
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("pending", &self.pending.count()).finish_non_exhaustive()
    }
}
