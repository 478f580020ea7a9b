//! A connection of `listen`, as the table of work sees it.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

use super::{
    clock,
    conn::{ConnCore, GuardedConn},
};
use crate::work::{Doing, InFlight, WorkItem, WorkKind};

/// A `Connection`, as the table of work sees it.
#[derive(Debug)]
pub(super) struct RawConn {
    core: ConnCore,
    pub(super) is_closing: AtomicBool,
    /// Whether an `IdleShutdown` wants to know of activity.
    pub(super) is_watched: AtomicBool,
    /// When something was last read or written, by `clock`, as far as that is watched.
    active: AtomicU64,
    has_read: AtomicBool,
}

impl RawConn {
    pub(super) fn new(core: ConnCore) -> Self {
        Self {
            active: AtomicU64::new(core.accepted_on_the_clock()),
            core,
            is_closing: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            has_read: AtomicBool::new(false),
        }
    }

    /// The handshake is over: from here on as a connection that has just been accepted.
    pub(super) fn begins(&self) {
        self.active.store(clock::now(), Ordering::Relaxed);
    }

    /// Something has been read, or written.
    pub(super) fn is_active(&self, is_read: bool) {
        if is_read {
            self.has_read.store(true, Ordering::Relaxed);
        }
        self.active.store(clock::now(), Ordering::Relaxed);
    }

    /// When something was last read or written.
    pub(super) fn active(&self) -> Instant {
        clock::instant(self.active.load(Ordering::Relaxed))
    }

    pub(super) fn has_read(&self) -> bool {
        self.has_read.load(Ordering::Relaxed)
    }

    fn doing(&self) -> Doing {
        match self.core.unread() {
            _ if self.core.is_late() => Doing::Nothing,
            _ if self.core.is_shaking() => Doing::Handshake,
            _ if !self.is_closing.load(Ordering::Relaxed) => Doing::Handling,
            Some(bytes) => Doing::Delivering(bytes),
            None if self.core.is_sending() => Doing::Closing,
            None => Doing::Nothing,
        }
    }
}

impl GuardedConn for RawConn {
    fn core(&self) -> &ConnCore {
        &self.core
    }

    fn closed(&self) {
        let work = &self.core.shared().work;
        work.piece_finished(|| self.core.in_words(Instant::now(), Doing::Handling));
    }
}

impl WorkItem for RawConn {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        out.push(self.core.in_words(now, self.doing()));
    }

    fn oldest(&self) -> Option<Instant> {
        (self.doing() != Doing::Nothing).then(|| self.core.accepted_at())
    }

    fn kind(&self) -> WorkKind {
        WorkKind::Connection
    }

    fn drain(&self) {
        self.core.wake();
    }

    fn cut(&self) {
        self.core.wake_all();
    }

    fn has_ended(&self) -> bool {
        // The cut ends it, or its handler has: that is not known apart.
        false
    }
}
