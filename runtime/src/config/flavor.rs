//! tokio's runtime, in the flavors that it has.

use std::{fmt, future::Future, io, num::NonZero, sync::Arc, thread};

use tokio::runtime::{Builder, Handle as RuntimeHandle, LocalOptions, LocalRuntime, Runtime};

use crate::{
    stop::{Scope, Shared},
    util::threads_can_be_had,
};

/// Which of tokio's runtimes to build, as `flavor` of `tokio::main`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flavor {
    /// A pool of worker threads.
    #[default]
    MultiThread,
    /// Everything on the thread that calls [`Config::run`](crate::Config::run).
    CurrentThread,
    /// As `CurrentThread`, on a [`LocalRuntime`](tokio::runtime::LocalRuntime):
    /// `tokio::task::spawn_local` works in `main`.
    Local,
}

/// What a panic in a spawned task does, as `unhandled_panic` of `tokio::main`. Needs
/// `--cfg tokio_unstable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnhandledPanic {
    /// Nothing: the panic is the result of the task's handle.
    Ignore,
    /// Shuts the runtime down, as if `main` had panicked.
    ShutdownRuntime,
}

/// Settings of tokio's runtime.
#[derive(Clone, Debug, Default)]
pub(super) struct RuntimeSettings {
    pub(super) flavor: Flavor,
    pub(super) worker_threads: Option<usize>,
    pub(super) name: Option<String>,
    #[cfg_attr(not(feature = "test-util"), allow(dead_code, reason = "only with the feature"))]
    pub(super) start_paused: bool,
    #[cfg(tokio_unstable)]
    pub(super) unhandled_panic: Option<UnhandledPanic>,
    /// What the program sets of tokio's builder by itself.
    pub(super) set: Option<Hidden<SetBuilder>>,
    pub(super) on_thread_start: Option<Hidden<dyn Fn() + Send + Sync>>,
}

type SetBuilder = dyn Fn(&mut Builder) + Send + Sync;

/// A closure, which has no form to be printed in.
pub(super) struct Hidden<F: ?Sized>(pub(super) Arc<F>);

impl<F: ?Sized> Clone for Hidden<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: ?Sized> fmt::Debug for Hidden<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fn")
    }
}

/// A runtime that has been built.
pub(super) enum AnyRuntime {
    Threads(Runtime),
    Local(LocalRuntime),
}

impl RuntimeSettings {
    /// Builds the runtime; its threads carry `shared` as their context.
    pub(super) fn build(&self, shared: &Arc<Shared>) -> io::Result<AnyRuntime> {
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
            shared.cleanup.is_paused.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        #[cfg(tokio_unstable)]
        if let Some(behavior) = self.unhandled_panic {
            use tokio::runtime::UnhandledPanic as Tokio;
            builder.unhandled_panic(match behavior {
                UnhandledPanic::Ignore => Tokio::Ignore,
                UnhandledPanic::ShutdownRuntime => Tokio::ShutdownRuntime,
            });
        }
        if let Some(Hidden(set)) = &self.set {
            set(&mut builder);
        }
        // Weak: the runtime keeps this closure, and the context keeps the runtime's handle.
        let shared = Arc::downgrade(shared);
        let on_thread_start = self.on_thread_start.clone();
        // After what the program has set, which this would be lost to.
        builder.on_thread_start(move || {
            if let Some(shared) = shared.upgrade() {
                shared.enter_context(Scope::Program);
            }
            if let Some(Hidden(f)) = &on_thread_start {
                f();
            }
        });
        match self.flavor {
            Flavor::Local => builder.build_local(LocalOptions::default()).map(AnyRuntime::Local),
            Flavor::CurrentThread => builder.build().map(AnyRuntime::Threads),
            Flavor::MultiThread => {
                threads_can_be_had(self.worker_threads.unwrap_or_else(default_workers))?;
                builder.build().map(AnyRuntime::Threads)
            }
        }
    }
}

/// As many as tokio takes.
fn default_workers() -> usize {
    let set = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|count| count.parse().ok());
    set.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
}

impl AnyRuntime {
    pub(super) fn handle(&self) -> &RuntimeHandle {
        match self {
            Self::Threads(runtime) => runtime.handle(),
            Self::Local(runtime) => runtime.handle(),
        }
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Threads(runtime) => runtime.block_on(future),
            Self::Local(runtime) => runtime.block_on(future),
        }
    }

    /// Lets go of it, without waiting for blocking threads. What was cut and has not let go yet may
    /// still be in the middle of a poll: then its timers and sockets stay, since to use them after
    /// the shutdown is a panic, which ends the process where panics abort.
    pub(super) fn end(self, left_behind: bool) {
        match self {
            runtime if left_behind => std::mem::forget(runtime),
            Self::Threads(runtime) => runtime.shutdown_background(),
            Self::Local(runtime) => runtime.shutdown_background(),
        }
    }
}
