//! What the cleanup hooks have to themselves.

use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle as RuntimeHandle;

use crate::{log::Log, work::Work};

pub(crate) struct Cleanup {
    /// What they have spawned.
    pub(crate) work: Arc<Work>,
    pub(super) runtime: OnceLock<RuntimeHandle>,
    /// A runtime whose clock is paused, as the program's is.
    #[cfg(feature = "test-util")]
    pub(crate) is_paused: std::sync::atomic::AtomicBool,
}

impl Cleanup {
    pub(super) fn new(log: Log) -> Self {
        Self {
            work: Arc::new(Work::new(log)),
            runtime: OnceLock::new(),
            #[cfg(feature = "test-util")]
            is_paused: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Once the hooks run.
    pub(crate) fn runtime(&self) -> Option<&RuntimeHandle> {
        self.runtime.get()
    }
}
