//! Threads: spawning them, whether the system allows any more, running code that would block a
//! worker, and a channel that blocks.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, RwLock},
    thread,
    time::{Duration, Instant},
};

use super::sync::{lock_std, unpoisoned};

/// How long the end of a program waits for a thread that may not get a CPU, on a busy machine. It
/// does so up to three times, within the second that a stop has for its last steps.
pub(crate) const STARVED: Duration = Duration::from_millis(300);

/// Spawns a thread. Boxed: what std makes for each type of closure is larger than most of ours.
///
/// # Errors
///
/// Returns an error if the thread cannot be spawned; `f` is dropped then.
pub(crate) fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let f: Box<dyn FnOnce() + Send> = Box::new(f);
    thread::Builder::new().name(name.to_owned()).spawn(f).map(drop)
}

/// Runs `f` on a separate thread. Code that may block must neither block a worker nor run in a pool
/// that the end of a runtime waits for.
///
/// # Errors
///
/// Returns an error if the thread cannot be spawned, or if `f` panics.
///
/// # Cancel safety
///
/// Dropping the future does not affect the thread.
#[cfg(any(feature = "handover", feature = "probes", feature = "tls"))]
pub(crate) async fn on_own_thread<T: Send + 'static>(
    name: &str,
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    spawn(name, move || drop(done.send(f())))?;
    result.await.map_err(|_| io::Error::other(format!("the thread {name} panicked")))
}

/// Checks that `workers` threads, plus one, can be spawned.
///
/// tokio panics if a worker's thread cannot be spawned, and then waits forever for the workers it
/// has, so this is checked first.
///
/// # Errors
///
/// Returns an error if they cannot, for example because of a limit of the user or of the container
/// (`RLIMIT_NPROC`, `pids.max`).
pub(crate) fn can_be_had(workers: usize) -> io::Result<()> {
    let gate = RwLock::new(());
    thread::scope(|scope| {
        // All of them wait until the last one has been spawned.
        let closed = gate.write();
        let mut threads = Vec::with_capacity(workers + 1);
        let started = (0..=workers).try_for_each(|_| {
            let wait = || drop(gate.read());
            threads.push(thread::Builder::new().spawn_scoped(scope, wait)?);
            Ok(())
        });
        drop(closed);
        // Joined one by one, so that each thread is gone and not merely done. None of them can
        // panic.
        for thread in threads {
            drop(thread.join());
        }
        started
    })
}

// One value from one thread to another, which blocks for it. std's channels are for many values,
// and for each type of them as large as all of this module.

/// Returns both ends of a channel for one value.
pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new((Mutex::new(Received::Nothing), Condvar::new()));
    (Sender(shared.clone()), Receiver(shared))
}

type Shared<T> = Arc<(Mutex<Received<T>>, Condvar)>;

/// What has come through a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received<T> {
    Nothing,
    Value(T),
    /// The sender is gone.
    End,
}

pub(crate) struct Sender<T>(Shared<T>);

impl<T> Sender<T> {
    pub(crate) fn send(self, value: T) {
        *lock_std(&self.0.0) = Received::Value(value);
        // The drop tells.
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let (state, changed) = &*self.0;
        let mut state = lock_std(state);
        if let Received::Nothing = *state {
            *state = Received::End;
        }
        changed.notify_all();
    }
}

pub(crate) struct Receiver<T>(Shared<T>);

impl<T> Receiver<T> {
    /// Waits for the value; `None`: the sender is gone.
    pub(crate) fn recv(mut self) -> Option<T> {
        match self.until(None) {
            Received::Value(value) => Some(value),
            Received::Nothing | Received::End => None,
        }
    }

    /// Waits until then at the latest.
    pub(crate) fn until(&mut self, until: Option<Instant>) -> Received<T> {
        let (state, changed) = &*self.0;
        let mut state = lock_std(state);
        while let Received::Nothing = *state {
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => unpoisoned(changed.wait(state)),
                Some(Duration::ZERO) => return Received::Nothing,
                Some(rest) => unpoisoned(changed.wait_timeout(state, rest)).0,
            };
        }
        std::mem::replace(&mut *state, Received::End)
    }
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_received_once_and_an_end_for_good() {
        let (sender, mut receiver) = channel();
        let soon = Some(Instant::now() + Duration::from_millis(20));
        assert_eq!(receiver.until(soon), Received::Nothing);
        spawn("sender", move || sender.send(7)).unwrap();
        assert_eq!(receiver.until(None), Received::Value(7));
        assert_eq!(receiver.until(None), Received::End);
        let (sender, receiver) = channel::<()>();
        spawn("dropped", move || drop(sender)).unwrap();
        assert_eq!(receiver.recv(), None);
    }
}
