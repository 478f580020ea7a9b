//! The common part of `run`, `start` and `test`: creates a context, its runtime and its sentinel.

use std::{io, sync::Arc};

use tokio::{runtime::Handle as Runtime, sync::mpsc::unbounded_channel};

use super::builder::{AnyRuntime, Config};
#[cfg(feature = "handover")]
use crate::handover::Handover;
use crate::{
    context::{Handle, adopt},
    log::Log,
    manager::Manager,
    stop::{self, Ended, Meanings, Propagation, Shared},
    util::Failure,
};

/// The part of a launch that depends on who owns the process.
pub(super) struct Surroundings {
    pub(super) log: Log,
    pub(super) manager: Manager,
    pub(super) propagation: Propagation,
    /// Whether signal handlers are installed.
    pub(super) has_signals: bool,
    #[cfg(feature = "handover")]
    pub(super) handover: Option<Handover>,
}

pub(super) fn cannot_install(error: io::Error) -> Failure {
    Failure::from_error(error).context("cannot install the signal handlers")
}

pub(super) trait AsRuntime {
    fn as_handle(&self) -> &Runtime;
}

impl AsRuntime for Runtime {
    fn as_handle(&self) -> &Runtime {
        self
    }
}

impl AsRuntime for AnyRuntime {
    fn as_handle(&self) -> &Runtime {
        self.handle()
    }
}

impl Config {
    /// Creates the context and its runtime, and starts the sentinel, which calls `end` on its
    /// thread when everything is over.
    ///
    /// # Errors
    ///
    /// Returns an error if a limit cannot be read from the environment, a signal has two meanings,
    /// the runtime cannot be built, or the sentinel cannot be started.
    pub(super) fn launch<R: AsRuntime>(
        &self,
        surroundings: Surroundings,
        runtime: impl FnOnce(&Arc<Shared>) -> io::Result<R>,
        end: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<(Handle, R), Failure> {
        let Surroundings { log, manager, propagation, has_signals, .. } = surroundings;
        #[cfg(feature = "handover")]
        let handover = surroundings.handover;
        #[cfg(feature = "handover")]
        let companion = |shared| handover.map(|handover| handover.run(shared)).transpose();
        #[cfg(not(feature = "handover"))]
        let companion = |_| Ok(None);
        let limits = self.limits.resolve()?;
        let (stop, dump, lame_duck) = (&*self.signals, &*self.dump, &*self.lame_duck);
        let mut meanings = Meanings { stop, dump, lame_duck };
        if !has_signals {
            meanings = Meanings::default();
        } else if let Some(failure) = self.ambiguous_signal() {
            return Err(failure);
        }
        let (events, inbox) = unbounded_channel();
        let handle = Handle::new(limits, propagation, log, manager, events);
        let shared = handle.shared();
        let runtime = runtime(shared)
            .map_err(|error| Failure::from_error(error).context("cannot build the runtime"))?;
        shared.set_runtime(runtime.as_handle().clone());
        stop::spawn(shared.clone(), inbox, meanings, adopt, companion, end)
            .map_err(cannot_install)?;
        Ok((handle, runtime))
    }
}
