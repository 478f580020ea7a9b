//! tokio's runtime, in the flavors that it has.

use std::{future::Future, io, sync::Arc};

use tokio::runtime::{
    Builder, Handle as TokioHandle, LocalOptions, LocalRuntime, Runtime as Shared,
};

use crate::{
    config::{Flavor, Runtime},
    context,
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
                context::adopt(Handle::from(shared));
            }
        });
        match self.flavor {
            Flavor::Local => builder.build_local(LocalOptions::default()).map(Built::Local),
            Flavor::MultiThread | Flavor::CurrentThread => builder.build().map(Built::Shared),
        }
    }
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

    /// Without waiting for blocking threads.
    pub(crate) fn shutdown_background(self) {
        match self {
            Self::Shared(runtime) => runtime.shutdown_background(),
            Self::Local(runtime) => runtime.shutdown_background(),
        }
    }
}
