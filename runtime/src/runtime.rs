//! tokio's runtime, in the flavors that it has.

use std::{
    future::Future,
    io,
    num::NonZero,
    sync::{Arc, RwLock},
    thread,
};

use tokio::runtime::{
    Builder, Handle as TokioHandle, LocalOptions, LocalRuntime, Runtime as Shared,
};

use crate::{
    config::{Flavor, Runtime},
    context::{self, Place},
    handle::Handle,
};

/// A runtime that has been built.
pub(crate) enum Built {
    Shared(Shared),
    Local(LocalRuntime),
}

impl Runtime {
    /// Builds the runtime; its threads carry `handle` as their context.
    pub(crate) fn build(&self, handle: &Handle) -> io::Result<Built> {
        let mut builder = match self.flavor {
            Flavor::MultiThread => Builder::new_multi_thread(),
            Flavor::CurrentThread | Flavor::Local => Builder::new_current_thread(),
        };
        builder.enable_all();
        if let Some(count) = self.worker_threads {
            builder.worker_threads(count);
        }
        if let Some(name) = &self.name {
            builder.name(name);
        }
        #[cfg(feature = "test-util")]
        if self.start_paused {
            builder.start_paused(true);
            handle.shared().cleanup.is_paused.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        #[cfg(tokio_unstable)]
        if let Some(behavior) = self.unhandled_panic {
            builder.unhandled_panic(match behavior {
                crate::UnhandledPanic::Ignore => tokio::runtime::UnhandledPanic::Ignore,
                crate::UnhandledPanic::ShutdownRuntime => {
                    tokio::runtime::UnhandledPanic::ShutdownRuntime
                }
            });
        }
        // Weak: the runtime keeps this closure, and the handle keeps the runtime's.
        let handle = Arc::downgrade(handle.shared());
        builder.on_thread_start(move || {
            if let Some(shared) = handle.upgrade() {
                context::adopt(Handle::from(shared), Place::Program);
            }
        });
        match self.flavor {
            Flavor::Local => builder.build_local(LocalOptions::default()).map(Built::Local),
            Flavor::CurrentThread => builder.build().map(Built::Shared),
            Flavor::MultiThread => {
                threads_can_be_had(self.worker_threads.unwrap_or_else(default_workers))?;
                builder.build().map(Built::Shared)
            }
        }
    }
}

/// Whether threads can be started for so many workers, and one more. Where there is none for a worker, tokio panics, and
/// on the way out waits for the workers it has, for good: so this asks first.
///
/// # Errors
///
/// If they cannot, as under a limit of the user or of the container (`RLIMIT_NPROC`, `pids.max`).
pub(crate) fn threads_can_be_had(workers: usize) -> io::Result<()> {
    let gate = RwLock::new(());
    thread::scope(|scope| {
        // All of them wait until the last has been started.
        let closed = gate.write();
        let mut threads = Vec::with_capacity(workers + 1);
        let started = (0..=workers).try_for_each(|_| {
            let wait = || drop(gate.read());
            threads.push(thread::Builder::new().spawn_scoped(scope, wait)?);
            Ok(())
        });
        drop(closed);
        // Joined one by one: gone, and not only done. What they do cannot panic.
        for thread in threads {
            drop(thread.join());
        }
        started
    })
}

/// As many as tokio takes.
fn default_workers() -> usize {
    let set = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|count| count.parse().ok());
    set.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
}

impl Built {
    pub(crate) fn handle(&self) -> &TokioHandle {
        match self {
            Self::Shared(runtime) => runtime.handle(),
            Self::Local(runtime) => runtime.handle(),
        }
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Shared(runtime) => runtime.block_on(future),
            Self::Local(runtime) => runtime.block_on(future),
        }
    }

    /// Lets go of it, without waiting for blocking threads. Where something that was cut has not let go yet, it may
    /// still be in the middle of a poll: its timers and sockets stay, since to use them after the shutdown is
    /// a panic, which ends the process where panics abort.
    pub(crate) fn end(self, left_behind: bool) {
        match self {
            runtime if left_behind => std::mem::forget(runtime),
            Self::Shared(runtime) => runtime.shutdown_background(),
            Self::Local(runtime) => runtime.shutdown_background(),
        }
    }
}
