//! When each connection is told of the drain: all at once, or, with `spread`, one after another.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::Id;

use crate::util::sync::{AtomicBool, Mutex, Ordering, lock};

/// Where in the spread the goodbye of a connection lies, in parts of 2⁶⁴.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fraction(u64);

impl Fraction {
    /// Returns the place of the `n`-th connection. Steps of the golden ratio: however many there
    /// are, they lie evenly (Weyl's equidistribution).
    pub(crate) const fn nth(n: usize) -> Self {
        Self((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn of(self, spread: Duration) -> Duration {
        #[allow(clippy::cast_precision_loss, reason = "a fraction")]
        spread.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

thread_local! {
    /// The connection that is being polled on this thread.
    static POLLED: Cell<Option<Fraction>> = const { Cell::new(None) };
}

/// Until the guard is dropped, code of this connection is polled, which may ask for its
/// `shutdown()`.
pub(crate) fn polling(connection: Fraction) -> Polling {
    Polling(POLLED.replace(Some(connection)))
}

/// The connection that was being polled before, restored on drop.
#[must_use]
pub(crate) struct Polling(Option<Fraction>);

impl Drop for Polling {
    fn drop(&mut self) {
        POLLED.set(self.0);
    }
}

/// The goodbyes of one run, and which tasks of the program own the stream of a connection.
#[derive(Debug)]
pub(crate) struct Goodbyes {
    spread: Duration,
    /// Whether nothing is spread in this stop.
    at_once: AtomicBool,
    owners: Mutex<HashMap<Id, Owner>>,
}

#[derive(Debug)]
struct Owner {
    connection: Fraction,
    /// How many halves of streams it uses.
    halves: usize,
}

impl Goodbyes {
    pub(super) fn new(spread: Duration) -> Self {
        Self { spread, at_once: AtomicBool::new(false), owners: Mutex::new(HashMap::new()) }
    }

    /// Tells all connections at once in this stop: a next process is there, and takes them.
    pub(super) fn are_at_once(&self) {
        // Relaxed: the phase that follows publishes it.
        self.at_once.store(true, Ordering::Relaxed);
    }

    /// Returns when `connection` is told of the drain that began at `started`; `None` means then.
    pub(super) fn of(&self, connection: Fraction, started: Instant) -> Option<Instant> {
        let is_spread = !self.spread.is_zero() && !self.at_once.load(Ordering::Relaxed);
        is_spread.then(|| started + connection.of(self.spread))
    }

    /// Returns the connection that the running task serves, if it does and that matters: it is
    /// polled by it, or owns its stream.
    pub(super) fn of_this_task(&self) -> Option<Fraction> {
        if self.spread.is_zero() {
            return None;
        }
        POLLED.get().or_else(|| {
            let task = tokio::task::try_id()?;
            lock(&self.owners).get(&task).map(|owner| owner.connection)
        })
    }

    /// Notes that the running task owns the stream of `connection`, if that matters.
    pub(crate) fn owns_stream(self: &Arc<Self>, connection: Fraction) -> Option<OwnsStream> {
        if self.spread.is_zero() {
            return None;
        }
        let task = tokio::task::try_id()?;
        let mut owners = lock(&self.owners);
        owners.entry(task).or_insert(Owner { connection, halves: 0 }).halves += 1;
        Some(OwnsStream { goodbyes: self.clone(), task })
    }
}

/// Keeps the task in the list for as long as it uses the stream.
#[derive(Debug)]
pub(crate) struct OwnsStream {
    goodbyes: Arc<Goodbyes>,
    task: Id,
}

impl Drop for OwnsStream {
    fn drop(&mut self) {
        let mut owners = lock(&self.goodbyes.owners);
        if let Some(owner) = owners.get_mut(&self.task) {
            owner.halves -= 1;
            if owner.halves == 0 {
                owners.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No tenth of the spread gets more than a few connections more than another.
    #[test]
    fn goodbyes_lie_evenly() {
        for count in [10_usize, 100, 1_000] {
            let mut tenths = [0_usize; 10];
            for n in 0..count {
                let at = Fraction::nth(n).of(Duration::from_secs(10));
                tenths[usize::try_from(at.as_secs()).unwrap()] += 1;
            }
            let even = count / 10;
            assert!(tenths.iter().all(|tenth| tenth.abs_diff(even) <= 3), "{count}: {tenths:?}");
        }
    }
}
