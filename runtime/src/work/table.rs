//! The table of work: everything that the drain waits for.

use std::{fmt, sync::Arc, time::Instant};

use slab::Slab;

use super::{
    counts::{AtomicCounts, Counts, WorkKind},
    in_flight::{Brief, InFlight},
    pending::Pending,
};
use crate::{
    log::Log,
    util::sync::{AtomicBool, AtomicU8, AtomicUsize, Mutex, Ordering, fence, lock},
};

#[cfg(feature = "http1")]
use std::convert::Infallible;
#[cfg(feature = "http1")]
use std::time::Duration;

/// All work of one context, or of its cleanup hooks.
///
/// The sentinel moves it from one phase to the next; work enters and leaves in any of them.
pub(crate) struct Work {
    pending: Pending,
    pub(super) items: Registry<dyn WorkItem>,
    /// A `WorkPhase`. Relaxed: the locks of the registry order it, see `seal`.
    phase: AtomicU8,
    /// Counts of the work that ended by itself while draining.
    drained: AtomicCounts,
    /// The last piece of work that ended by itself while draining.
    last: Mutex<Option<InFlight>>,
    /// How many connections have gone to the next process.
    moved: AtomicUsize,
    late: Late,
    #[cfg(feature = "http1")]
    sweep: Sweep,
    log: Log,
}

/// How long work has to be idle before it is asked to release memory: an HTTP connection releases
/// hyper's buffers of about ten thousand bytes. Getting them back costs it a few thousand
/// instructions.
#[cfg(feature = "http1")]
const IDLE: Duration = Duration::from_secs(5);

#[cfg(feature = "http1")]
struct Sweep {
    is_due: AtomicBool,
    begins: tokio::sync::Notify,
}

#[cfg(feature = "http1")]
impl Sweep {
    fn new() -> Self {
        Self { is_due: AtomicBool::new(false), begins: tokio::sync::Notify::new() }
    }
}

/// The phase of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum WorkPhase {
    Open,
    /// Ended work is counted.
    Draining,
    /// Remaining work is cut, and no new work begins.
    Sealed,
}

