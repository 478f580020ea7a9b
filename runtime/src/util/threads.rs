//! Threads: whether the system has any to give, and work that would block a worker.

use std::{io, sync::RwLock, thread};

/// Runs `f` on a thread of its own. What may block must not block a worker, and not be in a pool
/// that the end of a runtime waits for.
///
/// # Errors
///
/// If there is no thread to be had, or `f` panics.
///
/// # Cancel safety
///
/// Dropping the future changes nothing about the thread.
#[cfg(any(feature = "tls", feature = "probes"))]
pub(crate) async fn on_own_thread<T: Send + 'static>(
    name: &str,
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    let run = move || drop(done.send(f()));
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    result.await.map_err(|_| io::Error::other(format!("the thread {name} panicked")))
}

/// Checks that `workers` threads, and one more, can be started.
///
/// tokio panics where a worker's thread cannot be started, and on the way out waits forever for the
/// workers it has: so this is asked first.
///
/// # Errors
///
/// If they cannot, as under a limit of the user or of the container (`RLIMIT_NPROC`, `pids.max`).
pub(crate) fn threads_can_be_had(workers: usize) -> io::Result<()> {
    let gate = RwLock::new(());
    thread::scope(|scope| {
        // All of them wait until the last one has been started.
        let closed = gate.write();
        let mut threads = Vec::with_capacity(workers + 1);
        let started = (0..=workers).try_for_each(|_| {
            let wait = || drop(gate.read());
            threads.push(thread::Builder::new().spawn_scoped(scope, wait)?);
            Ok(())
        });
        drop(closed);
        // Joined one by one, so that each thread is gone and not only done. None of them can panic.
        for thread in threads {
            drop(thread.join());
        }
        started
    })
}
