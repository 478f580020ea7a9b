//! Writes messages on a separate thread, so that a terminal or pipe that accepts no more data, or a
//! lock on stderr that is never released, cannot hold up the exit.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::util::{
    sync::{lock_std, unpoisoned},
    threads,
};

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs in the order of `push`. The thread exists from the start until `close`, so that no
/// message has to wait for one. A job pushed after that gets a temporary thread.
#[derive(Clone)]
pub(crate) struct Writer(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    /// A job begins, or all are done.
    progress: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    /// When the job that is running began.
    began: Option<Instant>,
    /// Whether a job is running or waiting.
    busy: bool,
    /// Whether there is a thread.
    thread: bool,
    /// Whether the thread stays when there is nothing to write.
    open: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock_std(&self.queue)
    }

    fn run(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                queue.began = Some(Instant::now());
                drop(queue);
                self.progress.notify_all();
                // A subscriber that panics loses its message, not the ones that follow.
                drop(catch_unwind(AssertUnwindSafe(job)));
                queue = self.lock();
                queue.began = None;
                continue;
            }
            queue.busy = false;
            self.progress.notify_all();
            if !queue.open {
                queue.thread = false;
                return;
            }
            queue = unpoisoned(self.more.wait(queue));
        }
    }
}

impl Writer {
    /// # Errors
    ///
    /// Returns an error if the thread cannot be spawned.
    pub(crate) fn start() -> io::Result<Self> {
        let writer = Self::with(true);
        writer.spawn()?;
        Ok(writer)
    }

    /// `thread` is whether there is a thread, which stays.
    fn with(thread: bool) -> Self {
        let jobs = VecDeque::new();
        let queue = Queue { jobs, began: None, busy: false, thread, open: thread };
        let (more, progress) = (Condvar::new(), Condvar::new());
        Self(Arc::new(Shared { queue: Mutex::new(queue), more, progress }))
    }

    /// Creates a writer without a thread, until the first `push`.
    #[cfg(test)]
    pub(crate) fn closed() -> Self {
        Self::with(false)
    }

    fn spawn(&self) -> io::Result<()> {
        let shared = self.0.clone();
        threads::spawn("graceful-log", move || shared.run())
    }

    pub(crate) fn push(&self, job: Job) {
        let mut queue = self.0.lock();
        queue.jobs.push_back(job);
        queue.busy = true;
        if queue.thread {
            self.0.more.notify_one();
            return;
        }
        // A message after `close`.
        queue.thread = true;
        drop(queue);
        if self.spawn().is_err() {
            // It could only be written on this thread, and might block it forever.
            let mut queue = self.0.lock();
            (queue.busy, queue.thread) = (false, false);
            queue.jobs.clear();
            self.0.progress.notify_all();
        }
    }

    /// Ends the thread once everything is written, which is when the future resolves.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect the thread.
    pub(crate) fn close(&self) -> impl Future<Output = ()> + use<> {
        let (written, is_written) = oneshot::channel();
        self.push(Box::new(move || {
            // The receiver may have been dropped.
            let _ = written.send(());
        }));
        self.0.lock().open = false;
        self.0.more.notify_one();
        async move { drop(is_written.await) }
    }

    /// Waits until everything is written, without a runtime. Gives up once a single write has taken
    /// `limit`, because then nobody is reading. A message that the thread has not started to write
    /// is only waiting for a CPU, which can take longer than that on a busy machine.
    pub(crate) fn flush(&self, limit: Duration) {
        let starved = Instant::now() + threads::STARVED;
        let mut queue = self.0.lock();
        while queue.busy {
            let until = queue.began.map_or(starved, |began| starved.min(began + limit));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = unpoisoned(self.0.progress.wait_timeout(queue, left)).0;
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

// Lines on stderr, and the live line of a terminal.

/// Whether the next write has to wipe the line of the cursor.
static LIVE: AtomicBool = AtomicBool::new(false);

/// Moves to the first column and erases the line ("erase in line", ECMA-48, section 8.3.41).
const WIPE: &str = "\r\x1b[2K";

/// Writes a line with a single write, as far as the system takes it, so that output of the program
/// does not come in between.
pub(super) fn write(line: &str) {
    let wipe = if LIVE.swap(false, Ordering::Relaxed) { WIPE } else { "" };
    // If stderr is gone, there is no other place to report it.
    let _ = io::stderr().write_all(format!("{wipe}{line}\n").as_bytes());
}

/// Rewrites the live line; an empty line wipes it.
pub(super) fn write_live(line: &str) {
    let text = match line {
        "" => String::new(),
        line => live_line(line),
    };
    let was_live = LIVE.swap(!line.is_empty(), Ordering::Relaxed);
    if was_live || !line.is_empty() {
        let mut stderr = io::stderr().lock();
        // If the terminal is gone, there is nobody to show it to.
        let _ = write!(stderr, "{WIPE}{text}").and_then(|()| stderr.flush());
    }
}

/// Returns the line with wrapping at the right margin switched off (DECAWM), so that there is just
/// one line to wipe.
///
/// Then the cursor moves to the right margin and writes a blank there: the next printed character,
/// which may be the program's own, begins a new line, while a CR stays on this one.
fn live_line(line: &str) -> String {
    format!("\x1b[?7l{line}\x1b[?7h\x1b[999C ")
}

/// Notes that the terminal has echoed the key that sent a signal.
pub(super) fn key_echoed() {
    if io::stderr().is_terminal() {
        LIVE.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn writes_in_order_and_flush_waits() {
        let (writer, (tx, rx)) = (Writer::start().unwrap(), mpsc::channel());
        for i in 0..100 {
            let tx = tx.clone();
            writer.push(Box::new(move || tx.send(i).unwrap()));
        }
        writer.flush(Duration::from_secs(10));
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_stuck_write_does_not_hold_the_flush() {
        let writer = Writer::start().unwrap();
        let (_never, stuck) = mpsc::channel::<()>();
        writer.push(Box::new(move || assert!(stuck.recv().is_err())));
        writer.flush(Duration::from_millis(1));
    }

    /// As on a machine with more to do than it has processors.
    #[test]
    fn a_flush_waits_for_a_thread_that_has_not_had_its_turn() {
        let (writer, (tx, rx)) = (Writer::with(true), mpsc::channel());
        writer.push(Box::new(|| {}));
        let late = writer.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            tx.send("has its turn").unwrap();
            late.0.run();
        });
        let start = Instant::now();
        writer.flush(Duration::from_millis(1));
        assert!(rx.try_recv().is_ok() || start.elapsed() >= threads::STARVED);
    }

    #[test]
    fn a_panic_loses_one_message_only() {
        let (writer, (tx, rx)) = (Writer::start().unwrap(), mpsc::channel());
        writer.push(Box::new(|| panic!("subscriber")));
        writer.push(Box::new(move || tx.send(1).unwrap()));
        writer.flush(Duration::from_secs(10));
        assert_eq!(rx.recv(), Ok(1));
    }

    #[test]
    fn the_thread_ends_with_close_and_comes_back_for_what_is_said_later() {
        let (writer, (tx, rx)) = (Writer::start().unwrap(), mpsc::channel());
        drop(writer.close());
        writer.flush(Duration::from_secs(10));
        let has_thread = || writer.0.lock().thread;
        while has_thread() {
            std::thread::yield_now();
        }
        writer.push(Box::new(move || tx.send(1).unwrap()));
        assert_eq!(rx.recv(), Ok(1));
        while has_thread() {
            std::thread::yield_now();
        }
    }
}