impl Work {
    pub(crate) fn new(log: Log) -> Self {
        Self {
            pending: Pending::new(),
            items: Registry::new(),
            phase: AtomicU8::new(WorkPhase::Open as u8),
            drained: AtomicCounts::new(),
            last: Mutex::new(None),
            moved: AtomicUsize::new(0),
            late: Late::new(),
            #[cfg(feature = "http1")]
            sweep: Sweep::new(),
            log,
        }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Counts and lists `item`. The caller must check the phase, or `is_sealed`, *afterwards*.
    pub(crate) fn add(&self, item: Arc<dyn WorkItem>) -> Key {
        self.pending.add();
        self.items.insert(item)
    }

    /// Undoes `add`.
    pub(crate) fn finished(&self, key: Key) {
        // Unlisted before it is uncounted, so that nothing is listed when nothing is pending.
        let item = self.items.remove(key);
        if self.is_draining() && item.is_drained() {
            self.drained.add(item.kind());
        }
        drop(item);
        self.pending.remove();
    }

    /// Notes that a request has been completely answered. Returns whether that was after the limit.
    pub(crate) fn request_finished(&self, which: impl FnOnce() -> InFlight) -> bool {
        if self.is_draining() {
            self.drained.add(WorkKind::Request);
            self.set_last(which());
        }
        self.is_sealed()
    }

    /// Notes that a piece of work ends by itself.
    pub(crate) fn piece_finished(&self, piece: impl FnOnce() -> InFlight) {
        if self.is_draining() {
            self.set_last(piece());
        }
    }

    fn set_last(&self, piece: InFlight) {
        *lock(&self.last) = Some(piece);
    }

    /// Notes that a connection has gone to the next process.
    pub(crate) fn piece_moved(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many connections have gone to the next process.
    pub(crate) fn moved(&self) -> usize {
        self.moved.load(Ordering::Relaxed)
    }

    /// Returns the last piece that ended by itself while draining.
    pub(crate) fn last(&self) -> Option<InFlight> {
        lock(&self.last).clone()
    }

    /// Counts work that ends from here on as drained.
    pub(crate) fn begin_drain(&self) {
        self.phase.fetch_max(WorkPhase::Draining as u8, Ordering::Relaxed);
    }

    /// Lets no new work begin. Returns the work that is still running.
    ///
    /// Work is added first, and then checks the phase. If the walk below does not find it, the walk
    /// held that shard's lock before the insertion did, so the check sees the phase.
    pub(crate) fn seal(&self) -> InFlightSnapshot {
        self.phase.fetch_max(WorkPhase::Sealed as u8, Ordering::Relaxed);
        self.snapshot()
    }

    fn is_draining(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == WorkPhase::Draining as u8
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == WorkPhase::Sealed as u8
    }

    /// Notes that some work holds memory that it will not need while idle, so that a sweep asks for
    /// it.
    #[cfg(feature = "http1")]
    pub(crate) fn begin_sweep(&self) {
        // Relaxed: the caller has a fence before this.
        if !self.sweep.is_due.load(Ordering::Relaxed)
            && !self.sweep.is_due.swap(true, Ordering::Relaxed)
        {
            self.sweep.begins.notify_one();
        }
    }

    /// Sweeps for as long as there is something to release. There is one timer for all work, on the
    /// sentinel's thread: one on a worker would make each of that worker's turns longer.
    ///
    /// `others` sweeps tables of other contexts.
    #[cfg(feature = "http1")]
    pub(crate) async fn sweep_idle(&self, others: impl Fn(Duration) -> bool) -> Infallible {
        loop {
            self.sweep.begins.notified().await;
            loop {
                tokio::time::sleep(IDLE).await;
                if !self.sweep_once(&others) {
                    break;
                }
            }
        }
    }

    /// Sweeps once. Returns whether another sweep is due.
    #[cfg(feature = "http1")]
    pub(crate) fn sweep_once(&self, others: impl Fn(Duration) -> bool) -> bool {
        // Work that begins from here on may be missed below, but sees this.
        self.sweep.is_due.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let left = self.sweep(IDLE) | others(IDLE);
        if left {
            self.sweep.is_due.store(true, Ordering::Relaxed);
        }
        left
    }

    #[cfg(all(test, graceful_loom))]
    pub(crate) fn is_sweep_due(&self) -> bool {
        self.sweep.is_due.load(Ordering::Relaxed)
    }

    /// Asks all work that has been idle for this long to release what it does not need while idle.
    /// Returns whether there is something left to release.
    #[cfg(feature = "http1")]
    pub(crate) fn sweep(&self, idle: Duration) -> bool {
        let mut left = false;
        self.items.for_each(|item| left |= item.sweep(idle));
        left
    }

    /// Wakes all work, which then checks the phase.
    pub(crate) fn wake(&self) {
        self.items.for_each(|item| item.drain());
    }

    /// Ends all work, as far as possible from outside.
    pub(crate) fn cut(&self) {
        self.items.for_each(|item| item.cut());
    }

    /// Waits until nothing is left. There may be only one waiter: the sentinel.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(crate) async fn none(&self) {
        self.pending.none().await;
    }

    pub(crate) fn is_none(&self) -> bool {
        self.pending.count() == 0
    }

    /// Stops waiting for a running piece of work for as long as the guard exists; it stays listed.
    /// Whoever drops the guard must check the phase *afterwards*.
    #[cfg(feature = "net")]
    pub(crate) fn not_awaited(&self) -> NotAwaited<'_> {
        self.late.count.fetch_add(1, Ordering::Relaxed);
        self.pending.remove();
        NotAwaited(self)
    }

    /// Returns whether this is the first call, for the first piece of work that is not waited for.
    /// The caller then starts the watch that calls `end_late`.
    #[cfg(feature = "net")]
    pub(crate) fn begins_to_be_late(&self) -> bool {
        !self.late.is_watched.swap(true, Ordering::Relaxed)
    }

    /// Returns whether a connection is open that is not late.
    #[cfg(feature = "net")]
    pub(crate) fn is_serving(&self) -> bool {
        // In this order, a connection that stops being late in between counts as served.
        self.counts().connections() > self.late.count.load(Ordering::Relaxed)
    }

    /// Ends all late connections, including future ones.
    #[cfg(feature = "net")]
    pub(crate) fn end_late(&self) {
        self.late.is_over.store(true, Ordering::Release);
        self.wake();
    }

    #[cfg(feature = "net")]
    pub(crate) fn has_ended_late(&self) -> bool {
        self.late.is_over.load(Ordering::Acquire)
    }

