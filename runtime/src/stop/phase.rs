//! The phase of the process, in one byte. The sentinel writes it, except for `Serving`: whoever has
//! bound the listeners writes that, before anybody learns that the program is ready.

use tokio::sync::Notify;

use crate::util::sync::{AtomicU8, Ordering, fence};

/// The phases, in order; the process never goes back to an earlier one, except from `LameDuck` to
/// `Serving`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// `main` runs, or the servers are binding.
    Starting,
    /// Every listener is bound.
    Serving,
    /// The same, but the program wants no new clients, for as long as it says so.
    LameDuck,
    /// A stop has begun: no longer ready, but still accepting.
    Stopping,
    /// `shutdown()` has resolved, listeners close, work is awaited.
    Draining,
    /// Everything is drained: the hooks run, and no connection is accepted any more.
    Cleanup,
    /// The limit is reached: the remaining work is being named, and no new work begins.
    Sealed,
    /// The remaining work is being aborted.
    Cut,
    /// The cleanup is over: nothing is waited for any more.
    Over,
}

impl Phase {
    /// The names that `name` returns.
    #[cfg(any(feature = "metrics", feature = "probes"))]
    pub(crate) const NAMES: [&'static str; 7] =
        ["starting", "serving", "lame-duck", "stopping", "draining", "cleanup", "cut"];

    /// Returns the name of the phase in the responses of probes, and in figures.
    #[cfg(any(feature = "metrics", feature = "probes"))]
    pub(crate) fn name(self) -> &'static str {
        // The last phases differ in what is still to be cut.
        Self::NAMES[(self as usize).min(Self::NAMES.len() - 1)]
    }

    #[inline]
    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Starting,
            1 => Self::Serving,
            2 => Self::LameDuck,
            3 => Self::Stopping,
            4 => Self::Draining,
            5 => Self::Cleanup,
            6 => Self::Sealed,
            7 => Self::Cut,
            // Bytes come from phases only; the test below converts each of them there and back.
            _ => Self::Over,
        }
    }
}

/// The current phase, and a way to wait for a later one.
#[derive(Debug)]
pub(crate) struct PhaseCell {
    now: AtomicU8,
    changed: std::sync::Arc<Notify>,
}

impl PhaseCell {
    pub(crate) fn new() -> Self {
        Self {
            now: AtomicU8::new(Phase::Starting as u8),
            changed: std::sync::Arc::new(Notify::new()),
        }
    }

    /// Returns the current phase. This is one load, cheap enough for every poll of every
    /// connection.
    ///
    /// Relaxed: a reader that sees the old phase is woken after the new one was stored, and what
    /// wakes it (a task's waker, the lock of the registry, `Notify`) orders that store before the
    /// poll that follows. Code that needs to see what was written before a phase waits for that
    /// phase with `reached`, or adds an acquire fence.
    #[inline]
    pub(crate) fn now(&self) -> Phase {
        Phase::from_byte(self.now.load(Ordering::Relaxed))
    }

    /// Returns whether every listener is bound, and no stop has begun.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.now(), Phase::Serving | Phase::LameDuck)
    }

    /// Returns whether the first stop signal has arrived.
    pub(crate) fn is_stopping(&self) -> bool {
        self.now() >= Phase::Stopping
    }

    /// Moves on to `phase` and wakes all that wait for it. Has no effect if `phase` is already
    /// past.
    pub(crate) fn advance(&self, phase: Phase) {
        // Release: everything that the sentinel did before (the cause, the start of the drain) is
        // visible to a reader that acquires through the wake-up.
        if self.now.fetch_max(phase as u8, Ordering::Release) < phase as u8 {
            self.changed.notify_waiters();
        }
    }

    /// Moves between `Serving` and `LameDuck`. Returns whether that has changed the phase.
    pub(super) fn set_lame_duck(&self, is_lame_duck: bool) -> bool {
        let mut phases = (Phase::Serving as u8, Phase::LameDuck as u8);
        if !is_lame_duck {
            phases = (phases.1, phases.0);
        }
        // If this fails, the program does not serve yet, or a stop has begun. The order is that of
        // `advance`.
        let (success, failure) = (Ordering::Release, Ordering::Relaxed);
        let is_changed = self.now.compare_exchange(phases.0, phases.1, success, failure).is_ok();
        if is_changed {
            self.changed.notify_waiters();
        }
        is_changed
    }

    /// Resolves once `phase` is reached.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: it holds no state but the wait itself.
    pub(crate) async fn reached(&self, phase: Phase) {
        loop {
            // Created before the check: `notify_waiters` reaches every `Notified` that exists when
            // it is called, polled or not, so no change is missed.
            let changed = self.changed.notified();
            if self.now() >= phase {
                // Pairs with the release in `advance`, even if something else woke this task.
                fence(Ordering::Acquire);
                return;
            }
            changed.await;
        }
    }

    /// Returns the notifier behind `reached`, for futures that own their wait.
    pub(crate) fn changed(&self) -> std::sync::Arc<Notify> {
        self.changed.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Phase;

    #[test]
    fn phases_go_round_through_their_bytes() {
        let all = [
            Phase::Starting,
            Phase::Serving,
            Phase::LameDuck,
            Phase::Stopping,
            Phase::Draining,
            Phase::Cleanup,
            Phase::Sealed,
            Phase::Cut,
            Phase::Over,
        ];
        for (byte, phase) in (0..).zip(all) {
            assert_eq!((phase as u8, Phase::from_byte(byte)), (byte, phase));
        }
        // Fails if a phase is added above but not here.
        assert_eq!(Phase::Over as usize + 1, all.len());
    }
}
