//! Threads: whether the system can spawn any more, and running code that would block a worker.

use std::{io, sync::RwLock, thread};

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
    let run = move || drop(done.send(f()));
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
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
pub(crate) fn threads_can_be_had(workers: usize) -> io::Result<()> {
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
