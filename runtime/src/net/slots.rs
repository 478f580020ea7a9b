//! How many connections there may be at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::log::{Log, say};

/// The right to one connection. It is given back when the connection is over.
pub(crate) type Slot = OwnedSemaphorePermit;

/// The slots of one server, shared by its listeners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots(Option<Arc<Limited>>);

#[derive(Debug)]
struct Limited {
    max: usize,
    free: Arc<Semaphore>,
    said: AtomicBool,
}

impl Slots {
    /// `None`: as many as there are descriptors.
    pub(crate) fn new(max: Option<usize>) -> Self {
        let limited = |max: usize| {
            let free = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
            Arc::new(Limited { max, free, said: AtomicBool::new(false) })
        };
        Self(max.map(limited))
    }

    /// Waits for a free one, and says once that it has to. `None`: there is no limit.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a slot that is not used is given back.
    pub(super) async fn take(&self, log: &Log, server: &str) -> Option<Slot> {
        let limited = self.0.as_ref()?;
        if let Ok(slot) = limited.free.clone().try_acquire_owned() {
            return Some(slot);
        }
        if !limited.said.swap(true, Ordering::Relaxed) {
            let max = limited.max;
            say!(
                log, warn, { server = server.to_owned(), max_connections = max },
                "{server}: connection limit reached (max_connections = {max}); new clients wait in the \
                 accept queue"
            );
        }
        // Never closed.
        limited.free.clone().acquire_owned().await.ok()
    }
}
