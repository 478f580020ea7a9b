//! The table of what is in flight, so that it can be named, woken and aborted.

use std::sync::Arc;

use slab::Slab;

use crate::util::sync::{AtomicUsize, Mutex, Ordering, lock};

/// Power of two. Accepting and closing on different threads then rarely meet on one lock.
#[cfg(not(graceful_loom))]
const SHARDS: usize = 8;
#[cfg(graceful_loom)]
const SHARDS: usize = 2;

/// Entries behind a few independent locks. Locked to insert, to remove and to look at everything:
/// never per request and never per poll.
///
/// It owns one reference to each entry from `insert` to `remove`. Its memory follows the largest
/// number of entries there ever were at once, not how many there have been.
#[derive(Debug)]
pub(crate) struct Registry<T: ?Sized> {
    shards: [Shard<T>; SHARDS],
    next: AtomicUsize,
}

/// A cache line of its own for each lock.
#[derive(Debug)]
#[repr(align(64))]
struct Shard<T: ?Sized>(Mutex<Slab<Arc<T>>>);

/// Where an entry is kept; the means to take it out again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(usize);

impl<T: ?Sized> Registry<T> {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard(Mutex::new(Slab::new()))),
            // Relaxed in `insert`: it only spreads the load.
            next: AtomicUsize::new(0),
        }
    }

    pub(crate) fn insert(&self, entry: Arc<T>) -> Key {
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        Key(lock(&self.shards[shard].0).insert(entry) * SHARDS + shard)
    }

    pub(crate) fn remove(&self, key: Key) -> Arc<T> {
        lock(&self.shards[key.0 % SHARDS].0).remove(key.0 / SHARDS)
    }

    /// Calls `f` with each entry, outside of the locks: `f` may wake, abort or drop what removes
    /// itself from this registry.
    ///
    /// An entry inserted meanwhile may be missed. Its inserter looks at the phase *after* the
    /// insertion; the lock orders that look after the phase that this walk was started by.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&Arc<T>)) {
        for shard in &self.shards {
            let entries: Vec<_> = lock(&shard.0).iter().map(|(_, entry)| entry.clone()).collect();
            entries.iter().for_each(&mut f);
        }
    }
}