    /// Returns the work of one context, for the limit of its group.
    pub(crate) fn of_context(&self, context: usize) -> Vec<Arc<dyn WorkItem>> {
        let mut all = Vec::new();
        self.items.for_each(|item| {
            if item.context() == Some(context) {
                all.push(item.clone());
            }
        });
        all
    }

    /// Returns the running work, oldest first.
    pub(crate) fn in_flight(&self) -> Vec<InFlight> {
        let now = Instant::now();
        let mut all = Vec::new();
        self.items.for_each(|item| item.describe(now, &mut all));
        sort_oldest_first(&mut all);
        all
    }

    /// Returns the work that a cut would cut off now. Idle connections are left out, because they
    /// are closed without loss.
    fn snapshot(&self) -> InFlightSnapshot {
        let then = Instant::now();
        let mut items = Vec::new();
        self.items.for_each(|item| {
            let mut described = Vec::new();
            item.describe(then, &mut described);
            described.retain(|work| !work.is_idle());
            if !described.is_empty() {
                items.push((item.clone(), described));
            }
        });
        InFlightSnapshot { then, items }
    }

    /// Returns how much work of each kind there is.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.items.for_each(|item| {
            counts.add(item.kind(), 1);
            counts.add(WorkKind::Request, item.requests());
        });
        counts
    }

    /// Returns how much work ended by itself while draining.
    pub(crate) fn drained(&self) -> Counts {
        self.drained.counts()
    }
}

/// The connections that the drain does not wait for.
struct Late {
    count: AtomicUsize,
    is_watched: AtomicBool,
    is_over: AtomicBool,
}

impl Late {
    fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            is_watched: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }
}

/// A connection that the drain does not wait for.
#[cfg(feature = "net")]
pub(crate) struct NotAwaited<'a>(&'a Work);

#[cfg(feature = "net")]
impl Drop for NotAwaited<'_> {
    fn drop(&mut self) {
        self.0.pending.add();
        self.0.late.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("pending", &self.pending.count()).finish_non_exhaustive()
    }
}

/// The running work at one moment, with handles to find out what became of it.
#[derive(Clone)]
pub(crate) struct InFlightSnapshot {
    then: Instant,
    items: Vec<(Arc<dyn WorkItem>, Vec<InFlight>)>,
}

impl InFlightSnapshot {
    /// Returns the work that has not ended by itself since, oldest first.
    pub(crate) fn without_ended(self) -> Vec<InFlight> {
        let mut all = Vec::new();
        for (item, mut described) in self.items {
            item.forget_ended(self.then, &mut described);
            all.append(&mut described);
        }
        sort_oldest_first(&mut all);
        all
    }
}

pub(super) fn sort_oldest_first(all: &mut [InFlight]) {
    all.sort_by_key(|work| std::cmp::Reverse(work.age()));
}

// The interface of a piece of work.

/// A piece of work: a connection, a task, a server, `main`.
pub(crate) trait WorkItem: Send + Sync {
    /// Describes what is running in it at `now`; an idle connection describes itself as idle.
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>);

    /// Returns when the oldest work in it started; `None` if it is idle. Formats no text.
    fn oldest(&self) -> Option<Instant>;

    fn kind(&self) -> WorkKind;

    /// Returns how many requests are running in it.
    fn requests(&self) -> usize {
        0
    }

    /// Releases what is not needed while idle, if it has been idle for this long. Returns whether
    /// there is something left to release.
    #[cfg(feature = "http1")]
    fn sweep(&self, _idle: Duration) -> bool {
        false
    }

    /// Wakes the task that has to act on the start of the drain.
    fn drain(&self) {}

    /// Ends the work at the limit, as far as possible from outside.
    fn cut(&self) {}

    /// Returns which context it belongs to, if that matters: its address.
    fn context(&self) -> Option<usize> {
        None
    }

    /// Returns whether it has ended by itself, whatever the cut did meanwhile.
    fn has_ended(&self) -> bool;

    /// Returns whether it counts as drained, now that it is over and the limit has not cut
    /// anything.
    fn is_drained(&self) -> bool {
        true
    }

    /// Removes from `described`, the output of `describe` at `then`, just before the cut, whatever
    /// ended by itself nevertheless.
    fn forget_ended(&self, _then: Instant, described: &mut Vec<InFlight>) {
        if self.has_ended() {
            described.clear();
        }
    }
}

