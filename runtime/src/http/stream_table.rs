//! The streams of an HTTP/2 connection, and the tasks that hyper runs for them. Only they share its
//! lock.

use std::{task::Waker, time::Instant};

use http::{Method, uri::PathAndQuery};
use slab::Slab;

use crate::{
    net::clock,
    util::sync::{AtomicUsize, Mutex, Ordering, lock},
    work::{InFlight, Progress},
};

#[derive(Debug, Default)]
pub(crate) struct StreamTable {
    table: Mutex<Table>,
    /// How many streams are open on the wire, as last reported by the connection's own task.
    open: AtomicUsize,
    /// How many requests are kept until `open` shows that their last bytes are written.
    unwritten: AtomicUsize,
}

#[derive(Debug, Default)]
struct Table {
    requests: Slab<Request>,
    /// The tasks that wait for something; most requests are answered in the first poll of theirs.
    waiting: Slab<Waker>,
    /// Requests that were fully answered although the cut had come; kept for the report.
    late: Vec<Request>,
}

#[derive(Debug)]
struct Request {
    method: Method,
    /// `None` if it has none, as with CONNECT.
    path: Option<PathAndQuery>,
    /// By `clock`.
    since: u64,
    responding: bool,
    upgraded: bool,
    /// Whether its task has ended; h2 may still hold unwritten data of it.
    unwritten: bool,
}

impl StreamTable {
    pub(crate) fn opened(&self, method: Method, path: Option<PathAndQuery>) -> usize {
        let since = clock::now();
        let request =
            Request { method, path, since, responding: false, upgraded: false, unwritten: false };
        lock(&self.table).requests.insert(request)
    }

    pub(crate) fn responds(&self, stream: usize, upgraded: bool) {
        let mut table = lock(&self.table);
        let request = &mut table.requests[stream];
        request.responding = true;
        request.upgraded = upgraded;
    }

    /// Returns whether nothing is left. `late` is whether its response was completed after the cut.
    pub(crate) fn closed(&self, stream: usize, late: bool) -> bool {
        let mut table = lock(&self.table);
        let request = table.requests.remove(stream);
        if late {
            table.late.push(request);
        }
        table.requests.is_empty()
    }

    /// Called when the task of an upgraded stream has ended; h2 may still hold unwritten data of
    /// it. Returns the streams that are completely written.
    pub(crate) fn upgrade_ended(&self, stream: usize) -> Vec<usize> {
        let mut table = lock(&self.table);
        table.requests[stream].unwritten = true;
        // Sequentially consistent, as in `set_open`: whichever of the two updates comes later sees
        // the other.
        self.unwritten.fetch_add(1, Ordering::SeqCst);
        self.written_of(&mut table)
    }

    /// Notes how many streams are open on the wire. Returns whether that may have been the last of
    /// a stream passed to `upgrade_ended`.
    #[inline]
    pub(crate) fn set_open(&self, open: usize) -> bool {
        self.open.store(open, Ordering::SeqCst);
        self.unwritten.load(Ordering::SeqCst) > 0
    }

    /// Takes the streams passed to `upgrade_ended` that are completely written.
    pub(crate) fn take_written(&self) -> Vec<usize> {
        self.written_of(&mut lock(&self.table))
    }

    /// Takes all streams that have ended, once no more streams are open than there are others.
    fn written_of(&self, table: &mut Table) -> Vec<usize> {
        let ended = table.requests.iter().filter(|(_, request)| request.unwritten);
        let ended: Vec<usize> = ended.map(|(stream, _)| stream).collect();
        let others = table.requests.len() - ended.len();
        if self.open.load(Ordering::SeqCst) > others {
            return Vec::new();
        }
        for stream in &ended {
            table.requests[*stream].unwritten = false;
        }
        self.unwritten.fetch_sub(ended.len(), Ordering::SeqCst);
        ended
    }

    /// How many requests there are; upgraded streams do not count.
    pub(crate) fn requests(&self) -> usize {
        lock(&self.table).requests.iter().filter(|(_, request)| !request.upgraded).count()
    }

    /// When the oldest request began.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let first = lock(&self.table).requests.iter().map(|(_, request)| request.since).min();
        first.map(clock::instant)
    }

    pub(crate) fn describe_one(&self, stream: usize, peer: &str, now: Instant) -> InFlight {
        lock(&self.table).requests[stream].describe(peer, now)
    }

    /// Removes the requests that were answered late from `described`, which was made at `then`.
    pub(crate) fn forget_ended(&self, peer: &str, then: Instant, described: &mut Vec<InFlight>) {
        for late in &lock(&self.table).late {
            // Compare path and age, which no two share; the response may have begun since.
            let late = late.describe(peer, then);
            described.retain(|it| it.age() != late.age() || !it.is_same_path(&late));
        }
    }

    /// Has the cut wake a task that waits. Returns its place.
    pub(crate) fn task_waits(&self, waker: &Waker) -> usize {
        lock(&self.table).waiting.insert(waker.clone())
    }

    pub(crate) fn task_ended(&self, place: usize) {
        lock(&self.table).waiting.remove(place);
    }

    pub(crate) fn wake_tasks(&self) {
        // Outside the lock: a waker may drop its task.
        let waiting: Vec<_> =
            lock(&self.table).waiting.iter().map(|(_, waker)| waker.clone()).collect();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether a stream is still being worked on, or its response is not completely written.
    pub(crate) fn is_busy(&self) -> bool {
        !lock(&self.table).requests.is_empty()
    }

    pub(crate) fn describe(&self, peer: &str, now: Instant, out: &mut Vec<InFlight>) {
        let table = lock(&self.table);
        out.extend(table.requests.iter().map(|(_, request)| request.describe(peer, now)));
    }
}

/// The longest path to show: a path may be as long as a head.
const LONGEST: usize = 120;

fn shortened(path: &str) -> String {
    match path.char_indices().nth(LONGEST) {
        None => path.to_owned(),
        Some((end, _)) => format!("{}…", &path[..end]),
    }
}

impl Request {
    fn describe(&self, peer: &str, now: Instant) -> InFlight {
        let peer = peer.to_owned();
        let age = now.saturating_duration_since(clock::instant(self.since));
        let path = shortened(self.path.as_ref().map_or("", PathAndQuery::path));
        if self.upgraded {
            return InFlight::Upgraded { path, peer, age };
        }
        let method = self.method.to_string();
        let progress = if self.responding { Progress::Responding } else { Progress::NoResponse };
        InFlight::Request { method, path, peer, age, progress }
    }
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_cut_short() {
        assert_eq!(shortened("/short"), "/short");
        let long = shortened(&"é".repeat(200));
        assert_eq!((long.chars().count(), long.chars().last()), (LONGEST + 1, Some('…')));
    }
}
