//! What keeps a connection in the table of work, and the drain waiting for it.

use std::{fmt, sync::Arc};

use super::conn::GuardedConn;
use crate::{util::sync::Ordering, work::Key};

/// Holds the drain for a connection: it goes wherever the stream goes, also out of its protocol.
/// When the last guard is dropped, the connection is taken off the table.
pub(crate) struct ConnGuard<C: GuardedConn> {
    conn: Arc<C>,
    key: Key,
}

impl<C: GuardedConn> ConnGuard<C> {
    /// The first guard of a connection, which is counted and listed from here on.
    pub(crate) fn first(conn: C) -> Self {
        let conn = Arc::new(conn);
        let key = conn.core().shared().work.add(conn.clone());
        Self { conn, key }
    }

    #[inline]
    pub(crate) fn conn(&self) -> &Arc<C> {
        &self.conn
    }

    /// Whether this is the only guard.
    pub(crate) fn is_last(&self) -> bool {
        self.conn.core().guards.load(Ordering::Acquire) == 1
    }
}

impl<C: GuardedConn> Clone for ConnGuard<C> {
    fn clone(&self) -> Self {
        // Relaxed, as in `Arc::clone`: what is cloned is a guard, too.
        self.conn.core().guards.fetch_add(1, Ordering::Relaxed);
        Self { conn: self.conn.clone(), key: self.key }
    }
}

impl<C: GuardedConn> Drop for ConnGuard<C> {
    fn drop(&mut self) {
        // As in `Arc`: what the other guards' owners did comes before what the last one does.
        if self.conn.core().guards.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.conn.closed();
            self.conn.core().shared().work.finished(self.key);
        }
    }
}

impl<C: GuardedConn> fmt::Debug for ConnGuard<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnGuard").field("key", &self.key).finish_non_exhaustive()
    }
}