// The table of work in flight, so that it can be named, woken and aborted.

/// A power of two. With several shards, accepting and closing on different threads rarely meet on
/// one lock.
#[cfg(not(graceful_loom))]
const SHARDS: usize = 8;
#[cfg(graceful_loom)]
const SHARDS: usize = 2;

/// Entries behind a few independent locks. Locked to insert, to remove and to walk over everything,
/// never per request or per poll.
///
/// It owns one reference to each entry from `insert` to `remove`. Its memory grows with the largest
/// number of entries at any one time, not with the number of insertions.
#[derive(Debug)]
pub(crate) struct Registry<T: ?Sized> {
    shards: [Shard<T>; SHARDS],
    next: AtomicUsize,
}

/// A lock on its own cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Shard<T: ?Sized>(Mutex<Slab<Arc<T>>>);

/// The key of an entry, to remove it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(usize);

impl Key {
    /// Returns its number: at any one time, those in use are small and differ.
    pub(crate) fn number(self) -> usize {
        self.0
    }
}

impl<T: ?Sized> Registry<T> {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard(Mutex::new(Slab::new()))),
            // Relaxed in `insert`: it only spreads the load.
            next: AtomicUsize::new(0),
        }
    }

    pub(crate) fn insert(&self, entry: Arc<T>) -> Key {
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        Key(lock(&self.shards[shard].0).insert(entry) * SHARDS + shard)
    }

    pub(crate) fn remove(&self, key: Key) -> Arc<T> {
        lock(&self.shards[key.0 % SHARDS].0).remove(key.0 / SHARDS)
    }

    /// Calls `f` with each entry, outside of the locks, because `f` may wake, abort or drop work
    /// that removes itself from this registry.
    ///
    /// An entry inserted meanwhile may be missed. Its inserter checks the phase *after* the
    /// insertion; the lock orders that check after the phase change that started this walk.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&Arc<T>)) {
        for shard in &self.shards {
            let entries: Vec<_> = lock(&shard.0).iter().map(|(_, entry)| entry.clone()).collect();
            entries.iter().for_each(&mut f);
        }
    }
}

// How much work there is, and its oldest piece.

impl Work {
    /// Returns how much work of each kind there is, and its oldest piece. Only the connection or
    /// task with that piece is described. Requests and connections come first: a task that runs as
    /// long as the program is always the oldest, but seldom the one that matters. Servers and
    /// `main` qualify only if there is nothing else.
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

/// The order in which work is named.
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

/// Displays `; oldest: GET /export from 10.0.0.7, 12s`, if there is one that says more than the
/// counts.
pub(crate) struct Oldest<'a>(pub(crate) Option<&'a InFlight>);

impl fmt::Display for Oldest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None | Some(InFlight::Main { .. }) => Ok(()),
            Some(oldest) => write!(f, "; oldest: {}", Brief(oldest)),
        }
    }
}

#[cfg(all(test, graceful_loom))]
mod loom_models {
    use std::time::{Duration, Instant};

    use loom::thread;

    use super::{super::counts::WorkKind, InFlight, Work, WorkItem};
    use crate::log::Log;

    /// A task that never ends.
    struct Task;

    impl WorkItem for Task {
        fn describe(&self, _: Instant, out: &mut Vec<InFlight>) {
            out.push(InFlight::Main { age: Duration::ZERO, asked: true });
        }

        fn oldest(&self) -> Option<Instant> {
            None
        }

        fn kind(&self) -> WorkKind {
            WorkKind::Task
        }

        fn has_ended(&self) -> bool {
            false
        }
    }

    /// A task is spawned while the limit is reached: it is named, or it does not begin.
    #[test]
    fn loom_what_begins_at_the_limit_is_named_or_turned_away() {
        loom::model(|| {
            let work = std::sync::Arc::new(Work::new(Log::closed()));
            let spawning = {
                let work = work.clone();
                thread::spawn(move || {
                    let key = work.add(std::sync::Arc::new(Task));
                    (key, !work.is_sealed())
                })
            };
            let snapshot = work.seal();
            let (key, begins) = spawning.join().unwrap();
            assert!(!begins || snapshot.without_ended().len() == 1, "begun, and not named");
            work.finished(key);
        });
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

    /// A task that has been running for this many seconds.
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

    /// A task that runs as long as the program hides no request.
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
