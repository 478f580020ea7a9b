//! Writes messages on a thread of its own, so that a terminal or pipe that takes nothing more, or a
//! lock on stderr that somebody holds for good, cannot hold the exit.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

type Job = Box<dyn FnOnce() + Send>;

/// How long the thread stays when there is nothing to write: the report of a stop does not have to wait
/// for a new one.
const STAY: Duration = Duration::from_secs(30);

/// Writes in the order of `push`. The thread exists from the first message on, and for a while longer.
#[derive(Clone, Default)]
pub(crate) struct Writer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    idle: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Whether a job is being run or waits for its turn.
    busy: bool,
    /// Whether there is a thread.
    thread: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_here(&self) {
        while let Some(job) = { self.lock().jobs.pop_front() } {
            job();
        }
        let mut queue = self.lock();
        (queue.busy, queue.thread) = (false, false);
    }

    fn run(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                // A subscriber that panics loses its message, not the ones that follow.
                drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)));
                queue = self.lock();
                continue;
            }
            queue.busy = false;
            self.idle.notify_all();
            let waited = self.more.wait_timeout_while(queue, STAY, |queue| queue.jobs.is_empty());
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            if queue.jobs.is_empty() {
                queue.thread = false;
                return;
            }
        }
    }
}

impl Writer {
    pub(crate) fn push(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.0.lock();
        queue.jobs.push_back(Box::new(job));
        queue.busy = true;
        if queue.thread {
            self.0.more.notify_one();
            return;
        }
        queue.thread = true;
        drop(queue);
        let shared = self.0.clone();
        let thread = std::thread::Builder::new().name("graceful-log".to_owned());
        if thread.spawn(move || shared.run()).is_err() {
            // No thread to be had: better said here, at the risk of waiting, than not at all.
            self.0.write_here();
        }
    }

    /// Waits until all is written, for `limit` at the most.
    pub(crate) fn flush(&self, limit: Duration) {
        let queue = self.0.lock();
        drop(self.0.idle.wait_timeout_while(queue, limit, |queue| queue.busy));
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn writes_in_order_and_flush_waits() {
        let (writer, (tx, rx)) = (Writer::default(), mpsc::channel());
        for i in 0..100 {
            let tx = tx.clone();
            writer.push(move || tx.send(i).unwrap());
        }
        writer.flush(Duration::from_secs(10));
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_stuck_write_does_not_hold_the_flush() {
        let writer = Writer::default();
        let (_never, stuck) = mpsc::channel::<()>();
        writer.push(move || assert!(stuck.recv().is_err()));
        writer.flush(Duration::from_millis(1));
    }

    #[test]
    fn a_panic_loses_one_message_only() {
        let (writer, (tx, rx)) = (Writer::default(), mpsc::channel());
        writer.push(|| panic!("subscriber"));
        writer.push(move || tx.send(1).unwrap());
        writer.flush(Duration::from_secs(10));
        assert_eq!(rx.recv(), Ok(1));
    }
}
