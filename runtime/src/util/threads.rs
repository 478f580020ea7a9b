//! Whether the system has threads to give.

use std::{io, sync::RwLock, thread};

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
